//! Hot backups: what is in the copy, and its crash table enacted.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

mod common;
// What other tables need.
#[allow(dead_code)]
mod cuts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{folder, payloads};
use cuts::Tap;
use cuts::judge::{Life, Model, config, payload};
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Engine, Error, Lsn};

/// Ends the others also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three writers, rolls, truncation and collection go on while copies are made. Each copy has every
/// record that was acked before the call, a prefix of what was written, and goes on.
#[test]
fn a_backup_beside_appends_rolls_and_collection_has_all_that_was_acked() {
    let dir = folder();
    let engine = Engine::open(Config { shards: 2, ..common::config(dir.path()) }).unwrap();
    let (stop, acked) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 3]);
    let text = |n: u64| format!("{n} {}", "~".repeat((n % 7 * 900) as usize));
    std::thread::scope(|scope| {
        for (log, acked) in acked.iter().enumerate() {
            let writer = engine.log(&format!("log-{log}")).unwrap().writer().unwrap();
            let stop = &stop;
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    writer.append(text(n)).wait().unwrap();
                    acked.store(n + 1, Ordering::Release);
                }
            });
        }
        let (engine, stop, acked) = (&engine, &stop, &acked);
        let _stop = Stop(stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let end = acked[0].load(Ordering::Acquire);
                engine.log("log-0").unwrap().truncate(Lsn(end.saturating_sub(50))).unwrap();
                engine.gc().unwrap();
            }
        });
        for round in 0..4 {
            while acked[1].load(Ordering::Acquire) < 400 * (round + 1) {
                std::thread::yield_now();
            }
            let known: Vec<u64> = acked.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let place = dir.path().join(format!("copy-{round}"));
            let report = engine.checkpoint_to(&place).unwrap();
            assert!(report.segments > 0 && report.damages.is_empty(), "{report:?}");
            let copy = Engine::open(Config::new(&place)).unwrap();
            assert_eq!(copy.facts().directory, engine.facts().directory);
            for (log, known) in known.iter().enumerate() {
                let log = copy.find(&format!("log-{log}")).unwrap().unwrap();
                let info = copy.logs().into_iter().find(|info| info.name == log.name()).unwrap();
                assert!(info.durable.0 >= *known, "{info:?}, {known} were acked");
                let found = payloads(&log);
                assert_eq!(found.len() as u64, info.durable.0 - info.start.0);
                for (n, found) in (info.start.0..).zip(found) {
                    assert_eq!(found, text(n).into_bytes(), "record {n} of {info:?}");
                }
                log.writer().unwrap().append("more").wait().unwrap();
            }
            copy.close().unwrap();
        }
    });
    let again = engine.checkpoint_to(&dir.path().join("copy-0")).unwrap_err();
    assert!(matches!(again, Error::Invalid(_)), "{again}");
    engine.close().unwrap();
}

fn life(seed: u64, config: Config) -> (Life, sapwood::Writer) {
    let disk = SimStorage::new(seed, Faults::default());
    let mut life = Life::open(&disk, config, Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 150);
    life.idle(60);
    life.append(&writer, "a", 5);
    (life, writer)
}

/// Whether it opens; then it has all 155 records, else it says that it is unfinished.
fn is_whole(world: &SimStorage, config: &Config, step: &str) -> bool {
    for read_only in [true, false] {
        let config = Config { read_only, ..config.clone() };
        match Engine::open_on(Arc::new(world.clone()), config) {
            Err(Error::NotOurs(why)) => {
                assert!(why.contains("unfinished") || world.list().unwrap().is_empty(), "{why}");
                return false;
            }
            Err(error) => panic!("{step}: {error}"),
            Ok((engine, drivers)) => {
                let _driving: Vec<_> = drivers.into_iter().map(|d| d.bind().unwrap()).collect();
                let found = payloads(&engine.find("a").unwrap().unwrap());
                assert_eq!(found.len(), 155, "{step}");
                for (n, found) in found.iter().enumerate() {
                    assert_eq!(*found, payload("a", n as u64), "{step}");
                }
            }
        }
    }
    true
}

/// The power goes in every step.
#[test]
fn backup() {
    for (seed, shards) in [(801, 1), (802, 3)] {
        let config = Config { shards, ..config() };
        let (mut life, writer) = life(seed, config.clone());
        let tap = Tap::new(SimStorage::new(seed + 50, Faults::default()));
        tap.record(true);
        let target: Arc<dyn Storage> = Arc::new(tap.storage());
        let mut last = 0;
        let report = life.engine.checkpoint_on(&target, &mut |p| last = p.done).unwrap();
        assert!(report.segments >= 3 && report.bytes == last, "{report:?}");
        let mut whole = 0;
        let cuts = tap.cuts();
        let count = cuts.len();
        for cut in cuts {
            whole += usize::from(is_whole(&cut.world, &config, &cut.step));
        }
        assert!(whole > 0 && whole < count, "{whole} of {count}");
        tap.demand(&[
            "create unfinished",
            "create segment",
            "write segment",
            "sync segment",
            "create index",
            "create manifest",
            "write manifest",
            "remove unfinished",
            "sync-dir",
        ]);
        assert!(is_whole(&tap.crash(), &config, "done"));
        life.append(&writer, "a", 5);
        life.close();
    }
}

/// The target is full: the copy is refused, the source goes on.
#[test]
fn a_full_target_harms_nobody() {
    let (mut life, writer) = life(811, config());
    let disk = SimStorage::new(861, Faults::default());
    disk.set_capacity(Some(2 << 20));
    let target: Arc<dyn Storage> = Arc::new(disk.clone());
    let error = life.engine.checkpoint_on(&target, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::NoSpace(_)), "{error}");
    assert!(!is_whole(&disk, &config(), "full"));
    life.append(&writer, "a", 5);
    life.close();
}

/// A hold broken on the way: what was copied is not taken for a backup.
#[test]
fn a_backup_whose_hold_is_broken_is_told() {
    let config = Config { hold_bytes_max: 1, ..config() };
    let (mut life, writer) = life(812, config.clone());
    life.append(&writer, "a", 5);
    let disk = SimStorage::new(862, Faults::default());
    let target: Arc<dyn Storage> = Arc::new(disk.clone());
    let engine = life.engine.clone();
    let mut once = false;
    let error = life.engine.checkpoint_on(&target, &mut |_| {
        if !std::mem::replace(&mut once, true) {
            engine.log("a").unwrap().truncate(Lsn(155)).unwrap();
            engine.gc().unwrap();
        }
    });
    assert!(matches!(error, Err(Error::HoldBroken(_))), "{error:?}");
    assert!(!is_whole(&disk, &config, "broken"));
}

/// Something is there already, whatever it is: nothing is touched.
#[test]
fn a_target_that_is_not_empty_is_refused() {
    let (life, _writer) = life(813, config());
    let disk = SimStorage::new(863, Faults::default());
    drop(disk.create("letter").unwrap());
    let target: Arc<dyn Storage> = Arc::new(disk.clone());
    let error = life.engine.checkpoint_on(&target, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(disk.list().unwrap(), ["letter"]);
}
