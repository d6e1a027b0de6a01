//! The index of an unsealed segment, in memory.
//!
//! Invariants: bounded by the logs and mebibytes of one segment; growing moves nothing that is in
//! it, so that a batch is never held up by those before.
//!
//! Not here: the index of a sealed segment (`index`, `format`), who writes it (`seal`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{LogView, POSTING_EVERY_BYTES};
use crate::format::Run;
use crate::format::index::{IndexEntry, Posting};
use crate::lsn::{Epoch, LogId, Lsn};
use crate::table::Table;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LiveIndex {
    /// In the order in which the logs came.
    extents: Table<Extent>,
    by_log: HashMap<LogId, u32, BuildHasherDefault<Spread>>,
    pub records: u64,
    pub first_time_us: u64,
    pub last_time_us: u64,
}

/// What the segment holds of one log: the part of its index entry that is known before sealing.
#[derive(Debug)]
struct Extent {
    log: LogId,
    first_lsn: Lsn,
    last_lsn: Lsn,
    first_epoch: Epoch,
    last_epoch: Epoch,
    records: u64,
    bytes: u64,
    last_time_us: u64,
    /// Where its last posting leads.
    posted: u64,
    first_time_us: u64,
    first_offset: u64,
    /// The first posting lies in the extent itself (`first_lsn`, `first_offset`).
    more: Vec<Posting>,
}

impl Extent {
    fn new(run: &Run, offset: u64, time_us: u64) -> Self {
        Self {
            log: run.log,
            first_lsn: run.first_lsn,
            last_lsn: run.first_lsn,
            first_epoch: run.epoch,
            last_epoch: run.epoch,
            records: 0,
            bytes: 0,
            last_time_us: time_us,
            posted: offset,
            first_time_us: time_us,
            first_offset: offset,
            more: Vec::new(),
        }
    }

    fn entry(&self) -> IndexEntry {
        IndexEntry {
            log: self.log,
            first_lsn: self.first_lsn,
            last_lsn: self.last_lsn,
            first_epoch: self.first_epoch,
            last_epoch: self.last_epoch,
            records: self.records,
            bytes: self.bytes,
            first_time_us: self.first_time_us,
            last_time_us: self.last_time_us,
            first_offset: self.first_offset,
            ..IndexEntry::default()
        }
    }
}

impl LiveIndex {
    /// Adds a run of a batch at `offset`; `seen` is its log.
    pub(super) fn add(&mut self, run: &Run, offset: u64, seen: &mut LogView) {
        let time_us = seen.last_time_us;
        if self.records == 0 {
            self.first_time_us = time_us;
        }
        self.records += u64::from(run.begun());
        self.last_time_us = time_us;
        let known = self.extents.get(seen.extent.into()).is_some_and(|e| e.log == run.log);
        if !known {
            let fresh = self.by_log.len() as u32;
            seen.extent = *self.by_log.entry(run.log).or_insert(fresh);
            if seen.extent == fresh {
                self.extents.insert(fresh.into(), Extent::new(run, offset, time_us));
            }
        }
        let Some(extent) = self.extents.get_mut(seen.extent.into()) else { return };
        extent.first_lsn = extent.first_lsn.min(run.first_lsn); // lower after a cut
        extent.last_lsn = run.last_lsn();
        extent.last_epoch = run.epoch;
        extent.last_time_us = time_us;
        extent.records += u64::from(run.begun());
        extent.bytes += u64::from(run.bytes);
        // A record that goes on here begins in an earlier batch: a posting must not name it.
        if offset >= extent.posted + POSTING_EVERY_BYTES && run.begun() > 0 {
            let lsn = Lsn(run.first_lsn.0 + u64::from(run.continued));
            extent.more.push(Posting { lsn, offset, time_us });
            extent.posted = offset;
        }
    }

    fn extent(&self, log: LogId) -> Option<&Extent> {
        self.extents.get((*self.by_log.get(&log)?).into())
    }

    /// What it holds of a log, as far as that is known before sealing.
    pub(crate) fn entry(&self, log: LogId) -> Option<IndexEntry> {
        self.extent(log).map(Extent::entry)
    }

    /// The offset of a batch at or before the one that holds `lsn`, if this segment holds it. (What
    /// was cut does not mislead: no batch behind that one begins at or below `lsn`, else `lsn`
    /// would have been dropped.)
    pub(super) fn offset_of(&self, log: LogId, lsn: Lsn) -> Option<u64> {
        let extent = self.extent(log)?;
        if lsn < extent.first_lsn || lsn > extent.last_lsn {
            return None;
        }
        let after = extent.more.partition_point(|p| p.lsn <= lsn);
        Some(after.checked_sub(1).map_or(extent.first_offset, |i| extent.more[i].offset))
    }

    /// Entries sorted by log, and their postings; each entry says where its postings begin.
    pub(crate) fn sorted(&self) -> (Vec<IndexEntry>, Vec<Posting>) {
        let mut extents: Vec<_> = self.extents.iter().map(|(_, extent)| extent).collect();
        extents.sort_unstable_by_key(|extent| extent.log);
        let mut postings = Vec::new();
        let entries = extents.into_iter().map(|extent| {
            let posting_start = postings.len() as u32;
            postings.push(Posting {
                lsn: extent.first_lsn,
                offset: extent.first_offset,
                time_us: extent.first_time_us,
            });
            postings.extend_from_slice(&extent.more);
            let posting_count = postings.len() as u32 - posting_start;
            IndexEntry { posting_start, posting_count, ..extent.entry() }
        });
        (entries.collect(), postings)
    }

    /// The first LSN of `log` here whose record is not older than `time_us`, by the sparse times: a
    /// place to begin looking, never too late. `None` when all of its records here are older.
    pub(crate) fn lsn_before_time(&self, log: LogId, time_us: u64) -> Option<Option<Lsn>> {
        let extent = self.extent(log)?;
        if extent.last_time_us < time_us {
            return Some(None);
        }
        let after = extent.more.partition_point(|p| p.time_us < time_us);
        Some(Some(after.checked_sub(1).map_or(extent.first_lsn, |i| extent.more[i].lsn)))
    }
}

/// Hashes a log's id: one multiplication, as ids are given by us and nobody chooses them to
/// collide.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // The golden ratio; the table looks at both ends of the hash.
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
