//! The view: what readers may see of a shard, and where to find it.
//!
//! Invariants:
//! - Nothing is in the view that a power cut could still take away: the shard (or a follower) adds
//!   a batch only after it is durable, in batch sequence.
//! - `LogView::next` is the log's durable end; every LSN in `start..next` is in exactly one
//!   segment, or named by a damage.
//! - The lock is held for look-ups and for the additions of one batch, or of the few of one span,
//!   never across I/O.
//!
//! Not here: the bytes (`catchup`), who waits how (`reader`), where in a segment a log is (`live`,
//! `index`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use crate::cursors::Cursors;
use crate::cuts::{Cuts, cut_damages};
use crate::ephemeral::Ephemeral;
use crate::error::Cause;
use crate::files::Files;
use crate::format::index::{IndexEntry, Posting};
use crate::format::manifest::{Chain, DamageFacts, Link};
use crate::format::{Run, UNIT_MIN};
use crate::holds::Holds;
use crate::live::{Around, LiveIndex};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId, ShardId};
use crate::manifest::State;
use crate::wake::WaitWord;

/// One log, as far as it is durable.
#[derive(Clone, Debug)]
pub(crate) struct LogView {
    pub start: Lsn,
    /// The durable end: the LSN after the last durable record.
    pub next: Lsn,
    pub epoch: Epoch,
    pub last_time_us: u64,
    /// The sealed segments that hold this log, from the newest back.
    pub chain: Chain,
    /// Which of the records that stand somewhere were dropped.
    pub cuts: Cuts,
    pub damages: Vec<DamageFacts>,
}

impl LogView {
    pub(crate) fn new(start: Lsn, next: Lsn) -> Self {
        Self {
            start,
            next,
            epoch: Epoch(0),
            last_time_us: 0,
            chain: Chain::default(),
            cuts: Cuts::default(),
            damages: Vec::new(),
        }
    }

    /// Moves the start up; everything below it is durable, or was once.
    pub(crate) fn raise_start(&mut self, log: LogId, start: Lsn) {
        self.start = self.start.max(start);
        self.next = self.next.max(start);
        self.damages.retain(|damage| !damage.is_below(log, start));
    }

    /// A durable epoch begins at `first`; below what is there, it cuts. True if it does.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch, first: Lsn) -> bool {
        if epoch <= self.epoch {
            return false; // a newer one has said where the log goes on
        }
        self.epoch = epoch;
        if first >= self.next {
            return false;
        }
        self.cut(epoch, first);
        true
    }

    /// Drops what older epochs wrote from `first` on, whether it is here already or comes yet.
    fn cut(&mut self, epoch: Epoch, first: Lsn) {
        self.cuts.note(epoch, first);
        self.next = self.next.min(first);
        self.start = self.start.min(first);
        cut_damages(&mut self.damages, |_| true, first);
    }

    /// Takes over the cuts that a foreign writer made. True if there is a new one.
    pub(crate) fn learn_cuts(&mut self, cuts: &Cuts) -> bool {
        let known = self.epoch;
        let fresh = cuts.iter().filter(|(epoch, _)| *epoch > known);
        let count = fresh.map(|(epoch, first)| self.cut(epoch, first)).count();
        count > 0
    }

    /// The damage that covers `lsn`, if any.
    pub(crate) fn damage_at(&self, lsn: Lsn) -> Option<&DamageFacts> {
        let covers =
            |d: &&DamageFacts| d.first_lsn <= lsn && d.last_lsn.is_none_or(|last| lsn <= last);
        self.damages.iter().find(covers)
    }
}

/// One segment, as far as it is durable.
#[derive(Debug)]
pub(crate) struct SegmentView {
    pub file: u64,
    pub nonce: u64,
    /// End of the last durable batch, in bytes from the start of the file.
    pub end: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    /// Index of what is in it; `None` once it is sealed (the index is then a file).
    pub live: Option<LiveIndex>,
    /// Its copy in the tier is whole, durably.
    pub tiered: bool,
}

