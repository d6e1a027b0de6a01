//! The archive: where records are that the directory no longer holds, asked by log and LSN.
//!
//! Invariants:
//! - It is asked only for LSNs at or above a log's start that no local segment holds.
//! - What it gives is checked like anything read from a disk: log, LSNs without a gap, both CRCs.
//!   What passes is delivered; the first record that does not is asked for again, and is `Corrupt`
//!   if it is the one that is due.
//! - It works on threads of its own: [`fetch`](Archive::fetch) is called on a reader's thread and
//!   returns at once; never on a shard's. A reader has one fetch under way at most, of
//!   [`FETCH_BYTES`], so that its memory is bounded.
//!
//! Not here: objects and their cache (a crate of its own implements [`Archive`]), when a cursor
//! asks (`catchup`), what leaves the local disk (`gc`).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::{Fragment, RecordHeader, read_record};
use crate::lsn::{Epoch, LogId, Lsn, Position};

/// Bytes of one fetch, give or take a record.
pub const FETCH_BYTES: usize = 1 << 20;

/// Where records are that a directory no longer holds. Given at open
/// ([`Components`](crate::Components)); see the module.
///
/// With an archive, garbage collection lets a sealed segment go although its records are kept, once
/// it was [marked](crate::Engine::set_tiered) as tiered and the logs' local retention lets it go.
pub trait Archive: Send + Sync {
    /// Fetches records. Returns at once; the answer is given on a thread of the archive's own:
    /// framed records as they stood in their segment (header, properties, payload, zeroes to a
    /// multiple of 8), of the one log, one behind the other without a gap; a record in fragments
    /// with all of them. The first is `wanted.from` or an earlier one, the last is below
    /// `wanted.below`; `from` itself is among them, and nothing but `from` begins beyond
    /// `wanted.bytes_max`: an answer that is larger is refused, as `Io`. Of several records of one
    /// LSN it is the one of the highest epoch: the others were cut.
    ///
    /// A reader that goes elsewhere, or is dropped, cancels nothing by itself: see
    /// [`Answer::is_wanted`].
    ///
    /// # Errors
    /// Given with the answer, and told to the reader as they are, who may ask again: `Io` when the
    /// archive cannot be reached; `Trimmed` when it keeps the log from later on; `Corrupt` and
    /// `Lost` for what is damaged there; `Unsupported` for objects of a newer version. An answer
    /// that is dropped ungiven is `Io`.
    fn fetch(&self, wanted: Wanted, answer: Answer);
}

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The directory.
    pub directory: u64,
    /// Its lineage.
    pub lineage: u64,
    /// The log.
    pub log: LogId,
    /// The first LSN that is wanted.
    pub from: Lsn,
    /// From here on records are local; above `from`.
    pub below: Lsn,
    /// Stop once there are so many bytes. One record is wanted in any case.
    pub bytes_max: usize,
}

#[derive(Default)]
struct Slot {
    given: Option<Result<Vec<u8>>>,
    waker: Option<Waker>,
}

/// Where an answer goes. Dropped, it says that there will be none.
pub struct Answer(Option<Arc<Mutex<Slot>>>);

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

impl Answer {
    /// Gives the records, or why there are none, and wakes who waits for them. A reader that has
    /// gone elsewhere meanwhile never looks.
    pub fn give(mut self, records: Result<Vec<u8>>) {
        self.put(records);
    }

    /// Whether anybody still waits for it: an archive may save itself the work of one that nobody
    /// does.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| Arc::strong_count(slot) > 1)
    }

    fn put(&mut self, records: Result<Vec<u8>>) {
        let Some(slot) = self.0.take() else { return };
        let mut slot = slot.lock();
        slot.given = Some(records);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let error = io::Error::other("the archive gave no answer");
        self.put(Err(Error::io("fetching from the archive", error)));
    }
}

/// A fetch under way, at the reader's end.
pub(crate) struct Fetch {
    pub wanted: Wanted,
    slot: Arc<Mutex<Slot>>,
}

impl Fetch {
    /// Asks.
    pub(crate) fn begin(archive: &dyn Archive, wanted: Wanted) -> Self {
        let slot = Arc::<Mutex<Slot>>::default();
        archive.fetch(wanted, Answer(Some(Arc::clone(&slot))));
        Self { wanted, slot }
    }

