//! What takes space back in a simulated life, and what keeps it from doing so: collection, holds,
//! the archive, backups.
//!
//! Not here: what must hold after an open (`check`), the archive itself (`store`).

use std::sync::Arc;

use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Hold, SealedSegment};

use super::{Session, World};
use crate::check;
use crate::ensure;
use crate::model::Verdict;

/// Holds of one session at once.
const HOLDS_MAX: usize = 3;

/// A hold, and the files that it keeps.
pub(super) struct Kept {
    hold: Hold,
    /// Sealed segments when it was taken.
    files: Vec<SealedSegment>,
}

impl World {
    /// Collects; files that nobody needs are gone then, those that are held are there.
    pub(super) fn gc(&mut self, session: &mut Session) -> Verdict {
        let report = match session.engine.gc() {
            Ok(report) => report,
            Err(error) => return self.excuse(session, &error),
        };
        session.collected |= report.freed_segments + report.relocated_segments > 0;
        let files = Storage::list(&self.disk).map_err(|e| e.to_string())?;
        let segments = files.iter().filter(|name| name.starts_with("segment-")).count();
        // Besides those that are kept: a spare of each shard, one in preparation, one being filled.
        let most = report.kept.len() + 3 * usize::from(self.config.shards);
        let failing = self.weather.failing || self.disk.is_cut();
        ensure!(failing || segments <= most, "{segments} segments, at most {most} are needed");
        self.held(session)
    }

    pub(super) fn thin(&mut self, session: &mut Session, stays: usize) -> Verdict {
        for log in (0..session.names.len()).filter(|log| *log != stays) {
            self.truncate(session, log, 100)?;
            if session.halted {
                return Ok(());
            }
        }
        self.gc(session)
    }

    pub(super) fn hold(&mut self, session: &mut Session) -> Verdict {
        if session.holds.len() == HOLDS_MAX {
            return Ok(());
        }
        match session.engine.hold("a copy") {
            Ok(hold) => {
                let files = session.engine.sealed_segments();
                session.holds.push(Kept { hold, files });
                Ok(())
            }
            Err(error) => self.excuse(session, &error),
        }
    }

    pub(super) fn release(&mut self, session: &mut Session) -> Verdict {
        self.held(session)?;
        session.holds.clear();
        Ok(())
    }

    /// What is held is there, in the same life of its file.
    fn held(&mut self, session: &mut Session) -> Verdict {
        let holds = std::mem::take(&mut session.holds);
        for Kept { hold, files } in &holds {
            if let Err(error) = hold.check() {
                return self.excuse(session, &error);
            }
            for segment in files.iter().filter(|_| !self.disk.is_cut()) {
                for name in [&segment.file, &segment.index] {
                    let there = self.disk.world().image(name).is_ok();
                    ensure!(there, "{name} was held, and is gone");
                }
                let nonce = self.nonce(&segment.file)?;
                ensure!(nonce == segment.nonce, "{} was held, and is another", segment.file);
            }
        }
        session.holds = holds;
        Ok(())
    }

    fn nonce(&self, name: &str) -> Verdict<u64> {
        let bytes = self.disk.world().image(name).map_err(|e| format!("{name}: {e}"))?;
        let header = sapwood::format::SegmentHeader::decode(&bytes);
        Ok(header.map_err(|flaw| format!("{name}: {flaw}"))?.nonce)
    }

    /// Copies what is sealed and not in the archive, oldest first, under a hold, as a tier does.
    pub(super) fn tier(&mut self, session: &mut Session) -> Verdict {
        let hold = match session.engine.hold("the tier") {
            Ok(hold) => hold,
            Err(error) => return self.excuse(session, &error),
        };
        for sealed in session.engine.sealed_segments().iter().filter(|sealed| !sealed.tiered) {
            if self.disk.is_cut() || self.weather.failing && hold.check().is_err() {
                return Ok(()); // a ghost copies what never was
            }
            let file = self.disk.world().image(&sealed.file);
            let file = file.map_err(|e| format!("{} is sealed: {e}", sealed.file))?;
            self.store.copy(sealed, &file)?;
            if let Err(error) = session.engine.set_tiered(sealed.shard, sealed.segment) {
                return self.excuse(session, &error);
            }
            self.summary.tiered += 1;
        }
        Ok(())
    }

    /// A backup holds all that was acked; the power fails right after it was made, and it opens.
    pub(super) fn backup(&mut self, session: &mut Session) -> Verdict {
        self.collect(session)?;
        let target = SimStorage::new(self.rng.next_u64(), Faults::default());
        let report = session.engine.checkpoint_on(&(Arc::new(target.clone()) as _), &mut |_| ());
        let report = match report {
            Ok(report) => report,
            Err(error) => return self.excuse(session, &error),
        };
        if self.disk.is_cut() {
            return Ok(()); // of what the power took nothing can be told
        }
        let told = |what: &dyn std::fmt::Display| format!("the backup: {what}");
        ensure!(report.damages.is_empty(), "the backup is damaged: {:?}", report.damages);
        let opened = self.open_at(Arc::new(target.crash()), self.config.clone());
        let (copy, drivers) = opened.map_err(|error| told(&error))?;
        check::after_open(&copy, &mut self.model.clone()).map_err(|what| told(&what))?;
        let damages: usize = copy.recovery().iter().map(|shard| shard.damages.len()).sum();
        ensure!(damages == 0, "the backup has {damages} damages");
        drop((copy, drivers));
        self.summary.backups += 1;
        Ok(())
    }
}