/// A durable batch, as it enters the view.
pub(crate) struct Durable<'a> {
    pub segment: SegmentId,
    pub offset: u64,
    /// Padded length.
    pub bytes: u64,
    pub seq: u64,
    pub time_us: u64,
    pub runs: &'a [Run],
}

/// Where a reader has to look for an LSN.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Scan this segment from this offset on.
    At(SegmentId, u64),
    /// In a sealed segment: walk back from this link.
    Chain(Link),
    /// At the durable end: the next batch of the shard will begin here.
    End(StreamEnd),
    /// Below the start.
    Trimmed(Lsn),
    /// Beyond the durable end.
    Beyond(Lsn),
    /// In a range that is damaged or lost.
    Damaged(DamageFacts),
    /// No such log.
    Gone,
}

/// The place behind the last durable batch of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    pub segment: SegmentId,
    pub offset: u64,
    /// The sequence of the batch that will come next.
    pub seq: u64,
}

/// Why a shard's view grows no more.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Closed,
    Halted(Arc<Cause>),
    /// The shard failed and was reopened: another view goes on.
    Replaced(Arc<Cause>),
}

/// See the module.
pub(crate) struct View {
    pub shard: ShardId,
    state: Mutex<ViewState>,
    pub(crate) wait: WaitWord,
    /// What is for those who follow now, and on no disk.
    pub(crate) ephemeral: Ephemeral,
    /// What readers have open.
    pub(crate) files: Arc<Files>,
    /// Who keeps segments from being collected.
    pub(crate) holds: Holds,
    /// The shard's durable watermark, for a look without the lock.
    durable: AtomicU64,
    /// Counts what may have taken something from under a reader: starts that moved, suffixes that
    /// were cut, segments that went.
    trims: AtomicU64,
}

/// What the lock protects.
#[derive(Default)]
pub(crate) struct ViewState {
    pub durable: u64,
    pub stream_end: StreamEnd,
    logs: Vec<Option<Box<LogView>>>,
    pub segments: BTreeMap<SegmentId, SegmentView>,
    pub cursors: Cursors,
    /// Where retention would put the starts of those logs whose cursors are in its way.
    pub wanted: BTreeMap<LogId, Lsn>,
    pub ended: Option<Ended>,
}

