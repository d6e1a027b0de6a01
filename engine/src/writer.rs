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
use crate::ephemeral::{EPHEMERAL_BYTES_MAX, EPHEMERAL_MAX, Note};
use crate::error::{Error, Rejected, Result};
use crate::format::RecordHeader;
use crate::intake::{RoomWait, Staged};
use crate::lsn::{Epoch, LogId, Lsn, Position};
use crate::planted::{Bug, planted};
use crate::races::{Race, raced};
use crate::record::{Part, Records};
use crate::shard::Port;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread;

/// Appends to one log, under one epoch. Cheap to clone; clones share the epoch.
#[derive(Clone)]
pub struct Writer {
    pub(crate) core: Arc<Core>,
}

/// What the clones of a writer share.
pub(crate) struct Core {
    pub port: Arc<Port>,
    pub id: LogId,
    /// Grows when a clone cuts the log.
    epoch: AtomicU32,
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
        write!(f, "Writer(log {}, epoch {})", self.core.id, self.core.epoch())
    }
}

impl Writer {
    pub(crate) fn new(
        port: Arc<Port>,
        id: LogId,
        first: Position,
        record_bytes_max: usize,
    ) -> Self {
        let epoch = AtomicU32::new(first.epoch.0);
        Self { core: Arc::new(Core { port, id, epoch, first, record_bytes_max }) }
    }

    /// This writer's epoch. It grows when this writer or a clone cuts the log.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.core.epoch()
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
        self.begin(None, records)
    }

    /// Appends if the log then ends at `tail`, compared with everything staged before it. As
    /// [`append`](Self::append) in everything else.
    ///
    /// # Errors
    /// As the output: `Conflict` with the tail there is, and as [`append`](Self::append); the
    /// record comes back.
    #[must_use = "an append that is not awaited is not known to be durable"]
    pub fn append_if<R: Records>(&self, tail: Lsn, records: R) -> Append<R> {
        self.begin(Some(tail), records)
    }

    fn begin<R: Records>(&self, tail: Option<Lsn>, records: R) -> Append<R> {
        let state = match self.core.stage(&records, tail, None) {
            Ok(staged) => State::Staged(self.ticket(staged, records.count())),
            Err(Error::Busy) => {
                let wait = Arc::new(RoomWait::default());
                self.core.port.intake.join_queue(&wait);
                State::Waiting { records, wait }
            }
            Err(error) => State::Rejected(records, error),
        };
        Append { core: Arc::clone(&self.core), tail, state }
    }

    /// Stages and returns at once: the ticket resolves when it is durable.
    ///
    /// # Errors
    /// `Busy` when there is no room, and as [`append`](Self::append); the record comes back.
    pub fn submit<R: Records>(&self, records: R) -> Result<Ticket, Rejected<R>> {
        self.stage(None, records)
    }

    /// As [`submit`](Self::submit), if the log ends at `tail`, compared with everything staged
    /// before it.
    ///
    /// # Errors
    /// `Conflict` with the tail there is, and as [`submit`](Self::submit); the record comes back.
    pub fn submit_if<R: Records>(&self, tail: Lsn, records: R) -> Result<Ticket, Rejected<R>> {
        self.stage(Some(tail), records)
    }

    fn stage<R: Records>(&self, tail: Option<Lsn>, records: R) -> Result<Ticket, Rejected<R>> {
        match self.core.stage(&records, tail, None) {
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
        (&self.core.port, self.core.id, self.core.epoch())
    }

    /// Whether these records can be appended at all.
    pub(crate) fn check_records<R: Records>(&self, records: &R) -> Result<()> {
        self.core.check(records)
    }

    /// Appends without waiting for durability: resolves once it is staged. What is staged has no
    /// position yet and no promise: a failure or a power cut may take it, and readers see it only
    /// once it is durable. [`flush`](Self::flush) makes sure of that. Without room it waits as
    /// [`append`](Self::append) does.
    ///
    /// # Errors
    /// As the output: rejected with the record, as [`append`](Self::append).
    #[must_use = "an append that is not awaited may not even be staged"]
    pub fn append_relaxed<R: Records>(&self, records: R) -> Relaxed<R> {
        Relaxed { append: self.begin(None, records) }
    }

    /// Gives these records to those who follow the log in this process now and asked for it
    /// ([`Reader::with_ephemeral`](crate::Reader::with_ephemeral)): on no disk, without an LSN of
    /// their own, between the records staged before and those that come. They are read when
    /// everything before them is durable, or never. Of those that nobody has read yet a shard keeps
    /// 1,024, and a mebibyte; the oldest go, and readers are told how many they
    /// [`missed`](crate::Reader::missed).
    ///
    /// # Errors
    /// `Invalid` for what no append takes, and for more than the shard keeps; `Fenced`, `Halted`,
    /// `Closed`; `Busy` while a clone cuts the log. The record comes back.
    pub fn append_ephemeral<R: Records>(&self, records: R) -> Result<Accepted, Rejected<R>> {
        match self.core.give(&records) {
            Ok(()) => Ok(Accepted { records: records.count() as u32 }),
            Err(error) => Err(Rejected { record: Some(records), error }),
        }
    }

    /// Waits for all that was staged in this log before the call, relaxed appends included: once it
    /// resolves to an [`Ack`], all of it is durable. The ack counts no record of its own; its
    /// position is the log's tail at the call.
    ///
    /// # Errors
    /// As the ticket's output: `Unknown` when the shard failed first, `Undriven`; `NoSpace` when
    /// the disk is full and something staged has no room: it becomes durable once there is space,
    /// flush again then.
    pub fn flush(&self) -> Ticket {
        let staged = self.core.port.intake.flush(self.core.slot());
        self.ticket(staged, 0)
    }

    fn ticket(&self, staged: Staged, records: usize) -> Ticket {
        Ticket { core: Arc::clone(&self.core), staged, records: records as u32 }
    }
}

