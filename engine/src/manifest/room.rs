//! Room for the next snapshot: reserved before anything that makes it larger is admitted.
//!
//! Invariant: the slot that is not in force has room for the next snapshot, that of this run or of
//! the recovery after a crash, on a disk without a byte free. So what it may come to is reckoned up
//! with each edit, the slot is grown ahead of it, and where it cannot be grown, callers whose edits
//! need more are told `NoSpace`. Edits that need none go on (starts, deletions, retirements: the
//! way out of a full disk).
//!
//! Crash story: a snapshot of 1 MiB went to a slot that was grown for it; the other one has 256
//! KiB. The disk fills up, the power goes, and the next open has nowhere to put its snapshot.
//!
//! Not here: growing (the module above), who is told (`shard`).

use super::{Flight, Manifest, SLOT_BYTES, State, Step};
use crate::error::{Error, Result};
use crate::format::manifest::{CURSOR_GONE, Edit};

/// Bytes of a link in a log's chain.
const LINK_BYTES: u64 = 20;

/// Links that a log may gain without being reckoned up, when a recovery seals some segments at
/// once: the chain gets one for each bit of its ordinal, two for up to three segments.
const LINKS_MARGIN: u64 = 2;

/// What a shard says by itself while nothing can grow: spares, seals, a term, a close.
const MARGIN_BYTES: u64 = 16 << 10;

/// Bytes reckoned up since the last snapshot for which another one is worth its while.
const SINCE_WORTH: u64 = 4 << 10;

/// Bytes of an entry at most, apart from names and lists.
const ENTRY_BYTES: u64 = 112;

/// Bytes of an epoch in the history of a log.
const EPOCH_BYTES: u64 = 12;

/// What the next snapshot may come to, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reckoning {
    /// The last snapshot.
    snapshot: u64,
    /// The edits queued since, and what chains have grown by.
    since: u64,
    /// What a caller waits for, besides.
    wanted: u64,
}

/// Whether a caller's edits may be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Is,
    /// Not known yet: a slot is about to be grown. Ask again.
    Awaited,
}

impl Reckoning {
    /// There is a snapshot, `queue` comes behind it.
    pub(super) fn begin(snapshot: u64) -> Self {
        Self { snapshot, since: 0, wanted: 0 }
    }
}

impl Manifest {
    /// An edit is queued.
    pub(super) fn reckon(&mut self, edit: &Edit) {
        self.reckoning.since += growth(&self.state, edit);
    }

    /// A snapshot of so many bytes takes the place of all that was reckoned up; what is queued
    /// comes behind it.
    pub(super) fn reckon_anew(&mut self, snapshot: u64) {
        let behind = self.queue.iter().map(|edit| growth(&self.state, edit)).sum();
        self.reckoning = Reckoning { since: behind, ..Reckoning::begin(snapshot) };
    }

    /// A sealed segment was added to the chains of so many logs.
    pub(crate) fn chains_grew(&mut self, logs: usize) {
        self.reckoning.since += LINK_BYTES * logs as u64;
    }

    fn needed(&self) -> u64 {
        let Reckoning { snapshot, since, wanted } = self.reckoning;
        let links = LINK_BYTES * LINKS_MARGIN * self.state.logs.len() as u64;
        snapshot + since + wanted + links + MARGIN_BYTES
    }

    /// Whether the other slot is too short for what may come next.
    fn is_short(&self) -> bool {
        self.needed() > self.lengths[1 - self.cursor.slot]
    }

    /// To how many bytes the other slot is to be grown now, if it is: a quarter more than needed.
    pub(super) fn grows_to(&self) -> Option<u64> {
        let to = (self.needed() / 4 * 5).max(SLOT_BYTES).next_multiple_of(64 << 10);
        (self.cramped_until == 0 && self.is_short()).then_some(to)
    }

    /// When growing is tried again.
    pub(crate) fn grow_at(&self) -> Option<u64> {
        (self.cramped_until != 0 && self.is_short()).then_some(self.cramped_until)
    }

    /// Whether a slot is being grown: whoever waits for room is awake when that ends.
    pub(crate) fn is_growing(&self) -> bool {
        let step = self.flight.as_ref().map(|Flight { step, .. }| step);
        matches!(step, Some(Step::Grow { .. } | Step::GrowSync { .. }))
    }

    /// Whether these edits of a caller can be queued.
    ///
    /// # Errors
    /// `NoSpace`: a slot would have to grow for them, and cannot.
    pub(crate) fn room_for(&mut self, edits: &[Edit]) -> Result<Room> {
        self.reckoning.wanted = edits.iter().map(|edit| growth(&self.state, edit)).sum();
        let needs_none = self.reckoning.wanted == 0;
        if !needs_none && self.is_short() {
            if self.cramped_until == 0 {
                return Ok(Room::Awaited);
            }
            self.reckoning.wanted = 0;
            // It may be less than it was reckoned to be: a snapshot tells, for the next attempt.
            self.snapshot_wanted |= self.reckoning.since > SINCE_WORTH;
            return Err(Error::NoSpace("the manifest cannot be grown".into()));
        }
        self.reckoning.wanted = 0;
        Ok(Room::Is)
    }
}

/// By how many bytes a snapshot may grow with this edit, at most.
fn growth(state: &State, edit: &Edit) -> u64 {
    match edit {
        Edit::Log(facts) => {
            let (name, group) =
                (facts.name.len(), facts.group.as_ref().map_or(0, |group| group.len()));
            ENTRY_BYTES + (name + group) as u64
        }
        Edit::Epoch { .. } => EPOCH_BYTES,
        Edit::Cursor { lsn, .. } if *lsn == CURSOR_GONE => 0,
        Edit::Cursor { log, name, .. } if state.cursors.get(*log, name).is_some() => 0,
        Edit::Cursor { name, .. } => ENTRY_BYTES + name.len() as u64,
        Edit::Cut { .. } | Edit::Damage(_) | Edit::Tiered { .. } => ENTRY_BYTES,
        // The shard's own, and few: a segment is larger than its entries by far.
        Edit::Spare { .. } | Edit::Sealed { .. } => ENTRY_BYTES,
        _ => 0,
    }
}
