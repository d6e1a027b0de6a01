//! Cutting the suffix of a log: a new epoch that begins below the tail, and those who wait for it.
//!
//! Invariants, in this order: nobody appends any more and the tail is taken back (`intake`) → all
//! that was staged before is durable → the `cut` edit is durable → readers see it → the writer and
//! its clones go on under the new epoch. So (epoch, LSN) never names two records, and what stands
//! in the segments never tells more than the manifest does.
//!
//! Crash story: the power goes before the edit is durable. The log is as it was, or cut, with
//! nothing behind it; nobody was told, and nothing was staged under the new epoch.
//!
//! A full disk: a cut that waits for what has no room ends with `NoSpace` and is taken back whole,
//! as nothing of it was handed over. (It waited for space, and with it everybody who appends.)
//!
//! Cancellation: a cut that is dropped or fails on the way fences its writer and its clones. The
//! next writer finds whether the log was cut; in the same life of the engine it was.
//!
//! Not here: what a cut means for records (`cuts`), for the manifest and recovery (`manifest`,
//! `work`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::cuts::CUTS_MAX;
use crate::driver;
use crate::error::{Error, Result};
use crate::format::manifest::Edit;
use crate::inner::wait;
use crate::lsn::{Epoch, LogId, Lsn, Position};
use crate::planted::{Bug, planted};
use crate::reply::Reply;
use crate::shard::Request;
use crate::view::View;
use crate::writer::{Core, Writer};

/// The edit that begins an epoch. It is a cut when it begins below what is durable: all that was
/// staged before is by now. (A cut that was given up on its way is carried through by the next
/// epoch.)
pub(crate) fn naming(view: &View, log: LogId, first: Position) -> Edit {
    let Position { epoch, lsn: first_lsn } = first;
    let lock = view.lock();
    let below = lock.log(log).is_some_and(|log| log.epoch < epoch && log.next > first_lsn);
    if below && !planted(Bug::CutForgotten) {
        Edit::Cut { log, epoch, first_lsn }
    } else {
        Edit::Epoch { log, epoch, first_lsn }
    }
}

impl Writer {
    /// Drops the suffix of the log from `lsn` on, all that was staged included, and goes on there
    /// under a new epoch, which it resolves to. This writer and its clones share the new epoch;
    /// what they append meanwhile waits (`append`) or gets `Busy`. Readers that stand beyond the
    /// cut, or ask for the position of a record that was dropped, get `Diverged`.
    ///
    /// Begins at the call. `.await` it, or [`wait`](Cut::wait) for it; both wait until all that was
    /// staged before is durable. Dropped before it has resolved, it fences this writer.
    ///
    /// # Errors
    /// As the output. `Invalid` below the log's start, beyond its tail, or when the log remembers
    /// too many cuts (1,024; truncating it makes room); `Fenced`; `Busy` when a clone is cutting;
    /// `NoSpace`, `Halted`, `Closed` as for an append: these changed nothing. `NoSpace` may also
    /// come later, when the disk fills up before all that was staged is durable: it changed nothing
    /// either, the writer goes on, try again. `Halted`, `Closed` and `Undriven` may come later too:
    /// then this writer is fenced, and the log may be cut.
    #[must_use = "a cut that is not awaited may not happen"]
    pub fn cut_to(&self, lsn: Lsn) -> Cut {
        let core = Arc::clone(&self.core);
        let state = match begin(&core, lsn) {
            Ok((first, tail, before)) => State::Draining { first, tail, before },
            Err(error) => State::Refused(error),
        };
        Cut { core, state }
    }
}

fn begin(core: &Core, lsn: Lsn) -> Result<(Position, Lsn, u64)> {
    let epoch = core.epoch();
    let (start, cuts) = {
        let view = core.port.view.lock();
        let Some(log) = view.log(core.id) else {
            return Err(Error::NoSuchLog(core.id.to_string()));
        };
        (log.start, log.cuts().len())
    };
    if lsn < start {
        return Err(Error::Invalid(format!("a cut at {lsn}, below the start {start}")));
    }
    if cuts >= CUTS_MAX {
        let what = format!("the log remembers {cuts} cuts; truncate it to make it forget some");
        return Err(Error::Invalid(what));
    }
    let (epoch, tail, before) = core.port.intake.begin_cut(core.id, epoch, lsn)?;
    Ok((Position { epoch, lsn }, tail, before))
}

