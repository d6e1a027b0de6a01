//! Intake: where callers stage appends, and where they wait until the shard has made them durable.
//!
//! Invariants:
//! - Under one short lock an append gets its LSN, its place in the open batch and its epoch check,
//!   so the order of LSNs is the order of bytes. Payloads are copied and summed outside of the
//!   lock.
//! - Nobody allocates, calls the system or sleeps under the lock.
//! - Acks leave in batch sequence: `acked` only grows, and a ticket of batch n resolves exactly
//!   when `acked ≥ n` or `failed ≤ n`. All waiters of a batch sleep on one word and wake by one
//!   call.
//! - After `failed` is set nothing is staged any more, and nothing above it is ever acked.
//!
//! Not here: appends to several logs at once (`group`), appends larger than a batch (`span`), who
//! writes batches (`commit`), what they look like (`format`).

mod bytes;
mod closed;
mod group;
mod layout;
mod line;
mod memory;
mod near;
mod span;
mod stages;

mod epochs;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::error::{Cause, Error, Result};
use crate::format::{BATCH_FRONT_BYTES, Run};
use crate::io::buf::{NoRoom, Slot, StageGuard, StageRing, StageUsage};
use crate::io::{Arena, Bell, Clock};
use crate::lsn::{Epoch, LogId, Lsn, Position};
use crate::planted::{Bug, planted};
use crate::races::{Race, raced};
use crate::record::Records;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::wake::{Crowd, WaitWord};

use bytes::{fill, framed};
use closed::Table;
pub(crate) use closed::{Closed, SpanPlace, trailer_bytes};
pub(crate) use group::Member;
pub(crate) use line::RoomWait;
use stages::{Growth, Stages};

/// Runs that one batch may hold: bounds the run table to 128 KiB.
pub(crate) const RUNS_MAX: usize = 4096;

/// An open batch of so many bytes takes no more records: a larger write is hardly faster, and it
/// would have to wait for everybody who still copies into it. (Four threads with batches of 1 MiB
/// all shared one write, so that the device rested while they copied: 0.5 of its bandwidth.)
const BATCH_ENOUGH_BYTES: usize = 1 << 20;

/// Words on which waiters sleep; the batches that can be waited for at once without sharing one.
const WORDS: usize = 64;

/// Vectors of runs that are kept for reuse.
const SPARE_RUNS: usize = 40;

/// The shard runs; it will look at the intake before it parks.
const AWAKE: u32 = 0;
/// The shard sleeps with nothing in flight: the next append must ring.
const PARKED_IDLE: u32 = 1;
/// The shard sleeps with writes in flight: their completion will wake it soon enough.
const PARKED_BUSY: u32 = 2;

/// The epoch of a log that was deleted: no writer has it.
const GONE: Epoch = Epoch(u32::MAX);

/// What a writer of a deleted log is told, instead of being fenced by nobody.
fn deleted(id: LogId, error: Error) -> Error {
    match error {
        Error::Fenced { epoch: GONE } => Error::NoSuchLog(format!("{id} (deleted)")),
        other => other,
    }
}

/// Staging state of one log: a cache line, and every append touches the one of its log.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct LogStage {
    pub epoch: Epoch,
    pub next_lsn: u64,
    /// Time of the last record staged: time never runs backwards in a log.
    pub last_time_us: u64,
    /// The batch for which `run` is this log's place in the run table.
    run_seq: u64,
    run: u32,
    /// Bytes staged and not yet durable; kept only when there is a limit.
    unacked: u64,
    /// The epoch begins with a cut that is not durable yet: whoever makes it may go on after it.
    cutting: bool,
    /// Where the start was asked to be, durable or not: no cut goes below.
    start_asked: u64,
}

impl LogStage {
    pub(crate) fn new(epoch: Epoch, next_lsn: Lsn, last_time_us: u64) -> Self {
        Self {
            epoch,
            next_lsn: next_lsn.0,
            last_time_us,
            run_seq: 0,
            run: 0,
            unacked: 0,
            cutting: false,
            start_asked: 0,
        }
    }
}

