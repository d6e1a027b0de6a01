//! An object: the records of a sealed segment, regrouped by log, as bytes. `FORMAT.md` draws it.
//!
//! Invariants:
//! - Pure bytes: no I/O, no clock. A decoder never panics, believes no length before it is under a
//!   checksum and held against the bytes at hand, and reserves memory only in proportion to them.
//! - Every byte of an object is under a checksum, and every checksum's place, algorithm and reach
//!   are those of all versions to come: a good one with another version is "unsupported", never
//!   "corrupt".
//! - Records travel unchanged, with their own headers and CRCs.
//!
//! Not here: where objects are kept (`store`), how a segment is read (`gather`).

mod block;
mod build;
mod codec;
mod footer;
mod header;
mod stretch;
mod verify;
mod wire;

pub use block::{
    BLOCK_ENTRY_BYTES, BLOCK_HEADER_BYTES, BLOCK_RAW_MAX, BlockEntry, BlockHeader, open_block,
};
pub use build::{Builder, Packing};
pub use codec::Codec;
pub use footer::{FOOTER_HEAD_BYTES, Footer, TRAILER_BYTES, Trailer};
pub use header::{HEADER_BYTES, ObjectHeader};
pub use stretch::{STRETCH_BYTES, Stretch};
pub use verify::{Verified, Wrong, verify};

/// The version that this code writes.
pub const OBJECT_VERSION: u16 = 1;
