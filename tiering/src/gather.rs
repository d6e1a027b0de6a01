//! From the bytes of a sealed segment to the records of each log, with every checksum looked at.
//!
//! Invariants:
//! - A record is taken only if its batch fits (sequence, the CRC of the batch before, run table),
//!   its own two CRCs are good and, when it is a fragment, all others are taken too.
//! - What is not taken is named, as in a recovery: by the record's own header, by the run table, by
//!   the gap between what is there. Damage of one log keeps no other from being taken.
//! - The walk ends where the segment was sealed; nothing behind that is looked at.
//! - Memory: 96 bytes a record beside the segment's own.
//!
//! Not here: reading the file (`upload`), what becomes of the records (`object`).

use std::collections::BTreeMap;

use sapwood::format::{BATCH_COMPACTED, IndexData, IndexEntry};
use sapwood::format::{
    BATCH_HEADER_BYTES, BatchHeader, BatchView, DamageFacts, Flaw, RecordHeader, Run, RunTable,
    UNIT_MIN,
};
use sapwood::{LogId, Lsn, SealedSegment, SegmentId, ShardId};

/// Reasons of damage, numbered as in a manifest (`engine/FORMAT.md`).
const BODY: u16 = 1;
const RECORDS: u16 = 2;
const BATCH: u16 = 3;
const GAP: u16 = 4;
const PART: u16 = 7;

/// Which batches a segment holds, as its directory knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its shard.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The nonce of its life.
    pub nonce: u64,
    /// Its first batch; 0 when it holds none.
    pub first_seq: u64,
    /// Its last batch.
    pub last_seq: u64,
    /// The directory's unit.
    pub unit: u32,
}

impl Extent {
    /// Of a segment that an engine has sealed, in a directory with this unit.
    #[must_use]
    pub fn of(sealed: &SealedSegment, unit: u32) -> Self {
        let SealedSegment { shard, segment, nonce, first_seq, last_seq, .. } = *sealed;
        Self { shard, segment, nonce, first_seq, last_seq, unit }
    }
}

/// A record that is good: where it stands in the segment.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its header.
    pub header: RecordHeader,
    /// Its first byte in the segment.
    pub offset: u64,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The good records: by log, those of a log in order.
    pub records: Vec<Taken>,
    /// What is not among them and should be.
    pub damages: Vec<DamageFacts>,
    /// The last batch: its header CRC, its term, its time in microseconds since 1970.
    pub last: (u32, u32, u64),
    /// Good records that are not wanted, fragments counted one by one.
    pub left_out: u64,
    /// The header of the segment's last batch is good: `last` is of that one.
    pub whole_end: bool,
}

/// Walks a sealed segment. `bytes` are those of its file up to [`SealedSegment::bytes`]; its index,
/// where that is good, names what nothing else does. What is not `wanted` is left out, and looked
/// at all the same.
///
/// # Errors
/// Written by a newer version. All else that is wrong is damage.
pub fn gather(
    bytes: &[u8],
    sealed: &Extent,
    index: Option<&IndexData>,
    wanted: &dyn Fn(&RecordHeader) -> bool,
) -> Result<Gathered, Flaw> {
    let walk = Walk {
        bytes,
        sealed,
        unit: (sealed.unit as usize).max(UNIT_MIN),
        seq: sealed.first_seq,
        prev_crc: None,
        found: Gathered::default(),
    };
    let mut found = walk.run()?;
    found.records.sort_by_key(|taken| taken.header.log);
    whole_records(&mut found, sealed);
    let all = found.records.len();
    found.records.retain(|taken| wanted(&taken.header));
    found.left_out = (all - found.records.len()) as u64;
    name_gaps(&mut found, sealed);
    if let Some(index) = index.filter(|_| !found.damages.is_empty()) {
        index.entries.iter().for_each(|entry| name_ends(&mut found, sealed, entry));
    }
    Ok(found)
}

