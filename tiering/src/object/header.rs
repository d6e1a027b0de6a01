//! The header of an object: whose records it holds.
//!
//! Invariants: its CRC stands at 124 and covers 0..124, in every version; the footer holds a copy
//! of it, so that the end of an object tells the same as its beginning.
//! Not here: what is in the object (`footer`).

use sapwood::format::Flaw;
use sapwood::{SegmentId, ShardId};

use super::OBJECT_VERSION;
use super::wire::{need, put, u16_at, u32_at, u64_at};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 128;

const MAGIC: [u8; 4] = *b"SWO1";
const CRC_AT: usize = HEADER_BYTES - 4;
/// The kind of an object that holds the records of one segment.
const SEGMENT: u16 = 1;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectHeader {
    /// The directory that the records were appended to.
    pub directory: u64,
    /// Its lineage.
    pub lineage: u64,
    /// The shard.
    pub shard: ShardId,
    /// The write-open that wrote the segment's last batch.
    pub term: u32,
    /// The segment.
    pub segment: SegmentId,
    /// The nonce of its life.
    pub nonce: u64,
    /// Its first batch; 0 when it holds none.
    pub first_seq: u64,
    /// Its last batch.
    pub last_seq: u64,
    /// The header CRC of its last batch. As each batch names the one before it by this CRC, it
    /// names all of the segment: two that agree in it and in the last batch hold the same.
    pub last_crc: u32,
    /// Features that an older reader may ignore.
    pub compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
    /// The time of its last batch, microseconds since 1970.
    pub time_us: u64,
}

impl ObjectHeader {
    /// Writes the header to the front of `out`, which holds [`HEADER_BYTES`], and gives its CRC.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..HEADER_BYTES];
        out.fill(0);
        put(out, 0, MAGIC);
        put(out, 4, OBJECT_VERSION.to_le_bytes());
        put(out, 6, SEGMENT.to_le_bytes());
        put(out, 8, self.compat.to_le_bytes());
        put(out, 12, self.incompat.to_le_bytes());
        put(out, 16, self.directory.to_le_bytes());
        put(out, 24, self.lineage.to_le_bytes());
        put(out, 32, u32::from(self.shard.0).to_le_bytes());
        put(out, 36, self.term.to_le_bytes());
        put(out, 40, self.segment.0.to_le_bytes());
        put(out, 48, self.nonce.to_le_bytes());
        put(out, 56, self.first_seq.to_le_bytes());
        put(out, 64, self.last_seq.to_le_bytes());
        put(out, 72, self.time_us.to_le_bytes());
        put(out, 80, self.last_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(out, CRC_AT, crc.to_le_bytes());
        crc
    }

    /// Reads the header at the front of `buf`; also gives its CRC.
    ///
    /// # Errors
    /// The flaw; a newer version's is [`Flaw::is_unsupported`].
    pub fn decode(buf: &[u8]) -> Result<(Self, u32), Flaw> {
        need(buf, HEADER_BYTES)?;
        if buf[..4] != MAGIC {
            return Err(Flaw::Magic);
        }
        let crc = u32_at(buf, CRC_AT);
        if crc32c::crc32c(&buf[..CRC_AT]) != crc {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != OBJECT_VERSION {
            return Err(Flaw::Version { found: version });
        }
        let incompat = u32_at(buf, 12);
        if incompat != 0 {
            return Err(Flaw::Incompat { bits: incompat });
        }
        let kind = u16_at(buf, 6);
        if kind != SEGMENT {
            return Err(Flaw::Unknown { what: "object kind", found: u32::from(kind) });
        }
        let shard =
            u16::try_from(u32_at(buf, 32)).map_err(|_| Flaw::Field("shard of an object"))?;
        let header = Self {
            directory: u64_at(buf, 16),
            lineage: u64_at(buf, 24),
            shard: ShardId(shard),
            term: u32_at(buf, 36),
            segment: SegmentId(u64_at(buf, 40)),
            nonce: u64_at(buf, 48),
            first_seq: u64_at(buf, 56),
            last_seq: u64_at(buf, 64),
            last_crc: u32_at(buf, 80),
            compat: u32_at(buf, 8),
            incompat,
            time_us: u64_at(buf, 72),
        };
        if header.first_seq > header.last_seq {
            return Err(Flaw::Field("batches of an object"));
        }
        Ok((header, crc))
    }
}
