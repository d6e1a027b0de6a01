//! Ownership: who may write a directory, taken at open, checked before every ack, given back at
//! close.
//!
//! Invariants, which every [`Owner`] upholds and [`contract`] tests:
//! - At no moment do two grants of one directory count: a grant is given only when every earlier
//!   one was released, has run out, or was of a process that is gone with its last write landed.
//! - The floors of terms never fall, and one above a lease's predecessors' is given with each
//!   lease.
//! - A lease counts until a moment on the clock that also counts suspend ([`Clock::boot_ns`]),
//!   taken *before* its renewal was asked for, less a margin. So it is over here before it is over
//!   for a successor.
//!
//! What the engine does with it: the term of an open is at least the floor. With a lease, a shard
//! asks whether it still counts after a write has completed and before durable advances, so before
//! anything is acked or claimed. When it does not, the shard halts: nothing is acked any more, what
//! is in flight is unknown. That check follows the write, so what was acked was on the medium while
//! nobody else could own the directory, and the successor's recovery finds it.
//!
//! Crash story: an owner is suspended with a write in flight, its lease runs out, a successor
//! recovers and appends. The owner wakes, the completion is there. It looks at the lease first: no
//! ack leaves, and the write lies behind the successor's cut, in a file of an older term.
//!
//! Not here: what fences bytes (terms, in `recover`), etcd (a crate of its own implements
//! [`Owner`]).

#[cfg(any(test, feature = "sim"))]
pub mod contract;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Cause, Error, Result};
use crate::io::{HostInfo, LockGuard, LockOutcome, Storage, hostinfo};
use crate::names;
use crate::planted::{Bug, planted};

#[cfg(doc)]
use crate::io::Clock;

/// An engine of this very process may be draining after its last handle was dropped: an open waits
/// this long for its lock.
const OWN_LOCK_WAIT: Duration = Duration::from_secs(2);

/// The directory's lock file, for owners that take it as a second line.
pub const LOCK_NAME: &str = names::LOCK;

/// How often that wait looks.
const OWN_LOCK_POLL: Duration = Duration::from_millis(2);

/// Decides who may write a directory. Given at open; see the module for what it upholds.
pub trait Owner: Send + Sync {
    /// What decides, in a word: `lock`, `etcd`, `simulated`.
    fn kind(&self) -> &'static str;

    /// Takes the directory for this process; waits, within a bound of its own, for an owner that is
    /// gone. Called once per write-open, before anything is read or changed.
    ///
    /// # Errors
    /// `Locked` while a living owner has it; `Io` when nobody can be asked: nothing was taken then.
    fn acquire(&self, storage: &dyn Storage) -> Result<Grant>;

    /// Whether somebody owns the directory now, without taking it: what a read-only open asks.
    ///
    /// # Errors
    /// `Io` when nobody can be asked.
    fn is_owned(&self, storage: &dyn Storage) -> Result<bool>;

    /// As [`acquire`](Self::acquire), but waits for as long as a living owner has the directory:
    /// what a standby does. `Ok(None)`: `stop` said to end the wait. It is asked every
    /// [`STOP_LOOK`] at the latest, questions that hang apart.
    ///
    /// # Errors
    /// As `acquire`, without `Locked`.
    fn acquire_in_turn(
        &self,
        storage: &dyn Storage,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Grant>> {
        let clock = storage.clock();
        while !stop() {
            match self.acquire(storage) {
                Err(Error::Locked { .. }) => clock.sleep(STOP_LOOK),
                other => return other.map(Some),
            }
        }
        Ok(None)
    }
}

/// How often somebody who waits for a directory looks whether to go on waiting.
pub const STOP_LOOK: Duration = Duration::from_millis(50);

/// Ownership that was taken. Dropped without [`release`](Grant::release), as after a failure, it
/// ends by itself: a lock with the last write of the process, a lease when it runs out.
#[derive(Default)]
pub struct Grant {
    /// The term of this open is at least this. 0: the manifest's own count decides.
    pub term_floor: u32,
    /// Until when it counts; `None`: as long as the process lives.
    pub lease: Option<Arc<Lease>>,
    /// The directory's lock. The rings of all shards hold it too, so that no write of an earlier
    /// owner can land any more. Without it an earlier owner's files are never written again.
    pub lock: Option<LockGuard>,
    /// Other hosts can write the directory's files too. The lock is then a second line only: a host
    /// may have lost it and have writes under way, so that an earlier owner's files are never
    /// written again, lock or no lock.
    pub shared: bool,
    /// Tells a successor that it need not wait; called once, after the last completion.
    pub on_release: Option<Box<dyn FnOnce() -> Result<()> + Send>>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term_floor, lease, lock, .. } = self;
        write!(f, "Grant(from term {term_floor}, {lease:?}, lock {})", lock.is_some())
    }
}

impl Grant {
    /// Gives the directory up: for a clean close, after the last completion.
    ///
    /// # Errors
    /// Of the lock and of `on_release`; ownership then ends by itself.
    pub fn release(self) -> Result<()> {
        let unlock = |lock: LockGuard| lock.unlock();
        let unlocked = self.lock.map_or(Ok(()), unlock);
        // The lock first: who finds the lease released goes for the lock.
        self.on_release.map_or(Ok(()), |release| release())?;
        unlocked.map_err(|e| Error::io("unlocking the directory", e))
    }
}

/// The word for a lease that was lost before its time.
const LOST: u64 = 0;

/// Until when an owner may act. Shared by the owner, who renews it on a thread of its own for as
/// long as anybody else holds it, and by the shards, who look at it.
pub struct Lease {
    /// In nanoseconds of [`Clock::boot_ns`]; [`LOST`] for good once it was lost.
    until_ns: AtomicU64,
    why: OnceLock<String>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease(until {})", self.until_ns())
    }
}

