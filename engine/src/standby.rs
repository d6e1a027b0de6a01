//! A standby: it follows a directory that another process writes, and takes it over when that one
//! is gone.
//!
//! Invariants: nothing in the directory is changed before it is owned; whoever is promoted has
//! recovered the directory like any open, under the next term; a standby that is dropped stops
//! waiting, and gives back what it has taken meanwhile.
//!
//! Not here: when an owner is gone (`owner`), recovering (`open`), following (`follow`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;

use crate::components::Components;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inner::StopOnDrop;
use crate::io::Storage;
use crate::open;
use crate::owner::{Grant, Owner};
use crate::reply::Reply;

/// Waits for a directory. Dropping it ends the wait, within
/// [`STOP_LOOK`](crate::owner::STOP_LOOK) and what a question to the owner takes.
pub struct Standby {
    config: Config,
    components: Components,
    outcome: Arc<Outcome>,
    _stop: StopOnDrop,
}

/// What the waiting came to.
struct Outcome {
    engine: Mutex<Option<Result<Engine>>>,
    reply: Arc<Reply>,
}

impl fmt::Debug for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standby({})", self.config.dir.display())
    }
}

impl Engine {
    /// Waits for the directory on a thread of its own, and opens it once it is owned: see
    /// [`Standby`].
    ///
    /// # Errors
    /// `Invalid` for settings out of range, and for driven or read-only ones; `NotOurs` and `Io` as
    /// [`open`](Self::open).
    pub fn open_standby(config: Config, owner: Arc<dyn Owner>) -> Result<Standby> {
        let components = Components { owner: Some(owner), ..Components::default() };
        Self::open_standby_with(config, components)
    }

    /// As [`open_standby`](Self::open_standby), with parts that others implement.
    ///
    /// # Errors
    /// As [`open_standby`](Self::open_standby); `Invalid` without an owner.
    pub fn open_standby_with(config: Config, components: Components) -> Result<Standby> {
        config.validate()?;
        if config.driven || config.read_only {
            return Err(Error::Invalid("a standby drives its own shards, and will write".into()));
        }
        let Some(owner) = components.owner.clone() else {
            return Err(Error::Invalid("a standby waits for an owner: give one".into()));
        };
        let storage = match &components.storage {
            Some(storage) => Arc::clone(storage),
            None => open::storage(&config)?,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let outcome = Arc::new(Outcome { engine: Mutex::default(), reply: Reply::new() });
        let wait = Wait {
            owner,
            storage: Arc::clone(&storage),
            config: config.clone(),
            components: components.clone(),
            stop: Arc::clone(&stop),
            outcome: Arc::clone(&outcome),
        };
        let started = storage.spawn("sapwood-standby".into(), Box::new(move || wait.run()), None);
        started.map_err(|e| Error::io("starting the thread of a standby", e))?;
        Ok(Standby { config, components, outcome, _stop: StopOnDrop(stop) })
    }
}

impl Standby {
    /// The directory as it is, for reading: it follows whoever writes it. Each call opens anew; one
    /// that was opened before the directory is taken over goes on through it.
    ///
    /// # Errors
    /// As a read-only [`open`](Engine::open): `NotOurs` as long as nobody has made the directory.
    pub fn follow(&self) -> Result<Engine> {
        let config = Config { read_only: true, ..self.config.clone() };
        Ok(Engine::open_with(config, self.components.clone())?.0)
    }

    /// The engine, once the directory was taken over; waits for nothing.
    ///
    /// # Errors
    /// As [`Promoted::wait`].
    pub fn poll(&self) -> Result<Option<Engine>> {
        self.outcome.get().transpose()
    }

    /// Resolves when the directory was taken over and opened. Dropping it changes nothing; it may
    /// be asked for again.
    pub fn promoted(&self) -> Promoted<'_> {
        Promoted(self)
    }
}

/// See [`Standby::promoted`].
#[derive(Debug)]
#[must_use = "a promotion that nobody waits for happens all the same"]
pub struct Promoted<'a>(&'a Standby);

impl Promoted<'_> {
    /// Blocks until the directory was taken over and opened.
    ///
    /// # Errors
    /// Those of the owner, but `Locked`; as [`Engine::open`].
    pub fn wait(self) -> Result<Engine> {
        let _ = self.0.outcome.reply.wait(None);
        self.0.outcome.get().unwrap_or(Err(Error::Closed))
    }
}

impl Future for Promoted<'_> {
    type Output = Result<Engine>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = &self.0.outcome;
        outcome.reply.register(context.waker());
        outcome.get().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Outcome {
    fn get(&self) -> Option<Result<Engine>> {
        self.reply.get()?.ok()?;
        self.engine.lock().clone()
    }
}

/// The thread of a standby.
struct Wait {
    owner: Arc<dyn Owner>,
    storage: Arc<dyn Storage>,
    config: Config,
    components: Components,
    stop: Arc<AtomicBool>,
    outcome: Arc<Outcome>,
}

impl Wait {
    fn run(self) {
        let stop = || self.stop.load(Ordering::Acquire);
        let engine = match self.owner.acquire_in_turn(&*self.storage, &stop) {
            Ok(Some(grant)) if stop() => {
                let _ = grant.release();
                return;
            }
            Ok(Some(grant)) => self.open(grant),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        *self.outcome.engine.lock() = Some(engine);
        self.outcome.reply.set(Ok(()));
    }

    fn open(&self, grant: Grant) -> Result<Engine> {
        let had = Had { owner: Arc::clone(&self.owner), grant: Mutex::new(Some(grant)) };
        let components = Components {
            owner: Some(Arc::new(had)),
            storage: Some(Arc::clone(&self.storage)),
            ..self.components.clone()
        };
        Ok(Engine::open_with(self.config.clone(), components)?.0)
    }
}

/// An owner whose question was asked already.
struct Had {
    owner: Arc<dyn Owner>,
    grant: Mutex<Option<Grant>>,
}

impl Owner for Had {
    fn kind(&self) -> &'static str {
        self.owner.kind()
    }

    fn acquire(&self, storage: &dyn Storage) -> Result<Grant> {
        let grant = self.grant.lock().take();
        grant.map_or_else(|| self.owner.acquire(storage), Ok)
    }

    fn is_owned(&self, storage: &dyn Storage) -> Result<bool> {
        self.owner.is_owned(storage)
    }
}
