//! Relocation: its crash table of FORMAT.md, enacted; what callers, readers and tools see of it.
//!
//! The judge reads every log from its start in each picture, so each record that is kept is read
//! exactly once, wherever it is by then.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod archives;
#[allow(dead_code)] // its helpers for rot
mod cuts;

use std::sync::Arc;

use archives::Memory;
use cuts::judge::{Life, Model, config, payload};
use sapwood::archive::Archive;
use sapwood::dump::{DumpItem, DumpOptions, FileKind, dump};
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Engine, From, GcReport, Lsn, Reader, SegmentState, Writer};

/// Log `a` fills three segments and more; `b` has a few records in each, some in fragments and in
/// groups of several batches, `c` was cut.
fn settled(seed: u64) -> (Life, Writer, Writer) {
    settled_with(seed, config(), None)
}

fn settled_with(
    seed: u64,
    config: Config,
    archive: Option<Arc<dyn Archive>>,
) -> (Life, Writer, Writer) {
    let disk = SimStorage::new(seed, Faults::default());
    let mut life = Life::open_with(&disk, config, Model::new(), false, archive);
    let (a, b, c) = (life.writer("a"), life.writer("b"), life.writer("c"));
    life.append(&c, "c", 3);
    for round in 0..8 {
        life.append(&a, "a", 20);
        life.append(&b, "b", 1);
        if round % 3 == 1 {
            life.append_atomic(&[(&a, "a", 8), (&b, "b", 4)]);
        }
        if round == 2 {
            life.cut(&c, "c", 0, 1);
            life.append(&c, "c", 4);
        }
    }
    life.idle(60);
    assert!(life.engine.sealed_segments().len() >= 3);
    (life, a, b)
}

/// Nobody wants what `a` has any more, but for its last records.
fn thin(life: &mut Life) {
    let end = life.model["a"].acked;
    life.truncate("a", end - 2);
}

fn collect(life: &mut Life) -> GcReport {
    life.step(|life| life.engine.gc().unwrap())
}

fn files(world: &SimStorage, kind: &str) -> Vec<String> {
    let mut names = world.list().unwrap();
    names.retain(|name| name.starts_with(kind));
    names.sort();
    names
}

/// Everything that a reader gives is the next record of its log.
fn read_on(reader: &mut Reader, log: &str, next: &mut u64, most: u64) {
    for _ in 0..most {
        let Some(record) = reader.next().wait().unwrap() else { return };
        assert_eq!(record.lsn(), Lsn(*next));
        assert!(record.payload() == payload(log, *next), "{log} at {next}");
        *next += 1;
    }
}

/// Sealed files are sound by themselves, whatever was moved.
fn check_files(life: &Life) {
    for sealed in life.engine.sealed_segments() {
        let bytes = life.tap.disk().image(&sealed.file).unwrap();
        let options = DumpOptions { kind: Some(FileKind::Segment), ..DumpOptions::default() };
        dump(&bytes[..sealed.bytes as usize], &options, &mut |item| {
            let sound = !matches!(item, DumpItem::Flaw { .. } | DumpItem::Gap { .. });
            assert!(sound, "{}: {item:?}", sealed.file);
            std::io::Result::Ok(())
        })
        .unwrap();
    }
}

#[test]
fn relocate() {
    let (mut life, a, b) = settled(51);
    thin(&mut life);
    let before = life.tap.disk().used();
    life.tap.record(true);
    let report = collect(&mut life);
    life.tap.record(false);
    assert!(report.relocated_segments >= 2, "{report:?}");
    life.demand(&[
        "gc open",
        "gc read",
        "gc create under way",
        "gc create",
        "gc write under way",
        "gc write",
        "gc sync under way",
        "gc sync",
        "gc sync-dir under way",
        "gc sync-dir",
        "manifest write under way",
        "manifest write",
        "gc remove under way",
        "gc remove",
    ]);
    let after = life.tap.disk().used();
    assert!(after + (2 << 20) < before + report.relocated_bytes, "{before} {after} {report:?}");
    assert_eq!(life.engine.metrics()[0].relocations, report.relocated_segments);
    check_files(&life);
    assert_eq!(collect(&mut life).relocated_segments, 0, "there is nothing more to win");
    life.append(&a, "a", 3);
    life.append(&b, "b", 3);
    life.tap.record(true);
    life.close();
}

/// A copy took over the header of a batch whose run table was packed, and wrote another kind of
/// table behind it: all its records were damage (found by `sim_power_cuts`).
#[test]
fn records_of_batches_with_many_runs_move() {
    let disk = SimStorage::new(64, Faults::default());
    let mut life = Life::open_with(&disk, config(), Model::new(), false, None);
    let a = life.writer("a");
    let names = ["b", "c", "d", "e", "f", "g"];
    let writers = names.map(|name| life.writer(name));
    for _ in 0..51 {
        life.append(&a, "a", 12);
        let members: Vec<_> = writers.iter().zip(names).map(|(of, name)| (of, name, 1)).collect();
        life.append_atomic(&members);
    }
    life.idle(60);
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 2);
    check_files(&life);
    for name in names {
        let mut reader = life.engine.log(name).unwrap().reader(From::Start).unwrap();
        let mut next = 0;
        read_on(&mut reader, name, &mut next, u64::MAX);
        assert_eq!(next, life.model[name].acked, "{name}");
    }
}

