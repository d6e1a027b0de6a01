//! Ends of a simulated life that need more than a power cut: a halted shard that is opened again in
//! place, and a last session in which every ack has a witness.
//!
//! Not here: the ordinary ends (`world`).

use std::time::Duration;

use sapwood::io::sim::Faults;
use sapwood::{Error, ShardId};

use super::{Session, World};
use crate::check;
use crate::cut::CutStorage;
use crate::ensure;
use crate::model::Verdict;
use crate::script::chance;

/// Stands for the last session where numbers of sessions stand.
const LAST: u64 = u64::MAX >> 32;

/// Times that each log is appended to in the last session.
const WITNESSED: usize = 3;

/// Turns of a millisecond each, after which a shard rests: marks are written, seals are over.
const REST_TURNS: usize = 60;

/// So often, when there is something to collect: a turn ends with the first thing that does.
const RESTS_MAX: usize = 20;

impl World {
    /// Opens halted shards again, beside those that run; what each log has from then on is what
    /// readers saw, and it stays, whatever was in flight.
    pub(super) fn reopen(&mut self, session: &mut Session) -> Verdict {
        self.disk.world().set_faults(Faults::default());
        rest(session);
        self.collect(session)?;
        for shard in 0..self.config.shards {
            match session.engine.reopen_shard_driven(ShardId(shard)) {
                Ok(driver) => {
                    let bound = driver.bind().map_err(|e| format!("binding: {e}"))?;
                    session.drivers[usize::from(shard)] = bound;
                }
                Err(Error::Invalid(_)) => {} // it runs
                Err(error) => return Err(format!("reopening shard {shard}: {error}")),
            }
        }
        session.halted = false;
        check::after_open(&session.engine, &mut self.model)
            .map_err(|what| format!("reopened: {what}"))?;
        session.begin_anew(self.model.logs.keys().cloned().collect());
        self.append_everywhere(session)?;
        self.summary.reopened += 1;
        Ok(())
    }

    /// A last session: what it acks, and all before, has a mark behind it when the power goes.
    ///
    /// # Errors
    /// When the engine breaks its contract.
    pub fn witness(&mut self) -> Verdict {
        self.rng = chance(self.seed, LAST, None);
        self.disk.world().set_faults(Faults::default());
        let mut session = self.open()?;
        if session.names.is_empty() {
            self.create(&mut session, 3)?;
        }
        for _ in 0..WITNESSED {
            self.append_everywhere(&mut session)?;
        }
        self.crash();
        Ok(())
    }

    /// What is under way when the power fails: staged, at the disk, or there and not told yet.
    pub(super) fn in_flight(&mut self, session: &mut Session) -> Verdict {
        for log in 0..session.names.len().min(1 + self.rng.below(4) as usize) {
            self.append(session, log, 1, 600)?;
        }
        for _ in 0..self.rng.below(3) {
            for driver in &mut session.drivers {
                driver.turn(Duration::ZERO);
            }
        }
        Ok(())
    }

    /// One record for each log, and a rest: all of them are acked.
    fn append_everywhere(&mut self, session: &mut Session) -> Verdict {
        for log in 0..session.names.len() {
            self.append(session, log, 1, 400)?;
        }
        for _ in 0..RESTS_MAX {
            rest(session);
            self.collect(session)?;
            if session.pending.is_empty() {
                break;
            }
        }
        ensure!(session.pending.is_empty(), "an append is not answered on a disk that works");
        Ok(())
    }

    /// The same directory and truth once more, after a power cut with these faults.
    #[must_use]
    pub fn twin(&mut self, faults: Faults) -> Self {
        self.disk.world().set_faults(faults);
        let image = self.disk.world().crash();
        self.disk.world().set_faults(Faults::default());
        image.set_faults(Faults::default());
        let seed = self.rng.next_u64();
        let mut twin = Self::new(seed, self.weather);
        (twin.disk, twin.store) = (CutStorage::new(image), self.store.clone());
        (twin.model, twin.config) = (self.model.clone(), self.config.clone());
        twin
    }

    /// Turns one bit of one file, on the medium. `None`: there was nothing but zeros.
    pub fn turn_one_bit(&mut self) -> Option<String> {
        let world = self.disk.world().clone();
        let mut files = sapwood::io::Storage::list(&world).ok()?;
        if self.rng.below(2) == 0 {
            // Where the last records are: the segments that were never sealed are not cut to
            // length.
            let whole = |name: &String| world.image(name).is_ok_and(|bytes| bytes.len() == 1 << 20);
            files.retain(|name| name.starts_with("segment-") && whole(name));
        }
        let name = files.get(self.rng.below(files.len() as u64) as usize)?;
        let bytes = world.image(name).ok()?;
        let written = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
        let sectors = bytes.chunks(512).enumerate().filter(|(_, sector)| written(sector));
        let sectors: Vec<u64> = sectors.map(|(at, _)| at as u64 * 512).collect();
        let sector = sectors.get(self.rng.below(sectors.len() as u64) as usize)?;
        let (offset, bit) = (sector + self.rng.below(512), self.rng.below(8) as u8);
        world.flip(name, offset, bit).ok()?;
        Some(format!("{name}, byte {offset}, bit {bit}"))
    }
}

impl Session {
    /// Handles from before are of no use any more.
    fn begin_anew(&mut self, names: Vec<String>) {
        self.writers = names.iter().map(|_| None).collect();
        self.fenced = names.iter().map(|_| None).collect();
        self.names = names;
        self.pending.clear();
        self.groups.clear();
        self.standing.clear();
    }
}

fn rest(session: &mut Session) {
    for _ in 0..REST_TURNS {
        for driver in &mut session.drivers {
            driver.turn(Duration::from_millis(1));
        }
    }
}
