//! The numbers that name things, and the watermarks drawn once.
//!
//! ```text
//!   start ──────────────► acked ≤ durable ≤ staged            (per log, in LSNs)
//!     │ kept for readers    │ a power cut     │ in memory,
//!     │                     │ cannot take it  │ no promise    tail = the next LSN to be assigned
//!   tiered ≤ sealed ≤ durable      checkpoint ≤ durable       (per shard, in batch sequence)
//! ```
//!
//! `durable` belongs to the shard and counts batches; a log's durable LSN follows from it.
//! Not here: who advances them (`commit`), who waits for them (`intake`, `reader`).

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A record's place in its log: dense from 0 within the log, whatever the epoch.
    Lsn(u64), ""
);
number!(
    /// One writer of one log. Opening a writer takes the next epoch; older ones are fenced.
    Epoch(u32), ""
);
number!(
    /// A log's number in its directory, never reused: shard in the high 16 bits, counter below.
    LogId(u64), ""
);
number!(
    /// One thread with one ring, its segments, and the logs that live on it.
    ShardId(u16), ""
);
number!(
    /// One prewritten file of batches. Dense per shard, in the order in which they are used.
    SegmentId(u64), ""
);

impl Lsn {
    /// The LSN that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogId {
    /// Joins a shard and its own counter.
    #[must_use]
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self((u64::from(shard.0) << 48) | (counter & ((1 << 48) - 1)))
    }

    /// The shard that this log lives on, for ever.
    #[must_use]
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 48) as u16)
    }

    /// The log's counter within its shard.
    #[must_use]
    pub fn counter(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

/// (epoch, LSN): never names two records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The writer that appended the record.
    pub epoch: Epoch,
    /// The record's place in its log.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.lsn)
    }
}
