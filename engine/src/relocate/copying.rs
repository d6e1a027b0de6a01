//! A copy of a mostly dead segment that is being made, an operation at a time.
//!
//! Invariants: the header is durable before anything else is written; nothing is written that was
//! not checked; the last operation is the sync of the directory, so whoever is told that it has
//! ended may name the copy.
//!
//! Not here: when it goes on, and what it is for (`relocate`), the bytes (`compact`).

use std::collections::BTreeMap;
use std::io;

use crate::compact::{Compactor, Live, Lives, Taken};
use crate::format::index::{IndexData, IndexEntry};
use crate::format::manifest::Edit;
use crate::format::{COMPACTED, SegmentHeader};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Done, File, Mode, Op};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::manifest::{Manifest, SealedFacts, SegmentFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::quota::Usage;
use crate::view::View;
use crate::yard::Yard;

/// Bytes that are read at once, unless a batch is larger.
const READ_BYTES: usize = 256 << 10;

/// So many are gathered before they are written.
const WRITE_BYTES: usize = 128 << 10;

/// A sealed segment, and what it was when it was chosen.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub segment: SegmentId,
    pub facts: SegmentFacts,
    pub sealed: SealedFacts,
}

enum Step {
    Opening,
    Creating,
    Heading,
    Reading { at: u64, bytes: usize },
    Writing { at: u64 },
    Syncing,
    CreatingIndex,
    WritingIndex(File),
    SyncingIndex(File),
    SyncingDir,
}

/// A copy that is being made.
pub(super) struct Copying {
    pub source: Source,
    from: Option<File>,
    to: Option<File>,
    pub number: u64,
    nonce: u64,
    compactor: Compactor,
    records: u64,
    data: IndexData,
    index: Vec<u8>,
    index_crc: u32,
    /// What it takes of the quota.
    pub taken: u64,
    step: Step,
}

/// Why a copy is given up.
pub(super) enum Failure {
    /// The disk, or the quota.
    Io(io::Error),
    /// The source has not what it should.
    Damaged(String),
    /// It is not wanted any more.
    Moot,
}

impl std::convert::From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Copying {
    /// Of this segment, into a file of this number and nonce.
    pub(super) fn new(
        shard: ShardId,
        source: Source,
        live: BTreeMap<LogId, Live>,
        state: &State,
        (number, nonce): (u64, u64),
    ) -> Self {
        let facts = &state.facts;
        let lives = Lives {
            directory: facts.directory,
            shard,
            segment: source.segment,
            unit: facts.unit as usize,
            batch_bytes_max: facts.batch_bytes_max as usize,
            from: source.facts.nonce,
            to: nonce,
            file: number,
        };
        Self {
            source,
            from: None,
            to: None,
            number,
            nonce,
            compactor: Compactor::new(lives, live),
            records: 0,
            data: IndexData::default(),
            index: Vec::new(),
            index_crc: 0,
            taken: 0,
            step: Step::Opening,
        }
    }

    /// Whether there is a file of it.
    pub(super) fn is_begun(&self) -> bool {
        self.to.is_some()
    }

    /// The edit that makes it the segment.
    pub(super) fn edit(&self, state: &State) -> Edit {
        Edit::Relocated {
            segment: self.source.segment,
            file: self.number,
            nonce: self.nonce,
            end_offset: self.compactor.end,
            records: self.records,
            index_bytes: self.index.len() as u64,
            term: state.term,
            index_crc: self.index_crc,
        }
    }

    /// The operation that comes next.
    pub(super) fn op(&self, shard: ShardId, manifest: &Manifest) -> io::Result<Op> {
        let missing = || io::Error::other("the file of a relocation is not open");
        let to = || self.to.clone().ok_or_else(missing);
        Ok(match &self.step {
            Step::Syncing if planted(Bug::RelocatedNotSynced) => {
                let name = names::segment(shard, self.number);
                Op::Open { name, mode: Mode::Read }
            }
            Step::Opening => {
                let name = names::segment(shard, self.source.facts.file);
                Op::Open { name, mode: Mode::Read }
            }
            Step::Creating => Op::Create { name: names::segment(shard, self.number) },
            Step::Heading => {
                let buf = self.header(shard, &manifest.state)?;
                let buf = IoBuf::Owned(buf);
                Op::Write { file: to()?, offset: 0, buf, persist: true }
            }
            Step::Reading { at, bytes } => {
                let file = self.from.clone().ok_or_else(missing)?;
                let left = self.source.sealed.end_offset.saturating_sub(*at) as usize;
                let buf = AlignedBuf::zeroed(left.min(*bytes))?;
                Op::Read { file, offset: *at, buf }
            }
            Step::Writing { .. } => {
                let out = &self.compactor.out;
                let offset = self.compactor.end - out.len() as u64;
                write(to()?, offset, out)?
            }
            Step::Syncing => Op::Sync { file: to()? },
            Step::CreatingIndex => Op::Create { name: names::index(shard, self.number) },
            Step::WritingIndex(file) => write(file.clone(), 0, &self.index)?,
            Step::SyncingIndex(file) => Op::Sync { file: file.clone() },
            Step::SyncingDir => Op::SyncDir,
        })
    }

