//! The crash tables of FORMAT.md about the tier: the power goes in every step of marking a segment
//! as tiered, and of its leaving the disk while its records are kept.
//!
//! The judge reads every log from its start, so it reads what left from the archive.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod archives;
#[allow(dead_code)] // its helpers for rot
mod cuts;

use std::sync::Arc;

use archives::Memory;
use cuts::judge::{Life, Model, config};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{LogSettings, Lsn, Writer};

/// A directory with an archive and a log of some sealed segments, of which little is to stay local.
fn settled(seed: u64) -> (Life, Memory, Writer) {
    let memory = Memory::default();
    let disk = SimStorage::new(seed, Faults::default());
    let archive = Arc::new(memory.clone());
    let mut life = Life::open_with(&disk, config(), Model::new(), false, Some(archive));
    let writer = life.writer("a");
    let settings = LogSettings { local_retention_bytes: Some(300_000), ..LogSettings::default() };
    life.engine.log("a").unwrap().set(settings).unwrap();
    life.append(&writer, "a", 160);
    life.idle(60);
    assert!(life.engine.sealed_segments().len() >= 2);
    (life, memory, writer)
}

/// Uploads what is sealed, then marks it, oldest first.
fn tier(life: &mut Life, memory: &Memory) -> usize {
    let sealed = life.engine.sealed_segments();
    let fresh: Vec<_> = sealed.into_iter().filter(|sealed| !sealed.tiered).collect();
    for sealed in &fresh {
        memory.upload(sealed, &life.tap.disk().image(&sealed.file).unwrap());
        life.step(|life| life.engine.set_tiered(sealed.shard, sealed.segment).unwrap());
    }
    fresh.len()
}

#[test]
fn mark_as_tiered() {
    let (mut life, memory, _writer) = settled(41);
    life.tap.record(true);
    assert!(tier(&mut life, &memory) >= 2);
    assert!(life.engine.sealed_segments().iter().all(|sealed| sealed.tiered));
    life.demand(&["manifest write under way", "manifest write"]);
    // In the snapshot that ends a recovery, too.
    let world = life.tap.crash();
    let marked = life.engine.sealed_segments().len();
    let archive = Arc::new(memory);
    let life = Life::open_with(&world, config(), life.model.clone(), true, Some(archive));
    let tiered = life.engine.sealed_segments().iter().filter(|sealed| sealed.tiered).count();
    assert!(tiered == marked && marked > 0, "{tiered} of {marked} are known to be tiered");
}

/// Tiered segments leave, and the files go.
#[test]
fn a_tiered_segment_is_removed() {
    let (mut life, memory, _writer) = settled(42);
    tier(&mut life, &memory);
    let before = life.engine.sealed_segments().len();
    life.tap.record(true);
    life.step(|life| life.engine.gc().unwrap());
    life.demand(&[
        "manifest write under way",
        "manifest write",
        "gc open",
        "gc remove under way",
        "gc remove",
        "gc sync-dir",
    ]);
    assert!(life.engine.sealed_segments().len() < before);
    assert_eq!(life.engine.log("a").unwrap().start().unwrap(), Lsn(0));
    assert!(!memory.asked().is_empty(), "no judge has read from the archive");
}

/// Tiered segments leave while others are written, and their files become the next spares: what
/// stands in them is read neither for what they were nor for what they are.
#[test]
fn a_tiered_segment_is_recycled() {
    let (mut life, memory, writer) = settled(43);
    for round in 0..5 {
        life.tap.record(round >= 3);
        tier(&mut life, &memory);
        life.append(&writer, "a", 64);
        life.idle(40);
    }
    life.demand(&["fill open", "fill write under way", "fill write", "manifest write", "gc read"]);
    assert!(!memory.asked().is_empty(), "no judge has read from the archive");
}

/// A cut drops what is in the archive: readers see what came in its place, and never the old.
#[test]
fn a_cut_below_the_seam() {
    let (mut life, memory, writer) = settled(44);
    tier(&mut life, &memory);
    life.step(|life| life.engine.gc().unwrap());
    assert!(life.engine.sealed_segments().len() <= 2);
    life.tap.record(true);
    life.cut(&writer, "a", 0, 20);
    life.append(&writer, "a", 40);
    life.tap.record(false);
    life.append(&writer, "a", 160);
    life.idle(60);
    tier(&mut life, &memory);
    life.tap.record(true);
    life.step(|life| life.engine.gc().unwrap());
    life.idle(2);
    life.demand(&["batch write", "manifest write", "gc remove"]);
}

/// The tier says that a copy is whole, and the power goes before that is durable: the segment is
/// here, untiered, and is marked again.
#[test]
fn a_mark_that_was_lost_is_made_again() {
    let (mut life, memory, _writer) = settled(45);
    let world = life.tap.crash();
    tier(&mut life, &memory);
    let archive = Arc::new(memory.clone());
    let mut life = Life::open_with(&world, config(), life.model.clone(), false, Some(archive));
    assert!(life.engine.sealed_segments().iter().all(|sealed| !sealed.tiered));
    let freed = life.step(|life| life.engine.gc().unwrap()).freed_segments;
    assert_eq!(freed, 0, "nothing is tiered");
    assert!(tier(&mut life, &memory) >= 2);
    assert!(life.step(|life| life.engine.gc().unwrap()).freed_segments > 0);
}
