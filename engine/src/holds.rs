//! The holds on a shard's segments: who keeps which from being collected, and for how long.
//!
//! Invariants: a hold is of one engine life and in memory only; one that passes its limit, in bytes
//! or in age, is broken for good, and whoever took it is told at the next look.
//!
//! Not here: taking one (`hold`), what it means for a segment (`gc`, `collect`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::lsn::SegmentId;
use crate::planted::{Bug, planted};

/// Holds that a shard takes at once.
pub(crate) const HOLDS_MAX: usize = 64;

/// Why a hold counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Age,
    Bytes,
}

#[derive(Debug)]
struct Held {
    id: u64,
    name: Box<str>,
    from: SegmentId,
    to: SegmentId,
    taken_ns: u64,
    broken: Option<Broken>,
}

#[derive(Debug, Default)]
struct Book {
    /// In the order in which they were taken.
    held: Vec<Held>,
    next: u64,
    /// Bytes of segments that nothing else keeps, as of the last pass over them.
    bytes: u64,
}

/// A hold, as `health` tells of it.
pub(crate) struct Seen {
    pub name: Box<str>,
    pub taken_ns: u64,
    pub broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Holds {
    bytes_max: u64,
    age_max_ns: u64,
    /// Counts what may set segments free, for a look without the lock.
    changes: AtomicU64,
    book: Mutex<Book>,
}

impl Default for Holds {
    fn default() -> Self {
        Self::new(u64::MAX, Duration::MAX)
    }
}

impl Book {
    fn age(&mut self, age_max_ns: u64, now: u64) {
        for held in &mut self.held {
            if held.broken.is_none() && now.saturating_sub(held.taken_ns) > age_max_ns {
                tracing::warn!(name = %held.name, "a hold is older than hold_age_max: broken");
                held.broken = Some(Broken::Age);
            }
        }
    }
}

impl Holds {
    pub(crate) fn new(bytes_max: u64, age_max: Duration) -> Self {
        Self {
            bytes_max,
            age_max_ns: u64::try_from(age_max.as_nanos()).unwrap_or(u64::MAX),
            changes: AtomicU64::new(0),
            book: Mutex::default(),
        }
    }

    /// Holds every segment from this one on, until it is narrowed. Gives the hold's number.
    pub(crate) fn take(&self, name: &str, from: SegmentId, now: u64) -> Result<u64> {
        let mut book = self.book.lock();
        if book.held.len() >= HOLDS_MAX {
            return Err(Error::Invalid(format!("there are {HOLDS_MAX} holds already")));
        }
        book.next += 1;
        let id = book.next;
        let to = SegmentId(u64::MAX);
        book.held.push(Held { id, name: name.into(), from, to, taken_ns: now, broken: None });
        Ok(id)
    }

    /// Holds only these from now on.
    pub(crate) fn narrow(&self, id: u64, from: SegmentId, to: SegmentId) {
        let mut book = self.book.lock();
        if let Some(held) = book.held.iter_mut().find(|held| held.id == id) {
            (held.from, held.to) = (from, to);
        }
        drop(book);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Lets go.
    pub(crate) fn release(&self, id: u64) {
        self.book.lock().held.retain(|held| held.id != id);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether the hold has held all the time.
    ///
    /// # Errors
    /// `HoldBroken` when it has not.
    pub(crate) fn check(&self, id: u64, now: u64) -> Result<()> {
        let mut book = self.book.lock();
        book.age(self.age_max_ns, now);
        let Some(held) = book.held.iter().find(|held| held.id == id) else { return Ok(()) };
        let limit = match held.broken {
            None => return Ok(()),
            Some(Broken::Age) => format!("hold_age_max ({} s)", self.age_max_ns / 1_000_000_000),
            Some(Broken::Bytes) => format!("hold_bytes_max ({})", self.bytes_max),
        };
        Err(Error::HoldBroken(format!("{:?} passed {limit}", held.name)))
    }

    /// Whether a hold that counts has this segment.
    pub(crate) fn pins(&self, segment: SegmentId, now: u64) -> bool {
        let mut book = self.book.lock();
        if book.held.is_empty() || planted(Bug::HoldIgnored) {
            return false;
        }
        book.age(self.age_max_ns, now);
        let has = |held: &Held| held.broken.is_none() && held.from <= segment && segment <= held.to;
        book.held.iter().any(has)
    }

    /// A pass found that holds alone keep so many bytes: when they are too many, the hold that was
    /// taken first is broken. Gives the moment at which the next one grows too old.
    pub(crate) fn weigh(&self, bytes: u64) -> Option<u64> {
        let mut book = self.book.lock();
        book.bytes = bytes;
        if bytes > self.bytes_max
            && let Some(held) = book.held.iter_mut().find(|held| held.broken.is_none())
        {
            tracing::warn!(name = %held.name, bytes, "holds pin more than hold_bytes_max: broken");
            held.broken = Some(Broken::Bytes);
            self.changes.fetch_add(1, Ordering::Release);
        }
        let whole = book.held.iter().filter(|held| held.broken.is_none());
        let oldest = whole.map(|held| held.taken_ns).min().filter(|_| bytes > 0);
        oldest.map(|taken| taken.saturating_add(self.age_max_ns).saturating_add(1))
    }

    /// Grows whenever segments may have come free.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All holds, and the bytes that they alone keep.
    pub(crate) fn list(&self) -> (Vec<Seen>, u64) {
        let book = self.book.lock();
        let seen = |held: &Held| Seen {
            name: held.name.clone(),
            taken_ns: held.taken_ns,
            broken: held.broken.is_some(),
        };
        (book.held.iter().map(seen).collect(), book.bytes)
    }

    /// The limit in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_pins_from_its_point_on_until_it_lets_go() {
        let holds = Holds::new(100, Duration::from_nanos(50));
        let id = holds.take("copy", SegmentId(3), 0).unwrap();
        let pinned = |n| holds.pins(SegmentId(n), 10);
        assert_eq!([2, 3, 9].map(pinned), [false, true, true]);
        holds.narrow(id, SegmentId(4), SegmentId(5));
        assert_eq!([3, 4, 5, 6].map(pinned), [false, true, true, false]);
        let before = holds.changes();
        holds.release(id);
        assert!(!holds.pins(SegmentId(4), 10) && holds.changes() > before);
    }

    #[test]
    fn a_hold_that_passes_a_limit_is_broken_and_told() {
        let holds = Holds::new(100, Duration::from_nanos(50));
        let old = holds.take("old", SegmentId(0), 0).unwrap();
        let young = holds.take("young", SegmentId(0), 30).unwrap();
        assert_eq!(holds.weigh(100), Some(51));
        assert!(holds.check(old, 50).is_ok() && holds.check(old, 51).is_err());
        assert!(holds.pins(SegmentId(1), 60), "the young one");
        assert_eq!(holds.weigh(101), None, "the one that was left is broken by its bytes");
        assert!(
            matches!(holds.check(young, 60), Err(Error::HoldBroken(why)) if why.contains("100"))
        );
        assert!(!holds.pins(SegmentId(1), 60));
    }
}
