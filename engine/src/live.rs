//! The index of an unsealed segment, in memory: where the records of each log stand.
//!
//! Invariants:
//! - Each place of a log holds its records up to the next place, and only those: near each other in
//!   one batch, or in batches of which the log has a good part, with little between. So whoever
//!   reads one log of many reads about what it has, and whoever reads a log that fills its segment
//!   reads from front to back.
//! - Bounded: by the logs and mebibytes of one segment, and [`Self::places_max`] places beyond;
//!   then a place reaches farther, and is read with what stands between.
//!
//! Not here: the same of a sealed segment (`index`), which segment holds a log (`view`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::format::Run;
use crate::format::index::{IndexEntry, Posting};
use crate::lsn::{Epoch, LogId, Lsn};
use crate::table::Table;

/// A log gets another place when this many bytes of its segment have gone by since the last.
pub(crate) const POSTING_EVERY_BYTES: u64 = 1 << 20;

/// Batches up to this size are read whole, and so is what stands between places nearer than this.
const SMALL_BYTES: u64 = 16 << 10;

/// A batch of which a log has less than one in so many bytes is not read whole for that log.
const GOOD_PART: u64 = 4;

/// Places of a segment: one for so many bytes, up to [`DENSE_BYTES`]; behind, for so many.
const PLACE_PER_BYTES: u64 = 128;
const DENSE_BYTES: u64 = 32 << 20;
const SPARSE_PER_BYTES: u64 = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LiveIndex {
    /// In the order in which the logs came: growing moves nothing that is in it.
    extents: Table<Extent>,
    by_log: HashMap<LogId, u32, BuildHasherDefault<Spread>>,
    /// Places beside the first of each log.
    places: u64,
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
    /// Time and offset of it are those of the entry.
    first: Posting,
    more: Vec<Posting>,
    /// Where the batches end to which the last place leads.
    end: u64,
}

/// What an index says of a log around an LSN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// Its last LSN in the segment.
    pub last: Lsn,
    /// What a record of it takes, on average.
    pub bytes_each: u64,
    /// The places behind those that were given hold nothing more of it.
    pub all: bool,
}

impl Around {
    pub(crate) fn of(entry: &IndexEntry, all: bool) -> Self {
        Self { last: entry.last_lsn, bytes_each: entry.bytes / entry.records.max(1), all }
    }
}

impl LiveIndex {
    /// Adds a run of a durable batch, which stands at `offset`, has so many bytes and so late a
    /// time. `hint`: the log's extent in the index that it was last added to.
    pub(crate) fn add(
        &mut self,
        run: &Run,
        offset: u64,
        (bytes, time_us): (u64, u64),
        hint: &mut u32,
    ) {
        if self.records == 0 {
            self.first_time_us = time_us;
        }
        self.records += u64::from(run.begun());
        self.last_time_us = time_us;
        let scattered = bytes > SMALL_BYTES && u64::from(run.bytes) * GOOD_PART < bytes;
        let whole = !run.continued && !run.continues;
        let at = if scattered && whole { run.at } else { 0 };
        let place = Posting { lsn: run.first_lsn, offset: offset as u32, at, time_us };
        let full = self.places >= places_max(offset + bytes);
        let known = self.extents.get((*hint).into()).is_some_and(|e| e.log == run.log);
        if !known {
            let fresh = self.by_log.len() as u32;
            *hint = *self.by_log.entry(run.log).or_insert(fresh);
            if *hint == fresh {
                self.extents.insert(fresh.into(), Extent::new(run, place));
            }
        }
        let Some(extent) = self.extents.get_mut((*hint).into()) else { return };
        extent.first_lsn = extent.first_lsn.min(run.first_lsn); // lower after a cut
        extent.last_lsn = run.last_lsn();
        extent.last_epoch = run.epoch;
        extent.last_time_us = time_us;
        extent.records += u64::from(run.begun());
        extent.bytes += u64::from(run.bytes);
        if extent.end != 0 {
            self.places += u64::from(extent.put(run, place, full));
        }
        extent.end = offset + bytes;
    }

    fn extent(&self, log: LogId) -> Option<&Extent> {
        self.extents.get((*self.by_log.get(&log)?).into())
    }

