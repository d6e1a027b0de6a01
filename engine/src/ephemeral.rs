//! Ephemeral records: kept for those who follow now, on no disk.
//!
//! Invariants:
//! - One sits before the LSN that the next record of its log will have, in the order of appends: it
//!   enters under the staging lock.
//! - It is given to nobody before every record staged before it in its log is durable; if one of
//!   those fails, it is given to nobody.
//! - Bounded per shard in records and in bytes; the oldest goes first, and each reader that had not
//!   got it counts it.
//!
//! Not here: the epoch check (`intake`), in between which records they are read (`reader`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::format::RecordHeader;
use crate::lsn::{LogId, Lsn};

/// Ephemeral records that a shard keeps, of all its logs.
pub(crate) const EPHEMERAL_MAX: usize = 1024;

/// Bytes of payloads and properties that they may have together.
pub(crate) const EPHEMERAL_BYTES_MAX: usize = 1 << 20;

/// One record.
pub(crate) struct Note {
    /// With the LSN that it sits before.
    pub header: RecordHeader,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    /// The batch with which all that was staged before is durable.
    pub seq: u64,
    /// Which of its log's it is.
    pub number: u64,
}

/// See the module. One per shard.
#[derive(Default)]
pub(crate) struct Ephemeral {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    notes: VecDeque<Arc<Note>>,
    bytes: usize,
    /// How many left `notes` so far: the first there has this number among all.
    gone: u64,
    logs: HashMap<LogId, Count>,
}

/// Of one log: how many there were, and how many of them are kept no more.
#[derive(Clone, Copy, Default)]
struct Count {
    given: u64,
    dropped: u64,
}

/// Where a reader is among the ephemeral records of its log.
#[derive(Clone, Copy)]
pub(crate) struct Ear {
    log: LogId,
    /// The next to look at among all of the shard's, and among the log's.
    at: u64,
    number: u64,
    /// How many were dropped before this reader got them.
    pub missed: u64,
}

impl Ephemeral {
    /// Makes room for one of so many bytes; the oldest go. Outside of the staging lock: it frees
    /// memory, and allocates what `push` needs.
    pub(crate) fn make_room(&self, log: LogId, bytes: usize) {
        let mut kept = self.kept.lock();
        kept.logs.entry(log).or_default();
        if kept.notes.capacity() == 0 {
            kept.notes.reserve(EPHEMERAL_MAX);
        }
        while kept.notes.len() >= EPHEMERAL_MAX || kept.bytes + bytes > EPHEMERAL_BYTES_MAX {
            let Some(oldest) = kept.drop_oldest() else { return };
            drop(oldest);
        }
    }

    /// Takes one in, behind all others: under the staging lock.
    pub(crate) fn push(&self, mut note: Arc<Note>) {
        let mut kept = self.kept.lock();
        // Others may have come since room was made: only then something is freed here.
        if kept.notes.len() >= EPHEMERAL_MAX {
            drop(kept.drop_oldest());
        }
        let count = kept.logs.entry(note.header.log).or_default();
        if let Some(note) = Arc::get_mut(&mut note) {
            note.number = count.given;
        }
        count.given += 1;
        kept.bytes += note.bytes();
        kept.notes.push_back(note);
    }

    /// A reader that gets what comes from here on.
    pub(crate) fn listen(&self, log: LogId) -> Ear {
        let kept = self.kept.lock();
        let number = kept.logs.get(&log).map_or(0, |count| count.given);
        Ear { log, at: kept.gone + kept.notes.len() as u64, number, missed: 0 }
    }

    /// The next one that sits before `lsn`, when the shard is durable up to batch `durable`. Those
    /// that sit lower, where the reader does not pass any more, are passed over, and those of which
    /// `cut` says that what they sat between is gone.
    pub(crate) fn hear(
        &self,
        ear: &mut Ear,
        lsn: Lsn,
        durable: u64,
        cut: impl Fn(&RecordHeader) -> bool,
    ) -> Option<Arc<Note>> {
        let kept = self.kept.lock();
        let dropped = kept.logs.get(&ear.log)?.dropped;
        ear.missed += dropped.saturating_sub(ear.number);
        ear.number = ear.number.max(dropped);
        ear.at = ear.at.max(kept.gone);
        while let Some(note) = kept.notes.get((ear.at - kept.gone) as usize) {
            if note.header.log == ear.log {
                let passed = note.header.lsn < lsn || cut(&note.header);
                if !passed && (note.header.lsn > lsn || note.seq > durable) {
                    return None; // not yet
                }
                ear.number = note.number + 1;
                if !passed {
                    ear.at += 1;
                    return Some(Arc::clone(note));
                }
            }
            ear.at += 1;
        }
        None
    }
}

impl Kept {
    fn drop_oldest(&mut self) -> Option<Arc<Note>> {
        let oldest = self.notes.pop_front()?;
        self.gone += 1;
        self.bytes -= oldest.bytes();
        if let Some(count) = self.logs.get_mut(&oldest.header.log) {
            count.dropped = oldest.number + 1;
        }
        Some(oldest)
    }
}

impl Note {
    fn bytes(&self) -> usize {
        self.properties.len() + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(to: &Ephemeral, log: u64, lsn: u64, seq: u64, bytes: usize) {
        let header = RecordHeader { log: LogId(log), lsn: Lsn(lsn), ..RecordHeader::default() };
        let (properties, payload) = (Vec::new(), vec![0; bytes]);
        to.make_room(header.log, bytes);
        to.push(Arc::new(Note { header, properties, payload, seq, number: 0 }));
    }

    fn hear(from: &Ephemeral, ear: &mut Ear, lsn: u64, durable: u64) -> Option<u64> {
        from.hear(ear, Lsn(lsn), durable, |_| false).map(|note| note.number)
    }

    #[test]
    fn they_are_heard_in_their_place_and_not_before_what_was_staged_is_durable() {
        let all = Ephemeral::default();
        push(&all, 1, 3, 7, 10);
        let mut ear = all.listen(LogId(1));
        for (log, lsn, seq) in [(1, 3, 7), (2, 3, 7), (1, 3, 8), (1, 5, 9)] {
            push(&all, log, lsn, seq, 10);
        }
        assert_eq!(hear(&all, &mut ear, 2, 9), None, "the reader is not there yet");
        assert_eq!(hear(&all, &mut ear, 3, 6), None, "not durable");
        assert_eq!(hear(&all, &mut ear, 3, 7), Some(1), "0 was before it listened");
        assert_eq!(hear(&all, &mut ear, 3, 7), None);
        assert_eq!(hear(&all, &mut ear, 3, 8), Some(2));
        assert_eq!(hear(&all, &mut ear, 6, 9), None, "passed");
        assert_eq!((hear(&all, &mut ear, 5, 9), ear.missed), (None, 0));
    }

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let all = Ephemeral::default();
        let mut ear = all.listen(LogId(1));
        let mut other = all.listen(LogId(2));
        for n in 0..EPHEMERAL_MAX as u64 + 30 {
            push(&all, 1 + n % 2, 0, 0, 10);
        }
        assert_eq!(hear(&all, &mut ear, 0, 0), Some(15));
        assert_eq!((ear.missed, other.missed), (15, 0));
        push(&all, 3, 0, 0, EPHEMERAL_BYTES_MAX);
        assert_eq!((hear(&all, &mut ear, 0, 0), hear(&all, &mut other, 0, 0)), (None, None));
        assert_eq!(ear.missed, EPHEMERAL_MAX as u64 / 2 + 15 - 1);
        assert_eq!(other.missed, EPHEMERAL_MAX as u64 / 2 + 15);
    }
}
