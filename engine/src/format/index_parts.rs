//! The parts of an index file: entry blocks, fence table, postings, names.
//!
//! Invariants: each part decodes by itself, from its bytes and its own CRC; within a block entries
//! are sorted by log id.
//! Not here: where the parts stand (`index`).

use super::Flaw;
use super::facts::Link;
use super::index::{INDEX_BLOCK_BYTES, IndexHeader};
use super::wire::{Take, need, put, put_string, u32_at, u64_at};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId};

/// Bytes of an index entry, and of the head of an entry block.
pub const INDEX_ENTRY_BYTES: usize = 128;

/// Entries that a block has room for.
pub const ENTRIES_PER_BLOCK: usize = INDEX_BLOCK_BYTES / INDEX_ENTRY_BYTES - 1;

/// Bytes of a posting.
pub const POSTING_BYTES: usize = 24;

const HAS_PREV: u32 = 1;
const HAS_JUMP: u32 = 2;

/// What one segment holds of one log, and the way to the segments before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IndexEntry {
    /// The log.
    pub log: LogId,
    /// Its first LSN here.
    pub first_lsn: Lsn,
    /// Its last LSN here.
    pub last_lsn: Lsn,
    /// The epoch of its first record here.
    pub first_epoch: Epoch,
    /// The epoch of its last record here.
    pub last_epoch: Epoch,
    /// Its records here.
    pub records: u64,
    /// Their framed bytes.
    pub bytes: u64,
    /// The time of the first.
    pub first_time_us: u64,
    /// The time of the last.
    pub last_time_us: u64,
    /// Where in the segment the batch with the first of them begins.
    pub first_offset: u64,
    /// Its first posting.
    pub posting_start: u32,
    /// How many it has.
    pub posting_count: u32,
    /// This segment's place in the log's chain.
    pub ordinal: u32,
    /// The segment before this one in the chain.
    pub prev: Option<Link>,
    /// A segment further back: skew-binary, so that any ordinal is O(log n) steps away.
    pub jump: Option<Link>,
}

impl IndexEntry {
    fn encode(&self, out: &mut [u8]) {
        let (prev, jump) = (self.prev.unwrap_or_default(), self.jump.unwrap_or_default());
        let flags =
            HAS_PREV * u32::from(self.prev.is_some()) + HAS_JUMP * u32::from(self.jump.is_some());
        put(out, 0, self.log.0.to_le_bytes());
        put(out, 8, self.first_lsn.0.to_le_bytes());
        put(out, 16, self.last_lsn.0.to_le_bytes());
        put(out, 24, self.first_epoch.0.to_le_bytes());
        put(out, 28, self.last_epoch.0.to_le_bytes());
        put(out, 32, self.records.to_le_bytes());
        put(out, 40, self.bytes.to_le_bytes());
        put(out, 48, self.first_time_us.to_le_bytes());
        put(out, 56, self.last_time_us.to_le_bytes());
        put(out, 64, self.first_offset.to_le_bytes());
        put(out, 72, self.posting_start.to_le_bytes());
        put(out, 76, self.posting_count.to_le_bytes());
        put(out, 80, self.ordinal.to_le_bytes());
        put(out, 84, flags.to_le_bytes());
        put(out, 88, prev.segment.0.to_le_bytes());
        put(out, 96, prev.first_lsn.0.to_le_bytes());
        put(out, 104, jump.segment.0.to_le_bytes());
        put(out, 112, jump.first_lsn.0.to_le_bytes());
        put(out, 120, jump.ordinal.to_le_bytes());
        put(out, 124, prev.ordinal.to_le_bytes());
    }

