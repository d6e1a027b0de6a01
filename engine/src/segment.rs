//! Segments of a running shard: the active one, and the next, which is ready before it is needed.
//!
//! Invariants:
//! - A segment is created, filled, synced and named in the manifest, in this order, before its
//!   first batch: a roll writes no metadata.
//! - Filling is paced: one write under way, and behind a batch that waits, unless the batch waits
//!   for this very segment or the fill lags behind (a disk that is always busy must not starve it).
//!   A shard that is idle (its mark is written) fills without pauses.
//! - A failure while a spare is prepared discards the spare and nothing else.
//! - A file of a retired segment becomes a spare before one is made: its header is rewritten
//!   durably, then the spare is named. One preparation at a time, so that segments are used in the
//!   order of their numbers.
//!
//! Crash story: a power cut between creation and the naming edit leaves a file that the manifest
//! does not name. Recovery removes it when it never held a batch, and sets it aside otherwise.
//!
//! Not here: what goes into a segment (`commit`), what happens to a full one (`seal`), which files
//! may be used again (`collect`), how many spares are kept (`pool`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::format::manifest::{DirectoryFacts, Edit};
use crate::format::{RECYCLED, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Disk, Done, File, Mode, Op};
use crate::lsn::{SegmentId, ShardId};
use crate::manifest::Manifest;
use crate::names;
use crate::planted::{Bug, planted};
use crate::pool::{Pool, SPARES_MIN};
use crate::quota::Usage;

/// Bytes of one fill write.
pub(crate) const FILL_BYTES: usize = 1 << 20;

/// How far ahead of the active segment's end the fill may be, so that the spare is ready before it.
const HEAD_START_BYTES: u64 = 4 * FILL_BYTES as u64;

/// How long a failed preparation rests before it is tried again.
const RETRY_NS: u64 = 100_000_000;

/// The token of operations whose completion nobody waits for.
pub(crate) const TOKEN_IGNORED: u64 = 6 << 56;

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
    /// The file was another segment before, whose index file may still be there.
    pub recycled: bool,
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
    /// A retired file is opened, then its header is rewritten.
    Opening,
    Heading {
        file: File,
    },
    Creating,
    Writing {
        file: File,
        at: u64,
    },
    Syncing {
        file: File,
    },
    SyncingDir {
        file: File,
    },
    Naming {
        file: File,
        edit: u64,
    },
}

