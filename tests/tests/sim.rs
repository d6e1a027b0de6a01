//! The simulated engine under power cuts and faults, life after life.
//!
//! A failure prints the seed and the command that lives this life again. `SAPWOOD_SIM_CYCLES` sets
//! how many sessions are lived in all, `SAPWOOD_SEED` lives one life.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_tests::rot::{self, Rotten};
use sapwood_tests::world::{Summary, Weather, live};

/// Sessions in all, unless told otherwise.
const CYCLES: u64 = 2000;

/// Sessions of one life.
const LIFE: u64 = 12;

const CALM: Weather = Weather { rough: false, failing: false };
const ROUGH: Weather = Weather { rough: true, failing: false };
const FAILING: Weather = Weather { rough: true, failing: true };

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

fn one(name: &str, seed: u64, weather: Weather) -> Summary {
    attempt(name, seed, || live(seed, LIFE, weather))
}

fn attempt<T>(name: &str, seed: u64, run: impl FnOnce() -> Result<T, String>) -> T {
    let what = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(lived)) => return lived,
        Ok(Err(what)) => what,
        Err(_) => "a panic, see above".into(),
    };
    panic!(
        "seed {seed:#x}: {what}\n  again: SAPWOOD_SEED={seed:#x} cargo test -p sapwood-tests \
         --test sim {name} -- --exact --nocapture"
    );
}

fn lives(name: &str, weather: Weather, share: u64, base: u64) {
    if let Some(seed) = number("SAPWOOD_SEED") {
        println!("{:?}", one(name, seed, weather));
        return;
    }
    let cycles = number("SAPWOOD_SIM_CYCLES").unwrap_or(CYCLES);
    let mut all = Summary::default();
    for life in 0..(cycles * share / 100).div_ceil(LIFE) {
        let summary = one(name, base + life, weather);
        all.cycles += summary.cycles;
        all.cuts += summary.cuts;
        all.recovery_cuts += summary.recovery_cuts;
        all.halts += summary.halts;
        all.relocations += summary.relocations;
        all.acks += summary.acks;
        all.kept += summary.kept;
        all.taken += summary.taken;
    }
    println!("{name}: {all:?}");
    assert!(all.acks > 0 && all.cuts > 0 && all.recovery_cuts > 0, "a dull run: {all:?}");
    assert!(all.relocations > 0 || cycles < CYCLES, "nothing was relocated: {all:?}");
    assert!(all.taken > 0 && all.kept > 0, "cuts that took or kept nothing: {all:?}");
    assert!(all.halts > 0 || !weather.failing, "no shard ever halted: {all:?}");
}

#[test]
fn sim_power_cuts() {
    lives("sim_power_cuts", CALM, 50, 0x1000_0000);
}

#[test]
fn sim_rough_disk() {
    lives("sim_rough_disk", ROUGH, 20, 0x2000_0000);
}

#[test]
fn sim_failing_disk() {
    lives("sim_failing_disk", FAILING, 30, 0x3000_0000);
}

#[test]
fn sim_rot() {
    let mut all = Rotten::default();
    let cycles = number("SAPWOOD_SIM_CYCLES").unwrap_or(CYCLES);
    let seeds = match number("SAPWOOD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0x4000_0000..0x4000_0000 + cycles / 20,
    };
    let one = seeds.end - seeds.start == 1;
    for seed in seeds {
        attempt("sim_rot", seed, || rot::live(seed, &mut all));
    }
    println!("sim_rot: {all:?}");
    assert!(one || all.corrupt > 0 && all.lost > 0 && all.whole > 0, "a dull run: {all:?}");
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in [1, 2, 3] {
        let first = live(seed, 6, FAILING).unwrap();
        assert_eq!(first, live(seed, 6, FAILING).unwrap(), "seed {seed}");
        assert_ne!(first.trace, live(seed + 100, 6, FAILING).unwrap().trace);
    }
}
