//! Atomic appends: records for several logs of one group, all or nothing.
//!
//! Invariants: members are staged together at the call, before any poll, or none of them is; one
//! fenced writer rejects all. All are durable and seen at once, and a crash keeps all or nothing.
//!
//! Cancellation: as for one append. Dropping an [`AtomicTicket`] changes nothing; dropping an
//! [`AppendAtomic`] that still waits for room withdraws it whole, later it is written all the same.
//!
//! Not here: staging (`intake`), which logs share a shard (`catalog`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::driver;
use crate::error::{Cause, Error, Rejected, Result};
use crate::intake::{Member, RoomWait, Staged};
use crate::lsn::Position;
use crate::record::Records;
use crate::shard::Port;
use crate::writer::{Ack, Core, Unpark, Writer};

/// A group that was staged. A future, and [`wait`](AtomicTicket::wait) for threads; the output is
/// an [`Ack`] per member, in the order given.
#[must_use = "a ticket that is not awaited tells nobody whether the group is durable"]
pub struct AtomicTicket {
    port: Arc<Port>,
    /// What each member was given, and how many records it has.
    staged: Vec<(Staged, u32)>,
    /// The batch with which the whole group is durable.
    seq: u64,
}

impl fmt::Debug for AtomicTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtomicTicket({} members)", self.staged.len())
    }
}

impl AtomicTicket {
    /// The positions that the (first) records of the members will have, once they are durable.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.staged.iter().map(|(staged, _)| staged.position())
    }

    /// Whether the fate of the group is decided.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.port.intake.outcome(self.seq).is_some()
    }

    /// Blocks until the group is durable. On the thread that drives the shard, drives it.
    ///
    /// # Errors
    /// `Unknown`, with the first member's position, when the shard failed first: all of the group
    /// or nothing may be found after reopening. `Undriven` when nobody drives the shard in time.
    pub fn wait(self) -> Result<Vec<Ack>> {
        match driver::outcome(&self.port.intake, self.seq) {
            Some(outcome) => self.resolve(outcome),
            None => Err(Error::Undriven),
        }
    }

    fn resolve(&self, outcome: Result<(), Arc<Cause>>) -> Result<Vec<Ack>> {
        if let Err(cause) = outcome {
            let position = self.positions().next().unwrap_or_default();
            return Err(Error::Unknown { position, cause });
        }
        let ack = |(staged, records): &(Staged, u32)| Ack {
            position: staged.position(),
            records: *records,
            timestamp_us: staged.time_us,
        };
        Ok(self.staged.iter().map(ack).collect())
    }
}

impl Future for AtomicTicket {
    type Output = Result<Vec<Ack>>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let intake = &self.port.intake;
        if intake.outcome(self.seq).is_none() && intake.register(self.seq, cx.waker()) {
            return Poll::Pending;
        }
        match intake.outcome(self.seq) {
            Some(outcome) => Poll::Ready(self.resolve(outcome)),
            None => Poll::Pending,
        }
    }
}

/// Members that can be staged together: all of one shard, each within its limits.
struct Group<R> {
    port: Arc<Port>,
    members: Vec<Member<R>>,
    /// Of each member: a clone of its writer may cut the log, and all of them go on.
    cores: Vec<Arc<Core>>,
}

impl<R: Records> Group<R> {
    /// # Errors
    /// `Invalid`, with the records.
    fn new<'w>(
        members: impl IntoIterator<Item = (&'w Writer, R)>,
    ) -> Result<Self, Rejected<Vec<R>>> {
        let mut port: Option<Arc<Port>> = None;
        let (mut group, mut cores) = (Vec::new(), Vec::new());
        let mut wrong = None;
        for (writer, records) in members {
            let (own, id, epoch) = writer.seat();
            let one = port.get_or_insert_with(|| Arc::clone(own));
            if !Arc::ptr_eq(one, own) {
                let what = "the writers' logs live on different shards: create the logs that are \
                            appended to atomically in one group (LogOptions::group)";
                wrong.get_or_insert(Error::Invalid(what.into()));
            }
            wrong = wrong.or(writer.check_records(&records).err());
            group.push(Member { id, epoch, records });
            cores.push(Arc::clone(&writer.core));
        }
        match (port, wrong) {
            (Some(port), None) => Ok(Self { port, members: group, cores }),
            (_, wrong) => {
                let none = || Error::Invalid("an atomic append of no members".into());
                let record = Some(group.into_iter().map(|member| member.records).collect());
                Err(Rejected { record, error: wrong.unwrap_or_else(none) })
            }
        }
    }

    fn stage(&mut self, waiter: Option<&Arc<RoomWait>>) -> Result<AtomicTicket> {
        let staged = loop {
            match self.port.intake.stage_group(&self.members, waiter) {
                // A clone of a writer has cut its log meanwhile.
                Err(Error::Fenced { .. }) if self.catch_up() => {}
                staged => break staged?,
            }
        };
        let counts = self.members.iter().map(|member| member.records.count() as u32);
        let seq = staged.last().map_or(0, |last| last.seq);
        let staged = staged.into_iter().zip(counts).collect();
        Ok(AtomicTicket { port: Arc::clone(&self.port), staged, seq })
    }

