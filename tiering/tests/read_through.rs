//! Reading what left for a store, by the engine's own cursor: nobody notices the seam, whatever the
//! store does; what is damaged there is told.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/engine.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{RECORDS, append, folder, open_with, payload, settled_with};
use sapwood::archive::Archive;
use sapwood::{Engine, Error, From, Log, LogSettings, Lsn};
use sapwood_tiering::store::{DirStore, Fault, ObjectStore, SimStore};
use sapwood_tiering::{Settings, StoreArchive, Tier};

const LONG: Duration = Duration::from_secs(120);
const CACHE: u64 = 8 << 20;

fn archive_of(store: &Arc<impl ObjectStore + 'static>) -> Arc<StoreArchive> {
    Arc::new(StoreArchive::new(Arc::clone(store) as Arc<dyn ObjectStore>, CACHE).unwrap())
}

fn tier_of(
    engine: &Engine,
    store: &Arc<impl ObjectStore + 'static>,
    archive: &Arc<StoreArchive>,
) -> Tier {
    let settings = Settings {
        bytes_per_second: None,
        look_every: Duration::from_millis(20),
        ..Settings::default()
    };
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Tier::start_with(engine.clone(), store, settings, Some(Arc::clone(archive))).unwrap()
}

/// Has all that is sealed leave, down to a little.
fn let_go(engine: &Engine, tier: &Tier, logs: &[Log; 2]) {
    let settings = LogSettings { local_retention_bytes: Some(300 << 10), ..LogSettings::default() };
    logs.iter().for_each(|log| log.set(settings).unwrap());
    let before = engine.sealed_segments().len();
    assert!(tier.drain(engine, LONG), "{:?}", tier.status());
    engine.gc().unwrap();
    assert!(engine.sealed_segments().len() + 2 <= before, "nothing left");
}

/// An engine whose older segments are in the store alone.
fn tiered(
    dir: &Path,
    store: &Arc<impl ObjectStore + 'static>,
) -> (Engine, [Log; 2], Tier, Arc<StoreArchive>) {
    let archive = archive_of(store);
    let (engine, logs) = settled_with(dir, Some(Arc::clone(&archive) as Arc<dyn Archive>));
    let tier = tier_of(&engine, store, &archive);
    let_go(&engine, &tier, &logs);
    (engine, logs, tier, archive)
}

fn read(log: &Log, name: &str, lsns: std::ops::Range<u64>) {
    let mut reader = log.reader(From::Lsn(Lsn(lsns.start))).unwrap();
    for n in lsns {
        let record = reader.next().wait().unwrap().unwrap();
        assert_eq!(record.lsn(), Lsn(n));
        assert!(record.payload() == payload(name, n), "{name} {n}");
    }
}

fn read_all(logs: &[Log; 2], to: u64) {
    for (log, name) in logs.iter().zip(["a", "b"]) {
        read(log, name, 0..to);
    }
}

#[test]
fn a_reader_crosses_the_seam_byte_for_byte() {
    let dir = folder();
    let store = Arc::new(DirStore::open(dir.path().join("tier")).unwrap());
    let (engine, logs, tier, _) = tiered(dir.path(), &store);
    read_all(&logs, RECORDS);
    for from in [1, 7, 333, 334, 800] {
        read(&logs[0], "a", from..from + 40);
    }
    append(&logs[0], "a", RECORDS..RECORDS + 50);
    read(&logs[0], "a", RECORDS - 100..RECORDS + 50);
    drop(tier);
    engine.close().unwrap();
    drop((engine, logs));
    // Another process, another archive: it learns all of it from the store.
    let engine = open_with(dir.path(), Some(archive_of(&store) as Arc<dyn Archive>));
    let logs = ["a", "b"].map(|name| engine.log(name).unwrap());
    read(&logs[1], "b", 0..RECORDS);
    read(&logs[0], "a", 0..RECORDS + 50);
}

#[test]
fn a_record_in_fragments_crosses_the_seam() {
    let dir = folder();
    let store = Arc::new(SimStore::default());
    let archive = archive_of(&store);
    let engine = open_with(dir.path(), Some(Arc::clone(&archive) as Arc<dyn Archive>));
    let logs = ["a", "b"].map(|name| engine.log(name).unwrap());
    let large = |n: u64| vec![n as u8 + 1; (390 << 10) - n as usize];
    let writer = logs[0].writer().unwrap();
    for n in 0..12 {
        writer.append(large(n)).wait().unwrap();
    }
    common::wait_for_seals(&engine, 4);
    let tier = tier_of(&engine, &store, &archive);
    let_go(&engine, &tier, &logs);
    for from in [0, 1, 5] {
        let mut reader = logs[0].reader(From::Lsn(Lsn(from))).unwrap();
        for n in from..12 {
            assert!(reader.next().wait().unwrap().unwrap().payload() == large(n), "{n}");
        }
    }
}