impl Core {
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// A cut is durable: the writer and its clones go on under its epoch.
    pub(crate) fn go_on(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// The log's place in the intake.
    pub(crate) fn slot(&self) -> usize {
        self.id.counter() as usize
    }

    fn stage<R: Records>(
        &self,
        records: &R,
        tail: Option<Lsn>,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Staged> {
        self.check(records)?;
        loop {
            let epoch = self.epoch();
            match self.port.intake.stage(self.id, epoch, records, tail, waiter) {
                // A clone has cut the log meanwhile.
                Err(Error::Fenced { .. }) if self.epoch() != epoch => {}
                staged => return staged,
            }
        }
    }

    fn give<R: Records>(&self, records: &R) -> Result<()> {
        self.check(records)?;
        let count = records.count();
        let lens = (0..count).map(|index| records.part_lens(index));
        let bytes: usize = lens.map(|(properties, payload)| properties + payload).sum();
        if count > EPHEMERAL_MAX || bytes > EPHEMERAL_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "{count} ephemeral records of {bytes} bytes; a shard keeps {EPHEMERAL_MAX} and \
                 {EPHEMERAL_BYTES_MAX} bytes"
            )));
        }
        for index in 0..count {
            let part = records.part(index);
            self.give_one(&part)?;
        }
        Ok(())
    }

    fn give_one(&self, part: &Part<'_>) -> Result<()> {
        let (intake, view) = (&self.port.intake, &self.port.view);
        let (properties, payload) = (part.properties.to_vec(), part.payload.to_vec());
        // Who is fenced drops nobody's.
        intake.beside(self.slot(), self.epoch(), |_| {})?;
        view.ephemeral.make_room(self.id, properties.len() + payload.len());
        let header = RecordHeader {
            log: self.id,
            properties_bytes: properties.len() as u16,
            payload_bytes: payload.len() as u32,
            body_crc: part.crc,
            ..RecordHeader::default()
        };
        let mut note = Arc::new(Note { header, properties, payload, seq: 0, number: 0 });
        let mut seq = 0;
        intake.beside(self.slot(), self.epoch(), |place| {
            seq = place.seq;
            if let Some(note) = Arc::get_mut(&mut note) {
                (note.header.lsn, note.header.epoch) = (place.first, place.epoch);
                (note.header.time_us, note.seq) = (place.time_us, place.seq);
            }
            view.ephemeral.push(note);
        })?;
        // Else the batch that it waits for wakes whoever follows.
        if view.durable() >= seq {
            view.wait.notify(&mut Vec::new());
        }
        Ok(())
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
        self.look().is_some()
    }

    /// How it has ended, if it has. A flush need not wait for space: who asked for it decides.
    fn look(&self) -> Option<Result<()>> {
        let (intake, seq) = (&self.core.port.intake, self.staged.seq);
        match self.records {
            0 => intake.drained(seq),
            _ => intake.outcome(seq).map(|end| end.map_err(|cause| Error::Halted { cause })),
        }
    }

    /// Blocks until it is durable. On the thread that drives the log's shard, drives it.
    ///
    /// # Errors
    /// `Unknown` when the shard failed first; `Undriven` when nobody drives it in time (the ticket
    /// is spent, the record may become durable later); of a flush also `NoSpace`.
    pub fn wait(self) -> Result<Ack> {
        let (intake, seq) = (&self.core.port.intake, self.staged.seq);
        let end = match self.records {
            0 => driver::drained(intake, seq),
            _ => {
                driver::outcome(intake, seq).map(|end| end.map_err(|cause| Error::Halted { cause }))
            }
        };
        self.resolve(end.ok_or(Error::Undriven)?)
    }

    fn resolve(&self, end: Result<()>) -> Result<Ack> {
        let position = self.position();
        match end {
            Ok(()) => {
                Ok(Ack { position, records: self.records, timestamp_us: self.staged.time_us })
            }
            Err(Error::Halted { cause }) if planted(Bug::UnknownIsFailed) => {
                Err(Error::Halted { cause })
            }
            Err(Error::Halted { cause }) => Err(Error::Unknown { position, cause }),
            Err(other) => Err(other),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Ack>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (intake, seq) = (&self.core.port.intake, self.staged.seq);
        let early = raced(Race::RegisteredTooLate).then(|| self.look());
        if self.look().is_none() {
            intake.register(seq, cx.waker());
        }
        match early.unwrap_or_else(|| self.look()) {
            Some(end) => Poll::Ready(self.resolve(end)),
            None => Poll::Pending,
        }
    }
}

