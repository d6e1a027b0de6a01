//! Every model many times, and once for each race that it must see.
//!
//! `SAPWOOD_MODEL` names one; `SAPWOOD_MODEL_SECS` is how long each runs (default 3);
//! `SAPWOOD_MODEL_SEED` runs the schedules of this seed alone, which is how a failure is replayed.
//! Seeds are counted from 1, so that every run tries the same ones first.
//!
//! Not here: what the models demand (`models/src`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood::models::{MODELS, Model, RACES, Race, choose, reset};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Schedules of one seed.
const OF_A_SEED: usize = 50;

/// Steps of one schedule, after which it is said to run for ever.
const STEPS_MAX: usize = 200_000;

/// Seeds in which a race on purpose must be seen.
const SEEDS_FOR_A_RACE: u64 = 400;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config
}

/// All schedules of a seed: by chance for odd ones, by few chosen changes of priority for even
/// ones. What went wrong, if anything did.
fn schedules(model: &Model, seed: u64, race: Option<Race>) -> Result<usize, String> {
    reset();
    choose(race);
    let run = model.run;
    let depth = 2 + (seed / 2 % 3) as usize;
    let all = catch_unwind(AssertUnwindSafe(|| match seed % 2 {
        1 => Runner::new(RandomScheduler::new_from_seed(seed, OF_A_SEED), config()).run(run),
        _ => Runner::new(PctScheduler::new_from_seed(seed, depth, OF_A_SEED), config()).run(run),
    }));
    choose(None);
    all.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

fn chosen() -> impl Iterator<Item = &'static Model> {
    let name = std::env::var("SAPWOOD_MODEL").ok();
    MODELS.iter().filter(move |model| name.as_deref().is_none_or(|name| name == model.name))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_model_holds() {
    let limit = Duration::from_secs(number("SAPWOOD_MODEL_SECS").unwrap_or(3));
    let only = number("SAPWOOD_MODEL_SEED");
    for model in chosen() {
        let (begun, mut seed, mut runs) = (Instant::now(), only.unwrap_or(1), 0);
        loop {
            match schedules(model, seed, None) {
                Ok(count) => runs += count,
                Err(what) => panic!(
                    "{}: {what}\nreplay: cd models && SAPWOOD_MODEL={} SAPWOOD_MODEL_SEED={seed} \
                     cargo test --release every_model_holds",
                    model.name, model.name
                ),
            }
            seed += 1;
            if only.is_some() || begun.elapsed() >= limit {
                break;
            }
        }
        println!("{}: {runs} schedules, seeds up to {}", model.name, seed - 1);
    }
}

#[test]
fn every_race_is_seen() {
    let loud = Arc::new(std::panic::take_hook());
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for model in chosen() {
        for race in model.sees {
            let seen = (1..=SEEDS_FOR_A_RACE).find_map(|seed| {
                schedules(model, seed, Some(*race)).err().map(|what| (seed, what))
            });
            match seen {
                Some((seed, what)) => {
                    let what = what.lines().next().unwrap_or_default();
                    println!("{}: {race:?} seen in seed {seed}: {what}", model.name);
                }
                None => missed.push(format!("{}: {race:?}", model.name)),
            }
        }
    }
    std::panic::set_hook(Box::new(move |info| loud(info)));
    assert!(missed.is_empty(), "not seen: {missed:?}");
}

#[test]
fn every_race_has_a_model() {
    let of = |race: &Race| MODELS.iter().any(|model| model.sees.contains(race));
    let blind: Vec<_> = RACES.iter().filter(|(race, _)| !of(race)).collect();
    assert!(blind.is_empty(), "{blind:?}");
}
