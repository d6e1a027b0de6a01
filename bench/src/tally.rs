//! What a thread of a load counted: operations, their latencies, and how both went over time.
//!
//! Invariant: adding two tallies gives what one thread would have counted.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::meter::Cost;
use crate::sample::{Sample, Slice, histogram};

/// Parts of a window that are told by themselves.
const SLICES: usize = 60;
/// Bounds of a slice's latencies, nanoseconds; one digit is enough for a picture.
const SLICE_NS: (u64, u64) = (1000, 60_000_000_000);

/// Records submitted, by worker and log.
#[derive(Clone, Debug, Default)]
pub struct Written(pub Vec<Vec<u32>>);

/// The counts of one thread.
pub(crate) struct Tally {
    operations: u64,
    bytes: u64,
    latency: Histogram<u64>,
    width: Duration,
    /// When the first operation was counted.
    begin: Option<Duration>,
    slices: Vec<(u64, Histogram<u32>)>,
}

impl Tally {
    /// For a window so long.
    pub(crate) fn new(window: Duration) -> Tally {
        let width = (window / SLICES as u32).max(Duration::from_nanos(1));
        Tally {
            operations: 0,
            bytes: 0,
            latency: histogram(),
            width,
            begin: None,
            slices: Vec::new(),
        }
    }

    /// Itself, with an empty one left behind.
    pub(crate) fn take(&mut self) -> Tally {
        let empty = Tally::new(self.width * SLICES as u32);
        std::mem::replace(self, empty)
    }

    /// Counts an operation that is durable; one without a start is not timed.
    pub(crate) fn count(
        &mut self,
        start: Option<Duration>,
        bytes: u64,
        now: impl FnOnce() -> Duration,
    ) {
        self.operations += 1;
        self.bytes += bytes;
        let Some(start) = start else { return };
        let now = now();
        let took = now.saturating_sub(start).as_nanos() as u64;
        self.latency.saturating_record(took);
        let since = now.saturating_sub(*self.begin.get_or_insert(now));
        let at = (since.as_nanos() / self.width.as_nanos()) as usize;
        let at = at.min(SLICES - 1);
        while self.slices.len() <= at {
            self.slices.push((0, slice_histogram()));
        }
        let (operations, latency) = &mut self.slices[at];
        *operations += 1;
        latency.saturating_record(took);
    }

    /// Adds what another thread counted in the same window.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        // Same bounds, so neither can be refused.
        let _ = self.latency.add(&other.latency);
        for (at, (operations, latency)) in other.slices.iter().enumerate() {
            if self.slices.len() <= at {
                self.slices.push((0, slice_histogram()));
            }
            self.slices[at].0 += operations;
            let _ = self.slices[at].1.add(latency);
        }
    }

    /// The run, at this cost.
    pub(crate) fn into_sample(self, cost: Cost) -> Sample {
        // Where only some were timed, the rest is spread as those are.
        let timed: u64 = self.slices.iter().map(|(operations, _)| operations).sum();
        let scale = self.operations as f64 / timed.max(1) as f64;
        let width = self.width.as_secs_f64();
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let slice = |(at, (operations, latency)): (usize, &(u64, Histogram<u32>))| Slice {
            seconds: (at as f64 + 0.5) * width,
            rate: *operations as f64 * scale / width,
            p50_us: us(latency.value_at_quantile(0.5)),
            p99_us: us(latency.value_at_quantile(0.99)),
            max_us: us(latency.max()),
        };
        let slices = self.slices.iter().enumerate().map(slice).collect();
        Sample { slices, ..Sample::new(self.operations, self.bytes, cost, self.latency) }
    }
}

fn slice_histogram() -> Histogram<u32> {
    match Histogram::new_with_bounds(SLICE_NS.0, SLICE_NS.1, 1) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Metric;

    #[test]
    fn two_tallies_are_one() {
        let ms = Duration::from_millis;
        let (mut one, mut two) = (Tally::new(ms(600)), Tally::new(ms(600)));
        for at in 0..600 {
            let tally = if at % 2 == 0 { &mut one } else { &mut two };
            // The second half of the window is slower.
            let took = if at < 300 { ms(1) } else { ms(5) };
            tally.count(Some(ms(at)), 10, || ms(at) + took);
        }
        one.add(&two);
        let sample = one.into_sample(Cost { seconds: 0.6, ..Cost::default() });
        assert_eq!((sample.operations, sample.bytes), (600, 6000));
        assert_eq!(sample.get(Metric::Rate), Some(1000.0));
        assert_eq!(sample.slices.len(), SLICES);
        assert!((sample.slices[3].p50_us - 1000.0).abs() < 100.0);
        assert!((sample.slices[50].p50_us - 5000.0).abs() < 500.0);
        let rates: f64 = sample.slices.iter().map(|slice| slice.rate).sum();
        assert!((rates / SLICES as f64 - 1000.0).abs() < 1.0);
    }
}