impl View {
    pub(crate) fn new(shard: ShardId, state: ViewState) -> Self {
        let durable = AtomicU64::new(state.durable);
        let (wait, trims) = (WaitWord::default(), AtomicU64::new(0));
        Self {
            shard,
            state: Mutex::new(state),
            wait,
            ephemeral: Ephemeral::default(),
            files: Arc::default(),
            holds: Holds::default(),
            durable,
            trims,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ViewState> {
        self.state.lock()
    }

    pub(crate) fn into_state(self) -> ViewState {
        self.state.into_inner()
    }

    /// The shard's durable watermark, in batch sequence.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Grows whenever a start has moved up or a log was cut: who is in the middle of a batch looks
    /// again then.
    pub(crate) fn trims(&self) -> u64 {
        self.trims.load(Ordering::Acquire)
    }

    /// Moves the start of a log up, which is durable by now. Whoever stands below it is told
    /// `Trimmed`, also in the middle of a batch.
    pub(crate) fn raise_start(&self, log: LogId, start: Lsn) {
        if let Some(view) = self.state.lock().log_mut(log) {
            view.raise_start(log, start);
        }
        self.trims.fetch_add(1, Ordering::Release);
    }

    /// A log was deleted, durably. Its readers are told, also in the middle of a batch; its records
    /// are nobody's. Wake them (`notify`) afterwards.
    pub(crate) fn remove_log(&self, log: LogId) {
        self.state.lock().remove_log(log);
        self.trims.fetch_add(1, Ordering::Release);
    }

    /// Takes over what a foreign writer's manifest says: starts that moved, segments that are gone.
    pub(crate) fn catch_up(&self, manifest: &State) {
        let mut state = self.state.lock();
        for (id, facts) in &manifest.logs {
            if let Some(log) = state.log_mut(*id) {
                log.raise_start(*id, facts.start);
            }
        }
        state.segments.retain(|id, seen| {
            manifest.segments.get(id).is_some_and(|facts| facts.nonce == seen.nonce)
        });
        drop(state);
        self.files.clear();
        self.trims.fetch_add(1, Ordering::Release);
    }

    /// Begins anew with another state: who followed a foreign writer was left too far behind.
    pub(crate) fn replace(&self, mut fresh: ViewState) {
        let durable = fresh.durable;
        let mut state = self.state.lock();
        fresh.ended = state.ended.take();
        *state = fresh;
        self.durable.store(durable, Ordering::Release);
        drop(state);
        self.files.clear();
        self.trims.fetch_add(1, Ordering::Release);
    }

    /// Adds a durable batch, or all batches of a span: nobody sees a part of them. Wake the readers
    /// (`notify`) once all that became durable together is in.
    pub(crate) fn publish<'a>(&self, batches: impl Iterator<Item = Durable<'a>>) {
        let mut state = self.state.lock();
        for batch in batches {
            state.add(&batch);
        }
        self.durable.store(state.durable, Ordering::Release);
    }

    pub(crate) fn notify(&self, scratch: &mut Vec<Waker>) {
        self.wait.notify(scratch);
    }

    /// A durable epoch: if it cuts, readers see the log without its suffix from here on.
    pub(crate) fn begin_epoch(&self, log: LogId, epoch: Epoch, first: Lsn) {
        let mut state = self.lock();
        let cuts = state.log_mut(log).is_some_and(|log| log.begin_epoch(epoch, first));
        if cuts {
            state.cursors.cut(log, first);
            drop(state);
            self.tell_cuts();
        }
    }

    /// Logs were cut: readers look whether they stand beyond.
    pub(crate) fn tell_cuts(&self) {
        self.trims.fetch_add(1, Ordering::Release);
        self.wait.notify(&mut Vec::new());
    }

    /// No more batches will come.
    pub(crate) fn end(&self, why: Ended) {
        self.state.lock().ended.get_or_insert(why);
        self.wait.notify(&mut Vec::new());
    }

    /// The shard was reopened: what this view says may not hold any more, so its readers end.
    pub(crate) fn supersede(&self, cause: Arc<Cause>) {
        self.state.lock().ended = Some(Ended::Replaced(cause));
        self.files.clear();
        self.trims.fetch_add(1, Ordering::Release);
        self.wait.notify(&mut Vec::new());
    }

    /// Whether this segment is on the local disk.
    pub(crate) fn has(&self, segment: SegmentId) -> bool {
        self.state.lock().segments.contains_key(&segment)
    }

    /// The first LSN of `log` in unsealed segments; its durable end when there is none.
    pub(crate) fn unsealed_from(&self, log: LogId) -> Lsn {
        let state = self.state.lock();
        let next = state.log(log).map_or(Lsn(0), |log| log.next);
        state.live_entries(log).map(|entry| entry.first_lsn).fold(next, Lsn::min)
    }

    /// What an unsealed segment knows of `log` around `lsn`; see [`LiveIndex::around`].
    pub(crate) fn around(
        &self,
        segment: SegmentId,
        (log, lsn): (LogId, Lsn),
        places: &mut Vec<Posting>,
    ) -> Option<Around> {
        let state = self.state.lock();
        state.segments.get(&segment)?.live.as_ref()?.around(log, lsn, places)
    }

    /// Where to look for `lsn` of `log`.
    pub(crate) fn place(&self, log: LogId, lsn: Lsn) -> Place {
        let state = self.state.lock();
        let Some(view) = state.log(log) else { return Place::Gone };
        if lsn < view.start {
            return Place::Trimmed(view.start);
        }
        if let Some(damage) = view.damage_at(lsn) {
            return Place::Damaged(*damage);
        }
        if lsn == view.next {
            return Place::End(state.stream_end);
        }
        if lsn > view.next {
            return Place::Beyond(view.next);
        }
        for (id, segment) in state.segments.iter().rev() {
            let Some(live) = &segment.live else { continue };
            if let Some(offset) = live.offset_of(log, lsn) {
                return Place::At(*id, offset);
            }
        }
        match view.chain.last() {
            Some(link) => Place::Chain(link),
            None => Place::Trimmed(view.next),
        }
    }
}

impl ViewState {
    pub(crate) fn log(&self, id: LogId) -> Option<&LogView> {
        self.logs.get(id.counter() as usize)?.as_deref()
    }

