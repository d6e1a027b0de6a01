//! Which run of the open batch the next record of a log belongs to.
//!
//! Invariants: the records of a run stand near each other: what comes farther than
//! [`RUN_GAP_BYTES`] behind the last begins a run of its own, so that a reader of one log reads
//! what is near its records, and not whole batches of many logs.
//!
//! Not here: LSNs and time (`intake`), how runs are written (`format::runs`).

use super::Staging;
use crate::format::Run;
use crate::lsn::{Epoch, LogId, Lsn};

/// The most that may stand between two records of one run.
pub(crate) const RUN_GAP_BYTES: usize = 16 << 10;

impl Staging {
    /// Whether a record of this log at byte `at` of the open batch begins another run. Never told
    /// too few: what a batch has room for is reckoned by it.
    pub(super) fn begins_run(&self, index: usize, seq: u64, at: usize) -> bool {
        let log = &self.logs[index];
        let end = self.run_ends.get(log.run as usize).map_or(0, |end| *end as usize);
        log.run_seq != seq || at > end + RUN_GAP_BYTES
    }

    /// The run that takes records of this log from byte `at` up to `end`.
    pub(super) fn run_at(
        &mut self,
        id: LogId,
        epoch: Epoch,
        seq: u64,
        at: usize,
        end: usize,
    ) -> &mut Run {
        let index = id.counter() as usize;
        if self.begins_run(index, seq, at) {
            let log = &mut self.logs[index];
            (log.run_seq, log.run) = (seq, self.runs.len() as u32);
            let (first_lsn, at) = (Lsn(log.next_lsn), at as u32);
            self.runs.push(Run { log: id, epoch, first_lsn, at, ..Run::default() });
            self.run_ends.push(0);
        }
        let run = self.logs[index].run as usize;
        self.run_ends[run] = end as u32;
        &mut self.runs[run]
    }
}
