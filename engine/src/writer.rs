//! Writers: appending to a log, and waiting for what was appended.
//!
//! Invariants: a record is staged at the call, before any poll; a ticket resolves once, after its
//! batch is durable or its fate is unknown. Clones of a writer share its epoch.
//!
//! Cancellation: dropping a [`Ticket`] changes nothing, the record is written all the same.
//! Dropping an [`Append`] that still waits for room withdraws it; later, as for a ticket.
//!
//! Not here: staging itself (`intake`), fencing (`log`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::driver;
use crate::error::{Cause, Error, Rejected, Result};
use crate::intake::{RoomWait, Staged};
use crate::lsn::{Epoch, LogId, Position};
use crate::record::Records;
use crate::shard::Port;

/// Appends to one log, under one epoch. Cheap to clone; clones share the epoch.
#[derive(Clone)]
pub struct Writer {
    core: Arc<Core>,
}

struct Core {
    port: Arc<Port>,
    id: LogId,
    epoch: Epoch,
    first: Position,
    record_bytes_max: usize,
}

/// A durable append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The position of the (first) record.
    pub position: Position,
    /// How many records: LSNs are consecutive from `position` on.
    pub records: u32,
    /// The time given to them, in microseconds since 1970; never goes back within a log.
    pub timestamp_us: u64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer(log {}, epoch {})", self.core.id, self.core.epoch)
    }
}

impl Writer {
    pub(crate) fn new(
        port: Arc<Port>,
        id: LogId,
        first: Position,
        record_bytes_max: usize,
    ) -> Self {
        let epoch = first.epoch;
        Self { core: Arc::new(Core { port, id, epoch, first, record_bytes_max }) }
    }

    /// This writer's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.core.epoch
    }

    /// Where this writer began: its epoch, and the log's tail when it was opened.
    #[must_use]
    pub fn first(&self) -> Position {
        self.core.first
    }

    /// What any append would be refused with now. While the disk is full, tickets stay pending:
    /// what is staged becomes durable once there is space. This tells who waits for one why.
    ///
    /// # Errors
    /// `NoSpace`, `Halted` or `Closed`.
    pub fn check(&self) -> Result<()> {
        self.core.port.intake.refusal().map_or(Ok(()), Err)
    }

    /// Appends and resolves when it is durable. Staged at the call; without room it waits in order
    /// of arrival. `.await` it on any executor, or [`wait`](Append::wait) for it.
    ///
    /// # Errors
    /// As the output: rejected with the record (`Invalid`, `NoSpace`, `Fenced`, `Halted`,
    /// `Closed`), or, staged and not acked, `Unknown`.
    #[must_use = "an append that is not awaited is not known to be durable"]
    pub fn append<R: Records>(&self, records: R) -> Append<R> {
        let state = match self.core.stage(&records, None) {
            Ok(staged) => State::Staged(self.ticket(staged, records.count())),
            Err(Error::Busy) => {
                let wait = Arc::new(RoomWait::default());
                self.core.port.intake.join_queue(&wait);
                State::Waiting { records, wait }
            }
            Err(error) => State::Rejected(records, error),
        };
        Append { core: Arc::clone(&self.core), state }
    }

    /// Stages and returns at once: the ticket resolves when it is durable.
    ///
    /// # Errors
    /// `Busy` when there is no room, and as [`append`](Self::append); the record comes back.
    pub fn submit<R: Records>(&self, records: R) -> Result<Ticket, Rejected<R>> {
        match self.core.stage(&records, None) {
            Ok(staged) => Ok(self.ticket(staged, records.count())),
            Err(error) => Err(Rejected { record: Some(records), error }),
        }
    }

    /// Appends if there is room now.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), which it is under the name that goes with `append`.
    pub fn try_append<R: Records>(&self, records: R) -> Result<Ticket, Rejected<R>> {
        self.submit(records)
    }

    /// The shard, the log and the epoch, for appends to several logs.
    pub(crate) fn seat(&self) -> (&Arc<Port>, LogId, Epoch) {
        (&self.core.port, self.core.id, self.core.epoch)
    }

    /// Whether these records can be appended at all.
    pub(crate) fn check_records<R: Records>(&self, records: &R) -> Result<()> {
        self.core.check(records)
    }

    fn ticket(&self, staged: Staged, records: usize) -> Ticket {
        Ticket { core: Arc::clone(&self.core), staged, records: records as u32 }
    }
}

impl Core {
    fn stage<R: Records>(&self, records: &R, waiter: Option<&Arc<RoomWait>>) -> Result<Staged> {
        self.check(records)?;
        self.port.intake.stage(self.id, self.epoch, records, waiter)
    }

    fn check<R: Records>(&self, records: &R) -> Result<()> {
        let count = records.count();
        if count == 0 {
            return Err(Error::Invalid("an append of no records".into()));
        }
        for index in 0..count {
            let (properties, payload) = records.part_lens(index);
            if properties + payload > self.record_bytes_max {
                return Err(Error::Invalid(format!(
                    "a record of {} bytes; this directory takes up to {}",
                    properties + payload,
                    self.record_bytes_max
                )));
            }
        }
        Ok(())
    }
}

