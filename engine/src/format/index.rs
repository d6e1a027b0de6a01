//! The index of a sealed segment: which logs it holds, from where to where, and the way back.
//!
//! Invariants:
//! - Entries are sorted by log id, at most one per log. The fence table holds the first log id of
//!   each entry block, so that one read of it and one of a block find a log.
//! - Header, each entry block, and fence, postings and names have a CRC each: a part is read
//!   without the rest.
//! - An entry block names its segment and its number, so that another block's bytes are not taken
//!   for it.
//! - The names of the logs stand here too: segment and index tell their story without a manifest.
//!
//! Not here: bytes of the parts (`index_parts`), walking the chain (`index` proper), file names.

use super::index_parts::{encode_entries, encode_fence, encode_names, encode_postings, take_names};
use super::wire::{need, put, u16_at, u32_at, u64_at};
use super::{Flaw, VERSION, round_up};
use crate::lsn::{LogId, SegmentId, ShardId};

pub use super::index_parts::{
    ENTRIES_PER_BLOCK, EntryBlock, Fence, INDEX_ENTRY_BYTES, IndexEntry, POSTING_BYTES, Posting,
};

/// "SWI1".
pub const INDEX_MAGIC: [u8; 4] = *b"SWI1";

/// Bytes of the index header, of each entry block, and the grain of the file's length.
pub const INDEX_BLOCK_BYTES: usize = 4096;

const CRC_AT: usize = INDEX_BLOCK_BYTES - 4;

/// The header of an index file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IndexHeader {
    /// Features that an older reader may ignore.
    pub compat: u32,
    /// Features that an older program may read past but must not write.
    pub ro_compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
    /// The directory it belongs to.
    pub directory: u64,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The segment it describes.
    pub segment: SegmentId,
    /// The number in that segment's file name.
    pub file: u64,
    /// The write-open that sealed the segment.
    pub term: u32,
    /// The segment's first batch.
    pub first_seq: u64,
    /// The segment's last batch.
    pub last_seq: u64,
    /// Where that one ends.
    pub end_offset: u64,
    /// Logs in the segment, which is the number of entries.
    pub logs: u32,
    /// Entry blocks; the first stands right behind the header.
    pub entry_blocks: u32,
    /// Where the fence table stands; it has an entry per block.
    pub fence_offset: u64,
    /// Where the postings stand.
    pub postings_offset: u64,
    /// How many there are.
    pub postings_count: u64,
    /// Where the names stand.
    pub names_offset: u64,
    /// Their bytes.
    pub names_bytes: u64,
    /// How many there are.
    pub names_count: u32,
    /// CRC32C of the fence table.
    pub fence_crc: u32,
    /// CRC32C of the postings.
    pub postings_crc: u32,
    /// CRC32C of the names.
    pub names_crc: u32,
}

