//! A storage in which one chosen operation fails, or everything from it on: wherever the engine is
//! by then, in a commit, in the manifest, in a recovery, in a read.
//!
//! Invariants: the same calls have the same numbers in every run, so that each can be failed in
//! turn; which operations have numbers at all is the test's choice.
//!
//! Not here: how an operation fails (`sapwood::io::hooked`), failures by chance
//! (`sapwood::io::sim::Faults`), the power switch (`cut`).

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use sapwood::io::hooked::{Call, Fate, Hook, Hooked};
use sapwood::io::sim::SimStorage;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EIO, and nothing of it was done.
    Refused,
    /// EIO, although all of it was done.
    Landed,
    /// ENOSPC, and nothing of it was done.
    Full,
}

impl Kind {
    fn fate(self) -> Fate {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        match self {
            Self::Refused => Fate::Fails(io::Error::from_raw_os_error(EIO)),
            Self::Landed => Fate::Lands(io::Error::from_raw_os_error(EIO)),
            Self::Full => Fate::Fails(io::Error::from_raw_os_error(ENOSPC)),
        }
    }
}

/// Which operations fail.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first, counted from 1.
    pub at: u64,
    /// How.
    pub kind: Kind,
    /// And every later one.
    pub for_ever: bool,
}

/// Whether an operation is counted.
pub type Filter = fn(&Call) -> bool;

#[derive(Default)]
struct Counts {
    counted: u64,
    plan: Option<Plan>,
    failed: u64,
}

/// Counts operations and has the planned ones fail.
pub struct Failing {
    counts: Mutex<Counts>,
    filter: Filter,
}

/// See the module.
pub type FailStorage = Hooked<Failing>;

impl Hook for Failing {
    fn before(&self, call: &Call) -> Fate {
        if !(self.filter)(call) {
            return Fate::Goes;
        }
        let mut counts = self.counts.lock();
        counts.counted += 1;
        let now = counts.counted;
        let hit = |plan: &Plan| if plan.for_ever { now >= plan.at } else { now == plan.at };
        let Some(plan) = counts.plan.filter(hit) else { return Fate::Goes };
        counts.failed += 1;
        plan.kind.fate()
    }
}

impl Failing {
    /// Fails by this plan, of all operations; without a plan, they are only counted.
    #[must_use]
    pub fn new(plan: Option<Plan>) -> Arc<Self> {
        Self::among(plan, |_| true)
    }

    /// The same, of those that the filter lets through.
    #[must_use]
    pub fn among(plan: Option<Plan>, filter: Filter) -> Arc<Self> {
        let counts = Mutex::new(Counts { plan, ..Counts::default() });
        Arc::new(Self { counts, filter })
    }

    /// Another plan, `None`: nothing fails from now on. Counts go on.
    pub fn plan(&self, plan: Option<Plan>) {
        self.counts.lock().plan = plan;
    }

    /// Operations so far.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counts.lock().counted
    }

    /// How many of them failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counts.lock().failed
    }
}

/// The same hook over another world: what a power cut left.
#[must_use]
pub fn onto(storage: &FailStorage, world: SimStorage) -> FailStorage {
    Hooked::with(world, Arc::clone(storage.hook()))
}
