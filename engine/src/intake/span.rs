//! Staging what does not fit one batch: a span, batches that are kept or dropped as one.
//!
//! Invariants:
//! - All of it is staged under one hold of the lock, in batches of its own that nothing else
//!   shares, or nothing is: the room for all of them is there before the first is begun.
//! - It fits one segment, and the staging memory beside one batch: what does not is `Invalid`, and
//!   would never get room however long it waited.
//! - Whoever appended waits for the last batch alone.
//!
//! Crash story: the room for a span runs out in its middle, and the rest waits behind an append
//! that waits for an ack which the rest holds back. Hence room for all, first.
//!
//! Not here: what goes into which batch (`layout`), how a part is dropped (`commit`, `recover`).

use std::sync::Arc;

use super::layout::{Layout, Part, Piece};
use super::{Intake, Member, RoomWait, SpanPlace, Staged, Staging};
use super::{close_open, deleted, trailer_bytes};
use crate::error::{Error, Result};
use crate::format::{
    BATCH_FRONT_BYTES, Fragment, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Run, body_crc,
};
use crate::io::buf::{Slot, StageGuard};
use crate::lsn::{Epoch, LogId, Lsn};
use crate::record::{self, Records};

/// Records that are somebody else's.
struct Borrowed<'a, R>(&'a R);

impl<R: Records> Records for Borrowed<'_, R> {
    fn count(&self) -> usize {
        self.0.count()
    }
    fn part_lens(&self, index: usize) -> (usize, usize) {
        self.0.part_lens(index)
    }
    fn part(&self, index: usize) -> record::Part<'_> {
        self.0.part(index)
    }
}

/// What is decided under the lock.
struct Under<'a> {
    staged: Vec<Staged>,
    slots: Vec<Slot<'a>>,
    next: Option<Arc<RoomWait>>,
}

