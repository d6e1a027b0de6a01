//! What a shard lends to the background work that takes space back, for one step.
//!
//! Not here: the work (`collect`, `relocate`).

use crate::intake::Intake;
use crate::io::{Clock, Disk};
use crate::manifest::Manifest;
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