/// A third of all calls fail or lie; a reader is never given anything else than what was appended,
/// and when it is told an error, the next call goes on.
#[test]
fn a_store_that_lies_is_seen_through() {
    let dir = folder();
    let store = Arc::new(SimStore::new(5, 0));
    let (_engine, logs, _tier, _) = tiered(dir.path(), &store);
    store.set_per_mille(330);
    let mut told = 0;
    for _ in 0..3 {
        let mut reader = logs[0].reader(From::Start).unwrap();
        let mut n = 0;
        while n < RECORDS {
            match reader.next().wait() {
                Ok(record) => {
                    let record = record.unwrap();
                    assert_eq!(record.lsn(), Lsn(n));
                    assert!(record.payload() == payload("a", n), "{n}");
                    n += 1;
                }
                Err(_) => told += 1,
            }
            assert!(told < 500, "no way through");
        }
    }
}

/// Records that were cut are in objects for ever; who reads on is given what came after.
#[test]
fn a_cut_below_the_seam_is_read_as_it_was_made() {
    let dir = folder();
    let store = Arc::new(SimStore::default());
    let (engine, logs, tier, _) = tiered(dir.path(), &store);
    read(&logs[0], "a", 0..100);
    let uploaded = tier.status().uploaded;
    logs[0].writer().unwrap().cut_to(Lsn(50)).wait().unwrap();
    // Other payloads from there on.
    let writer = logs[0].writer().unwrap();
    let new = |n: u64| vec![n as u8; 3000];
    let appends: Vec<_> = (50..=900).map(|n| writer.append(new(n))).collect();
    appends.into_iter().for_each(|append| {
        append.wait().unwrap();
    });
    append(&logs[1], "b", RECORDS..RECORDS + 900);
    // What is sealed may leave at once: it is counted where it goes.
    while tier.status().uploaded < uploaded + 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(tier.drain(&engine, LONG));
    engine.gc().unwrap();
    let mut reader = logs[0].reader(From::Start).unwrap();
    for n in 0..=900 {
        let expected = if n < 50 { payload("a", n) } else { new(n) };
        let record = reader.next().wait().unwrap().unwrap();
        assert_eq!(record.lsn(), Lsn(n));
        assert!(record.payload() == expected, "{n}");
    }
}

#[test]
fn what_is_damaged_or_missing_in_the_store_is_told_and_nothing_else_suffers() {
    let dir = folder();
    let store = Arc::new(SimStore::default());
    let (engine, logs, tier, archive) = tiered(dir.path(), &store);
    let key = common::segment_keys(&store)[0].clone();
    store.rot(&key, 3000);
    let told = logs[0].reader(From::Start).unwrap().next().wait().map(|_| ());
    assert!(matches!(told, Err(Error::Corrupt(_))), "{told:?}");
    // Other objects are read.
    read(&logs[0], "a", 700..900);
    drop((tier, archive));
    engine.close().unwrap();
    drop((engine, logs));
    let reopen = || {
        let engine = open_with(dir.path(), Some(archive_of(&store) as Arc<dyn Archive>));
        let logs = ["a", "b"].map(|name| engine.log(name).unwrap());
        (engine, logs)
    };
    // Its end, too: nobody can tell what it holds, and it hides no other.
    store.rot(&key, store.peek(&key).unwrap().len() - 20);
    let (engine, logs) = reopen();
    let told = logs[0].reader(From::Start).unwrap().next().wait().map(|_| ());
    assert!(matches!(told, Err(Error::Corrupt(_))), "{told:?}");
    read(&logs[1], "b", 700..900);
    engine.close().unwrap();
    drop((engine, logs));
    store.delete(&key).unwrap();
    let (_engine, logs) = reopen();
    let told = logs[0].reader(From::Start).unwrap().next().wait().map(|_| ());
    let Err(Error::Io { source, .. }) = &told else { panic!("{told:?}") };
    assert!(source.to_string().contains("no object"), "{source}");
    read(&logs[1], "b", 700..900);
}

/// Reading on takes few calls: neighbours come with one get, and what is cached is not asked for.
#[test]
fn gets_are_few_and_the_cache_is_used() {
    let dir = folder();
    let store = Arc::new(SimStore::default());
    let (_engine, logs, _tier, _) = tiered(dir.path(), &store);
    let before = store.requests();
    read(&logs[0], "a", 0..600);
    let cold = store.requests().gets - before.gets;
    let objects = common::segment_keys(&store).len() as u64;
    assert!(cold <= 3 * objects + 8, "{cold} gets for {objects} objects");
    let before = store.requests();
    read(&logs[0], "a", 0..600);
    let warm = store.requests().gets - before.gets;
    assert!(warm <= 1, "{warm} gets of what is in memory");
    // A slow store keeps no append waiting.
    store.fail(&[Fault::Slow; 8]);
    append(&logs[0], "a", RECORDS..RECORDS + 5);
}