/// An append that was staged. A future, and [`wait`](Ticket::wait) for threads.
#[must_use = "a ticket that is not awaited tells nobody whether the append is durable"]
pub struct Ticket {
    core: Arc<Core>,
    staged: Staged,
    records: u32,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} of log {})", self.position(), self.core.id)
    }
}

impl Ticket {
    /// The position that the (first) record will have, once it is durable.
    #[must_use]
    pub fn position(&self) -> Position {
        self.staged.position()
    }

    /// Whether the fate of the append is decided.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.core.port.intake.outcome(self.staged.seq).is_some()
    }

    /// Blocks until it is durable. On the thread that drives the log's shard, drives it.
    ///
    /// # Errors
    /// `Unknown` when the shard failed first; `Undriven` when nobody drives it in time (the ticket
    /// is spent, the record may become durable later).
    pub fn wait(self) -> Result<Ack> {
        let intake = &self.core.port.intake;
        let seq = self.staged.seq;
        match driver::outcome(intake, seq) {
            Some(outcome) => self.resolve(outcome),
            None => Err(Error::Undriven),
        }
    }

    fn resolve(&self, outcome: Result<(), Arc<Cause>>) -> Result<Ack> {
        let position = self.position();
        match outcome {
            Ok(()) => {
                Ok(Ack { position, records: self.records, timestamp_us: self.staged.time_us })
            }
            Err(cause) => Err(Error::Unknown { position, cause }),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Ack>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let intake = &self.core.port.intake;
        let seq = self.staged.seq;
        if intake.outcome(seq).is_none() && intake.register(seq, cx.waker()) {
            return Poll::Pending;
        }
        match intake.outcome(seq) {
            Some(outcome) => Poll::Ready(self.resolve(outcome)),
            None => Poll::Pending,
        }
    }
}

/// An append under way; see [`Writer::append`].
#[must_use = "an append that is not awaited is not known to be durable"]
pub struct Append<R> {
    core: Arc<Core>,
    state: State<R>,
}

enum State<R> {
    Waiting { records: R, wait: Arc<RoomWait> },
    Staged(Ticket),
    Rejected(R, Error),
    Done,
}

impl<R> fmt::Debug for Append<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting { .. } => "waiting for room",
            State::Staged(_) => "staged",
            State::Rejected(..) => "rejected",
            State::Done => "done",
        };
        write!(f, "Append(log {}, {state})", self.core.id)
    }
}

// Nothing in it is ever pinned: the record is moved in and out.
impl<R> Unpin for Append<R> {}

impl<R: Records> Append<R> {
    /// Blocks until it is durable.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn wait(mut self) -> Result<Ack, Rejected<R>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Staged(ticket) => {
                    return ticket.wait().map_err(|error| Rejected { record: None, error });
                }
                State::Rejected(records, error) => {
                    return Err(Rejected { record: Some(records), error });
                }
                State::Waiting { records, wait } => {
                    self.state = State::Waiting { records, wait };
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    if self.try_stage(&waker) {
                        continue;
                    }
                    driver::wait_for_room(&self.core.port.intake);
                }
                State::Done => {
                    return Err(Rejected { record: None, error: Error::Closed });
                }
            }
        }
    }

    /// Tries to stage what waits for room; registers the waker first, so that no wake is lost.
    /// False: it still waits.
    fn try_stage(&mut self, waker: &Waker) -> bool {
        let State::Waiting { records, wait } = &self.state else { return true };
        wait.set(waker);
        match self.core.stage(records, Some(wait)) {
            Err(Error::Busy) => return false,
            Ok(staged) => {
                let records = records.count() as u32;
                let core = Arc::clone(&self.core);
                self.state = State::Staged(Ticket { core, staged, records });
            }
            Err(error) => {
                self.core.port.intake.leave_queue(wait);
                if let State::Waiting { records, .. } =
                    std::mem::replace(&mut self.state, State::Done)
                {
                    self.state = State::Rejected(records, error);
                }
            }
        }
        true
    }
}

impl<R: Records> Future for Append<R> {
    type Output = Result<Ack, Rejected<R>>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.try_stage(cx.waker()) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut this.state, State::Done) {
            State::Staged(mut ticket) => match Pin::new(&mut ticket).poll(cx) {
                Poll::Pending => {
                    this.state = State::Staged(ticket);
                    Poll::Pending
                }
                Poll::Ready(ack) => {
                    Poll::Ready(ack.map_err(|error| Rejected { record: None, error }))
                }
            },
            State::Rejected(records, error) => {
                Poll::Ready(Err(Rejected { record: Some(records), error }))
            }
            state @ State::Waiting { .. } => {
                this.state = state;
                Poll::Pending
            }
            State::Done => Poll::Ready(Err(Rejected { record: None, error: Error::Closed })),
        }
    }
}

impl<R> Drop for Append<R> {
    /// Withdraws an append that still waits for room.
    fn drop(&mut self) {
        if let State::Waiting { wait, .. } = &self.state {
            self.core.port.intake.leave_queue(wait);
        }
    }
}

/// Wakes a thread.
pub(crate) struct Unpark(pub std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
