//! The staging state of the logs of a shard: a table that grows without holding up who appends.
//!
//! Invariants: a log has one cache line of its own; what is in the table stays where it is, so that
//! growing allocates and moves nothing under the staging lock but pointers to pages.
//!
//! Not here: what the state means (`intake`).

use std::ops::{Index, IndexMut};

use super::LogStage;
use crate::lsn::{Epoch, Lsn};
use crate::table::PAGE_SLOTS;

type Page = Box<[LogStage; PAGE_SLOTS]>;

/// By the counter of the log's id.
#[derive(Default)]
pub(super) struct Stages {
    pages: Vec<Page>,
}

/// Memory for a table that has no place for a log yet: made, and freed, outside of the lock.
pub(super) struct Growth {
    page: Option<Page>,
    pages: Vec<Page>,
}

impl Growth {
    /// For a table with room for `room` pointers to pages that is to hold `slot`.
    pub(super) fn new(slot: usize, room: usize) -> Self {
        let page = Box::new([LogStage::new(Epoch(0), Lsn(0), 0); PAGE_SLOTS]);
        let wanted = slot / PAGE_SLOTS + 1;
        let more = if wanted > room { wanted.max(2 * room) } else { 0 };
        Self { page: Some(page), pages: Vec::with_capacity(more) }
    }
}

impl Stages {
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut LogStage> {
        self.pages.get_mut(slot / PAGE_SLOTS).map(|page| &mut page[slot % PAGE_SLOTS])
    }

    /// Pointers to pages that it has room for.
    pub(super) fn room(&self) -> usize {
        self.pages.capacity()
    }

    /// Adds a page, unless others have taken the room for it meanwhile.
    pub(super) fn grow(&mut self, growth: &mut Growth) {
        if growth.pages.capacity() > self.pages.capacity() {
            growth.pages.append(&mut self.pages);
            std::mem::swap(&mut growth.pages, &mut self.pages);
        }
        if self.pages.len() < self.pages.capacity() {
            self.pages.extend(growth.page.take());
        }
    }
}

impl Index<usize> for Stages {
    type Output = LogStage;

    fn index(&self, slot: usize) -> &LogStage {
        &self.pages[slot / PAGE_SLOTS][slot % PAGE_SLOTS]
    }
}

impl IndexMut<usize> for Stages {
    fn index_mut(&mut self, slot: usize) -> &mut LogStage {
        &mut self.pages[slot / PAGE_SLOTS][slot % PAGE_SLOTS]
    }
}

const _: () = assert!(size_of::<LogStage>() == 64);
