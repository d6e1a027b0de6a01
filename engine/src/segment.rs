//! Segments of a running shard: the active one, and the next, which is ready before it is needed.
//!
//! Invariants:
//! - A segment is created, filled, synced and named in the manifest, in this order, before its
//!   first batch: a roll writes no metadata.
//! - Filling is paced: one write under way, and behind a batch that waits, unless the batch waits
//!   for this very segment or the fill lags behind (a disk that is always busy must not starve it).
//!   A shard that is idle (its mark is written) fills without pauses.
//! - A failure while a spare is prepared discards the spare and nothing else.
//!
//! Crash story: a power cut between creation and the naming edit leaves a file that the manifest
//! does not name. Recovery removes it when it never held a batch, and sets it aside otherwise.
//!
//! Not here: what goes into a segment (`commit`), what happens to a full one (`seal`).

use std::collections::VecDeque;
use std::io;

use crate::format::manifest::{DirectoryFacts, Edit};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Disk, Done, File, Op};
use crate::lsn::{SegmentId, ShardId};
use crate::manifest::Manifest;
use crate::names;

/// Bytes of one fill write.
pub(crate) const FILL_BYTES: usize = 1 << 20;

/// How far ahead of the active segment's end the fill may be, so that the spare is ready before it.
const HEAD_START_BYTES: u64 = 4 * FILL_BYTES as u64;

/// How long a failed preparation rests before it is tried again.
const RETRY_NS: u64 = 100_000_000;

/// The token of operations whose completion nobody waits for.
pub(crate) const TOKEN_IGNORED: u64 = 6 << 56;

/// Spares that are kept ready.
const SPARES: usize = 1;

/// A segment that this term writes, or will.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub id: SegmentId,
    pub file: File,
    pub number: u64,
    pub nonce: u64,
    pub bytes: u64,
    /// Where the next batch goes.
    pub offset: u64,
}

/// How eagerly the next segment is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A batch waits for it, or nothing else is going on.
    Haste,
    /// As fast as the active segment fills.
    Even,
    /// A batch waits for the disk: only if the spare lags behind, or the roll would wait for it.
    Yield,
}

enum Step {
    Creating,
    Writing { file: File, at: u64 },
    Syncing { file: File },
    SyncingDir { file: File },
    Naming { file: File, edit: u64 },
}

struct Fill {
    id: SegmentId,
    number: u64,
    nonce: u64,
    step: Step,
    /// An operation is at the disk.
    busy: bool,
}

/// See the module.
pub(crate) struct Segments {
    shard: ShardId,
    facts: DirectoryFacts,
    term: u32,
    pub active: Option<Active>,
    pub spares: VecDeque<Active>,
    filling: Option<Fill>,
    next_id: u64,
    next_number: u64,
    zeros: Option<AlignedBuf>,
    retry_at: u64,
    /// Why the last preparation failed; cleared by the next that succeeds.
    pub trouble: Option<io::Error>,
}

impl Segments {
    pub(crate) fn new(
        shard: ShardId,
        facts: DirectoryFacts,
        term: u32,
        spares: VecDeque<Active>,
        next_id: SegmentId,
        next_number: u64,
    ) -> Self {
        Self {
            shard,
            facts,
            term,
            active: None,
            spares,
            filling: None,
            next_id: next_id.0,
            next_number,
            zeros: None,
            retry_at: 0,
            trouble: None,
        }
    }