/// A cut under way; see [`Writer::cut_to`].
#[must_use = "a cut that is not awaited may not happen"]
pub struct Cut {
    core: Arc<Core>,
    state: State,
}

enum State {
    Refused(Error),
    /// Until the batch `before` is durable. The log ended at `tail`.
    Draining {
        first: Position,
        tail: Lsn,
        before: u64,
    },
    /// Until the edit is durable.
    Naming {
        first: Position,
        reply: Arc<Reply>,
    },
    Done,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Refused(_) => "refused",
            State::Draining { .. } => "draining",
            State::Naming { .. } => "being made durable",
            State::Done => "done",
        };
        write!(f, "Cut(log {}, {state})", self.core.id)
    }
}

impl Cut {
    /// Blocks until the cut is durable. On the thread that drives the log's shard, drives it.
    ///
    /// # Errors
    /// As [`Writer::cut_to`].
    pub fn wait(mut self) -> Result<Position> {
        if let State::Draining { before, .. } = self.state {
            let drained = driver::drained(&self.core.port.intake, before);
            self.drained(drained.ok_or(Error::Undriven)?)?;
        }
        if let State::Naming { reply, .. } = &self.state {
            let answer = wait(&self.core.port, reply);
            return self.named(answer);
        }
        self.refused()
    }

    fn drained(&mut self, outcome: Result<()>) -> Result<()> {
        let State::Draining { first, tail, .. } = self.state else { return Ok(()) };
        if let Err(Error::NoSpace(_)) = outcome {
            self.core.port.intake.take_back_cut(self.core.slot(), first.epoch, tail);
            self.core.port.intake.end_cut(self.core.slot(), Epoch(first.epoch.0 - 1));
            self.state = State::Done;
        }
        outcome?;
        let (port, id) = (&self.core.port, self.core.id);
        let edits = vec![naming(&port.view, id, first)];
        // By the shard, before anybody is told: what is cut durably is seen by nobody any more,
        // even if nobody waits for this any more.
        let view = Arc::clone(&port.view);
        let show = move || view.begin_epoch(id, first.epoch, first.lsn);
        let reply = Reply::after(Box::new(show));
        if !port.force_request(Request::Edits(edits, Arc::clone(&reply))) {
            return Err(Error::Closed);
        }
        self.state = State::Naming { first, reply };
        Ok(())
    }

    fn named(&mut self, answer: Result<()>) -> Result<Position> {
        let State::Naming { first, .. } = self.state else { return self.refused() };
        answer?;
        self.core.go_on(first.epoch);
        self.core.port.intake.end_cut(self.core.slot(), first.epoch);
        self.state = State::Done;
        Ok(first)
    }

    fn refused(&mut self) -> Result<Position> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Refused(error) => Err(error),
            _ => Err(Error::Closed),
        }
    }

    fn step(&mut self, waker: &Waker) -> Poll<Result<Position>> {
        if let State::Draining { before, .. } = self.state {
            let intake = &self.core.port.intake;
            if intake.drained(before).is_none() {
                intake.register(before, waker);
            }
            let Some(outcome) = intake.drained(before) else { return Poll::Pending };
            self.drained(outcome)?;
        }
        if let State::Naming { reply, .. } = &self.state {
            reply.register(waker);
            return match reply.get() {
                Some(answer) => Poll::Ready(self.named(answer)),
                None => Poll::Pending,
            };
        }
        Poll::Ready(self.refused())
    }
}

impl Future for Cut {
    type Output = Result<Position>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let step = self.step(cx.waker());
        if matches!(step, Poll::Ready(Err(_))) {
            self.give_up();
        }
        step
    }
}

impl Cut {
    /// The writer is not taken along: it is fenced by the epoch that the cut took.
    fn give_up(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if let State::Draining { first, .. } | State::Naming { first, .. } = state {
            self.core.port.intake.end_cut(self.core.slot(), first.epoch);
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.give_up();
    }
}
