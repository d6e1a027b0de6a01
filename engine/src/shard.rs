//! A shard: everything that one core owns, and the one loop that runs it.
//!
//! Invariants:
//! - `turn` is all that a shard ever does: old work before new, background work one bounded step at
//!   a time. It parks in one place, inside its disk, and blocks nowhere else.
//! - The order of what becomes true: a batch is durable → in the view → its waiters are acked.
//! - The first failure of a commit or of the manifest ends the shard: nothing is retried, nothing
//!   that was in flight is acked, the cause is kept.
//!
//! Not here: who calls `turn` (`engine` for threads of its own, `driver` for the caller's).

mod full;
mod state;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::collect::Collector;
use crate::commit::{Commit, Stamp};
use crate::error::{Cause, Error, Result};
use crate::format::manifest::Edit;
use crate::gc::GcReport;
use crate::hint::Hint;
use crate::intake::Intake;
use crate::io::{Clock, Disk, Done, Storage, Wait};
use crate::leased::leased;
use crate::lsn::ShardId;
use crate::manifest::Manifest;
use crate::metrics::Meters;
use crate::owner::Lease;
use crate::planted::{Bug, planted};
use crate::races::{Race, raced};
use crate::reply::Reply;
use crate::seal::Sealer;
use crate::segment::Segments;
use crate::view::{Ended, View};
use crate::waking::Waking;
use crate::watch::UnderWay;
use crate::yard::Yard;

/// Tokens: the high byte says whose completion it is, the rest which.
const TOKEN_BATCH: u64 = 1 << 56;
const TOKEN_MANIFEST: u64 = 2 << 56;
const TOKEN_FILL: u64 = 3 << 56;
const TOKEN_SEAL: u64 = 4 << 56;
const TOKEN_COLLECT: u64 = 5 << 56;
const TOKEN_HINT: u64 = 7 << 56;
const TOKEN_KIND: u64 = 0xff << 56;

/// Requests that may wait for one shard.
const REQUESTS_MAX: usize = 4096;

/// Pause of a shard whose disk as such is gone, so that it does not spin until it is closed.
const LOST_PAUSE: Duration = Duration::from_millis(10);

/// Longest time that a shard parks when something is to be tried again.
const TURN_MAX: Duration = Duration::from_millis(500);

/// What callers ask of a shard besides appends. Answered once durable.
pub(crate) enum Request {
    Edits(Vec<Edit>, Arc<Reply>),
    /// Look at the manifest as it is between two turns.
    Look(Box<dyn FnOnce(&Manifest) + Send>, Arc<Reply>),
    /// Collect all that can be collected; the report is then in the port.
    Collect(Arc<Reply>),
    Close(Arc<Reply>),
}

/// The parts of a shard that other threads reach.
pub(crate) struct Port {
    pub intake: Arc<Intake>,
    pub view: Arc<View>,
    pub requests: Mutex<Requests>,
    /// What the last collection that somebody asked for came to.
    pub collected: Mutex<Option<GcReport>>,
    pub meters: Arc<Meters>,
    /// What is at its disk.
    pub under_way: Arc<UnderWay>,
    pub usage: Arc<crate::quota::Usage>,
}

/// Requests that wait for the shard.
#[derive(Default)]
pub(crate) struct Requests {
    queue: VecDeque<Request>,
    /// Nobody takes requests any more.
    ended: bool,
}

impl Requests {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Port {
    /// Hands over a request; answered through its reply.
    pub(crate) fn request(&self, request: Request) -> Result<()> {
        if let Some(cause) = self.intake.halted() {
            return Err(Error::Halted { cause });
        }
        if self.requests.lock().queue.len() >= REQUESTS_MAX {
            return Err(Error::Busy);
        }
        if self.force_request(request) { Ok(()) } else { Err(Error::Closed) }
    }

