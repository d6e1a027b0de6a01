//! The crash tables of FORMAT.md, enacted: the power goes in every step of every mutation, and what
//! is left is opened, read, written, closed and opened again.
//!
//! One test per table; each demands by name the steps that its table lists.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

mod cuts;

use cuts::judge::{Life, Model, config};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, LogOptions};

fn disk(seed: u64) -> SimStorage {
    SimStorage::new(seed, Faults::default())
}

/// A directory with a log of some records, its first spare ready, nothing recorded yet.
fn settled(seed: u64) -> (Life, sapwood::Writer) {
    let mut life = Life::open(&disk(seed), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 5);
    life.idle(60);
    life.tap.record(true);
    (life, writer)
}

#[test]
fn append() {
    let (mut life, writer) = settled(1);
    life.append(&writer, "a", 1);
    life.append(&writer, "a", 12);
    life.demand(&["batch write under way", "batch write"]);
}

#[test]
fn mark() {
    let (mut life, writer) = settled(2);
    life.append(&writer, "a", 1);
    let marks = life.engine.metrics()[0].marks();
    life.idle(20);
    assert_eq!(life.engine.metrics()[0].marks(), marks + 1);
    life.demand(&["batch write under way", "batch write"]);
}

#[test]
fn roll_prepare_and_seal() {
    let (mut life, writer) = settled(3);
    life.append(&writer, "a", 100);
    life.idle(20);
    life.demand(&[
        "fill create",
        "fill write under way",
        "fill write",
        "fill sync under way",
        "fill sync",
        "fill sync-dir",
        "manifest write under way",
        "manifest write",
        "batch write",
        "seal create",
        "seal write",
        "seal sync",
        "seal sync-dir",
    ]);
}

#[test]
fn new_epoch() {
    let (mut life, first) = settled(4);
    life.append(&first, "a", 2);
    let second = life.writer("a");
    life.append(&second, "a", 3);
    let third = life.writer("a");
    life.append(&third, "a", 1);
    life.demand(&["manifest write under way", "manifest write"]);
}

#[test]
fn create_directory() {
    for shards in [1, 3] {
        let config = Config { shards, ..config() };
        let life = Life::open(&disk(5), config, Model::new(), true);
        life.demand(&[
            "take lock",
            "create manifest",
            "write manifest",
            "sync manifest",
            "sync-dir",
        ]);
    }
}

#[test]
fn create_log() {
    let (mut life, _writer) = settled(6);
    for name in ["b", "c"] {
        life.model.entry(name.into()).or_default();
    }
    life.step(|life| {
        let options = LogOptions::default();
        life.engine.create_many(&[("b", &options), ("c", &options)]).unwrap();
        for name in ["b", "c"] {
            life.model.get_mut(name).unwrap().created = true;
        }
    });
    let writer = life.writer("c");
    life.append(&writer, "c", 2);
    life.demand(&["manifest write under way", "manifest write"]);
}

/// Enough logs that a slot overflows: a snapshot goes to the other one, which is grown first.
#[test]
fn manifest_snapshot() {
    let mut life = Life::open(&disk(7), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 5);
    let options = LogOptions::default();
    let name = |n: usize| format!("{n:0>240}");
    for part in 0..8 {
        life.tap.record(part >= 6);
        let names: Vec<String> = (part * 100..part * 100 + 100).map(name).collect();
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
        life.step(|life| life.engine.create_many(&wanted).unwrap());
        life.append(&writer, "a", 1);
    }
    life.demand(&["manifest write under way", "manifest write", "manifest sync"]);
}

#[test]
fn close() {
    let (mut life, writer) = settled(8);
    life.append(&writer, "a", 2);
    life.close();
    life.demand(&[
        "batch write",
        "seal create",
        "seal write",
        "seal sync",
        "seal sync-dir",
        "seal truncate",
        "manifest write under way",
        "manifest write",
    ]);
}

/// A crash with several unsealed segments; then the power goes in every step of the recovery.
#[test]
fn open_after_a_crash() {
    for seed in 9..12 {
        let mut life = Life::open(&disk(seed), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 20 + seed % 3 * 25);
        let other = life.writer("b");
        life.append(&other, "b", 3);
        let world = life.tap.crash();
        let model = life.model.clone();
        let life = Life::open(&world, config(), model, true);
        life.demand(&[
            "take lock",
            "sync segment",
            "create index",
            "write index",
            "sync index",
            "sync-dir",
            "write manifest",
            "sync manifest",
            "truncate segment",
        ]);
    }
}

/// Batches of the torn tail lie in the spare: it is retired, and its file goes.
#[test]
fn open_with_a_torn_tail_in_the_next_segment() {
    let mut retired = 0;
    for seed in 20..32 {
        let mut life = Life::open(&disk(seed), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 30);
        let mut staged = 30;
        while writer.submit(cuts::judge::payload("a", staged)).is_ok() {
            staged += 1;
        }
        for _ in 0..3 {
            life.turn();
        }
        let mut model = life.model.clone();
        model.get_mut("a").unwrap().staged = staged;
        let life = Life::open(&life.tap.crash(), config(), model, true);
        retired += usize::from(life.engine.recovery()[0].dropped > 0);
    }
    assert!(retired > 0, "no run left a torn tail");
}
