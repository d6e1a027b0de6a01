//! The end of an object: where which log's records are, and the facts of their directory.
//!
//! Invariants:
//! - The trailer stands in the last 64 bytes, its CRC at 60 of them, in every version. It names the
//!   footer by place, length and CRC, and the header by its CRC.
//! - Blocks stand one behind the other from the header to the footer, stretches cover all records
//!   of all blocks, both without a gap: a footer in which they do not is refused. So sums of what
//!   it names cannot overflow, and no byte of an object belongs to nothing.
//! - Facts are a frame as in a manifest (`engine/FORMAT.md`): what a restore needs of the logs.
//!
//! Not here: unpacking (`block`), the walk through all of an object (`verify`).

use std::ops::Range;

use sapwood::format::{Flaw, Frame};
use sapwood::{LogId, Lsn};

use super::OBJECT_VERSION;
use super::block::{BLOCK_ENTRY_BYTES, BLOCK_HEADER_BYTES, BlockEntry};
use super::header::{HEADER_BYTES, ObjectHeader};
use super::stretch::{STRETCH_BYTES, Stretch};
use super::wire::{need, put, u16_at, u32_at, u64_at};

/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;

/// Bytes in front of the footer's tables: its own head and the copy of the object's header.
pub const FOOTER_HEAD_BYTES: usize = 64 + HEADER_BYTES;

const TRAILER_MAGIC: [u8; 4] = *b"SWT1";
const TRAILER_CRC_AT: usize = TRAILER_BYTES - 4;
const FOOTER_MAGIC: [u8; 4] = *b"SWF1";

/// The last bytes of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trailer {
    /// Where the footer stands.
    pub footer_offset: u64,
    /// Its bytes.
    pub footer_bytes: u64,
    /// Bytes of the whole object.
    pub object_bytes: u64,
    /// The nonce of its header.
    pub nonce: u64,
    /// CRC32C of the footer.
    pub footer_crc: u32,
    /// The CRC of the header.
    pub header_crc: u32,
    /// Features that an older reader may ignore.
    pub compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
}

impl Trailer {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; TRAILER_BYTES];
        put(&mut bytes, 0, TRAILER_MAGIC);
        put(&mut bytes, 4, OBJECT_VERSION.to_le_bytes());
        put(&mut bytes, 8, self.footer_offset.to_le_bytes());
        put(&mut bytes, 16, self.footer_bytes.to_le_bytes());
        put(&mut bytes, 24, self.object_bytes.to_le_bytes());
        put(&mut bytes, 32, self.nonce.to_le_bytes());
        put(&mut bytes, 40, self.footer_crc.to_le_bytes());
        put(&mut bytes, 44, self.header_crc.to_le_bytes());
        put(&mut bytes, 48, self.compat.to_le_bytes());
        put(&mut bytes, 52, self.incompat.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..TRAILER_CRC_AT]);
        put(&mut bytes, TRAILER_CRC_AT, crc.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Reads the trailer: `buf` is the end of an object of `object_bytes`.
    ///
    /// # Errors
    /// The flaw; a newer version's is [`Flaw::is_unsupported`].
    pub fn decode(buf: &[u8], object_bytes: u64) -> Result<Self, Flaw> {
        need(buf, TRAILER_BYTES)?;
        let buf = &buf[buf.len() - TRAILER_BYTES..];
        if buf[..4] != TRAILER_MAGIC {
            return Err(Flaw::Magic);
        }
        if crc32c::crc32c(&buf[..TRAILER_CRC_AT]) != u32_at(buf, TRAILER_CRC_AT) {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != OBJECT_VERSION {
            return Err(Flaw::Version { found: version });
        }
        let incompat = u32_at(buf, 52);
        if incompat != 0 {
            return Err(Flaw::Incompat { bits: incompat });
        }
        let trailer = Self {
            footer_offset: u64_at(buf, 8),
            footer_bytes: u64_at(buf, 16),
            object_bytes: u64_at(buf, 24),
            nonce: u64_at(buf, 32),
            footer_crc: u32_at(buf, 40),
            header_crc: u32_at(buf, 44),
            compat: u32_at(buf, 48),
            incompat,
        };
        let end = trailer.footer_offset.checked_add(trailer.footer_bytes);
        let end = end.and_then(|end| end.checked_add(TRAILER_BYTES as u64));
        let good = end == Some(trailer.object_bytes)
            && trailer.object_bytes == object_bytes
            && trailer.footer_offset >= HEADER_BYTES as u64;
        if good { Ok(trailer) } else { Err(Flaw::Field("bytes of an object")) }
    }

    /// Where the footer stands.
    #[must_use]
    pub fn footer_range(&self) -> Range<u64> {
        self.footer_offset..self.footer_offset + self.footer_bytes
    }
}

/// What an object holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Whose records.
    pub header: ObjectHeader,
    /// Records, fragments counted one by one.
    pub records: u64,
    /// The blocks, in order.
    pub blocks: Vec<BlockEntry>,
    /// The stretches, in order of log.
    pub stretches: Vec<Stretch>,
}