    fn header(&self, shard: ShardId, state: &State) -> io::Result<AlignedBuf> {
        let facts = state.facts;
        let mut buf = AlignedBuf::zeroed(facts.unit as usize)?;
        let header = SegmentHeader {
            compat: COMPACTED,
            directory: facts.directory,
            lineage: facts.lineage,
            shard,
            unit: facts.unit,
            segment: self.source.segment,
            file: self.number,
            nonce: self.nonce,
            bytes: self.source.sealed.end_offset,
            term: state.term,
            created_us: facts.created_us,
            ..SegmentHeader::default()
        };
        header.encode(&mut buf);
        Ok(buf)
    }

    /// An operation has ended: chooses the next one. True when there is none.
    pub(super) fn complete(
        &mut self,
        yard: &mut Yard<'_>,
        done: Done,
        usage: &Usage,
    ) -> Result<bool, Failure> {
        let got = done.result?;
        let unit = yard.manifest.state.facts.unit;
        let file = || done.file.clone().ok_or_else(|| io::Error::other("opened and not there"));
        let step = match &self.step {
            Step::Opening => {
                self.from = Some(file()?);
                Step::Creating
            }
            Step::Creating => {
                self.to = Some(file()?);
                self.take(usage, u64::from(unit))?;
                Step::Heading
            }
            Step::Heading => self.after(u64::from(unit)),
            Step::Reading { at, .. } => {
                let at = *at;
                let bytes = match &done.buf {
                    Some(IoBuf::Owned(buf)) => &buf[..got.min(buf.len())],
                    _ => &[],
                };
                self.read(at, bytes, usage)?
            }
            Step::Writing { at } => {
                let at = *at;
                self.compactor.out.clear();
                self.after(at)
            }
            Step::Syncing => {
                self.build_index(yard.manifest);
                self.take(usage, self.index.len() as u64)?;
                Step::CreatingIndex
            }
            Step::CreatingIndex => Step::WritingIndex(file()?),
            Step::WritingIndex(file) => Step::SyncingIndex(file.clone()),
            Step::SyncingIndex(_) => Step::SyncingDir,
            Step::SyncingDir => return Ok(true),
        };
        self.step = step;
        Ok(false)
    }

    fn take(&mut self, usage: &Usage, bytes: u64) -> Result<(), Failure> {
        if !usage.take(bytes) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, usage.refusal()).into());
        }
        self.taken += bytes;
        Ok(())
    }

    /// Bytes of the source from `at` on have come.
    fn read(&mut self, at: u64, bytes: &[u8], usage: &Usage) -> Result<Step, Failure> {
        let left = (self.source.sealed.end_offset - at) as usize;
        let bytes = &bytes[..bytes.len().min(left)];
        let told = |why: String| Failure::Damaged(format!("from offset {at} on: {why}"));
        let wrote = self.compactor.end;
        let taken = match self.compactor.take(bytes).map_err(told)? {
            Taken::Bytes(0) => return Err(told("the file ends here".into())),
            Taken::Wants(bytes) if bytes > left => {
                return Err(told("a batch reaches beyond the end".into()));
            }
            Taken::Wants(bytes) => return Ok(Step::Reading { at, bytes }),
            Taken::Bytes(taken) => taken as u64,
        };
        let at = at + taken;
        if at == self.source.sealed.end_offset {
            (self.data, self.records) = self.compactor.finish().map_err(told)?;
        }
        self.take(usage, self.compactor.end - wrote)?;
        let enough = self.compactor.out.len() >= WRITE_BYTES;
        let last = at == self.source.sealed.end_offset && !self.compactor.out.is_empty();
        Ok(if enough || last { Step::Writing { at } } else { self.after(at) })
    }

    /// What comes when the source was taken up to `at` and nothing waits to be written.
    fn after(&self, at: u64) -> Step {
        if at == self.source.sealed.end_offset {
            Step::Syncing
        } else {
            Step::Reading { at, bytes: READ_BYTES.max(self.compactor.unit()) }
        }
    }

    /// Completes the index by what the manifest knows.
    fn build_index(&mut self, manifest: &Manifest) {
        let data = &mut self.data;
        let (sealed, state) = (&self.source.sealed, &manifest.state);
        (data.term, data.first_seq, data.last_seq) =
            (state.term, sealed.first_seq, sealed.last_seq);
        let name =
            |entry: &IndexEntry| Some((entry.log, state.logs.get(entry.log)?.name.to_string()));
        data.names = data.entries.iter().filter_map(name).collect();
        self.index = data.encode();
        self.index_crc = crc32c::crc32c(&self.index);
    }

    /// Starts only move up, so what was left behind is nobody's now, either.
    pub(super) fn covers_starts(&self, view: &View) -> bool {
        let view = view.lock();
        let mut live = self.compactor.live();
        live.all(|(log, from)| view.log(log).is_none_or(|log| log.start >= from))
    }
}

fn write(file: File, offset: u64, bytes: &[u8]) -> io::Result<Op> {
    let mut buf = AlignedBuf::zeroed(bytes.len())?;
    buf[..bytes.len()].copy_from_slice(bytes);
    Ok(Op::Write { file, offset, buf: IoBuf::Owned(buf), persist: false })
}
