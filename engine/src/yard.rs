//! What a shard lends to the background work that takes space back, for one step.
//!
//! Not here: the work (`collect`, `relocate`).

use crate::intake::Intake;
use crate::io::{Clock, Disk};
use crate::manifest::{Manifest, SealedFacts, SegmentFacts, State};
use crate::segment::{Pace, Segments};
use crate::view::View;

/// What a step works on.
pub(crate) struct Yard<'a> {
    pub disk: &'a mut dyn Disk,
    pub manifest: &'a mut Manifest,
    pub segments: &'a mut Segments,
    pub view: &'a View,
    pub intake: &'a Intake,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Fn() -> u64,
    pub now: u64,
    pub token: u64,
    /// How eagerly bytes are moved.
    pub pace: Pace,
    /// A batch waits for the disk.
    pub waits: bool,
}

/// What the file of a sealed segment takes: those of older terms were trimmed.
pub(crate) fn file_bytes(state: &State, facts: &SegmentFacts, sealed: &SealedFacts) -> u64 {
    let whole = facts.term == state.term;
    if whole { facts.bytes } else { sealed.end_offset.min(facts.bytes) }
}

/// The same, and what its index takes.
pub(crate) fn files_bytes(state: &State, facts: &SegmentFacts, sealed: &SealedFacts) -> u64 {
    file_bytes(state, facts, sealed) + sealed.index_bytes
}
