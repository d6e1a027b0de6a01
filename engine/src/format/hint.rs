//! The hint page: what a shard's writer says to followers on its host, in the page cache alone.
//!
//! Invariants: it names the boot, the process and the term that it is of; nothing in it is needed
//! for recovery, which does not read it. The CRC stands at 124 of 128 bytes in every version.
//! Not here: who writes it (`hint`), when it is believed (`follow`).

use super::wire::{need, put, u16_at, u32_at, u64_at};
use super::{Flaw, VERSION};
use crate::lsn::ShardId;

/// "SWH1".
pub const HINT_MAGIC: [u8; 4] = *b"SWH1";

/// Bytes of a hint, its CRC included. The file is 4096, the rest zeroes.
pub const HINT_BYTES: usize = 128;

const CRC_AT: usize = HINT_BYTES - 4;

/// A hint page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HintPage {
    /// Features that an older reader may ignore.
    pub compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
    /// The directory it belongs to.
    pub directory: u64,
    /// The shard it tells about.
    pub shard: ShardId,
    /// The write-open that it is of.
    pub term: u32,
    /// Every batch up to this one was durable when the page was written.
    pub durable: u64,
    /// The last manifest frame that was durable then.
    pub manifest_seq: u64,
    /// The kernel's random id of the boot that the writer lives in.
    pub boot: u128,
    /// The writer's process id.
    pub pid: u32,
    /// When that process started, in clock ticks since the boot.
    pub start_time: u64,
}

impl HintPage {
    /// Writes the page to the front of `out`, and gives its CRC.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..HINT_BYTES];
        out.fill(0);
        put(out, 0, HINT_MAGIC);
        put(out, 4, VERSION.to_le_bytes());
        put(out, 8, self.directory.to_le_bytes());
        put(out, 16, u32::from(self.shard.0).to_le_bytes());
        put(out, 20, self.term.to_le_bytes());
        put(out, 24, self.durable.to_le_bytes());
        put(out, 32, self.manifest_seq.to_le_bytes());
        put(out, 40, self.boot.to_le_bytes());
        put(out, 56, self.pid.to_le_bytes());
        put(out, 64, self.start_time.to_le_bytes());
        put(out, 72, self.compat.to_le_bytes());
        put(out, 76, self.incompat.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(out, CRC_AT, crc.to_le_bytes());
        crc
    }

    /// Reads the page at the front of `buf`.
    pub fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, HINT_BYTES)?;
        if buf[..4] != HINT_MAGIC {
            return Err(Flaw::Magic);
        }
        if crc32c::crc32c(&buf[..CRC_AT]) != u32_at(buf, CRC_AT) {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != VERSION {
            return Err(Flaw::Version { found: version });
        }
        let incompat = u32_at(buf, 76);
        if incompat != 0 {
            return Err(Flaw::Incompat { bits: incompat });
        }
        let shard = u16::try_from(u32_at(buf, 16)).map_err(|_| Flaw::Field("shard of a hint"))?;
        Ok(Self {
            compat: u32_at(buf, 72),
            incompat,
            directory: u64_at(buf, 8),
            shard: ShardId(shard),
            term: u32_at(buf, 20),
            durable: u64_at(buf, 24),
            manifest_seq: u64_at(buf, 32),
            boot: u128::from(u64_at(buf, 48)) << 64 | u128::from(u64_at(buf, 40)),
            pid: u32_at(buf, 56),
            start_time: u64_at(buf, 64),
        })
    }
}