/// What changes together with a reservation.
pub(crate) struct Staging {
    logs: Stages,
    runs: Vec<Run>,
    /// Where the last record of each run ends in the open batch.
    run_ends: Vec<u32>,
    records: u32,
    time_us: u64,
    staged_ns: u64,
    /// Closed because full, oldest first; the shard takes them in this order.
    closed: VecDeque<Closed>,
    spare_runs: Vec<Vec<Run>>,
    /// Appends that wait for room, in order of arrival.
    waiting: VecDeque<Arc<RoomWait>>,
    refuse: Option<Refuse>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refuse {
    NoSpace,
    Halted,
    Closed,
}

/// What an append was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    pub seq: u64,
    pub epoch: Epoch,
    pub first: Lsn,
    pub time_us: u64,
}

/// What callers and one shard share.
pub(crate) struct Intake {
    ring: StageRing<Staging>,
    clock: Arc<dyn Clock>,
    bell: OnceLock<Arc<dyn Bell>>,
    parked: CachePadded<AtomicU32>,
    acked: CachePadded<AtomicU64>,
    failed: AtomicU64,
    cause: OnceLock<Arc<Cause>>,
    /// Length of the queue for room, so that an ack need not take the lock to find it empty.
    queued: AtomicU32,
    /// Why no segment can be prepared.
    trouble: Mutex<Option<String>>,
    words: Box<[CachePadded<WaitWord>]>,
    crowd: CachePadded<Crowd>,
    pipeline_min: usize,
    log_bytes_max: u64,
    unit: usize,
    span_bytes_max: u64,
    /// Who drives the shard when the engine's own threads do not; see `driver`.
    pub(crate) driven: Option<Duration>,
}

pub(crate) struct IntakeSpec {
    pub stage_bytes: usize,
    pub batch_bytes_max: usize,
    pub unit: usize,
    pub first_seq: u64,
    pub pipeline_min: usize,
    pub log_bytes_max: u64,
    /// What a segment holds of batches.
    pub span_bytes_max: u64,
    pub driven: Option<Duration>,
}

impl Intake {
    pub(crate) fn new(spec: &IntakeSpec, clock: Arc<dyn Clock>) -> Result<Self> {
        let staging = Staging {
            logs: Stages::default(),
            runs: Vec::with_capacity(64),
            run_ends: Vec::with_capacity(64),
            records: 0,
            time_us: 0,
            staged_ns: 0,
            closed: VecDeque::with_capacity(crate::io::buf::STAGE_CELLS),
            spare_runs: (0..SPARE_RUNS).map(|_| Vec::with_capacity(64)).collect(),
            waiting: VecDeque::with_capacity(64),
            refuse: None,
        };
        let (bytes, max) = (spec.stage_bytes, spec.batch_bytes_max);
        let ring = StageRing::new(bytes, max, spec.unit, spec.first_seq, staging)
            .map_err(|e| Error::io("mapping the staging ring", e))?;
        Ok(Self {
            ring,
            crowd: CachePadded::new(Crowd::new(&*clock)),
            clock,
            bell: OnceLock::new(),
            parked: CachePadded::new(AtomicU32::new(AWAKE)),
            acked: CachePadded::new(AtomicU64::new(spec.first_seq - 1)),
            failed: AtomicU64::new(u64::MAX),
            cause: OnceLock::new(),
            queued: AtomicU32::new(0),
            trouble: Mutex::new(None),
            words: (0..WORDS).map(|_| CachePadded::new(WaitWord::default())).collect(),
            pipeline_min: spec.pipeline_min,
            log_bytes_max: spec.log_bytes_max,
            unit: spec.unit,
            span_bytes_max: spec.span_bytes_max,
            driven: spec.driven,
        })
    }

    /// The staging memory, for registration with the shard's disk.
    pub(crate) fn arena(&self) -> Arena {
        self.ring.arena()
    }

    pub(crate) fn set_bell(&self, bell: Arc<dyn Bell>) {
        let _ = self.bell.set(bell);
    }

