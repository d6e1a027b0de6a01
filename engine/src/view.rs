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

mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use crate::cursors::Cursors;
use crate::cuts::Cuts;
use crate::ephemeral::Ephemeral;
use crate::error::Cause;
use crate::files::Files;
use crate::format::index::{IndexEntry, Posting};
use crate::format::manifest::{DamageFacts, Link, LogFacts};
use crate::format::{Run, UNIT_MIN};
use crate::holds::Holds;
use crate::index::Which;
use crate::live::{Around, LiveIndex};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId, ShardId};
use crate::manifest::State;
use crate::races::{Race, raced};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::Table;
use crate::wake::WaitWord;

pub(crate) use log::LogView;

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
    /// It is sealed and its index is owed: a file once the disk has room for it, until then this.
    pub owed: Option<Arc<Vec<u8>>>,
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
    /// Counts segments that moved into another file.
    moves: AtomicU64,
}

/// What the lock protects.
#[derive(Default)]
pub(crate) struct ViewState {
    pub durable: u64,
    pub stream_end: StreamEnd,
    logs: Table<LogView>,
    pub segments: BTreeMap<SegmentId, SegmentView>,
    pub cursors: Cursors,
    /// Where retention would put the starts of those logs whose cursors are in its way.
    pub wanted: BTreeMap<LogId, Lsn>,
    pub ended: Option<Ended>,
}

impl View {
    pub(crate) fn new(shard: ShardId, state: ViewState) -> Self {
        let durable = AtomicU64::new(state.durable);
        let (wait, trims, moves) = (WaitWord::default(), AtomicU64::new(0), AtomicU64::new(0));
        Self {
            shard,
            state: Mutex::new(state),
            wait,
            ephemeral: Ephemeral::default(),
            files: Arc::default(),
            holds: Holds::default(),
            durable,
            trims,
            moves,
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

    /// Grows whenever a segment has moved into another file: who met something strange in the old
    /// one looks again then.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// A segment has moved; under the lock that leads to its new file.
    pub(crate) fn note_move(&self) {
        self.moves.fetch_add(1, Ordering::Release);
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
        for facts in manifest.logs.iter() {
            if let Some(log) = state.log_mut(facts.id) {
                log.raise_start(facts.id, facts.start);
            }
        }
        state.segments.retain(|id, seen| {
            let Some(facts) = manifest.segments.get(id) else { return false };
            if let (true, Some(sealed)) = (facts.nonce != seen.nonce, facts.sealed) {
                // It lives on in another file.
                (seen.file, seen.nonce, seen.end) = (facts.file, facts.nonce, sealed.end_offset);
                seen.live = None;
                self.note_move();
            }
            facts.nonce == seen.nonce
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
        if raced(Race::EndAfterWake) {
            self.wait.notify(&mut Vec::new());
        }
        self.state.lock().ended.get_or_insert(why);
        if !raced(Race::EndAfterWake) {
            self.wait.notify(&mut Vec::new());
        }
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

    /// Where the index of a segment is; `None` when the segment is not on the local disk.
    pub(crate) fn which(&self, segment: SegmentId) -> Option<Which> {
        let state = self.state.lock();
        let SegmentView { file, owed, .. } = state.segments.get(&segment)?;
        Some(Which { shard: self.shard, segment, file: *file, owed: owed.clone() })
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
        self.logs.get(id.counter())
    }

    pub(crate) fn log_mut(&mut self, id: LogId) -> Option<&mut LogView> {
        self.logs.get_mut(id.counter())
    }

    pub(crate) fn put_log(&mut self, id: LogId, log: LogView) {
        self.logs.insert(id.counter(), log);
    }

    fn remove_log(&mut self, id: LogId) {
        self.logs.remove(id.counter());
        self.cursors.forget(id);
        self.wanted.remove(&id);
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = (u64, &LogView)> {
        self.logs.iter()
    }

    /// Logs with damage that nobody chose to go on without, among `count` places from `from` on.
    /// `None` beyond the last place.
    pub(crate) fn damaged(&self, from: u64, count: u64) -> Option<Vec<u64>> {
        if from >= self.logs.places() {
            return None;
        }
        let logs = self.logs.from(from).take_while(|(place, _)| *place < from + count);
        let damaged = logs.filter(|(_, log)| log.damages().iter().any(|damage| !damage.lost));
        Some(damaged.map(|(place, _)| place).collect())
    }

    /// What the segments that are not sealed hold of a log, oldest first.
    pub(crate) fn live_entries(&self, log: LogId) -> impl Iterator<Item = IndexEntry> {
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
            let Some(log) = self.logs.get_mut(run.log.counter()) else { continue };
            // Of what a cut dropped the tail knows nothing; the index tells what stands there.
            let end = log.cuts().clip(run.epoch, run.last_lsn().next());
            log.next = log.next.max(end);
            log.epoch = log.epoch.max(run.epoch);
            log.last_time_us = log.last_time_us.max(batch.time_us);
            if let Some(live) = &mut segment.live {
                let seen = (batch.bytes, log.last_time_us);
                live.add(run, batch.offset, seen, &mut log.extent);
            }
        }
    }
}

impl SegmentView {
    pub(crate) fn unsealed(file: u64, nonce: u64) -> Self {
        let (live, end) = (Some(LiveIndex::default()), UNIT_MIN as u64);
        Self { file, nonce, end, first_seq: 0, last_seq: 0, live, owed: None, tiered: false }
    }
}

/// Brings the logs of a state up to what is durable.
pub(crate) fn take_tails(state: &mut State, view: &View) {
    let seen = view.lock();
    for facts in state.logs.iter_mut() {
        let Some((tail, log)) = seen.tail(facts.id, &state.cuts) else { continue };
        facts.tail = facts.tail.max(tail);
        facts.tail_time_us = facts.tail_time_us.max(log.last_time_us);
        facts.chain.clone_from(&log.chain);
    }
}

impl View {
    /// Brings some logs of a snapshot up to what is durable.
    pub(crate) fn tails(&self, cuts: &BTreeMap<LogId, Cuts>, logs: &mut [LogFacts]) {
        let seen = self.lock();
        for facts in logs {
            let Some((tail, log)) = seen.tail(facts.id, cuts) else { continue };
            facts.tail = facts.tail.max(tail);
            facts.tail_time_us = facts.tail_time_us.max(log.last_time_us);
            facts.chain.clone_from(&log.chain);
        }
    }
}

impl ViewState {
    /// A log and its durable end. The state may know of a cut that the view is not told of yet.
    fn tail(&self, id: LogId, cuts: &BTreeMap<LogId, Cuts>) -> Option<(Lsn, &LogView)> {
        let log = self.log(id)?;
        let tail = cuts.get(&id).map_or(log.next, |cuts| cuts.clip(log.epoch, log.next));
        Some((tail, log))
    }
}