    /// Hands over a request whatever the state of the shard; false when the shard has ended.
    pub(crate) fn force_request(&self, request: Request) -> bool {
        let mut requests = self.requests.lock();
        if requests.ended {
            return false;
        }
        requests.queue.push_back(request);
        drop(requests);
        self.intake.ring_bell();
        true
    }

    /// Nobody takes requests any more: refuses what waits and what comes.
    pub(crate) fn end_requests(&self) {
        let mut requests = self.requests.lock();
        requests.ended = !raced(Race::EndedTooLate);
        let left: Vec<_> = requests.queue.drain(..).collect();
        drop(requests);
        for request in left {
            match request {
                Request::Edits(_, reply) | Request::Look(_, reply) | Request::Collect(reply) => {
                    reply.set(Err(Error::Closed));
                }
                Request::Close(reply) => reply.set(Ok(())),
            }
        }
    }
}

/// What a shard is made of.
pub(crate) struct ShardParts {
    pub id: ShardId,
    pub port: Arc<Port>,
    pub storage: Arc<dyn Storage>,
    pub disk: Box<dyn Disk>,
    pub manifest: Manifest,
    pub segments: Segments,
    pub collector: Collector,
    pub hint: Hint,
    pub lease: Option<Arc<Lease>>,
    pub durable: u64,
    pub prev_crc: u32,
    pub depth: usize,
    pub mark_delay: Duration,
    pub commit_delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closing {
    No,
    /// No more appends; what is staged drains.
    Draining,
    /// The last segment is being sealed, then the end is recorded.
    Sealing,
    Recording(u64),
    Done,
}

/// See the module.
pub(crate) struct Shard {
    id: ShardId,
    pub port: Arc<Port>,
    disk: Box<dyn Disk>,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    commit: Commit,
    segments: Segments,
    manifest: Manifest,
    sealer: Sealer,
    pub(crate) collector: Collector,
    hint: Hint,
    /// Without it, or with one that counts, what completed may be called durable.
    lease: Option<Arc<Lease>>,
    done: Vec<Done>,
    wakers: Vec<Waker>,
    /// Requests whose edits are on their way: answered when that many edits are durable.
    waiting: VecDeque<(u64, Arc<Reply>)>,
    depth: usize,
    mark_delay_ns: u64,
    commit_delay_ns: u64,
    waking: Waking,
    /// Something was staged and not sent since; only with a commit delay.
    collecting_since: Option<u64>,
    /// When the last batch became durable: a mark follows if nothing else does. `None`: marked.
    unmarked_since: Option<u64>,
    closing: Closing,
    close_replies: Vec<Arc<Reply>>,
    halted: bool,
    /// The disk as such has failed: its completions will not come.
    disk_lost: bool,
    /// The meters say why no segment can be prepared.
    in_trouble: bool,
}

impl Shard {
    pub(crate) fn new(parts: ShardParts) -> Self {
        let ShardParts { id, port, storage, disk, manifest, segments, hint, durable, .. } = parts;
        let facts = manifest.state.facts;
        let stamp = Stamp { directory: facts.directory, shard: id, term: manifest.state.term };
        Self {
            id,
            sealer: Sealer::new(&port.view),
            port,
            clock: storage.clock(),
            disk: leased(disk, parts.lease.as_ref(), storage.clock()),
            storage,
            commit: Commit::new(stamp, durable, parts.prev_crc, parts.depth),
            segments,
            manifest,
            collector: parts.collector,
            hint,
            lease: parts.lease,
            done: Vec::with_capacity(64),
            wakers: Vec::with_capacity(64),
            waiting: VecDeque::new(),
            depth: parts.depth,
            mark_delay_ns: parts.mark_delay.as_nanos() as u64,
            commit_delay_ns: parts.commit_delay.as_nanos() as u64,
            waking: Waking::default(),
            collecting_since: None,
            unmarked_since: None,
            closing: Closing::No,
            close_replies: Vec::new(),
            halted: false,
            disk_lost: false,
            in_trouble: false,
        }
    }

