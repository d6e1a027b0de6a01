//! A bucket alone is enough: every log comes back, with names, settings and positions; what is
//! missing or damaged is told, and nothing else suffers.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/engine.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{RECORDS, append, folder, payload, segments_in, settled};
use sapwood::archive::Archive;
use sapwood::{Components, Config, Engine, Epoch, Error, From, Log, LogSettings, Lsn};
use sapwood_tiering::store::{Key, ObjectStore, SimStore};
use sapwood_tiering::{
    History, Restored, Settings, StoreArchive, Survey, Tier, Trouble, histories, look_into, restore,
};

const LONG: Duration = Duration::from_secs(120);

fn drain(engine: &Engine, store: &Arc<SimStore>) {
    let settings = Settings {
        bytes_per_second: None,
        look_every: Duration::from_millis(20),
        ..Settings::default()
    };
    let theirs = Arc::clone(store) as Arc<dyn ObjectStore>;
    let tier = Tier::start(engine.clone(), theirs, settings).unwrap();
    assert!(tier.drain(engine, LONG), "{:?}", tier.status());
}

/// Closing seals what is left: everything appended is in the store afterwards.
fn leave(dir: &Path, engine: Engine, store: &Arc<SimStore>) {
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::open(Config::new(dir.join("wal"))).unwrap();
    drain(&engine, store);
    engine.close().unwrap();
}

fn survey(store: &SimStore) -> Survey {
    let history = histories(store).unwrap()[0];
    Survey::of(store, history, &mut |_, _| ()).unwrap()
}

fn bring_back(store: &SimStore, dir: &Path) -> (Restored, PathBuf) {
    let wal = dir.join("restored");
    let (mut last, mut total) = (0, 0);
    let restored = restore(store, &survey(store), &Config::new(&wal), &mut |done, all| {
        assert!(done > last && done <= all);
        (last, total) = (done, all);
    });
    let restored = restored.unwrap();
    assert_eq!(last, total, "all was read");
    (restored, wal)
}

/// Every record of a log: LSN, epoch, time, payload.
fn records(log: &Log) -> Vec<(u64, u32, u64, Vec<u8>)> {
    let mut reader = log.reader(From::Start).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        let position = record.position();
        let payload = record.payload().to_vec();
        found.push((position.lsn.0, position.epoch.0, record.timestamp_us(), payload));
    }
    found
}

/// Logs `a` and `b` with much, one with settings and a start, one that was cut, one that is empty,
/// one that is gone: all are back as they were, and go on under higher epochs.
#[test]
fn everything_comes_back_as_it_was_and_goes_on() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::new(5, 0));
    drain(&engine, &store);
    let cut = engine.log("cut").unwrap();
    append(&cut, "cut", 0..30);
    drain(&engine, &store);
    cut.writer().unwrap().cut_to(Lsn(12)).wait().unwrap();
    append(&cut, "again", 12..20);
    let settings = LogSettings { retention_secs: Some(77_777), ..LogSettings::default() };
    logs[0].set(settings).unwrap();
    logs[0].truncate(Lsn(321)).unwrap();
    logs[1].writer().unwrap().append(vec![b'x'; 390 << 10]).wait().unwrap();
    engine.log("empty").unwrap();
    engine.log("gone").unwrap().writer().unwrap().append("gone").wait().unwrap();
    drain(&engine, &store);
    engine.delete_log("gone").unwrap();
    let names = ["a", "b", "cut", "empty"];
    let expected = names.map(|name| records(&engine.log(name).unwrap()));
    let infos = engine.logs();
    let facts = *engine.facts();
    leave(dir.path(), engine, &store);

    let (restored, wal) = bring_back(&store, dir.path());
    assert!(restored.is_whole(), "{restored:?}");
    assert_eq!(restored.records, expected.iter().map(|log| log.len() as u64).sum::<u64>());
    let engine = Engine::open(Config::new(&wal)).unwrap();
    assert_eq!(engine.logs().len(), 4, "what was deleted stays deleted");
    assert_eq!(engine.facts().directory, facts.directory);
    assert_ne!(engine.facts().lineage, facts.lineage);
    for (name, expected) in names.iter().zip(&expected) {
        let old = infos.iter().find(|info| info.name == *name).unwrap();
        let log = engine.find(name).unwrap().unwrap();
        let info = log.info().unwrap();
        assert!(records(&log) == *expected, "{name}");
        assert_eq!((info.id, info.start, info.durable), (old.id, old.start, old.durable), "{name}");
        assert_eq!((info.settings, &info.group), (old.settings, &old.group));
        assert_eq!(info.created_us, old.created_us);
        let ack = log.writer().unwrap().append("more").wait().unwrap();
        assert_eq!(ack.position.lsn, old.durable, "{name}");
        assert!(ack.position.epoch > Epoch(old.epoch.0 + 60_000), "above all that was handed out");
    }
    let new = engine.log("gone").unwrap();
    assert!(infos.iter().all(|old| old.id != new.id()), "no id is given twice");
    assert!(records(&new).is_empty());
    engine.close().unwrap();

    // It goes on into the same store, beside what was; that is restored, too.
    drain(&Engine::open(Config::new(&wal)).unwrap(), &store);
    let found = histories(&*store).unwrap();
    assert_eq!(found.len(), 2);
    let lineage = *Engine::open(Config::new(&wal)).unwrap().facts();
    let history = History { directory: lineage.directory, lineage: lineage.lineage };
    let survey = Survey::of(&*store, history, &mut |_, _| ()).unwrap();
    let third = Config::new(dir.path().join("third"));
    let again = restore(&*store, &survey, &third, &mut |_, _| ()).unwrap();
    assert!(again.is_whole(), "{again:?}");
    let engine = Engine::open(third).unwrap();
    let (last, before) = (records(&engine.log("a").unwrap()), &expected[0]);
    assert!(last[..before.len()] == before[..] && last.last().unwrap().3 == b"more");
}