    /// What it holds of a log, as far as that is known before sealing.
    pub(crate) fn entry(&self, log: LogId) -> Option<IndexEntry> {
        self.extent(log).map(Extent::entry)
    }

    fn holding(&self, log: LogId, lsn: Lsn) -> Option<&Extent> {
        let extent = self.extent(log)?;
        (extent.first_lsn..=extent.last_lsn).contains(&lsn).then_some(extent)
    }

    /// The offset of a batch at or before the one that holds `lsn`, if this segment holds it. (What
    /// was cut does not mislead: no batch behind that one begins at or below `lsn`, else `lsn`
    /// would have been dropped.)
    pub(crate) fn offset_of(&self, log: LogId, lsn: Lsn) -> Option<u64> {
        let extent = self.holding(log, lsn)?;
        let after = extent.more.partition_point(|p| p.lsn <= lsn);
        let place = after.checked_sub(1).map_or(&extent.first, |i| &extent.more[i]);
        Some(u64::from(place.offset))
    }

    /// Fills `places` with the one at or before `lsn`, if this segment holds it, and those behind
    /// it, as far as there is room: nothing is allocated.
    pub(crate) fn around(&self, log: LogId, lsn: Lsn, places: &mut Vec<Posting>) -> Option<Around> {
        let extent = self.holding(log, lsn)?;
        let after = extent.more.partition_point(|p| p.lsn <= lsn);
        places.clear();
        let room = places.capacity();
        if after == 0 {
            places.push(Posting { lsn: extent.first_lsn, ..extent.first });
        }
        let from = after.saturating_sub(1);
        places.extend(extent.more[from..].iter().take(room - places.len()));
        let all = from + places.len() - usize::from(after == 0) == extent.more.len();
        Some(Around::of(&extent.entry(), all))
    }

    /// Entries sorted by log, and their postings; each entry says where its postings begin.
    pub(crate) fn sorted(&self) -> (Vec<IndexEntry>, Vec<Posting>) {
        let mut extents: Vec<_> = self.extents.iter().map(|(_, extent)| extent).collect();
        extents.sort_unstable_by_key(|extent| extent.log);
        let mut postings = Vec::with_capacity(extents.len() + self.places as usize);
        let entries = extents.into_iter().map(|extent| {
            let posting_start = postings.len() as u32;
            postings.push(Posting { lsn: extent.first_lsn, ..extent.first });
            postings.extend_from_slice(&extent.more);
            let posting_count = postings.len() as u32 - posting_start;
            IndexEntry { posting_start, posting_count, ..extent.entry() }
        });
        (entries.collect(), postings)
    }

    /// The first LSN of `log` here whose record is not older than `time_us`, by the times of
    /// places: a place to begin looking, never too late. `None` when all of its records here are
    /// older.
    pub(crate) fn lsn_before_time(&self, log: LogId, time_us: u64) -> Option<Option<Lsn>> {
        let extent = self.extent(log)?;
        if extent.last_time_us < time_us {
            return Some(None);
        }
        let after = extent.more.partition_point(|p| p.time_us < time_us);
        Some(Some(after.checked_sub(1).map_or(extent.first_lsn, |i| extent.more[i].lsn)))
    }
}

impl Extent {
    fn new(run: &Run, first: Posting) -> Self {
        Self {
            log: run.log,
            first_lsn: run.first_lsn,
            last_lsn: run.first_lsn,
            first_epoch: run.epoch,
            last_epoch: run.epoch,
            records: 0,
            bytes: 0,
            last_time_us: first.time_us,
            first,
            more: Vec::new(),
            end: 0,
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
            first_time_us: self.first.time_us,
            last_time_us: self.last_time_us,
            first_offset: u64::from(self.first.offset),
            ..IndexEntry::default()
        }
    }

