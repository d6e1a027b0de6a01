//! A batch read from the staging memory, which cannot be staged over meanwhile.
//!
//! Invariant: whoever lets memory go tells the first in line for room, as an ack does.
//!
//! The story: a reader was held up while it copied a batch, and the others staged on until they
//! stood before that batch. All they had staged was acked; the next append found no room and waited
//! for an ack that nobody was left to cause. The reader went on, and told nobody.
//!
//! Not here: which memory is whose (`io/buf`), the line (`line`).

use std::ops::Deref;
use std::sync::Arc;

use super::Intake;
use crate::io::buf::Pinned;
use crate::races::{Race, raced};
use crate::sync::atomic::{Ordering, fence};

/// See the module. Hold it briefly.
pub(crate) struct InMemory {
    /// `None`: let go.
    pinned: Option<Pinned>,
    intake: Arc<Intake>,
}

impl Deref for InMemory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.pinned.as_deref().unwrap_or_default()
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.pinned = None;
        // Who joins the line looks at the memory afterwards, and this looks at the line.
        fence(Ordering::SeqCst);
        if !raced(Race::UnpinSilent) {
            self.intake.wake_first();
        }
    }
}

impl Intake {
    /// The bytes of batch `seq`, when they are still in memory.
    pub(crate) fn pin(self: &Arc<Self>, seq: u64) -> Option<InMemory> {
        let pinned = Some(self.ring.pin(seq)?);
        Some(InMemory { pinned, intake: Arc::clone(self) })
    }
}