struct Fill {
    id: SegmentId,
    number: u64,
    nonce: u64,
    step: Step,
    recycled: bool,
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
    /// Files of retired segments that are to become spares.
    offered: VecDeque<u64>,
    /// Those of them that could not.
    refused: Vec<u64>,
    pool: Pool,
    usage: Arc<Usage>,
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
        usage: Arc<Usage>,
    ) -> Self {
        Self {
            shard,
            facts,
            term,
            active: None,
            spares,
            filling: None,
            offered: VecDeque::new(),
            refused: Vec::new(),
            pool: Pool::default(),
            usage,
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
        self.pool.rolled(self.spares.len());
        Some(self.active.replace(next))
    }

    /// When to look again although nothing happens; `None` when only completions matter.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        let retry = self.filling.is_none() && self.is_short() && self.trouble.is_some();
        let review = self.pool.review_at(self.spares.len());
        retry.then_some(self.retry_at).into_iter().chain(review).min()
    }

    fn is_short(&self) -> bool {
        self.spares.len() < SPARES_MIN
    }

    /// The next segment cannot be prepared: any space that is given back helps.
    pub(crate) fn is_starved(&self) -> bool {
        self.is_short() && self.trouble.is_some()
    }

    /// A number for a file that somebody else makes.
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    // ── retired files ──

    /// Whether another retired file is wanted as a spare.
    pub(crate) fn takes_more(&self) -> bool {
        let coming = self.offered.len() + usize::from(self.filling.is_some());
        self.pool.takes(self.spares.len() + coming) && !self.usage.is_over()
    }

    /// Takes a retired file: it will be a spare, or given back through `refused`.
    pub(crate) fn offer(&mut self, number: u64) {
        self.offered.push_back(number);
    }

    /// Whether a retired file is on its way to be a spare.
    pub(crate) fn holds(&self, number: u64) -> bool {
        let filling = self.filling.as_ref().is_some_and(|fill| fill.number == number);
        filling || self.offered.contains(&number)
    }

    /// A retired file that could not be made a spare, once each.
    pub(crate) fn is_refused(&self, number: u64) -> bool {
        self.refused.contains(&number)
    }

    /// Gives spares up that the load does not need: all but the last when `least`. Their files are
    /// retired, as if they had been written.
    pub(crate) fn review(&mut self, manifest: &mut Manifest, now: u64, least: bool) {
        let unneeded = if least {
            self.pool.shrink(self.spares.len())
        } else {
            self.pool.review(now, self.spares.len())
        };
        if let Some(spare) = unneeded.then(|| self.spares.pop_back()).flatten() {
            manifest.push(Edit::Retired { segment: spare.id });
        }
    }

    /// Whether `step` would begin something now.
    pub(crate) fn wants_step(&self) -> bool {
        self.filling.is_none() && !self.offered.is_empty()
    }

    /// Whether a retired file is being prepared.
    pub(crate) fn is_recycling(&self) -> bool {
        self.filling.as_ref().is_some_and(|fill| fill.recycled)
    }

    /// Chooses what is prepared next; false: nothing.
    fn begin(&mut self, now: u64, random: impl FnOnce() -> u64) -> bool {
        let (number, step) = match self.offered.pop_front() {
            Some(number) => (number, Step::Opening),
            None if !self.is_short() || now < self.retry_at => return false,
            None if !self.usage.take(self.facts.segment_bytes) => {
                let error = io::Error::new(io::ErrorKind::QuotaExceeded, self.usage.refusal());
                self.fails(error, now);
                return false;
            }
            None => {
                self.pool.made();
                self.next_number += 1;
                (self.next_number - 1, Step::Creating)
            }
        };
        let id = SegmentId(self.next_id);
        self.next_id += 1;
        let recycled = matches!(step, Step::Opening);
        let nonce = if planted(Bug::OneSeed) { 1 } else { random() };
        self.filling = Some(Fill { id, number, nonce, step, recycled, busy: false });
        true
    }

    fn fails(&mut self, error: io::Error, now: u64) {
        if self.trouble.is_none() {
            let shard = self.shard.0;
            tracing::warn!(shard, %error, "preparing the next segment fails; trying on");
        }
        self.trouble = Some(error);
        self.retry_at = now + RETRY_NS;
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
        if self.filling.is_none() && !self.begin(now, random) {
            return Ok(false);
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
            Step::Opening => {
                Op::Open { name: names::segment(self.shard, fill.number), mode: Mode::Write }
            }
            Step::Heading { file } => {
                let mut buf = AlignedBuf::zeroed(self.facts.unit as usize)?;
                header(&self.facts, self.shard, self.term, fill).encode(&mut buf);
                let (buf, persist) = (IoBuf::Owned(buf), !planted(Bug::HeaderNotSynced));
                Op::Write { file: file.clone(), offset: 0, buf, persist }
            }
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
            Err((_, Op::Write { buf: IoBuf::Owned(mut buf), .. })) if buf.len() == FILL_BYTES => {
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
        // A retired file stays what it is: whoever removes those finds it.
        if !fill.recycled && !matches!(fill.step, Step::Creating) {
            let name = names::segment(self.shard, fill.number);
            let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
        }
    }

    /// The shard closes: retired files that wait for their turn are given back.
    pub(crate) fn give_back(&mut self) {
        self.offered.clear();
    }

    fn poll_named(&mut self, manifest: &Manifest) {
        let Some(Fill { step: Step::Naming { file, edit }, .. }) = &self.filling else { return };
        if manifest.durable_edits < *edit && !planted(Bug::SpareBeforeNamed) {
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
                recycled: fill.recycled,
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
        if let Some(IoBuf::Owned(mut buf)) = done.buf
            && buf.len() == FILL_BYTES
        {
            buf[..SEGMENT_HEADER_BYTES].fill(0);
            self.zeros = Some(buf);
        }
        let Some(mut fill) = self.filling.take() else { return };
        fill.busy = false;
        if let Err(error) = done.result {
            self.discard(disk, &fill, error, now);
            return;
        }
        fill.step = match fill.step {
            Step::Opening => match done.file {
                Some(file) => Step::Heading { file },
                None => Step::Opening,
            },
            Step::Heading { file } => self.name(manifest, fill.id, fill.number, fill.nonce, file),
            Step::Creating => match done.file {
                Some(file) => Step::Writing { file, at: 0 },
                None => Step::Creating,
            },
            Step::Writing { file, at } => {
                let at = at + FILL_BYTES as u64;
                if at < self.facts.segment_bytes {
                    Step::Writing { file, at }
                } else if planted(Bug::SpareNotSynced) {
                    Step::SyncingDir { file }
                } else {
                    Step::Syncing { file }
                }
            }
            Step::Syncing { file } if planted(Bug::DirectoryNotSynced) => {
                self.name(manifest, fill.id, fill.number, fill.nonce, file)
            }
            Step::Syncing { file } => Step::SyncingDir { file },
            Step::SyncingDir { file } => {
                self.name(manifest, fill.id, fill.number, fill.nonce, file)
            }
            step @ Step::Naming { .. } => step,
        };
        self.filling = Some(fill);
    }

    /// The file is ready: names it.
    fn name(
        &self,
        manifest: &mut Manifest,
        segment: SegmentId,
        number: u64,
        nonce: u64,
        file: File,
    ) -> Step {
        let edit = manifest.push(Edit::Spare {
            segment,
            file: number,
            nonce,
            bytes: self.facts.segment_bytes,
            term: self.term,
        });
        Step::Naming { file, edit }
    }

    /// The preparation has failed.
    fn discard(&mut self, disk: &mut dyn Disk, fill: &Fill, error: io::Error, now: u64) {
        // The segment's number is given back: numbers of segments in use stay dense.
        self.next_id -= 1;
        if fill.recycled {
            tracing::warn!(shard = self.shard.0, %error, "a file cannot be used again");
            self.refused.push(fill.number);
            return;
        }
        self.fails(error, now);
        self.usage.give_back(self.facts.segment_bytes);
        if !matches!(fill.step, Step::Creating) {
            // Best effort: recovery removes what was never named.
            let name = names::segment(self.shard, fill.number);
            let _ = disk.submit(TOKEN_IGNORED, Op::Remove { name });
        }
    }
}

fn header(facts: &DirectoryFacts, shard: ShardId, term: u32, fill: &Fill) -> SegmentHeader {
    SegmentHeader {
        compat: if fill.recycled { RECYCLED } else { 0 },
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
