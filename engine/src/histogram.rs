//! Histograms of whole numbers: log-linear buckets, a sixteenth of an octave each.
//!
//! Invariants: recording is a few loads and stores, allocates nothing and takes no lock; one thread
//! records, anybody looks. A value is told at most a sixteenth too high, never too low.
//!
//! Not here: what is counted (`metrics`).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of an octave, as a power of two: what a value is told too high by, at most.
const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;

/// Values from 2^40 on share the last bucket: 18 minutes in nanoseconds, a tebibyte in bytes.
const OCTAVES_END: u32 = 40;

const BUCKETS: usize = SUB + (OCTAVES_END - SUB_BITS) as usize * SUB;

/// A number with one writer: loads and stores, no atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owner may.
    pub(crate) fn add(&self, by: u64) {
        self.set(self.get().wrapping_add(by));
    }

    /// Sets. Only the owner may.
    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram that is being recorded.
pub(crate) struct LiveHistogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
    max: Counter,
}

impl Default for LiveHistogram {
    fn default() -> Self {
        Self {
            buckets: [const { Counter(AtomicU64::new(0)) }; BUCKETS],
            sum: Counter::default(),
            max: Counter::default(),
        }
    }
}

impl LiveHistogram {
    /// Counts a value. Only the owner may.
    pub(crate) fn record(&self, value: u64) {
        self.buckets[bucket(value)].add(1);
        self.sum.add(value);
        if value > self.max.get() {
            self.max.set(value);
        }
    }

    /// What was counted so far. Taken beside a recording, it may lack its last value in a part.
    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: self.buckets.iter().map(Counter::get).collect(),
            sum: self.sum.get(),
            max: self.max.get(),
        }
    }
}

/// Counted values, as they were at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u64>,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum: 0, max: 0 }
    }
}

impl Histogram {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean; 0 when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or(0)
    }

    /// The largest value, exactly.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that so many percent (0 to 100) of all values do not exceed; told at most a
    /// sixteenth too high. 0 when nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let count = self.count();
        let wanted = (count as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= wanted {
                return bound;
            }
        }
        self.max
    }

    /// The buckets that hold anything: their largest value, and how many values.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count != 0);
        filled.map(|(index, count)| (upper(index).min(self.max), *count))
    }

    /// What was counted since `earlier`, a snapshot of the same histogram. The largest value stays
    /// that of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: self.sum.saturating_sub(earlier.sum),
            max: self.max,
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max)
            .finish()
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    let value = value.min((1 << OCTAVES_END) - 1);
    let Some(octave) = (u64::BITS - value.leading_zeros()).checked_sub(SUB_BITS + 1) else {
        return value as usize;
    };
    let within = (value >> octave) as usize - SUB;
    SUB + octave as usize * SUB + within
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let Some(beyond) = index.checked_sub(SUB) else { return index as u64 };
    if index == BUCKETS - 1 {
        return u64::MAX;
    }
    let (octave, within) = (beyond / SUB, beyond % SUB);
    (((SUB + within + 1) as u64) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(index)), index);
            assert_eq!(bucket(upper(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn nothing_counted_is_zero_everywhere() {
        let none = Histogram::default();
        assert_eq!((none.count(), none.sum(), none.mean(), none.max()), (0, 0, 0, 0));
        assert_eq!(none.percentile(99.0), 0);
        assert_eq!(none.buckets().count(), 0);
        assert_eq!(LiveHistogram::default().snapshot(), none);
    }

    #[test]
    fn an_interval_is_the_difference_of_two_looks() {
        let live = LiveHistogram::default();
        (0..100).for_each(|_| live.record(1000));
        let before = live.snapshot();
        (0..10).for_each(|_| live.record(5));
        let between = live.snapshot().since(&before);
        assert_eq!((between.count(), between.sum(), between.percentile(100.0)), (10, 50, 5));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values(
            mut values in proptest::collection::vec(
                prop_oneof![0..40u64, 0..100_000u64, 0..(1u64 << 39)], 1..300),
            percent in 0.0..100.0f64,
        ) {
            let live = LiveHistogram::default();
            values.iter().for_each(|value| live.record(*value));
            let seen = live.snapshot();
            values.sort_unstable();
            prop_assert_eq!(seen.count(), values.len() as u64);
            prop_assert_eq!(seen.sum(), values.iter().sum::<u64>());
            prop_assert_eq!(seen.max(), values[values.len() - 1]);
            let rank = (values.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
            let (exact, told) = (values[rank - 1], seen.percentile(percent));
            prop_assert!(told >= exact, "{} told for {}", told, exact);
            prop_assert!(told <= exact + exact / 16, "{} told for {}", told, exact);
        }
    }
}
