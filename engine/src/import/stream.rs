//! The batches of an imported shard: records in, segments out.
//!
//! Invariants: batches are dense in sequence, chained, and claim all before them, as those of a
//! shard that waits for each. A run is dense; behind a fragment that goes on a batch ends. The
//! fragments of a record stand in one segment, as readers want them.
//! Not here: what is true of the logs (`import`).

use std::collections::HashMap;

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::format::manifest::{DirectoryFacts, Edit};
use crate::format::{
    BATCH_FRONT_BYTES, BatchHeader, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::io::buf::AlignedBuf;
use crate::io::{File, Storage};
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::names;

/// Bytes of a batch, give or take a record.
const BATCH_BYTES: usize = 1 << 20;

/// A segment that is being written.
#[derive(Debug)]
struct Open {
    id: SegmentId,
    file: File,
    nonce: u64,
    offset: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub shard: ShardId,
    facts: DirectoryFacts,
    term: u32,
    seq: u64,
    prev_crc: u32,
    open: Option<Open>,
    /// Segments that are written, oldest first: nonce and bytes. Ids and file numbers count from 1.
    done: Vec<(u64, u64)>,
    /// The batch that is being filled.
    bundle: Bundle,
    time_us: u64,
    /// Fragments of a record whose last is not there yet.
    parts: Vec<(RecordHeader, Vec<u8>)>,
    /// The LSN behind the last record of each log.
    next: HashMap<LogId, Lsn>,
}

fn writing(e: std::io::Error) -> Error {
    Error::io("writing a segment", e)
}

impl Stream {
    pub(super) fn new(shard: ShardId, facts: DirectoryFacts, term: u32) -> Self {
        Self {
            shard,
            facts,
            term,
            seq: 0,
            prev_crc: 0,
            open: None,
            done: Vec::new(),
            bundle: Bundle::default(),
            time_us: 0,
            parts: Vec::new(),
            next: HashMap::new(),
        }
    }

    /// The last batch.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether a log has records here.
    pub(super) fn has(&self, log: LogId) -> bool {
        self.next.contains_key(&log)
    }

    /// The logs that have records, and the LSN behind the last.
    pub(super) fn tails(&self) -> impl Iterator<Item = (LogId, Lsn)> {
        self.next.iter().map(|(log, next)| (*log, *next))
    }

    /// The segments, as the manifest names those that are not sealed.
    pub(super) fn segments(&self) -> impl Iterator<Item = Edit> {
        let term = self.term;
        (1..).zip(&self.done).map(move |(number, (nonce, bytes))| Edit::Spare {
            segment: SegmentId(number),
            file: number,
            nonce: *nonce,
            bytes: *bytes,
            term,
        })
    }

    pub(super) fn push(
        &mut self,
        storage: &dyn Storage,
        header: &RecordHeader,
        framed: &[u8],
    ) -> Result<()> {
        self.check(header, framed)?;
        if !header.continues() {
            self.next.insert(header.log, header.lsn.next());
        }
        if !header.is_continued() && !header.continues() {
            return self.add(storage, header, framed);
        }
        self.parts.push((*header, framed.to_vec()));
        if header.continues() { Ok(()) } else { self.add_parts(storage) }
    }

    fn check(&self, header: &RecordHeader, framed: &[u8]) -> Result<()> {
        let Self { parts, next, facts, .. } = self;
        let behind = next.get(&header.log).is_none_or(|next| *next <= header.lsn);
        let part = parts.last().map(|(part, _)| (part.log, part.epoch, part.lsn));
        let joins = part.is_none_or(|part| part == (header.log, header.epoch, header.lsn));
        let room = facts.batch_bytes_max as usize - BATCH_FRONT_BYTES;
        let fits = framed.len() == header.framed_bytes() && framed.len() <= room;
        if behind && joins && fits && part.is_some() == header.is_continued() {
            return Ok(());
        }
        let (log, lsn) = (header.log, header.lsn);
        Err(Error::Invalid(format!("log {log}: LSN {lsn} does not follow what was restored")))
    }

    /// A record in fragments: each ends its batch, all of them stand in one segment.
    fn add_parts(&mut self, storage: &dyn Storage) -> Result<()> {
        self.close(storage)?;
        let unit = self.facts.unit as usize;
        let front = BATCH_FRONT_BYTES;
        let padded = |bytes: &Vec<u8>| (front + bytes.len()).next_multiple_of(unit) as u64;
        let bytes = self.parts.iter().map(|(_, bytes)| padded(bytes)).sum();
        self.make_room(storage, bytes)?;
        for (header, framed) in std::mem::take(&mut self.parts) {
            self.add(storage, &header, &framed)?;
            self.close(storage)?;
        }
        Ok(())
    }

    fn add(&mut self, storage: &dyn Storage, header: &RecordHeader, framed: &[u8]) -> Result<()> {
        let most = BATCH_BYTES.min(self.facts.batch_bytes_max as usize);
        if self.bundle.bytes_with(framed.len(), 1) > most || !self.bundle.takes(header) {
            self.close(storage)?;
        }
        self.bundle.add(header, framed);
        self.time_us = self.time_us.max(header.time_us);
        Ok(())
    }

    /// Ends the batch that is being filled.
    fn close(&mut self, storage: &dyn Storage) -> Result<()> {
        let bundle = std::mem::take(&mut self.bundle);
        if bundle.is_empty() {
            return Ok(());
        }
        let unit = self.facts.unit as usize;
        self.make_room(storage, bundle.bytes_with(0, 0).next_multiple_of(unit) as u64)?;
        let Some(open) = &mut self.open else { return Err(Error::Closed) };
        let header = bundle.header(BatchHeader {
            directory: self.facts.directory,
            shard: self.shard,
            term: self.term,
            segment: open.id,
            seq: self.seq + 1,
            durable: self.seq,
            time_us: self.time_us,
            prev_crc: self.prev_crc,
            ..BatchHeader::default()
        });
        let padded = header.padded_bytes(unit);
        let mut out = AlignedBuf::zeroed(padded).map_err(writing)?;
        let crc = bundle.encode(&header, open.nonce, &mut out);
        storage.write_at(&open.file, open.offset, &out, padded, false).map_err(writing)?;
        open.offset += padded as u64;
        (self.seq, self.prev_crc, self.time_us) = (header.seq, crc, 0);
        Ok(())
    }

    /// A segment with room for so many bytes is open afterwards.
    fn make_room(&mut self, storage: &dyn Storage, bytes: u64) -> Result<()> {
        let size = self.facts.segment_bytes;
        if self.open.as_ref().is_some_and(|open| open.offset + bytes <= size) {
            return Ok(());
        }
        self.close_segment(storage)?;
        let number = self.done.len() as u64 + 1;
        let file = storage.create(&names::segment(self.shard, number)).map_err(writing)?;
        let (unit, nonce) = (self.facts.unit, storage.random_u64());
        let header = SegmentHeader {
            directory: self.facts.directory,
            lineage: self.facts.lineage,
            shard: self.shard,
            unit,
            segment: SegmentId(number),
            file: number,
            nonce,
            bytes: size,
            term: self.term,
            created_us: storage.clock().wall_us(),
            ..SegmentHeader::default()
        };
        let mut front = AlignedBuf::zeroed(unit as usize).map_err(writing)?;
        header.encode(&mut front[..SEGMENT_HEADER_BYTES]);
        storage.write_at(&file, 0, &front, unit as usize, false).map_err(writing)?;
        let offset = u64::from(unit);
        self.open = Some(Open { id: SegmentId(number), file, nonce, offset });
        Ok(())
    }

    fn close_segment(&mut self, storage: &dyn Storage) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        storage.sync(&open.file).map_err(writing)?;
        self.done.push((open.nonce, open.offset));
        Ok(())
    }

    /// Everything was pushed: the last batch is written, the last segment durable.
    pub(super) fn end(&mut self, storage: &dyn Storage) -> Result<()> {
        if let Some((part, _)) = self.parts.last() {
            let (log, lsn) = (part.log, part.lsn);
            return Err(Error::Invalid(format!("log {log}: LSN {lsn} has no end")));
        }
        self.close(storage)?;
        self.close_segment(storage)
    }
}
