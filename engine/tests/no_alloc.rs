//! After warm-up an append allocates nothing: neither the caller who stages and waits, nor the
//! shard.
//!
//! The counter counts every thread of the process, so this file holds one test.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::folder;
use sapwood::{Config, Engine, Writer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Appends of one window: less than the mebibyte of a segment after which a log's sparse index
/// grows by an entry.
const WINDOW: usize = 100;
const WINDOWS: usize = 20;

fn append(writer: &Writer, payload: &[u8], times: usize) {
    for _ in 0..times {
        let ticket = writer.submit(payload).unwrap();
        ticket.wait().unwrap();
    }
}

/// Allocations per window once warm.
fn measure(writer: &Writer) -> Vec<usize> {
    let payload = [7; 128];
    append(writer, &payload, 1500);
    let windows = (0..WINDOWS).map(|_| {
        let region = Region::new(COUNTED);
        append(writer, &payload, WINDOW);
        let change = region.change();
        change.allocations + change.reallocations
    });
    let mut counts = Vec::with_capacity(WINDOWS);
    counts.extend(windows);
    counts
}

fn judge(what: &str, counts: &[usize]) {
    let total: usize = counts.iter().sum();
    let clean = counts.iter().filter(|count| **count == 0).count();
    println!("{what}: {total} allocations in {} appends, {counts:?}", WINDOW * WINDOWS);
    // What is left is the sparse index, which doubles now and then, and the spare's preparation.
    assert!(clean >= WINDOWS * 3 / 4, "{what}: {counts:?}");
    assert!(total <= WINDOWS, "{what}: {counts:?}");
}

#[test]
fn a_warm_append_allocates_nothing() {
    let dir = folder();
    let config =
        Config { idle_mark_delay: Duration::from_secs(60), ..Config::new(dir.path().join("w")) };
    let engine = Engine::open(config).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    judge("threads of the engine", &measure(&writer));
    engine.close().unwrap();

    let dir = folder();
    let config =
        Config { idle_mark_delay: Duration::from_secs(60), ..Config::new(dir.path().join("w")) };
    let (engine, drivers) = Engine::open_driven(config).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    judge("driven by the caller", &measure(&writer));
    engine.close().unwrap();
    drop(driver);
}
