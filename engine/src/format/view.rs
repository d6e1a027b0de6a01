//! A whole batch in memory: its records, each checked against its run.
//!
//! Invariants:
//! - A record that its run does not expect next is damage, whatever its own CRCs say: records are
//!   not seeded, the run table is, and that is what ties a record to this batch.
//! - Behind a record whose header is rotten the walk goes on only where records that fit their
//!   runs follow each other to the end: a copy of a record inside another's payload is not one.
//! - Several runs of one log and epoch that go on from each other are walked as one.
//! - Up to [`RUNS_INLINE_MAX`] runs are followed without allocation, more in a scratch no larger
//!   than the run table itself.
//!
//! Not here: what stands before and behind the batch (`recover`, `catchup`).

use super::Flaw;
use super::batch::{BATCH_FRONT_BYTES, BatchHeader, RUNS_INLINE_MAX};
use super::record::{RECORD_ALIGN, RecordHeader, RecordRef, read_record_header_only};
use super::runs::{Run, RunTable};
use super::wire::need;
use crate::lsn::{Epoch, LogId, Lsn};

/// Places behind a rotten record header at which the walk tries to go on.
const RESYNC_TRIES_MAX: usize = 64;

const FOREIGN: Flaw = Flaw::Field("record does not belong to its run");

/// A record and where it starts in its batch.
pub type BatchRecord<'a> = (usize, RecordRef<'a>);

/// A batch whose header and run table are good. Its records are checked as they are walked.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// The decoded header.
    pub header: BatchHeader,
    /// The header's CRC, which the next batch repeats.
    pub crc: u32,
    /// The run table.
    pub runs: RunTable<'a>,
    /// The meaningful bytes, from the header on.
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Reads header and run table of the batch at the front of `buf`. `Short` with the batch's
    /// length when the header is good and not all of the batch is there.
    pub fn parse(buf: &'a [u8], nonce: u64) -> Result<Self, Flaw> {
        let (header, crc) = BatchHeader::decode(buf, nonce)?;
        let len = header.bytes as usize;
        need(buf, len)?;
        let bytes = &buf[..len];
        if header.runs_offset == 0 {
            let runs = RunTable::empty(header.seq);
            return Ok(Self { header, crc, runs, bytes });
        }
        // A table that wants more than the batch has is rot in its count, not a short read.
        let runs = RunTable::decode(&bytes[header.runs_offset as usize..], header.seq, nonce)
            .map_err(|flaw| if matches!(flaw, Flaw::Short { .. }) { Flaw::Crc } else { flaw })?;
        let records: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        let alike = runs.len() == header.runs as usize && runs.is_packed() == header.packs_runs();
        if !alike || records != u64::from(header.records) {
            return Err(Flaw::Field("run table and header disagree"));
        }
        Ok(Self { header, crc, runs, bytes })
    }

    /// Every record in order, with its offset in the batch. Damage is an item like any other and
    /// the walk goes on behind it: see [`BatchRecords::header`] and [`BatchRecords::unread`].
    #[must_use]
    pub fn records(&self) -> BatchRecords<'a> {
        self.walk(None)
    }

    /// The records of one log; of the others only the headers are looked at, and damage that hits
    /// only others is not told.
    #[must_use]
    pub fn records_of(&self, log: LogId) -> BatchRecords<'a> {
        self.walk(Some(log))
    }

    /// Checks everything: each record, each run.
    pub fn verify(&self) -> Result<(), Flaw> {
        let mut records = self.records();
        for record in records.by_ref() {
            record?;
        }
        if records.runs.as_slice().iter().any(|run| run.bytes_left != 0) {
            return Err(Flaw::Field("bytes of a run"));
        }
        Ok(())
    }

    fn walk(&self, only: Option<LogId>) -> BatchRecords<'a> {
        let runs = Cursors::new(&self.runs);
        let wanted = |run: &Run| only.is_none_or(|log| run.log == log);
        let left = self.runs.iter().filter(wanted).map(|run| u64::from(run.count)).sum();
        BatchRecords {
            bytes: &self.bytes[..self.header.records_end()],
            at: BATCH_FRONT_BYTES,
            last_at: BATCH_FRONT_BYTES,
            left,
            only,
            runs,
            run: 0,
            last: None,
            torn: None,
            lost: Vec::new(),
        }
    }
}

/// What a run still expects.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    log: LogId,
    epoch: Epoch,
    next: u64,
    left: u32,
    bytes_left: i64,
    /// The record that comes next is a fragment that goes on.
    continued: bool,
    /// The last is one that goes on in the next batch.
    continues: bool,
}

