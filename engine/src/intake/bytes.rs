//! The bytes of whole records, written to their place in a batch.
//!
//! Invariants: runs outside of the staging lock; every byte of the place is written.
//!
//! Not here: finding the place (`intake`), records in fragments (`span`).

use super::Staged;
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use crate::lsn::{LogId, Lsn};
use crate::record::Records;

/// Bytes of a record with these lengths, as it stands in a batch.
pub(super) fn framed((properties, payload): (usize, usize)) -> usize {
    (RECORD_HEADER_BYTES + properties + payload).next_multiple_of(8)
}

/// Writes the records, whose place and LSNs are given, to where they stand in the batch.
pub(super) fn fill<R: Records>(
    mut out: &mut [u8],
    log: LogId,
    staged: &Staged,
    source: &R,
    flags: u8,
) {
    for index in 0..source.count() {
        let part = source.part(index);
        let header = RecordHeader {
            log,
            lsn: Lsn(staged.first.0 + index as u64),
            epoch: staged.epoch,
            time_us: staged.time_us,
            kind: RecordKind::Data,
            flags,
            properties_bytes: part.properties.len() as u16,
            payload_bytes: part.payload.len() as u32,
            body_crc: part.crc,
            fragment_index: 0,
            producer: None,
        };
        header.encode(out);
        let (head, body) = (RECORD_HEADER_BYTES, part.properties.len());
        out[head..head + body].copy_from_slice(part.properties);
        let at = head + body;
        let end = at + part.payload.len();
        out[at..end].copy_from_slice(part.payload);
        let framed = end.next_multiple_of(8);
        out[end..framed].fill(0);
        out = &mut out[framed..];
    }
}