struct Walk<'a> {
    bytes: &'a [u8],
    sealed: &'a Extent,
    unit: usize,
    /// The batch that is due.
    seq: u64,
    /// The header CRC of the batch before, if that was good.
    prev_crc: Option<u32>,
    found: Gathered,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Gathered, Flaw> {
        let end = self.bytes.len();
        // The header of the segment takes a unit; what it says, the manifest says too.
        let mut at = self.unit;
        while at < end && self.sealed.first_seq != 0 {
            at = match self.header_at(at) {
                Ok((header, crc)) => self.batch(at, &header, crc)?,
                Err(flaw) if flaw.is_unsupported() => return Err(flaw),
                Err(_) => self.hole(at),
            };
        }
        if self.sealed.first_seq == 0 {
            self.found.whole_end = true;
        } else if self.seq <= self.sealed.last_seq && !self.found.whole_end {
            let hole = self.damage(None, end, 0, BATCH);
            self.found.damages.push(hole);
        }
        Ok(self.found)
    }

    /// A batch header at `at` that can be one of this segment, at or behind the batch that is due.
    fn header_at(&self, at: usize) -> Result<(BatchHeader, u32), Flaw> {
        let (header, crc) = BatchHeader::decode(&self.bytes[at..], self.sealed.nonce)?;
        let fits = header.segment == self.sealed.segment
            && header.shard == self.sealed.shard
            && (self.seq..=self.sealed.last_seq).contains(&header.seq)
            && at + header.padded_bytes(self.unit) <= self.bytes.len();
        let follows =
            header.seq != self.seq || self.prev_crc.is_none_or(|before| before == header.prev_crc);
        if fits && follows { Ok((header, crc)) } else { Err(Flaw::Field("another batch is due")) }
    }

    /// Takes a batch; gives where the next one stands.
    fn batch(&mut self, at: usize, header: &BatchHeader, crc: u32) -> Result<usize, Flaw> {
        // In a compacted segment another batch comes next than the one that came then.
        let dense = header.compat & BATCH_COMPACTED == 0;
        if dense && header.seq != self.seq {
            let hole = self.damage(None, at, 0, BATCH);
            self.found.damages.push(hole);
        }
        let next = at + header.padded_bytes(self.unit);
        match BatchView::parse(&self.bytes[at..], self.sealed.nonce) {
            Ok(batch) => self.records(at, &batch)?,
            Err(flaw) if flaw.is_unsupported() => return Err(flaw),
            Err(_) => {
                let hole = self.damage(None, at, next - at, BATCH);
                self.found.damages.push(hole);
            }
        }
        self.found.last = (crc, header.term, header.time_us);
        self.found.whole_end =
            if dense { header.seq == self.sealed.last_seq } else { next == self.bytes.len() };
        (self.seq, self.prev_crc) = (header.seq + 1, Some(crc));
        Ok(next)
    }

    fn records(&mut self, at: usize, batch: &BatchView<'_>) -> Result<(), Flaw> {
        let mut records = batch.records();
        while let Some(record) = records.next() {
            match record {
                Ok((offset, record)) => {
                    let offset = (at + offset) as u64;
                    self.found.records.push(Taken { header: record.header, offset });
                }
                Err(flaw) if flaw.is_unsupported() => return Err(flaw),
                Err(_) => {
                    let place = at + records.offset();
                    if let Some(header) = records.header() {
                        let (log, lsn) = (header.log, header.lsn);
                        let hole = Some((log, lsn, lsn));
                        let hole = self.damage(hole, place, header.framed_bytes(), BODY);
                        self.found.damages.push(hole);
                    }
                }
            }
        }
        for run in records.unread() {
            let hole = self.damage(Some(named(&run)), at, 0, RECORDS);
            self.found.damages.push(hole);
        }
        Ok(())
    }

    /// No batch that fits stands at `at`: goes on at the next one that does, naming what it can.
    fn hole(&mut self, at: usize) -> usize {
        let places = (at + self.unit..self.bytes.len()).step_by(self.unit);
        let good = |place| self.header_at(place).ok().map(|(header, _)| (place, header.seq));
        let found = places.into_iter().find_map(good);
        let (next, seq) = found.unwrap_or((self.bytes.len(), self.sealed.last_seq + 1));
        // The run table tells its sequence itself, and names what the batch held.
        let table = self.bytes.get(at + BATCH_HEADER_BYTES..next).unwrap_or_default();
        let table = RunTable::decode(table, self.seq, self.sealed.nonce);
        let runs: Vec<Run> = table.map(|table| table.iter().collect()).unwrap_or_default();
        for run in &runs {
            let hole = self.damage(Some(named(run)), at, next - at, BATCH);
            self.found.damages.push(hole);
        }
        if runs.is_empty() {
            let hole = self.damage(None, at, next - at, BATCH);
            self.found.damages.push(hole);
        }
        // What follows is judged by its own header, and need not name this one.
        (self.seq, self.prev_crc) = (seq, None);
        next
    }

    fn damage(
        &self,
        what: Option<(LogId, Lsn, Lsn)>,
        offset: usize,
        bytes: usize,
        reason: u16,
    ) -> DamageFacts {
        damage(self.sealed, what, (offset as u64, bytes as u64), reason)
    }
}

