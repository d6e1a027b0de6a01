//! What shards count, handed to the `metrics` facade whenever its owner calls.
//!
//! Invariants: no thread and no timer of its own; shards know nothing of it. Counters are published
//! as they stand, histograms by what was added since the last call: what was counted between two
//! calls is handed over exactly once.
//!
//! Not here: what is counted (`metrics`), where it goes (whatever recorder the program installed).

use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{gauge, histogram};

use crate::engine::Engine;
use crate::histogram::Histogram;
use crate::metrics::ShardMetrics;

type Count = fn(&ShardMetrics) -> u64;
type Spread = fn(&ShardMetrics) -> &Histogram;

/// Numbers that only grow.
const COUNTERS: &[(&str, Count, &str)] = &[
    ("sapwood_batches_total", |m| m.batches, "batches that became durable"),
    ("sapwood_marks_total", |m| m.marks, "marks written"),
    ("sapwood_records_total", |m| m.records, "records that became durable"),
    ("sapwood_batch_bytes_total", |m| m.batch_bytes, "bytes of batches and marks, with padding"),
    ("sapwood_slow_writes_total", |m| m.slow_writes, "durable writes above slow_write_ms"),
    ("sapwood_resubmits_total", |m| m.resubmits, "parts of operations handed over again"),
    ("sapwood_creates_total", |m| m.creates, "segment files created"),
    ("sapwood_fill_writes_total", |m| m.fill_writes, "writes that filled segments ahead"),
    ("sapwood_rolls_total", |m| m.rolls, "full segments that gave way to the next"),
    ("sapwood_seals_total", |m| m.seals, "segments sealed"),
    ("sapwood_relocations_total", |m| m.relocations, "mostly dead segments made smaller"),
    ("sapwood_relocated_bytes_total", |m| m.relocated_bytes, "file bytes that those take now"),
];

/// Numbers that stand for now.
const GAUGES: &[(&str, Count, &str)] = &[
    ("sapwood_batches_in_flight", |m| m.batches_in_flight, "batches handed over, not durable yet"),
    ("sapwood_operations_in_flight", |m| m.operations_in_flight, "operations at the disk"),
    ("sapwood_spares", |m| m.spares, "segments that stand ready"),
    ("sapwood_sealing", |m| m.sealing, "full segments that are not sealed yet"),
    ("sapwood_staged_bytes", |m| m.staged_bytes, "staging memory with what is not durable yet"),
    ("sapwood_pinned_bytes", |m| m.pinned_bytes, "staging memory held by readers now"),
    ("sapwood_stage_bytes", |m| m.stage_bytes, "staging memory there is"),
];

/// How long the oldest operation has been at the disk, in seconds.
const OLDEST: &str = "sapwood_oldest_operation_seconds";

/// Times per batch, published in seconds.
const STAGES: &[(&str, Spread, &str)] = &[
    ("sapwood_queue_seconds", |m| &m.queue_ns, "per batch: first record staged to taken"),
    ("sapwood_batch_seconds", |m| &m.batch_ns, "per batch: taken to handed to the disk"),
    ("sapwood_device_seconds", |m| &m.device_ns, "per batch or mark: handed over to durable"),
    ("sapwood_ack_seconds", |m| &m.ack_ns, "per batch: durable to all waiters woken"),
];

/// Sizes per batch.
const SIZES: &[(&str, Spread, &str)] = &[
    ("sapwood_bytes_per_batch", |m| &m.bytes_per_batch, "bytes of each batch, with padding"),
    ("sapwood_records_per_batch", |m| &m.records_per_batch, "records of each batch"),
];

/// Publishes the metrics of one engine, by shard. Call [`publish`](Self::publish) as often as the
/// recorder is scraped, from any thread but one at a time.
#[derive(Debug, Default)]
pub struct Publisher {
    labels: Vec<(String, String)>,
    last: Vec<ShardMetrics>,
}

impl Publisher {
    /// A publisher whose numbers carry these labels besides `shard`: a program with several engines
    /// tells them apart so.
    #[must_use]
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self { labels: labels.iter().map(own).collect(), last: Vec::new() }
    }

    /// Tells the recorder what each name means, once it is installed.
    pub fn describe(&self) {
        for (name, _, what) in COUNTERS {
            describe_counter!(*name, Unit::Count, *what);
        }
        for (name, _, what) in GAUGES {
            describe_gauge!(*name, Unit::Count, *what);
        }
        describe_gauge!(OLDEST, Unit::Seconds, "how long the oldest operation is at the disk");
        for (name, _, what) in STAGES {
            describe_histogram!(*name, Unit::Seconds, *what);
        }
        for (name, _, what) in SIZES {
            describe_histogram!(*name, Unit::Count, *what);
        }
    }

    /// Hands the numbers of now, and what was added to histograms since the last call, to the
    /// recorder that the program installed; without one, to nobody.
    pub fn publish(&mut self, engine: &Engine) {
        let now = engine.metrics();
        for (at, shard) in now.iter().enumerate() {
            let fresh = ShardMetrics::default();
            let last = self.last.get(at).unwrap_or(&fresh);
            let labels = self.labels_of(shard);
            for (name, count, _) in COUNTERS {
                counter!(*name, labels.clone()).absolute(count(shard));
            }
            for (name, count, _) in GAUGES {
                gauge!(*name, labels.clone()).set(count(shard) as f64);
            }
            let oldest = shard.oldest_operation.unwrap_or_default();
            gauge!(OLDEST, labels.clone()).set(oldest.as_secs_f64());
            for (spreads, unit) in [(STAGES, 1e-9), (SIZES, 1.0)] {
                for (name, spread, _) in spreads {
                    let added = spread(shard).since(spread(last));
                    let into = histogram!(*name, labels.clone());
                    for (value, count) in added.buckets() {
                        into.record_many(value as f64 * unit, count as usize);
                    }
                }
            }
        }
        self.last = now;
    }

    fn labels_of(&self, shard: &ShardMetrics) -> Vec<Label> {
        let own = self.labels.iter().map(|(key, value)| Label::new(key.clone(), value.clone()));
        own.chain([Label::new("shard", shard.shard.to_string())]).collect()
    }
}
