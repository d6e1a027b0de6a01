//! The run table of a batch: which records of which logs it holds, so that damage has a name.
//!
//! Invariants: the table carries its own count, batch sequence and CRC (seeded by the segment's
//! nonce), so that it names what was there even when the batch header is rotten; the records of a
//! run are in order but not necessarily adjacent. A batch may hold several runs of one
//! (log, epoch), in order: of records that stand far from each other. Its entries are of one length
//! each, or packed.
//! Not here: where in the batch the table stands (`batch`), records against their runs
//! (`view`), how entries are packed (`packed`).

use super::packed::{PACKED_RUN_BYTES_MIN, Packed, pack, packed_bytes};
use super::record::RECORD_ALIGN;
use super::wire::{need, put, u32_at, u64_at};
use super::{Flaw, seed};
use crate::lsn::{Epoch, LogId, Lsn};

/// Bytes of the table's own header.
pub const RUN_TABLE_HEADER_BYTES: usize = 16;

/// Bytes of the header of a packed table.
pub const PACKED_TABLE_HEADER_BYTES: usize = 20;

/// In the word of the count: the table is packed.
const PACKED: u32 = 1 << 31;

/// Bytes of one entry that is not packed.
pub const RUN_BYTES: usize = 32;

/// The records of one log and epoch in one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Run {
    /// The log.
    pub log: LogId,
    /// The writer that appended them.
    pub epoch: Epoch,
    /// The LSN of the first; they are dense from there.
    pub first_lsn: Lsn,
    /// How many, at least 1.
    pub count: u32,
    /// Their framed bytes, all together.
    pub bytes: u32,
    /// The first is a fragment that goes on where the batch before ended.
    pub continued: bool,
    /// The last is a fragment that goes on in the next batch.
    pub continues: bool,
    /// Where in the batch its first record stands, a multiple of 8; 0: it is not told.
    pub at: u32,
}

/// Bits of an entry's last word below the place, which is told in multiples of [`RECORD_ALIGN`].
const PLACE_SHIFT: u32 = 8;

/// The farthest place that an entry can tell.
const PLACE_MAX: u32 = (u32::MAX >> PLACE_SHIFT) * RECORD_ALIGN as u32;

const CONTINUED: u32 = 1;
const CONTINUES: u32 = 2;

impl Run {
    /// The LSN of its last record.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0.saturating_add(u64::from(self.count).saturating_sub(1)))
    }

    /// How many records begin in it.
    #[must_use]
    pub fn begun(&self) -> u32 {
        self.count.saturating_sub(u32::from(self.continued))
    }

    fn encode(&self, out: &mut [u8]) {
        let flags =
            (CONTINUED * u32::from(self.continued)) | (CONTINUES * u32::from(self.continues));
        put(out, 0, self.log.0.to_le_bytes());
        put(out, 8, self.first_lsn.0.to_le_bytes());
        put(out, 16, self.epoch.0.to_le_bytes());
        put(out, 20, self.count.to_le_bytes());
        put(out, 24, self.bytes.to_le_bytes());
        let place = if self.at <= PLACE_MAX { self.at / RECORD_ALIGN as u32 } else { 0 };
        put(out, 28, (flags | place << PLACE_SHIFT).to_le_bytes());
    }

    fn decode(entry: &[u8]) -> Self {
        Self {
            log: LogId(u64_at(entry, 0)),
            first_lsn: Lsn(u64_at(entry, 8)),
            epoch: Epoch(u32_at(entry, 16)),
            count: u32_at(entry, 20),
            bytes: u32_at(entry, 24),
            continued: u32_at(entry, 28) & CONTINUED != 0,
            continues: u32_at(entry, 28) & CONTINUES != 0,
            at: (u32_at(entry, 28) >> PLACE_SHIFT) * RECORD_ALIGN as u32,
        }
    }
}

/// Bytes of a table of `runs` entries.
#[must_use]
pub const fn run_table_bytes(runs: usize) -> usize {
    RUN_TABLE_HEADER_BYTES + RUN_BYTES * runs
}

/// Writes the table to the front of `out` and gives its length, [`run_table_bytes`]. Allocates
/// nothing.
pub fn encode_runs(runs: &[Run], seq: u64, nonce: u64, out: &mut [u8]) -> usize {
    let len = run_table_bytes(runs.len());
    let out = &mut out[..len];
    put(out, 4, (runs.len() as u32).to_le_bytes());
    put(out, 8, seq.to_le_bytes());
    for (run, entry) in runs.iter().zip(out[RUN_TABLE_HEADER_BYTES..].chunks_exact_mut(RUN_BYTES)) {
        run.encode(entry);
    }
    let crc = crc32c::crc32c_append(seed(nonce), &out[4..]);
    put(out, 0, crc.to_le_bytes());
    len
}

/// Bytes of the packed table of these runs. A walk over all of them.
#[must_use]
pub fn packed_run_table_bytes(runs: &[Run]) -> usize {
    PACKED_TABLE_HEADER_BYTES + packed_bytes(runs)
}