    /// The answer, if it is there; else `waker` is woken when it is.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Result<Vec<u8>>> {
        let mut slot = self.slot.lock();
        let given = slot.given.take();
        if given.is_none() {
            slot.waker = Some(waker.clone());
        }
        given
    }
}

/// A record in the bytes that an archive gave.
#[derive(Clone, Debug)]
pub(crate) struct Archived {
    pub header: RecordHeader,
    pub properties: Range<usize>,
    pub payload: Range<usize>,
}

/// What of an answer can be delivered.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Whole records, from `wanted.from` on, without a gap.
    pub records: Vec<Archived>,
    /// Why there are not more, if anything is wrong.
    pub wrong: Option<String>,
    /// What is wrong is a newer version, and no damage.
    pub unsupported: bool,
    /// It gave more than was asked for, and nothing of that is taken.
    pub too_large: bool,
}

/// Checks an answer, up to the first thing that is wrong. `dropped` tells what a cut took.
pub(crate) fn check(bytes: &[u8], wanted: &Wanted, dropped: impl Fn(Position) -> bool) -> Checked {
    let mut found = Checked::default();
    let (mut at, mut whole) = (0, 0);
    let (mut due, mut part, mut epoch) = (wanted.from, 0, Epoch(0));
    while at < bytes.len() {
        let (record, framed) = match read_record(&bytes[at..]) {
            Ok(read) => read,
            Err(flaw) => {
                (found.wrong, found.unsupported) = (Some(flaw.to_string()), flaw.is_unsupported());
                break;
            }
        };
        let header = record.header;
        if header.log != wanted.log {
            found.wrong = Some(format!("a record of log {}", header.log));
            break;
        }
        let begins = matches!(header.fragment(), Fragment::Whole | Fragment::First);
        if begins && at >= wanted.bytes_max && header.lsn != wanted.from {
            let wrong = Some(format!("{} bytes for {}", bytes.len(), wanted.bytes_max));
            return Checked { wrong, too_large: true, ..Checked::default() };
        }
        let properties = at + header.header_bytes();
        let payload = properties + usize::from(header.properties_bytes);
        let end = payload + header.payload_bytes as usize;
        at += framed;
        if header.lsn < wanted.from || dropped(header.position()) {
            continue;
        }
        let fits = header.lsn == due && begins == (part == 0) && header.fragment_index == part;
        let fits = fits && header.epoch >= epoch;
        if !fits || header.lsn >= wanted.below {
            found.wrong = Some(format!("the record {} where LSN {due} is due", header.position()));
            break;
        }
        (part, epoch) = (if header.continues() { part + 1 } else { 0 }, header.epoch);
        let (properties, payload) = (properties..payload, payload..end);
        found.records.push(Archived { header, properties, payload });
        if part == 0 {
            (due, whole) = (due.next(), found.records.len());
        }
    }
    found.records.truncate(whole);
    if found.records.is_empty() && found.wrong.is_none() {
        found.wrong = Some(format!("LSN {} is not whole among what it gave", wanted.from));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{body_crc, write_record};

    const WANTED: Wanted = Wanted {
        directory: 1,
        lineage: 1,
        log: LogId(7),
        from: Lsn(10),
        below: Lsn(14),
        bytes_max: FETCH_BYTES,
    };

    /// A record of this log, epoch and LSN; `flags` says which fragment.
    fn record(log: u64, epoch: u32, lsn: u64, flags: u8) -> Vec<u8> {
        let payload = [lsn as u8; 21];
        let header = RecordHeader {
            log: LogId(log),
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            flags,
            fragment_index: u32::from(flags.saturating_sub(1)),
            payload_bytes: 21,
            body_crc: body_crc(&[], &payload),
            ..RecordHeader::default()
        };
        let mut out = vec![0; header.framed_bytes()];
        write_record(&header, &[], &payload, &mut out);
        out
    }

    /// LSNs of what passes, and whether anything is wrong.
    fn judged(records: &[(u32, u64, u8)]) -> (Vec<u64>, bool) {
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|(epoch, lsn, flags)| record(7, *epoch, *lsn, *flags))
            .collect();
        let cut = |at: Position| at.epoch == Epoch(1) && at.lsn >= Lsn(12);
        let found = check(&bytes, &WANTED, cut);
        (found.records.iter().map(|one| one.header.lsn.0).collect(), found.wrong.is_some())
    }

    #[test]
    fn what_is_whole_and_next_passes() {
        assert_eq!(judged(&[(1, 10, 0), (1, 11, 0)]), (vec![10, 11], false));
        assert_eq!(judged(&[(1, 8, 0), (1, 9, 0), (1, 10, 0)]), (vec![10], false), "earlier ones");
        let parts = [(1, 10, 1), (1, 10, 2), (1, 10, 3), (1, 11, 0)];
        assert_eq!(judged(&parts), (vec![10, 10, 10, 11], false));
        let cut = [(1, 10, 0), (1, 11, 0), (1, 12, 0), (1, 13, 0), (2, 12, 0), (2, 13, 0)];
        assert_eq!(judged(&cut), (vec![10, 11, 12, 13], false), "what was cut is passed over");
    }

    #[test]
    fn nothing_else_does() {
        assert_eq!(judged(&[]), (vec![], true), "nothing");
        assert_eq!(judged(&[(1, 8, 0), (1, 9, 0)]), (vec![], true), "only what is below");
        assert_eq!(judged(&[(1, 11, 0)]), (vec![], true), "not from where it is wanted");
        assert_eq!(judged(&[(1, 10, 0), (1, 10, 0)]), (vec![10], true), "twice");
        assert_eq!(judged(&[(2, 10, 0), (1, 11, 0)]), (vec![10], true), "epochs go back");
        assert_eq!(judged(&[(1, 10, 1), (1, 10, 2)]), (vec![], true), "a part is missing");
        assert_eq!(judged(&[(1, 10, 0), (1, 11, 3)]), (vec![10], true), "an end without its begin");
        assert_eq!(judged(&[(1, 10, 1), (1, 11, 0)]), (vec![], true), "a begin without its end");
        let beyond = [(2, 10, 0), (2, 11, 0), (2, 12, 0), (2, 13, 0), (2, 14, 0)];
        assert_eq!(judged(&beyond), (vec![10, 11, 12, 13], true), "what is local");
        let found = check(&record(8, 1, 10, 0), &WANTED, |_| false);
        assert!(found.records.is_empty() && found.wrong.is_some(), "of another log");
    }

    /// Memory is bounded by what was asked for: of an archive that gives more nothing is taken.
    #[test]
    fn more_than_was_asked_for_is_refused() {
        let one = record(7, 1, 10, 0).len();
        let bytes: Vec<u8> = (10..14).flat_map(|lsn| record(7, 1, lsn, 0)).collect();
        let judge = |bytes_max| {
            let found = check(&bytes, &Wanted { bytes_max, ..WANTED }, |_| false);
            assert_eq!(found.too_large, found.records.is_empty());
            found.records.len()
        };
        assert_eq!(judge(bytes.len()), 4);
        assert_eq!(judge(3 * one + 1), 4, "the last one begins before");
        assert_eq!(judge(3 * one), 0);
        assert_eq!(judge(1), 0, "the first one alone would do");
        let found = check(&bytes[..one], &Wanted { bytes_max: 1, ..WANTED }, |_| false);
        assert_eq!(found.records.len(), 1, "one record in any case");
        let earlier: Vec<u8> = (8..11).flat_map(|lsn| record(7, 1, lsn, 0)).collect();
        let found = check(&earlier, &Wanted { bytes_max: 2 * one, ..WANTED }, |_| false);
        assert_eq!(found.records.len(), 1, "behind earlier ones");
        let found = check(&earlier, &Wanted { bytes_max: one, ..WANTED }, |_| false);
        assert!(found.too_large, "too many earlier ones");
    }

    /// Every bit of an answer counts: what passes is what was written, or nothing.
    #[test]
    fn a_flipped_bit_is_seen() {
        let good = record(7, 1, 10, 0);
        for at in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let padding = at / 8 >= RecordHeader::decode(&good).unwrap().header_bytes() + 21;
            let found = check(&bytes, &WANTED, |_| false);
            assert_eq!(found.records.is_empty(), !padding, "bit {at}");
        }
    }

    #[test]
    fn a_dropped_answer_is_told() {
        struct Silent;
        impl Archive for Silent {
            fn fetch(&self, _: Wanted, answer: Answer) {
                assert!(answer.is_wanted());
            }
        }
        let fetch = Fetch::begin(&Silent, WANTED);
        assert!(matches!(fetch.poll(Waker::noop()), Some(Err(Error::Io { .. }))));
    }
}