impl Cursor {
    /// Records missing before this one; an error if it has no place here.
    fn gap(&self, header: &RecordHeader, may: bool) -> Result<u32, Flaw> {
        let gap = header.lsn.0.checked_sub(self.next).ok_or(FOREIGN)?;
        let fits = gap < u64::from(self.left) && (gap == 0 || may);
        if fits { Ok(gap as u32) } else { Err(FOREIGN) }
    }

    /// Fragments stand where the run says, at its ends, and nowhere else.
    fn check_fragment(&self, header: &RecordHeader) -> Result<(), Flaw> {
        let continues = self.continues && self.left == 1;
        let fits = header.is_continued() == self.continued && header.continues() == continues;
        if fits { Ok(()) } else { Err(FOREIGN) }
    }

    fn goes_on_in(&self, next: &Self) -> bool {
        let same = (self.log, self.epoch) == (next.log, next.epoch) && !self.continues;
        let adjoins = self.next.checked_add(u64::from(self.left)) == Some(next.next);
        same && adjoins && !next.continued && self.left.checked_add(next.left).is_some()
    }

    fn skip(&mut self, count: u32) {
        self.continued = false;
        self.left -= count;
        self.next += u64::from(count);
    }

    /// Its next `count` records as a run; their bytes are not known.
    fn part(&self, count: u32) -> Run {
        let (log, epoch, first_lsn) = (self.log, self.epoch, Lsn(self.next));
        let (continued, continues) = (self.continued, self.continues && count == self.left);
        Run { log, epoch, first_lsn, count, bytes: 0, continued, continues, at: 0 }
    }

    fn new(run: Run) -> Self {
        Self {
            log: run.log,
            epoch: run.epoch,
            next: run.first_lsn.0,
            left: run.count,
            bytes_left: i64::from(run.bytes),
            continued: run.continued,
            continues: run.continues,
        }
    }
}

/// Makes one run of those that go on where the one before ends; gives how many are left.
fn join(runs: &mut [Cursor]) -> usize {
    let mut len = 0usize;
    for at in 0..runs.len() {
        let next = runs[at];
        match len.checked_sub(1).map(|last| &mut runs[last]) {
            Some(last) if last.goes_on_in(&next) => {
                last.left += next.left;
                last.bytes_left += next.bytes_left;
                last.continues = next.continues;
            }
            _ => {
                runs[len] = next;
                len += 1;
            }
        }
    }
    len
}

/// The runs of a batch, sorted by log and epoch.
#[derive(Clone, Debug)]
enum Cursors {
    Inline([Cursor; RUNS_INLINE_MAX], usize),
    Scratch(Vec<Cursor>),
}

impl Cursors {
    fn new(runs: &RunTable<'_>) -> Self {
        let mut cursors = if runs.len() <= RUNS_INLINE_MAX {
            let mut slots = [Cursor::default(); RUNS_INLINE_MAX];
            for (slot, run) in slots.iter_mut().zip(runs.iter()) {
                *slot = Cursor::new(run);
            }
            Self::Inline(slots, runs.len())
        } else {
            Self::Scratch(runs.iter().map(Cursor::new).collect())
        };
        cursors.as_mut_slice().sort_unstable_by_key(|run| (run.log, run.epoch, run.next));
        let len = join(cursors.as_mut_slice());
        match &mut cursors {
            Self::Inline(_, count) => *count = len,
            Self::Scratch(runs) => runs.truncate(len),
        }
        cursors
    }

    /// The run of a record, looked for at `near` first.
    fn find(&self, near: usize, header: &RecordHeader) -> Result<usize, Flaw> {
        let (runs, key) = (self.as_slice(), (header.log, header.epoch));
        if runs.get(near).is_some_and(|run| (run.log, run.epoch) == key) {
            return Ok(near);
        }
        runs.binary_search_by_key(&key, |run| (run.log, run.epoch)).map_err(|_| FOREIGN)
    }

    fn as_slice(&self) -> &[Cursor] {
        match self {
            Self::Inline(slots, len) => &slots[..*len],
            Self::Scratch(runs) => runs,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Cursor] {
        match self {
            Self::Inline(slots, len) => &mut slots[..*len],
            Self::Scratch(runs) => runs,
        }
    }
}

/// Walks the records of a batch.
#[derive(Clone, Debug)]
pub struct BatchRecords<'a> {
    bytes: &'a [u8],
    at: usize,
    last_at: usize,
    /// Records still to be given; 0 ends the walk.
    left: u64,
    only: Option<LogId>,
    runs: Cursors,
    /// The run of the last record: neighbours are often of one log.
    run: usize,
    last: Option<RecordHeader>,
    /// A record header was rotten: from there on a run may have lost records.
    torn: Option<Flaw>,
    /// What was lost so far between records that are there.
    lost: Vec<Run>,
}