    /// Another run: at the last place, or at one of its own, which is true then. `full`: only if
    /// that is far behind.
    fn put(&mut self, run: &Run, place: Posting, full: bool) -> bool {
        let end = self.end;
        let first = self.more.is_empty();
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if first && run.first_lsn < last.lsn {
            last.at = 0; // it stands for what is below as well, after a cut
        }
        if run.continued {
            last.at = 0; // its last record goes on here
        }
        // A record that goes on here begins in an earlier batch: a place must not name it.
        let begins = run.begun() > 0;
        let far = u64::from(place.offset) >= u64::from(last.offset) + POSTING_EVERY_BYTES;
        let near = u64::from(place.offset) <= end + SMALL_BYTES;
        let alike = last.at == 0 && place.at == 0 && near;
        if !begins || !far && (alike || full) {
            last.at = 0;
            return false;
        }
        self.more.push(Posting { lsn: Lsn(run.first_lsn.0 + u64::from(run.continued)), ..place });
        true
    }
}

/// How many places a segment may have when it has grown to `offset`.
fn places_max(offset: u64) -> u64 {
    let dense = offset.min(DENSE_BYTES) / PLACE_PER_BYTES;
    dense + offset.saturating_sub(DENSE_BYTES) / SPARSE_PER_BYTES
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(log: u64, lsn: u64, bytes: u32, at: u32) -> Run {
        Run { log: LogId(log), first_lsn: Lsn(lsn), count: 1, bytes, at, ..Run::default() }
    }

    fn places(live: &LiveIndex, log: u64) -> Vec<(u64, u32, u32)> {
        let mut places = Vec::with_capacity(1000);
        live.around(LogId(log), Lsn(0), &mut places).unwrap();
        places.iter().map(|place| (place.lsn.0, place.offset >> 12, place.at)).collect()
    }

    /// A log alone in its batches has a place per mebibyte; one of many has each of its runs.
    #[test]
    fn places_are_as_near_as_a_log_is_scattered() {
        let mut live = LiveIndex::default();
        let mut offset = 4096;
        for n in 0..400 {
            live.add(&run(1, n, 3000, 272), offset, (4096, n), &mut 0);
            offset += 4096;
        }
        assert_eq!(places(&live, 1), [(0, 1, 0), (256, 257, 0)]);
        for n in 0..20u64 {
            live.add(&run(2, n, 1000, 272), offset, (128 << 10, n), &mut 0);
            live.add(&run(3, n, 60_000, 1272), offset, (128 << 10, n), &mut 0);
            offset += 128 << 10;
        }
        let alone: Vec<_> = places(&live, 2).iter().map(|place| (place.0, place.2)).collect();
        assert_eq!(alone, (0..20).map(|n| (n, 272)).collect::<Vec<_>>());
        assert_eq!(places(&live, 3).len(), 3, "a good part of its batches: read as they stand");
    }

    #[test]
    fn what_goes_on_in_another_batch_is_reached_from_where_it_begins() {
        let mut live = LiveIndex::default();
        let (bytes, end) = (64 << 10, 64 << 10);
        live.add(&run(1, 0, 500, 272), 4096, (bytes, 1), &mut 0);
        live.add(&run(1, 1, 500, 9000), 4096, (bytes, 1), &mut 0);
        assert_eq!(places(&live, 1), [(0, 1, 272), (1, 1, 9000)]);
        let begins = Run { continues: true, ..run(1, 2, 500, 272) };
        live.add(&begins, 4096 + end, (bytes, 2), &mut 0);
        let ends = Run { continued: true, count: 2, ..run(1, 2, 500, 272) };
        live.add(&ends, 4096 + 2 * end, (bytes, 2), &mut 0);
        assert_eq!(places(&live, 1)[2..], [(2, 17, 0)], "both batches, read as they stand");
    }

    #[test]
    fn places_are_bounded_and_still_lead_there() {
        let mut live = LiveIndex::default();
        let (mut offset, logs) = (4096, 600);
        for n in 0..40u64 {
            for log in 0..logs {
                live.add(&run(log, n, 48, 272 + 48 * log as u32), offset, (32 << 10, n), &mut 0);
            }
            offset += 32 << 10;
        }
        assert!(live.places <= places_max(offset) + logs);
        let mut found = Vec::with_capacity(4);
        for log in 0..logs {
            let around = live.around(LogId(log), Lsn(30), &mut found).unwrap();
            assert!(found[0].lsn <= Lsn(30) && found.len() <= 4);
            let reaches = around.all || found.last().unwrap().lsn > Lsn(30);
            assert!(reaches && around.last == Lsn(39));
        }
    }
}
