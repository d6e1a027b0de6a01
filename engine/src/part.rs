//! Reading a part of a batch: the records of one log at a place, without the batch around them.
//!
//! Invariants: a record passes only if it is the very one that is due, whole, and both its CRCs are
//! good: (log, epoch, LSN) never names two records, so it needs no run table to be believed. Of the
//! others only the headers are looked at. Whatever is not as expected is no damage yet: nothing
//! passes, and the batch is read whole, which tells.
//!
//! Not here: which part (`hops`), whether the segment was still there (`catchup`).

use std::io;

use crate::archive::Archived;
use crate::format::{Flaw, Fragment, UNIT_MIN, read_record_header_only};
use crate::hops::Hop;
use crate::io::buf::AlignedBuf;
use crate::io::{File, Storage};
use crate::lsn::{Epoch, LogId, Lsn};

/// The most of one read.
const READ_BYTES_MAX: usize = 256 << 10;

/// Beyond this a part is better read as the batch that it is.
const PART_BYTES_MAX: usize = 2 << 20;

/// The records of `log` from `from` on that stand at this place, in `bytes`. `None`: something is
/// not as it should be.
pub(crate) fn read(
    storage: &dyn Storage,
    file: &File,
    (log, from): (LogId, Lsn),
    hop: &Hop,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<Vec<Archived>>> {
    let first = hop.place.offset as usize + hop.place.at as usize;
    let start = first / UNIT_MIN * UNIT_MIN;
    let (mut at, mut due, mut epoch) = (first - start, hop.place.lsn, Epoch(0));
    let mut want = at + hop.bytes_from(hop.place.lsn).max(UNIT_MIN / 4);
    let mut found = Vec::new();
    bytes.clear();
    loop {
        if !more(storage, file, start as u64, want, bytes)? {
            return Ok(None);
        }
        while due < hop.until {
            let (record, framed) = match read_record_header_only(&bytes[at.min(bytes.len())..]) {
                Ok(read) => read,
                Err(Flaw::Short { .. }) => break,
                Err(_) => return Ok(None),
            };
            let header = record.header;
            if header.log == log {
                let fits = header.lsn == due && header.epoch >= epoch;
                if !fits || header.fragment() != Fragment::Whole || !record.body_is_good() {
                    return Ok(None);
                }
                if due >= from {
                    let properties = at + header.header_bytes();
                    let payload = properties + usize::from(header.properties_bytes);
                    let end = payload + header.payload_bytes as usize;
                    let (properties, payload) = (properties..payload, payload..end);
                    found.push(Archived { header, properties, payload });
                }
                (due, epoch) = (due.next(), header.epoch);
            }
            at += framed;
        }
        if due >= hop.until {
            return Ok(Some(found));
        }
        want = bytes.len() + hop.bytes_from(due).clamp(UNIT_MIN, READ_BYTES_MAX);
    }
}

/// Reads on until there are `want` bytes, or one read more. False when there is no more, or enough.
fn more(
    storage: &dyn Storage,
    file: &File,
    start: u64,
    want: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<bool> {
    let have = bytes.len();
    if have >= PART_BYTES_MAX || !have.is_multiple_of(UNIT_MIN) {
        return Ok(false);
    }
    let len = want.saturating_sub(have).next_multiple_of(UNIT_MIN);
    let len = len.clamp(UNIT_MIN, READ_BYTES_MAX);
    let mut buf = AlignedBuf::zeroed(len)?;
    let got = storage.read_at(file, start + have as u64, &mut buf, len)?;
    bytes.extend_from_slice(&buf[..got]);
    Ok(got > 0)
}