impl Lease {
    /// A lease until this moment of [`Clock::boot_ns`].
    #[must_use]
    pub fn new(until_ns: u64) -> Self {
        Self { until_ns: AtomicU64::new(until_ns), why: OnceLock::new() }
    }

    /// Renews it until this moment, which was reckoned from before the renewal was asked for. It
    /// never gets shorter; one that was lost stays lost.
    pub fn renew(&self, until_ns: u64) {
        let longer = |now: u64| (now != LOST).then_some(now.max(until_ns));
        let _ = self.until_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
    }

    /// Ends it now, for good: it was revoked, or is somebody else's. The first reason is kept.
    /// Shards halt at their next turn, at the latest half a second later.
    pub fn lose(&self, why: impl Into<String>) {
        let _ = self.why.set(why.into());
        self.until_ns.store(LOST, Ordering::Release);
    }

    /// Whether it counts at this moment of [`Clock::boot_ns`].
    #[must_use]
    pub fn holds(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns() || planted(Bug::LeaseNotChecked)
    }

    /// Until when it counts; 0 when it was lost.
    #[must_use]
    pub fn until_ns(&self) -> u64 {
        self.until_ns.load(Ordering::Acquire)
    }

    /// When it ends, in the time of [`Clock::mono_ns`], of which it is `mono_ns` now.
    pub(crate) fn wake_at(&self, mono_ns: u64, boot_ns: u64) -> u64 {
        mono_ns.saturating_add(self.until_ns().saturating_sub(boot_ns))
    }

    /// What a shard halts for.
    pub(crate) fn error(&self) -> io::Error {
        io::Error::other(match self.why.get() {
            Some(why) => format!("the lease on the directory is lost: {why}"),
            None => "the lease on the directory has run out".to_owned(),
        })
    }

    /// Refuses to go on without it.
    pub(crate) fn check(&self, now_ns: u64) -> Result<()> {
        if self.holds(now_ns) {
            return Ok(());
        }
        let cause = Cause { doing: "opening the directory".into(), error: self.error() };
        Err(Error::Halted { cause: Arc::new(cause) })
    }
}

/// The lock on the directory, and nothing else: all that one host needs on a file system of its
/// own. On NFS it is refused: there the choice is made by name, [`SingleNode`] or a lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectoryLock;

impl Owner for DirectoryLock {
    fn kind(&self) -> &'static str {
        "lock"
    }

    fn acquire(&self, storage: &dyn Storage) -> Result<Grant> {
        if storage.probe().nfs {
            return Err(Error::Invalid(ON_NFS.into()));
        }
        Ok(Grant { lock: Some(take_lock(storage)?), ..Grant::default() })
    }

    fn is_owned(&self, storage: &dyn Storage) -> Result<bool> {
        is_locked(storage)
    }
}

/// The lock on the directory, said by name to be all there is: on NFS, where only one host is to
/// write. It fences as well as the server keeps locks: a host that has lost its lock (a partition
/// longer than the server's lease) is not kept from writing, and may go on to ack. What it wrote
/// harms nobody who came after it, as files of earlier terms are never written again (`NFS.md`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleNode;

impl Owner for SingleNode {
    fn kind(&self) -> &'static str {
        "single-node"
    }

    fn acquire(&self, storage: &dyn Storage) -> Result<Grant> {
        let shared = storage.probe().nfs;
        Ok(Grant { lock: Some(take_lock(storage)?), shared, ..Grant::default() })
    }

    fn is_owned(&self, storage: &dyn Storage) -> Result<bool> {
        is_locked(storage)
    }
}

/// Why a lock alone is no owner on NFS.
const ON_NFS: &str = "the directory is on NFS, where a lock alone keeps no other host out: own it \
                      by a lease (--etcd), or say that no other host writes it (--single-node, \
                      owner::SingleNode)";

fn take_lock(storage: &dyn Storage) -> Result<LockGuard> {
    let me = hostinfo().map_err(|e| Error::io("asking who we are", e))?;
    let clock = storage.clock();
    let give_up = clock.mono_ns() + OWN_LOCK_WAIT.as_nanos() as u64;
    loop {
        match storage.lock(names::LOCK, &me.encode()) {
            Ok(LockOutcome::Taken(guard)) => {
                return Ok(guard);
            }
            Ok(LockOutcome::Held { identity }) => {
                let owner = HostInfo::parse(&identity);
                let ours = owner.as_ref().is_some_and(|owner| *owner == me);
                if !ours || clock.mono_ns() >= give_up {
                    return Err(locked(owner));
                }
                clock.sleep(OWN_LOCK_POLL);
            }
            Err(e) => return Err(Error::io("locking the directory", e)),
        }
    }
}

fn is_locked(storage: &dyn Storage) -> Result<bool> {
    let owner = storage.lock_owner_alive(names::LOCK);
    owner.map(|owner| owner.is_some()).map_err(|e| Error::io("asking who writes the directory", e))
}

fn locked(owner: Option<HostInfo>) -> Error {
    let (pid, host) = owner.map_or((0, "unknown".into()), |owner| (owner.pid, owner.host));
    Error::Locked { pid, host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_gets_longer_until_it_is_lost() {
        let lease = Lease::new(100);
        assert!(lease.holds(99) && !lease.holds(100));
        lease.renew(50);
        assert!(lease.holds(99), "a late answer to an earlier renewal shortens nothing");
        lease.renew(200);
        assert!(lease.holds(199));
        lease.lose("revoked");
        lease.lose("later");
        lease.renew(u64::MAX);
        assert!(!lease.holds(0), "lost is lost");
        assert!(lease.error().to_string().contains("revoked"));
    }
}
