//! What the power switch does and does not do. A simulator that is kinder than the world proves
//! nothing, so half of these tests insist that something *is* lost.

use std::collections::BTreeSet;
use std::io;

use super::*;
use crate::io::buf::IoBuf;
use crate::io::{Done, Op, Wait};

const BLOCK: usize = 4096;
const CRASHES: usize = 200;

fn sim(faults: Faults) -> SimStorage {
    SimStorage::new(11, faults)
}

fn filled(fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(BLOCK).unwrap();
    buf.fill(fill);
    buf
}

fn write_op(file: &File, offset: u64, fill: u8, persist: bool) -> Op {
    Op::Write { file: file.clone(), offset, buf: IoBuf::Owned(filled(fill)), persist }
}

/// A storage with one durable file of two durable blocks of ones.
fn with_file(faults: Faults) -> (SimStorage, File) {
    let sim = sim(Faults::default());
    let file = sim.create("a").unwrap();
    sim.sync_dir().unwrap();
    sim.write_at(&file, 0, &filled(1), BLOCK, true).unwrap();
    sim.write_at(&file, 4096, &filled(1), BLOCK, true).unwrap();
    sim.set_faults(faults);
    (sim, file)
}

fn drain(disk: &mut dyn Disk) -> Vec<Done> {
    let mut done = Vec::new();
    while disk.in_flight() > 0 {
        disk.reap(&mut done, Wait::Event).unwrap();
    }
    done
}

fn disk(sim: &SimStorage) -> Box<dyn Disk> {
    let mut disk = sim.disk(&DiskSpec { in_flight: 16, ..DiskSpec::default() }).unwrap();
    disk.bind().unwrap();
    disk
}

/// What the block at 4096 looks like after many crashes of this moment: number of sectors that have
/// the new byte. The block at 0 must never change.
fn fates(sim: &SimStorage, new: u8) -> BTreeSet<usize> {
    (0..CRASHES)
        .map(|_| {
            let image = sim.crash().image("a").unwrap();
            assert!(image[..BLOCK].iter().all(|b| *b == 1), "what was synced is kept");
            let sectors = image[BLOCK..2 * BLOCK].chunks(512);
            let fresh = sectors.map(|sector| {
                assert!(sector.iter().all(|b| *b == sector[0]), "torn within a sector");
                assert!([1, new].contains(&sector[0]));
                usize::from(sector[0] == new)
            });
            fresh.sum()
        })
        .collect()
}

#[test]
fn synced_is_kept() {
    let (sim, file) = with_file(Faults::default());
    sim.write_at(&file, 4096, &filled(2), BLOCK, true).unwrap();
    assert_eq!(fates(&sim, 2), BTreeSet::from([8]));
    sim.write_at(&file, 4096, &filled(3), BLOCK, false).unwrap();
    sim.sync(&file).unwrap();
    assert_eq!(fates(&sim, 3), BTreeSet::from([8]));
}

#[test]
fn unsynced_is_lost_kept_or_torn() {
    let (sim, file) = with_file(Faults::default());
    sim.write_at(&file, 4096, &filled(2), BLOCK, false).unwrap();
    let fates = fates(&sim, 2);
    assert!(fates.contains(&0) && fates.contains(&8) && fates.len() > 4, "{fates:?}");
    assert!(sim.image("a").unwrap()[BLOCK] == 2, "readers saw it all the same");
}

#[test]
fn what_is_in_flight_may_land_or_not() {
    let (sim, file) = with_file(Faults::default());
    let mut disk = disk(&sim);
    disk.submit(1, write_op(&file, 4096, 2, true)).unwrap();
    let fates = fates(&sim, 2);
    assert!(fates.contains(&0) && fates.contains(&8) && fates.len() > 4, "{fates:?}");
    assert_eq!(sim.image("a").unwrap()[BLOCK], 1, "not seen before it completed");
}

