//! Compacting: what somebody may still read of a sealed segment, as the batches of a smaller file.
//!
//! Invariants: bytes in, bytes out, no I/O. A record travels unchanged, after its CRCs and its run
//! were checked; the records of a log and epoch stay dense and in order. Whatever does not fit is
//! an error, and then nothing of it is used. Memory is bounded by two batches and the new index.
//!
//! Behind a fragment that goes on a new batch begins: a run has fragments at its ends alone.
//!
//! Not here: which segments, and the order on the disk (`relocate`).

use std::collections::BTreeMap;

use crate::bundle::Bundle;
use crate::format::index::{IndexData, IndexEntry};
use crate::format::{BATCH_COMPACTED, BatchHeader, BatchView, RecordHeader};
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::planted::{Bug, planted};
use crate::view::{Durable, LogView, SegmentView, ViewState};

/// Records of several batches of the source share a batch up to this size.
const BATCH_BYTES: usize = 256 << 10;

/// A log that keeps records in the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Its entry in the source's index.
    pub entry: IndexEntry,
    /// Its start when that was read: records below are left behind.
    pub start: Lsn,
}

/// The source and its next life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    pub directory: u64,
    pub shard: ShardId,
    pub segment: SegmentId,
    pub unit: usize,
    pub batch_bytes_max: usize,
    /// The nonce of the source.
    pub from: u64,
    /// That of its next life, and the number of its file.
    pub to: u64,
    pub file: u64,
}

/// What the bytes of a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many of them are dealt with.
    Bytes(usize),
    /// The batch at their front is this long: it is wanted whole.
    Wants(usize),
}

/// A record that is kept: where it stands in its batch.
type Kept = (usize, RecordHeader);

/// See the module.
pub(crate) struct Compactor {
    lives: Lives,
    live: BTreeMap<LogId, Live>,
    /// The batch that is being filled, and the header of the last one it took records of.
    open: Bundle,
    header: BatchHeader,
    /// Sequence and CRC of the last header of the source.
    last: Option<(u64, u32)>,
    /// CRC of the last header written; 0 before the first.
    prev_crc: u32,
    /// Whole batches, to be written at `end - out.len()`.
    pub out: Vec<u8>,
    /// Where the next batch will stand.
    pub end: u64,
    view: ViewState,
}

impl Compactor {
    pub(crate) fn new(lives: Lives, live: BTreeMap<LogId, Live>) -> Self {
        let mut view = ViewState::default();
        for id in live.keys() {
            view.put_log(*id, LogView::new(Lsn(0), Lsn(0)));
        }
        view.segments.insert(lives.segment, SegmentView::unsealed(lives.file, lives.to));
        let (last, end) = (None, lives.unit as u64);
        let (open, header, out) = (Bundle::default(), BatchHeader::default(), Vec::new());
        Self { lives, live, open, header, last, prev_crc: 0, out, end, view }
    }

    /// What offsets and lengths in files are multiples of.
    pub(crate) fn unit(&self) -> usize {
        self.lives.unit
    }

    /// The logs that keep records, and from which LSN on.
    pub(crate) fn live(&self) -> impl Iterator<Item = (LogId, Lsn)> {
        self.live.iter().map(|(log, live)| (*log, live.start))
    }

