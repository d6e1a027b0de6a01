//! What collection does about segments that relocation has moved, or has left where they were.
//!
//! Not here: relocation itself (`relocate`).

use super::{Collector, Mark, file_bytes};
use crate::relocate::Landed;
use crate::yard::Yard;

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
            self.marks.insert(segment, Mark { survey, ..Mark::default() });
            let bytes = old.sealed.map_or(0, |was| file_bytes(&yard.manifest.state, &old, &was));
            self.reclaim.size(old.file, bytes);
            (self.seen, self.passed_over) = (None, false);
        }
        self.reclaim.spared = self.relocator.spared();
    }
}