#[test]
fn a_sync_covers_only_what_had_completed() {
    let (sim, file) = with_file(Faults::default());
    let mut disk = disk(&sim);
    disk.submit(1, write_op(&file, 4096, 2, false)).unwrap();
    disk.submit(2, Op::Sync { file: file.clone() }).unwrap();
    assert!(drain(&mut *disk).iter().all(|done| done.result.is_ok()));
    assert!(fates(&sim, 2).contains(&0), "both succeeded, and the write is lost all the same");
    disk.submit(3, Op::Sync { file }).unwrap();
    drain(&mut *disk);
    assert_eq!(fates(&sim, 2), BTreeSet::from([8]));
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let (sim, file) = with_file(Faults::default());
    sim.write_at(&file, 4096, &filled(2), BLOCK, false).unwrap();
    sim.set_faults(Faults { eio_sync: 1_000_000, ..Faults::default() });
    assert!(sim.sync(&file).is_err());
    sim.set_faults(Faults::default());
    sim.sync(&file).unwrap();
    assert!(fates(&sim, 2).contains(&0), "the second sync lied, as real ones do");
}

#[test]
fn a_failed_write_leaves_its_range_unknown() {
    let (sim, file) = with_file(Faults { eio_write: 1_000_000, ..Faults::default() });
    let error = sim.write_at(&file, 4096, &filled(2), BLOCK, true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    sim.set_faults(Faults::default());
    sim.sync(&file).unwrap();
    let fates = fates(&sim, 2);
    assert!(fates.contains(&0) && fates.len() > 4, "{fates:?}");
}

#[test]
fn an_older_write_never_comes_back_over_a_newer_durable_one() {
    let (sim, file) = with_file(Faults::default());
    sim.write_at(&file, 4096, &filled(2), BLOCK, false).unwrap();
    sim.write_at(&file, 4096, &filled(3), BLOCK, true).unwrap();
    assert_eq!(fates(&sim, 3), BTreeSet::from([8]));
}

#[test]
fn names_survive_only_with_the_directory() {
    let sim = sim(Faults::default());
    sim.create("kept").unwrap();
    sim.create("gone").unwrap();
    sim.sync_dir().unwrap();
    sim.create("new").unwrap();
    sim.remove("gone").unwrap();
    let seen: BTreeSet<Vec<String>> = (0..CRASHES).map(|_| sim.crash().list().unwrap()).collect();
    assert_eq!(seen.len(), 4, "each change by itself: {seen:?}");
    assert!(seen.iter().all(|names| names.contains(&"kept".to_owned())));
    sim.sync_dir().unwrap();
    assert!((0..CRASHES).all(|_| sim.crash().list().unwrap() == ["kept", "new"]));
}

#[test]
fn a_length_is_lost_with_its_write() {
    let sim = sim(Faults::default());
    let file = sim.create("a").unwrap();
    sim.sync_dir().unwrap();
    sim.write_at(&file, 0, &filled(1), BLOCK, false).unwrap();
    let seen: BTreeSet<usize> =
        (0..CRASHES).map(|_| sim.crash().image("a").unwrap().len()).collect();
    assert!(seen.contains(&0) && seen.contains(&BLOCK), "{seen:?}");
}

#[test]
fn a_crash_can_follow_a_crash() {
    let (mut sim, file) = with_file(Faults::default());
    for depth in 0..5u8 {
        let (file, _) = sim.open("a", Mode::Write).unwrap();
        sim.write_at(&file, 4096, &filled(10 + depth), BLOCK, true).unwrap();
        sim.write_at(&file, 0, &filled(99), BLOCK, false).unwrap();
        sim = sim.crash();
        assert_eq!(sim.image("a").unwrap()[BLOCK], 10 + depth);
    }
    let stale = sim.sync(&file).unwrap_err();
    assert_eq!(stale.raw_os_error(), Some(libc::ESTALE), "a file of another world");
    assert!(matches!(sim.lock("lock", b"me").unwrap(), LockOutcome::Taken(_)));
    let guard = sim.lock("lock", b"me").unwrap();
    assert!(matches!(guard, LockOutcome::Taken(_)), "dropped, so free again");
    assert!(matches!(sim.crash().lock("lock", b"you").unwrap(), LockOutcome::Taken(_)));
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let (sim, file) = with_file(Faults::default());
    sim.set_capacity(Some(sim.used()));
    let full = sim.write_at(&file, 8192, &filled(2), BLOCK, true).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(sim.create("b").unwrap_err().kind(), io::ErrorKind::StorageFull);
    sim.write_at(&file, 4096, &filled(2), BLOCK, true).unwrap();
    assert_eq!(fates(&sim, 2), BTreeSet::from([8]));
    sim.set_capacity(Some(sim.used() + 4096));
    sim.write_at(&file, 8192, &filled(3), BLOCK, true).unwrap();
    sim.remove("a").unwrap();
    assert_eq!(sim.used(), 0);
}

#[test]
fn interruptions_are_resubmitted_and_bounded() {
    let faults = Faults { eintr: 200_000, short_write: 200_000, ..Faults::default() };
    let (sim, file) = with_file(faults);
    let mut disk = disk(&sim);
    let mut failed = 0;
    for n in 0..300 {
        disk.submit(n, write_op(&file, 4096, 2, true)).unwrap();
        failed += drain(&mut *disk).iter().filter(|done| done.result.is_err()).count();
    }
    assert!(disk.resubmits() > 100 && failed == 0, "{} {failed}", disk.resubmits());
    sim.set_faults(Faults { short_write: 1_000_000, ..Faults::default() });
    disk.submit(1, write_op(&file, 4096, 3, true)).unwrap();
    let done = drain(&mut *disk).remove(0);
    assert_eq!(done.result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(done.buf.is_some());
}

#[test]
fn completions_come_in_any_order() {
    let (sim, file) = with_file(Faults::default());
    let mut disk = disk(&sim);
    for n in 0..16 {
        disk.submit(n, write_op(&file, n * 4096, 1, true)).unwrap();
    }
    let order: Vec<u64> = drain(&mut *disk).iter().map(|done| done.token).collect();
    assert_eq!(order.len(), 16);
    assert!(!order.is_sorted(), "{order:?}");
}

#[test]
fn rot_is_one_bit_in_a_sector() {
    let (sim, _) = with_file(Faults::default());
    sim.flip("a", 4097, 3).unwrap();
    assert_eq!(sim.image("a").unwrap()[4097], 1 ^ 8);
    assert_eq!(sim.crash().image("a").unwrap()[4097], 1 ^ 8, "on the medium");
    assert!(sim.flip("a", 8192, 0).is_err());
    sim.set_faults(Faults { bit_rot: 500_000, ..Faults::default() });
    let image = sim.crash().image("a").unwrap();
    for sector in image.chunks(512) {
        assert!(sector.iter().filter(|b| **b != 1).count() <= 2);
    }
    assert!(image.iter().any(|b| *b != 1));
}

#[test]
fn reads_can_fail() {
    let (sim, file) = with_file(Faults { eio_read: 1_000_000, ..Faults::default() });
    assert!(sim.read_at(&file, 0, &mut filled(0), BLOCK).is_err());
}

/// A little of everything, as a function of the seed.
fn run(seed: u64) -> (u64, u64, Vec<u8>) {
    let faults = Faults { eio_write: 50_000, eintr: 50_000, stall: 100_000, ..Faults::default() };
    let sim = SimStorage::new(seed, faults);
    let file = sim.create("a").unwrap();
    sim.sync_dir().unwrap();
    let mut disk = disk(&sim);
    for n in 0..100u64 {
        let persist = sim.random_u64().is_multiple_of(2);
        let _ = disk.submit(n, write_op(&file, n % 7 * 4096, n as u8, persist));
        let wait = if n % 3 == 0 { Wait::Event } else { Wait::No };
        disk.reap(&mut Vec::new(), wait).unwrap();
    }
    drain(&mut *disk);
    let image = sim.crash().image("a").unwrap();
    (sim.fingerprint(), sim.clock().mono_ns(), image)
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn threads_are_refused() {
    let refused = sim(Faults::default()).spawn("shard".into(), Box::new(|| {}), None);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
}
