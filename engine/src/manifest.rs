//! The manifest: the only source of truth about what exists in a shard, and its durable home.
//!
//! Invariants:
//! - The state is the fold of a snapshot and the edits behind it, nothing else; a snapshot is the
//!   edits that rebuild the state.
//! - Every frame goes to both copies of a slot, and counts once both have it durably. A snapshot
//!   goes to the slot that is not in force, so the one in force stays whole until the new one is
//!   durable.
//! - Slots are prewritten and never renamed; the slot not in force is grown before a snapshot needs
//!   it.
//!
//! Crash story: a frame reaches one copy and not the other. It was never acted upon as durable, and
//! replay takes it from the copy that has it: an edit may be found that nobody was told of, never
//! the reverse. The snapshot that ends recovery makes both copies equal again.
//!
//! Not here: what edits mean to others (`shard`, `recover`), the bytes (`format::manifest`).

mod epochs;
mod lives;
mod load;
mod logs;
mod room;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use self::load::{Loaded, load, read_file};
pub(crate) use self::logs::{LogState, Logs};
use self::room::Reckoning;
pub(crate) use self::room::Room;
use self::snapshot::{Building, PIECE_BYTES, Pieces, Tails, slot_bytes};
pub(crate) use self::snapshot::{no_tails, write_snapshot};
use crate::cursors::Cursors;
use crate::cuts::Cuts;
use crate::error::{Error, Result};
use crate::format::UNIT_MIN;
use crate::format::manifest::{Chain, DamageFacts, DirectoryFacts, Edit, Frame};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Disk, File, Mode, Op, Storage};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::names;
use crate::planted::{Bug, planted};

/// Bytes of a fresh slot file.
pub(crate) const SLOT_BYTES: u64 = 256 << 10;

/// Edits of one frame, at most; the rest waits for the next.
const FRAME_EDITS_MAX: usize = 8192;

/// Steps of a snapshot that a turn of the shard does: one of few logs is made in one turn.
const STEPS_PER_TURN: usize = 3;

/// Places for edits that wait that are kept when none does.
const QUEUE_KEPT: usize = 64;

/// A segment as the manifest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub file: u64,
    pub nonce: u64,
    pub bytes: u64,
    pub term: u32,
    pub sealed: Option<SealedFacts>,
    /// Its copy in the tier is whole.
    pub tiered: bool,
}

/// A file whose segment no log needs any more, until it is removed or becomes another segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetiredFacts {
    /// What it was.
    pub segment: SegmentId,
    pub nonce: u64,
    pub bytes: u64,
    pub term: u32,
}

/// What is known of a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SealedFacts {
    pub first_seq: u64,
    pub last_seq: u64,
    pub end_offset: u64,
    pub last_crc: u32,
    pub records: u64,
    pub first_time_us: u64,
    pub last_time_us: u64,
    pub index_bytes: u64,
    pub index_crc: u32,
}

/// What exists in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub facts: DirectoryFacts,
    pub term: u32,
    /// Where the term began: the last batch kept of older terms, and its header's CRC.
    pub cut_seq: u64,
    pub cut_crc: u32,
    pub logs: Logs,
    /// The cuts of those logs that were ever cut.
    pub cuts: BTreeMap<LogId, Cuts>,
    pub next_log: u64,
    pub segments: BTreeMap<SegmentId, SegmentFacts>,
    /// Files of retired segments, by number. One that is removed is forgotten, but for the one with
    /// the highest segment: it keeps its number from being given again.
    pub retired: BTreeMap<u64, RetiredFacts>,
    pub damages: Vec<DamageFacts>,
    pub cursors: Cursors,
    /// The last batch, when the shard was closed in order and nothing was written since.
    pub closed: Option<u64>,
    /// Logs' tails and chains hold everything up to this batch.
    pub checkpoint: u64,
    /// The newest segment that was sealed when the last snapshot was taken: the chains of logs in
    /// the snapshot go up to it, later seals are adopted from their indexes. Derived, not stored.
    pub chained: SegmentId,
    /// Up to here every segment is tiered; 0: none. Derived, not stored.
    pub tiered_to: SegmentId,
    /// Entries of newer writers that may be carried along unread.
    pub unknown: Vec<Edit>,
}

