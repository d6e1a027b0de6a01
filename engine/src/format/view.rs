//! A whole batch in memory: its records, each checked against its run.
//!
//! Invariants:
//! - A record that its run does not expect next is damage, whatever its own CRCs say: records are
//!   not seeded, the run table is, and that is what ties a record to this batch.
//! - Up to [`RUNS_INLINE_MAX`] runs are followed without allocation, more in a scratch no larger
//!   than the run table itself.
//!
//! Not here: what stands before and behind the batch (`recover`, `catchup`).

use super::Flaw;
use super::batch::{BATCH_FRONT_BYTES, BatchHeader, RUNS_INLINE_MAX};
use super::record::{RecordHeader, RecordRef, read_record_header_only};
use super::runs::{Run, RunTable};
use super::wire::need;
use crate::lsn::{Epoch, LogId, Lsn};

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
            return Ok(Self {
                header,
                crc,
                runs,
                bytes,
            });
        }
        // A table that wants more than the batch has is rot in its count, not a short read.
        let runs = RunTable::decode(&bytes[header.runs_offset as usize..], header.seq, nonce)
            .map_err(|flaw| {
                if matches!(flaw, Flaw::Short { .. }) {
                    Flaw::Crc
                } else {
                    flaw
                }
            })?;
        let records: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        if runs.len() != header.runs as usize || records != u64::from(header.records) {
            return Err(Flaw::Field("run table and header disagree"));
        }
        Ok(Self {
            header,
            crc,
            runs,
            bytes,
        })
    }

    /// Every record in order, with its offset in the batch. After a record whose body is rotten the
    /// walk goes on; after one whose header is, it ends: see [`BatchRecords::unread`].
    #[must_use]
    pub fn records(&self) -> BatchRecords<'a> {
        self.walk(None)
    }

    /// The records of one log; of the others only the headers are looked at.
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
        if records
            .runs
            .as_slice()
            .iter()
            .any(|run| run.bytes_left != 0)
        {
            return Err(Flaw::Field("bytes of a run"));
        }
        Ok(())
    }

    fn walk(&self, only: Option<LogId>) -> BatchRecords<'a> {
        let runs = Cursors::new(&self.runs);
        let wanted = |run: &Run| only.is_none_or(|log| run.log == log);
        let left = self
            .runs
            .iter()
            .filter(wanted)
            .map(|run| u64::from(run.count))
            .sum();
        BatchRecords {
            bytes: &self.bytes[..self.header.records_end()],
            at: BATCH_FRONT_BYTES,
            last_at: BATCH_FRONT_BYTES,
            left,
            only,
            runs,
            run: 0,
            last: None,
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
}

impl Cursor {
    fn new(run: Run) -> Self {
        Self {
            log: run.log,
            epoch: run.epoch,
            next: run.first_lsn.0,
            left: run.count,
            bytes_left: i64::from(run.bytes),
        }
    }
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
        cursors
            .as_mut_slice()
            .sort_unstable_by_key(|run| (run.log, run.epoch));
        cursors
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

    /// What the runs promise and the walk has not met: the name of what is lost when it ends early.
    pub fn unread(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs
            .as_slice()
            .iter()
            .filter(|run| run.left > 0)
            .map(|run| Run {
                log: run.log,
                epoch: run.epoch,
                first_lsn: Lsn(run.next),
                count: run.left,
                bytes: u32::try_from(run.bytes_left).unwrap_or(0),
            })
    }

    fn step(&mut self) -> Result<Option<BatchRecord<'a>>, Flaw> {
        self.last_at = self.at;
        self.last = None;
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let (record, framed) = read_record_header_only(rest).map_err(|flaw| match flaw {
            Flaw::Short { .. } => Flaw::Field("a record reaches beyond its batch"),
            other => other,
        })?;
        self.expect(&record, framed)?;
        self.at += framed;
        self.last = Some(record.header);
        let wanted = self.only.is_none_or(|log| log == record.header.log);
        if wanted {
            self.left -= 1;
        }
        Ok(wanted.then_some((self.last_at, record)))
    }

    /// Ties the record to its run, or says that it has no place here.
    fn expect(&mut self, record: &RecordRef<'_>, framed: usize) -> Result<(), Flaw> {
        let key = (record.header.log, record.header.epoch);
        let runs = self.runs.as_mut_slice();
        let same = runs
            .get(self.run)
            .is_some_and(|run| (run.log, run.epoch) == key);
        if !same {
            self.run = runs
                .binary_search_by_key(&key, |run| (run.log, run.epoch))
                .map_err(|_| FOREIGN)?;
        }
        let run = &mut runs[self.run];
        if run.left == 0 || run.next != record.header.lsn.0 {
            return Err(FOREIGN);
        }
        run.left -= 1;
        run.next += 1;
        run.bytes_left -= framed as i64;
        Ok(())
    }
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Result<BatchRecord<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            match self.step() {
                Ok(None) => {}
                Ok(Some((_, record))) if !record.body_is_good() => return Some(Err(Flaw::Crc)),
                Ok(Some(found)) => return Some(Ok(found)),
                Err(flaw) => {
                    self.left = 0;
                    return Some(Err(flaw));
                }
            }
        }
        None
    }
}