fn damage(
    sealed: &Extent,
    what: Option<(LogId, Lsn, Lsn)>,
    (offset, bytes): (u64, u64),
    reason: u16,
) -> DamageFacts {
    DamageFacts {
        log: what.map(|(log, _, _)| log),
        first_lsn: what.map_or(Lsn(0), |(_, first, _)| first),
        last_lsn: what.map(|(_, _, last)| last),
        segment: sealed.segment,
        offset,
        bytes,
        reason,
        lost: false,
    }
}

fn named(run: &Run) -> (LogId, Lsn, Lsn) {
    (run.log, run.first_lsn, run.last_lsn())
}

/// Drops records of which fragments are missing, and names them.
fn whole_records(found: &mut Gathered, sealed: &Extent) {
    let mut kept: Vec<Taken> = Vec::with_capacity(found.records.len());
    let mut open = 0; // fragments at the end of `kept` whose record is not whole yet
    let mut torn = Vec::new();
    for taken in std::mem::take(&mut found.records) {
        let header = &taken.header;
        let before = kept.last().filter(|_| open > 0).map(|before| before.header);
        let goes_on = before.is_some_and(|before| {
            header.is_continued()
                && (before.log, before.lsn, before.epoch) == (header.log, header.lsn, header.epoch)
                && header.fragment_index == before.fragment_index + 1
        });
        if !goes_on && open > 0 {
            torn.extend(kept.pop());
            kept.truncate(kept.len() + 1 - open);
            open = 0;
        }
        if header.is_continued() && !goes_on {
            torn.push(taken);
            continue;
        }
        open = if header.continues() { open + 1 } else { 0 };
        kept.push(taken);
    }
    if open > 0 {
        torn.extend(kept.last().copied());
        kept.truncate(kept.len() - open);
    }
    torn.dedup_by_key(|taken| (taken.header.log, taken.header.lsn, taken.header.epoch));
    for taken in torn {
        let what = (taken.header.log, taken.header.lsn, taken.header.lsn);
        found.damages.push(damage(sealed, Some(what), (taken.offset, 0), PART));
    }
    found.records = kept;
}

/// LSNs are dense: what is missing between two records is damaged. That names what a batch held
/// whose run table is gone. Crash story: 1. a log is cut at LSN 12 and goes on there; 2. the batch
/// with the new 12 rots, header and run table; 3. the old 12 still stands: were it taken, nothing
/// would be missing. So what a cut dropped is not wanted.
fn name_gaps(found: &mut Gathered, sealed: &Extent) {
    let mut gaps = Vec::new();
    for pair in found.records.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        let due = before.lsn.0.saturating_add(1);
        if before.log == after.log && after.lsn.0 > due {
            let what = (after.log, Lsn(due), Lsn(after.lsn.0 - 1));
            gaps.push(damage(sealed, Some(what), (pair[0].offset, 0), GAP));
        }
    }
    let mut named: BTreeMap<LogId, Vec<(Lsn, Lsn)>> = BTreeMap::new();
    for told in &found.damages {
        if let (Some(log), Some(last)) = (told.log, told.last_lsn) {
            named.entry(log).or_default().push((told.first_lsn, last));
        }
    }
    gaps.retain(|gap| {
        let told = gap.log.and_then(|log| named.get(&log));
        let covers = |lsn: Lsn| {
            told.is_some_and(|told| told.iter().any(|(from, to)| *from <= lsn && lsn <= *to))
        };
        !covers(gap.first_lsn) || gap.last_lsn.is_some_and(|last| !covers(last))
    });
    found.damages.extend(gaps);
}

/// What the index promises of a log, before the first record that is there and behind the last.
fn name_ends(found: &mut Gathered, sealed: &Extent, entry: &IndexEntry) {
    let from = found.records.partition_point(|taken| taken.header.log < entry.log);
    let to = found.records.partition_point(|taken| taken.header.log <= entry.log);
    let lsns = || found.records[from..to].iter().map(|taken| taken.header.lsn);
    let (first, last) = (entry.first_lsn, entry.last_lsn);
    let missing = match (lsns().min(), lsns().max()) {
        (Some(low), Some(high)) => [
            (low > first).then(|| (first, Lsn(low.0 - 1))),
            (high < last).then(|| (high.next(), last)),
        ],
        _ => [Some((first, last)), None],
    };
    for (first, last) in missing.into_iter().flatten() {
        let told = |d: &DamageFacts| {
            d.log == Some(entry.log) && d.first_lsn <= first && d.last_lsn >= Some(last)
        };
        if !found.damages.iter().any(told) {
            let what = Some((entry.log, first, last));
            found.damages.push(damage(sealed, what, (entry.first_offset, 0), GAP));
        }
    }
}
