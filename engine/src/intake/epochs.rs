//! Epochs and tails of logs as appends meet them: who may append, where; how a cut begins.
//!
//! Invariants:
//! - All of it is decided under the staging lock, in the order of appends.
//! - While a cut is under way nobody appends: the writer that makes it finds no room, every other
//!   one is fenced. So no record of the new epoch is staged before the cut is durable.
//! - A start is never asked beyond the tail, nor a cut below a start that was asked: of the edits
//!   of both, whichever comes first, a log never begins behind its tail.
//!
//! Crash story: a cut to 3 has handed over its edit, and the log is truncated at 7, which readers
//! still see. The start is 7 then, the tail 3: what is appended at 3 is acked and `Trimmed`.
//!
//! Not here: making a cut durable (`cut`), staging (`intake`).

use std::sync::Arc;
use std::time::Duration;

use super::{Intake, LogStage, Staged, Staging};
use crate::error::{Error, Result};
use crate::io::buf::StageGuard;
use crate::lsn::{Epoch, LogId, Lsn};
use crate::planted::{Bug, planted};
use crate::races::{Race, raced};

impl LogStage {
    pub(super) fn check_epoch(&self, epoch: Epoch) -> Result<()> {
        if self.epoch == epoch || planted(Bug::FenceForgotten) {
            return Ok(());
        }
        let its_own = self.cutting && self.epoch.0 == epoch.0 + 1;
        Err(if its_own { Error::Busy } else { Error::Fenced { epoch: self.epoch } })
    }

    pub(super) fn next_epoch(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.cutting = false;
        // A run belongs to one epoch: the next record opens another.
        self.run_seq = 0;
    }
}

impl Staging {
    /// Whether the log ends where a conditional append expects it. What is final comes first: a
    /// fenced writer is told that, whatever the tail.
    pub(super) fn expect_tail(
        &self,
        intake: &Intake,
        id: LogId,
        epoch: Epoch,
        expected: Lsn,
    ) -> Result<()> {
        if let Some(error) = self.refused(intake) {
            return Err(error);
        }
        let log = &self.logs[id.counter() as usize];
        log.check_epoch(epoch)?;
        let tail = Lsn(log.next_lsn);
        if tail == expected { Ok(()) } else { Err(Error::Conflict { tail }) }
    }
}

impl Intake {
    /// What a flush waits for: the log's tail, and the batch with which everything staged before is
    /// durable.
    pub(crate) fn flush(&self, slot: usize) -> Staged {
        let guard = self.ring.lock();
        let LogStage { epoch, next_lsn, last_time_us, .. } = guard.logs[slot];
        let (seq, first) = (staged_last(&guard), Lsn(next_lsn));
        Staged { seq, epoch, first, time_us: last_time_us }
    }

    /// The place of an ephemeral record: before the log's next LSN. `enter` runs under the lock, so
    /// that the order of these records is that of appends. A full disk does not matter to them.
    pub(crate) fn beside(
        &self,
        slot: usize,
        epoch: Epoch,
        enter: impl FnOnce(Staged),
    ) -> Result<()> {
        let guard = self.ring.lock();
        match guard.refused(self) {
            None | Some(Error::NoSpace(_)) => {}
            Some(error) => return Err(error),
        }
        let log = &guard.logs[slot];
        log.check_epoch(epoch)?;
        let time_us = self.clock.wall_us().max(log.last_time_us);
        let (seq, first) = (staged_last(&guard), Lsn(log.next_lsn));
        enter(Staged { seq, epoch, first, time_us });
        Ok(())
    }

    /// Fences the log and takes its tail back to `lsn`, for the writer of `epoch`. Until
    /// [`end_cut`](Self::end_cut) nobody appends. Gives the cut's epoch, the tail that there was
    /// and the batch that all staged before is durable with.
    pub(crate) fn begin_cut(&self, id: LogId, epoch: Epoch, lsn: Lsn) -> Result<(Epoch, Lsn, u64)> {
        let mut guard = self.ring.lock();
        if let Some(error) = guard.refused(self) {
            return Err(error);
        }
        let before = staged_last(&guard);
        let log = &mut guard.logs[id.counter() as usize];
        log.check_epoch(epoch).map_err(|error| super::deleted(id, error))?;
        let (start, tail) = (log.start_asked, log.next_lsn);
        if !(start..=tail).contains(&lsn.0) {
            drop(guard);
            let what = format!("a cut at {lsn}, outside of the log: {start} to {tail}");
            return Err(Error::Invalid(what));
        }
        log.next_epoch();
        log.next_lsn = lsn.0;
        log.cutting = true;
        Ok((log.epoch, Lsn(tail), before))
    }

    /// The cut that began `epoch` is taken back, of which nothing was handed to the disk: the log
    /// goes on at `tail` under the epoch that it had. Nobody appended meanwhile, so nothing was
    /// staged under the number, which may be given again. False when a newer epoch has begun.
    pub(crate) fn take_back_cut(&self, slot: usize, epoch: Epoch, tail: Lsn) -> bool {
        let mut guard = self.ring.lock();
        let log = &mut guard.logs[slot];
        let ours = log.cutting && log.epoch == epoch;
        if ours {
            (log.epoch, log.next_lsn) = (Epoch(epoch.0 - 1), tail.0);
        }
        drop(guard);
        ours
    }

    /// The log's start is about to move to `start`: whoever was told yes hands the edit over.
    /// Beyond the tail, which a cut may just have taken back, the tail is told.
    pub(crate) fn ask_start(&self, slot: usize, start: Lsn) -> Result<(), Lsn> {
        let log = &mut self.ring.lock().logs[slot];
        if start.0 > log.next_lsn {
            return Err(Lsn(log.next_lsn));
        }
        log.start_asked = log.start_asked.max(start.0);
        Ok(())
    }

    /// The end of batch `seq`, or `NoSpace` when there is no room for it.
    pub(crate) fn drained(&self, seq: u64) -> Option<Result<()>> {
        match self.outcome(seq) {
            Some(outcome) => Some(outcome.map_err(|cause| Error::Halted { cause })),
            None => self.without_room_for_staged().map(Err),
        }
    }

    /// As [`sleep`](Self::sleep), until [`drained`](Self::drained) says something.
    pub(crate) fn sleep_drained(&self, seq: u64, limit: Option<Duration>) -> Option<Result<()>> {
        self.word(seq).sleep(&*self.clock, limit, || self.drained(seq))
    }

    /// The disk is full, and what is staged waits for a segment.
    pub(crate) fn without_room_for_staged(&self) -> Option<Error> {
        self.refusal().filter(|error| matches!(error, Error::NoSpace(_)))
    }

    /// Has everybody who waits for a batch look again.
    pub(super) fn wake_words(&self) {
        let mut scratch = Vec::new();
        for seq in 0..super::WORDS as u64 {
            self.word(seq).notify(&mut scratch);
        }
    }

    /// The cut that began `epoch` is durable, or given up: appends are judged by their epoch again.
    pub(crate) fn end_cut(&self, slot: usize, epoch: Epoch) {
        let mut guard = self.ring.lock();
        let log = &mut guard.logs[slot];
        if log.epoch == epoch {
            log.cutting = false;
        }
        let next = guard.waiting.front().map(Arc::clone);
        drop(guard);
        if let (Some(next), false) = (next, raced(Race::CutEndSilent)) {
            next.wake();
        }
    }
}

/// The batch with which all that was staged by now is durable.
pub(super) fn staged_last(guard: &StageGuard<'_, Staging>) -> u64 {
    if guard.open_bytes() != 0 { guard.seq() } else { guard.seq() - 1 }
}
