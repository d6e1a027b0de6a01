//! Which stretches of which objects make up a log, in order: what a cut dropped and what was there
//! before is left out, what is missing is told.
//!
//! Invariants: what is taken of a log is dense from its start, but for the holes that are told, and
//! ascends; its stretches must be shown in the order in which their segments were written.
//! Not here: what is known of the logs (`ledger`), reading objects (`survey`, `restore`).

use std::collections::HashMap;
use std::ops::Range;

use sapwood::format::DamageFacts;
use sapwood::{Epoch, Import, LogId, Lsn};

use crate::ledger::Ledger;
use crate::object::Stretch;

/// How far a log is.
#[derive(Clone, Copy, Debug)]
struct At {
    due: Lsn,
    epoch: Epoch,
    time_us: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Weave<'a> {
    ledger: &'a Ledger,
    logs: HashMap<LogId, At>,
    holes: Vec<DamageFacts>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The LSN behind its last record.
    pub tail: Lsn,
    /// The highest epoch of its records.
    pub epoch: Epoch,
    /// The time of its last record.
    pub time_us: u64,
}

impl<'a> Weave<'a> {
    pub(crate) fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, logs: HashMap::new(), holes: Vec::new() }
    }

    /// The LSNs of the next stretch that count; empty when none does.
    pub(crate) fn take(&mut self, stretch: &Stretch) -> Range<Lsn> {
        let (first, end) = self.clip(stretch);
        let Some(at) = self.at(stretch.log) else { return Lsn(0)..Lsn(0) };
        let from = first.max(at.due);
        if from >= end {
            return from..from;
        }
        let due = at.due;
        at.due = end;
        at.epoch = at.epoch.max(stretch.last_epoch);
        at.time_us = at.time_us.max(stretch.last_time_us);
        if due < from {
            self.hole(stretch.log, due..from);
        }
        from..end
    }

    /// The next stretch cannot be read: what counts of it is missing.
    pub(crate) fn miss(&mut self, stretch: &Stretch) {
        let taken = self.take(stretch);
        if taken.start < taken.end {
            self.hole(stretch.log, taken);
        }
    }

    /// Where a log ends, and what of it is missing.
    pub(crate) fn end(&self, log: LogId) -> Option<End> {
        let start = self.ledger.logs.get(&log)?.facts.start;
        let at = self.logs.get(&log).copied();
        let at = at.unwrap_or(At { due: start, epoch: Epoch(0), time_us: 0 });
        Some(End { tail: at.due.max(start), epoch: at.epoch, time_us: at.time_us })
    }

    /// What is missing, by log.
    pub(crate) fn holes(&self) -> &[DamageFacts] {
        &self.holes
    }

    fn at(&mut self, log: LogId) -> Option<&mut At> {
        let start = self.ledger.logs.get(&log)?.facts.start;
        Some(self.logs.entry(log).or_insert(At { due: start, epoch: Epoch(0), time_us: 0 }))
    }

    /// First LSN and end of what no cut dropped. Within a stretch epochs ascend with the LSNs, so a
    /// cut takes an end of it, or nothing.
    fn clip(&self, stretch: &Stretch) -> (Lsn, Lsn) {
        let cuts = self.ledger.logs.get(&stretch.log).map_or(&[][..], |known| &known.cuts);
        let takes = cuts.iter().filter(|(epoch, _)| *epoch > stretch.last_epoch);
        let end = takes.map(|(_, first)| *first).min().unwrap_or(Lsn(u64::MAX));
        (stretch.first_lsn, end.min(stretch.last_lsn.next()))
    }

    fn hole(&mut self, log: LogId, lsns: Range<Lsn>) {
        let parts = self.ledger.divide(log, lsns.start, Lsn(lsns.end.0 - 1));
        self.holes.extend(
            parts.into_iter().map(|(first, last, lost)| Import::missing(log, first, last, lost)),
        );
    }
}

#[cfg(test)]
mod tests {
    use sapwood::format::manifest::LogFacts;
    use sapwood::format::{Edit, Frame};

    use super::*;

    const LOG: LogId = LogId(7);

    fn ledger(start: u64, cuts: &[(u32, u64)]) -> Ledger {
        let mut edits =
            vec![Edit::Log(LogFacts { id: LOG, start: Lsn(start), ..LogFacts::default() })];
        edits.extend(cuts.iter().map(|(epoch, first)| Edit::Cut {
            log: LOG,
            epoch: Epoch(*epoch),
            first_lsn: Lsn(*first),
        }));
        let mut ledger = Ledger::default();
        ledger.learn(&Frame { edits, ..Frame::default() });
        ledger
    }

    fn stretch(first: u64, last: u64, epoch: u32) -> Stretch {
        let (first_lsn, last_lsn, last_epoch) = (Lsn(first), Lsn(last), Epoch(epoch));
        Stretch { log: LOG, first_lsn, last_lsn, last_epoch, ..Stretch::default() }
    }

    fn woven(ledger: &Ledger, stretches: &[Stretch]) -> (Vec<(u64, u64)>, Vec<(u64, u64)>, u64) {
        let mut weave = Weave::new(ledger);
        let taken = stretches.iter().map(|one| weave.take(one));
        let taken = taken.map(|lsns| (lsns.start.0, lsns.end.0)).filter(|(a, b)| a < b).collect();
        let holes = weave.holes().iter().map(|d| (d.first_lsn.0, d.last_lsn.map_or(0, |l| l.0)));
        (taken, holes.collect(), weave.end(LOG).map_or(0, |end| end.tail.0))
    }

    #[test]
    fn what_a_cut_dropped_is_left_out() {
        // 0..=20 in epoch 1, cut at 12, on in epoch 2, cut again at 5 by epoch 3.
        let all = [stretch(0, 20, 1), stretch(12, 15, 2), stretch(5, 9, 3), stretch(10, 11, 3)];
        let twice = ledger(0, &[(2, 12), (3, 5)]);
        assert_eq!(woven(&twice, &all), (vec![(0, 5), (5, 10), (10, 12)], vec![], 12));
        let once = ledger(0, &[(2, 12)]);
        assert_eq!(woven(&once, &all[..2]), (vec![(0, 12), (12, 16)], vec![], 16));
        // The cut is known, what followed it is not there yet.
        assert_eq!(woven(&once, &all[..1]), (vec![(0, 12)], vec![], 12));
    }

    #[test]
    fn what_is_missing_is_told_and_what_is_there_twice_is_taken_once() {
        let all = [stretch(0, 4, 1), stretch(3, 6, 1), stretch(9, 9, 1)];
        assert_eq!(woven(&ledger(0, &[]), &all), (vec![(0, 5), (5, 7), (9, 10)], vec![(7, 8)], 10));
        assert_eq!(woven(&ledger(6, &[]), &all), (vec![(6, 7), (9, 10)], vec![(7, 8)], 10));
        assert_eq!(woven(&ledger(20, &[]), &all), (vec![], vec![], 20), "all below the start");
        let known = ledger(0, &[]);
        let mut weave = Weave::new(&known);
        weave.miss(&stretch(0, 4, 1));
        assert_eq!(weave.take(&stretch(5, 6, 1)), Lsn(5)..Lsn(7));
        assert_eq!(weave.holes(), [Import::missing(LOG, Lsn(0), Lsn(4), false)]);
        assert_eq!(weave.take(&Stretch { log: LogId(8), ..stretch(0, 1, 1) }), Lsn(0)..Lsn(0));
    }
}
