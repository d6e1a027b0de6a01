//! Space that runs out elsewhere than for the next segment: under a commit's own write, by a quota.
//!
//! Not here: a disk that fills up at any point of a life (`disk_full`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::ErrorKind;
use std::time::Duration;

use sapwood::io::Storage;
use sapwood::io::sim::{Faults, Filling, SimStorage};
use sapwood::{Config, Driving, Engine, Error, From, HealthKind, Log, Lsn, ShardId, Writer};
use sapwood_tests::fail::{FailStorage, Failing, Kind, Plan};
use sapwood_tests::small;

fn count(log: &Log) -> u64 {
    let mut reader = log.reader(From::Start).unwrap();
    let mut count = log.start().unwrap().0;
    while let Some(record) = reader.next().wait().unwrap() {
        assert_eq!(record.lsn(), Lsn(count));
        count += 1;
    }
    count
}

fn turns(drivers: &mut [Driving], times: usize) {
    for _ in 0..times {
        drivers[0].turn(Duration::from_millis(1));
    }
}

fn finding(engine: &Engine, kind: HealthKind) -> Option<String> {
    let health = engine.health();
    let found = health.findings.iter().find(|finding| finding.kind == kind);
    found.map(|finding| format!("{}: {}", finding.what, finding.advice))
}

/// Has the shard halt by the next operation at its disk.
fn halt(storage: &FailStorage, writer: &Writer, kind: Kind) -> Error {
    let at = storage.counted() + 1;
    storage.hook().plan(Some(Plan { at, kind, for_ever: true }));
    let failed = writer.submit(b"unknown").unwrap().wait().unwrap_err();
    storage.hook().plan(None);
    failed
}

// A segment is written once before it is used, so a commit takes no space; but on a file system
// that copies on write, in a file with a hole, or by a quota on NFS, it may be refused all the
// same. That is a write which failed: nobody knows what of it is there. It does not pass by itself.
#[test]
fn a_commit_that_finds_no_room_halts_its_shard_which_is_reopened_on_the_full_disk() {
    let storage = FailStorage::with(SimStorage::new(1, Faults::default()), Failing::new(None));
    let (engine, mut drivers) = small::open(storage.clone(), small::config()).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    for _ in 0..5 {
        writer.append(vec![7; 9_000]).wait().unwrap();
    }
    turns(&mut drivers, 100);
    let failed = halt(&storage, &writer, Kind::Full);
    let Error::Unknown { cause, .. } = failed else { panic!("{failed}") };
    assert_eq!(cause.error.kind(), ErrorKind::StorageFull, "{cause}");
    let late = writer.submit(b"late".to_vec()).unwrap_err();
    assert!(matches!(late.error, Error::Halted { .. }) && late.record.unwrap() == b"late");
    let told = finding(&engine, HealthKind::Halted).expect("halted");
    assert!(told.contains("make space on the disk"), "{told}");
    assert_eq!(count(&log), 5, "what was acked is readable");
    // Reopened without a byte free: it reads, truncates and collects; appends go on with space.
    storage.world().fill(Some(Filling { from_change: 0, errno: 28, greedy: true }));
    drivers.clear();
    drivers.push(engine.reopen_shard_driven(ShardId(0)).unwrap().bind().unwrap());
    assert_eq!(count(&log), 5, "what was unknown is not there");
    log.truncate(Lsn(2)).unwrap();
    engine.gc().unwrap();
    let writer = log.writer().unwrap();
    let ticket = writer.submit(b"goes on").unwrap();
    turns(&mut drivers, 50);
    storage.world().fill(None);
    assert_eq!(ticket.wait().unwrap().position.lsn, Lsn(5));
    engine.close().unwrap();
}