/// An append under way; see [`Writer::append`].
#[must_use = "an append that is not awaited is not known to be durable"]
pub struct Append<R> {
    core: Arc<Core>,
    /// Where the log must end, if that was asked.
    tail: Option<Lsn>,
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
        self.wait_for_room();
        self.take()?.wait().map_err(|error| Rejected { record: None, error })
    }

    /// Blocks until it is staged or rejected.
    fn wait_for_room(&mut self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while !self.try_stage(&waker) {
            driver::wait_for_room(&self.core.port.intake);
        }
    }

    /// The ticket of what was staged, or the record that was rejected.
    fn take(&mut self) -> Result<Ticket, Rejected<R>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Staged(ticket) => Ok(ticket),
            State::Rejected(records, error) => Err(Rejected { record: Some(records), error }),
            // Polled again after its end: it never waits any more by now.
            State::Waiting { .. } | State::Done => {
                Err(Rejected { record: None, error: Error::Closed })
            }
        }
    }

    /// Tries to stage what waits for room; registers the waker first, so that no wake is lost.
    /// False: it still waits.
    fn try_stage(&mut self, waker: &Waker) -> bool {
        let State::Waiting { records, wait } = &self.state else { return true };
        if !raced(Race::WakerTooLate) {
            wait.set(waker);
        }
        match self.core.stage(records, self.tail, Some(wait)) {
            Err(Error::Busy) if raced(Race::WakerTooLate) => {
                wait.set(waker);
                return false;
            }
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
        let mut ticket = this.take()?;
        match Pin::new(&mut ticket).poll(cx) {
            Poll::Pending => {
                this.state = State::Staged(ticket);
                Poll::Pending
            }
            Poll::Ready(ack) => Poll::Ready(ack.map_err(|error| Rejected { record: None, error })),
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

/// What was staged by a relaxed append: no position, no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// How many records.
    pub records: u32,
}

/// A relaxed append under way; see [`Writer::append_relaxed`].
#[must_use = "an append that is not awaited may not even be staged"]
pub struct Relaxed<R> {
    append: Append<R>,
}

impl<R> fmt::Debug for Relaxed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relaxed({:?})", self.append)
    }
}

impl<R: Records> Relaxed<R> {
    /// Blocks until it is staged.
    ///
    /// # Errors
    /// As [`Writer::append_relaxed`].
    pub fn wait(mut self) -> Result<Accepted, Rejected<R>> {
        self.append.wait_for_room();
        self.accepted()
    }

    fn accepted(&mut self) -> Result<Accepted, Rejected<R>> {
        // The ticket is not needed: a flush waits for the batch.
        self.append.take().map(|ticket| Accepted { records: ticket.records })
    }
}

impl<R: Records> Future for Relaxed<R> {
    type Output = Result<Accepted, Rejected<R>>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.append.try_stage(cx.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.accepted())
    }
}

/// Wakes a thread.
pub(crate) struct Unpark(pub thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