    pub(crate) fn log_mut(&mut self, id: LogId) -> Option<&mut LogView> {
        self.logs.get_mut(id.counter() as usize)?.as_deref_mut()
    }

    pub(crate) fn put_log(&mut self, id: LogId, log: LogView) {
        let index = id.counter() as usize;
        if index >= self.logs.len() {
            self.logs.resize_with(index + 1, || None);
        }
        self.logs[index] = Some(Box::new(log));
    }

    fn remove_log(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(id.counter() as usize) {
            *log = None;
        }
        self.cursors.forget(id);
        self.wanted.remove(&id);
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = (u64, &LogView)> {
        self.logs.iter().enumerate().filter_map(|(i, l)| Some((i as u64, l.as_deref()?)))
    }

    /// Logs with damage that nobody chose to go on without, among `count` places from `from` on.
    /// `None` beyond the last place.
    pub(crate) fn damaged(&self, from: usize, count: usize) -> Option<Vec<u64>> {
        let places = self.logs.get(from..)?.iter().take(count).enumerate();
        if places.len() == 0 {
            return None;
        }
        let damaged = places.filter(|(_, log)| {
            log.as_ref().is_some_and(|log| log.damages.iter().any(|damage| !damage.lost))
        });
        Some(damaged.map(|(place, _)| (from + place) as u64).collect())
    }

    /// What the segments that are not sealed hold of a log, oldest first.
    pub(crate) fn live_entries(&self, log: LogId) -> impl Iterator<Item = &IndexEntry> {
        let live = self.segments.values().filter_map(|segment| segment.live.as_ref());
        live.filter_map(move |live| live.entry(log))
    }

    /// Adds a durable batch: the runs to their logs, its place to the segment's index.
    pub(crate) fn add(&mut self, batch: &Durable<'_>) {
        self.durable = batch.seq;
        let end = batch.offset + batch.bytes;
        self.stream_end = StreamEnd { segment: batch.segment, offset: end, seq: batch.seq + 1 };
        let Some(segment) = self.segments.get_mut(&batch.segment) else { return };
        if segment.first_seq == 0 {
            segment.first_seq = batch.seq;
        }
        segment.last_seq = batch.seq;
        segment.end = end;
        for run in batch.runs {
            let Some(Some(log)) = self.logs.get_mut(run.log.counter() as usize) else { continue };
            // Of what a cut dropped the tail knows nothing; the index tells what stands there.
            let end = log.cuts.clip(run.epoch, run.last_lsn().next());
            log.next = log.next.max(end);
            log.epoch = log.epoch.max(run.epoch);
            log.last_time_us = log.last_time_us.max(batch.time_us);
            if let Some(live) = &mut segment.live {
                live.add(run, batch.offset, batch.bytes, log.last_time_us);
            }
        }
    }
}

impl SegmentView {
    pub(crate) fn unsealed(file: u64, nonce: u64) -> Self {
        let live = Some(LiveIndex::default());
        Self { file, nonce, end: UNIT_MIN as u64, first_seq: 0, last_seq: 0, live, tiered: false }
    }
}

/// Brings the logs of a snapshot up to what is durable.
pub(crate) fn take_tails(state: &mut State, view: &View) {
    let seen = view.lock();
    for (id, facts) in &mut state.logs {
        let Some(log) = seen.log(*id) else { continue };
        // The state may know of a cut that the view is not told of yet.
        let cuts = state.cuts.get(id);
        let next = cuts.map_or(log.next, |cuts| cuts.clip(log.epoch, log.next));
        facts.tail = facts.tail.max(next);
        facts.tail_time_us = facts.tail_time_us.max(log.last_time_us);
        facts.chain.clone_from(&log.chain);
    }
}
