//! A snapshot of a shard's state, made and written in steps: however many logs there are, a turn of
//! the shard does a bounded part of it, and no write keeps the device from appends for long.
//!
//! Invariants:
//! - The state does not change while a snapshot of it is made: it changes by edits, and these wait.
//!   Logs' tails and chains go on and are taken as they are met, so the snapshot vouches for what
//!   was durable when it was begun, and for no more (`checkpoint`).
//! - The piece that begins with the header is written last, when all others are durable.
//!
//! Crash story: a log is met at LSN 7, the next record of it becomes durable, and the snapshot ends
//! a moment later. If its checkpoint were that of its end, recovery would believe that nothing was
//! appended beyond 7 by then, the segment with record 7 could go, and its LSN would be given again.
//!
//! Not here: slots and their room, what is under way (the module above).

use std::collections::BTreeMap;

use super::{Cursor, SLOT_BYTES, SegmentFacts, State, aligned, is_space, zero_fill};
use crate::cuts::Cuts;
use crate::error::{Error, Result};
use crate::format::UNIT_MIN;
use crate::format::manifest::{Edit, FRAME_HEADER_BYTES, FrameHeader, LogFacts, SNAPSHOT};
use crate::io::buf::AlignedBuf;
use crate::io::{Mode, Storage};
use crate::lsn::{LogId, ShardId};
use crate::names;
use crate::planted::{Bug, planted};

/// Logs that one step takes in.
pub(crate) const LOGS_PER_STEP: usize = 128;

/// Bytes of one write, at most.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// Who knows the tails of logs brings these up to date; of a log that was cut, not beyond its cuts.
pub(crate) trait Tails: Fn(&BTreeMap<LogId, Cuts>, &mut [LogFacts]) {}

impl<F: Fn(&BTreeMap<LogId, Cuts>, &mut [LogFacts])> Tails for F {}

/// The tails of a state that has no logs.
pub(crate) fn no_tails(_: &BTreeMap<LogId, Cuts>, _: &mut [LogFacts]) {}

/// What is taken in next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Shard,
    /// Logs from this counter on, each with its cuts and cursors.
    Logs(u64),
    Rest,
    Whole,
}

/// A snapshot under way.
pub(crate) struct Building {
    /// Edits that nobody was told of yet: they follow the state in the same frame.
    pub edits: Vec<Edit>,
    /// All batches up to it are in the tails, whenever these were taken.
    pub checkpoint: u64,
    part: Part,
    /// Of [`PIECE_BYTES`] each; the first begins with room for the header.
    pieces: Vec<AlignedBuf>,
    /// What does not fill a piece yet.
    open: Vec<u8>,
    bytes: usize,
    entries: u32,
    body_crc: u32,
    /// Entries that the largest step took in.
    #[cfg(test)]
    pub most: u32,
}

/// The bytes of a snapshot that are not at the disk yet.
pub(crate) struct Pieces {
    first: Option<AlignedBuf>,
    /// Those behind it, the last one first, each with its offset.
    others: Vec<(u64, AlignedBuf)>,
}

impl Iterator for Pieces {
    type Item = (u64, AlignedBuf);

    /// The one with the header comes last.
    fn next(&mut self) -> Option<Self::Item> {
        self.others.pop().or_else(|| Some((0, self.first.take()?)))
    }
}

impl Building {
    pub(crate) fn new(checkpoint: u64, edits: Vec<Edit>) -> Self {
        Self {
            edits,
            checkpoint,
            part: Part::Shard,
            pieces: Vec::new(),
            open: vec![0; FRAME_HEADER_BYTES],
            bytes: FRAME_HEADER_BYTES,
            entries: 0,
            body_crc: 0,
            #[cfg(test)]
            most: 0,
        }
    }