    /// Whether `bytes` more fit the active segment.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.active.as_ref().is_some_and(|a| a.offset + bytes <= a.bytes)
    }

    /// Makes the spare the active segment; gives the full one back. `None`: no spare is ready.
    pub(crate) fn roll(&mut self) -> Option<Option<Active>> {
        let next = self.spares.pop_front()?;
        Some(self.active.replace(next))
    }

    /// When to look again although nothing happens; `None` when only completions matter.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        (self.filling.is_none() && self.spares.len() < SPARES && self.trouble.is_some())
            .then_some(self.retry_at)
    }

    /// One bounded step of preparing the next segment. Returns whether an operation was submitted.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        token: u64,
        now: u64,
        pace: Pace,
        random: impl FnOnce() -> u64,
    ) -> io::Result<bool> {
        if self.filling.is_none() {
            if self.spares.len() >= SPARES || now < self.retry_at {
                return Ok(false);
            }
            let (id, number) = (SegmentId(self.next_id), self.next_number);
            self.next_id += 1;
            self.next_number += 1;
            let step = Step::Creating;
            self.filling = Some(Fill { id, number, nonce: random(), step, busy: false });
        }
        self.poll_named(manifest);
        match pace {
            Pace::Haste => {}
            Pace::Even if self.due(HEAD_START_BYTES) => {}
            Pace::Yield if self.due(0) => {}
            Pace::Even | Pace::Yield => return Ok(false),
        }
        let Some(fill) = &mut self.filling else { return Ok(false) };
        if fill.busy {
            return Ok(false);
        }
        let op = match &fill.step {
            Step::Creating => Op::Create { name: names::segment(self.shard, fill.number) },
            Step::Writing { file, at } => {
                let (file, at) = (file.clone(), *at);
                let mut buf = match self.zeros.take() {
                    Some(buf) => buf,
                    None => AlignedBuf::zeroed(FILL_BYTES)?,
                };
                if at == 0 {
                    header(&self.facts, self.shard, self.term, fill).encode(&mut buf);
                }
                Op::Write { file, offset: at, buf: IoBuf::Owned(buf), persist: false }
            }
            Step::Syncing { file } => Op::Sync { file: file.clone() },
            Step::SyncingDir { .. } => Op::SyncDir,
            Step::Naming { .. } => return Ok(false),
        };
        match disk.submit(token, op) {
            Ok(()) => fill.busy = true,
            Err((_, Op::Write { buf: IoBuf::Owned(mut buf), .. })) => {
                buf[..SEGMENT_HEADER_BYTES].fill(0);
                self.zeros = Some(buf);
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Self-clocking pace: the spare is to be filled to the same degree as the active segment.
    fn due(&self, ahead: u64) -> bool {
        let Some(active) = &self.active else { return true };
        let Some(fill) = &self.filling else { return false };
        let Step::Writing { at, .. } = fill.step else { return true };
        at <= active.offset + ahead
    }

    /// The shard closes: what was being prepared and has no name yet is removed.
    pub(crate) fn abandon(&mut self, disk: &mut dyn Disk) {
        let named = |fill: &Fill| fill.busy || matches!(fill.step, Step::Naming { .. });
        if self.filling.as_ref().is_none_or(named) {
            return;
        }
        let Some(fill) = self.filling.take() else { return };
        if !matches!(fill.step, Step::Creating) {
            let name = names::segment(self.shard, fill.number);
            let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
        }
    }

    fn poll_named(&mut self, manifest: &Manifest) {
        let Some(Fill { step: Step::Naming { file, edit }, .. }) = &self.filling else { return };
        if manifest.durable_edits < *edit {
            return;
        }
        let file = file.clone();
        if let Some(fill) = self.filling.take() {
            self.trouble = None;
            self.spares.push_back(Active {
                id: fill.id,
                file,
                number: fill.number,
                nonce: fill.nonce,
                bytes: self.facts.segment_bytes,
                offset: u64::from(self.facts.unit),
            });
        }
    }

    /// An operation of the preparation has ended.
    pub(crate) fn complete(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        done: Done,
        now: u64,
    ) {
        if let Some(IoBuf::Owned(mut buf)) = done.buf {
            buf[..SEGMENT_HEADER_BYTES].fill(0);
            self.zeros = Some(buf);
        }
        let Some(mut fill) = self.filling.take() else { return };
        fill.busy = false;
        if let Err(error) = done.result {
            if self.trouble.is_none() {
                let shard = self.shard.0;
                tracing::warn!(shard, %error, "preparing the next segment fails; trying on");
            }
            self.trouble = Some(error);
            self.retry_at = now + RETRY_NS;
            if !matches!(fill.step, Step::Creating) {
                // Best effort: recovery removes what was never named.
                let name = names::segment(self.shard, fill.number);
                let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
            }
            // The segment's number is given back: numbers of segments in use stay dense.
            self.next_id -= 1;
            return;
        }
        fill.step = match fill.step {
            Step::Creating => match done.file {
                Some(file) => Step::Writing { file, at: 0 },
                None => Step::Creating,
            },
            Step::Writing { file, at } => {
                let at = at + FILL_BYTES as u64;
                if at < self.facts.segment_bytes {
                    Step::Writing { file, at }
                } else {
                    Step::Syncing { file }
                }
            }
            Step::Syncing { file } => Step::SyncingDir { file },
            Step::SyncingDir { file } => {
                let edit = manifest.push(Edit::Spare {
                    segment: fill.id,
                    file: fill.number,
                    nonce: fill.nonce,
                    bytes: self.facts.segment_bytes,
                    term: self.term,
                });
                Step::Naming { file, edit }
            }
            step @ Step::Naming { .. } => step,
        };
        self.filling = Some(fill);
    }
}

fn header(facts: &DirectoryFacts, shard: ShardId, term: u32, fill: &Fill) -> SegmentHeader {
    SegmentHeader {
        compat: 0,
        ro_compat: 0,
        incompat: 0,
        directory: facts.directory,
        lineage: facts.lineage,
        shard,
        unit: facts.unit,
        segment: fill.id,
        file: fill.number,
        nonce: fill.nonce,
        bytes: facts.segment_bytes,
        term,
        created_us: facts.created_us,
    }
}
