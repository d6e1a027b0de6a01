//! Following a directory that another process writes.
//!
//! Invariants:
//! - A batch is shown only when a claim of the newest term covers it: the durable sequence in a
//!   later header, in a mark, in the manifest, or in a hint page that is to be believed. Until then
//!   it is held back, however whole it looks.
//! - Nothing is written, nothing is held: when the writer's GC overtakes it, a reader gets
//!   `Trimmed`.
//! - It polls at a bounded interval: every millisecond while something comes, slowing to 50 ms. On
//!   the writer's host it looks at the hint page, at headers only when that says more; elsewhere,
//!   or without a page, at headers. Headers and manifest are looked at every 20 ms in any case.
//!
//! Not here: what a reader does with the view (`reader`), opening without a writer (`open`).

mod hints;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use self::hints::Hints;
use crate::catalog::Catalog;
use crate::config::Recovery;
use crate::error::{Error, Result};
use crate::format::manifest::DirectoryFacts;
use crate::format::{BatchHeader, BatchView, Run};
use crate::inner::{Opened, Shards, StopOnDrop};
use crate::io::buf::AlignedBuf;
use crate::io::{File, Mode, Storage};
use crate::lsn::{SegmentId, ShardId};
use crate::manifest::{self, Loaded, SegmentFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::recover;
use crate::view::{Durable, LogView, SegmentView, View};
use crate::work::{Plan, Powers};

/// How often a follower looks while something comes, and when nothing does.
const POLL_MIN: Duration = Duration::from_millis(1);
/// The longest pause between two looks.
const POLL_MAX: Duration = Duration::from_millis(50);

/// Pauses between two looks at the manifest, and at headers, while the stream stands still.
const MANIFEST_EVERY: Duration = Duration::from_millis(20);

/// A whole batch that nothing claims yet.
struct Held {
    segment: SegmentId,
    offset: u64,
    bytes: u64,
    seq: u64,
    time_us: u64,
    runs: Vec<Run>,
    /// Its span goes on: shown only with the last of it.
    continues: bool,
}

/// Follows one shard.
struct Stream {
    storage: Arc<dyn Storage>,
    catalog: Arc<RwLock<Catalog>>,
    view: Arc<View>,
    state: State,
    segment: SegmentId,
    offset: u64,
    file: Option<(SegmentId, File)>,
    expected: u64,
    prev_crc: u32,
    claim: u64,
    held: VecDeque<Held>,
    buf: AlignedBuf,
    manifest_seq: u64,
    manifest_at: u64,
    hints: Hints,
    /// What the hint page says is durable; `None` when there is none to believe.
    told: Option<u64>,
}

pub(crate) fn open(
    storage: Arc<dyn Storage>,
    facts: DirectoryFacts,
    catalog: Catalog,
    loaded: Vec<Loaded>,
) -> Result<Opened> {
    let catalog = Arc::new(RwLock::new(catalog));
    let mut streams = Vec::new();
    for (shard, loaded) in loaded.into_iter().enumerate() {
        streams.push(Stream::new(&storage, ShardId(shard as u16), loaded, &catalog)?);
    }
    streams.iter_mut().try_for_each(|stream| stream.poll().map(|_| ()))?;
    let views = streams.iter().map(|stream| Arc::clone(&stream.view)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (clock, theirs) = (storage.clock(), Arc::clone(&stop));
    let run = move || {
        let mut pause = POLL_MIN;
        while !theirs.load(Ordering::Acquire) {
            let mut moved = false;
            for stream in &mut streams {
                match stream.poll() {
                    Ok(some) => moved |= some,
                    Err(error) => tracing::warn!(%error, "following a foreign writer"),
                }
            }
            pause = if moved { POLL_MIN } else { (pause * 2).min(POLL_MAX) };
            clock.sleep(pause);
        }
    };
    storage
        .spawn("sapwood-follow".into(), Box::new(run), None)
        .map_err(|e| Error::io("starting the following thread", e))?;
    let shards = Shards::Views(views, Some(StopOnDrop(stop)));
    let (threads, grant, reports) = (Vec::new(), None, Vec::new());
    let config = None;
    let opened = Opened { storage, config, facts, catalog, shards, threads, grant, reports };
    Ok(opened)
}

impl Stream {
    fn new(
        storage: &Arc<dyn Storage>,
        shard: ShardId,
        loaded: Loaded,
        catalog: &Arc<RwLock<Catalog>>,
    ) -> Result<Self> {
        let claim = loaded.durable;
        let manifest_seq = loaded.cursor.seq;
        let progress = AtomicU64::new(0);
        let mode = Recovery::TolerateTail;
        let (write, keep_to, progress) = (false, u64::MAX, &progress);
        let powers = &Powers::default();
        let plan = Plan { storage, shard, mode, write, keep_to, powers, progress };
        let (state, view, expected, prev_crc) = recover::look(&plan, loaded)?;
        let facts = state.facts;
        let view = Arc::new(View::new(shard, view));
        let doing = |e| Error::io("following", e);
        let buf = AlignedBuf::zeroed(facts.batch_bytes_max as usize).map_err(doing)?;
        Ok(Self {
            storage: Arc::clone(storage),
            catalog: Arc::clone(catalog),
            view,
            segment: SegmentId(0),
            offset: 0,
            file: None,
            expected,
            prev_crc,
            claim,
            held: VecDeque::new(),
            buf,
            manifest_seq,
            manifest_at: 0,
            hints: Hints::new(storage, facts.directory, shard)?,
            told: None,
            state,
        })
    }

    /// Looks for what is new; true when something was.
    fn poll(&mut self) -> Result<bool> {
        let mut moved = self.hear()?;
        let now = self.storage.clock().mono_ns();
        let due = now >= self.manifest_at;
        if due || self.told.is_none_or(|durable| durable >= self.expected) {
            while self.read_next()? {
                moved = true;
                self.publish();
            }
        }
        // All that was there was read, and a sealed segment has more: it was read too slowly, and
        // what is left of it is in another file.
        let stuck = due && !moved && self.has_sealed_ahead();
        if due {
            self.manifest_at = now + MANIFEST_EVERY.as_nanos() as u64;
            moved |= self.reload()?;
            if self.is_overtaken() || (stuck && self.has_sealed_ahead()) {
                self.begin_again()?;
                moved = true;
            }
        }
        moved |= self.publish();
        Ok(moved)
    }

    /// Looks at the hint page. It claims for its own term alone: what an older one left in flight
    /// may have the same sequences, and is for the newest term's cut to judge.
    fn hear(&mut self) -> Result<bool> {
        self.told = None;
        let Some(page) = self.hints.look() else { return Ok(false) };
        let mut moved = false;
        if page.term > self.state.term || page.manifest_seq > self.manifest_seq {
            moved = self.reload()?;
        }
        if page.term == self.state.term {
            self.told = Some(page.durable);
            self.claim = self.claim.max(page.durable);
        }
        Ok(moved)
    }

    /// Shows what is claimed by now.
    fn publish(&mut self) -> bool {
        let mut shown = false;
        while let Some(last) = self.held.iter().position(|held| !held.continues)
            && (self.held[last].seq <= self.claim || planted(Bug::UnclaimedShown))
        {
            self.view.publish(self.held.range(..=last).map(|held| Durable {
                segment: held.segment,
                offset: held.offset,
                bytes: held.bytes,
                seq: held.seq,
                time_us: held.time_us,
                runs: &held.runs,
            }));
            self.held.drain(..=last);
            shown = true;
        }
        if shown {
            self.view.notify(&mut Vec::new());
        }
        shown
    }

    /// Reads the next batch of the stream, here or at the front of the next segment.
    fn read_next(&mut self) -> Result<bool> {
        let unit = u64::from(self.state.facts.unit);
        if self.segment != SegmentId(0) && self.read_at(self.segment, self.offset)? {
            return Ok(true);
        }
        let later = self.state.segments.range(SegmentId(self.segment.0 + 1)..);
        // One that was filled and sealed between two looks at the manifest is part of the stream
        // too.
        let wanted = |facts: &SegmentFacts| {
            facts.sealed.is_none_or(|sealed| sealed.last_seq >= self.expected)
        };
        let ahead: Vec<_> = later.filter(|(_, f)| wanted(f)).map(|(id, _)| *id).collect();
        for id in ahead {
            if self.read_at(id, unit)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_at(&mut self, id: SegmentId, offset: u64) -> Result<bool> {
        let unit = self.state.facts.unit as usize;
        let Some(facts) = self.state.segments.get(&id).copied() else { return Ok(false) };
        if offset + unit as u64 > facts.bytes {
            return Ok(false);
        }
        let file = match &self.file {
            Some((open, file)) if *open == id => file.clone(),
            _ => {
                let name = names::segment(self.view.shard, facts.file);
                match self.storage.open(&name, Mode::Read) {
                    Ok((file, _)) => file,
                    // Gone or not there yet: the manifest will tell.
                    Err(_) => return Ok(false),
                }
            }
        };
        self.file = Some((id, file.clone()));
        let doing = |e| Error::io("following a segment", e);
        let got = self.storage.read_at(&file, offset, &mut self.buf, unit).map_err(doing)?;
        let Ok((header, crc)) = BatchHeader::decode(&self.buf[..got], facts.nonce) else {
            return Ok(false);
        };
        let next = header.seq == self.expected
            && header.prev_crc == self.prev_crc
            && header.segment == id
            && header.directory == self.state.facts.directory;
        if next && header.manifest_seq > self.manifest_seq {
            // It may hold logs that this follower has not heard of; and what is next may change.
            self.reload()?;
            return Ok(false);
        }
        let padded = header.padded_bytes(unit);
        if !next || padded > self.buf.len() {
            return Ok(false);
        }
        let got = self.storage.read_at(&file, offset, &mut self.buf, padded).map_err(doing)?;
        let Ok(batch) = BatchView::parse(&self.buf[..got], facts.nonce) else { return Ok(false) };
        if batch.verify().is_err() {
            return Ok(false); // still being written, or torn: no claim will ever cover it then
        }
        let runs: Vec<Run> = batch.runs.iter().collect();
        self.claim = self.claim.max(header.durable);
        let (bytes, seq, time_us) = (padded as u64, header.seq, header.time_us);
        let continues = header.continues;
        self.held.push_back(Held { segment: id, offset, bytes, seq, time_us, runs, continues });
        self.view
            .lock()
            .segments
            .entry(id)
            .or_insert_with(|| SegmentView::unsealed(facts.file, facts.nonce));
        (self.segment, self.offset) = (id, offset + bytes);
        (self.expected, self.prev_crc) = (seq + 1, crc);
        Ok(true)
    }

    fn has_sealed_ahead(&self) -> bool {
        let mut sealed = self.state.segments.values().filter_map(|facts| facts.sealed);
        sealed.any(|sealed| sealed.last_seq >= self.expected)
    }

    /// Whether the batch that comes next was collected before it was read: the first segment that
    /// reaches so far begins behind it.
    fn is_overtaken(&self) -> bool {
        let sealed = self.state.segments.values().filter_map(|facts| facts.sealed);
        let next =
            sealed.filter(|sealed| sealed.last_seq >= self.expected).min_by_key(|s| s.first_seq);
        next.is_some_and(|sealed| sealed.first_seq > self.expected)
    }

    /// Begins anew with what the manifest says now; readers of what is gone get `Trimmed`.
    fn begin_again(&mut self) -> Result<()> {
        let Some(loaded) = manifest::load(&*self.storage, self.view.shard)? else { return Ok(()) };
        let (claim, seq) = (loaded.durable, loaded.cursor.seq);
        let progress = AtomicU64::new(0);
        let (shard, mode) = (self.view.shard, Recovery::TolerateTail);
        let (storage, write, keep_to, progress) = (&self.storage, false, u64::MAX, &progress);
        let powers = &Powers::default();
        let plan = Plan { storage, shard, mode, write, keep_to, powers, progress };
        let (state, view, expected, prev_crc) = recover::look(&plan, loaded)?;
        self.view.replace(view);
        (self.state, self.expected, self.prev_crc) = (state, expected, prev_crc);
        (self.segment, self.offset, self.file) = (SegmentId(0), 0, None);
        self.held.clear();
        (self.claim, self.manifest_seq) = (claim, seq);
        Ok(())
    }

    /// Reads the manifest again: new logs, segments, terms, claims.
    fn reload(&mut self) -> Result<bool> {
        let Some(loaded) = manifest::load(&*self.storage, self.view.shard)? else {
            return Ok(false);
        };
        if loaded.cursor.seq == self.manifest_seq {
            return Ok(false);
        }
        let term_changed = loaded.state.term != self.state.term;
        self.manifest_seq = loaded.cursor.seq;
        self.claim = self.claim.max(loaded.durable);
        self.publish();
        if term_changed {
            // A new writer: what was held and not claimed is what its cut says, no more.
            self.held.retain(|held| held.seq <= loaded.state.cut_seq);
            self.claim = self.claim.max(loaded.state.cut_seq);
            self.publish();
            if self.expected > loaded.state.cut_seq + 1 {
                self.expected = loaded.state.cut_seq + 1;
                self.prev_crc = loaded.state.cut_crc;
            }
        }
        let mut cut = false;
        let mut view = self.view.lock();
        for facts in loaded.state.logs.iter() {
            let id = facts.id;
            if view.log(id).is_none() {
                // Its tail as of a snapshot may be ahead of what is shown yet.
                view.put_log(id, LogView::new(facts.start, facts.start));
            }
            if let Some(log) = view.log_mut(id) {
                log.raise_start(id, facts.start);
                // A batch of a newer epoch names this manifest: its cut is known before it is read.
                cut |= loaded.state.cuts.get(&id).is_some_and(|cuts| log.learn_cuts(cuts));
                log.epoch = log.epoch.max(facts.tail_epoch);
            }
        }
        let known = self.state.logs.iter().map(|log| log.id);
        let gone: Vec<_> = known.filter(|id| !loaded.state.logs.contains(*id)).collect();
        view.cursors = loaded.state.cursors.clone();
        drop(view);
        gone.iter().for_each(|id| self.view.remove_log(*id));
        if !gone.is_empty() {
            self.view.notify(&mut Vec::new()); // who follows them is told
        }
        if cut {
            self.view.tell_cuts();
        }
        let mut catalog = self.catalog.write();
        gone.iter().for_each(|id| catalog.remove(*id));
        for log in loaded.state.logs.iter() {
            if catalog.get(log.id).is_none() {
                catalog.add(log.entry());
            }
        }
        drop(catalog);
        self.view.catch_up(&loaded.state);
        self.state = loaded.state;
        Ok(true)
    }
}