/// In the background, while others append; the old files become the next spares.
#[test]
fn relocate_and_recycle() {
    let (mut life, a, b) = settled(52);
    for round in 0..4 {
        thin(&mut life);
        life.tap.record(round == 0 || round == 3);
        life.idle(1000);
        life.append(&a, "a", 60);
        life.append(&b, "b", 2);
        life.tap.record(false);
    }
    assert!(life.engine.metrics()[0].relocations >= 2);
    life.demand(&["gc create", "gc write", "gc sync", "gc sync-dir", "fill open", "fill write"]);
    check_files(&life);
}

/// Readers in the middle of what moves go on, without a gap and without anything twice, when the
/// old file is gone and when it is another segment by then.
#[test]
fn a_segment_moves_under_its_reader() {
    for eager in [true, false] {
        let (mut life, a, b) = settled(53);
        let count = life.model["b"].acked;
        let mut readers = Vec::new();
        for stop in 0..count {
            let mut reader = life.engine.log("b").unwrap().reader(From::Start).unwrap();
            let mut next = 0;
            read_on(&mut reader, "b", &mut next, stop);
            readers.push((reader, next));
        }
        thin(&mut life);
        if eager {
            assert!(collect(&mut life).relocated_segments >= 2);
        } else {
            life.idle(900);
            assert!(life.engine.metrics()[0].relocations >= 2);
            life.append(&a, "a", 130); // the old files are written over
        }
        life.append(&b, "b", 2);
        for (mut reader, mut next) in readers {
            read_on(&mut reader, "b", &mut next, u64::MAX);
            assert_eq!(next, count + 2);
        }
    }
}

/// A reader that a cut made look its place up anew had the segment's first file open yet, by the
/// segment's id, and read the new life's batches in it: they were called damaged. Found by
/// `sim_power_cuts`.
#[test]
fn a_reader_that_looks_anew_opens_the_file_that_is_there() {
    let (mut life, _, b) = settled(62);
    let count = life.model["b"].acked;
    let mut reader = life.engine.log("b").unwrap().reader(From::Start).unwrap();
    let mut next = 0;
    read_on(&mut reader, "b", &mut next, 2);
    thin(&mut life);
    life.cut(&b, "b", 0, count - 1);
    assert!(collect(&mut life).relocated_segments >= 2);
    read_on(&mut reader, "b", &mut next, u64::MAX);
    assert_eq!(next, count - 1);
}

/// The staging memory has the batches yet that a segment had in its first life: behind a batch of
/// the new one, the one that came then was taken for the next, and the place in the file was lost.
#[test]
fn what_moved_is_not_mixed_with_what_is_in_memory() {
    let (mut life, _, _) = settled_with(63, Config { stage_bytes: 16 << 20, ..config() }, None);
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 2);
    for from in 0..life.model["b"].acked {
        let mut reader = life.engine.log("b").unwrap().reader(From::Lsn(Lsn(from))).unwrap();
        let mut next = from;
        read_on(&mut reader, "b", &mut next, u64::MAX);
        assert_eq!(next, life.model["b"].acked);
    }
}

/// A copy that finds no room leaves nothing, the segment stays; with room it is made.
#[test]
fn a_copy_that_fails_is_given_up() {
    for room in [0, 6_000, 40_000] {
        let (mut life, _, b) = settled(54);
        thin(&mut life);
        let world = life.tap.disk();
        let names = files(&world, "segment");
        world.set_capacity(Some(world.used() + room));
        let report = collect(&mut life);
        assert_eq!(report.relocated_segments, 0, "{report:?}");
        life.idle(20);
        assert_eq!(files(&world, "segment"), names);
        world.set_capacity(None);
        assert!(collect(&mut life).relocated_segments >= 2);
        life.append(&b, "b", 2);
        life.tap.record(true);
        life.close();
    }
}

/// The quota has no room for a copy: as on a full disk.
#[test]
fn a_copy_counts_in_the_quota() {
    let quota_bytes = 5 << 20;
    let (mut life, _, _) = settled_with(55, Config { quota_bytes, ..config() }, None);
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 1);
    let of = |kind: &str| files(&life.tap.disk(), kind);
    let all = of("segment").into_iter().chain(of("index"));
    let all = all.map(|name| life.tap.disk().image(&name).unwrap().len() as u64).sum::<u64>();
    assert!(all <= quota_bytes);
    // What is counted is what is there: the rest of the quota can be filled.
    let left = quota_bytes - all;
    let writer = life.engine.log("a").unwrap().writer().unwrap();
    let mut written = 0;
    while written + (3 << 20) / 2 < left {
        writer.submit(vec![7; 30_000]).unwrap().wait().unwrap();
        written += 32 << 10;
    }
}