    /// Ties the shard to the calling thread.
    pub(crate) fn bind(&mut self) -> Result<()> {
        self.disk.bind().map_err(|e| Error::io("binding the ring to its thread", e))?;
        self.port.intake.set_bell(self.disk.bell());
        Ok(())
    }

    /// Runs until the shard is closed.
    pub(crate) fn run(&mut self) {
        while self.turn(None) {}
    }

    /// One turn; parks at most for `limit` (`None`: as long as nothing happens). False once closed.
    pub(crate) fn turn(&mut self, limit: Option<Duration>) -> bool {
        if self.closing == Closing::Done {
            return false;
        }
        let wait = self.next_wait(limit);
        if let Err(error) = self.disk.reap(&mut self.done, wait) {
            self.disk_lost = true;
            self.halt("waiting for completions", error);
            self.clock.sleep(LOST_PAUSE);
        }
        self.port.intake.unpark();
        let now = self.clock.mono_ns();
        self.port.meters.turned_ns.set(now);
        self.check_lease();
        self.dispatch(now);
        self.check_lease();
        self.advance(now);
        let idle = self.commit.in_flight.is_empty();
        self.waking.step(&*self.clock, &self.port.intake, &self.port.meters, idle);
        self.admit();
        self.submit(now);
        self.background(now);
        self.answer();
        self.gauge(now);
        self.close_if_drained();
        self.tell(now);
        self.closing != Closing::Done
    }

    /// How long to park. Declares it, then looks once more: a later append rings the bell.
    fn next_wait(&mut self, limit: Option<Duration>) -> Wait {
        let busy = !self.commit.in_flight.is_empty();
        if !raced(Race::ParkedNotTold) {
            self.port.intake.park(busy);
        }
        if self.has_work(busy) {
            return Wait::No;
        }
        let now = self.clock.mono_ns();
        if self.halted {
            return Wait::Until(limit.unwrap_or(TURN_MAX));
        }
        // A batch that waits for a segment comes before any mark.
        let quiet = !busy && self.commit.pending.is_none();
        let mark = self.unmarked_since.filter(|_| quiet).map(|since| since + self.mark_delay_ns);
        let send = self.collecting_since.map(|since| since + self.commit_delay_ns);
        let (fill, seal) = (self.segments.wake_at(), self.sealer.wake_at());
        let collect = self.collector.wake_at().filter(|_| self.closing == Closing::No);
        let hint = self.hint.wake_at(self.commit.durable, self.manifest.seq()).filter(|_| quiet);
        let lease = self.lease.as_ref().map(|lease| lease.wake_at(now, self.clock.boot_ns()));
        let (edits, grow) = (self.manifest.wake_at(), self.manifest.grow_at());
        let wakes = [mark, send, fill, seal, collect, hint, lease, edits, grow];
        let until = wakes.into_iter().flatten().min();
        let until = until.map(|at| Duration::from_nanos(at.saturating_sub(now)).min(TURN_MAX));
        match (until, limit) {
            (None, None) => Wait::Event,
            (Some(wait), None) | (None, Some(wait)) => Wait::Until(wait),
            (Some(a), Some(b)) => Wait::Until(a.min(b)),
        }
    }

    fn has_work(&self, busy: bool) -> bool {
        let listens = self.halted || !self.manifest.is_growing();
        let asked = listens && !self.port.requests.lock().queue.is_empty();
        if asked || self.waking.is_under_way() {
            return true;
        }
        if self.halted {
            return false;
        }
        if self.manifest.wants_step() || self.sealer.wants_step(self.commit.durable) {
            return true;
        }
        if self.segments.wants_step() || self.collector_wants() {
            return true;
        }
        if let Some(pending) = &self.commit.pending {
            // It waits for its slots (their last one rings), for the disk or for a segment.
            return pending.staged.filled()
                && self.commit.in_flight.len() < self.depth
                && (self.fits_pending() || !self.segments.spares.is_empty());
        }
        self.commit.in_flight.len() < self.depth
            && self.collecting_since.is_none()
            && self.port.intake.has_work(busy)
    }