impl State {
    pub(crate) fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Directory(facts) => self.facts = *facts,
            Edit::Log(facts) => {
                self.next_log = self.next_log.max(facts.id.counter() + 1);
                self.logs.insert(LogState::new(facts.clone()));
            }
            Edit::Epoch { log, epoch, first_lsn } => {
                if let Some(facts) = self.logs.get_mut(*log) {
                    epochs::note_epoch(facts, *epoch, *first_lsn);
                }
            }
            Edit::Cut { log, epoch, first_lsn } => self.apply_cut(*log, *epoch, *first_lsn),
            Edit::Settings { log, settings } => {
                if let Some(facts) = self.logs.get_mut(*log) {
                    facts.set(*settings);
                }
            }
            Edit::Start { log, start } => {
                if let Some(facts) = self.logs.get_mut(*log) {
                    facts.start = facts.start.max(*start);
                    self.damages.retain(|damage| !damage.is_below(*log, *start));
                }
                if let Some(cuts) = self.cuts.get_mut(log) {
                    cuts.trim(*start);
                }
            }
            Edit::Deleted { log } => {
                // Nothing of it is left but its number.
                self.logs.remove(*log);
                self.damages.retain(|damage| damage.log != Some(*log));
                self.cursors.forget(*log);
                self.cuts.remove(log);
            }
            Edit::NextLog { counter } => self.next_log = self.next_log.max(*counter),
            Edit::Retired { segment } => self.retire(*segment),
            Edit::Term { term, cut_seq, cut_crc } => {
                (self.term, self.cut_seq, self.cut_crc) = (*term, *cut_seq, *cut_crc);
                self.closed = self.closed.filter(|_| planted(Bug::ClosedForEver));
            }
            Edit::Closed { last_seq } => self.closed = Some(*last_seq),
            Edit::Checkpoint { seq } => self.checkpoint = *seq,
            Edit::Damage(facts) => self.apply_damage(*facts),
            Edit::Unknown { .. } => self.unknown.push(edit.clone()),
            Edit::Spare { .. } | Edit::Sealed { .. } => self.apply_segment(edit),
            Edit::Relocated { .. } => self.apply_relocated(edit),
            Edit::Cursor { log, name, lsn } => {
                if self.logs.contains(*log) {
                    self.cursors.apply(*log, name, *lsn);
                }
            }
            Edit::Tiered { segment } => {
                let sealed = self.segments.get_mut(segment).filter(|facts| facts.sealed.is_some());
                if let Some(facts) = sealed {
                    facts.tiered = true;
                }
                self.advance_tiered();
            }
        }
    }

    fn apply_segment(&mut self, edit: &Edit) {
        match *edit {
            Edit::Spare { segment, file, nonce, bytes, term } => {
                let facts = SegmentFacts { file, nonce, bytes, term, sealed: None, tiered: false };
                self.segments.insert(segment, facts);
                self.retired.remove(&file);
            }
            Edit::Sealed {
                segment,
                first_seq,
                last_seq,
                end_offset,
                last_crc,
                records,
                first_time_us,
                last_time_us,
                index_bytes,
                index_crc,
            } => {
                if let Some(facts) = self.segments.get_mut(&segment) {
                    facts.sealed = Some(SealedFacts {
                        first_seq,
                        last_seq,
                        end_offset,
                        last_crc,
                        records,
                        first_time_us,
                        last_time_us,
                        index_bytes,
                        index_crc,
                    });
                }
            }
            _ => {}
        }
    }

    fn retire(&mut self, segment: SegmentId) {
        if let Some(facts) = self.segments.remove(&segment) {
            let SegmentFacts { file, nonce, bytes, term, .. } = facts;
            self.retired.insert(file, RetiredFacts { segment, nonce, bytes, term });
            self.tiered_to = SegmentId(0);
            self.advance_tiered();
        }
    }

    /// The file of a retired segment is gone, durably.
    pub(crate) fn forget(&mut self, file: u64) {
        let highest = self.next_segment().0 - 1;
        if self.retired.get(&file).is_some_and(|retired| retired.segment.0 < highest) {
            self.retired.remove(&file);
        }
    }

    fn apply_damage(&mut self, facts: DamageFacts) {
        let same = |d: &&mut DamageFacts| {
            (d.log, d.first_lsn, d.segment) == (facts.log, facts.first_lsn, facts.segment)
        };
        match self.damages.iter_mut().find(same) {
            Some(known) => *known = facts,
            None => self.damages.push(facts),
        }
    }

    /// The newest sealed segment.
    pub(crate) fn newest_sealed(&self) -> SegmentId {
        let sealed = self.segments.iter().rev().find(|(_, facts)| facts.sealed.is_some());
        sealed.map_or(SegmentId(0), |(id, _)| *id)
    }

    fn advance_tiered(&mut self) {
        let behind = self.segments.range(SegmentId(self.tiered_to.0 + 1)..);
        if let Some((id, _)) = behind.take_while(|(_, facts)| facts.tiered).last() {
            self.tiered_to = *id;
        }
    }

    /// The next number for a segment.
    pub(crate) fn next_segment(&self) -> SegmentId {
        let named = self.segments.last_key_value().map_or(0, |(id, _)| id.0);
        let retired = self.retired.values().map(|retired| retired.segment.0).max();
        SegmentId(named.max(retired.unwrap_or(0)) + 1)
    }
}

