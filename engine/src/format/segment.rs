//! The segment header: the first block of a file of batches, naming one life of that file.
//!
//! Invariants: batches begin at offset `unit`; the CRC stands at 4092 and is seeded by the nonce in
//! the header itself, which stands at 64 in every version; the manifest holds file, id and nonce
//! too, so a rotten header costs nothing but a notice.
//! Not here: whether this life is the current one (`manifest`), the batches (`batch`).

use super::wire::{need, put, u16_at, u32_at, u64_at};
use super::{Flaw, VERSION, is_unit, seed};
use crate::lsn::{SegmentId, ShardId};

/// "SWS1".
pub const SEGMENT_MAGIC: [u8; 4] = *b"SWS1";

/// Bytes of a segment header, the CRC at its end included.
pub const SEGMENT_HEADER_BYTES: usize = 4096;

/// Compat bit: the file was another segment before; bytes of that life stand behind the batches.
pub const RECYCLED: u32 = 1;

/// Compat bit: the file was written as a sealed one, from another life of the segment; see
/// [`BATCH_COMPACTED`](super::BATCH_COMPACTED).
pub const COMPACTED: u32 = 2;

const NONCE_AT: usize = 64;
const CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// A segment header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SegmentHeader {
    /// Features that an older reader may ignore: [`RECYCLED`], [`COMPACTED`].
    pub compat: u32,
    /// Features that an older program may read past but must not write.
    pub ro_compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
    /// The directory it belongs to.
    pub directory: u64,
    /// The lineage of that directory.
    pub lineage: u64,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The directory's alignment; batches begin at this offset.
    pub unit: u32,
    /// The segment.
    pub segment: SegmentId,
    /// The number in the file's name; a recycled file keeps it and gets a new segment and nonce.
    pub file: u64,
    /// Drawn anew for each life of the file; seeds the CRCs in it.
    pub nonce: u64,
    /// Size of the file; of a compacted one an upper bound.
    pub bytes: u64,
    /// The write-open that prepared it.
    pub term: u32,
    /// Wall clock then, microseconds since 1970.
    pub created_us: u64,
}

impl SegmentHeader {
    /// Writes the block to the front of `out`, zeroes included, and gives its CRC.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..SEGMENT_HEADER_BYTES];
        out.fill(0);
        put(out, 0, SEGMENT_MAGIC);
        put(out, 4, VERSION.to_le_bytes());
        put(out, 8, self.compat.to_le_bytes());
        put(out, 12, self.ro_compat.to_le_bytes());
        put(out, 16, self.incompat.to_le_bytes());
        put(out, 24, self.directory.to_le_bytes());
        put(out, 32, self.lineage.to_le_bytes());
        put(out, 40, u32::from(self.shard.0).to_le_bytes());
        put(out, 44, self.unit.to_le_bytes());
        put(out, 48, self.segment.0.to_le_bytes());
        put(out, 56, self.file.to_le_bytes());
        put(out, NONCE_AT, self.nonce.to_le_bytes());
        put(out, 72, self.bytes.to_le_bytes());
        put(out, 80, self.term.to_le_bytes());
        put(out, 88, self.created_us.to_le_bytes());
        let crc = crc32c::crc32c_append(seed(self.nonce), &out[..CRC_AT]);
        put(out, CRC_AT, crc.to_le_bytes());
        crc
    }

    /// Reads the block at the front of `buf`.
    pub fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, SEGMENT_HEADER_BYTES)?;
        if buf[..4] != SEGMENT_MAGIC {
            return Err(Flaw::Magic);
        }
        let seed = seed(u64_at(buf, NONCE_AT));
        if crc32c::crc32c_append(seed, &buf[..CRC_AT]) != u32_at(buf, CRC_AT) {
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
        let shard =
            u16::try_from(u32_at(buf, 40)).map_err(|_| Flaw::Field("shard of a segment"))?;
        let header = Self {
            compat: u32_at(buf, 8),
            ro_compat: u32_at(buf, 12),
            incompat,
            directory: u64_at(buf, 24),
            lineage: u64_at(buf, 32),
            shard: ShardId(shard),
            unit: u32_at(buf, 44),
            segment: SegmentId(u64_at(buf, 48)),
            file: u64_at(buf, 56),
            nonce: u64_at(buf, NONCE_AT),
            bytes: u64_at(buf, 72),
            term: u32_at(buf, 80),
            created_us: u64_at(buf, 88),
        };
        if !is_unit(header.unit) {
            return Err(Flaw::Field("unit of a segment"));
        }
        Ok(header)
    }

    /// Refuses to write where a feature is used that only newer programs may write.
    pub fn writable(&self) -> Result<(), Flaw> {
        if self.ro_compat == 0 { Ok(()) } else { Err(Flaw::Incompat { bits: self.ro_compat }) }
    }
}
