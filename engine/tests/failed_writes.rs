//! After a write that failed: what can be read of it is not on the medium, whatever a sync says.
//!
//! Invariant: what an engine has shown after its recovery, no later power cut takes. Not here: what
//! the callers of the failed write are told (`halts` in the crate `tests`).

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Engine, Error};

use common::payloads;
use cuts::judge::{Life, Model, config, payload};

mod common;
#[allow(dead_code)]
mod cuts;

/// Every write fails; what of it can be read, chance decides.
fn failing() -> Faults {
    Faults { eio_write: 1_000_000, ..Faults::default() }
}

/// What an open shows of log "a"; the engine is gone afterwards, without a close.
fn shown(disk: &SimStorage) -> Vec<Vec<u8>> {
    let (engine, drivers) = Engine::open_on(Arc::new(disk.clone()), config()).unwrap();
    let damages: Vec<_> = engine.recovery().iter().flat_map(|r| r.damages.clone()).collect();
    assert!(damages.is_empty(), "{damages:?}");
    let found = payloads(&engine.log("a").unwrap());
    drop((engine, drivers));
    found
}

// The write of a batch failed, all of it had landed in the device's cache, and the process ended.
// The next open synced the file, which succeeded and covered nothing, kept the batch and served it;
// a power cut then took it, under a seal that says it is there: `Corrupt`. Only reopening the shard
// in the same process knew better.
#[test]
fn what_a_failed_write_left_is_kept_for_good_or_dropped_for_good() {
    let mut kept = 0;
    for seed in 0..40 {
        let disk = SimStorage::new(seed, Faults::default());
        let (engine, drivers) = Engine::open_on(Arc::new(disk.clone()), config()).unwrap();
        let driving: Vec<_> = drivers.into_iter().map(|driver| driver.bind().unwrap()).collect();
        let log = engine.log("a").unwrap();
        let writer = log.writer().unwrap();
        for n in 0..5 {
            writer.append(payload("a", n)).wait().unwrap();
        }
        disk.set_faults(failing());
        let failed = writer.submit(b"small").unwrap().wait();
        assert!(matches!(failed, Err(Error::Unknown { .. })), "{failed:?}");
        disk.set_faults(Faults::default());
        drop((log, writer, driving, engine));
        let first = shown(&disk);
        kept += usize::from(first.len() == 6);
        for _ in 0..8 {
            assert_eq!(shown(&disk.crash()), first, "seed {seed}");
        }
        assert_eq!(shown(&disk), first, "seed {seed}");
    }
    assert!((1..40).contains(&kept), "{kept} of 40 failed writes could be read");
}

/// The power goes in every step of the open that follows, and after it.
#[test]
fn open_after_a_failed_write() {
    let mut kept = 0;
    for seed in 0..6 {
        let mut life =
            Life::open(&SimStorage::new(seed, Faults::default()), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 4);
        let world = life.tap.disk();
        world.set_faults(failing());
        let failed = writer.submit(payload("a", 4)).unwrap().wait();
        assert!(matches!(failed, Err(Error::Unknown { .. })), "{failed:?}");
        world.set_faults(Faults::default());
        let mut model = life.model.clone();
        model.get_mut("a").unwrap().staged = 5;
        drop((writer, life));
        let mut life = Life::open(&world, config(), model, true);
        let shown = life.engine.log("a").unwrap().durable().unwrap().0;
        let known = life.model.get_mut("a").unwrap();
        (known.acked, known.staged) = (shown, shown);
        kept += u64::from(shown == 5);
        let writer = life.writer("a");
        life.append(&writer, "a", 3);
        life.close();
        life.demand(&["write segment", "write index", "write manifest"]);
    }
    assert!((1..6).contains(&kept), "{kept} of 6 failed writes could be read");
}