    pub(crate) fn ring_bell(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    // ── callers ──

    /// Makes room in the table for the log with this counter and sets its state.
    pub(crate) fn put_log(&self, slot: usize, stage: LogStage) {
        loop {
            let mut guard = self.ring.lock();
            if let Some(place) = guard.logs.get_mut(slot) {
                *place = stage;
                return;
            }
            let room = guard.logs.room();
            drop(guard);
            let mut growth = Growth::new(slot, room);
            self.ring.lock().logs.grow(&mut growth);
        }
    }

    /// The log was deleted: nobody appends to it any more. What is staged resolves as ever.
    pub(crate) fn retire(&self, slot: usize) {
        if let Some(log) = self.ring.lock().logs.get_mut(slot) {
            log.epoch = GONE;
        }
    }

    /// Fences the log: from here on only `epoch + 1` may append. Returns the new epoch, its first
    /// LSN, and the batch with which all that was staged before is durable; `None` for a log that
    /// was deleted.
    pub(crate) fn fence(&self, slot: usize) -> Option<(Epoch, Lsn, u64)> {
        let mut guard = self.ring.lock();
        let before = epochs::staged_last(&guard);
        let log = &mut guard.logs[slot];
        if log.epoch == GONE {
            return None;
        }
        log.next_epoch();
        Some((log.epoch, Lsn(log.next_lsn), before))
    }

    /// Stages all records of `source`, or nothing; with a `tail`, only if it is the log's.
    pub(crate) fn stage<R: Records>(
        &self,
        id: LogId,
        epoch: Epoch,
        source: &R,
        tail: Option<Lsn>,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Staged> {
        let bytes: usize = (0..source.count()).map(|i| framed(source.part_lens(i))).sum();
        if bytes > self.ring.batch_max() - BATCH_FRONT_BYTES {
            return self.stage_large(id, epoch, source, waiter);
        }
        let mut guard = self.ring.lock();
        self.in_line(&guard, waiter)?;
        let expected = match tail {
            Some(lsn) => guard.expect_tail(self, id, epoch, lsn),
            None => Ok(()),
        };
        let reserve = |()| self.reserve(&mut guard, id, epoch, source.count(), bytes);
        let (staged, mut slot) = match expected.and_then(reserve) {
            Ok(reserved) => reserved,
            Err(error) => {
                drop(guard);
                return Err(deleted(id, error));
            }
        };
        let next = self.leave_line(&mut guard, waiter);
        let open_bytes = guard.open_bytes();
        drop(guard);
        fill(slot.bytes(), id, &staged, source, 0);
        self.hand_over(slot, open_bytes);
        if let Some(next) = next {
            next.wake();
        }
        Ok(staged)
    }

    fn reserve<'a>(
        &'a self,
        guard: &mut StageGuard<'a, Staging>,
        id: LogId,
        epoch: Epoch,
        count: usize,
        bytes: usize,
    ) -> Result<(Staged, Slot<'a>)> {
        if let Some(error) = guard.refused(self) {
            return Err(error);
        }
        let index = id.counter() as usize;
        self.may(guard, index, epoch, bytes)?;
        let fresh = |staging: &Staging, seq, at| usize::from(staging.begins_run(index, seq, at));
        let slot = self.place(guard, bytes, fresh)?;
        let at = guard.open_bytes() - bytes;
        let staged = self.assign(guard, id, epoch, count, at..at + bytes);
        Ok((staged, slot))
    }

    /// Whether this epoch may append so much to the log at `index` now.
    fn may(
        &self,
        guard: &StageGuard<'_, Staging>,
        index: usize,
        epoch: Epoch,
        bytes: usize,
    ) -> Result<()> {
        let log = guard.logs[index];
        log.check_epoch(epoch)?;
        if self.log_bytes_max != 0
            && !planted(Bug::BudgetIgnored)
            && log.unacked + bytes as u64 > self.log_bytes_max.max(bytes as u64)
        {
            return Err(Error::Busy);
        }
        Ok(())
    }

    /// Finds room for `bytes` in one batch, closing full batches on the way. `fresh`: the runs that
    /// they would add to the batch of this sequence that has so many bytes.
    fn place<'a>(
        &'a self,
        guard: &mut StageGuard<'a, Staging>,
        bytes: usize,
        fresh: impl Fn(&Staging, u64, usize) -> usize,
    ) -> Result<Slot<'a>> {
        if guard.open_bytes() >= BATCH_ENOUGH_BYTES {
            close_open(guard, SpanPlace::default());
        }
        loop {
            let runs = guard.runs.len() + fresh(guard, guard.seq(), guard.open_bytes());
            let room = if runs > RUNS_MAX {
                Err(NoRoom::BatchFull)
            } else {
                guard.reserve(BATCH_FRONT_BYTES, bytes, trailer_bytes(runs))
            };
            match room {
                Ok(slot) => return Ok(slot),
                Err(NoRoom::RingFull) => return Err(Error::Busy),
                // Beside the run table that the open batch has by now; alone it may well fit.
                Err(NoRoom::BatchFull | NoRoom::TooLarge) if guard.open_bytes() != 0 => {
                    if !close_open(guard, SpanPlace::default()) {
                        return Err(Error::Busy);
                    }
                }
                Err(NoRoom::BatchFull) => return Err(Error::Busy),
                Err(NoRoom::TooLarge) => {
                    let max = self.ring.batch_max();
                    return Err(Error::Invalid(format!(
                        "{bytes} bytes with their headers do not fit one batch of {max} bytes"
                    )));
                }
            }
        }
    }

    /// Gives LSNs and time to records whose place in the open batch was found.
    fn assign(
        &self,
        guard: &mut StageGuard<'_, Staging>,
        id: LogId,
        epoch: Epoch,
        count: usize,
        place: Range<usize>,
    ) -> Staged {
        let seq = guard.seq();
        let state = &mut **guard;
        if state.records == 0 {
            // One look at each clock per batch (it is no system call): all its records share the
            // time at which the first of them was staged.
            state.time_us = self.clock.wall_us();
            state.staged_ns = self.clock.mono_ns();
        }
        let bytes = place.len();
        let run = state.run_at(id, epoch, seq, place.start, place.end);
        run.count += count as u32;
        run.bytes += bytes as u32;
        state.records += count as u32;
        let log = &mut state.logs[id.counter() as usize];
        let time_us = state.time_us.max(log.last_time_us);
        let staged = Staged { seq, epoch, first: Lsn(log.next_lsn), time_us };
        log.next_lsn += count as u64;
        log.last_time_us = time_us;
        if self.log_bytes_max != 0 {
            log.unacked += bytes as u64;
        }
        staged
    }

    /// The slot is filled. Rings afterwards: a shard that looked before goes back to sleep.
    fn hand_over(&self, slot: Slot<'_>, open_bytes: usize) {
        if raced(Race::BellBeforeFilled) {
            self.wake_shard(true, open_bytes);
        }
        let last = slot.finish();
        if !raced(Race::BellBeforeFilled) {
            self.wake_shard(last, open_bytes);
        }
    }

    fn wake_shard(&self, last_of_closed: bool, open_bytes: usize) {
        fence(Ordering::SeqCst);
        let parked = self.parked.load(Ordering::Relaxed);
        let must = match parked {
            PARKED_IDLE => true,
            PARKED_BUSY => last_of_closed || open_bytes >= self.pipeline_min,
            _ => false,
        };
        if must && self.parked.swap(AWAKE, Ordering::AcqRel) != AWAKE {
            self.ring_bell();
        }
    }

    /// How batch `seq` ended: `None` while it is open.
    pub(crate) fn outcome(&self, seq: u64) -> Option<Result<(), Arc<Cause>>> {
        if self.acked.load(Ordering::Acquire) >= seq {
            return Some(Ok(()));
        }
        if self.failed.load(Ordering::Acquire) <= seq {
            return Some(Err(self.first_cause()));
        }
        None
    }

    /// The last batch that was acked.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// The first failure of a halted shard.
    pub(crate) fn halted(&self) -> Option<Arc<Cause>> {
        self.cause.get().map(Arc::clone)
    }

    fn first_cause(&self) -> Arc<Cause> {
        self.cause.get().map_or_else(
            || {
                let error = std::io::ErrorKind::Other.into();
                Arc::new(Cause { doing: "closing the engine".into(), error })
            },
            Arc::clone,
        )
    }

    /// Sleeps until batch `seq` has ended, or `limit` is over (then `None`).
    pub(crate) fn sleep(
        &self,
        seq: u64,
        limit: Option<Duration>,
    ) -> Option<Result<(), Arc<Cause>>> {
        let look = || self.outcome(seq);
        self.crowd.wait(&*self.clock, look, || self.word(seq).sleep(&*self.clock, limit, look))
    }

    /// Has `waker` woken when batch `seq` ends. False when it has ended already.
    pub(crate) fn register(&self, seq: u64, waker: &Waker) -> bool {
        self.word(seq).register(waker);
        self.outcome(seq).is_none()
    }

    pub(crate) fn word(&self, seq: u64) -> &WaitWord {
        &self.words[seq as usize % WORDS]
    }

    // ── the shard ──

    /// What the shard should write next: a batch that callers closed, or the open one when it is
    /// worth a write of its own. `busy` = writes are in flight.
    pub(crate) fn take(&self, busy: bool) -> Option<Closed> {
        let mut guard = self.ring.lock();
        if guard.closed.is_empty() {
            let bytes = guard.open_bytes();
            if bytes == 0 || (busy && bytes < self.pipeline_min) {
                return None;
            }
            close_open(&mut guard, SpanPlace::default());
        }
        let mut closed = guard.closed.pop_front()?;
        drop(guard);
        closed.pack(self.unit);
        closed.taken_ns = self.clock.mono_ns();
        Some(closed)
    }

    /// Records staged and not yet taken.
    pub(crate) fn staged_records(&self) -> u32 {
        let guard = self.ring.lock();
        guard.closed.iter().fold(guard.records, |sum, closed| sum.saturating_add(closed.records))
    }

    /// Closes an empty batch, to be written as a mark; `None` when something is staged.
    pub(crate) fn take_mark(&self) -> Option<Closed> {
        let mut guard = self.ring.lock();
        if guard.open_bytes() != 0 || !guard.closed.is_empty() {
            return None;
        }
        let staged = guard.close(BATCH_FRONT_BYTES, 0)?;
        let time_us = self.clock.wall_us();
        let (runs, records, staged_ns, taken_ns) = (guard.fresh_runs(), 0, 0, 0);
        let (span, table) = (SpanPlace::default(), Table::default());
        Some(Closed { staged, runs, records, time_us, staged_ns, taken_ns, span, table })
    }

    /// Whether anything waits to be written.
    pub(crate) fn has_work(&self, busy: bool) -> bool {
        let guard = self.ring.lock();
        let bytes = guard.open_bytes();
        !guard.closed.is_empty() || (bytes != 0 && (!busy || bytes >= self.pipeline_min))
    }

    /// Declares that the shard is about to park. It must look at `has_work` once more after this.
    pub(crate) fn park(&self, busy: bool) {
        let state = if busy { PARKED_BUSY } else { PARKED_IDLE };
        self.parked.store(state, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(AWAKE, Ordering::Relaxed);
    }

    /// Gives the vector of a batch that was written back for reuse; frees its logs' budgets.
    pub(crate) fn recycle(&self, mut runs: Vec<Run>) {
        let mut guard = self.ring.lock();
        if self.log_bytes_max != 0 {
            for run in &runs {
                let log = &mut guard.logs[run.log.counter() as usize];
                log.unacked = log.unacked.saturating_sub(u64::from(run.bytes));
            }
        }
        runs.clear();
        if guard.spare_runs.len() < SPARE_RUNS {
            guard.spare_runs.push(runs);
        }
    }

    /// Acks every batch up to `seq`: futures are woken; threads that sleep are told of, by batch,
    /// to be woken by its word.
    pub(crate) fn ack(
        &self,
        from: u64,
        seq: u64,
        scratch: &mut Vec<Waker>,
        mut asleep: impl FnMut(u64, u32),
    ) {
        if !raced(Race::AckAfterWake) {
            self.acked.store(seq, Ordering::SeqCst);
        }
        let span = (seq - from).min(WORDS as u64);
        for s in seq - span + 1..=seq {
            match self.word(s).tell(scratch) {
                0 => {}
                sleepers => asleep(s, sleepers),
            }
        }
        if raced(Race::AckAfterWake) {
            self.acked.store(seq, Ordering::SeqCst);
        }
        self.wake_first();
    }

    /// The shard has failed: batches from `from` on are unknown, nothing is staged any more.
    pub(crate) fn fail(&self, from: u64, cause: Arc<Cause>) {
        let _ = self.cause.set(cause);
        self.stop(Refuse::Halted, from);
    }

    /// No segment has room and none can be made, and why: appends are refused until one has.
    pub(crate) fn set_no_space(&self, why: Option<String>) {
        let full = why.is_some();
        let old = std::mem::replace(&mut *self.trouble.lock(), why);
        let fresh = full && old.is_none();
        drop(old);
        let mut guard = self.ring.lock();
        if full {
            guard.refuse.get_or_insert(Refuse::NoSpace);
        } else if guard.refuse == Some(Refuse::NoSpace) && !planted(Bug::NoSpaceForEver) {
            guard.refuse = None;
        }
        drop(guard);
        if full {
            self.wake_queue();
        }
        if fresh {
            self.wake_words();
        }
    }

    /// Why nothing is staged now, if that is so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.ring.lock().refused(self)
    }

    /// Nothing is staged that was not taken; or what is will never be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.failed.load(Ordering::Acquire) != u64::MAX || !self.has_work(false)
    }

    /// The engine closes: nothing is staged any more.
    pub(crate) fn close(&self) {
        self.ring.lock().refuse_for_good(Refuse::Closed);
        self.wake_queue();
    }

    /// The last word of a shard that ends: whatever is not acked never will be.
    pub(crate) fn finish(&self) {
        self.stop(Refuse::Closed, self.acked() + 1);
    }

    fn stop(&self, why: Refuse, from: u64) {
        self.ring.lock().refuse_for_good(why);
        if raced(Race::FailedAfterWake) {
            self.wake_words();
        }
        self.failed.fetch_min(from, Ordering::SeqCst);
        if !raced(Race::FailedAfterWake) {
            self.wake_words();
        }
        self.wake_queue();
    }

    /// How much of the staging memory is in use, and for what.
    pub(crate) fn usage(&self) -> StageUsage {
        self.ring.lock().usage()
    }
}