impl Footer {
    /// Appends footer and trailer to the object that `out` holds so far.
    pub(super) fn encode(&self, facts: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        const MANY: Flaw = Flaw::Field("a part of an object is too large");
        let at = out.len();
        let mut head = [0; FOOTER_HEAD_BYTES];
        put(&mut head, 0, FOOTER_MAGIC);
        put(&mut head, 4, OBJECT_VERSION.to_le_bytes());
        let count = |n: usize| u32::try_from(n).map_err(|_| MANY);
        put(&mut head, 8, count(self.blocks.len())?.to_le_bytes());
        put(&mut head, 12, count(self.stretches.len())?.to_le_bytes());
        put(&mut head, 16, self.records.to_le_bytes());
        put(&mut head, 24, (facts.len() as u64).to_le_bytes());
        let header_crc = self.header.encode(&mut head[FOOTER_HEAD_BYTES - HEADER_BYTES..]);
        out.extend_from_slice(&head);
        self.blocks.iter().for_each(|block| block.encode(out));
        self.stretches.iter().for_each(|stretch| stretch.encode(out));
        out.extend_from_slice(facts);
        let trailer = Trailer {
            footer_offset: at as u64,
            footer_bytes: (out.len() - at) as u64,
            object_bytes: (out.len() + TRAILER_BYTES) as u64,
            nonce: self.header.nonce,
            footer_crc: crc32c::crc32c(&out[at..]),
            header_crc,
            ..Trailer::default()
        };
        trailer.encode(out);
        Ok(())
    }

    /// Reads the footer, whose bytes stand at [`Trailer::footer_range`]. The facts are left alone.
    ///
    /// # Errors
    /// The flaw; a newer version's is [`Flaw::is_unsupported`].
    pub fn decode(buf: &[u8], trailer: &Trailer) -> Result<Self, Flaw> {
        let parts = Parts::of(buf, trailer)?;
        let (header, header_crc) = ObjectHeader::decode(&buf[64..])?;
        if header_crc != trailer.header_crc || header.nonce != trailer.nonce {
            return Err(Flaw::Field("footer and trailer are of two objects"));
        }
        let blocks = buf[parts.blocks].chunks_exact(BLOCK_ENTRY_BYTES).map(BlockEntry::decode);
        let stretches = buf[parts.stretches].chunks_exact(STRETCH_BYTES).map(Stretch::decode);
        let footer = Self {
            header,
            records: u64_at(buf, 16),
            blocks: blocks.collect::<Result<_, _>>()?,
            stretches: stretches.collect::<Result<_, _>>()?,
        };
        footer.check(trailer)?;
        Ok(footer)
    }

    /// The facts in a footer's bytes: directory, logs, damage, as in a manifest.
    ///
    /// # Errors
    /// The flaw; a newer version's is [`Flaw::is_unsupported`].
    pub fn facts(buf: &[u8], trailer: &Trailer) -> Result<Frame, Flaw> {
        let parts = Parts::of(buf, trailer)?;
        let bytes = &buf[parts.facts];
        let (frame, padded, _) = Frame::decode(bytes)?;
        if padded == bytes.len() { Ok(frame) } else { Err(Flaw::Field("bytes of the facts")) }
    }