    /// Takes in a bounded part of the state. True once all of it is in.
    pub(crate) fn step(&mut self, state: &mut State, tails: &impl Tails) -> Result<bool> {
        #[cfg(test)]
        let before = self.entries;
        match self.part {
            Part::Shard => {
                self.put_shard(state)?;
                self.part = Part::Logs(0);
            }
            Part::Logs(from) => {
                let next = self.put_logs(state, from, tails)?;
                self.part = next.map_or(Part::Rest, Part::Logs);
            }
            Part::Rest => {
                let damages = state.damages.iter().filter(|_| !planted(Bug::DamageForgotten));
                let damages = damages.copied().map(Edit::Damage);
                for edit in damages.chain(state.unknown.iter().cloned()) {
                    self.put(&edit)?;
                }
                for edit in std::mem::take(&mut self.edits) {
                    self.put(&edit)?;
                    self.edits.push(edit);
                }
                self.part = Part::Whole;
            }
            Part::Whole => {}
        }
        #[cfg(test)]
        {
            self.most = self.most.max(self.entries - before);
        }
        Ok(self.part == Part::Whole)
    }

    /// Bytes in the file, once it is whole.
    pub(crate) fn padded_bytes(&self, state: &State) -> usize {
        self.bytes.next_multiple_of(unit(state))
    }

    fn put_shard(&mut self, state: &State) -> Result<()> {
        self.put(&Edit::Directory(state.facts))?;
        let State { term, cut_seq, cut_crc, .. } = *state;
        self.put(&Edit::Term { term, cut_seq, cut_crc })?;
        let counter = if planted(Bug::IdsAgain) { 0 } else { state.next_log };
        self.put(&Edit::NextLog { counter })?;
        self.put(&Edit::Checkpoint { seq: self.checkpoint })?;
        if let Some(last_seq) = state.closed {
            self.put(&Edit::Closed { last_seq })?;
        }
        for (file, retired) in &state.retired {
            let super::RetiredFacts { segment, nonce, bytes, term } = *retired;
            self.put(&Edit::Spare { segment, file: *file, nonce, bytes, term })?;
            self.put(&Edit::Retired { segment })?;
        }
        for (id, facts) in &state.segments {
            let (segment, SegmentFacts { file, nonce, bytes, term, sealed, tiered }) =
                (*id, *facts);
            self.put(&Edit::Spare { segment, file, nonce, bytes, term })?;
            if let Some(sealed) = sealed {
                self.put(&sealed.edit(segment))?;
            }
            if tiered {
                self.put(&Edit::Tiered { segment })?;
            }
        }
        Ok(())
    }

    /// Gives the counter that comes next, if any.
    fn put_logs(
        &mut self,
        state: &mut State,
        from: u64,
        tails: &impl Tails,
    ) -> Result<Option<u64>> {
        let logs = state.logs.from(from).take(LOGS_PER_STEP);
        let mut logs: Vec<LogFacts> = logs.map(super::LogState::facts).collect();
        if !planted(Bug::TailsForgotten) {
            tails(&state.cuts, &mut logs);
        }
        let more = logs.last().filter(|_| logs.len() == LOGS_PER_STEP);
        let next = more.map(|facts| facts.id.counter() + 1);
        for facts in logs {
            let log = facts.id;
            // Tails are state too: keep what is told.
            if let Some(known) = state.logs.get_mut(log) {
                (known.tail, known.tail_time_us) = (facts.tail, facts.tail_time_us);
            }
            self.put(&Edit::Log(facts))?;
            // Before cursors and damage: a cut takes those back that were there when it was made.
            for (epoch, first_lsn) in state.cuts.get(&log).into_iter().flat_map(Cuts::iter) {
                self.put(&Edit::Cut { log, epoch, first_lsn })?;
            }
            for (name, lsn) in state.cursors.of(log) {
                let name = String::from(&**name);
                self.put(&Edit::Cursor { log, name, lsn: *lsn })?;
            }
        }
        Ok(next)
    }

    fn put(&mut self, edit: &Edit) -> Result<()> {
        let doing = |flaw| Error::flaw("manifest frame", &flaw);
        let at = self.open.len();
        edit.encode(&mut self.open).map_err(doing)?;
        self.body_crc = crc32c::crc32c_append(self.body_crc, &self.open[at..]);
        self.bytes += self.open.len() - at;
        self.entries += 1;
        while self.open.len() >= PIECE_BYTES {
            let rest = self.open.split_off(PIECE_BYTES);
            self.close_piece()?;
            self.open = rest;
        }
        Ok(())
    }

