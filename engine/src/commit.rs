//! Group commit: turns what was staged into one durable write at a time, in batch sequence.
//!
//! Invariants:
//! - `in_flight` holds consecutive sequences, the first is `durable + 1`; durable advances only
//!   over a prefix whose writes have all succeeded (holes wait).
//! - A batch is handed to the disk once, after every slot of it was filled, and is never rewritten.
//! - Each header repeats the CRC of the header before it, and claims the durable sequence known
//!   when it was handed over.
//!
//! Crash story: A and B are in flight; B lands, A does not; the power goes. Recovery stops before A
//! and drops B although B is whole: neither was acked, as A holds back the ack of B.
//!
//! Not here: who staged (`intake`), which file (`segment`), who is told (`shard`).

use std::collections::VecDeque;
use std::io;

use crate::format::{BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, RUNS_INLINE_MAX};
use crate::format::{BatchHeader, BatchKind, Run, encode_runs};
use crate::intake::{Closed, trailer_bytes};
use crate::io::buf::{IoBuf, StagedBatch};
use crate::io::{Disk, Done, Op};
use crate::lsn::{SegmentId, ShardId};
use crate::segment::Active;

/// A batch handed to the disk.
pub(crate) struct InFlight {
    pub seq: u64,
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: u64,
    pub time_us: u64,
    pub records: u32,
    pub runs: Vec<Run>,
    /// Back from the disk, durable.
    pub landed: Option<StagedBatch>,
    /// When it came back.
    pub landed_ns: u64,
}

/// What every header of a shard has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub directory: u64,
    pub shard: ShardId,
    pub term: u32,
}

/// See the module.
pub(crate) struct Commit {
    stamp: Stamp,
    pub in_flight: VecDeque<InFlight>,
    pub durable: u64,
    /// CRC of the last header handed over.
    pub prev_crc: u32,
    /// Closed, and waiting for its slots, a segment or the disk.
    pub pending: Option<Closed>,
}

impl Commit {
    pub(crate) fn new(stamp: Stamp, durable: u64, prev_crc: u32, depth: usize) -> Self {
        let in_flight = VecDeque::with_capacity(depth);
        Self { stamp, in_flight, durable, prev_crc, pending: None }
    }

    /// Bytes on disk of the batch that waits.
    pub(crate) fn pending_bytes(&self, unit: u64) -> Option<u64> {
        self.pending.as_ref().map(|c| (c.staged.used() as u64).next_multiple_of(unit))
    }

    /// Completes the header of the waiting batch and hands it to the disk. False when the disk has
    /// no room, or slots are still being filled: then it keeps waiting.
    pub(crate) fn submit(
        &mut self,
        disk: &mut dyn Disk,
        active: &mut Active,
        token: u64,
        manifest_seq: u64,
    ) -> io::Result<bool> {
        let Some(mut closed) = self.pending.take() else { return Ok(false) };
        if !closed.staged.filled() {
            self.pending = Some(closed);
            return Ok(false);
        }
        let seq = closed.staged.seq();
        debug_assert_eq!(seq, self.durable + self.in_flight.len() as u64 + 1);
        let header = self.header(&closed, active.id, manifest_seq);
        let used = closed.staged.used();
        let Some(bytes) = closed.staged.bytes_mut() else {
            self.pending = Some(closed);
            return Ok(false);
        };
        let crc = complete(bytes, used, &header, &closed.runs, active.nonce);
        let len = bytes.len() as u64;
        let offset = active.offset;
        let Closed { staged, runs, records, time_us, staged_ns, taken_ns } = closed;
        let op = Op::Write {
            file: active.file.clone(),
            offset,
            buf: IoBuf::Staged(staged),
            persist: true,
        };
        if let Err((_, op)) = disk.submit(token | seq, op) {
            if let Op::Write { buf: IoBuf::Staged(staged), .. } = op {
                let back = Closed { staged, runs, records, time_us, staged_ns, taken_ns };
                self.pending = Some(back);
            }
            return Ok(false);
        }
        active.offset += len;
        self.prev_crc = crc;
        let segment = active.id;
        self.in_flight.push_back(InFlight {
            seq,
            segment,
            offset,
            bytes: len,
            time_us,
            records,
            runs,
            landed: None,
            landed_ns: 0,
        });
        Ok(true)
    }

    fn header(&self, closed: &Closed, segment: SegmentId, manifest_seq: u64) -> BatchHeader {
        let used = closed.staged.used();
        let runs_offset = match trailer_bytes(closed.runs.len()) {
            0 => BATCH_HEADER_BYTES,
            trailer => used - trailer,
        };
        BatchHeader {
            kind: if closed.records == 0 { BatchKind::Mark } else { BatchKind::Data },
            codec: 0,
            directory: self.stamp.directory,
            shard: self.stamp.shard,
            term: self.stamp.term,
            segment,
            seq: closed.staged.seq(),
            durable: self.durable,
            manifest_seq,
            time_us: closed.time_us,
            bytes: used as u32,
            records: closed.records,
            runs: closed.runs.len() as u32,
            runs_offset: runs_offset as u32,
            prev_crc: self.prev_crc,
            key_id: 0,
            tag: [0; 16],
            compat: 0,
            incompat: 0,
        }
    }

    /// A write has ended. The error is that of the first batch that failed: the shard's end.
    pub(crate) fn complete(&mut self, seq: u64, done: Done, now: u64) -> io::Result<()> {
        done.result?;
        let at = seq.checked_sub(self.durable + 1).map(|n| n as usize);
        let flight = at.and_then(|n| self.in_flight.get_mut(n));
        if let (Some(flight), Some(IoBuf::Staged(staged))) = (flight, done.buf) {
            flight.landed = Some(staged);
            flight.landed_ns = now;
        }
        Ok(())
    }

    /// The next batch that became durable in sequence, if any. Its bytes are frozen.
    pub(crate) fn advance(&mut self) -> Option<InFlight> {
        self.in_flight.front()?.landed.as_ref()?;
        let mut flight = self.in_flight.pop_front()?;
        if let Some(staged) = flight.landed.take() {
            staged.freeze();
        }
        self.durable = flight.seq;
        Some(flight)
    }
}

/// Writes header, run table and zeros around the records. Returns the header's CRC.
fn complete(bytes: &mut [u8], used: usize, header: &BatchHeader, runs: &[Run], nonce: u64) -> u32 {
    bytes[..BATCH_FRONT_BYTES].fill(0);
    bytes[used..].fill(0);
    if runs.len() > RUNS_INLINE_MAX {
        let at = header.runs_offset as usize;
        bytes[at..used].fill(0);
    }
    encode_runs(runs, header.seq, nonce, &mut bytes[header.runs_offset as usize..]);
    header.encode(nonce, bytes)
}
