//! The reading thread: disk reads of asynchronous readers, so that no executor blocks on them.
//!
//! Invariants: one thread per engine, started at the first such read; it ends with the engine's
//! last reader. Blocking readers do not use it.
//!
//! Not here: what is read (`catchup`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::io::Storage;
use crate::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub(crate) struct Reads {
    storage: Arc<dyn Storage>,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Reads {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, jobs: Mutex::new(None) }
    }

    /// Starts the reading thread if it does not run.
    pub(crate) fn start(&self) -> Result<()> {
        let mut jobs = self.jobs.lock();
        if jobs.is_none() {
            let (sender, receiver) = channel::<Job>();
            let run = Box::new(move || receiver.iter().for_each(|job| job()));
            self.storage
                .spawn("sapwood-read".into(), run, None)
                .map_err(|e| Error::io("starting the reading thread", e))?;
            *jobs = Some(sender);
        }
        Ok(())
    }

    /// Runs `job` on the reading thread, which was started.
    pub(crate) fn run(&self, job: Job) -> Result<()> {
        match self.jobs.lock().as_ref().map(|sender| sender.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::Closed),
        }
    }
}
