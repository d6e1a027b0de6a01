//! Bits that turn on the medium during a power cut: told or in the unwitnessed tail, never altered
//! records, never skipped ones; salvage goes on without them, and says so for ever.
//!
//! Not here: where exactly damage must be told (`engine/tests/surgery.rs`, which knows each byte).

use sapwood::io::sim::{Faults, Rng};
use sapwood::{Engine, Error, From, Log, Lsn, Recovery};

use crate::ensure;
use crate::model::{LogTruth, Verdict};
use crate::world::{Weather, World};

/// Sessions before bits turn.
const SESSIONS: u64 = 3;

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
    world.crash_with(Faults { bit_rot, ..Faults::default() });
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
        look(world, &engine, sum)?;
        engine.close().map_err(|e| format!("closing with rot: {e}"))?;
        drop(drivers);
    }
    Ok(())
}

fn look(world: &World, engine: &Engine, sum: &mut Rotten) -> Verdict {
    for (name, truth) in &world.model().logs {
        let found = engine.find(name).map_err(|e| e.to_string())?;
        let Some(log) = found else {
            // Its deletion may have become durable in the moment of the cut.
            ensure!(truth.doomed, "log {name:?} is gone in silence");
            continue;
        };
        match read(&log, truth).map_err(|what| format!("log {name:?}: {what}"))? {
            Outcome::Whole => sum.whole += 1,
            Outcome::Corrupt => sum.corrupt += 1,
            Outcome::Lost => sum.lost += 1,
        }
    }
    Ok(())
}

/// Every record that is delivered is the one that was staged there, and gaps are told.
fn read(log: &Log, truth: &LogTruth) -> Verdict<Outcome> {
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
            Ok(None) if lost => return Ok(Outcome::Lost),
            Ok(None) => return Ok(Outcome::Whole),
            Err(Error::Lost(damage)) => {
                lost = true;
                ensure!(damage.first == Lsn(next), "lost from {}, read {next}", damage.first);
                let Some(last) = damage.last else { return Err("an endless loss".into()) };
                next = last.0 + 1;
            }
            Err(Error::Corrupt(damage)) => {
                ensure!(damage.first <= Lsn(next), "{damage}, read {next}");
                return Ok(Outcome::Corrupt);
            }
            Err(other) => return Err(format!("reading LSN {next}: {other}")),
        }
    }
}