    fn collector_wants(&self) -> bool {
        let (manifest, segments) = (&self.manifest, &self.segments);
        self.closing == Closing::No
            && self.collector.wants_step(manifest, segments, &self.port.view, self.waits())
    }

    fn fits_pending(&self) -> bool {
        let unit = u64::from(self.manifest.state.facts.unit);
        self.commit.pending_bytes(unit).is_some_and(|bytes| self.segments.fits(bytes))
    }

    /// Completions to whom they belong.
    fn dispatch(&mut self, now: u64) {
        let mut done = std::mem::take(&mut self.done);
        for done in done.drain(..) {
            let token = done.token;
            let result = match token & TOKEN_KIND {
                TOKEN_BATCH => {
                    let seq = token & !TOKEN_KIND;
                    self.commit
                        .complete(seq, done, now)
                        .map_err(|e| (format!("writing batch {seq}"), e))
                }
                TOKEN_MANIFEST => self
                    .manifest
                    .complete(&mut *self.disk, TOKEN_MANIFEST, done.result, now)
                    .map_err(|e| ("writing the manifest".into(), e)),
                TOKEN_FILL => {
                    let ok = done.result.is_ok();
                    let (created, wrote) = (done.file.is_some(), ok && done.buf.is_some());
                    if !self.segments.is_recycling() {
                        self.port.meters.filled(created, wrote);
                    }
                    self.segments.complete(&mut *self.disk, &mut self.manifest, done, now);
                    Ok(())
                }
                TOKEN_COLLECT => {
                    self.collect(now, |collector, yard| collector.complete(yard, done));
                    Ok(())
                }
                TOKEN_SEAL => {
                    let (disk, manifest) = (&mut *self.disk, &mut self.manifest);
                    self.sealer
                        .complete(disk, manifest, &self.port.view, TOKEN_SEAL, done, now)
                        .map_err(|e| ("sealing a segment".into(), e))
                }
                TOKEN_HINT => {
                    self.hint.complete(done);
                    Ok(())
                }
                _ => Ok(()),
            };
            if let Err((doing, error)) = result {
                self.halt(&doing, error);
            }
        }
        self.done = done;
    }

    /// Before anything becomes true by completions, and before anything follows from them: whoever
    /// lost the directory acks nothing, and removes nothing.
    fn check_lease(&mut self) {
        let Some(lease) = &self.lease else { return };
        if !self.halted && !lease.holds(self.clock.boot_ns()) {
            let error = lease.error();
            self.halt("owning the directory", error);
        }
    }

    /// Durable, seen, acked: in this order.
    fn advance(&mut self, now: u64) {
        if self.halted {
            return;
        }
        let before = self.commit.durable;
        let mut records = 0u32;
        while self.commit.advance() {
            let last = self.commit.parts.last().filter(|batch| batch.records != 0);
            let port = &self.port;
            if let Some(last) = last {
                self.waking.landed(port.meters.submitted_ns.get(), last.landed_ns, &port.meters);
            }
            let shown = self.commit.publish(&port.view, &port.meters, &port.intake);
            records = records.saturating_add(shown);
        }
        let durable = self.commit.durable;
        if durable == before {
            return;
        }
        self.unmarked_since = (records != 0).then_some(now); // only a mark has none
        let span = (before, durable);
        self.waking.acked(&self.port.intake, span, records, &mut self.wakers);
        self.port.view.notify(&mut self.wakers);
    }

