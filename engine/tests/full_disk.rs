//! The crash tables of FORMAT.md about a full disk: an index that is owed, from the open that finds
//! no room for it until it is a file.
//!
//! Not here: a life on a disk that fills at any point (`disk_full` in the tests crate).
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // its helpers for rot
mod cuts;

use cuts::judge::{Life, Model, config};
use cuts::rot::look;
use sapwood::Lsn;
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, Filling, SimStorage};

const ENOSPC: i32 = 28;

/// Not a byte is free, and others take what is given back.
const FULL: Filling = Filling { from_change: 0, errno: ENOSPC, greedy: true };

/// What a power cut leaves of a log of 60 records over some segments, of which the last ones are
/// not sealed, on a disk that is full by now.
fn unsealed_and_full(seed: u64) -> (SimStorage, Model) {
    let mut life =
        Life::open(&SimStorage::new(seed, Faults::default()), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 40);
    life.idle(60);
    life.tap.disk().fill(Some(FULL));
    life.append(&writer, "a", 20);
    let (world, model) = (life.tap.crash(), life.model.clone());
    (world, model)
}

fn count(world: &SimStorage, kind: &str) -> usize {
    world.list().unwrap().iter().filter(|name| name.starts_with(kind)).count()
}

/// An open without a byte free: the indexes of what it seals are owed. The power goes at any step
/// of it; and once there is space, at any step of writing them.
#[test]
fn open_on_a_full_disk() {
    for seed in [1, 2, 3] {
        let (world, model) = unsealed_and_full(seed);
        let before = count(&world, "index");
        let mut life = Life::open(&world, config(), model, true);
        assert_eq!(count(&world, "index"), before, "there was room for an index");
        life.idle(300);
        life.demand(&["write manifest", "sync manifest", "truncate segment", "seal create"]);
        assert!(!life.tap.saw("seal write"), "there was room for an index");
        life.tap.disk().fill(None);
        life.idle(300);
        life.demand(&["seal write", "seal sync", "seal sync-dir", "manifest write"]);
        assert!(count(&world, "index") > before, "an index is still owed");
        life.close();
        let (report, found, end) = look(&life.tap.crash()).unwrap();
        assert!(end.is_ok() && report.repaired.is_empty() && report.clean, "{report:?}");
        assert_eq!(found, 60);
    }
}

/// The life of a full directory goes on without space: opened and closed, read only and for
/// writing, each time with the same indexes owed.
#[test]
fn what_is_owed_is_owed_again_by_the_next_open() {
    let (world, model) = unsealed_and_full(4);
    for _ in 0..3 {
        let (report, found, end) = look(&world).unwrap();
        assert!(end.is_ok() && report.damages.is_empty() && report.repaired.is_empty());
        assert_eq!(found, 60);
        let mut life = Life::open(&world, config(), model.clone(), false);
        life.idle(20);
        life.engine.close().unwrap();
    }
    world.fill(None);
    let mut life = Life::open(&world, config(), model, false);
    let writer = life.writer("a");
    life.append(&writer, "a", 30);
    life.close();
}

/// The way out of a full disk: what nobody needs is given back, also where the index that tells
/// who needs a segment is owed.
#[test]
fn a_segment_whose_index_is_owed_is_collected() {
    let (world, model) = unsealed_and_full(5);
    let mut life = Life::open(&world, config(), model, false);
    let with_index = count(&world, "index") as u64;
    life.tap.record(true);
    life.truncate("a", 60);
    let report = life.step(|life| life.engine.gc().unwrap());
    assert!(report.freed_segments > with_index && report.kept.is_empty(), "{report:?}");
    assert_eq!(count(&world, "index"), 0);
    life.demand(&["gc remove", "manifest write"]);
    life.tap.disk().fill(None);
    life.idle(200);
    assert_eq!(count(&world, "index"), 0, "an index of what is gone");
    let writer = life.writer("a");
    life.append(&writer, "a", 10);
    assert_eq!(life.engine.log("a").unwrap().start().unwrap(), Lsn(60));
    life.close();
}