impl Staging {
    fn refused(&self, intake: &Intake) -> Option<Error> {
        Some(match self.refuse? {
            Refuse::NoSpace => {
                let why = intake.trouble.lock().clone().unwrap_or_default();
                Error::NoSpace(format!("no segment can be prepared: {why}"))
            }
            Refuse::Halted => Error::Halted { cause: intake.first_cause() },
            Refuse::Closed => Error::Closed,
        })
    }

    /// The first final reason stays.
    fn refuse_for_good(&mut self, why: Refuse) {
        if !matches!(self.refuse, Some(Refuse::Halted | Refuse::Closed)) {
            self.refuse = Some(why);
        }
    }

    fn fresh_runs(&mut self) -> Vec<Run> {
        self.spare_runs.pop().unwrap_or_default()
    }
}

/// Closes the open batch into the queue; false when the queue cannot take it.
fn close_open(guard: &mut StageGuard<'_, Staging>, span: SpanPlace) -> bool {
    if guard.open_bytes() == 0 || guard.closed.len() == guard.closed.capacity() {
        return false;
    }
    let trailer = trailer_bytes(guard.runs.len());
    let Some(staged) = guard.close(BATCH_FRONT_BYTES, trailer) else { return false };
    let fresh = guard.fresh_runs();
    let state = &mut **guard;
    let runs = std::mem::replace(&mut state.runs, fresh);
    state.run_ends.clear();
    let records = std::mem::take(&mut state.records);
    let (time_us, staged_ns, taken_ns) = (state.time_us, state.staged_ns, 0);
    let table = Table { bytes: trailer, packed: false };
    let closed = Closed { staged, runs, records, time_us, staged_ns, taken_ns, span, table };
    state.closed.push_back(closed);
    true
}

impl Staged {
    /// The position of the first record.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, lsn: self.first }
    }
}
