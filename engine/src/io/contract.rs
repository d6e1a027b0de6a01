//! What every implementation of the seam must do: one suite, run for the ring, for its blocking
//! twin and for the simulator, so that the simulator cannot slowly lie.
//!
//! Each function takes a fresh, empty storage and panics when a promise is broken.
//!
//! Not here: crashes (`sim`), faults of real devices (the power-cut lab).

// Its purpose is to panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::buf::{AlignedBuf, IoBuf, StageRing};
use super::{Disk, DiskSpec, Done, File, LockOutcome, Mode, Op, Storage, Wait, hostinfo};

/// One promise.
pub type Check = fn(&Arc<dyn Storage>);

/// Every promise, by name.
pub const SUITE: &[(&str, Check)] = &[
    ("what_is_written_is_read", what_is_written_is_read),
    ("both_halves_see_one_file", both_halves_see_one_file),
    ("creation_is_exclusive", creation_is_exclusive),
    ("a_read_is_short_only_at_the_end", a_read_is_short_only_at_the_end),
    ("a_full_disk_hands_the_operation_back", a_full_disk_hands_the_operation_back),
    ("everything_completes_once_with_its_own_buffer", everything_completes_once),
    ("staged_batches_are_written", staged_batches_are_written),
    ("files_come_and_go_by_the_ring", files_come_and_go_by_the_ring),
    ("files_come_and_go_blocking", files_come_and_go_blocking),
    ("names_are_not_paths", names_are_not_paths),
    ("a_failure_gives_the_buffer_back", a_failure_gives_the_buffer_back),
    ("syncs_complete", syncs_complete),
    ("a_bell_before_the_park_is_heard", a_bell_before_the_park_is_heard),
    ("a_bell_wakes_a_parked_reap", a_bell_wakes_a_parked_reap),
    ("a_wait_ends_when_its_time_is_up", a_wait_ends_when_its_time_is_up),
    ("a_dropped_disk_drains", a_dropped_disk_drains),
    ("a_lock_is_taken_once", a_lock_is_taken_once),
    ("a_lock_lives_as_long_as_its_disk", a_lock_lives_as_long_as_its_disk),
    ("files_outlive_their_names", files_outlive_their_names),
    ("time_and_chance_move", time_and_chance_move),
];

const BLOCK: usize = 4096;

fn disk(storage: &Arc<dyn Storage>, in_flight: usize) -> Box<dyn Disk> {
    let mut disk = storage.disk(&DiskSpec { in_flight, ..DiskSpec::default() }).unwrap();
    disk.bind().unwrap();
    disk
}

fn filled(bytes: usize, fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(bytes).unwrap();
    buf.fill(fill);
    buf
}

fn write(file: &File, offset: u64, buf: AlignedBuf) -> Op {
    Op::Write { file: file.clone(), offset, buf: IoBuf::Owned(buf), persist: true }
}

/// Reaps until nothing is in flight.
fn drain(disk: &mut dyn Disk) -> Vec<Done> {
    let mut done = Vec::new();
    while disk.in_flight() > 0 {
        disk.reap(&mut done, Wait::Event).unwrap();
    }
    done
}

/// Runs one operation to its end.
fn run(disk: &mut dyn Disk, op: Op) -> Done {
    disk.submit(42, op).expect("room for one operation");
    assert_eq!(disk.in_flight(), 1);
    let mut done = drain(disk);
    assert_eq!(done.len(), 1);
    let done = done.remove(0);
    assert_eq!(done.token, 42);
    done
}

fn read_back(storage: &Arc<dyn Storage>, name: &str, offset: u64, len: usize) -> Vec<u8> {
    let (file, _) = storage.open(name, Mode::Read).unwrap();
    let mut buf = AlignedBuf::zeroed(len).unwrap();
    let got = storage.read_at(&file, offset, &mut buf, len).unwrap();
    buf[..got].to_vec()
}

fn kind(result: io::Result<usize>) -> io::ErrorKind {
    result.expect_err("an error").kind()
}