    /// Takes over the epochs that the writers are in now. True if there is a new one.
    fn catch_up(&mut self) -> bool {
        let mut moved = false;
        for (member, core) in self.members.iter_mut().zip(&self.cores) {
            let now = core.epoch();
            moved |= std::mem::replace(&mut member.epoch, now) != now;
        }
        moved
    }

    fn reject(self, error: Error) -> Rejected<Vec<R>> {
        let records = self.members.into_iter().map(|member| member.records);
        Rejected { record: Some(records.collect()), error }
    }
}

/// Stages a group if there is room; see `Engine::submit_atomic`.
pub(crate) fn submit<'w, R: Records>(
    members: impl IntoIterator<Item = (&'w Writer, R)>,
) -> Result<AtomicTicket, Rejected<Vec<R>>> {
    let mut group = Group::new(members)?;
    group.stage(None).map_err(|error| group.reject(error))
}

/// Stages a group, or queues it; see `Engine::append_atomic`.
pub(crate) fn append<'w, R: Records>(
    members: impl IntoIterator<Item = (&'w Writer, R)>,
) -> AppendAtomic<R> {
    let state = match Group::new(members) {
        Err(rejected) => State::Rejected(rejected),
        Ok(mut group) => match group.stage(None) {
            Ok(ticket) => State::Staged(ticket),
            Err(Error::Busy) => {
                let wait = Arc::new(RoomWait::default());
                group.port.intake.join_queue(&wait);
                State::Waiting { group, wait }
            }
            Err(error) => State::Rejected(group.reject(error)),
        },
    };
    AppendAtomic { state }
}

/// An atomic append under way. A future, and [`wait`](AppendAtomic::wait) for threads; the output
/// is an [`Ack`] per member, in the order given.
#[must_use = "an append that is not awaited is not known to be durable"]
pub struct AppendAtomic<R> {
    state: State<R>,
}

enum State<R> {
    Waiting { group: Group<R>, wait: Arc<RoomWait> },
    Staged(AtomicTicket),
    Rejected(Rejected<Vec<R>>),
    Done,
}

impl<R> fmt::Debug for AppendAtomic<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Waiting { .. } => "AppendAtomic(waiting for room)",
            State::Staged(_) => "AppendAtomic(staged)",
            State::Rejected(_) => "AppendAtomic(rejected)",
            State::Done => "AppendAtomic(done)",
        })
    }
}

// Nothing in it is ever pinned: the records are moved in and out.
impl<R> Unpin for AppendAtomic<R> {}

/// What comes of a group that was staged and not acked: its records are spent.
fn spent<R>(error: Error) -> Rejected<Vec<R>> {
    Rejected { record: None, error }
}

impl<R: Records> AppendAtomic<R> {
    /// Blocks until the group is durable.
    ///
    /// # Errors
    /// As [`Engine::append_atomic`](crate::Engine::append_atomic).
    pub fn wait(mut self) -> Result<Vec<Ack>, Rejected<Vec<R>>> {
        let waker = Waker::from(Arc::new(Unpark(crate::sync::thread::current())));
        while !self.try_stage(&waker) {
            if let State::Waiting { group, .. } = &self.state {
                driver::wait_for_room(&group.port.intake);
            }
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Staged(ticket) => ticket.wait().map_err(spent),
            State::Rejected(rejected) => Err(rejected),
            State::Waiting { .. } | State::Done => Err(spent(Error::Closed)),
        }
    }

    /// Tries to stage what waits for room; registers the waker first, so that no wake is lost.
    /// False: it still waits.
    fn try_stage(&mut self, waker: &Waker) -> bool {
        let State::Waiting { group, wait } = &mut self.state else { return true };
        wait.set(waker);
        let result = group.stage(Some(wait));
        match result {
            Err(Error::Busy) => return false,
            Ok(ticket) => self.state = State::Staged(ticket),
            Err(error) => {
                group.port.intake.leave_queue(wait);
                if let State::Waiting { group, .. } =
                    std::mem::replace(&mut self.state, State::Done)
                {
                    self.state = State::Rejected(group.reject(error));
                }
            }
        }
        true
    }
}

impl<R: Records> Future for AppendAtomic<R> {
    type Output = Result<Vec<Ack>, Rejected<Vec<R>>>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.try_stage(cx.waker()) {
            return Poll::Pending;
        }
        if let State::Staged(ticket) = &mut this.state {
            let polled = Pin::new(ticket).poll(cx);
            if polled.is_ready() {
                this.state = State::Done;
            }
            return polled.map_err(spent);
        }
        Poll::Ready(match std::mem::replace(&mut this.state, State::Done) {
            State::Rejected(rejected) => Err(rejected),
            _ => Err(spent(Error::Closed)),
        })
    }
}

impl<R> Drop for AppendAtomic<R> {
    /// Withdraws a group that still waits for room.
    fn drop(&mut self) {
        if let State::Waiting { group, wait } = &self.state {
            group.port.intake.leave_queue(wait);
        }
    }
}