    /// Requests of callers.
    fn admit(&mut self) {
        loop {
            let Some(request) = self.next_request() else { return };
            match request {
                Request::Edits(_, reply) | Request::Look(_, reply) | Request::Collect(reply)
                    if self.halted || self.closing != Closing::No =>
                {
                    let closed = self.port.intake.halted();
                    reply.set(Err(closed.map_or(Error::Closed, |cause| Error::Halted { cause })));
                }
                Request::Edits(edits, reply) => {
                    let mut last = self.manifest.durable_edits;
                    for edit in edits {
                        let settings = matches!(edit, Edit::Settings { .. } | Edit::Log(_));
                        last = self.manifest.push(edit);
                        if settings {
                            self.collector.settings_change(last);
                        }
                    }
                    self.waiting.push_back((last, reply));
                }
                Request::Look(look, reply) => {
                    look(&self.manifest);
                    reply.set(Ok(()));
                }
                Request::Collect(reply) => self.collector.collect(reply),
                Request::Close(reply) => {
                    self.port.intake.close();
                    self.close_replies.push(reply);
                    self.closing = self.closing.max(Closing::Draining);
                }
            }
        }
    }

    /// Hands as many batches to the disk as the pipeline takes.
    fn submit(&mut self, now: u64) {
        while !self.halted && self.commit.in_flight.len() < self.depth {
            let busy = !self.commit.in_flight.is_empty();
            if self.commit.pending.is_none() {
                if self.hold_back(busy, now) {
                    return;
                }
                self.commit.pending = self.port.intake.take(busy);
                self.collecting_since = None;
                if let Some(taken) = &self.commit.pending {
                    let queued = taken.taken_ns.saturating_sub(taken.staged_ns);
                    self.port.meters.queue_ns.record(queued);
                }
            }
            if self.commit.pending.is_none() && !busy {
                self.commit.pending = self.mark(now);
            }
            if self.commit.pending.is_none() || !self.place_pending() {
                return;
            }
            let Some(active) = &mut self.segments.active else { return };
            let seq = self.manifest.seq();
            let taken_ns = self.commit.pending.as_ref().map_or(0, |pending| pending.taken_ns);
            match self.commit.submit(&mut *self.disk, active, TOKEN_BATCH, seq) {
                Ok(true) if taken_ns == 0 => {} // a mark
                Ok(true) if planted(Bug::DirtyRead) => self.commit.show_early(&self.port.view),
                Ok(true) => self.port.meters.submitted(taken_ns),
                Ok(false) => return,
                Err(error) => self.halt("preparing a batch", error),
            }
        }
    }

    /// Whether to wait for company: callers who wake, or with a commit delay.
    fn hold_back(&mut self, busy: bool, now: u64) -> bool {
        if !busy && self.waking.is_worth_a_wait() {
            return true;
        }
        if self.commit_delay_ns == 0 || self.closing != Closing::No {
            return false;
        }
        if !self.port.intake.has_work(busy) {
            return false; // nothing to hold back: an idle shard goes on to its mark
        }
        let since = *self.collecting_since.get_or_insert(now);
        now < since + self.commit_delay_ns
    }

    /// A mark, when the shard has been idle long enough or closes.
    fn mark(&self, now: u64) -> Option<crate::intake::Closed> {
        let since = self.unmarked_since?;
        let due = self.closing != Closing::No || now >= since + self.mark_delay_ns;
        // A clean close has a witness of its own: no segment is begun for its mark.
        let room = self.closing == Closing::No || self.mark_fits();
        if due && room { self.port.intake.take_mark() } else { None }
    }

    fn mark_fits(&self) -> bool {
        self.segments.fits(u64::from(self.manifest.state.facts.unit))
    }

    /// Rolls to the spare when the waiting batch does not fit. False: no segment has room yet.
    fn place_pending(&mut self) -> bool {
        if self.fits_pending() {
            return true;
        }
        let Some(full) = self.segments.roll() else {
            let trouble = self.segments.trouble.as_ref();
            self.port.intake.set_no_space(trouble.map(ToString::to_string));
            return false;
        };
        self.port.intake.set_no_space(None);
        self.port.meters.rolls.add(u64::from(full.is_some()));
        if let Some(active) = &self.segments.active {
            use crate::view::SegmentView;
            let seen = SegmentView::unsealed(active.number, active.nonce);
            self.port.view.lock().segments.insert(active.id, seen);
        }
        if let Some(full) = full {
            self.seal(full, false);
        }
        self.fits_pending()
    }

