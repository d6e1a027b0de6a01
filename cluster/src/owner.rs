//! The engine's `Owner` over a transport: drives `claim` and `tenure`, renews on a thread of its
//! own.
//!
//! Invariants:
//! - The machines see the clock that counts suspend, read before each question and after each
//!   answer; whoever is suspended between two lines is suspended between two calls of a machine.
//! - The thread that renews ends with the last holder of the lease, or with the lease.
//! - The directory's lock is a second line: had when it can be had, and told when it cannot. Only
//!   for a key without history it is a condition.
//!
//! Not here: when a lease counts (the engine's `Lease`), what is asked (`claim`, `tenure`).

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sapwood::io::{Clock, HostInfo, LockGuard, LockOutcome, Storage, hostinfo};
use sapwood::owner::{Grant, LOCK_NAME, Lease, Owner, STOP_LOOK};
use sapwood::{Error, Result};

use crate::claim::{Claim, Step};
use crate::record::{Node, Record};
use crate::tenure::{self, Tenure};
use crate::terms::Terms;
use crate::transport::{Failure, Transport};

/// Ownership of one directory by a lease under one key.
pub struct LeaseOwner<T> {
    transport: Arc<T>,
    key: Arc<str>,
    terms: Terms,
    address: String,
    /// Nobody renews but [`renew`](Self::renew).
    driven: bool,
    last: Mutex<Weak<Keeper<T>>>,
}

/// What keeps a tenure.
struct Keeper<T> {
    transport: Arc<T>,
    key: Arc<str>,
    clock: Arc<dyn Clock>,
    tenure: Mutex<Tenure>,
    /// Held by those who go by it; when nobody does any more there is nothing to renew.
    lease: Weak<Lease>,
}

/// The key of a directory: the name that all its nodes know it by, behind a prefix of ours.
#[must_use]
pub fn key(directory: &str) -> String {
    format!("/sapwood/directories/{}/owner", directory.trim_matches('/'))
}

