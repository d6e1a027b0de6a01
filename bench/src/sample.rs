//! One timed run and its numbers, and what several runs say together.
//!
//! Invariants: latency is in nanoseconds; an operation counts only when it was acked inside the
//! window; a spread is a median with the least and the greatest beside it, never a mean.
//!
//! Not here: how a run is driven (`load`, `device`), how it is printed (`report`).

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::meter::Cost;

/// The longest latency that is told apart from any longer one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// A histogram for latencies in nanoseconds, to three digits.
///
/// # Panics
/// Never: the bounds are constants that the histogram accepts.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}

/// One timed run of one subject.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Operations acked (or delivered, or blocks read) inside the window.
    pub operations: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Wall time, CPU, switches and device counts of the window.
    pub cost: Cost,
    /// Latency of operations, nanoseconds; empty where there is none to tell.
    pub latency: Histogram<u64>,
    /// Greatest growth of the resident size, for runs that look at it.
    pub peak_rss: Option<u64>,
    /// The window in parts, in order; empty where nobody looked.
    pub slices: Vec<Slice>,
    /// Where the time of batches went; of the engine's runs.
    pub stages: Option<Stages>,
    /// Records that were read back after the run and found whole, in order and complete.
    pub verified: Option<u64>,
}

/// A part of a window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slice {
    /// Its middle, seconds since the window began.
    pub seconds: f64,
    /// Operations a second in it.
    pub rate: f64,
    /// Median latency in it, to one digit.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// The stages of a batch, nanoseconds each: see the engine's metrics.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// Staged, not taken by the shard yet.
    pub queue: sapwood::Histogram,
    /// Taken, not handed to the disk yet.
    pub batch: sapwood::Histogram,
    /// At the disk.
    pub device: sapwood::Histogram,
    /// Durable, its waiters not all woken yet.
    pub ack: sapwood::Histogram,
    /// Records of each batch, which are no nanoseconds.
    pub records: sapwood::Histogram,
}

impl Stages {
    /// What happened between two looks at the only shard.
    #[must_use]
    pub fn between(before: &sapwood::ShardMetrics, after: &sapwood::ShardMetrics) -> Stages {
        Stages {
            queue: after.queue_ns.since(&before.queue_ns),
            batch: after.batch_ns.since(&before.batch_ns),
            device: after.device_ns.since(&before.device_ns),
            ack: after.ack_ns.since(&before.ack_ns),
            records: after.records_per_batch.since(&before.records_per_batch),
        }
    }

    /// Those that are nanoseconds, by name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &sapwood::Histogram); 4] {
        [
            ("queue", &self.queue),
            ("batch", &self.batch),
            ("device", &self.device),
            ("ack", &self.ack),
        ]
    }
}

/// A number that a claim or a table can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Operations a second.
    Rate,
    /// Megabytes (10^6) a second.
    Bandwidth,
    /// Median latency, µs.
    P50,
    /// 99th percentile, µs.
    P99,
    /// 99.9th percentile, µs.
    P999,
    /// 99.99th percentile, µs.
    P9999,
    /// The longest latency, µs.
    Max,
    /// CPU of the process per operation, µs.
    Cpu,
    /// Context switches per operation.
    Switches,
    /// Writes the device saw, per operation.
    Writes,
    /// Device flushes per operation.
    Flushes,
    /// Bytes the device wrote, per payload byte.
    Amplification,
    /// Peak growth of the resident size, MB.
    Rss,
}

impl Metric {
    /// Name with unit, as printed.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Metric::Rate => "ops/s",
            Metric::Bandwidth => "MB/s",
            Metric::P50 => "p50 us",
            Metric::P99 => "p99 us",
            Metric::P999 => "p99.9 us",
            Metric::P9999 => "p99.99 us",
            Metric::Max => "max us",
            Metric::Cpu => "CPU us/op",
            Metric::Switches => "switches/op",
            Metric::Writes => "writes/op",
            Metric::Flushes => "flushes/op",
            Metric::Amplification => "dev B/B",
            Metric::Rss => "RSS MB",
        }
    }
}

impl Sample {
    /// A run of which nothing else is known.
    #[must_use]
    pub fn new(operations: u64, bytes: u64, cost: Cost, latency: Histogram<u64>) -> Sample {
        Sample {
            operations,
            bytes,
            cost,
            latency,
            peak_rss: None,
            slices: Vec::new(),
            stages: None,
            verified: None,
        }
    }

