//! Sealing: a full segment becomes immutable, its index a file of its own.
//!
//! Invariants, in this order: all batches of the segment are durable → index file written and
//! synced → directory synced → chains linked → `Sealed` edit durable → the index in memory is
//! dropped.
//!
//! Crash story: the power goes between the index and the edit. Recovery finds an unsealed segment
//! and an index nobody names: it seals the segment anew, over the file.
//!
//! An index that recovery **owes**, as the disk had no room for its file, is written here once
//! there is some, behind everything else; then the edit names it. Crash story: the power goes in
//! between. The manifest says that it is owed: nobody believes the file, it is built again.
//!
//! Not here: when a segment is full (`shard`), who removes it (`gc`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::chain;
use crate::format::index::{IndexData, IndexEntries};
use crate::format::manifest::Chain;
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Disk, Done, File, Mode, Op};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::manifest::{Manifest, SealedFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::segment::{Active, TOKEN_IGNORED};
use crate::view::{View, ViewState};

/// How long a failed seal rests before it is tried again.
const RETRY_NS: u64 = 100_000_000;

/// What sealing a segment comes to.
pub(crate) struct Built {
    pub index: Vec<u8>,
    pub sealed: SealedFacts,
    /// The chains of the segment's logs with this segment in them: for the view, once the index
    /// file is durable. (Before, a reader that walks back would look for a file that is not there.)
    pub chains: Vec<(LogId, Chain)>,
}

impl Built {
    /// Lets readers walk back through this segment.
    pub(crate) fn link(chains: Vec<(LogId, Chain)>, view: &mut ViewState) {
        for (id, chain) in chains {
            if let Some(log) = view.log_mut(id) {
                log.chain = chain;
            }
        }
    }
}

/// Builds the index of `segment` and the chains of its logs. `None` when the segment is not there,
/// sealed already, or holds no batch.
pub(crate) fn build(
    view: &ViewState,
    state: &State,
    shard: ShardId,
    segment: SegmentId,
    last_crc: u32,
) -> Option<Built> {
    let seen = view.segments.get(&segment)?;
    let live = seen.live.as_ref()?;
    if seen.first_seq == 0 {
        return None;
    }
    let (mut entries, postings) = live.sorted();
    let mut names = Vec::with_capacity(entries.len());
    let mut chains = Vec::with_capacity(entries.len());
    let sealed = SealedFacts {
        first_seq: seen.first_seq,
        last_seq: seen.last_seq,
        end_offset: seen.end,
        last_crc,
        records: live.records,
        first_time_us: live.first_time_us,
        last_time_us: live.last_time_us,
        index_bytes: 0,
        index_crc: 0,
    };
    let file = seen.file;
    for entry in &mut entries {
        if let Some(log) = view.log(entry.log) {
            let mut chain = log.chain.clone();
            let links = chain::extend(&mut chain, segment, entry.first_lsn);
            (entry.ordinal, entry.prev, entry.jump) = links;
            chains.push((entry.log, chain));
        }
        let name = state.logs.get(entry.log).map(|log| log.name.to_string());
        names.extend(name.map(|name| (entry.log, name)));
    }
    let data = IndexData {
        directory: state.facts.directory,
        shard,
        segment,
        file,
        term: state.term,
        first_seq: sealed.first_seq,
        last_seq: sealed.last_seq,
        end_offset: sealed.end_offset,
        entries,
        postings,
        names,
    };
    let index = data.encode();
    let (index_bytes, index_crc) = (index.len() as u64, crc32c::crc32c(&index));
    let sealed = SealedFacts { index_bytes, index_crc, ..sealed };
    Some(Built { index, sealed, chains })
}

/// Which logs a sealed segment added to their chains, told by its index, for a state that does not
/// have them yet.
pub(crate) fn adopt(view: &mut ViewState, index: &IndexEntries<'_>) {
    let segment = index.header.segment;
    for entry in index.iter() {
        let Some(log) = view.log_mut(entry.log) else { continue };
        if log.chain.last().is_none_or(|last| last.segment < segment) {
            chain::extend(&mut log.chain, segment, entry.first_lsn);
        }
        log.next = log.next.max(log.cuts().clip(entry.last_epoch, entry.last_lsn.next()));
        log.epoch = log.epoch.max(entry.last_epoch);
        log.last_time_us = log.last_time_us.max(entry.last_time_us);
    }
}

struct Job {
    id: SegmentId,
    /// The number in the names of its file and of its index's.
    number: u64,
    last_seq: u64,
    last_crc: u32,
    /// The file of the index may be there already, with other bytes in it.
    reused: bool,
    /// The index, built before and owed since.
    owed: Option<Arc<Vec<u8>>>,
    /// The file whose unused rest is to be given back.
    trim: Option<File>,
}

enum Step {
    Creating {
        built: Built,
    },
    Writing {
        file: File,
        built: Built,
    },
    /// The file held a longer index before.
    Cutting {
        file: File,
        built: Built,
    },
    Syncing {
        file: File,
        built: Built,
    },
    SyncingDir {
        built: Built,
    },
    Naming {
        edit: u64,
    },
    Trimming,
}

/// Seals the segments of a running shard, one at a time, oldest first.
#[derive(Default)]
pub(crate) struct Sealer {
    queue: VecDeque<Job>,
    /// Segments that are sealed but for their index, oldest first. Bounded by what recovery owes.
    owed: VecDeque<Job>,
    work: Option<(Job, Step)>,
    busy: bool,
    retry_at: u64,
    failed: bool,
    /// The last attempt to write an owed index failed: not tried again before this moment.
    owed_at: Option<u64>,
    /// Something was left to recovery, and so is all that is newer: what is sealed has no hole.
    abandoned: bool,
    /// Segments sealed so far.
    pub sealed: u64,
}

impl Sealer {
    /// Takes over the indexes that recovery owes.
    pub(crate) fn new(view: &View) -> Self {
        let view = view.lock();
        let owed = view.segments.iter().filter_map(|(id, seen)| {
            Some(Job {
                id: *id,
                number: seen.file,
                last_seq: 0,
                last_crc: 0,
                reused: true,
                owed: Some(seen.owed.clone()?),
                trim: None,
            })
        });
        Self { owed: owed.collect(), ..Self::default() }
    }

    /// Takes a segment that gets no more batches. `trim`: give the unused rest of its file back.
    pub(crate) fn push(&mut self, active: Active, last_seq: u64, last_crc: u32, trim: bool) {
        if self.abandoned {
            return;
        }
        let Active { id, file, number, recycled, .. } = active;
        let trim = trim.then_some(file);
        let job = Job { id, number, last_seq, last_crc, reused: recycled, owed: None, trim };
        self.queue.push_back(job);
    }

    pub(crate) fn idle(&self) -> bool {
        self.queue.is_empty() && self.work.is_none()
    }

    /// The shard closes: what is owed and not begun is left to the next recovery.
    pub(crate) fn owe_on(&mut self) {
        self.owed.clear();
    }

    /// Segments that are full and not sealed yet.
    pub(crate) fn behind(&self) -> u64 {
        self.queue.len() as u64 + u64::from(self.work.is_some())
    }

    /// The last attempt failed and is to be tried again.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Leaves what is not sealed to recovery.
    pub(crate) fn abandon(&mut self) {
        self.queue.clear();
        self.owe_on();
        self.work = None;
        self.failed = false;
        self.abandoned = true;
    }

    /// Whether `step` would start something.
    pub(crate) fn wants_step(&self, durable: u64) -> bool {
        if self.busy || self.failed {
            return false;
        }
        match &self.work {
            Some((_, step)) => !matches!(step, Step::Naming { .. } | Step::Trimming),
            None => {
                let owed = self.owed_at.is_none() && !self.owed.is_empty();
                owed || self.queue.front().is_some_and(|job| job.last_seq <= durable)
            }
        }
    }

    /// When to look again although nothing happens.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        let failed = (self.failed && !self.idle()).then_some(self.retry_at);
        let owed = self.owed_at.filter(|_| self.work.is_none() && !self.owed.is_empty());
        failed.into_iter().chain(owed).min()
    }

    /// One bounded step. Returns whether an operation was submitted.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        view: &View,
        token: u64,
        now: u64,
    ) -> io::Result<bool> {
        if self.busy || (self.failed && now < self.retry_at) {
            return Ok(false);
        }
        self.failed = false;
        let Some((job, step)) = self.work.take() else {
            self.begin(manifest, view, now);
            if self.work.is_none() {
                return Ok(false);
            }
            return self.step(disk, manifest, view, token, now);
        };
        if job.owed.is_some() && !manifest.state.segments.contains_key(&job.id) {
            // Retired meanwhile, and its index perhaps removed before this one was there.
            let name = names::index(view.shard, job.number);
            let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
            return Ok(true);
        }
        let op = match &step {
            // The file of the segment was used before, and so is that of its index.
            Step::Creating { .. } if job.reused => {
                let name = names::index(view.shard, job.number);
                Op::Open { name, mode: Mode::Write }
            }
            Step::Creating { .. } => Op::Create { name: names::index(view.shard, job.number) },
            Step::Cutting { file, built } => {
                Op::Truncate { file: file.clone(), bytes: built.index.len() as u64 }
            }
            Step::Writing { .. } => {
                self.work = Some((job, step));
                return Ok(false);
            }
            Step::Syncing { file, .. } => Op::Sync { file: file.clone() },
            Step::SyncingDir { .. } => Op::SyncDir,
            Step::Naming { edit } => {
                if manifest.durable_edits < *edit {
                    self.work = Some((job, step));
                    return Ok(false);
                }
                self.sealed += u64::from(job.owed.is_none());
                let mut end = 0;
                if let Some(seen) = view.lock().segments.get_mut(&job.id) {
                    (seen.live, seen.owed, end) = (None, None, seen.end);
                }
                let Some(file) = job.trim.clone() else { return Ok(true) };
                let op = Op::Truncate { file, bytes: end };
                self.busy = disk.submit(token, op).is_ok();
                self.work = self.busy.then_some((job, Step::Trimming));
                return Ok(true);
            }
            Step::Trimming => return Ok(false),
        };
        self.busy = disk.submit(token, op).is_ok();
        self.work = Some((job, step));
        Ok(self.busy)
    }

    fn begin(&mut self, manifest: &Manifest, view: &View, now: u64) {
        let ready = self
            .queue
            .front()
            .is_some_and(|job| job.last_seq <= view.durable() || planted(Bug::SealedTooEarly));
        if let Some(job) = ready.then(|| self.queue.pop_front()).flatten() {
            let built = build(&view.lock(), &manifest.state, view.shard, job.id, job.last_crc);
            self.work = built.map(|built| (job, Step::Creating { built }));
            return;
        }
        if self.owed_at.is_some_and(|at| now < at) {
            return;
        }
        self.owed_at = None;
        let Some(job) = self.owed.pop_front() else { return };
        let facts = manifest.state.segments.get(&job.id).and_then(|facts| facts.sealed);
        let (Some(sealed), Some(index)) = (facts, &job.owed) else { return };
        let (index_bytes, index_crc) = (index.len() as u64, crc32c::crc32c(index));
        let sealed = SealedFacts { index_bytes, index_crc, ..sealed };
        let built = Built { index: Vec::clone(index), sealed, chains: Vec::new() };
        self.work = Some((job, Step::Creating { built }));
    }

    /// An operation has ended; the next one is chosen by `step`.
    pub(crate) fn complete(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        view: &View,
        token: u64,
        done: Done,
        now: u64,
    ) -> io::Result<()> {
        let shard = view.shard;
        self.busy = false;
        let Some((job, step)) = self.work.take() else { return Ok(()) };
        if let Err(error) = done.result {
            self.put_back(disk, shard, (job, step), &error, now);
            return Ok(());
        }
        let step = match step {
            Step::Creating { built } => {
                let Some(file) = done.file else { return Err(io::ErrorKind::Other.into()) };
                let mut buf = AlignedBuf::zeroed(built.index.len())?;
                buf[..built.index.len()].copy_from_slice(&built.index);
                let buf = IoBuf::Owned(buf);
                if planted(Bug::SyncBeforeWrite) {
                    let _ = disk.submit(TOKEN_IGNORED, Op::Sync { file: file.clone() });
                }
                let op = Op::Write { file: file.clone(), offset: 0, buf, persist: false };
                self.busy = disk.submit(token, op).is_ok();
                if !self.busy {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Step::Writing { file, built }
            }
            Step::Writing { file, built } if job.reused => Step::Cutting { file, built },
            Step::Writing { built, .. } if planted(Bug::SyncBeforeWrite) => {
                Step::SyncingDir { built }
            }
            Step::Writing { file, built } | Step::Cutting { file, built } => {
                Step::Syncing { file, built }
            }
            Step::Syncing { built, .. } => Step::SyncingDir { built },
            Step::SyncingDir { built } => {
                // Before the edit: a snapshot that says `Sealed` has the chains too.
                manifest.chains_grew(built.chains.len());
                Built::link(built.chains, &mut view.lock());
                Step::Naming { edit: manifest.push(built.sealed.edit(job.id)) }
            }
            Step::Naming { .. } | Step::Trimming => return Ok(()),
        };
        self.work = Some((job, step));
        Ok(())
    }

    /// An operation failed: what it was part of is done again later, from its beginning.
    fn put_back(
        &mut self,
        disk: &mut dyn Disk,
        shard: ShardId,
        (mut job, step): (Job, Step),
        error: &io::Error,
        now: u64,
    ) {
        let missing = error.kind() == io::ErrorKind::NotFound;
        if matches!(step, Step::Creating { .. }) && job.reused && missing {
            job.reused = false;
            self.work = Some((job, step));
            return;
        }
        if matches!(step, Step::Trimming) {
            tracing::warn!(shard = shard.0, %error, "giving back the rest of a segment failed");
            return;
        }
        let name = names::index(shard, job.number);
        let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
        if job.owed.is_some() {
            job.reused = true;
            self.owed.push_front(job);
            self.owed_at = Some(now + RETRY_NS);
            return;
        }
        tracing::warn!(shard = shard.0, segment = job.id.0, %error, "sealing failed");
        self.queue.push_front(job);
        self.failed = true;
        self.retry_at = now + RETRY_NS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Storage;
    use crate::io::sim::{Faults, SimStorage};

    /// A seal failed while the engine closed and was left to recovery; the last segment was sealed
    /// all the same, its end recorded and believed, and the segment before it never scanned: its
    /// records were gone (found by `sim_failing_disk`).
    #[test]
    fn nothing_is_sealed_behind_what_was_left_to_recovery() {
        let storage = SimStorage::new(1, Faults::default());
        let file = storage.create("segment-000-0000000001").unwrap();
        let active = |id| Active {
            id: SegmentId(id),
            file: file.clone(),
            number: id,
            nonce: 1,
            bytes: 1 << 20,
            offset: 4096,
            recycled: false,
        };
        let mut sealer = Sealer::default();
        sealer.push(active(1), 5, 0, false);
        assert!(!sealer.idle());
        sealer.abandon();
        sealer.push(active(2), 9, 0, true);
        assert!(sealer.idle(), "left to recovery too");
    }
}
