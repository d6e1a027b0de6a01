//! Finding a time among records that are in the archive alone, by looking at single ones.
//!
//! Invariants: times never go back within a log, so what stands below a record that is older is
//! older too. A look costs one record; where one cannot be had, nothing is passed over.
//!
//! Not here: asking (`catchup`, `reader`), times of what is local (`log`).

use crate::archive::Wanted;
use crate::lsn::Lsn;

/// So many records or fewer are looked at one by one, as they come.
const NEAR: u64 = 256;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bisect {
    /// Everything below is older.
    low: Lsn,
    /// This one is not, or it is not in the archive.
    high: Lsn,
}

impl Bisect {
    /// Somewhere from `low` on, below `high` or there.
    pub(crate) fn new(low: Lsn, high: Lsn) -> Self {
        Self { low, high }
    }

    /// The record to look at; the place to read from when it is near enough.
    pub(crate) fn next(&self) -> Result<Lsn, Lsn> {
        let between = self.high.0.saturating_sub(self.low.0);
        if between > NEAR { Ok(Lsn(self.low.0 + between / 2)) } else { Err(self.low) }
    }

    /// The record that was looked at, and whether it is older than what is sought.
    pub(crate) fn seen(&mut self, at: Lsn, older: bool) {
        if older {
            self.low = self.low.max(at.next());
        } else {
            self.high = self.high.min(at);
        }
    }

    /// Nothing could be told: all of it is read.
    pub(crate) fn give_up(&mut self) {
        self.high = self.low;
    }

    /// One record and no more.
    pub(crate) fn look(wanted: Wanted, at: Lsn) -> Wanted {
        Wanted { from: at, below: at.next(), bytes_max: 1, ..wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_not_older_is_never_passed() {
        for count in [1u64, 255, 256, 257, 1000, 100_000] {
            for first in (0..=count).step_by(1 + count as usize / 37) {
                let mut bisect = Bisect::new(Lsn(7), Lsn(7 + count));
                let mut looks = 0;
                while let Ok(at) = bisect.next() {
                    assert!(at >= Lsn(7) && at < Lsn(7 + count));
                    bisect.seen(at, at.0 < 7 + first);
                    looks += 1;
                }
                let low = bisect.next().unwrap_err();
                assert!(low.0 <= 7 + first && 7 + first - low.0 <= NEAR, "{low} for {first}");
                assert!(looks <= 10, "{looks} of {count}");
            }
        }
        let mut bisect = Bisect::new(Lsn(7), Lsn(7000));
        bisect.give_up();
        assert_eq!(bisect.next(), Err(Lsn(7)));
    }
}
