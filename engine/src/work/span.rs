//! Spans as recovery meets them: batches that are kept together, and records that lie across them.
//!
//! Invariants: nothing of a span is kept before its last batch is there, unless a claim covers it,
//! which it does only when all of it was durable. What is held here is in no view.
//!
//! Crash story: two of the three batches of a record land and the power goes. They are whole, they
//! follow, nobody claims them: dropped with the torn tail, and the next epoch begins before them.
//!
//! Not here: which batches are whole (`stream`), what is under a claim (`damage`).

use super::{Found, PART, Work};
use crate::format::Run;
use crate::lsn::SegmentId;
use crate::planted::{Bug, planted};

/// A batch of a span whose last is not there yet.
pub(crate) struct Held {
    found: Found,
    time_us: u64,
    runs: Vec<Run>,
}

/// Records whose fragments go on in the batch after `seq`.
#[derive(Default)]
pub(crate) struct Cut {
    seq: u64,
    records: Vec<Run>,
    at: (SegmentId, u64),
}

impl Cut {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Work<'_> {
    /// Takes a batch that is whole, or claimed: into the view, or, of a span, when that is whole.
    pub(crate) fn accept(&mut self, found: &Found, time_us: u64, runs: &[Run]) {
        if !found.continues && self.span.is_empty() {
            self.keep(found, time_us, runs);
            return;
        }
        (self.expected, self.prev_crc) = (found.seq + 1, found.crc);
        self.span.push(Held { found: *found, time_us, runs: runs.to_vec() });
        if !found.continues {
            self.keep_span();
        }
    }

    /// Takes what is held: its last batch is there, or a claim says that it was.
    pub(crate) fn keep_span(&mut self) {
        for held in std::mem::take(&mut self.span) {
            self.keep(&held.found, held.time_us, &held.runs);
        }
    }

    /// Takes what is held when a claim covers its beginning: then it covers all of it.
    pub(crate) fn keep_span_if_claimed(&mut self) {
        if self.span.first().is_some_and(|held| held.found.seq <= self.claim) {
            self.keep_span();
        }
    }

    /// Drops the part of a span that the torn tail left; gives how many batches that were.
    pub(crate) fn drop_span(&mut self) -> u64 {
        if planted(Bug::TornSpanKept) {
            self.keep_span();
        }
        let span = std::mem::take(&mut self.span);
        if let Some(first) = span.first() {
            (self.expected, self.prev_crc) = (first.found.seq, first.found.prev_crc);
        }
        span.len() as u64
    }

    /// Looks whether records that were cut at the end of the last batch go on here, and those that
    /// go on here were begun there. What does not is damaged.
    pub(crate) fn join(&mut self, found: &Found, runs: &[Run]) {
        let cut = std::mem::take(&mut self.cut);
        let at = (found.segment, found.offset);
        let same =
            |a: &Run, b: &Run| (a.log, a.epoch, a.first_lsn) == (b.log, b.epoch, b.first_lsn);
        let adjoins = cut.seq + 1 == found.seq;
        let goes_on =
            |open: &Run| adjoins && runs.iter().any(|run| run.continued && same(run, open));
        for open in cut.records.iter().filter(|open| !goes_on(open)) {
            self.damaged_run(open, cut.at.0, cut.at.1, PART);
        }
        for run in runs.iter().filter(|run| run.continued) {
            if !adjoins || !cut.records.iter().any(|open| same(run, open)) {
                self.damaged_run(&Run { count: 1, ..*run }, at.0, at.1, PART);
            }
        }
        let last = |run: &Run| Run { first_lsn: run.last_lsn(), count: 1, ..*run };
        let records = runs.iter().filter(|run| run.continues).map(last).collect();
        self.cut = Cut { seq: found.seq, records, at };
    }

    /// No batch follows: records that were cut at the end of the last are damaged.
    pub(crate) fn end_joins(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        for open in &cut.records {
            self.damaged_run(open, cut.at.0, cut.at.1, PART);
        }
    }
}
