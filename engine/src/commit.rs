//! Group commit: turns what was staged into one durable write at a time, in batch sequence.
//!
//! Invariants:
//! - `in_flight` holds consecutive sequences, behind `durable` and `parts`; durable advances only
//!   over a prefix whose writes have all succeeded (holes wait).
//! - A batch is handed to the disk once, after every slot of it was filled, and is never rewritten.
//! - Each header repeats the CRC of the header before it, and claims the durable sequence known
//!   when it was handed over.
//!
//! Crash story: A and B are in flight; B lands, A does not; the power goes. Recovery stops before A
//! and drops B although B is whole: neither was acked, as A holds back the ack of B.
//!
//! - A span's batches are durable when its last is, all at once: `durable`, which headers claim,
//!   never stands inside one. So nothing ever claims a part, and a part is a torn tail.
//!
//! Crash story: of a record in three batches two land, a header claims them, the power goes.
//! Recovery would have to keep what was claimed and has no end.
//!
//! Not here: who staged (`intake`), which file (`segment`), who is told (`shard`).

use std::collections::VecDeque;
use std::io;

use crate::format::{BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, SPAN_BATCHES_MAX};
use crate::format::{
    BATCH_PACKED_RUNS, BatchHeader, BatchKind, Run, encode_packed_runs, encode_runs,
};
use crate::intake::{Closed, Intake};
use crate::io::buf::{IoBuf, StagedBatch};
use crate::io::{Disk, Done, Op};
use crate::lsn::{SegmentId, ShardId};
use crate::metrics::Meters;
use crate::planted::{Bug, planted};
use crate::segment::Active;
use crate::view::{Durable, View};

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
    /// Its span goes on.
    pub continues: bool,
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
    /// Batches of a span, on the medium; its last is not yet. Emptied by who publishes them.
    pub parts: Vec<InFlight>,
    pub durable: u64,
    /// CRC of the last header handed over.
    pub prev_crc: u32,
    /// Closed, and waiting for its slots, a segment or the disk.
    pub pending: Option<Closed>,
}

impl Commit {
    pub(crate) fn new(stamp: Stamp, durable: u64, prev_crc: u32, depth: usize) -> Self {
        let in_flight = VecDeque::with_capacity(depth);
        let parts = Vec::with_capacity(SPAN_BATCHES_MAX as usize);
        Self { stamp, in_flight, parts, durable, prev_crc, pending: None }
    }

    /// The last batch that is durable, or on the medium as a part.
    fn landed(&self) -> u64 {
        self.durable + self.parts.len() as u64
    }

    /// The last batch that was handed over.
    pub(crate) fn submitted(&self) -> u64 {
        self.landed() + self.in_flight.len() as u64
    }

    /// Bytes on disk of the batch that waits, and of the rest of its span: they share a segment.
    pub(crate) fn pending_bytes(&self, unit: u64) -> Option<u64> {
        let own = |c: &Closed| (c.staged.used() as u64).next_multiple_of(unit);
        self.pending.as_ref().map(|closed| own(closed) + closed.span.rest_bytes)
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
        debug_assert_eq!(seq, self.submitted() + 1);
        let header = self.header(&closed, active.id, manifest_seq);
        let used = closed.staged.used();
        let Some(bytes) = closed.staged.bytes_mut() else {
            self.pending = Some(closed);
            return Ok(false);
        };
        let crc = complete(bytes, used, &header, &closed.runs, active.nonce);
        let len = bytes.len() as u64;
        let offset = active.offset;
        let Closed { staged, runs, records, time_us, staged_ns, taken_ns, span, table } = closed;
        let op = Op::Write {
            file: active.file.clone(),
            offset,
            buf: IoBuf::Staged(staged),
            persist: !planted(Bug::BatchNotSynced),
        };
        if let Err((_, op)) = disk.submit(token | seq, op) {
            if let Op::Write { buf: IoBuf::Staged(staged), .. } = op {
                let back =
                    Closed { staged, runs, records, time_us, staged_ns, taken_ns, span, table };
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
            continues: span.continues,
        });
        Ok(true)
    }