    fn seal(&mut self, full: crate::segment::Active, trim: bool) {
        let last_seq = self.commit.submitted();
        self.sealer.push(full, last_seq, self.commit.prev_crc, trim);
    }

    /// Manifest, next segment, seal, hint: a bounded step of each.
    fn background(&mut self, now: u64) {
        if self.halted {
            return;
        }
        let needed = self.commit.pending.is_some() && !self.fits_pending();
        let pace = self.pace();
        if self.closing == Closing::No {
            self.collect(now, Collector::step);
            if let Some(report) = self.collector.report.take() {
                *self.port.collected.lock() = Some(report);
                self.collector.answer();
            }
        }
        let (disk, manifest) = (&mut *self.disk, &mut self.manifest);
        let random = || self.storage.random_u64();
        let mut result = Ok(());
        if self.closing == Closing::No {
            self.segments.review(manifest, now, false);
        }
        if self.closing == Closing::No || needed {
            result = self.segments.step(disk, manifest, TOKEN_FILL, now, pace, random).map(|_| ());
        }
        let disk = &mut *self.disk;
        let sealed = self.sealer.step(disk, &mut self.manifest, &self.port.view, TOKEN_SEAL, now);
        result = result.and(sealed.map(|_| ()));
        if let Err(error) = result {
            self.halt("preparing files", error);
            return;
        }
        let (durable, view) = (self.commit.durable, Arc::clone(&self.port.view));
        let tails = |cuts: &_, logs: &mut [_]| view.tails(cuts, logs);
        let disk = &mut *self.disk;
        if let Err(error) = self.manifest.step(disk, TOKEN_MANIFEST, now, durable, &tails) {
            self.halt("writing the manifest", io::Error::other(error.to_string()));
        }
    }

    /// Tells foreign followers, last of all: what is new is acked by now.
    fn tell(&mut self, now: u64) {
        if !self.halted && self.closing <= Closing::Draining {
            let (durable, seq) = (self.commit.durable, self.manifest.seq());
            self.hint.step(&mut *self.disk, TOKEN_HINT, now, durable, seq);
        }
    }

    /// What became durable in the manifest and matters to callers: seen before it is answered.
    fn act(&mut self) {
        if self.manifest.told.is_empty() {
            return;
        }
        for edit in self.manifest.told.drain(..) {
            match edit {
                Edit::Deleted { log } => {
                    self.port.intake.retire(log.counter() as usize);
                    self.port.view.remove_log(log);
                }
                Edit::Cursor { log, name, lsn } => {
                    let mut view = self.port.view.lock();
                    if view.log(log).is_some() {
                        view.cursors.apply(log, &name, lsn);
                    }
                }
                _ => {}
            }
        }
        self.port.view.notify(&mut self.wakers);
    }