#[test]
fn a_quota_that_is_nearly_used_up_is_told_until_space_returns() {
    let config = Config { quota_bytes: 16 << 20, ..small::config() };
    let disk = SimStorage::new(2, Faults::default());
    let (engine, mut drivers) = small::open(disk, config).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    assert_eq!(finding(&engine, HealthKind::QuotaNearlyFull), None);
    let mut told = None;
    while told.is_none() {
        match writer.submit(vec![1; 30_000]) {
            Ok(_) => {}
            Err(rejected) if matches!(rejected.error, Error::Busy) => turns(&mut drivers, 5),
            Err(rejected) => panic!("refused before it was told: {rejected}"),
        }
        told = finding(&engine, HealthKind::QuotaNearlyFull);
    }
    let told = told.unwrap();
    assert!(told.contains("of a quota of 16777216") && told.contains("quota_bytes"), "{told}");
    writer.flush().wait().unwrap();
    log.truncate(log.durable().unwrap()).unwrap();
    engine.gc().unwrap();
    assert_eq!(finding(&engine, HealthKind::QuotaNearlyFull), None);
    engine.close().unwrap();
}

/// What the quota is about.
fn file_bytes(disk: &SimStorage) -> u64 {
    let names = disk.list().unwrap();
    let ours = names.iter().filter(|n| n.starts_with("segment") || n.starts_with("index"));
    ours.map(|name| disk.image(name).unwrap().len() as u64).sum()
}

/// Shards halt with segments retired and not removed yet, in every state of that, and are reopened:
/// what the quota allows is what the files leave, neither more nor less.
///
/// It was red now and then, when the first refusal was taken for the last. A reopened shard wants a
/// segment at once, when the quota is used up by files that nobody needs any more: that fails, and
/// is tried again after 100 ms. Collection has made room long before; until then appends are
/// refused, which is no fault (`NoSpace` may be tried again), and must end at that moment.
#[test]
fn a_shard_is_reopened_under_a_quota_with_files_retired() {
    const QUOTA: u64 = 8 << 20;
    /// When a segment is prepared again after that failed.
    const PREPARED_AGAIN_NS: u64 = 100_000_000;
    let storage = FailStorage::with(SimStorage::new(3, Faults::default()), Failing::new(None));
    let config = Config { quota_bytes: QUOTA, ..small::config() };
    let (engine, mut drivers) = small::open(storage.clone(), config).unwrap();
    let log = engine.log("a").unwrap();
    for life in 0..12 {
        // Until nothing more has room, though what the life before let go was collected.
        let writer = log.writer().unwrap();
        let mut since = None;
        let now = || storage.clock().mono_ns();
        while since.is_none_or(|since| now() - since < 2 * PREPARED_AGAIN_NS) {
            match writer.submit(vec![1; 30_000]) {
                Ok(_) => {
                    let refused = since.take().map_or(0, |since| now() - since);
                    let late = refused > PREPARED_AGAIN_NS + 20_000_000;
                    assert!(!late, "life {life}: refused for {refused} ns");
                }
                Err(rejected) if matches!(rejected.error, Error::Busy) => turns(&mut drivers, 5),
                Err(rejected) if matches!(rejected.error, Error::NoSpace(_)) => {
                    since.get_or_insert_with(now);
                    turns(&mut drivers, 5);
                }
                Err(rejected) => panic!("{rejected}"),
            }
        }
        let used = file_bytes(storage.world());
        // An index counts once its segment is sealed.
        assert!(used <= QUOTA + (64 << 10), "life {life}: {used} bytes");
        assert!(used > QUOTA - (2 << 20), "life {life}: refused at {used} bytes");
        log.truncate(log.durable().unwrap()).unwrap();
        turns(&mut drivers, life);
        let at = storage.counted() + 1;
        storage.hook().plan(Some(Plan { at, kind: Kind::Refused, for_ever: true }));
        let halted = log.cursor("place").unwrap().set(log.durable().unwrap());
        assert!(matches!(halted, Err(Error::Halted { .. })), "{halted:?}");
        storage.hook().plan(None);
        drivers.clear();
        drivers.push(engine.reopen_shard_driven(ShardId(0)).unwrap().bind().unwrap());
        count(&log);
    }
    engine.close().unwrap();
}
