//! How many spare segments a shard keeps: as many as its load needs, and no more.
//!
//! The pool grows by one whenever a file had to be made because no spare was left, and shrinks by
//! one after a stretch in which a spare was never needed. So under a load that comes and goes with
//! its truncations every roll takes a recycled file, and an idle shard gives the space back.
//!
//! Invariant: at least [`SPARES_MIN`], at most [`SPARES_MAX`].
//!
//! Not here: the spares themselves (`segment`).

/// Spares that are made ready whatever the load.
pub(crate) const SPARES_MIN: usize = 1;

/// Spares that are kept at most.
pub(crate) const SPARES_MAX: usize = 8;

/// Rolls after which the size is reviewed.
const REVIEW_ROLLS: u32 = 4 * SPARES_MAX as u32;

/// Time after which it is, without as many rolls.
const REVIEW_NS: u64 = 10_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    size: usize,
    /// The fewest spares that there were since the last review.
    low: usize,
    rolls: u32,
    reviewed_ns: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { size: SPARES_MIN, low: usize::MAX, rolls: 0, reviewed_ns: 0 }
    }
}

impl Pool {
    /// Whether a shard that has this many spares takes another one.
    pub(crate) fn takes(&self, spares: usize) -> bool {
        spares < self.size
    }

    /// A file had to be made.
    pub(crate) fn made(&mut self) {
        self.size = (self.size + 1).min(SPARES_MAX);
    }

    /// A spare was taken, so many are left.
    pub(crate) fn rolled(&mut self, left: usize) {
        self.low = self.low.min(left);
        self.rolls += 1;
    }

    /// When the next review is due though nothing happens.
    pub(crate) fn review_at(&self, spares: usize) -> Option<u64> {
        (spares > SPARES_MIN).then_some(self.reviewed_ns + REVIEW_NS)
    }

    /// Shrinks when it is time and a spare was never needed; true: one of `spares` is to go.
    pub(crate) fn review(&mut self, now: u64, spares: usize) -> bool {
        if self.rolls < REVIEW_ROLLS && now < self.reviewed_ns + REVIEW_NS {
            return false;
        }
        let unneeded = self.low.min(spares) > SPARES_MIN;
        if unneeded {
            self.size = (self.size - 1).max(SPARES_MIN);
        }
        (self.low, self.rolls, self.reviewed_ns) = (usize::MAX, 0, now);
        unneeded && spares > self.size
    }

    /// Back to the least: true while one of `spares` is to go.
    pub(crate) fn shrink(&mut self, spares: usize) -> bool {
        self.size = SPARES_MIN;
        spares > SPARES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_what_had_to_be_made_and_shrinks_when_idle() {
        let mut pool = Pool::default();
        assert!(pool.takes(0) && !pool.takes(1));
        (0..20).for_each(|_| pool.made());
        assert!(pool.takes(SPARES_MAX - 1) && !pool.takes(SPARES_MAX));
        let mut spares = SPARES_MAX;
        let mut now = 0;
        for _ in 0..SPARES_MAX {
            now += REVIEW_NS;
            spares -= usize::from(pool.review(now, spares));
        }
        assert_eq!(spares, SPARES_MIN);
        assert!(!pool.takes(SPARES_MIN) && pool.review_at(spares).is_none());
    }

    #[test]
    fn what_every_burst_needs_is_kept() {
        let mut pool = Pool::default();
        (0..5).for_each(|_| pool.made());
        for burst in 0..50 {
            (0..6).for_each(|taken| pool.rolled(5 - taken));
            assert!(!pool.review(burst, 6), "all six were needed");
        }
        assert!(pool.takes(5));
    }
}
