//! Counters of a shard: plain numbers, no exporter.
//!
//! Not here: histograms per stage, which come with operations.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a shard has done since it was opened.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    batches: AtomicU64,
    marks: AtomicU64,
    records: AtomicU64,
    batch_bytes: AtomicU64,
}

impl ShardMetrics {
    pub(crate) fn batch(&self, records: u32, bytes: u64) {
        let kind = if records == 0 { &self.marks } else { &self.batches };
        kind.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(records), Ordering::Relaxed);
        self.batch_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Batches with records that became durable.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Marks written.
    #[must_use]
    pub fn marks(&self) -> u64 {
        self.marks.load(Ordering::Relaxed)
    }

    /// Records that became durable.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of batches and marks, padding included.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        self.batch_bytes.load(Ordering::Relaxed)
    }
}