    /// The value of `metric`, where this run has one.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let percentile = |quantile: f64| {
            let known = !self.latency.is_empty();
            known.then(|| self.latency.value_at_quantile(quantile) as f64 / 1000.0)
        };
        let per = |total: f64, count: u64| (count > 0).then(|| total / count as f64);
        let per_second = |total: f64| (self.cost.seconds > 0.0).then(|| total / self.cost.seconds);
        match metric {
            Metric::Rate => per_second(self.operations as f64),
            Metric::Bandwidth => per_second(self.bytes as f64 / 1e6),
            Metric::P50 => percentile(0.5),
            Metric::P99 => percentile(0.99),
            Metric::P999 => percentile(0.999),
            Metric::P9999 => percentile(0.9999),
            Metric::Max => percentile(1.0),
            Metric::Cpu => per(self.cost.cpu_us as f64, self.operations),
            Metric::Switches => per(self.cost.switches as f64, self.operations),
            Metric::Writes => per(self.cost.device?.writes as f64, self.operations),
            Metric::Flushes => per(self.cost.device?.flushes as f64, self.operations),
            Metric::Amplification => per(self.cost.device?.bytes as f64, self.bytes),
            Metric::Rss => self.peak_rss.map(|bytes| bytes as f64 / 1e6),
        }
    }
}

/// The median of some rounds with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; of an even count the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

/// The spread of `values`; `None` of none, or when one of them is not a number.
#[must_use]
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    if sorted.iter().any(|value| value.is_nan()) {
        return None;
    }
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    Some(Spread { min, median, max })
}

/// The spread of one metric over the rounds of a subject.
#[must_use]
pub fn over_rounds(rounds: &[Sample], metric: Metric) -> Option<Spread> {
    let values: Option<Vec<f64>> = rounds.iter().map(|sample| sample.get(metric)).collect();
    spread(&values?)
}

/// The spread of `ours / theirs`, taken round by round, so that what disturbs a round disturbs
/// both sides of its ratio.
#[must_use]
pub fn ratio_over_rounds(ours: &[Sample], theirs: &[Sample], metric: Metric) -> Option<Spread> {
    let ratios: Option<Vec<f64>> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| Some(a.get(metric)? / b.get(metric).filter(|value| *value > 0.0)?))
        .collect();
    spread(&ratios?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(operations: u64, latency_us: &[u64]) -> Sample {
        let mut latency = histogram();
        for micros in latency_us {
            latency.record(micros * 1000).unwrap();
        }
        let cost =
            Cost { seconds: 2.0, cpu_us: operations * 5, switches: operations, device: None };
        Sample::new(operations, operations * 1000, cost, latency)
    }

    #[test]
    fn percentiles_are_those_of_the_latencies() {
        let all: Vec<u64> = (1..=1000).collect();
        let sample = sample(1000, &all);
        for (metric, wanted) in [(Metric::P50, 500.0), (Metric::P99, 990.0), (Metric::P999, 999.0)]
        {
            let value = sample.get(metric).unwrap();
            assert!((value - wanted).abs() / wanted < 0.002, "{metric:?} {value}");
        }
        assert_eq!(sample.get(Metric::Rate), Some(500.0));
        assert_eq!(sample.get(Metric::Bandwidth), Some(0.5));
        assert_eq!(sample.get(Metric::Cpu), Some(5.0));
        assert_eq!(sample.get(Metric::Flushes), None, "no device, no number");
    }

    #[test]
    fn an_empty_histogram_has_no_percentile() {
        assert_eq!(sample(10, &[]).get(Metric::P50), None);
    }

    #[test]
    fn the_spread_is_median_and_ends() {
        let odd = spread(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 2.0]).unwrap().median, 3.0);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        let ours = [sample(200, &[1]), sample(100, &[1])];
        let theirs = [sample(100, &[1]), sample(50, &[1])];
        let ratio = ratio_over_rounds(&ours, &theirs, Metric::Rate).unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 2.0));
        assert_eq!(ratio_over_rounds(&ours, &[sample(0, &[])], Metric::Rate), None);
    }
}
