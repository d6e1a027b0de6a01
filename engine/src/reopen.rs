//! Reopening a halted shard in place, while the others go on.
//!
//! Invariants: the shard has ended, and its disk has given back what was in flight, before its
//! recovery begins; the directory is owned throughout (`owner`); only this shard's files are looked
//! at. The new shard is let in after its recovery is durable, under a new term of its own.
//!
//! Crash story: a batch's write fails although all of it can be read (the device has it in its
//! cache, and will not keep it); it is recovered, built upon, and gone after a power cut: acked
//! records are damaged. So nothing beyond the durable watermark of the halted shard is kept.
//!
//! Crash story: the power goes anywhere in here. It is the crash of a recovery: the next open
//! decides the same for this shard, and the others know nothing of it.
//!
//! Not here: what a recovery does (`recover`), starting a shard (`open`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::Config;
use crate::driver::Driver;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inner::{Creation, Inner, wait};
use crate::lsn::ShardId;
use crate::manifest::{self, LogState};
use crate::open::{self, make_shard, next_number, remove_unnamed, run_shard};
use crate::planted::{Bug, planted};
use crate::recover::recover;
use crate::reply::Reply;
use crate::shard::{Request, Shard};
use crate::work::{Plan, Powers};

impl Engine {
    /// Recovers a halted shard in place, on the calling thread; the other shards go on meanwhile,
    /// at full speed. Its logs then end where readers saw them end: what was `Unknown` is not
    /// there, as a write that failed may be read and be gone after a power cut. Writers and readers
    /// from before get `Halted`, for good: open new ones, a reader where the old one stood.
    ///
    /// # Errors
    /// `Invalid` for a shard that runs, that does not exist, or that is driven by the caller (see
    /// [`reopen_shard_driven`](Self::reopen_shard_driven)); else as [`open`](Self::open): the shard
    /// stays halted then, and may be reopened again.
    pub fn reopen_shard(&self, shard: ShardId) -> Result<()> {
        let config = config(&self.inner)?;
        if config.driven {
            return Err(Error::Invalid("a driven shard needs its driver".into()));
        }
        let mut creating = self.inner.creating.lock();
        let fresh = again(&self.inner, config, shard)?;
        let port = Arc::clone(&fresh.port);
        let thread = run_shard(&*self.inner.storage, config, usize::from(shard.0), fresh)?;
        self.inner.threads.lock().push(thread);
        forget(&mut creating, shard);
        self.inner.replace(shard, port);
        Ok(())
    }

    /// As [`reopen_shard`](Self::reopen_shard), for an engine whose shards the caller drives: gives
    /// the shard's new driver. The old one is of no use any more.
    ///
    /// # Errors
    /// As [`reopen_shard`](Self::reopen_shard); `Undriven` when the old driver is not turned.
    pub fn reopen_shard_driven(&self, shard: ShardId) -> Result<Driver> {
        let config = config(&self.inner)?;
        if !config.driven {
            return Err(Error::Invalid("the engine drives its shards itself".into()));
        }
        let mut creating = self.inner.creating.lock();
        let fresh = again(&self.inner, config, shard)?;
        forget(&mut creating, shard);
        self.inner.replace(shard, Arc::clone(&fresh.port));
        Ok(Driver::new(shard, Box::new(fresh)))
    }
}

/// Creations that were under way when the shard ended: recovery has found them, or they are not.
/// Settled later, they would be let in once more, as new and empty logs.
fn forget(creating: &mut Vec<Creation>, shard: ShardId) {
    creating.retain(|creation| creation.shard != shard);
}

fn config(inner: &Inner) -> Result<&Config> {
    let read_only = || Error::Invalid("the engine is open for reading only".into());
    inner.config.as_ref().ok_or_else(read_only)
}

/// Waits for the end of the old shard, recovers, makes the new one.
fn again(inner: &Inner, config: &Config, id: ShardId) -> Result<Shard> {
    if id.0 >= inner.facts.shards {
        return Err(Error::Invalid(format!("there is no shard {id}")));
    }
    let end = end_of(inner, id)?;
    let keep_to = if planted(Bug::FailedIsKept) { u64::MAX } else { end };
    let storage = &inner.storage;
    let files = open::list(&**storage)?;
    let loaded = manifest::load(&**storage, id)?.ok_or_else(|| {
        Error::NotOurs(format!("the manifest of shard {id} is missing or damaged"))
    })?;
    let (mode, progress) = (config.recovery, &AtomicU64::new(0));
    let grant = inner.grant.lock();
    let grant = grant.as_ref().ok_or(Error::Closed)?;
    let powers = &Powers::of(grant);
    let plan = Plan { storage, shard: id, mode, write: true, keep_to, powers, progress };
    let recovered = recover(&plan, loaded)?;
    // Files of the others are being made and removed at this moment.
    let own: Vec<_> = files.into_iter().filter(|(_, name)| name.shard() == Some(id)).collect();
    let state = |_| Some((&recovered.state, recovered.last_term));
    remove_unnamed(&**storage, state, &own, powers)?;
    let number = next_number(id, &recovered.state, &own, powers);
    let logs = recovered.state.logs.iter().map(LogState::entry);
    inner.catalog.write().replace(id, recovered.state.next_log, logs);
    powers.check(storage.clock().boot_ns())?;
    let usage = &inner.port(id)?.usage;
    let mut shard = make_shard(storage, config, id, recovered, number, grant, usage)?;
    shard.collector.tier = inner.archive.is_some();
    Ok(shard)
}

/// Has the halted shard end: nothing of it is at the disk afterwards. Gives its last durable batch.
fn end_of(inner: &Inner, id: ShardId) -> Result<u64> {
    let old = inner.port(id)?;
    if old.intake.halted().is_none() {
        return Err(Error::Invalid(format!("shard {id} is not halted")));
    }
    let reply = Reply::new();
    if old.force_request(Request::Close(Arc::clone(&reply))) {
        wait(&old, &reply)?;
    }
    let name = format!("sapwood-{}", id.0);
    let mut threads = inner.threads.lock();
    let at = threads.iter().position(|thread| thread.thread().name() == Some(&name));
    let thread = at.map(|at| threads.swap_remove(at));
    drop(threads);
    if let Some(thread) = thread {
        let _ = thread.join();
    }
    Ok(old.view.durable())
}
