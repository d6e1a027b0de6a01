//! A stretch: records of one log in an object whose LSNs follow each other without a gap.
//!
//! Invariants: it holds whole records only (a record in fragments with all of them); a log has
//! more than one stretch in an object where records were damaged, and where a cut made the log go
//! on lower down. Stretches are in order of log, those of a log in order of time: of two that hold
//! the same LSN the later one has the higher epoch.
//! Not here: which blocks hold it (`footer`).

use sapwood::format::{Flaw, RecordHeader};
use sapwood::{Epoch, LogId, Lsn};

use super::wire::{need, put, u32_at, u64_at};

/// Bytes of a stretch in the footer.
pub const STRETCH_BYTES: usize = 72;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The log.
    pub log: LogId,
    /// Its first LSN.
    pub first_lsn: Lsn,
    /// Its last LSN.
    pub last_lsn: Lsn,
    /// Bytes of records before it in the object.
    pub raw_offset: u64,
    /// Bytes of its records.
    pub raw_bytes: u64,
    /// The time of its first record, microseconds since 1970.
    pub first_time_us: u64,
    /// The time of its last record.
    pub last_time_us: u64,
    /// The epoch of its first record.
    pub first_epoch: Epoch,
    /// The epoch of its last record.
    pub last_epoch: Epoch,
    /// Records in it, fragments counted one by one.
    pub records: u32,
}

impl Stretch {
    /// A stretch that begins with this record.
    pub(super) fn begin(header: &RecordHeader, raw_offset: u64) -> Self {
        let mut stretch = Self {
            log: header.log,
            first_lsn: header.lsn,
            first_epoch: header.epoch,
            first_time_us: header.time_us,
            raw_offset,
            ..Self::default()
        };
        stretch.add(header);
        stretch
    }

    /// Whether the record goes on where this ends.
    pub(super) fn takes(&self, header: &RecordHeader) -> bool {
        let next = self.last_lsn.0.checked_add(u64::from(!header.is_continued()));
        self.log == header.log
            && next == Some(header.lsn.0)
            && header.epoch >= self.last_epoch
            && self.records < u32::MAX
    }

    pub(super) fn add(&mut self, header: &RecordHeader) {
        self.last_lsn = header.lsn;
        self.last_epoch = header.epoch;
        self.last_time_us = header.time_us;
        self.raw_bytes += header.framed_bytes() as u64;
        self.records += 1;
    }

    /// Bytes of records up to its end; the sum cannot overflow in a decoded footer.
    #[must_use]
    pub fn raw_end(&self) -> u64 {
        self.raw_offset + self.raw_bytes
    }

    /// Whether it holds this LSN.
    #[must_use]
    pub fn holds(&self, lsn: Lsn) -> bool {
        self.first_lsn <= lsn && lsn <= self.last_lsn
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; STRETCH_BYTES];
        put(&mut bytes, 0, self.log.0.to_le_bytes());
        put(&mut bytes, 8, self.first_lsn.0.to_le_bytes());
        put(&mut bytes, 16, self.last_lsn.0.to_le_bytes());
        put(&mut bytes, 24, self.raw_offset.to_le_bytes());
        put(&mut bytes, 32, self.raw_bytes.to_le_bytes());
        put(&mut bytes, 40, self.first_time_us.to_le_bytes());
        put(&mut bytes, 48, self.last_time_us.to_le_bytes());
        put(&mut bytes, 56, self.first_epoch.0.to_le_bytes());
        put(&mut bytes, 60, self.last_epoch.0.to_le_bytes());
        put(&mut bytes, 64, self.records.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    pub(super) fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, STRETCH_BYTES)?;
        let stretch = Self {
            log: LogId(u64_at(buf, 0)),
            first_lsn: Lsn(u64_at(buf, 8)),
            last_lsn: Lsn(u64_at(buf, 16)),
            raw_offset: u64_at(buf, 24),
            raw_bytes: u64_at(buf, 32),
            first_time_us: u64_at(buf, 40),
            last_time_us: u64_at(buf, 48),
            first_epoch: Epoch(u32_at(buf, 56)),
            last_epoch: Epoch(u32_at(buf, 60)),
            records: u32_at(buf, 64),
        };
        let lsns = stretch.last_lsn.0.checked_sub(stretch.first_lsn.0);
        let good = lsns.is_some_and(|more| more < u64::from(stretch.records))
            && stretch.first_epoch <= stretch.last_epoch
            && u32_at(buf, 68) == 0;
        if good { Ok(stretch) } else { Err(Flaw::Field("LSNs of a stretch")) }
    }
}
