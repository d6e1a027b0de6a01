//! Little-endian numbers in and out of byte slices.
//!
//! Invariant: a place is held against the bytes at hand ([`need`]) before it is read.
//! Not here: what the numbers mean.

use sapwood::format::Flaw;

/// Copies `bytes` to `out[at..]`; the caller has checked the length.
pub(super) fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

fn array_at<const N: usize>(buf: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&buf[at..at + N]);
    array
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u16_at(buf: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(buf, at))
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u32_at(buf: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(buf, at))
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u64_at(buf: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(buf, at))
}

/// `Short` unless `buf` holds `need` bytes.
pub(super) fn need(buf: &[u8], need: usize) -> Result<(), Flaw> {
    if buf.len() < need { Err(Flaw::Short { need, have: buf.len() }) } else { Ok(()) }
}
