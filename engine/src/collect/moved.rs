//! What collection does about segments that relocation has moved, or has left where they were.
//!
//! Not here: relocation itself (`relocate`).

use super::{Collector, Mark};
use crate::relocate::Landed;
use crate::yard::{Yard, files_bytes};

impl Collector {
    /// What the pass has passed over is looked at once relocation is through with it.
    pub(super) fn look_again(&mut self) {
        if self.passed_over && !self.relocator.is_busy() {
            self.passed_over = false;
            self.seen = None;
        }
    }

    /// A segment has moved: its index is another one, and its first file may go.
    pub(super) fn land_moved(&mut self, yard: &mut Yard<'_>) {
        if let Some(Landed { segment, old }) = self.relocator.land(yard) {
            let survey = self.marks.get(&segment).map_or(0, |mark| mark.survey);
            let now = yard.manifest.state.segments.get(&segment).and_then(|facts| facts.sealed);
            // Counted when it was made.
            let index_bytes = now.map_or(0, |sealed| sealed.index_bytes);
            self.marks.insert(segment, Mark { survey, index_bytes, ..Mark::default() });
            let bytes = old.sealed.map_or(0, |was| files_bytes(&yard.manifest.state, &old, &was));
            self.reclaim.size(old.file, bytes);
            (self.seen, self.passed_over) = (None, false);
        }
        self.reclaim.spared = self.relocator.spared();
    }
}