    fn decode(buf: &[u8]) -> Self {
        let flags = u32_at(buf, 84);
        let link = |has: u32, at: usize, ordinal: usize| {
            (flags & has != 0).then(|| Link {
                segment: SegmentId(u64_at(buf, at)),
                ordinal: u32_at(buf, ordinal),
                first_lsn: Lsn(u64_at(buf, at + 8)),
            })
        };
        Self {
            log: LogId(u64_at(buf, 0)),
            first_lsn: Lsn(u64_at(buf, 8)),
            last_lsn: Lsn(u64_at(buf, 16)),
            first_epoch: Epoch(u32_at(buf, 24)),
            last_epoch: Epoch(u32_at(buf, 28)),
            records: u64_at(buf, 32),
            bytes: u64_at(buf, 40),
            first_time_us: u64_at(buf, 48),
            last_time_us: u64_at(buf, 56),
            first_offset: u64_at(buf, 64),
            posting_start: u32_at(buf, 72),
            posting_count: u32_at(buf, 76),
            ordinal: u32_at(buf, 80),
            prev: link(HAS_PREV, 88, 124),
            jump: link(HAS_JUMP, 104, 120),
        }
    }
}

/// A checked block of entries.
#[derive(Clone, Copy, Debug)]
pub struct EntryBlock<'a> {
    /// The segment it says it belongs to.
    pub segment: SegmentId,
    /// Its number in the file.
    pub block: u32,
    entries: &'a [u8],
}

impl<'a> EntryBlock<'a> {
    /// Reads the block at the front of `buf`.
    pub fn decode(buf: &'a [u8]) -> Result<Self, Flaw> {
        need(buf, INDEX_BLOCK_BYTES)?;
        if crc32c::crc32c(&buf[4..INDEX_BLOCK_BYTES]) != u32_at(buf, 0) {
            return Err(Flaw::Crc);
        }
        let count = u32_at(buf, 4) as usize;
        if count == 0 || count > ENTRIES_PER_BLOCK {
            return Err(Flaw::Field("entries of an index block"));
        }
        let entries = &buf[INDEX_ENTRY_BYTES..INDEX_ENTRY_BYTES * (1 + count)];
        Ok(Self { segment: SegmentId(u64_at(buf, 8)), block: u32_at(buf, 16), entries })
    }

    /// As [`Self::decode`], and it must be block `block` of the index of `segment`.
    pub fn decode_at(buf: &'a [u8], segment: SegmentId, block: usize) -> Result<Self, Flaw> {
        let found = Self::decode(buf)?;
        if found.segment != segment || found.block as usize != block {
            return Err(Flaw::Field("another index block stands here"));
        }
        Ok(found)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() / INDEX_ENTRY_BYTES
    }

    /// Never: an empty block is not written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, by log id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = IndexEntry> + use<'a> {
        self.entries.chunks_exact(INDEX_ENTRY_BYTES).map(IndexEntry::decode)
    }

    /// The entry of a log.
    #[must_use]
    pub fn find(&self, log: LogId) -> Option<IndexEntry> {
        self.iter().find(|entry| entry.log == log)
    }
}

/// The fence table: the first log id of each entry block.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'a> {
    logs: &'a [u8],
}

impl<'a> Fence<'a> {
    /// Reads the table from its bytes, which stand at [`IndexHeader::fence_range`].
    pub fn decode(buf: &'a [u8], header: &IndexHeader) -> Result<Self, Flaw> {
        let len = header.fence_range().len();
        need(buf, len)?;
        if crc32c::crc32c(&buf[..len]) != header.fence_crc {
            return Err(Flaw::Crc);
        }
        Ok(Self { logs: &buf[..len] })
    }

    /// The first log of a block.
    #[must_use]
    pub fn first_log(&self, block: usize) -> Option<LogId> {
        self.logs.chunks_exact(8).nth(block).map(|bytes| LogId(u64_at(bytes, 0)))
    }

    /// The one block that may hold a log; `None` if none does.
    #[must_use]
    pub fn find_block(&self, log: LogId) -> Option<usize> {
        let (mut below, mut above) = (0, self.logs.len() / 8);
        while below < above {
            let middle = usize::midpoint(below, above);
            if u64_at(self.logs, 8 * middle) <= log.0 {
                below = middle + 1;
            } else {
                above = middle;
            }
        }
        below.checked_sub(1)
    }
}