    /// Everything lies in order, without a gap.
    fn check(&self, trailer: &Trailer) -> Result<(), Flaw> {
        let (mut at, mut raw, mut records) = (HEADER_BYTES as u64, 0u64, 0u64);
        for block in &self.blocks {
            let place = (block.offset, block.raw_offset) == (at, raw);
            let next = at.checked_add(BLOCK_HEADER_BYTES as u64 + u64::from(block.stored));
            match next.zip(raw.checked_add(u64::from(block.raw))) {
                Some(next) if place => (at, raw) = next,
                _ => return Err(Flaw::Field("places of blocks")),
            }
            records += u64::from(block.records);
        }
        if at != trailer.footer_offset || records != self.records {
            return Err(Flaw::Field("places of blocks"));
        }
        let (mut covered, mut counted) = (0u64, 0u64);
        for stretch in &self.stretches {
            let next = covered.checked_add(stretch.raw_bytes);
            match next {
                Some(next) if stretch.raw_offset == covered => covered = next,
                _ => return Err(Flaw::Field("places of stretches")),
            }
            counted += u64::from(stretch.records);
        }
        let in_order = |pair: &[Stretch]| {
            (pair[0].log, pair[0].last_epoch) <= (pair[1].log, pair[1].first_epoch)
        };
        let ordered = self.stretches.windows(2).all(in_order);
        if covered != raw || counted != self.records || !ordered {
            return Err(Flaw::Field("places of stretches"));
        }
        Ok(())
    }

    /// The stretches of a log.
    #[must_use]
    pub fn stretches_of(&self, log: LogId) -> &[Stretch] {
        let from = self.stretches.partition_point(|stretch| stretch.log < log);
        let rest = &self.stretches[from..];
        &rest[..rest.partition_point(|stretch| stretch.log == log)]
    }

    /// The stretch that holds this LSN; of several, that of the highest epoch: the others were cut.
    #[must_use]
    pub fn find(&self, log: LogId, lsn: Lsn) -> Option<&Stretch> {
        self.stretches_of(log).iter().rev().find(|stretch| stretch.holds(lsn))
    }

    /// The blocks in which the records of a stretch stand, from this LSN on.
    #[must_use]
    pub fn blocks_from(&self, stretch: &Stretch, lsn: Lsn) -> Range<usize> {
        let first = self.blocks.partition_point(|block| block.raw_end() <= stretch.raw_offset);
        let end = self.blocks.partition_point(|block| block.raw_offset < stretch.raw_end());
        // Blocks that begin in the stretch begin with one of its records.
        let inside = first
            + usize::from(
                self.blocks[first..end]
                    .first()
                    .is_some_and(|block| block.raw_offset < stretch.raw_offset),
            );
        let before = |block: &BlockEntry| (block.lsn, block.continued) <= (lsn, false);
        let later = inside + self.blocks[inside..end].partition_point(before);
        later.saturating_sub(1).max(first)..end
    }

    /// Where to begin to look for the first record of a log that is not older than this: no record
    /// of the log in this object that stands before has this time or a later one. `None`: all are
    /// older. In microseconds since 1970.
    #[must_use]
    pub fn from_time(&self, log: LogId, time_us: u64) -> Option<Lsn> {
        let stretches = self.stretches_of(log);
        let stretch = stretches.iter().find(|stretch| stretch.last_time_us >= time_us)?;
        let blocks = &self.blocks[self.blocks_from(stretch, stretch.first_lsn)];
        let inside = blocks.iter().filter(|block| block.raw_offset >= stretch.raw_offset);
        let older = inside.take_while(|block| block.time_us < time_us).last();
        Some(older.map_or(stretch.first_lsn, |block| block.lsn))
    }
}

/// Where the parts of a footer stand in it.
struct Parts {
    blocks: Range<usize>,
    stretches: Range<usize>,
    facts: Range<usize>,
}

impl Parts {
    fn of(buf: &[u8], trailer: &Trailer) -> Result<Self, Flaw> {
        need(buf, FOOTER_HEAD_BYTES)?;
        if buf.len() as u64 != trailer.footer_bytes {
            return Err(Flaw::Field("bytes of a footer"));
        }
        if buf[..4] != FOOTER_MAGIC {
            return Err(Flaw::Magic);
        }
        if crc32c::crc32c(buf) != trailer.footer_crc {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != OBJECT_VERSION {
            return Err(Flaw::Version { found: version });
        }
        let blocks = u64::from(u32_at(buf, 8)) * BLOCK_ENTRY_BYTES as u64;
        let stretches = u64::from(u32_at(buf, 12)) * STRETCH_BYTES as u64;
        let tables = FOOTER_HEAD_BYTES as u64 + blocks + stretches;
        if tables.checked_add(u64_at(buf, 24)) != Some(buf.len() as u64) {
            return Err(Flaw::Field("counts of a footer"));
        }
        let middle = FOOTER_HEAD_BYTES + blocks as usize;
        let end = middle + stretches as usize;
        let facts = end..buf.len();
        Ok(Self { blocks: FOOTER_HEAD_BYTES..middle, stretches: middle..end, facts })
    }
}

const _: () = assert!(TRAILER_CRC_AT + 4 == TRAILER_BYTES);