    fn header(&self, closed: &Closed, segment: SegmentId, manifest_seq: u64) -> BatchHeader {
        let used = closed.staged.used();
        let runs_offset = match closed.table.bytes {
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
            durable: match closed.records {
                0 if planted(Bug::MarkWithoutClaim) => 0,
                _ => self.durable.saturating_sub(u64::from(planted(Bug::WatermarkOffByOne))),
            },
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
            incompat: BATCH_PACKED_RUNS * u32::from(closed.table.packed),
            part: closed.span.part,
            continues: closed.span.continues,
        }
    }

    /// A write has ended. The error is that of the first batch that failed: the shard's end.
    pub(crate) fn complete(&mut self, seq: u64, done: Done, now: u64) -> io::Result<()> {
        if !planted(Bug::FailedWriteAcked) {
            done.result?;
        }
        let at = seq.checked_sub(self.landed() + 1).map(|n| n as usize);
        let flight = at.and_then(|n| self.in_flight.get_mut(n));
        if let (Some(flight), Some(IoBuf::Staged(staged))) = (flight, done.buf) {
            flight.landed = Some(staged);
            flight.landed_ns = now;
        }
        Ok(())
    }

    /// Whether the next batch in sequence became durable, or the next span: it is in `parts` then,
    /// which the caller empties, its bytes frozen.
    pub(crate) fn advance(&mut self) -> bool {
        let early = planted(Bug::AckBeforeDurable)
            || planted(Bug::HoleIgnored) && self.in_flight.iter().any(has_landed);
        while let Some(mut flight) = self.in_flight.pop_front_if(|f| early || has_landed(f)) {
            if let Some(staged) = flight.landed.take() {
                staged.freeze();
            }
            let (seq, continues) = (flight.seq, flight.continues);
            self.parts.push(flight);
            if !continues || planted(Bug::SpanInParts) {
                self.durable = seq;
                return true;
            }
        }
        false
    }

    /// Shows readers the batch that was handed over last: what no code but a bug on purpose does.
    pub(crate) fn show_early(&self, view: &View) {
        view.publish(self.in_flight.back().into_iter().map(as_durable));
    }

    /// Shows readers what `advance` found; gives how many records begin in it, none in a mark only.
    pub(crate) fn publish(&mut self, view: &View, meters: &Meters, intake: &Intake) -> u32 {
        view.publish(self.parts.iter().map(as_durable));
        let mut records = 0u32;
        for batch in self.parts.drain(..) {
            let continued = batch.runs.iter().filter(|run| run.continued).count() as u32;
            records = records.saturating_add(batch.records.saturating_sub(continued));
            meters.batch(batch.records, continued, batch.bytes);
            intake.recycle(batch.runs);
        }
        records
    }
}

fn as_durable(batch: &InFlight) -> Durable<'_> {
    Durable {
        segment: batch.segment,
        offset: batch.offset,
        bytes: batch.bytes,
        seq: batch.seq,
        time_us: batch.time_us,
        runs: &batch.runs,
    }
}

fn has_landed(flight: &InFlight) -> bool {
    flight.landed.is_some()
}

/// Writes header, run table and zeros around the records. Returns the header's CRC.
fn complete(bytes: &mut [u8], used: usize, header: &BatchHeader, runs: &[Run], nonce: u64) -> u32 {
    bytes[..BATCH_FRONT_BYTES].fill(0);
    if !planted(Bug::PaddingLeaks) {
        bytes[used..].fill(0);
    }
    let at = header.runs_offset as usize;
    if header.packs_runs() {
        encode_packed_runs(runs, header.seq, nonce, &mut bytes[at..used]);
    } else {
        encode_runs(runs, header.seq, nonce, &mut bytes[at..]);
    }
    header.encode(nonce, bytes)
}
