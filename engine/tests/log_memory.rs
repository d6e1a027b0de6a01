//! What a log takes in the heap when there are very many: bytes that are alive, divided by logs.
//!
//! Time plays no part in it. The counter counts every thread of the process, so this file holds
//! one test.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::folder;
use sapwood::{Config, Engine, LogOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LOGS: usize = 20_000;
/// Looks at the heap before one is believed.
const LOOKS: usize = 40;
/// Of these, so many are appended to.
const APPENDED: usize = 2_000;
/// The goal, and what is left of it for what an allocator takes beside what it is asked for.
const GOAL: usize = 512;
const HEAP_MAX: usize = GOAL * 4 / 5;

fn name(n: usize) -> String {
    format!("tenant/{n:06}/events")
}

/// Bytes alive when nothing is under way: the least of several looks, as a spare is filled from a
/// buffer now and then.
fn live() -> usize {
    let look = |_| {
        std::thread::sleep(Duration::from_millis(10));
        let stats = COUNTED.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    (0..LOOKS).map(look).min().unwrap()
}

/// Beyond what an engine without logs takes.
fn each(what: &str, before: usize) -> usize {
    let each = live().saturating_sub(before) / LOGS;
    println!("{what}: {each} B each");
    each
}

#[test]
fn a_log_takes_little_memory() {
    let dir = folder();
    let config = || Config { shards: 1, ..Config::new(dir.path().join("w")) };
    let engine = Engine::open(config()).unwrap();
    let before = live();
    {
        let names: Vec<String> = (0..LOGS).map(name).collect();
        let options = LogOptions::default();
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
        drop(engine.create_many(&wanted).unwrap());
    }
    let created = each("created", before);
    engine.close().unwrap();
    drop(engine);

    // What an engine takes by itself is what was alive before the first log.
    let engine = Engine::open(config()).unwrap();
    let opened = each("opened", before);
    for n in 0..APPENDED {
        let writer = engine.find(&name(n * LOGS / APPENDED)).unwrap().unwrap().writer().unwrap();
        writer.submit("x").unwrap().wait().unwrap();
    }
    let appended = each("a tenth appended to", before);
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::open(config()).unwrap();
    let again = each("opened again", before);
    engine.close().unwrap();
    for (what, each) in
        [("created", created), ("opened", opened), ("appended", appended), ("again", again)]
    {
        assert!(each <= HEAP_MAX, "{what}: {each} B each");
    }
}