    /// Lets the collector do something.
    fn collect<T>(&mut self, now: u64, act: impl FnOnce(&mut Collector, &mut Yard<'_>) -> T) -> T {
        let (pace, waits) = (self.pace(), self.waits());
        let mut yard = Yard {
            disk: &mut *self.disk,
            manifest: &mut self.manifest,
            segments: &mut self.segments,
            view: &self.port.view,
            intake: &self.port.intake,
            clock: &*self.clock,
            random: &|| self.storage.random_u64(),
            now,
            token: TOKEN_COLLECT,
            pace,
            waits,
        };
        act(&mut self.collector, &mut yard)
    }

    fn answer(&mut self) {
        self.act();
        while let Some((edits, _)) = self.waiting.front() {
            if *edits > self.manifest.durable_edits && !planted(Bug::EditBeforeDurable) {
                return;
            }
            if let Some((_, reply)) = self.waiting.pop_front() {
                reply.set(Ok(()));
            }
        }
    }

    fn close_if_drained(&mut self) {
        if self.closing == Closing::No {
            return;
        }
        if !self.halted && self.is_stuck() {
            self.let_go();
        }
        if self.halted {
            if self.disk_lost || self.disk.in_flight() == 0 {
                self.finish();
            }
            return;
        }
        if self.sealer.failed() {
            // Recovery seals what could not be sealed; the end recorded below is then not believed.
            self.sealer.abandon();
        }
        let drained = self.commit.in_flight.is_empty()
            && self.commit.pending.is_none()
            && self.port.intake.is_empty()
            && (self.unmarked_since.is_none() || !self.mark_fits());
        if self.closing == Closing::Draining && drained {
            self.sealer.owe_on();
            if let Some(active) = self.segments.active.take() {
                self.seal(active, true);
            }
            self.closing = Closing::Sealing;
        }
        if self.closing >= Closing::Sealing {
            self.segments.abandon(&mut *self.disk);
        }
        if self.closing == Closing::Sealing
            && self.sealer.idle()
            && self.drained()
            && self.manifest.idle()
        {
            let last_seq = self.commit.durable;
            self.closing = Closing::Recording(self.manifest.push(Edit::Closed { last_seq }));
        }
        if let Closing::Recording(edit) = self.closing
            && self.manifest.durable_edits >= edit
            && self.disk.in_flight() == 0
        {
            self.finish();
        }
    }

    /// The collector has ended what it had begun.
    fn drained(&mut self) -> bool {
        let now = self.clock.mono_ns();
        self.collect(now, |collector, yard| collector.drain(yard))
    }

    fn finish(&mut self) {
        self.closing = Closing::Done;
        self.port.intake.finish();
        self.port.view.end(Ended::Closed);
        // A disk that is lost may still have writes of ours: nothing may be built on their end.
        let lost = self.port.intake.halted().filter(|_| self.disk_lost);
        let answer = || lost.clone().map_or(Ok(()), |cause| Err(Error::Halted { cause }));
        self.close_replies.drain(..).for_each(|reply| reply.set(answer()));
        self.collector.fail(&Error::Closed);
        self.port.end_requests();
    }

    /// The shard's end: keeps the first cause, tells everybody.
    fn halt(&mut self, doing: &str, error: io::Error) {
        if self.halted {
            return;
        }
        self.halted = true;
        self.port.meters.halted_ns.set(self.clock.mono_ns().max(1));
        tracing::error!(shard = self.id.0, doing, %error, "the shard halts");
        let cause = Arc::new(Cause { doing: format!("shard {}: {doing}", self.id), error });
        self.port.intake.fail(self.commit.durable + 1, Arc::clone(&cause));
        self.port.view.end(Ended::Halted(Arc::clone(&cause)));
        for (_, reply) in self.waiting.drain(..) {
            reply.set(Err(Error::Halted { cause: Arc::clone(&cause) }));
        }
        self.collector.fail(&Error::Halted { cause });
    }

    /// Nothing is staged, in flight or unmarked.
    pub(crate) fn is_idle(&self) -> bool {
        self.halted
            || (self.commit.in_flight.is_empty()
                && self.commit.pending.is_none()
                && !self.port.intake.has_work(false)
                && self.unmarked_since.is_none())
    }

    /// Closed and drained.
    pub(crate) fn is_done(&self) -> bool {
        self.closing == Closing::Done
    }
}

impl Drop for Shard {
    /// Nobody will drive it any more: whoever still waits is told.
    fn drop(&mut self) {
        if self.closing != Closing::Done {
            self.port.intake.finish();
            self.port.view.end(Ended::Closed);
            self.port.end_requests();
            self.collector.fail(&Error::Closed);
            self.close_replies.drain(..).for_each(|reply| reply.set(Err(Error::Closed)));
            self.waiting.drain(..).for_each(|(_, reply)| reply.set(Err(Error::Closed)));
        }
    }
}