impl<T: Transport + 'static> LeaseOwner<T> {
    /// Ownership of the directory that all nodes know by this name. Nobody is asked yet.
    #[must_use]
    pub fn new(transport: T, directory: &str, terms: Terms) -> Self {
        let (transport, key) = (Arc::new(transport), key(directory).into());
        let (address, driven, last) = (String::new(), false, Mutex::default());
        Self { transport, key, terms, address, driven, last }
    }

    /// Says in etcd where this node can be asked.
    #[must_use]
    pub fn at(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Without a thread that renews: for simulations, where [`renew`](Self::renew) does.
    #[must_use]
    pub fn driven(mut self) -> Self {
        self.driven = true;
        self
    }

    /// Does what the renewing thread would do now. Until when there is nothing more to do, in
    /// nanoseconds of the clock that counts suspend; `None`: nothing is owned.
    pub fn renew(&self) -> Option<u64> {
        let keeper = self.last.lock().upgrade()?;
        keeper.turn()
    }

    /// Who owns the directory now, or owned it last.
    ///
    /// # Errors
    /// `Io` when etcd does not answer, `NotOurs` when the key holds something else.
    pub fn look(&self) -> Result<Option<Record>> {
        let found = self.transport.get(&self.key).map_err(|failure| self.failed(failure))?;
        let Some((_, value)) = found else { return Ok(None) };
        let not_ours = |flaw| Error::NotOurs(format!("etcd: {} holds {flaw}", self.key));
        Record::parse(&value).map(Some).map_err(not_ours)
    }

    fn failed(&self, failure: Failure) -> Error {
        let doing = format!("asking who owns the directory (key {})", self.key);
        Error::io(doing, io::Error::other(failure.to_string()))
    }

    fn take(
        &self,
        storage: &dyn Storage,
        patient: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Grant>> {
        let me = hostinfo().map_err(|e| Error::io("asking who we are", e))?;
        let clock = storage.clock();
        let node = Node { host: me.host.clone(), pid: me.pid, address: self.address.clone() };
        let mut claim = Claim::new(self.terms, node, storage.random_u64(), patient);
        let mut lock = None;
        loop {
            match claim.next(clock.boot_ns()) {
                Step::Ask(ask) => {
                    let answer = ask.over(&*self.transport, &self.key);
                    claim.answer(clock.boot_ns(), answer);
                }
                Step::Wait(until) => {
                    let left = until.saturating_sub(clock.boot_ns());
                    clock.sleep(Duration::from_nanos(left).min(STOP_LOOK));
                    if stop() {
                        return Ok(None);
                    }
                }
                Step::Lock => {
                    lock = try_lock(storage, &me)?;
                    claim.locked(lock.is_some());
                }
                Step::Owned(record) => {
                    return Err(Error::Locked { pid: record.node.pid, host: record.node.host });
                }
                Step::Failed(failure) => return Err(self.failed(failure)),
                Step::Taken(tenure) => return self.begin(storage, &me, *tenure, lock).map(Some),
            }
        }
    }

    /// From a tenure to a grant: the renewing begins, then the lock is gone for.
    fn begin(
        &self,
        storage: &dyn Storage,
        me: &HostInfo,
        tenure: Tenure,
        lock: Option<LockGuard>,
    ) -> Result<Grant> {
        let (clock, term_floor) = (storage.clock(), tenure.term());
        let lease = Arc::new(Lease::new(tenure.until_ns()));
        let keeper = Arc::new(Keeper {
            transport: Arc::clone(&self.transport),
            key: Arc::clone(&self.key),
            clock,
            tenure: Mutex::new(tenure),
            lease: Arc::downgrade(&lease),
        });
        *self.last.lock() = Arc::downgrade(&keeper);
        if !self.driven {
            let theirs = Arc::clone(&keeper);
            let run = Box::new(move || theirs.run());
            let started = storage.spawn("sapwood-lease".into(), run, None);
            started.map_err(|e| Error::io("starting the thread that renews the lease", e))?;
        }
        let lock = match lock {
            Some(lock) => Some(lock),
            // The lease decides. Whoever has the lock has lost it, or will be told.
            None => try_lock(storage, me).unwrap_or_else(|error| {
                tracing::warn!(%error, "the directory's lock cannot be had; the lease decides");
                None
            }),
        };
        let release = move || keeper.release();
        let on_release: Option<Box<dyn FnOnce() -> Result<()> + Send>> = Some(Box::new(release));
        Ok(Grant { term_floor, lease: Some(lease), lock, shared: true, on_release })
    }
}

fn try_lock(storage: &dyn Storage, me: &HostInfo) -> Result<Option<LockGuard>> {
    match storage.lock(LOCK_NAME, &me.encode()) {
        Ok(LockOutcome::Taken(guard)) => Ok(Some(guard)),
        Ok(LockOutcome::Held { identity }) => {
            let by = HostInfo::parse(&identity).unwrap_or_default();
            tracing::warn!(by.host, by.pid, "another process has the directory's lock");
            Ok(None)
        }
        Err(e) => Err(Error::io("locking the directory", e)),
    }
}

impl<T: Transport> Keeper<T> {
    /// The thread.
    fn run(&self) {
        while let Some(until) = self.turn() {
            let left = until.saturating_sub(self.clock.boot_ns());
            self.clock.sleep(Duration::from_nanos(left).min(STOP_LOOK));
        }
    }

    /// Renews if it is time to; until when there is nothing more to do. `None`: it is over.
    fn turn(&self) -> Option<u64> {
        let mut tenure = self.tenure.lock();
        loop {
            let lease = self.lease.upgrade()?;
            match self.step(&mut tenure, &lease) {
                tenure::Step::Ask(_) => {}
                tenure::Step::Wait(until) => return Some(until),
                tenure::Step::Released => return None,
                tenure::Step::Lost(why) => {
                    lease.lose(why);
                    return None;
                }
            }
        }
    }

    fn step(&self, tenure: &mut Tenure, lease: &Lease) -> tenure::Step {
        let step = tenure.next(self.clock.boot_ns());
        if let tenure::Step::Ask(ask) = &step {
            let answer = ask.over(&*self.transport, &self.key);
            tenure.answer(self.clock.boot_ns(), answer);
            lease.renew(tenure.until_ns());
        }
        step
    }

    /// Gives the directory back; tries for as long as the lease counts.
    fn release(&self) -> Result<()> {
        let mut tenure = self.tenure.lock();
        // Nobody acts on it any more.
        let lease = Lease::new(tenure.until_ns());
        tenure.release();
        loop {
            match self.step(&mut tenure, &lease) {
                tenure::Step::Ask(_) => {}
                tenure::Step::Wait(until) => {
                    let left = until.saturating_sub(self.clock.boot_ns());
                    self.clock.sleep(Duration::from_nanos(left).min(STOP_LOOK));
                }
                tenure::Step::Released => return Ok(()),
                tenure::Step::Lost(why) => {
                    let doing = "giving the lease back (it runs out by itself)";
                    return Err(Error::io(doing, io::Error::other(why)));
                }
            }
        }
    }
}

impl<T: Transport + 'static> Owner for LeaseOwner<T> {
    fn kind(&self) -> &'static str {
        "etcd"
    }

    fn acquire(&self, storage: &dyn Storage) -> Result<Grant> {
        let taken = self.take(storage, false, &|| false)?;
        taken.ok_or(Error::Closed)
    }

    /// An owner that is gone and has not released counts as one until somebody succeeds it: a
    /// reader then sees what was claimed, no more.
    fn is_owned(&self, _: &dyn Storage) -> Result<bool> {
        Ok(self.look()?.is_some_and(|record| !record.released))
    }

    fn acquire_in_turn(
        &self,
        storage: &dyn Storage,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Grant>> {
        while !stop() {
            match self.take(storage, true, stop) {
                // By its lock, and without a record: nobody can tell when that ends.
                Err(Error::Locked { .. }) => storage.clock().sleep(STOP_LOOK),
                other => return other,
            }
        }
        Ok(None)
    }
}
