//! What a shard counts and times: meters that it writes, and the snapshot that everybody reads.
//!
//! Invariants: a meter has one writer, the shard, so a count is a load and a store; times are taken
//! per batch, never per record. Whoever looks slows nobody down.
//!
//! Not here: judging the numbers (`health`), handing them to an exporter (`publish`).

use std::io;
use std::time::Duration;

use parking_lot::Mutex;

use crate::histogram::{Counter, Histogram, LiveHistogram};
use crate::lsn::ShardId;

/// What one shard has done since it was opened, and how it is now.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShardMetrics {
    /// The shard.
    pub shard: ShardId,
    /// What carries its I/O: `io_uring`, `pread/pwrite`, `simulated`.
    pub backend: &'static str,
    /// Batches with records that became durable.
    pub batches: u64,
    /// Marks written.
    pub marks: u64,
    /// Records that became durable.
    pub records: u64,
    /// Bytes of batches and marks, padding included.
    pub batch_bytes: u64,
    /// Nanoseconds per batch: from its first record staged to the shard taking it.
    pub queue_ns: Histogram,
    /// Nanoseconds per batch: from taken to handed to the disk (callers that still fill their
    /// slots, a segment that is not ready, header and run table).
    pub batch_ns: Histogram,
    /// Nanoseconds per batch or mark: from handed to the disk to durable.
    pub device_ns: Histogram,
    /// Nanoseconds per batch: from durable to all its waiters woken (an earlier batch that is still
    /// on its way holds the ack back).
    pub ack_ns: Histogram,
    /// Bytes of each batch, padding included; marks are left out.
    pub bytes_per_batch: Histogram,
    /// Records of each batch; marks are left out.
    pub records_per_batch: Histogram,
    /// Durable writes that took longer than `slow_write_ms`.
    pub slow_writes: u64,
    /// Parts of operations that were handed to the kernel again (EINTR, EAGAIN, short transfers).
    pub resubmits: u64,
    /// Segment files created.
    pub creates: u64,
    /// Writes that filled segment files ahead of their use.
    pub fill_writes: u64,
    /// Times that a full segment gave way to the next.
    pub rolls: u64,
    /// Segments sealed.
    pub seals: u64,
    /// Mostly dead segments of which what is kept moved into a smaller file.
    pub relocations: u64,
    /// Bytes of those files, indexes among them.
    pub relocated_bytes: u64,
    /// Batches handed to the disk and not durable yet.
    pub batches_in_flight: u64,
    /// Operations at the disk, whatever they are for.
    pub operations_in_flight: u64,
    /// How long the oldest operation has been at the disk.
    pub oldest_operation: Option<Duration>,
    /// Segments that stand ready.
    pub spares: u64,
    /// Full segments that are not sealed yet.
    pub sealing: u64,
    /// Bytes of staging memory that hold records which are not durable yet.
    pub staged_bytes: u64,
    /// Bytes of staging memory, durable, that readers hold on to at this moment.
    pub pinned_bytes: u64,
    /// Bytes of staging memory there are.
    pub stage_bytes: u64,
}

/// Something that fails again and again, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// Nanoseconds of the shard's clock.
    pub since_ns: u64,
    pub why: String,
    /// No space is the reason.
    pub full: bool,
}

impl Trouble {
    pub(crate) fn new(since_ns: u64, error: &io::Error) -> Self {
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self { since_ns, why: error.to_string(), full }
    }
}

/// The meters of a shard. Only the shard writes.
#[derive(Default)]
pub(crate) struct Meters {
    pub batches: Counter,
    pub marks: Counter,
    pub records: Counter,
    pub batch_bytes: Counter,
    pub queue_ns: LiveHistogram,
    pub batch_ns: LiveHistogram,
    pub device_ns: LiveHistogram,
    pub ack_ns: LiveHistogram,
    pub bytes_per_batch: LiveHistogram,
    pub records_per_batch: LiveHistogram,
    pub slow_writes: Counter,
    pub resubmits: Counter,
    pub creates: Counter,
    pub fill_writes: Counter,
    pub rolls: Counter,
    pub seals: Counter,
    pub relocations: Counter,
    pub relocated_bytes: Counter,
    pub batches_in_flight: Counter,
    pub spares: Counter,
    pub sealing: Counter,
    /// Times on the shard's clock; 0 = never. When the last batch was handed over, the last turn
    /// began, the shard halted, sealing or the manifest began to fail.
    pub submitted_ns: Counter,
    pub turned_ns: Counter,
    pub halted_ns: Counter,
    pub seal_fails_ns: Counter,
    pub manifest_waits_ns: Counter,
    /// Why no segment can be prepared. Locked only when that changes, and by who asks.
    pub trouble: Mutex<Option<Trouble>>,
    /// What relocation met in a damaged segment, as above.
    pub rot: Mutex<Option<Trouble>>,
}

impl Meters {
    /// A batch, or a mark, became durable. `continued`: of its records, those that are the rest of
    /// one that was counted with an earlier batch.
    pub(crate) fn batch(&self, records: u32, continued: u32, bytes: u64) {
        self.batch_bytes.add(bytes);
        if records == 0 {
            self.marks.add(1);
            return;
        }
        let records = records.saturating_sub(continued);
        self.batches.add(1);
        self.records.add(u64::from(records));
        self.bytes_per_batch.record(bytes);
        self.records_per_batch.record(u64::from(records));
    }

    /// A batch that was taken then has been handed to the disk.
    pub(crate) fn submitted(&self, taken_ns: u64) {
        self.batch_ns.record(self.submitted_ns.get().saturating_sub(taken_ns));
    }

    /// An operation that prepares a segment has ended well.
    pub(crate) fn filled(&self, created: bool, wrote: bool) {
        self.creates.add(u64::from(created));
        self.fill_writes.add(u64::from(wrote));
    }

    /// All of it, but for what the shard does not count itself.
    pub(crate) fn snapshot(&self, shard: ShardId) -> ShardMetrics {
        ShardMetrics {
            shard,
            batches: self.batches.get(),
            marks: self.marks.get(),
            records: self.records.get(),
            batch_bytes: self.batch_bytes.get(),
            queue_ns: self.queue_ns.snapshot(),
            batch_ns: self.batch_ns.snapshot(),
            device_ns: self.device_ns.snapshot(),
            ack_ns: self.ack_ns.snapshot(),
            bytes_per_batch: self.bytes_per_batch.snapshot(),
            records_per_batch: self.records_per_batch.snapshot(),
            slow_writes: self.slow_writes.get(),
            resubmits: self.resubmits.get(),
            creates: self.creates.get(),
            fill_writes: self.fill_writes.get(),
            rolls: self.rolls.get(),
            seals: self.seals.get(),
            relocations: self.relocations.get(),
            relocated_bytes: self.relocated_bytes.get(),
            batches_in_flight: self.batches_in_flight.get(),
            spares: self.spares.get(),
            sealing: self.sealing.get(),
            ..ShardMetrics::default()
        }
    }
}

/// Keeps when something began that is so now; 0 once it is not.
pub(crate) fn since(counter: &Counter, is_so: bool, now: u64) {
    match (is_so, counter.get()) {
        (true, 0) => counter.set(now.max(1)),
        (true, _) | (false, 0) => {}
        (false, _) => counter.set(0),
    }
}