    /// Takes the whole batches at the front of these bytes of the source.
    ///
    /// # Errors
    /// In words: what is wrong with the source.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Taken, String> {
        let mut at = 0;
        while at < bytes.len() {
            match self.take_batch(&bytes[at..])? {
                Taken::Bytes(len) => at += len,
                wants if at == 0 => return Ok(wants),
                Taken::Wants(_) => break,
            }
        }
        Ok(Taken::Bytes(at))
    }

    fn take_batch(&mut self, bytes: &[u8]) -> Result<Taken, String> {
        let Lives { directory, shard, segment, unit, from, .. } = self.lives;
        let (header, crc) = BatchHeader::decode(bytes, from).map_err(|flaw| flaw.to_string())?;
        if (header.directory, header.shard, header.segment) != (directory, shard, segment) {
            return Err(format!("batch {} is of another segment", header.seq));
        }
        let padded = header.padded_bytes(unit);
        if bytes.len() < padded {
            return Ok(Taken::Wants(padded));
        }
        self.check_follows(&header)?;
        self.last = Some((header.seq, crc));
        let told = |flaw| format!("batch {}: {flaw}", header.seq);
        let batch = BatchView::parse(&bytes[..padded], from).map_err(told)?;
        let mut kept: Vec<Kept> = Vec::new();
        let mut records = batch.records();
        for record in records.by_ref() {
            let (at, record) = record.map_err(told)?;
            let start = self.live.get(&record.header.log).map(|live| live.start);
            if start.is_some_and(|start| start <= record.header.lsn) {
                kept.push((at, record.header));
            }
        }
        if records.unread().next().is_some() {
            return Err(format!("batch {} has fewer records than it says", header.seq));
        }
        self.keep(bytes, &header, &kept)?;
        Ok(Taken::Bytes(padded))
    }

    fn check_follows(&self, header: &BatchHeader) -> Result<(), String> {
        let Some((seq, crc)) = self.last else { return Ok(()) };
        let gaps = header.compat & BATCH_COMPACTED != 0;
        let next = if gaps { header.seq > seq } else { header.seq == seq + 1 };
        if next && header.prev_crc == crc {
            return Ok(());
        }
        Err(format!("batch {} does not follow batch {seq}", header.seq))
    }

    /// Adds records of a batch of the source to the open one, or to the next.
    fn keep(&mut self, batch: &[u8], header: &BatchHeader, kept: &[Kept]) -> Result<(), String> {
        if kept.is_empty() {
            return Ok(());
        }
        let more: usize = kept.iter().map(|(_, record)| record.framed_bytes()).sum();
        let limit = BATCH_BYTES.min(self.lives.batch_bytes_max);
        if self.open.bytes_with(more, kept.len().min(header.runs as usize)) > limit {
            self.close();
        }
        self.header = *header;
        let mut goes_on = false;
        for (at, record) in kept {
            if !self.open.takes(record) {
                let (log, lsn) = (record.log, record.lsn);
                return Err(format!("log {log}: LSN {lsn} does not follow its run"));
            }
            let body = record.header_bytes()
                + usize::from(record.properties_bytes)
                + record.payload_bytes as usize;
            self.open.add(record, &batch[*at..at + body]);
            goes_on |= record.continues();
        }
        if goes_on {
            self.close();
        }
        Ok(())
    }

    /// Ends the open batch: header, run table, records, zeros up to the unit.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.is_empty() {
            return;
        }
        let commits = planted(Bug::RelocatedAsCommits);
        let compat = self.header.compat | if commits { 0 } else { BATCH_COMPACTED };
        let header = open.header(BatchHeader { prev_crc: self.prev_crc, compat, ..self.header });
        let (at, padded) = (self.out.len(), header.padded_bytes(self.lives.unit));
        self.out.resize(at + padded, 0);
        self.prev_crc = open.encode(&header, self.lives.to, &mut self.out[at..]);
        self.view.add(&Durable {
            segment: self.lives.segment,
            offset: self.end,
            bytes: padded as u64,
            seq: header.seq,
            time_us: header.time_us,
            runs: open.runs(),
        });
        self.end += padded as u64;
    }

    /// Everything of the source was taken: ends the last batch and gives the index, names left out,
    /// and the number of records.
    ///
    /// # Errors
    /// In words: the source has not what its index says.
    pub(crate) fn finish(&mut self) -> Result<(IndexData, u64), String> {
        self.close();
        let seen = self.view.segments.get(&self.lives.segment);
        let live = seen.and_then(|seen| seen.live.as_ref()).ok_or("there is no index")?;
        let (mut entries, postings) = live.sorted();
        if entries.len() != self.live.len() {
            return Err(format!("{} logs of {} are there", entries.len(), self.live.len()));
        }
        for (entry, (log, live)) in entries.iter_mut().zip(&self.live) {
            let old = &live.entry;
            let first = old.first_lsn.max(live.start);
            let whole = live.start > old.first_lsn
                || (entry.records, entry.bytes) == (old.records, old.bytes);
            let range = (entry.log, entry.first_lsn, entry.last_lsn, entry.last_epoch);
            if range != (*log, first, old.last_lsn, old.last_epoch) || !whole {
                return Err(format!("log {log}: records from LSN {first} on are missing"));
            }
            (entry.ordinal, entry.prev, entry.jump) = (old.ordinal, old.prev, old.jump);
            entry.last_time_us = old.last_time_us;
            if live.start <= old.first_lsn {
                entry.first_time_us = old.first_time_us;
            }
        }
        let records = live.records;
        let data = IndexData {
            directory: self.lives.directory,
            shard: self.lives.shard,
            segment: self.lives.segment,
            file: self.lives.file,
            end_offset: self.end,
            entries,
            postings,
            ..IndexData::default()
        };
        Ok((data, records))
    }
}