/// A place where records of a log begin, in LSN order but for cuts: from here up to the next place
/// they stand near each other, or in batches of which they are a good part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Posting {
    /// The first LSN of the log here.
    pub lsn: Lsn,
    /// Where in the segment the batch begins; segments have at most 4 GiB.
    pub offset: u32,
    /// Where in the batch that record stands, if all up to the next place are in this batch; 0:
    /// from here on batches are to be looked at whole.
    pub at: u32,
    /// The time of that record.
    pub time_us: u64,
}

impl Posting {
    /// Reads postings from a part of them. They share one CRC, see [`Self::decode_all`].
    pub fn decode_slice(buf: &[u8]) -> impl ExactSizeIterator<Item = Self> + '_ {
        buf.chunks_exact(POSTING_BYTES).map(|bytes| Self {
            lsn: Lsn(u64_at(bytes, 0)),
            offset: u32_at(bytes, 8),
            at: u32_at(bytes, 12),
            time_us: u64_at(bytes, 16),
        })
    }

    /// Reads all postings and checks their CRC, which stands in the header.
    pub fn decode_all(buf: &[u8], crc: u32) -> Result<Vec<Self>, Flaw> {
        if crc32c::crc32c(buf) != crc {
            return Err(Flaw::Crc);
        }
        Ok(Self::decode_slice(buf).collect())
    }
}

/// Appends the entry blocks.
pub(super) fn encode_entries(entries: &[IndexEntry], segment: SegmentId, out: &mut Vec<u8>) {
    for (number, entries) in entries.chunks(ENTRIES_PER_BLOCK).enumerate() {
        let start = out.len();
        out.resize(start + INDEX_BLOCK_BYTES, 0);
        let block = &mut out[start..];
        put(block, 4, (entries.len() as u32).to_le_bytes());
        put(block, 8, segment.0.to_le_bytes());
        put(block, 16, (number as u32).to_le_bytes());
        let places = block[INDEX_ENTRY_BYTES..].chunks_exact_mut(INDEX_ENTRY_BYTES);
        entries.iter().zip(places).for_each(|(entry, place)| entry.encode(place));
        let crc = crc32c::crc32c(&block[4..]);
        put(block, 0, crc.to_le_bytes());
    }
}

/// Appends the first log id of each block of entries.
pub(super) fn encode_fence(entries: &[IndexEntry], out: &mut Vec<u8>) {
    for entry in entries.iter().step_by(ENTRIES_PER_BLOCK) {
        out.extend_from_slice(&entry.log.0.to_le_bytes());
    }
}

/// Appends the postings.
pub(super) fn encode_postings(postings: &[Posting], out: &mut Vec<u8>) {
    for posting in postings {
        out.extend_from_slice(&posting.lsn.0.to_le_bytes());
        out.extend_from_slice(&posting.offset.to_le_bytes());
        out.extend_from_slice(&posting.at.to_le_bytes());
        out.extend_from_slice(&posting.time_us.to_le_bytes());
    }
}

/// Appends the names, each behind its log id and length.
pub(super) fn encode_names(names: &[(LogId, String)], out: &mut Vec<u8>) {
    for (log, name) in names {
        out.extend_from_slice(&log.0.to_le_bytes());
        // A name is bounded far below 4 GiB where logs are created.
        let _ = put_string(out, name);
    }
}

/// Reads the names and checks their CRC.
pub(super) fn take_names(buf: &[u8], header: &IndexHeader) -> Result<Vec<(LogId, String)>, Flaw> {
    if crc32c::crc32c(buf) != header.names_crc {
        return Err(Flaw::Crc);
    }
    let mut take = Take::new(buf);
    let mut names = Vec::new();
    while !take.is_empty() {
        names.push((LogId(take.u64()?), take.string()?));
    }
    if names.len() != header.names_count as usize {
        return Err(Flaw::Field("number of names"));
    }
    Ok(names)
}

const _: () = assert!(ENTRIES_PER_BLOCK == 31);