impl SealedFacts {
    /// The edit that says so.
    pub(crate) fn edit(&self, segment: SegmentId) -> Edit {
        Edit::Sealed {
            segment,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            end_offset: self.end_offset,
            last_crc: self.last_crc,
            records: self.records,
            first_time_us: self.first_time_us,
            last_time_us: self.last_time_us,
            index_bytes: self.index_bytes,
            index_crc: self.index_crc,
        }
    }
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    pub slot: usize,
    pub offset: u64,
    /// Sequence and header CRC of the last durable frame.
    pub seq: u64,
    pub crc: u32,
}

fn zero_fill(storage: &dyn Storage, file: &File, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = AlignedBuf::zeroed(1 << 18)?;
    let mut at = from / UNIT_MIN as u64 * UNIT_MIN as u64;
    while at < to {
        let len = ((to - at) as usize).min(zeros.len());
        storage.write_at(file, at, &zeros, len, false)?;
        at += len as u64;
    }
    storage.sync(file)
}

fn aligned(bytes: &[u8]) -> std::io::Result<AlignedBuf> {
    let mut buf = AlignedBuf::zeroed(bytes.len())?;
    buf[..bytes.len()].copy_from_slice(bytes);
    Ok(buf)
}

/// A frame of edits.
fn frame(
    state: &State,
    shard: ShardId,
    seq: u64,
    durable: u64,
    prev_crc: u32,
    edits: Vec<Edit>,
) -> Result<(Vec<u8>, u32)> {
    let frame = Frame {
        flags: 0,
        directory: state.facts.directory,
        lineage: state.facts.lineage,
        shard,
        term: state.term,
        seq,
        durable,
        time_us: 0,
        prev_crc,
        edits,
    };
    let unit = (state.facts.unit as usize).max(UNIT_MIN);
    frame.encode(unit).map_err(|flaw| Error::flaw("manifest frame", &flaw))
}

/// The manifest of a running shard: takes edits, makes them durable one frame at a time.
pub(crate) struct Manifest {
    shard: ShardId,
    /// As of the last *durable* frame.
    pub state: State,
    cursor: Cursor,
    files: [[File; names::MANIFEST_SLOTS]; names::MANIFEST_COPIES],
    lengths: [u64; names::MANIFEST_SLOTS],
    /// Edits not yet sent, oldest first, and how many edits came before each.
    queue: VecDeque<Edit>,
    /// Edits ever queued and ever made durable: an edit is durable once `durable_edits` reaches the
    /// number it got when it was queued.
    queued: u64,
    pub durable_edits: u64,
    /// Edits that became durable and that the shard has to act upon; it takes them away.
    pub told: Vec<Edit>,
    flight: Option<Flight>,
    /// A snapshot that is being made, or waits for room. Until it is written no edit is, so that
    /// the state stays as it is.
    building: Option<Box<Building>>,
    /// Growing a slot failed (a full disk): not tried again before this moment. Until then a
    /// snapshot that fits is taken without.
    cramped_until: u64,
    /// The growth under way, or the last one, has failed in a copy.
    grow_failed: bool,
    /// There is no room for the next snapshot: nothing is written before this moment.
    blocked_until: u64,
    /// What the snapshot in force covers: a recovery needs nothing of it but its records.
    covered: Covered,
    /// A snapshot is to be taken although the slot is not full.
    snapshot_wanted: bool,
    /// Bytes of the last snapshot of this run.
    snapshot_bytes: u64,
    reckoning: Reckoning,
}