/// A bit of a record turns in the source, even of one that nobody wants: nothing of the segment is
/// copied, it stays and is told.
#[test]
fn a_damaged_segment_is_not_relocated() {
    let (mut life, _, _) = settled(56);
    let sealed = life.engine.sealed_segments().remove(0);
    life.tap.disk().flip(&sealed.file, sealed.bytes / 2 + 1000, 3).unwrap();
    thin(&mut life);
    let report = life.engine.gc().unwrap();
    assert!(report.relocated_segments >= 1, "{report:?}");
    let kept = report.kept.iter().find(|kept| kept.segment == sealed.segment).unwrap();
    assert_eq!((kept.state, &kept.file), (SegmentState::Damaged, &sealed.file));
    let told = life.engine.health().findings;
    let told = told.iter().find(|finding| finding.what.contains("relocat"));
    let what = &told.unwrap().what;
    assert!(what.contains(&format!("segment {}", sealed.segment)), "{what}");
    assert_eq!(life.engine.gc().unwrap().relocated_segments, 0);
}

#[test]
fn a_hold_keeps_segments_where_they_are() {
    let (mut life, _, _) = settled(57);
    thin(&mut life);
    let hold = life.engine.hold("copy").unwrap();
    let before = life.engine.sealed_segments();
    assert_eq!(collect(&mut life).relocated_segments, 0);
    life.idle(900);
    assert_eq!(life.engine.sealed_segments(), before);
    drop(hold);
    assert!(collect(&mut life).relocated_segments >= 2);
}

#[test]
fn nothing_is_relocated_that_is_alive_or_when_it_is_off() {
    let off = Config { relocate_below_percent: 0, ..config() };
    for (config, dead) in [(off, true), (config(), false)] {
        let (mut life, _, _) = settled_with(58, config, None);
        if dead {
            thin(&mut life);
        }
        assert_eq!(collect(&mut life).relocated_segments, 0);
        life.idle(900);
        assert_eq!(life.engine.metrics()[0].relocations, 0);
    }
}

/// The index of a segment that moved is derived like any other.
#[test]
fn an_index_of_a_moved_segment_is_built_again() {
    let (mut life, _, _) = settled(59);
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 2);
    let moved = life.engine.sealed_segments();
    life.close();
    let world = life.tap.disk();
    for sealed in &moved {
        world.remove(&sealed.index).unwrap();
    }
    let life = Life::open(&world, config(), life.model.clone(), true);
    let repaired = &life.engine.recovery()[0].repaired;
    assert!(repaired.len() >= moved.len(), "{repaired:?}");
    let mut next = 0;
    let mut reader = life.engine.log("b").unwrap().reader(From::Start).unwrap();
    read_on(&mut reader, "b", &mut next, u64::MAX);
    assert_eq!(next, life.model["b"].acked);
}

/// What the tier has, it has of a segment that moved, too; what it has not, it can still take.
#[test]
fn a_segment_stays_tiered_or_not_when_it_moves() {
    let memory = Memory::default();
    let archive = Arc::new(memory.clone());
    let (mut life, _, _) = settled_with(60, config(), Some(archive));
    let before = life.engine.sealed_segments();
    memory.upload(&before[0], &life.tap.disk().image(&before[0].file).unwrap());
    life.engine.set_tiered(before[0].shard, before[0].segment).unwrap();
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 2);
    let after = life.engine.sealed_segments();
    assert_eq!(after.len(), before.len());
    for (old, new) in before.iter().zip(&after) {
        let range =
            |sealed: &sapwood::SealedSegment| (sealed.segment, sealed.first_seq, sealed.last_seq);
        assert_eq!(range(old), range(new));
        assert_eq!(new.tiered, new.segment == before[0].segment);
    }
    let moved = before.iter().zip(&after).filter(|(old, new)| old.nonce != new.nonce).count();
    assert!(moved >= 2, "{after:?}");
    for sealed in after.iter().filter(|sealed| !sealed.tiered) {
        memory.upload(sealed, &life.tap.disk().image(&sealed.file).unwrap());
        life.engine.set_tiered(sealed.shard, sealed.segment).unwrap();
    }
}

#[test]
fn a_backup_has_what_moved() {
    let (mut life, _, _) = settled(61);
    thin(&mut life);
    assert!(collect(&mut life).relocated_segments >= 2);
    let target = SimStorage::new(7, Faults::default());
    let storage: Arc<dyn Storage> = Arc::new(target.clone());
    let report = life.engine.checkpoint_on(&storage, &mut |_| ()).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
    // Opening judges: every log, from its start.
    let copy = Life::open(&target, config(), life.model.clone(), true);
    let (engine, _driving): (&Engine, _) = (&copy.engine, &copy.driving);
    let mut next = 0;
    let mut reader = engine.log("b").unwrap().reader(From::Start).unwrap();
    read_on(&mut reader, "b", &mut next, u64::MAX);
    assert_eq!(next, life.model["b"].acked);
}
