//! A simulated owner: leases on virtual time, kept by a registry that any number of engines share.
//!
//! Invariants: it renews only when it is told to, so that a test decides when a lease runs out; a
//! successor waits the lease out, as it was last renewed, and the margin with it.
//!
//! Not here: locks. Two engines on one simulated directory are what it is for.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Grant, Lease, Owner};
use crate::error::{Error, Result};
use crate::io::{Clock, Storage};

/// How far a lease ends before its successor stops waiting.
const MARGIN_NS: u64 = 1_000_000;

/// Leases on one directory, as an etcd would keep them. Clones share the registry.
#[derive(Clone)]
pub struct SimOwner(Arc<Registry>);

struct Registry {
    ttl_ns: u64,
    wait_ns: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    term: u32,
    /// The last lease, until when a successor waits, and whether it was given back.
    last: Option<(Arc<Lease>, u64)>,
}

impl SimOwner {
    /// Leases of this length; an acquisition waits at most `wait` for an earlier one.
    #[must_use]
    pub fn new(ttl: Duration, wait: Duration) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
        Self(Arc::new(Registry { ttl_ns: ns(ttl), wait_ns: ns(wait), state: Mutex::default() }))
    }

    /// Renews the lease in force, as the owner's thread would.
    pub fn renew(&self, clock: &dyn Clock) {
        let asked = clock.boot_ns();
        if let Some((lease, until)) = &mut self.0.state.lock().last {
            *until = asked + self.0.ttl_ns;
            lease.renew(*until - MARGIN_NS);
        }
    }

    /// Revokes the lease in force: its owner is told at once, a successor waits all the same.
    pub fn revoke(&self, why: &str) {
        if let Some((lease, _)) = &self.0.state.lock().last {
            lease.lose(why);
        }
    }

    /// The term given last.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.0.state.lock().term
    }
}

impl Owner for SimOwner {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn acquire(&self, storage: &dyn Storage) -> Result<Grant> {
        let clock = storage.clock();
        let give_up = clock.boot_ns().saturating_add(self.0.wait_ns);
        loop {
            let mut state = self.0.state.lock();
            let asked = clock.boot_ns();
            let free_at = state.last.as_ref().map_or(0, |(_, until)| *until);
            if asked >= free_at {
                state.term += 1;
                let until = asked + self.0.ttl_ns;
                let lease = Arc::new(Lease::new(until - MARGIN_NS));
                state.last = Some((Arc::clone(&lease), until));
                let (term_floor, registry) = (state.term, Arc::clone(&self.0));
                let release = move || {
                    let mut state = registry.state.lock();
                    if state.term == term_floor {
                        state.last = None;
                    }
                    Ok(())
                };
                let on_release: Option<Box<dyn FnOnce() -> Result<()> + Send>> =
                    Some(Box::new(release));
                let lease = Some(lease);
                return Ok(Grant { term_floor, lease, on_release, ..Grant::default() });
            }
            drop(state);
            if free_at > give_up {
                return Err(Error::Locked { pid: 0, host: "simulated".into() });
            }
            clock.sleep(Duration::from_nanos(free_at - asked));
        }
    }

    fn is_owned(&self, storage: &dyn Storage) -> Result<bool> {
        let now = storage.clock().boot_ns();
        Ok(self.0.state.lock().last.as_ref().is_some_and(|(_, until)| now < *until))
    }
}
