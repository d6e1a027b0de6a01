//! A storage that takes a picture of what a power cut would leave at every step of the engine.
//!
//! Invariants: a picture is taken when an operation has been handed over (any part of it may have
//! landed) and when it has completed; it names the step, so that a test can demand the steps that
//! it is about. Not here: what must be true of a picture (`judge`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

use sapwood::io::hooked::{Call, Fate, Hook, Hooked, What};
use sapwood::io::sim::SimStorage;
use sapwood::io::{Clock, Storage};

pub(crate) mod judge;
pub(crate) mod rot;

/// Pictures of one moment: each keeps another random part of what was not yet durable.
const PICTURES: usize = 2;

/// What a power cut would leave, and after which step.
pub(crate) struct Cut {
    pub(crate) step: String,
    pub(crate) world: SimStorage,
}

#[derive(Default)]
struct Pages {
    on: bool,
    cuts: Vec<Cut>,
    steps: BTreeSet<String>,
}

/// Takes the pictures.
pub(crate) struct Album {
    world: SimStorage,
    pages: Mutex<Pages>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Tap(Hooked<Album>);

/// A name without its numbers: `manifest`, `segment`, `index`.
fn kind(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// What an operation does, and whose it is: by its token's high byte, or by its file.
fn label(call: &Call) -> String {
    let what = match call.what {
        What::Write => "write",
        What::Read => "read",
        What::Sync => "sync",
        What::SyncDir => "sync-dir",
        What::Create => "create",
        What::Open => "open",
        What::Truncate => "truncate",
        What::Remove => "remove",
        What::Rename => "rename",
        What::Lock => "take",
        What::List => "list",
        What::Len => "len",
    };
    let Some(token) = call.token else {
        return format!("{what} {}", kind(&call.name)).trim_end().to_owned();
    };
    let whose =
        ["", "batch", "manifest", "fill", "seal", "gc", "", "hint"].get((token >> 56) as usize);
    format!("{} {what}", whose.copied().unwrap_or("other"))
}

impl Hook for Album {
    fn before(&self, call: &Call) -> Fate {
        if call.token.is_some() { Fate::InSteps } else { Fate::Goes }
    }

    fn under_way(&self, call: &Call) {
        self.shoot(&format!("{} under way", label(call)));
    }

    fn after(&self, call: &Call) {
        let looks = matches!(call.what, What::List | What::Open | What::Len | What::Read);
        if call.token.is_some() || !looks {
            self.shoot(&label(call));
        }
    }
}

impl Album {
    fn shoot(&self, step: &str) {
        let mut pages = self.pages.lock().unwrap();
        if !pages.on {
            return;
        }
        pages.steps.insert(step.to_owned());
        for _ in 0..PICTURES {
            pages.cuts.push(Cut { step: step.to_owned(), world: self.world.crash() });
        }
    }
}

impl Tap {
    pub(crate) fn new(world: SimStorage) -> Self {
        let album = Album { world: world.clone(), pages: Mutex::default() };
        Self(Hooked::with(world, Arc::new(album)))
    }

    /// What an engine is opened on.
    pub(crate) fn storage(&self) -> Hooked<Album> {
        self.0.clone()
    }

    /// Takes pictures from here on, or stops.
    pub(crate) fn record(&self, on: bool) {
        self.0.pages.lock().unwrap().on = on;
    }

    /// The pictures since the last call.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        std::mem::take(&mut self.0.pages.lock().unwrap().cuts)
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> SimStorage {
        self.0.world().clone()
    }

    /// The clock of its world.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.disk().clock()
    }

    /// What a power cut would leave now.
    pub(crate) fn crash(&self) -> SimStorage {
        self.0.world().crash()
    }

    /// Demands that these steps were seen.
    pub(crate) fn demand(&self, steps: &[&str]) {
        let seen = self.0.pages.lock().unwrap().steps.clone();
        for step in steps {
            assert!(seen.contains(*step), "step {step:?} did not happen; there were {seen:?}");
        }
    }

    /// Whether a step was seen.
    pub(crate) fn saw(&self, step: &str) -> bool {
        self.0.pages.lock().unwrap().steps.contains(step)
    }
}