impl<'a> BatchRecords<'a> {
    /// Where the last item, good or bad, starts in the batch.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.last_at
    }

    /// The header of the last item, if it is good: the name of a record whose body is rotten.
    #[must_use]
    pub fn header(&self) -> Option<RecordHeader> {
        self.last
    }

    /// What the runs promise and the walk has not met: after its end, the name of what is lost.
    pub fn unread(&self) -> impl Iterator<Item = Run> + '_ {
        let left = self.runs.as_slice().iter().filter(|run| run.left > 0);
        self.lost.iter().copied().chain(left.map(|run| run.part(run.left)))
    }

    fn step(&mut self) -> Result<Step<'a>, Flaw> {
        self.last_at = self.at;
        self.last = None;
        let (record, framed) = record_at(self.bytes, self.at)?;
        let header = record.header;
        let wanted = self.only.is_none_or(|log| log == header.log);
        self.run = self.runs.find(self.run, &header)?;
        let run = &mut self.runs.as_mut_slice()[self.run];
        let gap = run.gap(&header, self.torn.is_some())?;
        if gap > 0 {
            self.lost.push(run.part(gap));
            run.skip(gap);
            self.left -= if wanted { u64::from(gap) } else { 0 };
            return Ok(Step::Gap { wanted });
        }
        run.check_fragment(&header)?;
        run.skip(1);
        run.bytes_left -= framed as i64;
        self.at += framed;
        self.last = Some(header);
        self.left -= u64::from(wanted);
        Ok(if wanted { Step::Record((self.last_at, record)) } else { Step::Other })
    }

    /// Goes to the next place from which records that fit their runs reach to the end; without one,
    /// to the end. Only its bytes can be trusted: the length that rotted is gone.
    fn resync(&mut self, flaw: Flaw) {
        self.torn = Some(flaw);
        let places = (self.at + RECORD_ALIGN..self.bytes.len()).step_by(RECORD_ALIGN);
        let good = |at: &usize| RecordHeader::decode(&self.bytes[*at..]).is_ok();
        let found = places.filter(good).take(RESYNC_TRIES_MAX).find(|at| self.reaches_end(*at));
        self.at = found.unwrap_or(self.bytes.len());
    }

    fn reaches_end(&self, mut at: usize) -> bool {
        let mut runs = self.runs.clone();
        while at < self.bytes.len() {
            let Ok((record, framed)) = record_at(self.bytes, at) else { return false };
            let Ok(index) = runs.find(0, &record.header) else { return false };
            let run = &mut runs.as_mut_slice()[index];
            let Ok(gap) = run.gap(&record.header, true) else { return false };
            run.skip(gap);
            if run.check_fragment(&record.header).is_err() {
                return false;
            }
            run.skip(1);
            at += framed;
        }
        true
    }

    /// The end of the bytes, with records still owed: they are lost. Told unless it was before.
    fn end_torn(&mut self, flaw: Flaw) -> Option<Flaw> {
        self.left = 0;
        self.last_at = self.at;
        self.last = None;
        self.only.map(|_| flaw)
    }
}

enum Step<'a> {
    /// A record that is wanted.
    Record(BatchRecord<'a>),
    /// One that is not.
    Other,
    /// Records are missing before the next one.
    Gap { wanted: bool },
}

/// The record at `at`, its body unchecked.
fn record_at(bytes: &[u8], at: usize) -> Result<(RecordRef<'_>, usize), Flaw> {
    read_record_header_only(bytes.get(at..).unwrap_or(&[])).map_err(|flaw| match flaw {
        Flaw::Short { .. } => Flaw::Field("a record reaches beyond its batch"),
        other => other,
    })
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Result<BatchRecord<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            if let Some(flaw) = self.torn.filter(|_| self.at >= self.bytes.len()) {
                return self.end_torn(flaw).map(Err);
            }
            match (self.step(), self.torn) {
                (Ok(Step::Record((_, record))), _) if !record.body_is_good() => {
                    return Some(Err(Flaw::Crc));
                }
                (Ok(Step::Record(found)), _) => return Some(Ok(found)),
                // Who walks all records was told of the rot where it stands.
                (Ok(Step::Gap { wanted: true }), Some(flaw)) if self.only.is_some() => {
                    return Some(Err(flaw));
                }
                (Ok(_), _) => {}
                (Err(flaw), None) if !flaw.is_unsupported() => {
                    self.resync(flaw);
                    if self.only.is_none() {
                        return Some(Err(flaw));
                    }
                }
                (Err(flaw), _) => {
                    self.left = 0;
                    return Some(Err(flaw));
                }
            }
        }
        None
    }
}
