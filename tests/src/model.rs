//! The truth about the logs of a simulated life: what was staged, what was acked, what was shown.
//!
//! Invariants that the model itself checks: a staged record takes the next LSN of its log; its
//! (epoch, LSN) has never named another record; acks and what readers saw lie below what was
//! staged.
//!
//! Not here: running the engine (`world`), comparing it with the model (`check`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sapwood::LogId;
use sapwood::io::sim::Rng;

/// What went against the contract, in words.
pub type Verdict<T = ()> = Result<T, String>;

/// Fails with a formatted text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

/// The durable cursor that the logs of a life have.
pub const CURSOR: &str = "consumer";

/// A record that was staged. Its bytes are derived from `nonce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The epoch of its writer.
    pub epoch: u32,
    /// What its payload is made from.
    pub nonce: u64,
    /// Bytes of its payload.
    pub len: usize,
}

impl Staged {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut rng = Rng::new(self.nonce);
        let mut bytes = Vec::with_capacity(self.len + 8);
        while bytes.len() < self.len {
            bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }
}

/// One log.
#[derive(Clone, Debug, Default)]
pub struct LogTruth {
    /// By LSN: what was staged in this life of the directory.
    pub staged: Vec<Staged>,
    /// Every LSN below was acked (or kept by a recovery, which is the same from then on).
    pub acked: u64,
    /// Every LSN below was shown to a reader.
    pub shown: u64,
    /// The first LSN kept, as callers were told.
    pub start: u64,
    /// The highest start that was asked for: a power cut may have kept it or not.
    pub start_asked: u64,
    /// The highest epoch whose writer was handed out.
    pub epoch: u32,
    /// Its id, once it was seen.
    pub id: Option<LogId>,
    /// Where its durable cursor was told to be; `None`: there is none.
    pub cursor: Option<u64>,
    /// Where it may be instead: an answer is missing.
    pub cursor_asked: Option<Option<u64>>,
    /// Its deletion was under way when the power failed: it is there, or gone.
    pub doomed: bool,
    /// A cut that was under way when the power failed: it may have been kept or not.
    pub cut_asked: Option<u64>,
    /// What (epoch, LSN) ever named, in all lives.
    named: HashMap<(u32, u64), u64>,
}

/// Appends that are kept or dropped as one: of each log, the first LSN and the LSN behind the last.
pub type Whole = Vec<(String, u64, u64)>;

/// All logs.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By name: logs whose creation was answered.
    pub logs: BTreeMap<String, LogTruth>,
    /// Names whose creation was under way when the power failed.
    pub maybe: BTreeSet<String>,
    /// What was staged as one since the directory was opened.
    pub wholes: Vec<Whole>,
    /// Names whose log was deleted, and that no log has now.
    pub freed: BTreeSet<String>,
    /// Ids of logs that were deleted: never given again.
    pub gone: BTreeSet<LogId>,
    /// Records acked in all lives.
    pub acks: u64,
    /// Records that a crash took: staged, never acked.
    pub taken: u64,
    /// Records that a crash kept although they were not acked yet.
    pub kept: u64,
}

impl LogTruth {
    /// Notes a staged record.
    ///
    /// # Errors
    /// When it has another LSN than the next, or its name was another record's.
    pub fn stage(&mut self, lsn: u64, record: Staged) -> Verdict {
        let next = self.staged.len() as u64;
        ensure!(lsn == next, "staged at LSN {lsn}, the next is {next}");
        let before = self.named.insert((record.epoch, lsn), record.nonce);
        ensure!(before.is_none(), "({}, {lsn}) names two records", record.epoch);
        self.staged.push(record);
        Ok(())
    }

    /// Notes that everything below `end` is acked. Returns how many records are newly so.
    ///
    /// # Errors
    /// When that is more than was staged.
    pub fn ack(&mut self, end: u64) -> Verdict<u64> {
        let staged = self.staged.len() as u64;
        ensure!(end <= staged, "acked up to {end}, staged {staged}");
        let fresh = end.saturating_sub(self.acked);
        self.acked = self.acked.max(end);
        Ok(fresh)
    }

    /// A recovery found the log to start here.
    ///
    /// # Errors
    /// When a truncation that was answered is forgotten, or one that nobody asked for is there.
    pub fn settle_start(&mut self, start: u64) -> Verdict {
        let (told, asked) = (self.start, self.start_asked);
        ensure!((told..=asked).contains(&start), "starts at {start}, told {told}, asked {asked}");
        (self.start, self.start_asked) = (start, start);
        Ok(())
    }

    /// A writer cut the log at `lsn`, where it goes on under another epoch.
    ///
    /// # Errors
    /// When that lies beyond what was staged, or the epoch is not a new one.
    pub fn cut(&mut self, lsn: u64, epoch: u32) -> Verdict {
        let staged = self.staged.len() as u64;
        ensure!(lsn <= staged, "cut at {lsn}, staged {staged}");
        ensure!(epoch > self.epoch, "cut under epoch {epoch} after {}", self.epoch);
        self.epoch = epoch;
        self.drop_from(lsn);
        Ok(())
    }

    fn drop_from(&mut self, lsn: u64) {
        self.staged.truncate(lsn as usize);
        (self.acked, self.shown) = (self.acked.min(lsn), self.shown.min(lsn));
        self.cursor = self.cursor.map(|cursor| cursor.min(lsn));
    }

    /// The log was seen to end here after a crash: if a cut was under way, that decides it.
    pub fn settle_cut(&mut self, count: u64) {
        if self.cut_asked.take() == Some(count) && count < self.acked.max(self.shown) {
            self.drop_from(count);
        }
    }

    /// A recovery kept `count` records: they are the log from now on.
    ///
    /// # Errors
    /// When an acked or shown record is missing.
    pub fn settle(&mut self, count: u64) -> Verdict<(u64, u64)> {
        let staged = self.staged.len() as u64;
        ensure!(count >= self.acked, "acked up to {}, found {count}", self.acked);
        ensure!(count >= self.shown, "a reader saw {} records, found {count}", self.shown);
        ensure!(count <= staged, "staged {staged}, found {count}");
        let (kept, taken) = (count - self.acked, staged - count);
        self.staged.truncate(count as usize);
        (self.acked, self.shown) = (count, count);
        Ok((kept, taken))
    }
}

impl Model {
    /// A log is gone: its name is free, its id is never given again.
    pub fn delete(&mut self, name: &str) {
        let Some(truth) = self.logs.remove(name) else { return };
        self.freed.insert(name.to_owned());
        self.gone.extend(truth.id);
        self.wholes.iter_mut().for_each(|whole| whole.retain(|(log, ..)| log != name));
    }
}