/// The least that a table of `runs` entries takes, packed or not.
pub(super) const fn run_table_bytes_min(runs: usize, packed: bool) -> usize {
    if packed {
        PACKED_TABLE_HEADER_BYTES + PACKED_RUN_BYTES_MIN * runs
    } else {
        run_table_bytes(runs)
    }
}

/// Writes the packed table to `out`, which has the length of [`packed_run_table_bytes`]. Allocates
/// nothing.
pub fn encode_packed_runs(runs: &[Run], seq: u64, nonce: u64, out: &mut [u8]) {
    put(out, 4, (runs.len() as u32 | PACKED).to_le_bytes());
    put(out, 8, seq.to_le_bytes());
    let bytes = out.len() - PACKED_TABLE_HEADER_BYTES;
    put(out, 16, (bytes as u32).to_le_bytes());
    pack(runs, &mut out[PACKED_TABLE_HEADER_BYTES..]);
    let crc = crc32c::crc32c_append(seed(nonce), &out[4..]);
    put(out, 0, crc.to_le_bytes());
}

/// A checked run table in a buffer of somebody else's.
#[derive(Clone, Copy, Debug)]
pub struct RunTable<'a> {
    seq: u64,
    runs: usize,
    packed: bool,
    entries: &'a [u8],
}

impl<'a> RunTable<'a> {
    /// Reads the table at the front of `buf`, which must be the one of batch `seq`.
    pub fn decode(buf: &'a [u8], seq: u64, nonce: u64) -> Result<Self, Flaw> {
        let table = Self::decode_any(buf, nonce)?;
        if table.seq != seq {
            return Err(Flaw::Field("run table of another batch"));
        }
        Ok(table)
    }

    /// Reads the table at the front of `buf`, whichever batch it belongs to: for naming damage
    /// when the batch header is rotten.
    pub fn decode_any(buf: &'a [u8], nonce: u64) -> Result<Self, Flaw> {
        need(buf, RUN_TABLE_HEADER_BYTES)?;
        let count = u32_at(buf, 4);
        let (runs, packed) = ((count & !PACKED) as usize, count & PACKED != 0);
        let (front, len) = if packed {
            need(buf, PACKED_TABLE_HEADER_BYTES)?;
            let bytes = u32_at(buf, 16) as usize;
            (PACKED_TABLE_HEADER_BYTES, PACKED_TABLE_HEADER_BYTES + bytes)
        } else {
            (RUN_TABLE_HEADER_BYTES, run_table_bytes(runs))
        };
        need(buf, len)?;
        if crc32c::crc32c_append(seed(nonce), &buf[4..len]) != u32_at(buf, 0) {
            return Err(Flaw::Crc);
        }
        let table = Self { seq: u64_at(buf, 8), runs, packed, entries: &buf[front..len] };
        if packed {
            table.check_packed()?
        } else {
            table.check_flags()?
        }
        for run in table.iter() {
            if run.count == 0 {
                return Err(Flaw::Field("an empty run"));
            }
            if run.first_lsn.0.checked_add(u64::from(run.count)).is_none() {
                return Err(Flaw::Field("a run beyond the last LSN"));
            }
        }
        Ok(table)
    }

    fn check_flags(&self) -> Result<(), Flaw> {
        for entry in self.entries.chunks_exact(RUN_BYTES) {
            let flags = u32_at(entry, 28) & ((1 << PLACE_SHIFT) - 1);
            if flags & !(CONTINUED | CONTINUES) != 0 {
                return Err(Flaw::Unknown { what: "flags of a run", found: flags });
            }
        }
        Ok(())
    }

    fn check_packed(&self) -> Result<(), Flaw> {
        let mut packed = Packed::new(self.entries);
        for _ in 0..self.runs {
            packed.take()?;
        }
        if packed.is_empty() { Ok(()) } else { Err(Flaw::Field("bytes behind packed runs")) }
    }

    /// A table of no runs, as a mark without one has.
    pub(super) fn empty(seq: u64) -> Self {
        Self { seq, runs: 0, packed: false, entries: &[] }
    }

    /// The batch it says it belongs to.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs
    }

    /// No runs: a mark.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Its entries are packed.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// The runs, as they stand.
    #[must_use]
    pub fn iter(&self) -> Runs<'a> {
        let packed = Packed::new(if self.packed { self.entries } else { &[] });
        let fixed = if self.packed { &[] } else { self.entries };
        Runs { left: self.runs, fixed: fixed.chunks_exact(RUN_BYTES), packed }
    }
}

/// The runs of a table, one by one.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    left: usize,
    fixed: std::slice::ChunksExact<'a, u8>,
    packed: Packed<'a>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.left = self.left.checked_sub(1)?;
        // Packed ones were all taken once, when the table was checked.
        self.fixed.next().map_or_else(|| self.packed.take().ok(), |entry| Some(Run::decode(entry)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Runs<'_> {}
