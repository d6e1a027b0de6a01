//! The batch header: what one device write makes durable, and the claim it carries.
//!
//! Invariants:
//! - It knows no log; the run table behind it does.
//! - Its own CRC stands at 124 and covers 0..124, seeded by the nonce of the segment's life: bytes
//!   of the file's earlier life never pass.
//! - Its claim (`durable`) counts even when the body behind it is torn: the header decodes alone.
//! - `durable < seq <= durable + BATCHES_IN_FLIGHT_MAX`.
//! - A span (what is kept or dropped as one) is consecutive batches, numbered from 0; all but its
//!   last say that it goes on.
//!
//! Not here: the run table (`runs`), a whole batch with its records (`view`), what a claim convicts
//! (`recover`).

use super::runs::{run_table_bytes, run_table_bytes_min};
use super::wire::{need, put, u16_at, u32_at, u64_at};
use super::{BATCHES_IN_FLIGHT_MAX, Flaw, SPAN_BATCHES_MAX, VERSION};
use super::{RECORD_ALIGN, RECORD_HEADER_BYTES};
use super::{round_up, seed};
use crate::lsn::{SegmentId, ShardId};

pub use super::runs::{Run, RunTable, encode_runs};
pub use super::view::{BatchRecord, BatchRecords, BatchView};

/// "SWB1".
pub const BATCH_MAGIC: [u8; 4] = *b"SWB1";

/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 128;

/// Up to so many runs stand right behind the header.
pub const RUNS_INLINE_MAX: usize = 4;

/// The first record of a batch stands here: behind the header and room for the inline run table.
pub const BATCH_FRONT_BYTES: usize = BATCH_HEADER_BYTES + run_table_bytes(RUNS_INLINE_MAX);

/// Compat bit of a batch of a compacted segment: it has what is left of the batches up to its
/// sequence, and batches before it may be missing.
pub const BATCH_COMPACTED: u32 = 1;

/// Incompat bit of a batch whose run table is packed.
pub const BATCH_PACKED_RUNS: u32 = 1;

const CRC_AT: usize = 124;

/// The flag of a batch whose span goes on.
const CONTINUES: u32 = 1;

/// What a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BatchKind {
    /// Records.
    #[default]
    Data = 1,
    /// No records: the watermark's witness.
    Mark = 2,
}

/// A batch header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchHeader {
    /// Data or mark.
    pub kind: BatchKind,
    /// Compression of the body; 0, none, is all that this version knows.
    pub codec: u8,
    /// The directory it was written for.
    pub directory: u64,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The write-open that wrote it.
    pub term: u32,
    /// The segment it was written into.
    pub segment: SegmentId,
    /// Its sequence: dense per shard, across segments.
    pub seq: u64,
    /// The claim: every batch up to this one was durable when this one was submitted.
    pub durable: u64,
    /// The last manifest edit that was durable then: convicts a manifest that lost it.
    pub manifest_seq: u64,
    /// Wall clock at submission, microseconds since 1970.
    pub time_us: u64,
    /// Meaningful bytes, from the header on; zeroes follow up to the unit.
    pub bytes: u32,
    /// Records in it.
    pub records: u32,
    /// Runs in it.
    pub runs: u32,
    /// Where the run table stands, from the header on; may be 0 when there are no runs.
    pub runs_offset: u32,
    /// The header CRC of the shard's previous batch.
    pub prev_crc: u32,
    /// The key that encrypts the body; 0, none, is all that this version knows.
    pub key_id: u32,
    /// Room for the tag of an authenticated body.
    pub tag: [u8; 16],
    /// Features that an older reader may ignore: [`BATCH_COMPACTED`].
    pub compat: u32,
    /// Features that an older reader must refuse: [`BATCH_PACKED_RUNS`].
    pub incompat: u32,
    /// Batches of its span before it.
    pub part: u32,
    /// Its span goes on in the next batch.
    pub continues: bool,
}

impl BatchHeader {
    /// Bytes in the file, padding included.
    #[must_use]
    pub fn padded_bytes(&self, unit: usize) -> usize {
        round_up(self.bytes as usize, unit)
    }

    /// Its run table is packed.
    #[must_use]
    pub fn packs_runs(&self) -> bool {
        self.incompat & BATCH_PACKED_RUNS != 0
    }

    /// Where in the batch the records end.
    #[must_use]
    pub fn records_end(&self) -> usize {
        let behind = self.runs_offset as usize > BATCH_HEADER_BYTES;
        (if behind { self.runs_offset } else { self.bytes }) as usize
    }