/// A durable write completes with its length and its buffer, and reads give the same bytes.
pub fn what_is_written_is_read(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    for persist in [true, false] {
        let fill = 7 + u8::from(persist);
        let buf = IoBuf::Owned(filled(2 * BLOCK, fill));
        let done = run(&mut *disk, Op::Write { file: file.clone(), offset: 4096, buf, persist });
        assert_eq!(done.result.unwrap(), 2 * BLOCK);
        assert!(done.buf.unwrap().as_slice().iter().all(|b| *b == fill));
        let buf = filled(2 * BLOCK, 0xff);
        let done = run(&mut *disk, Op::Read { file: file.clone(), offset: 4096, buf });
        assert_eq!(done.result.unwrap(), 2 * BLOCK);
        assert!(done.buf.unwrap().as_slice().iter().all(|b| *b == fill));
        assert!(read_back(storage, "a", 0, BLOCK).iter().all(|b| *b == 0), "the hole is zeros");
    }
}

/// What one half wrote the other half reads.
pub fn both_halves_see_one_file(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    for persist in [false, true] {
        storage.write_at(&file, 0, &filled(2 * BLOCK, 5), BLOCK, persist).unwrap();
        assert_eq!(storage.len(&file).unwrap(), BLOCK as u64, "only the front was asked for");
    }
    let buf = filled(BLOCK, 0);
    let done = run(&mut *disk, Op::Read { file: file.clone(), offset: 0, buf });
    assert!(done.buf.unwrap().as_slice().iter().all(|b| *b == 5));
    run(&mut *disk, write(&file, 0, filled(BLOCK, 6))).result.unwrap();
    assert!(read_back(storage, "a", 0, BLOCK).iter().all(|b| *b == 6));
    let too_long = storage.write_at(&file, 0, &filled(BLOCK, 0), 2 * BLOCK, false);
    assert_eq!(too_long.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let too_long = storage.read_at(&file, 0, &mut filled(BLOCK, 0), 2 * BLOCK);
    assert_eq!(too_long.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// A name is created once.
pub fn creation_is_exclusive(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let done = run(&mut *disk, Op::Create { name: "a".into() });
    done.result.unwrap();
    let file = done.file.expect("the new file");
    run(&mut *disk, write(&file, 0, filled(BLOCK, 3))).result.unwrap();
    let again = run(&mut *disk, Op::Create { name: "a".into() });
    assert!(again.file.is_none());
    assert_eq!(kind(again.result), io::ErrorKind::AlreadyExists);
    assert_eq!(storage.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(read_back(storage, "a", 0, BLOCK).iter().all(|b| *b == 3), "left as it was");
}

/// A read tells how much there was.
pub fn a_read_is_short_only_at_the_end(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    storage.write_at(&file, 0, &filled(3 * BLOCK, 9), 3 * BLOCK, true).unwrap();
    for (offset, expect) in [(0, 3 * BLOCK), (8192, BLOCK), (12288, 0), (1 << 30, 0)] {
        let buf = filled(4 * BLOCK, 0);
        let done = run(&mut *disk, Op::Read { file: file.clone(), offset, buf });
        assert_eq!(done.result.unwrap(), expect, "at {offset}");
        assert_eq!(done.buf.unwrap().len(), 4 * BLOCK);
        let mut buf = filled(4 * BLOCK, 0);
        assert_eq!(storage.read_at(&file, offset, &mut buf, 4 * BLOCK).unwrap(), expect);
    }
    storage.truncate(&file, 5000).unwrap();
    let mut buf = filled(2 * BLOCK, 0);
    assert_eq!(storage.read_at(&file, 0, &mut buf, 2 * BLOCK).unwrap(), 5000);
    assert_eq!(storage.read_at(&file, 0, &mut buf, 100).unwrap(), 100, "a part of a block");
}

/// Without room the operation comes back as it was, and there is room again after a completion.
pub fn a_full_disk_hands_the_operation_back(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 3);
    let file = storage.create("a").unwrap();
    for n in 0..3u8 {
        disk.submit(n.into(), write(&file, u64::from(n) * 4096, filled(BLOCK, n))).unwrap();
    }
    let (token, op) = disk.submit(77, write(&file, 12288, filled(BLOCK, 77))).unwrap_err();
    let Op::Write { offset: 12288, buf, .. } = &op else { panic!("another operation: {op:?}") };
    assert_eq!((token, buf.as_slice()[0], disk.in_flight()), (77, 77, 3));
    let mut done = Vec::new();
    while done.is_empty() {
        disk.reap(&mut done, Wait::Event).unwrap();
    }
    disk.submit(token, op).expect("room after a completion");
    done.extend(drain(&mut *disk));
    let mut tokens: Vec<u64> = done.iter().map(|done| done.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 77]);
    assert_eq!(read_back(storage, "a", 12288, BLOCK)[0], 77);
}

/// Many operations, in any order: each completes once, with the buffer it was given.
pub fn everything_completes_once(storage: &Arc<dyn Storage>) {
    const MANY: u64 = 200;
    let mut disk = disk(storage, 64);
    let file = storage.create("a").unwrap();
    let fill = |n: u64| (n % 251) as u8;
    let place = |n: u64| (n * 83 % MANY) * 4096;
    for reading in [false, true] {
        let (mut next, mut seen) = (0, BTreeMap::new());
        let mut done = Vec::new();
        while seen.len() < MANY as usize {
            while next < MANY {
                let op = if reading {
                    let buf = filled(BLOCK, 0xee);
                    Op::Read { file: file.clone(), offset: place(next), buf }
                } else {
                    write(&file, place(next), filled(BLOCK, fill(next)))
                };
                match disk.submit(next, op) {
                    Ok(()) => next += 1,
                    Err((token, _)) => {
                        assert_eq!(token, next);
                        break;
                    }
                }
            }
            disk.reap(&mut done, Wait::Event).unwrap();
            for done in done.drain(..) {
                assert_eq!(done.result.unwrap(), BLOCK);
                let buf = done.buf.unwrap();
                assert!(buf.as_slice().iter().all(|b| *b == fill(done.token)));
                assert!(seen.insert(done.token, ()).is_none(), "{} twice", done.token);
            }
        }
        assert_eq!(disk.in_flight(), 0);
    }
}

/// A batch out of a registered arena reaches the file, and comes back staged.
pub fn staged_batches_are_written(storage: &Arc<dyn Storage>) {
    let ring = StageRing::new(1 << 20, 1 << 16, BLOCK, 1, ()).unwrap();
    let spec = DiskSpec { in_flight: 8, arena: Some(ring.arena()), lock: None };
    let mut disk = storage.disk(&spec).unwrap();
    disk.bind().unwrap();
    let file = storage.create("a").unwrap();
    for round in 0..40u8 {
        let mut slot = ring.lock().reserve(0, 9000, 0).unwrap();
        slot.bytes().fill(round);
        let _ = slot.finish();
        let mut batch = ring.lock().close(0, 0).unwrap();
        batch.bytes_mut().unwrap()[9000..].fill(0);
        let op = Op::Write {
            file: file.clone(),
            offset: u64::from(round) * 12288,
            buf: IoBuf::Staged(batch),
            persist: true,
        };
        let done = run(&mut *disk, op);
        assert_eq!(done.result.unwrap(), 12288);
        match done.buf {
            Some(IoBuf::Staged(batch)) => batch.freeze(),
            other => panic!("not the staged batch: {other:?}"),
        }
    }
    for round in 0..40u8 {
        let bytes = read_back(storage, "a", u64::from(round) * 12288, 12288);
        assert!(bytes[..9000].iter().all(|b| *b == round));
        assert!(bytes[9000..].iter().all(|b| *b == 0));
    }
}

/// Create, open, truncate and remove by the completion half.
pub fn files_come_and_go_by_the_ring(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let before = storage.list().unwrap();
    let file = run(&mut *disk, Op::Create { name: "seg-1".into() }).file.unwrap();
    let op = Op::Truncate { file: file.clone(), bytes: 1 << 20 };
    run(&mut *disk, op).result.unwrap();
    assert_eq!(storage.len(&file).unwrap(), 1 << 20);
    assert!(read_back(storage, "seg-1", 0, BLOCK).iter().all(|b| *b == 0));
    run(&mut *disk, write(&file, 0, filled(2 * BLOCK, 1))).result.unwrap();
    run(&mut *disk, Op::Truncate { file: file.clone(), bytes: 4096 }).result.unwrap();
    assert_eq!(storage.open("seg-1", Mode::Write).unwrap().1, 4096);
    drop(file);
    let open = |mode| Op::Open { name: "seg-1".into(), mode };
    let file = run(&mut *disk, open(Mode::Write)).file.unwrap();
    run(&mut *disk, write(&file, 4096, filled(BLOCK, 2))).result.unwrap();
    let file = run(&mut *disk, open(Mode::Read)).file.unwrap();
    let read = run(&mut *disk, Op::Read { file, offset: 4096, buf: filled(BLOCK, 0) });
    assert!(read.buf.unwrap().as_slice().iter().all(|b| *b == 2));
    run(&mut *disk, Op::Remove { name: "seg-1".into() }).result.unwrap();
    assert_eq!(storage.list().unwrap(), before);
    let gone = run(&mut *disk, Op::Remove { name: "seg-1".into() });
    assert_eq!(kind(gone.result), io::ErrorKind::NotFound);
    let gone = run(&mut *disk, open(Mode::Read));
    assert!(gone.file.is_none());
    assert_eq!(kind(gone.result), io::ErrorKind::NotFound);
}

/// Create, rename, truncate, remove and list by the blocking half.
pub fn files_come_and_go_blocking(storage: &Arc<dyn Storage>) {
    let before = storage.list().unwrap();
    for name in ["b", "a", "c"] {
        storage.create(name).unwrap();
    }
    let with = |names: &[&str]| {
        let mut all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        all.extend(before.clone());
        all.sort_unstable();
        all
    };
    assert_eq!(storage.list().unwrap(), with(&["a", "b", "c"]), "sorted");
    let over = storage.rename("a", "b").unwrap_err();
    assert_eq!(over.kind(), io::ErrorKind::AlreadyExists, "never over another");
    storage.rename("a", "d").unwrap();
    storage.remove("b").unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(storage.list().unwrap(), with(&["c", "d"]));
    assert_eq!(storage.remove("b").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(storage.open("b", Mode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    let (file, len) = storage.open("c", Mode::Write).unwrap();
    assert_eq!(len, 0);
    storage.truncate(&file, 12288).unwrap();
    storage.sync(&file).unwrap();
    assert_eq!(storage.len(&file).unwrap(), 12288);
}

/// Nothing outside the directory can be named.
pub fn names_are_not_paths(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let long = "x".repeat(500);
    for name in ["../a", "a/b", "/a", "", ".", "..", "a\0b", "ü", long.as_str()] {
        let invalid = io::ErrorKind::InvalidInput;
        assert_eq!(storage.open(name, Mode::Read).unwrap_err().kind(), invalid, "{name:?}");
        assert_eq!(storage.create(name).unwrap_err().kind(), invalid, "{name:?}");
        assert_eq!(storage.remove(name).unwrap_err().kind(), invalid, "{name:?}");
        assert_eq!(storage.rename(name, "ok").unwrap_err().kind(), invalid, "{name:?}");
        let done = run(&mut *disk, Op::Create { name: name.into() });
        assert_eq!(kind(done.result), invalid, "{name:?}");
        let done = run(&mut *disk, Op::Remove { name: name.into() });
        assert_eq!(kind(done.result), invalid, "{name:?}");
        let done = run(&mut *disk, Op::Open { name: name.into(), mode: Mode::Read });
        assert_eq!(kind(done.result), invalid, "{name:?}");
    }
}

/// An operation that fails still completes, with its buffer, and the next one is none the worse.
pub fn a_failure_gives_the_buffer_back(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    let (read_only, _) = storage.open("a", Mode::Read).unwrap();
    for persist in [true, false] {
        let buf = IoBuf::Owned(filled(BLOCK, 8));
        let op = Op::Write { file: read_only.clone(), offset: 0, buf, persist };
        let done = run(&mut *disk, op);
        assert!(done.result.is_err(), "a file open for reading is not written");
        assert_eq!(done.buf.expect("the buffer").as_slice()[0], 8);
    }
    assert!(storage.write_at(&read_only, 0, &filled(BLOCK, 8), BLOCK, true).is_err());
    run(&mut *disk, write(&file, 0, filled(BLOCK, 8))).result.unwrap();
}

/// Syncs of files and of the directory complete.
pub fn syncs_complete(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    let buf = IoBuf::Owned(filled(BLOCK, 1));
    let op = Op::Write { file: file.clone(), offset: 0, buf, persist: false };
    run(&mut *disk, op).result.unwrap();
    let done = run(&mut *disk, Op::Sync { file: file.clone() });
    assert_eq!(done.result.unwrap(), 0);
    assert_eq!(run(&mut *disk, Op::SyncDir).result.unwrap(), 0);
    storage.sync(&file).unwrap();
    storage.sync_dir().unwrap();
}

/// Time that a reap took, by the storage's own clock.
fn timed(storage: &Arc<dyn Storage>, disk: &mut dyn Disk, wait: Wait) -> Duration {
    let clock = storage.clock();
    let before = clock.mono_ns();
    disk.reap(&mut Vec::new(), wait).unwrap();
    Duration::from_nanos(clock.mono_ns() - before)
}

/// A ring that came before the park keeps it from sleeping, once.
pub fn a_bell_before_the_park_is_heard(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let bell = disk.bell();
    for _ in 0..20 {
        bell.ring();
        bell.ring();
        assert!(timed(storage, &mut *disk, Wait::Until(Duration::from_secs(60))).as_secs() < 30);
        disk.reap(&mut Vec::new(), Wait::No).unwrap();
    }
}

/// Another thread wakes a parked reap. (The simulator never parks a thread; it returns early.)
pub fn a_bell_wakes_a_parked_reap(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    if disk.backend() == "simulated" {
        return;
    }
    for _ in 0..20 {
        let bell = disk.bell();
        let clock = storage.clock();
        let ring = Box::new(move || {
            clock.sleep(Duration::from_millis(3));
            bell.ring();
        });
        let ringer = storage.spawn("ringer".into(), ring, Some(0)).unwrap();
        let took = timed(storage, &mut *disk, Wait::Until(Duration::from_secs(60)));
        ringer.join().unwrap();
        assert!(took.as_secs() < 30, "woken by the bell, not by the clock: {took:?}");
        disk.reap(&mut Vec::new(), Wait::No).unwrap();
    }
}

/// `Until` waits, and not much longer; `No` does not.
pub fn a_wait_ends_when_its_time_is_up(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let took = timed(storage, &mut *disk, Wait::Until(Duration::from_millis(20)));
    assert!(took.as_millis() >= 19 && took.as_secs() < 10, "{took:?}");
    assert!(timed(storage, &mut *disk, Wait::No).as_secs() < 10);
}

/// Dropping a disk waits for what is in flight.
pub fn a_dropped_disk_drains(storage: &Arc<dyn Storage>) {
    let file = storage.create("a").unwrap();
    for round in 1..=10u8 {
        let mut disk = disk(storage, 16);
        for n in 0..16 {
            disk.submit(n, write(&file, n * 4096, filled(BLOCK, round))).unwrap();
        }
        if round % 2 == 0 {
            disk.reap(&mut Vec::new(), Wait::No).unwrap();
        }
        drop(disk);
        let bytes = read_back(storage, "a", 0, 16 * BLOCK);
        assert_eq!(bytes.len(), 16 * BLOCK);
        assert!(bytes.iter().all(|b| *b == round), "a write landed after the drop, or not at all");
    }
    // Never bound: nothing was given to the device.
    let mut unbound = storage.disk(&DiskSpec { in_flight: 4, ..DiskSpec::default() }).unwrap();
    unbound.submit(1, Op::Sync { file }).unwrap();
}

fn take(storage: &Arc<dyn Storage>) -> LockOutcome {
    storage.lock("lock", &hostinfo().unwrap().encode()).unwrap()
}

/// One owner, who is named; free again after a drop and after an unlock.
pub fn a_lock_is_taken_once(storage: &Arc<dyn Storage>) {
    assert_eq!(storage.lock_owner_alive("lock").unwrap(), None);
    for explicit in [false, true] {
        let LockOutcome::Taken(guard) = take(storage) else { panic!("held by nobody") };
        match take(storage) {
            LockOutcome::Held { identity } => assert_eq!(identity, hostinfo().unwrap().encode()),
            LockOutcome::Taken(_) => panic!("taken twice"),
        }
        assert_eq!(storage.lock_owner_alive("lock").unwrap(), hostinfo().ok());
        if explicit {
            guard.unlock().unwrap();
        } else {
            drop(guard);
        }
        assert_eq!(storage.lock_owner_alive("lock").unwrap(), None);
    }
}

/// A disk that has the lock's file registered keeps the lock beyond its guard; an explicit unlock
/// ends it all the same.
pub fn a_lock_lives_as_long_as_its_disk(storage: &Arc<dyn Storage>) {
    for explicit in [false, true] {
        let LockOutcome::Taken(guard) = take(storage) else { panic!("held by nobody") };
        let lock = Some(guard.file().clone());
        let mut disk = storage.disk(&DiskSpec { in_flight: 4, lock, arena: None }).unwrap();
        disk.bind().unwrap();
        if explicit {
            guard.unlock().unwrap();
            assert_eq!(storage.lock_owner_alive("lock").unwrap(), None);
            continue;
        }
        drop(guard);
        assert!(matches!(take(storage), LockOutcome::Held { .. }), "the disk has it");
        drop(disk);
        // The kernel takes a ring apart in its own time.
        for _ in 0..5000 {
            if storage.lock_owner_alive("lock").unwrap().is_none() {
                break;
            }
            storage.clock().sleep(Duration::from_millis(1));
        }
        assert_eq!(storage.lock_owner_alive("lock").unwrap(), None, "the disk is gone");
    }
}

/// A removed file can be used until its last clone is gone; its name is free at once.
pub fn files_outlive_their_names(storage: &Arc<dyn Storage>) {
    let mut disk = disk(storage, 4);
    let file = storage.create("a").unwrap();
    run(&mut *disk, write(&file, 0, filled(BLOCK, 1))).result.unwrap();
    run(&mut *disk, Op::Remove { name: "a".into() }).result.unwrap();
    let other = storage.create("a").unwrap();
    run(&mut *disk, write(&other, 0, filled(BLOCK, 2))).result.unwrap();
    run(&mut *disk, write(&file, 0, filled(BLOCK, 3))).result.unwrap();
    assert_eq!(read_back(storage, "a", 0, BLOCK)[0], 2);
    assert!(!file.same(&other) && file.same(&file.clone()));
    // More files than a ring has fixed places for.
    for n in 0..40u8 {
        let file = storage.create(&format!("f{n}")).unwrap();
        run(&mut *disk, write(&file, 0, filled(BLOCK, n))).result.unwrap();
        assert_eq!(read_back(storage, &format!("f{n}"), 0, BLOCK)[0], n);
    }
}

/// Clocks go forward and random numbers differ.
pub fn time_and_chance_move(storage: &Arc<dyn Storage>) {
    let clock = storage.clock();
    let (wall, mono) = (clock.wall_us(), clock.mono_ns());
    clock.sleep(Duration::from_millis(2));
    assert!(clock.mono_ns() >= mono + 2_000_000);
    assert!(clock.wall_us() > wall);
    assert_ne!(storage.random_u64(), storage.random_u64());
    let probe = storage.probe();
    assert!(probe.unit.value >= 4096 && probe.unit.value.is_power_of_two());
    for why in [&probe.unit.why, &probe.durable.why, &probe.direct.why, &probe.backend.why] {
        assert!(!why.is_empty(), "every finding has a reason");
    }
}
