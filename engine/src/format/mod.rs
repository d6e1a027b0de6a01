//! Bytes on disk, pure: encode, decode, verify. `FORMAT.md` draws every structure.
//!
//! Invariants:
//! - Everything is little-endian; a reserved byte is written as zero.
//! - A decoder never panics, never trusts a length before it is checked against the bytes that are
//!   there, and reserves no memory for a count that the bytes at hand cannot hold.
//! - Place and algorithm of every header's own CRC are fixed for all future versions. So a good CRC
//!   with another version is [`Flaw::Version`], "unsupported", and is never called corrupt.
//! - Magics are not zero: an all-zero block never decodes as anything.
//!
//! Not here: files and offsets (`io`), which structure stands where (`segment`, `manifest`,
//! `recover`), what damage means for a log (`recover`, `reader`).

use std::fmt;

pub mod batch;
pub mod edit;
pub mod facts;
pub mod hint;
pub mod index;
mod index_parts;
pub mod manifest;
mod packed;
pub mod record;
pub mod runs;
pub mod segment;
mod view;
mod wire;

pub use batch::{
    BATCH_COMPACTED, BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, BATCH_MAGIC, BATCH_PACKED_RUNS,
    BatchHeader, BatchKind, BatchRecord, BatchRecords, BatchView, RUNS_INLINE_MAX,
};
pub use edit::{Edit, Edits};
pub use facts::{Chain, DamageFacts, DirectoryFacts, Link, LogFacts, LogSettings};
pub use hint::{HINT_BYTES, HINT_MAGIC, HintPage};
pub use index::{EntryBlock, Fence, INDEX_MAGIC, IndexData, IndexEntry, IndexHeader, Posting};
pub use manifest::{FRAME_HEADER_BYTES, Frame, FrameHeader, FrameView, MANIFEST_MAGIC, SNAPSHOT};
pub use record::{
    FLAG_GROUP, Fragment, Producer, PropertyIter, RECORD_ALIGN, RECORD_HEADER_BYTES, RecordHeader,
    RecordKind, RecordRef, body_crc, encode_properties, read_record, read_record_header_only,
    write_record,
};
pub use runs::{
    RUN_BYTES, RUN_TABLE_HEADER_BYTES, Run, RunTable, Runs, encode_packed_runs, encode_runs,
    packed_run_table_bytes, run_table_bytes,
};
pub use segment::{COMPACTED, RECYCLED, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader};

/// The smallest unit of a directory: batches start and end on a multiple of it.
pub const UNIT_MIN: usize = 4096;

/// The version that this code writes, in every structure that carries one.
pub const VERSION: u16 = 1;

/// Batches of one shard that may be handed to the disk and not yet durable. A header whose sequence
/// runs further ahead of the durable one it claims is not ours.
pub const BATCHES_IN_FLIGHT_MAX: u64 = 64;

/// Batches of one span: what is kept or dropped as one. A claim never covers a part of a span, so a
/// header's lead over its claim bounds it: a span of these and as many in flight behind it.
pub const SPAN_BATCHES_MAX: u32 = 32;

/// Why bytes do not decode. What it means (torn, rot, foreign) is decided by who knows the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Fewer bytes than the structure needs, or says that it needs.
    Short {
        /// Bytes needed, as far as they are known by now.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// Not this structure: zeroes, other data, another file.
    Magic,
    /// The checksum does not fit the bytes (or belongs to another life of a recycled file).
    Crc,
    /// Whole, but of a version this code does not know.
    Version {
        /// The version that stands there.
        found: u16,
    },
    /// Whole, but it uses features this code must know and does not.
    Incompat {
        /// The bits not known.
        bits: u32,
    },
    /// Whole, but of a kind, codec or flag this code does not know.
    Unknown {
        /// Which field.
        what: &'static str,
        /// What stands there.
        found: u32,
    },
    /// The checksum is good and yet a field says what cannot be.
    Field(&'static str),
}

impl Flaw {
    /// Whole bytes of a newer writer: update the program; never call it corrupt.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Incompat { .. } | Self::Unknown { .. })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { need, have } => write!(f, "{have} bytes where {need} are needed"),
            Self::Magic => f.write_str("magic does not match"),
            Self::Crc => f.write_str("checksum does not match"),
            Self::Version { found } => {
                write!(f, "unsupported: version {found}, this program knows {VERSION}")
            }
            Self::Incompat { bits } => write!(f, "unsupported: feature bits {bits:#x}"),
            Self::Unknown { what, found } => write!(f, "unsupported: {what} {found}"),
            Self::Field(what) => write!(f, "impossible: {what}"),
        }
    }
}

impl std::error::Error for Flaw {}

/// The CRC seed of a segment's life, from the nonce of that life.
///
/// Both halves of the nonce reach every bit of it (the finaliser of splitmix64, then the halves
/// xored), and it is never 0, which would be the unseeded CRC. Over the same bytes two different
/// seeds never give the same CRC32C (the register after n bytes is a bijection of the register
/// before them), so a stale structure passes only if two lives drew the same seed: 2^-32.
#[must_use]
pub fn seed(nonce: u64) -> u32 {
    const SEED_OF_ZERO: u32 = 0x5357_4F44;
    let mut x = nonce.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    let folded = (x >> 32) as u32 ^ x as u32;
    if folded == 0 { SEED_OF_ZERO } else { folded }
}

/// `n` rounded up to a multiple of `align`, a power of two. Saturates at the last multiple.
#[must_use]
pub const fn round_up(n: usize, align: usize) -> usize {
    debug_assert!(align.is_power_of_two());
    n.saturating_add(align - 1) & !(align - 1)
}

/// A unit that a directory may have: a power of two, at least [`UNIT_MIN`], at most 1 MiB.
#[must_use]
pub(crate) const fn is_unit(unit: u32) -> bool {
    unit.is_power_of_two() && unit as usize >= UNIT_MIN && unit <= 1 << 20
}