    /// Writes the header to the front of `out` and gives its CRC, which the next batch repeats as
    /// `prev_crc`. Allocates nothing.
    #[inline]
    pub fn encode(&self, nonce: u64, out: &mut [u8]) -> u32 {
        let mut bytes = [0u8; BATCH_HEADER_BYTES];
        put(&mut bytes, 0, BATCH_MAGIC);
        put(&mut bytes, 4, VERSION.to_le_bytes());
        bytes[6] = self.kind as u8;
        bytes[7] = self.codec;
        put(&mut bytes, 8, self.directory.to_le_bytes());
        put(&mut bytes, 16, u32::from(self.shard.0).to_le_bytes());
        put(&mut bytes, 20, self.term.to_le_bytes());
        put(&mut bytes, 24, self.segment.0.to_le_bytes());
        put(&mut bytes, 32, self.seq.to_le_bytes());
        put(&mut bytes, 40, self.durable.to_le_bytes());
        put(&mut bytes, 48, self.manifest_seq.to_le_bytes());
        put(&mut bytes, 56, self.time_us.to_le_bytes());
        put(&mut bytes, 64, self.bytes.to_le_bytes());
        put(&mut bytes, 68, self.records.to_le_bytes());
        put(&mut bytes, 72, self.runs.to_le_bytes());
        put(&mut bytes, 76, self.runs_offset.to_le_bytes());
        put(&mut bytes, 80, self.prev_crc.to_le_bytes());
        put(&mut bytes, 84, self.key_id.to_le_bytes());
        put(&mut bytes, 88, self.tag);
        put(&mut bytes, 104, self.compat.to_le_bytes());
        put(&mut bytes, 108, self.incompat.to_le_bytes());
        put(&mut bytes, 112, self.part.to_le_bytes());
        put(&mut bytes, 116, (CONTINUES * u32::from(self.continues)).to_le_bytes());
        let crc = crc32c::crc32c_append(seed(nonce), &bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        out[..BATCH_HEADER_BYTES].copy_from_slice(&bytes);
        crc
    }

    /// Reads a header, alone: the batch behind it may be torn. Also gives the header's CRC.
    pub fn decode(buf: &[u8], nonce: u64) -> Result<(Self, u32), Flaw> {
        need(buf, BATCH_HEADER_BYTES)?;
        if buf[..4] != BATCH_MAGIC {
            return Err(Flaw::Magic);
        }
        let crc = u32_at(buf, CRC_AT);
        if crc32c::crc32c_append(seed(nonce), &buf[..CRC_AT]) != crc {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != VERSION {
            return Err(Flaw::Version { found: version });
        }
        let unknown = u32_at(buf, 108) & !BATCH_PACKED_RUNS;
        if unknown != 0 {
            return Err(Flaw::Incompat { bits: unknown });
        }
        let header = Self::from_checked(buf)?;
        header.check()?;
        Ok((header, crc))
    }

    fn from_checked(buf: &[u8]) -> Result<Self, Flaw> {
        let kind = match buf[6] {
            0 => return Err(Flaw::Field("batch kind 0")),
            1 => BatchKind::Data,
            2 => BatchKind::Mark,
            other => {
                return Err(Flaw::Unknown { what: "batch kind", found: u32::from(other) });
            }
        };
        let flags = u32_at(buf, 116);
        if flags & !CONTINUES != 0 {
            return Err(Flaw::Unknown { what: "batch flags", found: flags });
        }
        let shard = u16::try_from(u32_at(buf, 16)).map_err(|_| Flaw::Field("shard of a batch"))?;
        let mut tag = [0; 16];
        tag.copy_from_slice(&buf[88..104]);
        Ok(Self {
            kind,
            codec: buf[7],
            directory: u64_at(buf, 8),
            shard: ShardId(shard),
            term: u32_at(buf, 20),
            segment: SegmentId(u64_at(buf, 24)),
            seq: u64_at(buf, 32),
            durable: u64_at(buf, 40),
            manifest_seq: u64_at(buf, 48),
            time_us: u64_at(buf, 56),
            bytes: u32_at(buf, 64),
            records: u32_at(buf, 68),
            runs: u32_at(buf, 72),
            runs_offset: u32_at(buf, 76),
            prev_crc: u32_at(buf, 80),
            key_id: u32_at(buf, 84),
            tag,
            compat: u32_at(buf, 104),
            incompat: u32_at(buf, 108),
            part: u32_at(buf, 112),
            continues: flags & CONTINUES != 0,
        })
    }

    /// What no writer writes, although the CRC is good.
    fn check(&self) -> Result<(), Flaw> {
        if self.codec != 0 {
            return Err(Flaw::Unknown { what: "codec", found: u32::from(self.codec) });
        }
        if self.key_id != 0 {
            return Err(Flaw::Unknown { what: "key", found: self.key_id });
        }
        if self.seq <= self.durable || self.seq - self.durable > BATCHES_IN_FLIGHT_MAX {
            return Err(Flaw::Field("a batch that claims itself, or runs too far ahead"));
        }
        let parts = self.part.saturating_add(1 + u32::from(self.continues));
        let alone = self.kind == BatchKind::Mark;
        if parts > if alone { 1 } else { SPAN_BATCHES_MAX } {
            return Err(Flaw::Field("place in a span"));
        }
        let (bytes, runs) = (self.bytes as usize, self.runs as usize);
        let empty = self.records == 0 && self.runs == 0;
        if bytes < BATCH_HEADER_BYTES || empty != (self.kind == BatchKind::Mark) {
            return Err(Flaw::Field("bytes or records of a batch"));
        }
        if empty && self.runs_offset == 0 {
            return Ok(());
        }
        let at = self.runs_offset as usize;
        let packed = self.packs_runs();
        let inline = at == BATCH_HEADER_BYTES && runs <= RUNS_INLINE_MAX && !packed;
        let behind = at >= BATCH_FRONT_BYTES && at.is_multiple_of(RECORD_ALIGN);
        if !(inline || behind) || at + run_table_bytes_min(runs, packed) > bytes {
            return Err(Flaw::Field("place of the run table"));
        }
        let room = self.records_end().saturating_sub(BATCH_FRONT_BYTES);
        if self.records < self.runs || self.records as usize > room / RECORD_HEADER_BYTES {
            return Err(Flaw::Field("more records than a batch has room for"));
        }
        Ok(())
    }
}

const _: () = assert!(BATCH_FRONT_BYTES == 272);
const _: () = assert!(BATCH_FRONT_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(CRC_AT + 4 == BATCH_HEADER_BYTES);
