//! Bits that turn on the medium during a power cut: told or in the unwitnessed tail, never altered
//! records, never skipped ones; salvage goes on without them, and says so for ever.
//!
//! Not here: where exactly damage must be told (`engine/tests/surgery.rs`, which knows each byte).

use std::collections::BTreeMap;

use sapwood::io::sim::{Faults, Rng};
use sapwood::{Engine, Error, From, Log, Lsn, Recovery};

use crate::ensure;
use crate::model::{LogTruth, Verdict};
use crate::world::{Weather, World};

/// Sessions before bits turn.
const SESSIONS: u64 = 3;

/// Bits that turn, each alone and at first.
const BITS: u64 = 8;

/// What lives with rot came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotten {
    /// Opens that were refused with an error.
    pub refused: u64,
    /// Logs that told damage.
    pub corrupt: u64,
    /// Logs that told a loss after a salvage.
    pub lost: u64,
    /// Logs that were whole all the same.
    pub whole: u64,
}

/// How reading a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Corrupt,
    Lost,
}

/// Lives some sessions, then cuts the power with bits turning.
///
/// # Errors
/// When a record is altered or skipped in silence, or a salvage does not help.
pub fn live(seed: u64, sum: &mut Rotten) -> Verdict {
    live_in(&mut World::new(seed, Weather::default()), seed, sum)
}

/// The same, in a world of its own.
///
/// # Errors
/// As [`live`].
pub fn live_in(world: &mut World, seed: u64, sum: &mut Rotten) -> Verdict {
    world.live(SESSIONS)?;
    let mut rng = Rng::new(seed ^ 0x526f74);
    let bit_rot = 50 + rng.below(2_000) as u32;
    let rotten = world.twin(Faults { bit_rot, ..Faults::default() });
    many_bits(&rotten, sum)?;
    world.witness()?;
    one_bit(world)
}

/// Bits turn anywhere: what is delivered is right, gaps are told, and what was given up stays so.
fn many_bits(world: &World, sum: &mut Rotten) -> Verdict {
    let mut before = BTreeMap::new();
    // Looked at first: nothing of it may change what comes after.
    for recovery in [Recovery::TolerateTail, Recovery::Salvage, Recovery::TolerateTail] {
        let (engine, drivers) = match world.open_as(recovery) {
            Ok(opened) => opened,
            // Both copies of the manifest, or what a newer version would write: told.
            Err(Error::NotOurs(_) | Error::Corrupt(_) | Error::Unsupported(_)) => {
                sum.refused += 1;
                return Ok(());
            }
            Err(other) => return Err(format!("opening with rot: {other}")),
        };
        let outcomes = look(world, &engine, false)?;
        for outcome in outcomes.values() {
            match outcome {
                Outcome::Whole => sum.whole += 1,
                Outcome::Corrupt => sum.corrupt += 1,
                Outcome::Lost => sum.lost += 1,
            }
        }
        let lost = |(_, outcome): &(&String, &Outcome)| **outcome == Outcome::Lost;
        for (name, _) in before.iter().filter(lost) {
            let now = outcomes.get(name);
            ensure!(now == Some(&Outcome::Lost), "{name}: told as lost once, then {now:?}");
        }
        before = outcomes;
        engine.close().map_err(|e| format!("closing with rot: {e}"))?;
        drop(drivers);
    }
    Ok(())
}

/// One bit turns where everything acked has a witness: each record is there, or told.
fn one_bit(world: &mut World) -> Verdict {
    for _ in 0..BITS {
        let mut turned = world.twin(Faults::default());
        if let Some(bit) = turned.turn_one_bit() {
            with_one_bit(&turned, &bit)?;
        }
    }
    Ok(())
}

fn with_one_bit(turned: &World, bit: &str) -> Verdict {
    let told = |what: String| format!("one bit turned ({bit}): {what}");
    match turned.open_as(Recovery::TolerateTail) {
        Ok((engine, drivers)) => {
            look(turned, &engine, true).map_err(told)?;
            drop((engine, drivers));
        }
        Err(Error::NotOurs(_) | Error::Corrupt(_) | Error::Unsupported(_)) => {}
        Err(other) => return Err(told(format!("opening: {other}"))),
    }
    Ok(())
}

/// How each log reads. `witnessed`: nothing that was acked may be missing in silence.
fn look(world: &World, engine: &Engine, witnessed: bool) -> Verdict<BTreeMap<String, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for (name, truth) in &world.model().logs {
        let found = engine.find(name).map_err(|e| e.to_string())?;
        let Some(log) = found else {
            // Its deletion may have become durable in the moment of the cut.
            ensure!(truth.doomed, "log {name:?} is gone in silence");
            continue;
        };
        let told = |what: String| format!("log {name:?}: {what}");
        let (outcome, end) = read(&log, truth).map_err(told)?;
        let missed = witnessed && outcome == Outcome::Whole && end < truth.acked;
        ensure!(!missed, "log {name:?}: {} acked, {end} there, and nothing is told", truth.acked);
        outcomes.insert(name.clone(), outcome);
    }
    Ok(outcomes)
}

/// Every record that is delivered is the one that was staged there, and gaps are told.
fn read(log: &Log, truth: &LogTruth) -> Verdict<(Outcome, u64)> {
    let mut reader = log.reader(From::Start).map_err(|e| e.to_string())?;
    let mut next = log.start().map_err(|e| e.to_string())?.0;
    ensure!((truth.start..=truth.start_asked).contains(&next), "starts at {next}");
    let mut lost = false;
    loop {
        match reader.next().wait() {
            Ok(Some(record)) => {
                ensure!(record.lsn() == Lsn(next), "{} after {next}", record.lsn());
                let Some(staged) = truth.staged.get(next as usize) else {
                    return Err(format!("LSN {next} was never staged"));
                };
                ensure!(record.payload() == staged.payload(), "LSN {next} is altered");
                next += 1;
            }
            Ok(None) if lost => return Ok((Outcome::Lost, next)),
            Ok(None) => return Ok((Outcome::Whole, next)),
            Err(Error::Lost(damage)) => {
                lost = true;
                ensure!(damage.first == Lsn(next), "lost from {}, read {next}", damage.first);
                let Some(last) = damage.last else { return Err("an endless loss".into()) };
                next = last.0 + 1;
            }
            Err(Error::Corrupt(damage)) => {
                ensure!(damage.first <= Lsn(next), "{damage}, read {next}");
                return Ok((Outcome::Corrupt, next));
            }
            Err(other) => return Err(format!("reading LSN {next}: {other}")),
        }
    }
}