impl IndexHeader {
    /// Bytes of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        round_up((self.names_offset + self.names_bytes) as usize, INDEX_BLOCK_BYTES)
    }

    /// Where entry block `block` stands in the file.
    #[must_use]
    pub fn block_offset(&self, block: usize) -> usize {
        INDEX_BLOCK_BYTES * (1 + block)
    }

    /// Where the fence table stands in the file.
    #[must_use]
    pub fn fence_range(&self) -> std::ops::Range<usize> {
        let start = self.fence_offset as usize;
        start..start + 8 * self.entry_blocks as usize
    }

    /// Where postings `start..start + count`, as an entry names them, stand in the file.
    #[must_use]
    pub fn posting_range(&self, start: u32, count: u32) -> std::ops::Range<usize> {
        let at = self.postings_offset as usize + POSTING_BYTES * start as usize;
        at..at + POSTING_BYTES * count as usize
    }

    /// Where the names stand in the file.
    #[must_use]
    pub fn names_range(&self) -> std::ops::Range<usize> {
        let start = self.names_offset as usize;
        start..start + self.names_bytes as usize
    }

    /// Where all postings stand in the file.
    #[must_use]
    pub fn postings_range(&self) -> std::ops::Range<usize> {
        let start = self.postings_offset as usize;
        start..start + POSTING_BYTES * self.postings_count as usize
    }

    /// Reads the names from their bytes, which stand at [`Self::names_range`].
    pub fn decode_names(&self, buf: &[u8]) -> Result<Vec<(LogId, String)>, Flaw> {
        take_names(buf, self)
    }

    /// Refuses to write where a feature is used that only newer programs may write.
    pub fn writable(&self) -> Result<(), Flaw> {
        if self.ro_compat == 0 { Ok(()) } else { Err(Flaw::Incompat { bits: self.ro_compat }) }
    }

    /// Writes the block to the front of `out`, zeroes included.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..INDEX_BLOCK_BYTES];
        out.fill(0);
        put(out, 0, INDEX_MAGIC);
        put(out, 4, VERSION.to_le_bytes());
        put(out, 8, self.compat.to_le_bytes());
        put(out, 12, self.ro_compat.to_le_bytes());
        put(out, 16, self.incompat.to_le_bytes());
        put(out, 20, u32::from(self.shard.0).to_le_bytes());
        put(out, 24, self.directory.to_le_bytes());
        put(out, 32, self.segment.0.to_le_bytes());
        put(out, 40, self.file.to_le_bytes());
        put(out, 48, self.term.to_le_bytes());
        put(out, 52, self.logs.to_le_bytes());
        put(out, 56, self.first_seq.to_le_bytes());
        put(out, 64, self.last_seq.to_le_bytes());
        put(out, 72, self.end_offset.to_le_bytes());
        put(out, 80, self.entry_blocks.to_le_bytes());
        put(out, 84, self.names_count.to_le_bytes());
        put(out, 88, self.fence_offset.to_le_bytes());
        put(out, 96, self.postings_offset.to_le_bytes());
        put(out, 104, self.postings_count.to_le_bytes());
        put(out, 112, self.names_offset.to_le_bytes());
        put(out, 120, self.names_bytes.to_le_bytes());
        put(out, 128, self.fence_crc.to_le_bytes());
        put(out, 132, self.postings_crc.to_le_bytes());
        put(out, 136, self.names_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(out, CRC_AT, crc.to_le_bytes());
    }

    /// Reads the block at the front of `buf`. The places it names are those of its own counts, so
    /// they can be added up without care.
    pub fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, INDEX_BLOCK_BYTES)?;
        if buf[..4] != INDEX_MAGIC {
            return Err(Flaw::Magic);
        }
        if crc32c::crc32c(&buf[..CRC_AT]) != u32_at(buf, CRC_AT) {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != VERSION {
            return Err(Flaw::Version { found: version });
        }
        let incompat = u32_at(buf, 16);
        if incompat != 0 {
            return Err(Flaw::Incompat { bits: incompat });
        }
        let shard = u16::try_from(u32_at(buf, 20)).map_err(|_| Flaw::Field("shard of an index"))?;
        let header = Self {
            compat: u32_at(buf, 8),
            ro_compat: u32_at(buf, 12),
            incompat,
            directory: u64_at(buf, 24),
            shard: ShardId(shard),
            segment: SegmentId(u64_at(buf, 32)),
            file: u64_at(buf, 40),
            term: u32_at(buf, 48),
            first_seq: u64_at(buf, 56),
            last_seq: u64_at(buf, 64),
            end_offset: u64_at(buf, 72),
            logs: u32_at(buf, 52),
            entry_blocks: u32_at(buf, 80),
            fence_offset: u64_at(buf, 88),
            postings_offset: u64_at(buf, 96),
            postings_count: u64_at(buf, 104),
            names_offset: u64_at(buf, 112),
            names_bytes: u64_at(buf, 120),
            names_count: u32_at(buf, 84),
            fence_crc: u32_at(buf, 128),
            postings_crc: u32_at(buf, 132),
            names_crc: u32_at(buf, 136),
        };
        header.check()?;
        Ok(header)
    }

    /// The parts stand one behind the other, which leaves each only one place.
    fn check(&self) -> Result<(), Flaw> {
        let blocks = (self.logs as usize).div_ceil(ENTRIES_PER_BLOCK);
        let fence = INDEX_BLOCK_BYTES as u64 * (1 + u64::from(self.entry_blocks));
        let postings = fence + 8 * u64::from(self.entry_blocks);
        let names = self.postings_count.checked_mul(POSTING_BYTES as u64);
        let names = names.and_then(|bytes| bytes.checked_add(postings));
        let end = names.and_then(|names| names.checked_add(self.names_bytes));
        let good = self.entry_blocks as usize == blocks
            && self.fence_offset == fence
            && self.postings_offset == postings
            && names == Some(self.names_offset)
            && end.is_some_and(|end| usize::try_from(end).is_ok() && end < u64::MAX / 2)
            && u64::from(self.names_count) <= self.names_bytes / 8;
        if good { Ok(()) } else { Err(Flaw::Field("places in an index")) }
    }
}

/// The entries of a whole index file where they stand: nothing of it is copied.
#[derive(Clone, Copy, Debug)]
pub struct IndexEntries<'a> {
    /// The file's header.
    pub header: IndexHeader,
    buf: &'a [u8],
}