impl Intake {
    /// Stages one append that is larger than a batch.
    pub(super) fn stage_large<R: Records>(
        &self,
        id: LogId,
        epoch: Epoch,
        source: &R,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Staged> {
        let member = Member { id, epoch, records: Borrowed(source) };
        let staged = self.stage_span(&[member], 0, waiter)?;
        staged.first().copied().ok_or(Error::Busy)
    }

    /// Stages all members as one span, or nothing.
    pub(super) fn stage_span<R: Records>(
        &self,
        members: &[Member<R>],
        flags: u8,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Vec<Staged>> {
        let layout = Layout::of(members, self.ring.batch_max())?;
        self.check_size(&layout.parts)?;
        let Under { staged, slots, next } = self.reserve_span(members, &layout, waiter)?;
        let mut last = false;
        for (part, mut slot) in layout.parts.iter().zip(slots) {
            let mut out = slot.bytes();
            for piece in &layout.pieces[part.pieces.clone()] {
                let member = &members[piece.member as usize];
                let (own, rest) = out.split_at_mut(piece.framed());
                fill(own, member, piece, &staged[piece.member as usize], flags);
                out = rest;
            }
            last |= slot.finish();
        }
        self.wake_shard(last, 0);
        if let Some(next) = next {
            next.wake();
        }
        Ok(staged)
    }

    fn check_size(&self, parts: &[Part]) -> Result<()> {
        let bytes: usize = parts.iter().map(|part| part.padded(self.unit)).sum();
        if bytes as u64 > self.span_bytes_max {
            return Err(Error::Invalid(format!(
                "an append of {bytes} bytes with its headers; a segment of this directory holds {}",
                self.span_bytes_max
            )));
        }
        // What wrapping skips is less than a batch.
        let need = bytes + self.ring.batch_max();
        if need > self.ring.arena().bytes {
            return Err(Error::Invalid(format!(
                "an append of {bytes} bytes with its headers does not fit the staging memory: open \
                 the engine with stage_bytes of at least {need}"
            )));
        }
        Ok(())
    }

    fn reserve_span<R: Records>(
        &self,
        members: &[Member<R>],
        layout: &Layout,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Under<'_>> {
        // Allocated before the lock is taken.
        let mut staged = Vec::with_capacity(members.len());
        let mut slots = Vec::with_capacity(layout.parts.len());
        let mut bytes = vec![0; members.len()];
        layout.pieces.iter().for_each(|piece| bytes[piece.member as usize] += piece.framed());
        let (now_us, now_ns) = (self.clock.wall_us(), self.clock.mono_ns());
        let mut guard = self.ring.lock();
        self.in_line(&guard, waiter)?;
        if let Some(error) = guard.refused(self) {
            return Err(error);
        }
        for (member, bytes) in members.iter().zip(&bytes) {
            self.may(&guard, member.id.counter() as usize, member.epoch, *bytes)
                .map_err(|error| deleted(member.id, error))?;
        }
        if guard.open_bytes() != 0 && !close_open(&mut guard, SpanPlace::default()) {
            return Err(Error::Busy);
        }
        let padded = |part: &Part| part.padded(self.unit);
        let cells = guard.closed.capacity() - guard.closed.len();
        let room =
            layout.parts.len() <= cells && guard.make_room_for(layout.parts.iter().map(padded));
        if !room {
            return Err(Error::Busy);
        }
        let mut rest: usize = layout.parts.iter().map(padded).sum();
        for (at, part) in layout.parts.iter().enumerate() {
            rest -= padded(part);
            slots.push(reserve_part(&mut guard, part));
            (guard.time_us, guard.staged_ns) = (now_us, now_ns);
            for piece in &layout.pieces[part.pieces.clone()] {
                let member = &members[piece.member as usize];
                let given = self.assign_piece(&mut guard, member.id, member.epoch, piece);
                if piece.record == 0 && piece.index == 0 {
                    staged.push(given);
                }
            }
            let continues = at + 1 < layout.parts.len();
            let span = SpanPlace { part: at as u32, continues, rest_bytes: rest as u64 };
            assert!(close_open(&mut guard, span), "the queue had a place for each batch");
        }
        let last = guard.seq() - 1;
        staged.iter_mut().for_each(|staged| staged.seq = last);
        let next = self.leave_line(&mut guard, waiter);
        Ok(Under { staged, slots, next })
    }

    /// Gives an LSN to a piece whose place was found: that of its record.
    fn assign_piece(
        &self,
        guard: &mut StageGuard<'_, Staging>,
        id: LogId,
        epoch: Epoch,
        piece: &Piece,
    ) -> Staged {
        let seq = guard.seq();
        let state = &mut **guard;
        let log = &mut state.logs[id.counter() as usize];
        let continued = piece.index != 0;
        let first = Lsn(log.next_lsn - u64::from(continued));
        if log.run_seq != seq {
            (log.run_seq, log.run) = (seq, state.runs.len() as u32);
            state.runs.push(Run { log: id, epoch, first_lsn: first, continued, ..Run::default() });
            state.run_ends.push(0);
        }
        let run = &mut state.runs[log.run as usize];
        run.count += 1;
        run.bytes += piece.framed() as u32;
        run.continues = matches!(piece.fragment, Fragment::First | Fragment::Middle);
        state.records += 1;
        log.next_lsn = first.0 + 1;
        log.last_time_us = log.last_time_us.max(state.time_us);
        if self.log_bytes_max != 0 {
            log.unacked += piece.framed() as u64;
        }
        Staged { seq, epoch, first, time_us: log.last_time_us }
    }
}

/// A slot over all records of a batch.
fn reserve_part<'a>(guard: &mut StageGuard<'a, Staging>, part: &Part) -> Slot<'a> {
    let slot = guard.reserve(BATCH_FRONT_BYTES, part.bytes, trailer_bytes(part.runs));
    assert!(slot.is_ok(), "there was room for the whole span");
    slot.unwrap_or_else(|_| unreachable!())
}

/// Writes a piece: a record of its own on disk, with a header and a CRC.
fn fill<R: Records>(out: &mut [u8], member: &Member<R>, piece: &Piece, staged: &Staged, flags: u8) {
    let part = member.records.part(piece.record as usize);
    let split = part.properties.len();
    let (from, until) = (piece.body.start, piece.body.end);
    let properties = &part.properties[from.min(split)..until.min(split)];
    let payload = &part.payload[from.max(split) - split..until.max(split) - split];
    let header = RecordHeader {
        log: member.id,
        lsn: Lsn(staged.first.0 + u64::from(piece.record)),
        epoch: staged.epoch,
        time_us: staged.time_us,
        kind: RecordKind::Data,
        flags: flags | piece.fragment as u8,
        properties_bytes: properties.len() as u16,
        payload_bytes: payload.len() as u32,
        body_crc: body_crc(properties, payload),
        fragment_index: piece.index,
        producer: None,
    };
    header.encode(out);
    let middle = RECORD_HEADER_BYTES + properties.len();
    let end = middle + payload.len();
    out[RECORD_HEADER_BYTES..middle].copy_from_slice(properties);
    out[middle..end].copy_from_slice(payload);
    out[end..].fill(0);
}
