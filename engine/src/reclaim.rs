//! What becomes of the files of retired segments: the next spare, or nothing.
//!
//! Invariants: a file comes here when the edit that retired its segment is durable, and readers can
//! no longer be led to it. A file is forgotten by the manifest only when its removal is durable.
//! Only files that this term has prepared are used again: older ones were trimmed, and on a shared
//! file system somebody may write to them yet.
//!
//! Crash story: the power goes between the retiring edit and whatever follows. The manifest still
//! lists the file as retired, whatever is in it; the next open takes it up here.
//!
//! Not here: which segments retire (`collect`), rewriting the header (`segment`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::io::{Disk, Done, Mode, Op, Storage};
use crate::lsn::ShardId;
use crate::manifest::{Manifest, RetiredFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::quota::Usage;
use crate::segment::Segments;

/// Files that are removed before the directory is synced.
const REMOVALS_MAX: usize = 16;

/// How long a failed removal rests before it is tried again.
const RETRY_NS: u64 = 1_000_000_000;

enum Doing {
    Index(u64),
    Segment(u64),
    Sync,
}

/// See the module.
pub(crate) struct Reclaim {
    shard: ShardId,
    usage: Arc<Usage>,
    doing: Option<Doing>,
    /// Its operation is at the disk.
    busy: bool,
    /// Removed since the directory was last synced.
    removed: Vec<u64>,
    /// Durably gone and still listed: the one that keeps a number from being given again.
    gone: BTreeSet<u64>,
    /// Bytes of a file and of its index, where they are known better than by the manifest.
    sizes: BTreeMap<u64, u64>,
    /// Retired, and readers are led to it yet: not to be touched.
    pub spared: Option<u64>,
    retry_at: u64,
    /// Bytes given back to the file system so far.
    pub freed_bytes: u64,
}

impl Reclaim {
    fn new(shard: ShardId, usage: Arc<Usage>) -> Self {
        Self {
            shard,
            usage,
            doing: None,
            busy: false,
            removed: Vec::new(),
            gone: BTreeSet::new(),
            sizes: BTreeMap::new(),
            spared: None,
            retry_at: 0,
            freed_bytes: 0,
        }
    }

    /// Takes over what an earlier run has retired and not removed, and counts what the shard's
    /// files take, if there is a quota. Blocking.
    pub(crate) fn begin(
        storage: &dyn Storage,
        shard: ShardId,
        state: &State,
        usage: Arc<Usage>,
    ) -> Self {
        if usage.is_bounded() {
            usage.recount(used_bytes(storage, shard, state));
        }
        let mut reclaim = Self::new(shard, usage);
        for file in state.retired.keys() {
            match storage.open(&names::segment(shard, *file), Mode::Read) {
                Ok((_, bytes)) => drop(reclaim.sizes.insert(*file, bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    reclaim.gone.insert(*file);
                }
                Err(_) => {} // the removal will tell
            }
        }
        reclaim
    }

    /// What a file that is about to retire takes, its index included.
    pub(crate) fn size(&mut self, file: u64, bytes: u64) {
        self.sizes.insert(file, bytes);
    }

    fn next(&self, manifest: &Manifest, segments: &Segments) -> Option<(u64, RetiredFacts)> {
        let open = manifest.state.retired.iter().find(|(file, _)| {
            let busy = self.removed.contains(file) || segments.holds(**file);
            !busy && !self.gone.contains(file) && self.spared != Some(**file)
        });
        open.filter(|_| !planted(Bug::FilesKept)).map(|(file, facts)| (*file, *facts))
    }

    /// Nothing is left to do, or nothing that can be done now.
    pub(crate) fn is_idle(&self, manifest: &Manifest, segments: &Segments) -> bool {
        self.doing.is_none() && self.removed.is_empty() && self.next(manifest, segments).is_none()
    }

    pub(crate) fn failed(&self) -> bool {
        self.retry_at != 0
    }

    /// Whether `step` would start something.
    pub(crate) fn wants_step(&self, manifest: &Manifest, segments: &Segments) -> bool {
        !self.busy && self.retry_at == 0 && !self.is_idle(manifest, segments)
    }

    /// When to look again although nothing happens.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        (self.retry_at != 0).then_some(self.retry_at)
    }

    /// One bounded step. `reuse`: files may become spares. Returns whether an operation was
    /// submitted.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        segments: &mut Segments,
        reuse: bool,
        token: u64,
        now: u64,
    ) -> bool {
        if self.busy || now < self.retry_at {
            return false;
        }
        self.retry_at = 0;
        if self.doing.is_none() {
            self.choose(manifest, segments, reuse);
        }
        let op = match self.doing {
            None => return false,
            Some(Doing::Index(file)) => Op::Remove { name: names::index(self.shard, file) },
            Some(Doing::Segment(file)) => Op::Remove { name: names::segment(self.shard, file) },
            Some(Doing::Sync) => Op::SyncDir,
        };
        self.busy = disk.submit(token, op).is_ok();
        self.busy
    }

    fn choose(&mut self, manifest: &Manifest, segments: &mut Segments, reuse: bool) {
        let state = &manifest.state;
        while let Some((file, facts)) = self.next(manifest, segments) {
            if self.removed.len() >= REMOVALS_MAX {
                break;
            }
            let fits = facts.term == state.term && facts.bytes == state.facts.segment_bytes;
            if !(reuse && fits && segments.takes_more() && !segments.is_refused(file)) {
                self.doing = Some(Doing::Index(file));
                return;
            }
            segments.offer(file);
            // Its index is written over when the file is sealed again, and counted then.
            let size = self.sizes.remove(&file).unwrap_or(facts.bytes);
            self.usage.give_back(size.saturating_sub(facts.bytes));
        }
        self.doing = (!self.removed.is_empty()).then_some(Doing::Sync);
    }

    /// The operation has ended.
    pub(crate) fn complete(&mut self, manifest: &mut Manifest, done: &Done, now: u64) {
        self.busy = false;
        match &done.result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let shard = self.shard.0;
                tracing::warn!(shard, %error, "removing a segment that nobody needs fails");
                self.doing = None;
                self.retry_at = now + RETRY_NS;
                return;
            }
            _ => {}
        }
        self.doing = match self.doing.take() {
            Some(Doing::Index(file)) => Some(Doing::Segment(file)),
            Some(Doing::Segment(file)) => {
                self.removed.push(file);
                None
            }
            Some(Doing::Sync) => {
                for file in std::mem::take(&mut self.removed) {
                    self.removed_durably(manifest, file);
                }
                None
            }
            None => None,
        };
    }

    fn removed_durably(&mut self, manifest: &mut Manifest, file: u64) {
        let facts = manifest.state.retired.get(&file);
        let known = self.sizes.remove(&file);
        let size = known.or(facts.map(|facts| facts.bytes)).unwrap_or(0);
        self.usage.give_back(size);
        self.freed_bytes += size;
        self.gone.insert(file);
        for file in std::mem::take(&mut self.gone) {
            manifest.state.forget(file);
            if manifest.state.retired.contains_key(&file) {
                self.gone.insert(file);
            }
        }
    }
}

/// What the segments, spares, retired files and indexes of a shard take. Blocking.
fn used_bytes(storage: &dyn Storage, shard: ShardId, state: &State) -> u64 {
    let len = |name: String| storage.open(&name, Mode::Read).map_or(0, |(_, bytes)| bytes);
    let named = state.segments.values().map(|facts| facts.file);
    let files = named.chain(state.retired.keys().copied());
    let indexes = state.segments.values().filter_map(|facts| facts.sealed);
    files.map(|file| len(names::segment(shard, file))).sum::<u64>()
        + indexes.map(|sealed| sealed.index_bytes).sum::<u64>()
}