impl<'a> IndexEntries<'a> {
    /// Reads a whole file and checks header, fence and entries; postings and names it leaves alone.
    pub fn decode(buf: &'a [u8]) -> Result<Self, Flaw> {
        let header = IndexHeader::decode(buf)?;
        need(buf, header.file_bytes())?;
        let fence = Fence::decode(&buf[header.fence_range()], &header)?;
        let (mut count, mut last) = (0, None);
        for block in 0..header.entry_blocks as usize {
            let bytes = &buf[header.block_offset(block)..];
            let block_of = EntryBlock::decode_at(bytes, header.segment, block)?;
            if fence.first_log(block) != block_of.iter().next().map(|entry| entry.log) {
                return Err(Flaw::Field("fence table and entries disagree"));
            }
            for entry in block_of.iter() {
                if last.replace(entry.log).is_some_and(|last| last >= entry.log) {
                    return Err(Flaw::Field("order of index entries"));
                }
                count += 1;
            }
        }
        if count != header.logs as usize {
            return Err(Flaw::Field("number of index entries"));
        }
        Ok(Self { header, buf })
    }

    /// The entries, by log id.
    pub fn iter(&self) -> impl Iterator<Item = IndexEntry> + use<'a> {
        let Self { header, buf } = *self;
        let decode = move |block| {
            EntryBlock::decode_at(&buf[header.block_offset(block)..], header.segment, block).ok()
        };
        let blocks = (0..header.entry_blocks as usize).filter_map(decode);
        blocks.flat_map(|block| block.iter())
    }
}

/// A whole index file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexData {
    /// The directory it belongs to.
    pub directory: u64,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The segment it describes.
    pub segment: SegmentId,
    /// The number in that segment's file name.
    pub file: u64,
    /// The write-open that sealed the segment.
    pub term: u32,
    /// The segment's first batch.
    pub first_seq: u64,
    /// The segment's last batch.
    pub last_seq: u64,
    /// Where that one ends.
    pub end_offset: u64,
    /// One per log, by log id.
    pub entries: Vec<IndexEntry>,
    /// Sparse places, those of an entry together.
    pub postings: Vec<Posting>,
    /// The name of each log.
    pub names: Vec<(LogId, String)>,
}

impl IndexData {
    /// The file's bytes, a multiple of [`INDEX_BLOCK_BYTES`]. Entries must be sorted by log id.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        debug_assert!(self.entries.is_sorted_by(|a, b| a.log < b.log));
        let mut out = vec![0; INDEX_BLOCK_BYTES];
        encode_entries(&self.entries, self.segment, &mut out);
        let fence_offset = out.len();
        encode_fence(&self.entries, &mut out);
        let postings_offset = out.len();
        encode_postings(&self.postings, &mut out);
        let names_offset = out.len();
        encode_names(&self.names, &mut out);
        let header = IndexHeader {
            directory: self.directory,
            shard: self.shard,
            segment: self.segment,
            file: self.file,
            term: self.term,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            end_offset: self.end_offset,
            logs: self.entries.len() as u32,
            entry_blocks: self.entries.len().div_ceil(ENTRIES_PER_BLOCK) as u32,
            fence_offset: fence_offset as u64,
            postings_offset: postings_offset as u64,
            postings_count: self.postings.len() as u64,
            names_offset: names_offset as u64,
            names_bytes: (out.len() - names_offset) as u64,
            names_count: self.names.len() as u32,
            fence_crc: crc32c::crc32c(&out[fence_offset..postings_offset]),
            postings_crc: crc32c::crc32c(&out[postings_offset..names_offset]),
            names_crc: crc32c::crc32c(&out[names_offset..]),
            ..IndexHeader::default()
        };
        header.encode(&mut out);
        out.resize(round_up(out.len(), INDEX_BLOCK_BYTES), 0);
        out
    }

    /// Reads a whole file and checks every part of it.
    pub fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        let index = IndexEntries::decode(buf)?;
        let (header, entries) = (index.header, index.iter().collect::<Vec<_>>());
        let postings = Posting::decode_all(&buf[header.postings_range()], header.postings_crc)?;
        let reaches = |e: &IndexEntry| u64::from(e.posting_start) + u64::from(e.posting_count);
        if entries.iter().any(|entry| reaches(entry) > header.postings_count) {
            return Err(Flaw::Field("postings of an index entry"));
        }
        Ok(Self {
            directory: header.directory,
            shard: header.shard,
            segment: header.segment,
            file: header.file,
            term: header.term,
            first_seq: header.first_seq,
            last_seq: header.last_seq,
            end_offset: header.end_offset,
            entries,
            postings,
            names: header.decode_names(&buf[header.names_range()])?,
        })
    }

    /// The entry of a log.
    #[must_use]
    pub fn find(&self, log: LogId) -> Option<&IndexEntry> {
        let at = self.entries.binary_search_by_key(&log, |entry| entry.log).ok()?;
        self.entries.get(at)
    }

    /// The sparse places of an entry of this index.
    #[must_use]
    pub fn postings_of(&self, entry: &IndexEntry) -> &[Posting] {
        let start = entry.posting_start as usize;
        self.postings.get(start..start + entry.posting_count as usize).unwrap_or(&[])
    }
}