/// What was appended and not uploaded is not there; what the store knew of it is told.
#[test]
fn what_was_not_uploaded_is_missing_at_the_end_alone() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::new(6, 0));
    drain(&engine, &store);
    let tail = logs[0].durable().unwrap();
    append(&logs[0], "a", RECORDS..RECORDS + 200);
    engine.close().unwrap();
    let (restored, wal) = bring_back(&store, dir.path());
    assert!(restored.is_whole());
    let engine = Engine::open(Config::new(&wal)).unwrap();
    let found = records(&engine.log("a").unwrap());
    assert!(found.len() as u64 <= tail.0 + 200 && found.len() as u64 > RECORDS / 2);
    for (n, (lsn, _, _, bytes)) in found.iter().enumerate() {
        assert!(*lsn == n as u64 && *bytes == payload("a", *lsn));
    }
}

/// A store that fails all the time, and lies.
#[test]
fn a_store_that_lies_is_seen_through() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::new(7, 0));
    let expected = logs.each_ref().map(records);
    leave(dir.path(), engine, &store);
    store.set_per_mille(60);
    for round in 0..4 {
        let place = dir.path().join(format!("restored-{round}"));
        let history = histories(&*store).unwrap()[0];
        let survey = Survey::of(&*store, history, &mut |_, _| ()).unwrap();
        let restored = restore(&*store, &survey, &Config::new(&place), &mut |_, _| ()).unwrap();
        assert!(restored.is_whole(), "{restored:?}");
        let engine = Engine::open(Config::new(&place)).unwrap();
        for (name, expected) in ["a", "b"].iter().zip(&expected) {
            assert!(records(&engine.log(name).unwrap()) == *expected);
        }
    }
}

