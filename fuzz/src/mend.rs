//! Makes every CRC of a structure right, so that what stands behind the CRCs is reached.
//!
//! Invariant: knows the layout only as FORMAT.md (of engine and tiering) draws it, by offsets, and
//! sums with a CRC32C of its own: a second opinion on both. Lengths are hostile here too.
//! Not here: what is then true of the bytes (the judges).

use super::NONCE;
use sapwood::format::seed;

const UNIT: usize = 4096;

/// CRC32C (Castagnoli), bit by bit, going on from `crc`.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut crc = !crc;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

fn u16_at(b: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(b: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn u64_at(b: &[u8], at: usize) -> Option<usize> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?) as usize)
}

/// Writes at `at` the CRC of `from..to`, going on from `start`, if all of that is there.
fn sum(b: &mut [u8], at: usize, from: usize, to: Option<usize>, start: u32) -> Option<()> {
    let crc = crc32c(start, b.get(from..to?)?);
    b.get_mut(at..at + 4)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// The record at the front; its framed length.
fn one_record(b: &mut [u8]) -> Option<usize> {
    let header = if b.get(43)? & 8 == 0 { 48 } else { 64 };
    let body = u32_at(b, 36)?.checked_add(u16_at(b, 40)?)?;
    sum(b, 4, header, header.checked_add(body), 0);
    sum(b, 0, 4, Some(header), 0)?;
    header.checked_add(body)?.checked_next_multiple_of(8)
}

/// A record.
pub fn record(b: &mut [u8]) {
    one_record(b);
}

/// The batch at the front; its length in the file.
fn one_batch(b: &mut [u8], nonce: u64) -> Option<usize> {
    let seed = seed(nonce);
    let bytes = u32_at(b, 64)?;
    let table = u32_at(b, 76)?;
    let end = if table > 128 { table } else { bytes }.min(b.len());
    let mut at = 272;
    while at < end {
        at += one_record(&mut b[at..end])?;
    }
    if let Some(rest) = b.get_mut(table..) {
        let count = u32_at(rest, 4).unwrap_or(0);
        let to = count.checked_mul(32).and_then(|n| n.checked_add(16));
        sum(rest, 0, 4, to, seed);
    }
    sum(b, 124, 0, Some(124), seed)?;
    bytes.checked_next_multiple_of(UNIT).filter(|n| *n > 0)
}

/// A batch of the life [`NONCE`].
pub fn batch(b: &mut [u8]) {
    if one_batch(b, NONCE).is_none() {
        sum(b, 124, 0, Some(124), seed(NONCE));
    }
}

/// A segment header and the batches behind it.
pub fn segment(b: &mut [u8]) {
    let Some(nonce) = u64_at(b, 64) else { return };
    let nonce = nonce as u64;
    sum(b, 4092, 0, Some(4092), seed(nonce));
    let mut at = u32_at(b, 44).unwrap_or(UNIT);
    while let Some(rest) = b.get_mut(at..) {
        let Some(next) = one_batch(rest, nonce) else {
            break;
        };
        at += next;
    }
}

/// The frames of a manifest slot.
pub fn manifest(mut b: &mut [u8]) {
    while b.len() >= 128 {
        let end = u64_at(b, 56).and_then(|n| n.checked_add(128));
        sum(b, 68, 128, end, 0);
        sum(b, 124, 0, Some(124), 0);
        let unit = u32_at(b, 88).filter(|u| *u > 0).unwrap_or(UNIT);
        let Some(next) = end.and_then(|n| n.checked_next_multiple_of(unit)) else {
            return;
        };
        let Some(rest) = b.get_mut(next..) else {
            return;
        };
        b = rest;
    }
}

/// Every part of an index file.
pub fn index(b: &mut [u8]) {
    let part = |b: &[u8], from: usize, bytes: Option<usize>| -> Option<u32> {
        Some(crc32c(0, b.get(from..from.checked_add(bytes?)?)?))
    };
    let (Some(blocks), Some(fence), Some(postings), Some(count), Some(names), Some(names_bytes)) = (
        u32_at(b, 80),
        u64_at(b, 88),
        u64_at(b, 96),
        u64_at(b, 104),
        u64_at(b, 112),
        u64_at(b, 120),
    ) else {
        return;
    };
    let crcs = [
        (128, part(b, fence, blocks.checked_mul(8))),
        (132, part(b, postings, count.checked_mul(24))),
        (136, part(b, names, Some(names_bytes))),
    ];
    for (at, crc) in crcs {
        if let (Some(crc), Some(place)) = (crc, b.get_mut(at..at + 4)) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
    sum(b, 4092, 0, Some(4092), 0);
    for block in b.chunks_exact_mut(4096).skip(1).take(blocks.min(64)) {
        sum(block, 0, 4, Some(4096), 0);
    }
}

/// An object: its header, its blocks as far as they stand one behind the other, footer and trailer.
pub fn object(b: &mut [u8]) {
    sum(b, 124, 0, Some(124), 0);
    let Some(end) = b.len().checked_sub(64) else { return };
    let Some(at) = u64_at(&b[end..], 8).filter(|at| (128..=end).contains(at)) else { return };
    let blocks = u32_at(&b[at..], 8).unwrap_or(0).min(64);
    let tables = at + 64 + 128;
    let mut from = 128;
    for number in 0..blocks {
        let entry = tables + number * 64;
        let Some(block) = b.get_mut(from..at) else { break };
        let Some(bytes) = one_block(block) else { break };
        let crc: [u8; 4] = b[from + 4..from + 8].try_into().expect("four bytes");
        if let Some(place) = b.get_mut(entry + 24..entry + 28) {
            place.copy_from_slice(&crc);
        }
        from += bytes;
    }
    if at + 192 <= end {
        sum(&mut b[at + 64..], 124, 0, Some(124), 0);
        let facts = u64_at(&b[at..], 24).and_then(|bytes| end.checked_sub(bytes));
        if let Some(facts) = facts.filter(|facts| *facts >= tables) {
            manifest(&mut b[facts..end]);
        }
    }
    let crc = crc32c(0, &b[at..end]);
    let header: [u8; 4] = b[124..128].try_into().expect("four bytes");
    b[end + 40..end + 44].copy_from_slice(&crc.to_le_bytes());
    b[end + 44..end + 48].copy_from_slice(&header);
    sum(&mut b[end..], 60, 0, Some(60), 0);
}

/// The block at the front; its length.
fn one_block(b: &mut [u8]) -> Option<usize> {
    let bytes = u32_at(b, 12)?.checked_add(40)?;
    sum(b, 4, 8, Some(bytes), 0)?;
    Some(bytes)
}

/// A block.
pub fn block(b: &mut [u8]) {
    one_block(b);
}
