//! What may happen next in a simulated life, chosen by the seed.
//!
//! Not here: doing it (`world`).

use sapwood::io::sim::Rng;

/// One step of a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Append this many records, of up to this many bytes each, to a log.
    Append {
        /// Which log.
        log: usize,
        /// Records in one append.
        records: usize,
        /// Longest payload.
        bytes: usize,
    },
    /// Append to several logs at once, all or nothing.
    Atomic {
        /// Appends in it.
        members: usize,
        /// Longest payload.
        bytes: usize,
    },
    /// Open a new writer, which fences the one there is.
    Fence {
        /// Which log.
        log: usize,
    },
    /// Append through the writer that was fenced.
    AppendFenced {
        /// Which log.
        log: usize,
    },
    /// Turn the shards.
    Turn {
        /// How often.
        times: usize,
        /// How long each may park, in microseconds.
        wait_us: u64,
    },
    /// Look at what was acked.
    Collect,
    /// Read a log from some place.
    Read {
        /// Which log.
        log: usize,
        /// From this share of it, in percent.
        from: u64,
        /// At most so many records.
        limit: u64,
    },
    /// Truncate a log at this share of what is left of it, in percent.
    Truncate {
        /// Which log.
        log: usize,
        /// How much of it goes.
        share: u64,
    },
    /// Truncate all logs at their ends: segments come free.
    TruncateAll,
    /// Append one record if the log ends where it does, or somewhere else.
    AppendIf {
        /// Which log.
        log: usize,
        /// How far from the tail it is expected; 0: rightly.
        off: i64,
    },
    /// Append one record without a promise.
    AppendRelaxed {
        /// Which log.
        log: usize,
    },
    /// Have all that was staged made durable.
    Flush {
        /// Which log.
        log: usize,
    },
    /// Cut a log's suffix, at this share of what is left of it, in percent.
    Cut {
        /// Which log.
        log: usize,
        /// How much of it stays.
        share: u64,
    },
    /// Go on with the reader that stands in a log, or put one there.
    ReadOn {
        /// Which log.
        log: usize,
        /// At most so many records.
        limit: u64,
    },
    /// Collect what no log needs.
    Gc,
    /// Truncate all logs but this at their ends and collect: what it has in old segments moves.
    Thin {
        /// Which log stays.
        log: usize,
    },
    /// Take a hold on all that there is.
    Hold,
    /// Give all holds back.
    Release,
    /// Copy what is sealed into the archive, and say so.
    Tier,
    /// Make a backup, and open it.
    Backup,
    /// Create logs.
    Create {
        /// How many.
        count: usize,
    },
    /// Delete a log; its name is free for another.
    Delete {
        /// Which log.
        log: usize,
    },
    /// Move a log's durable cursor, or delete it.
    MoveCursor {
        /// Which log.
        log: usize,
        /// To this share of what is durable, in percent; above 100: delete it.
        to: u64,
    },
}

/// How a session of an engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The power fails between two operations.
    Crash,
    /// The power fails in the n-th I/O operation from here, whatever the engine does by then.
    Cut(u64),
    /// A clean close.
    Close,
    /// Handles and drivers are dropped.
    Drop,
}

/// Chooses the next step for a directory with `logs` logs.
pub fn next(rng: &mut Rng, logs: usize) -> Op {
    if logs == 0 {
        return Op::Create { count: 3 + rng.below(3) as usize };
    }
    let log = rng.below(logs as u64) as usize;
    match rng.below(121) {
        0..5 => {
            let bytes = if rng.below(6) == 0 { 9_000 } else { 300 };
            Op::Atomic { members: 1 + rng.below(4) as usize, bytes }
        }
        5..54 => {
            let bytes = match rng.below(20) {
                0 => 50_000,
                // More than a batch of the device.
                1 => 150_000,
                2..5 => 8_000,
                _ => 400,
            };
            let records = if rng.below(4) == 0 { 1 + rng.below(6) as usize } else { 1 };
            Op::Append { log, records, bytes: bytes / records }
        }
        54..73 => {
            let wait_us = if rng.below(6) == 0 { 20_000 } else { rng.below(300) };
            Op::Turn { times: 1 + rng.below(12) as usize, wait_us }
        }
        73..81 => Op::Collect,
        81..83 => Op::MoveCursor { log, to: rng.below(110) },
        83..91 => Op::Read { log, from: rng.below(101), limit: 1 + rng.below(200) },
        91..94 => Op::Fence { log },
        94..96 => Op::AppendFenced { log },
        96..97 => Op::Read { log, from: 0, limit: u64::MAX / 2 },
        97..98 => Op::Truncate { log, share: rng.below(101) },
        98 if rng.below(3) == 0 => Op::Delete { log },
        100..102 => Op::Cut { log, share: 100 - rng.below(101) * rng.below(101) / 100 },
        102..105 => Op::AppendIf { log, off: [0, 0, -1, 1][rng.below(4) as usize] },
        105..108 => Op::AppendRelaxed { log },
        108..110 => Op::Flush { log },
        110..115 => Op::ReadOn { log, limit: 1 + rng.below(100) },
        115 => Op::Tier,
        116..118 => Op::Gc,
        118 if rng.below(2) == 0 => Op::Hold,
        119 => Op::Release,
        120 if rng.below(8) == 0 => Op::Backup,
        98 if rng.below(4) == 0 => Op::Gc,
        99 if rng.below(3) == 0 => Op::TruncateAll,
        99 if rng.below(2) == 0 => Op::Thin { log },
        _ if logs < 12 => Op::Create { count: 1 + rng.below(3) as usize },
        _ => Op::Collect,
    }
}

/// Chooses how a session ends.
pub fn end(rng: &mut Rng) -> End {
    match rng.below(20) {
        0..7 => End::Crash,
        7..16 => End::Cut(1 + rng.below(60)),
        16..18 => End::Close,
        _ => End::Drop,
    }
}