    fn close_piece(&mut self) -> Result<()> {
        let piece = aligned(&self.open).map_err(|e| Error::io("making a snapshot", e))?;
        self.pieces.push(piece);
        self.open.clear();
        Ok(())
    }

    /// The whole of it, as a frame; with the header's CRC. The edits go to who waits for them.
    pub(crate) fn finish(
        &mut self,
        state: &State,
        shard: ShardId,
        seq: u64,
        durable: u64,
    ) -> Result<(Pieces, u32)> {
        self.open.resize(self.open.len().next_multiple_of(unit(state)), 0);
        if !self.open.is_empty() {
            self.close_piece()?;
        }
        let header = FrameHeader {
            flags: SNAPSHOT,
            directory: state.facts.directory,
            lineage: state.facts.lineage,
            shard,
            term: state.term,
            seq,
            durable,
            bytes: (self.bytes - FRAME_HEADER_BYTES) as u64,
            entries: self.entries,
            body_crc: self.body_crc,
            unit: unit(state) as u32,
            ..FrameHeader::default()
        };
        let mut pieces = std::mem::take(&mut self.pieces).into_iter();
        let mut first = pieces.next();
        let crc = first.as_mut().map_or(0, |first| header.encode(first));
        let offsets = (1..).map(|n| n * PIECE_BYTES as u64);
        let others = offsets.zip(pieces).collect::<Vec<_>>().into_iter().rev().collect();
        Ok((Pieces { first, others }, crc))
    }
}

fn unit(state: &State) -> usize {
    (state.facts.unit as usize).max(UNIT_MIN)
}

/// A slot holds a snapshot twice over, and edits behind it.
pub(super) fn slot_bytes(snapshot: usize) -> u64 {
    SLOT_BYTES.max(2 * snapshot as u64).next_multiple_of(64 << 10)
}

/// Writes a snapshot of `state`, with the tails that `tails` knows, into the slot not in force,
/// both copies, creating and growing the files as needed: how creation and recovery end. Blocking.
/// `still_ours` is asked before each write.
pub(crate) fn write_snapshot(
    storage: &dyn Storage,
    shard: ShardId,
    state: &mut State,
    tails: &impl Tails,
    durable: u64,
    from: Cursor,
    still_ours: &dyn Fn() -> Result<()>,
) -> Result<Cursor> {
    let seq = from.seq + 1;
    let slot = if from.seq == 0 { 0 } else { 1 - from.slot };
    let mut building = Building::new(state.checkpoint, Vec::new());
    while !building.step(state, tails)? {}
    let bytes = building.padded_bytes(state);
    let mut files = Vec::new();
    let mut created = false;
    for copy in 0..names::MANIFEST_COPIES {
        still_ours()?;
        let name = names::manifest(shard, copy, slot);
        let doing = |e| Error::io(format!("writing {name}"), e);
        let (file, len) = match storage.open(&name, Mode::Write) {
            Ok(opened) => opened,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                created = true;
                (storage.create(&name).map_err(doing)?, 0)
            }
            Err(e) => return Err(doing(e)),
        };
        let want = slot_bytes(bytes);
        if len < want {
            match zero_fill(storage, &file, len, want) {
                // A full disk must open: the snapshot goes where it fits.
                Err(error) if is_space(&error) && bytes as u64 <= len => {
                    tracing::warn!(%name, %error, "a manifest slot cannot be grown");
                }
                done => done.map_err(doing)?,
            }
        }
        files.push((name, file));
    }
    let (pieces, crc) = building.finish(state, shard, seq, durable)?;
    let pieces: Vec<_> = pieces.collect();
    for (name, file) in files {
        let doing = |e| Error::io(format!("writing {name}"), e);
        for (offset, piece) in &pieces {
            // Before each write, so that at most one of them lands after the lease was lost.
            still_ours()?;
            storage.write_at(&file, *offset, piece, piece.len(), true).map_err(doing)?;
        }
        storage.sync(&file).map_err(doing)?;
    }
    if created {
        storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))?;
    }
    Ok(Cursor { slot, offset: bytes as u64, seq, crc })
}