/// What a snapshot has taken in: batches up to `seq`, sealed segments up to `segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    pub seq: u64,
    pub segment: SegmentId,
}

/// How long a slot that could not be grown rests.
const GROW_RETRY_NS: u64 = 100_000_000;

/// What is under way.
struct Flight {
    left: usize,
    step: Step,
}

enum Step {
    /// The other slot is being prewritten, from `at` on a piece at a time; then the snapshot
    /// follows.
    Grow {
        at: u64,
        to: u64,
    },
    /// The grown slot is being synced.
    GrowSync {
        to: u64,
    },
    /// A piece of a snapshot is being written, and others follow.
    Piece {
        rest: Pieces,
        last: Last,
    },
    Frame(Last),
}

/// What is true once the frame is durable.
struct Last {
    edits: Vec<Edit>,
    next: Cursor,
    /// It is a snapshot, and vouches for the batches up to this one.
    checkpoint: Option<u64>,
}

impl Manifest {
    /// Takes over from recovery.
    pub(crate) fn new(
        storage: &dyn Storage,
        shard: ShardId,
        mut state: State,
        cursor: Cursor,
    ) -> Result<Self> {
        let mut lengths = [0u64; names::MANIFEST_SLOTS];
        let mut open = |copy: usize, slot: usize| -> Result<File> {
            let name = names::manifest(shard, copy, slot);
            let doing = |e| Error::io(format!("opening {name}"), e);
            let (file, len) = match storage.open(&name, Mode::Write) {
                Ok(opened) => opened,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    (storage.create(&name).map_err(doing)?, 0)
                }
                Err(e) => return Err(doing(e)),
            };
            if len < SLOT_BYTES {
                zero_fill(storage, &file, len, SLOT_BYTES).map_err(doing)?;
            }
            let len = len.max(SLOT_BYTES);
            lengths[slot] = if copy == 0 { len } else { lengths[slot].min(len) };
            Ok(file)
        };
        let files = [[open(0, 0)?, open(0, 1)?], [open(1, 0)?, open(1, 1)?]];
        storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))?;
        let covered = Covered { seq: state.checkpoint, segment: state.newest_sealed() };
        // From here on the view has the chains; `take_tails` brings them.
        state.logs.iter_mut().for_each(|log| log.chain = Chain::default());
        Ok(Self {
            shard,
            covered,
            snapshot_wanted: false,
            snapshot_bytes: 0,
            reckoning: Reckoning::begin(cursor.offset),
            state,
            cursor,
            files,
            lengths,
            queue: VecDeque::new(),
            queued: 0,
            durable_edits: 0,
            told: Vec::new(),
            flight: None,
            building: None,
            cramped_until: 0,
            grow_failed: false,
            blocked_until: 0,
        })
    }

    /// Sequence of the last durable frame.
    pub(crate) fn seq(&self) -> u64 {
        self.cursor.seq
    }

    /// Queues an edit; it is durable once `durable_edits` reaches the number given back.
    pub(crate) fn push(&mut self, edit: Edit) -> u64 {
        self.reckon(&edit);
        self.queue.push_back(edit);
        self.queued += 1;
        self.queued
    }

    /// Asks for a snapshot, so that more is covered by it.
    pub(crate) fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// Whether the snapshot in force has all of a segment that was sealed like this.
    pub(crate) fn covers(&self, segment: SegmentId, sealed: &SealedFacts) -> bool {
        let covered = self.covered;
        sealed.last_seq <= covered.seq && segment <= covered.segment
            || planted(Bug::RetiredUncovered)
    }

    /// What the snapshot in force covers.
    pub(crate) fn covered(&self) -> Covered {
        self.covered
    }

    /// Whether the edit that was given this number is durable.
    pub(crate) fn is_durable(&self, edit: u64) -> bool {
        edit <= self.durable_edits
    }

    /// What taking a snapshot costs, roughly: bytes of the last one.
    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// What a snapshot would say now. What is queued or under way counts: a crash may leave it.
    /// `tails` brings the logs' tails and chains.
    pub(crate) fn picture(&self, durable: u64, tails: impl FnOnce(&mut State)) -> State {
        let mut state = self.state.clone();
        if let Some(Flight { step: Step::Frame(last) | Step::Piece { last, .. }, .. }) =
            &self.flight
        {
            last.edits.iter().for_each(|edit| state.apply(edit));
        }
        let edits = self.building.iter().flat_map(|building| &building.edits);
        edits.for_each(|edit| state.apply(edit));
        self.queue.iter().for_each(|edit| state.apply(edit));
        tails(&mut state);
        (state.checkpoint, state.chained) = (durable, state.newest_sealed());
        state.closed = None;
        state
    }

    fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.snapshot_wanted || self.building.is_some()
    }

    /// Whether `step` would start something.
    pub(crate) fn wants_step(&self) -> bool {
        let says = self.has_something() && self.blocked_until == 0;
        self.flight.is_none() && (says || self.grows_to().is_some())
    }

    /// When to look again although nothing happens.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        (self.blocked_until != 0).then_some(self.blocked_until)
    }

    pub(crate) fn idle(&self) -> bool {
        self.flight.is_none() && !self.has_something()
    }

    /// Starts the next write if there is something to say and nothing under way, or does a bounded
    /// part of the next snapshot; `tails` brings those of its logs.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        now: u64,
        durable: u64,
        tails: &impl Tails,
    ) -> Result<()> {
        if now >= self.cramped_until {
            self.cramped_until = 0;
        }
        if self.flight.is_some() {
            return Ok(());
        }
        if let Some(to) = self.grows_to() {
            self.grow_failed = false;
            return self.grow(disk, token, self.lengths[1 - self.cursor.slot], to);
        }
        if !self.has_something() || now < self.blocked_until {
            return Ok(());
        }
        self.blocked_until = 0;
        if let Some(building) = self.building.take() {
            return self.build(disk, token, now, durable, building, tails);
        }
        let count = self.queue.len().min(FRAME_EDITS_MAX);
        let edits: Vec<Edit> = self.queue.drain(..count).collect();
        if self.queue.is_empty() {
            self.queue.shrink_to(QUEUE_KEPT); // very many logs may have been created at once
        }
        let seq = self.cursor.seq + 1;
        let prev = self.cursor.crc;
        let (bytes, crc) = frame(&self.state, self.shard, seq, durable, prev, edits.clone())?;
        let end = self.cursor.offset + bytes.len() as u64;
        if end <= self.lengths[self.cursor.slot] && !self.snapshot_wanted {
            let next = Cursor { offset: end, seq, crc, ..self.cursor };
            let at = self.cursor.offset;
            let step = Step::Frame(Last { edits, next, checkpoint: None });
            return self.write(disk, token, self.cursor.slot, at, &bytes, step);
        }
        self.snapshot_wanted = false;
        let building = Box::new(Building::new(durable, edits));
        self.build(disk, token, now, durable, building, tails)
    }

    /// Goes on with a snapshot; once it is whole, makes room for it and writes it.
    fn build(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        now: u64,
        durable: u64,
        mut building: Box<Building>,
        tails: &impl Tails,
    ) -> Result<()> {
        // A small one is made in one turn.
        for _ in 0..STEPS_PER_TURN {
            if building.step(&mut self.state, tails)? {
                return self.place(disk, token, now, durable, building);
            }
        }
        self.building = Some(building);
        Ok(())
    }

    /// Writes a snapshot that is whole, if there is room.
    fn place(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        now: u64,
        durable: u64,
        mut building: Box<Building>,
    ) -> Result<()> {
        let bytes = building.padded_bytes(&self.state);
        let in_place = planted(Bug::SnapshotInPlace);
        let slot = if in_place { self.cursor.slot } else { 1 - self.cursor.slot };
        let (at, want) = (self.lengths[slot], slot_bytes(bytes));
        let cramped = now < self.cramped_until;
        if want > at && cramped && bytes as u64 > at {
            building.edits.into_iter().rev().for_each(|edit| self.queue.push_front(edit));
            self.blocked_until = self.cramped_until;
            // Edits may have room where they are: they must not wait for this.
            self.snapshot_wanted = false;
            return Ok(());
        }
        if want > at && !cramped {
            self.grow_failed = false;
            self.building = Some(building);
            return self.grow(disk, token, at, want);
        }
        let seq = self.cursor.seq + 1;
        let (rest, crc) = building.finish(&self.state, self.shard, seq, durable)?;
        self.snapshot_bytes = bytes as u64;
        self.reckon_anew(self.snapshot_bytes);
        let next = Cursor { slot, offset: bytes as u64, seq, crc };
        let checkpoint = Some(building.checkpoint);
        self.write_piece(disk, token, rest, Last { edits: building.edits, next, checkpoint })
    }

    /// Prewrites a piece of the slot not in force.
    fn grow(&mut self, disk: &mut dyn Disk, token: u64, at: u64, to: u64) -> Result<()> {
        let zeros = vec![0; (to - at).min(PIECE_BYTES as u64) as usize];
        let step = Step::Grow { at: at + zeros.len() as u64, to };
        self.write(disk, token, 1 - self.cursor.slot, at, &zeros, step)
    }

    /// Writes the next piece of a snapshot; the last of them makes it one.
    fn write_piece(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        mut rest: Pieces,
        last: Last,
    ) -> Result<()> {
        let Some((at, piece)) = rest.next() else { return Ok(()) };
        let slot = last.next.slot;
        let step = if at == 0 { Step::Frame(last) } else { Step::Piece { rest, last } };
        self.write(disk, token, slot, at, &piece, step)
    }

    fn write(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        slot: usize,
        offset: u64,
        bytes: &[u8],
        step: Step,
    ) -> Result<()> {
        let doing = |e| Error::io("writing the manifest", e);
        for copy in 0..names::MANIFEST_COPIES {
            let file = self.files[copy][slot].clone();
            let buf = IoBuf::Owned(aligned(bytes).map_err(doing)?);
            let persist = !planted(Bug::ManifestNotSynced);
            let op = Op::Write { file, offset, buf, persist };
            disk.submit(token, op).map_err(|_| doing(std::io::ErrorKind::WouldBlock.into()))?;
        }
        self.flight = Some(Flight { left: names::MANIFEST_COPIES, step });
        Ok(())
    }

    /// A part of what is under way has completed. An error is the shard's end: the frame's fate is
    /// not known.
    pub(crate) fn complete(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        result: std::io::Result<usize>,
        now: u64,
    ) -> std::io::Result<()> {
        let Some(mut flight) = self.flight.take() else { return result.map(|_| ()) };
        flight.left -= 1;
        match (&flight.step, result) {
            (Step::Grow { .. } | Step::GrowSync { .. }, Err(error)) if is_space(&error) => {
                // Nothing of the slot in force was touched, and the snapshot is still there.
                tracing::warn!(shard = self.shard.0, %error, "growing the manifest failed");
                // A snapshot that fits as things are is taken next; another one waits.
                self.cramped_until = now + GROW_RETRY_NS;
                self.grow_failed = true;
            }
            (_, result) => {
                result?;
            }
        }
        if flight.left > 0 {
            self.flight = Some(flight);
            return Ok(());
        }
        match flight.step {
            Step::Grow { .. } | Step::GrowSync { .. } if self.grow_failed => {}
            Step::Grow { at, to } if at < to => {
                self.grow(disk, token, at, to).map_err(std::io::Error::other)?;
            }
            Step::Grow { to, .. } => {
                // The writes were durable, the new length is metadata: sync the files too.
                let slot = 1 - self.cursor.slot;
                for copy in 0..names::MANIFEST_COPIES {
                    let file = self.files[copy][slot].clone();
                    disk.submit(token, Op::Sync { file })
                        .map_err(|_| std::io::Error::from(std::io::ErrorKind::WouldBlock))?;
                }
                let left = names::MANIFEST_COPIES;
                self.flight = Some(Flight { left, step: Step::GrowSync { to } });
            }
            Step::GrowSync { to } => self.lengths[1 - self.cursor.slot] = to,
            Step::Piece { rest, last } => {
                self.write_piece(disk, token, rest, last).map_err(std::io::Error::other)?;
            }
            Step::Frame(last) => self.land(last),
        }
        Ok(())
    }

    /// A frame is durable in both copies.
    fn land(&mut self, last: Last) {
        let Last { edits, next, checkpoint } = last;
        edits.iter().for_each(|edit| self.state.apply(edit));
        if let Some(seq) = checkpoint {
            self.state.checkpoint = seq;
            self.covered = Covered { seq, segment: self.state.newest_sealed() };
        }
        self.durable_edits += edits.len() as u64;
        self.cursor = next;
        let told = |edit: &Edit| matches!(edit, Edit::Deleted { .. } | Edit::Cursor { .. });
        self.told.extend(edits.into_iter().filter(told));
    }
}

fn is_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
