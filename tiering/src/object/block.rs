//! A block: some records of an object, packed together, read without the rest of it.
//!
//! Invariants: a block begins with a record's header; its own header names its object (by the
//! nonce), its number and its place among the records, so that another block's bytes are not taken
//! for it; its CRC covers all that follows it, and stands in the footer too.
//! Not here: which block holds what (`footer`).

use sapwood::format::Flaw;
use sapwood::{Epoch, LogId, Lsn};

use super::codec::Codec;
use super::wire::{need, put, u32_at, u64_at};

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 40;

/// Bytes of a block's entry in the footer.
pub const BLOCK_ENTRY_BYTES: usize = 64;

/// A block holds at most so many bytes of records: one more than the largest batch of a directory.
pub const BLOCK_RAW_MAX: usize = 32 << 20;

const MAGIC: [u8; 4] = *b"SWK1";
/// The CRC covers what stands behind it.
const SUMMED_FROM: usize = 8;
/// Flag of an entry: the block's first record is a fragment that goes on.
const CONTINUED: u8 = 1;

/// The header of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockHeader {
    /// Its number in its object, from 0.
    pub number: u32,
    /// Bytes behind the header.
    pub stored: u32,
    /// Bytes of records, once unpacked.
    pub raw: u32,
    /// How they are packed.
    pub codec: Codec,
    /// Bytes of records in the blocks before it.
    pub raw_offset: u64,
    /// The nonce of its object.
    pub nonce: u64,
}

impl BlockHeader {
    /// Appends the block, whose packed bytes are `stored`, and gives its CRC.
    pub(super) fn encode(&self, stored: &[u8], out: &mut Vec<u8>) -> u32 {
        let at = out.len();
        out.resize(at + BLOCK_HEADER_BYTES, 0);
        let head = &mut out[at..];
        put(head, 0, MAGIC);
        put(head, 8, self.number.to_le_bytes());
        put(head, 12, self.stored.to_le_bytes());
        put(head, 16, self.raw.to_le_bytes());
        head[20] = self.codec as u8;
        put(head, 24, self.raw_offset.to_le_bytes());
        put(head, 32, self.nonce.to_le_bytes());
        out.extend_from_slice(stored);
        let crc = crc32c::crc32c(&out[at + SUMMED_FROM..]);
        put(&mut out[at..], 4, crc.to_le_bytes());
        crc
    }

    /// Reads the block at the front of `buf` and checks it; gives its header, its CRC and what is
    /// packed. For who has no footer.
    ///
    /// # Errors
    /// The flaw; `Short` with the block's length when not all of it is there.
    pub fn decode(buf: &[u8]) -> Result<(Self, u32, &[u8]), Flaw> {
        need(buf, BLOCK_HEADER_BYTES)?;
        if buf[..4] != MAGIC {
            return Err(Flaw::Magic);
        }
        let end = BLOCK_HEADER_BYTES + u32_at(buf, 12) as usize;
        need(buf, end)?;
        let crc = u32_at(buf, 4);
        if crc32c::crc32c(&buf[SUMMED_FROM..end]) != crc {
            return Err(Flaw::Crc);
        }
        let header = Self {
            number: u32_at(buf, 8),
            stored: u32_at(buf, 12),
            raw: u32_at(buf, 16),
            codec: Codec::from_byte(buf[20])?,
            raw_offset: u64_at(buf, 24),
            nonce: u64_at(buf, 32),
        };
        if header.raw as usize > BLOCK_RAW_MAX {
            return Err(Flaw::Field("bytes of a block"));
        }
        Ok((header, crc, &buf[BLOCK_HEADER_BYTES..end]))
    }
}

/// Where a block stands and what it begins with: the finest grain of the index by LSN and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockEntry {
    /// Where it stands in the object.
    pub offset: u64,
    /// Bytes of records in the blocks before it.
    pub raw_offset: u64,
    /// Packed bytes, its header not counted.
    pub stored: u32,
    /// Bytes of records.
    pub raw: u32,
    /// Its CRC.
    pub crc: u32,
    /// How it is packed.
    pub codec: Codec,
    /// Its first record is a fragment that goes on where the block before ended.
    pub continued: bool,
    /// The log of its first record.
    pub log: LogId,
    /// The LSN of its first record.
    pub lsn: Lsn,
    /// The epoch of its first record.
    pub epoch: Epoch,
    /// The time of its first record, microseconds since 1970.
    pub time_us: u64,
    /// Records in it, fragments counted one by one.
    pub records: u32,
}

impl BlockEntry {
    /// Where the block ends in the object; the sum cannot overflow in a decoded footer.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + BLOCK_HEADER_BYTES as u64 + u64::from(self.stored)
    }

    /// Bytes of records up to its end; the sum cannot overflow in a decoded footer.
    #[must_use]
    pub fn raw_end(&self) -> u64 {
        self.raw_offset + u64::from(self.raw)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; BLOCK_ENTRY_BYTES];
        put(&mut bytes, 0, self.offset.to_le_bytes());
        put(&mut bytes, 8, self.raw_offset.to_le_bytes());
        put(&mut bytes, 16, self.stored.to_le_bytes());
        put(&mut bytes, 20, self.raw.to_le_bytes());
        put(&mut bytes, 24, self.crc.to_le_bytes());
        bytes[28] = self.codec as u8;
        bytes[29] = CONTINUED * u8::from(self.continued);
        put(&mut bytes, 32, self.log.0.to_le_bytes());
        put(&mut bytes, 40, self.lsn.0.to_le_bytes());
        put(&mut bytes, 48, self.time_us.to_le_bytes());
        put(&mut bytes, 56, self.epoch.0.to_le_bytes());
        put(&mut bytes, 60, self.records.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    pub(super) fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, BLOCK_ENTRY_BYTES)?;
        let flags = buf[29];
        if flags & !CONTINUED != 0 {
            return Err(Flaw::Unknown { what: "flags of a block", found: u32::from(flags) });
        }
        let entry = Self {
            offset: u64_at(buf, 0),
            raw_offset: u64_at(buf, 8),
            stored: u32_at(buf, 16),
            raw: u32_at(buf, 20),
            crc: u32_at(buf, 24),
            codec: Codec::from_byte(buf[28])?,
            continued: flags != 0,
            log: LogId(u64_at(buf, 32)),
            lsn: Lsn(u64_at(buf, 40)),
            epoch: Epoch(u32_at(buf, 56)),
            time_us: u64_at(buf, 48),
            records: u32_at(buf, 60),
        };
        if entry.raw == 0 || entry.raw as usize > BLOCK_RAW_MAX || entry.records == 0 {
            return Err(Flaw::Field("bytes of a block"));
        }
        Ok(entry)
    }
}

/// The records of block `number`, unpacked. `bytes` begin where the footer's entry says.
///
/// # Errors
/// The flaw: not whole, or not the block that the footer names.
pub fn open_block(
    bytes: &[u8],
    number: usize,
    entry: &BlockEntry,
    nonce: u64,
) -> Result<Vec<u8>, Flaw> {
    let (header, crc, stored) = BlockHeader::decode(bytes)?;
    let expected = BlockHeader {
        number: number as u32,
        stored: entry.stored,
        raw: entry.raw,
        codec: entry.codec,
        raw_offset: entry.raw_offset,
        nonce,
    };
    if crc != entry.crc || header != expected {
        return Err(Flaw::Field("another block than the footer names"));
    }
    entry.codec.unpack(stored, entry.raw as usize)
}
