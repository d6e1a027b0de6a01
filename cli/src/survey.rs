//! Reading a log from its start to its durable end, noting what cannot be read.
//!
//! Invariant: every LSN from start to end is read, or in a damage, a loss, or behind a failure.

use anyhow::Result;
use sapwood::{Damage, Error, From, Log, LogInfo, Lsn};

use crate::progress::Progress;

/// Damages of one log that are told one by one; more are only counted.
const DAMAGES_MAX: usize = 1000;

/// What reading a log came to.
#[derive(Debug)]
pub(crate) struct Survey {
    pub info: LogInfo,
    pub records: u64,
    pub bytes: u64,
    /// Stretches that cannot be read as they were acked.
    pub damages: Vec<Damage>,
    /// Stretches that someone chose to go on without.
    pub lost: Vec<Damage>,
    /// Why reading ended before the end.
    pub failed: Option<Error>,
}

impl Survey {
    /// Reads the whole log.
    pub(crate) fn of(log: &Log, progress: &mut Progress) -> Result<Self> {
        let info = log.info()?;
        let (damages, lost) = (Vec::new(), Vec::new());
        let mut survey = Self { info, records: 0, bytes: 0, damages, lost, failed: None };
        let mut reader = log.reader(From::Start)?;
        loop {
            match reader.next().wait() {
                Ok(Some(record)) => {
                    survey.records += 1;
                    let bytes = record.payload().len() as u64;
                    survey.bytes += bytes;
                    progress.add(bytes);
                }
                Ok(None) => break,
                Err(Error::Lost(damage)) => survey.lost.push(*damage),
                Err(Error::Corrupt(damage)) => {
                    let behind = damage.last.map(Lsn::next);
                    note(&mut survey.damages, *damage);
                    match behind {
                        Some(behind) if survey.damages.len() < DAMAGES_MAX => reader.seek(behind),
                        _ => break,
                    }
                }
                Err(error) => {
                    survey.failed = Some(error);
                    break;
                }
            }
        }
        Ok(survey)
    }

    /// LSNs that are damaged, as far as that can be told.
    pub(crate) fn damaged_records(&self) -> u64 {
        let count = |damage: &Damage| match damage.last {
            Some(last) => last.0 + 1 - damage.first.0,
            None => 1,
        };
        self.damages.iter().map(count).sum()
    }
}

/// Adds a damage; one that goes on where the last one ended makes it longer.
fn note(damages: &mut Vec<Damage>, damage: Damage) {
    if let Some(before) = damages.last_mut()
        && before.segment == damage.segment
        && before.reason == damage.reason
        && before.last.map(Lsn::next) == Some(damage.first)
    {
        before.last = damage.last;
        return;
    }
    damages.push(damage);
}
