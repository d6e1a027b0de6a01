//! The simulated engine under power cuts and faults, life after life.
//!
//! A failure prints the seed and the command that lives this life again. `SAPWOOD_SIM_CYCLES` sets
//! how many sessions are lived in all, `SAPWOOD_SEED` lives one life.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic;

use sapwood_tests::campaign::{self, Campaign, FAILING, LIFE, POWER_CUTS, ROT, ROUGH};
use sapwood_tests::rot::{self, Rotten};
use sapwood_tests::script::Script;
use sapwood_tests::summary::Summary;
use sapwood_tests::world::live;

/// Sessions in all, unless told otherwise.
const CYCLES: u64 = 2000;

/// Seeds of each kind that are lived twice, unless told otherwise.
const TWICE: u64 = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

/// The life of this seed, or what `SAPWOOD_SIM_KEEP` keeps of it.
fn one(campaign: &Campaign, seed: u64) -> Summary {
    let keep = std::env::var("SAPWOOD_SIM_KEEP").ok().filter(|text| !text.is_empty());
    let script = keep.map_or_else(Script::default, |text| Script::parse(&text).unwrap());
    match campaign.scripted(seed, &script) {
        Ok(summary) => summary,
        Err((what, _)) => fail(campaign, seed, &what),
    }
}

/// Tells how to live it again, and what it takes at least.
fn fail(campaign: &Campaign, seed: u64, what: &str) -> ! {
    let again = campaign.again(seed);
    println!("seed {seed:#x}: {what}\n  again: {again}\n  making it shorter");
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let short = campaign.shrink(seed);
    panic::set_hook(loud);
    if let Some(short) = short {
        println!("{}\n  {}", short.story.join("\n"), short.what);
        println!("  again, only this: SAPWOOD_SIM_KEEP={} {again}", short.script);
    }
    panic!("seed {seed:#x}: {what}\n  again: {again}");
}

fn lives(campaign: &Campaign, share: u64) {
    let name = campaign.name;
    if let Some(seed) = number("SAPWOOD_SEED") {
        println!("{:?}", one(campaign, seed));
        return;
    }
    let cycles = number("SAPWOOD_SIM_CYCLES").unwrap_or(CYCLES);
    let mut all = Summary::default();
    for life in 0..(cycles * share / 100).div_ceil(LIFE) {
        all += one(campaign, campaign.base + life);
    }
    println!("{name}: {all}");
    assert!(all.acks > 0 && all.cuts > 0 && all.recovery_cuts > 0, "a dull run: {all:?}");
    let short = cycles < CYCLES;
    let rare = [all.relocations, all.tiered, all.backups];
    assert!(short || rare.iter().all(|count| *count > 0), "what is rare never came: {all:?}");
    let missed = all.shares().into_iter().find(|(_, part)| part * 20 < all.cycles);
    assert!(short || missed.is_none(), "too little of {missed:?}: {all}");
    assert!(all.taken > 0 && all.kept > 0, "cuts that took or kept nothing: {all:?}");
    let failing = campaign.weather.is_some_and(|weather| weather.failing);
    assert!(all.halts > 0 || !failing, "no shard ever halted: {all:?}");
}

#[test]
fn sim_power_cuts() {
    lives(&POWER_CUTS, 50);
}

#[test]
fn sim_rough_disk() {
    lives(&ROUGH, 20);
}

#[test]
fn sim_failing_disk() {
    lives(&FAILING, 30);
}

#[test]
fn sim_rot() {
    if let Some(seed) = number("SAPWOOD_SEED") {
        one(&ROT, seed);
        return;
    }
    let mut all = Rotten::default();
    let cycles = number("SAPWOOD_SIM_CYCLES").unwrap_or(CYCLES);
    for seed in ROT.base..ROT.base + cycles / 20 {
        if let Err(what) = campaign::attempt(|| rot::live(seed, &mut all)) {
            fail(&ROT, seed, &what);
        }
    }
    println!("sim_rot: {all:?}");
    assert!(all.corrupt > 0 && all.lost > 0 && all.whole > 0, "a dull run: {all:?}");
}

/// Everything that happens goes into the trace: each change of the disk, its bytes, its moment.
/// `SAPWOOD_SIM_TWICE` sets how many seeds of each kind are lived twice.
#[test]
fn the_same_seed_lives_the_same_life() {
    let seeds = number("SAPWOOD_SIM_TWICE").unwrap_or(TWICE);
    for campaign in [POWER_CUTS, ROUGH, FAILING] {
        let weather = campaign.weather.unwrap();
        let mut before = None;
        for seed in campaign.base..campaign.base + seeds {
            let first = live(seed, 6, weather).unwrap();
            assert_eq!(first, live(seed, 6, weather).unwrap(), "seed {seed:#x}");
            assert_ne!(before.replace(first.trace), Some(first.trace), "every life is the same");
        }
    }
}
