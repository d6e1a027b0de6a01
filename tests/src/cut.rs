//! A storage whose power fails at a chosen operation, wherever the engine is by then: in a commit,
//! in the manifest, in the middle of recovery.
//!
//! Invariants: the image is taken once; what the engine does afterwards happens to a ghost and
//! counts for nothing. The operation that the power fails in has begun: any part of it may survive.
//!
//! Not here: crashes between operations, which need no hook ([`SimStorage::crash`]).

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sapwood::io::hooked::{Call, Fate, Hook, Hooked, What};
use sapwood::io::sim::SimStorage;

/// See the module.
pub type CutStorage = Hooked<Power>;

/// The power of a world.
pub struct Power {
    world: SimStorage,
    /// Operations until it fails; 0: it does not.
    left: AtomicU64,
    image: Mutex<Option<SimStorage>>,
}

impl From<SimStorage> for Power {
    /// On.
    fn from(world: SimStorage) -> Self {
        Self { world, left: AtomicU64::new(0), image: Mutex::new(None) }
    }
}

/// Whether an operation changes anything; all that a disk is given counts, too.
fn counts(call: &Call) -> bool {
    let looks = matches!(call.what, What::List | What::Open | What::Len | What::Read);
    call.token.is_some() || !looks
}

impl Hook for Power {
    fn before(&self, call: &Call) -> Fate {
        if !counts(call) {
            return Fate::Goes;
        }
        let before = self.left.load(Ordering::Relaxed);
        self.left.store(before.saturating_sub(1), Ordering::Relaxed);
        if before == 1 { Fate::InSteps } else { Fate::Goes }
    }

    fn under_way(&self, _: &Call) {
        *self.image.lock() = Some(self.world.crash());
    }
}

impl Power {
    /// Has the power fail in the `operations`-th operation from now on; 0: in none.
    pub fn cut_after(&self, operations: u64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.image.lock().is_some()
    }

    /// What the power cut left, or what one at this moment would.
    #[must_use]
    pub fn image(&self) -> SimStorage {
        let taken = self.image.lock().take();
        taken.unwrap_or_else(|| self.world.crash())
    }
}