/// An object in the middle rots, another one is gone: it is told, the records are damaged in the
/// new directory, and everything else is there.
#[test]
fn what_is_damaged_or_gone_is_told_and_nothing_else_suffers() {
    for rot in [true, false] {
        let dir = folder();
        let (engine, logs) = settled(dir.path());
        let store = Arc::new(SimStore::new(8, 0));
        let expected = logs.each_ref().map(records);
        leave(dir.path(), engine, &store);
        let objects = segments_in(&*store);
        assert!(objects.len() > 3);
        let key = &objects[1].key;
        if rot {
            store.rot(key, 10_000);
        } else {
            store.delete(key).unwrap();
        }
        let (restored, wal) = bring_back(&store, dir.path());
        let told = |trouble: &Trouble| match trouble {
            Trouble::Unreadable(name, _) => rot && *name == key.to_string(),
            Trouble::Missing(name) => !rot && *name == key.to_string(),
            _ => false,
        };
        assert!(restored.troubles.iter().any(told), "{:?}", restored.troubles);
        assert!(!restored.damages.is_empty() && !restored.is_whole());
        let engine = Engine::open(Config::new(&wal)).unwrap();
        let mut damaged = 0;
        for (name, expected) in ["a", "b"].iter().zip(&expected) {
            let log = engine.log(name).unwrap();
            let mut from = Lsn(0);
            let mut found = 0;
            while from < log.durable().unwrap() {
                let mut reader = log.reader(From::Lsn(from)).unwrap();
                match reader.next().wait() {
                    Ok(record) => {
                        let record = record.unwrap();
                        assert!(record.payload() == expected[from.0 as usize].3);
                        (from, found) = (from.next(), found + 1);
                    }
                    Err(Error::Corrupt(damage)) => {
                        damaged += 1;
                        from = damage.last.unwrap().next();
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(log.durable().unwrap().0, expected.len() as u64, "the end is there");
            assert!(found > expected.len() / 2, "{found} of {}", expected.len());
        }
        assert!(damaged > 0);
    }
}

/// Manifests are lost, and all control objects but those that nobody wrote: objects tell enough.
#[test]
fn without_a_manifest_objects_tell_enough() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::new(9, 0));
    logs[1].truncate(Lsn(50)).unwrap();
    let expected = logs.each_ref().map(records);
    leave(dir.path(), engine, &store);
    let drop_all = |kind: &str| {
        for key in store.keys().iter().filter(|key| key.as_str().contains(kind)) {
            store.delete(key).unwrap();
        }
    };
    for (n, kind) in ["/manifest/", "/control/"].iter().enumerate() {
        drop_all(kind);
        let wal = dir.path().join(format!("restored-{n}"));
        let restored = restore(&*store, &survey(&store), &Config::new(&wal), &mut |_, _| ());
        assert!(restored.unwrap().is_whole());
        let engine = Engine::open(Config::new(&wal)).unwrap();
        for (name, expected) in ["a", "b"].iter().zip(&expected) {
            assert!(records(&engine.log(name).unwrap()) == *expected, "{kind} {name}");
        }
    }
    // Rot in the newest manifest: the one before is taken, and it is told.
    let store = Arc::new(SimStore::new(10, 0));
    let engine = Engine::open(Config::new(dir.path().join("restored-0"))).unwrap();
    drain(&engine, &store);
    engine.log("one more").unwrap();
    drain(&engine, &store);
    let newest: Vec<Key> =
        store.keys().into_iter().filter(|key| key.as_str().contains("/manifest/")).collect();
    assert!(newest.len() >= 2, "{newest:?}");
    store.rot(newest.last().unwrap(), 70);
    let found = survey(&store);
    assert!(matches!(found.troubles[..], [Trouble::Manifest(_)]), "{:?}", found.troubles);
    let config = Config::new(dir.path().join("restored-2"));
    let restored = restore(&*store, &found, &config, &mut |_, _| ()).unwrap();
    assert!(restored.logs.iter().any(|log| log.name == "one more"), "{restored:?}");
}

/// Nothing but facts lies on the disk; records come from the store.
#[test]
fn a_bucket_is_read_without_a_directory() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::new(11, 0));
    logs[1].truncate(Lsn(50)).unwrap();
    let expected = logs.each_ref().map(records);
    leave(dir.path(), engine, &store);
    let before = store.keys();
    let config = Config { read_only: true, ..Config::new(dir.path().join("look")) };
    look_into(&survey(&store), &config).unwrap();
    let theirs = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let archive = Arc::new(StoreArchive::new(theirs, 8 << 20).unwrap()) as Arc<dyn Archive>;
    let components = Components { archive: Some(archive), ..Components::default() };
    let (engine, _) = Engine::open_with(config, components).unwrap();
    for (name, expected) in ["a", "b"].iter().zip(&expected) {
        let log = engine.find(name).unwrap().unwrap();
        assert!(records(&log) == *expected, "{name}");
        let late = &expected[expected.len() - 40];
        let mut reader = log.reader(From::Time(late.2)).unwrap();
        let first = reader.next().wait().unwrap().unwrap();
        assert!(first.timestamp_us() >= late.2 && first.lsn().0 <= late.0);
    }
    assert_eq!(store.keys(), before, "nothing was written");
}

#[test]
fn a_directory_that_is_used_is_refused() {
    let dir = folder();
    let (engine, _) = settled(dir.path());
    let store = Arc::new(SimStore::new(12, 0));
    drain(&engine, &store);
    engine.close().unwrap();
    let config = Config::new(dir.path().join("wal"));
    let error = restore(&*store, &survey(&store), &config, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
    Engine::open(config).unwrap().close().unwrap();
}
