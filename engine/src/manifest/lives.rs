//! The next life of a sealed segment, as an edit tells it.
//!
//! Invariants: its batches, their times and whether it is tiered are those of the life before; the
//! file of that one is retired by the same edit.
//!
//! Not here: making the file (`relocate`), what becomes of the old one (`reclaim`).

use super::{RetiredFacts, State};
use crate::format::manifest::Edit;

impl State {
    /// The segment moves into another file. One that is gone by now stays gone.
    pub(super) fn apply_relocated(&mut self, edit: &Edit) {
        let Edit::Relocated {
            segment,
            file,
            nonce,
            end_offset,
            records,
            index_bytes,
            term,
            index_crc,
        } = *edit
        else {
            return;
        };
        let Some(facts) = self.segments.get_mut(&segment) else { return };
        let Some(sealed) = &mut facts.sealed else { return };
        (sealed.end_offset, sealed.records) = (end_offset, records);
        (sealed.index_bytes, sealed.index_crc) = (index_bytes, index_crc);
        let old =
            RetiredFacts { segment, nonce: facts.nonce, bytes: facts.bytes, term: facts.term };
        self.retired.insert(facts.file, old);
        (facts.file, facts.nonce) = (file, nonce);
        (facts.bytes, facts.term) = (end_offset, term);
    }
}
