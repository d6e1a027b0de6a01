//! What every [`Owner`] upholds, as one suite: the directory lock, the simulated one, later etcd.
//!
//! Not here: what the engine makes of it (`tests/ownership`).

#![allow(clippy::unwrap_used, reason = "a suite for tests")]

use std::sync::Arc;

use super::{Grant, Owner};
use crate::error::Error;
use crate::io::{Clock, Storage};

/// A directory, and two processes' views of who owns it.
pub struct Setup {
    /// The directory.
    pub storage: Arc<dyn Storage>,
    /// One owner.
    pub first: Arc<dyn Owner>,
    /// Another one, over the same directory.
    pub second: Arc<dyn Owner>,
}

/// One promise.
pub type Check = fn(&Setup);

/// Every promise by its name.
pub const SUITE: &[(&str, Check)] = &[
    ("a directory is taken and given back", taken_and_given_back),
    ("two grants never count at once", never_two),
    ("the floors of terms never fall", floors_never_fall),
    ("a grant that was dropped ends by itself", dropped_ends),
    ("a lease that was lost stays lost", lost_stays_lost),
];

fn counts(grant: &Grant, clock: &dyn Clock) -> bool {
    grant.lease.as_ref().is_none_or(|lease| lease.holds(clock.boot_ns()))
}

fn taken_and_given_back(setup: &Setup) {
    let Setup { storage, first, second } = setup;
    assert!(!first.is_owned(&**storage).unwrap());
    for owner in [first, second, first] {
        let grant = owner.acquire(&**storage).unwrap();
        assert!(counts(&grant, &*storage.clock()));
        assert!(first.is_owned(&**storage).unwrap() && second.is_owned(&**storage).unwrap());
        grant.release().unwrap();
        assert!(!first.is_owned(&**storage).unwrap());
    }
}

fn never_two(setup: &Setup) {
    let Setup { storage, first, second } = setup;
    let earlier = first.acquire(&**storage).unwrap();
    match second.acquire(&**storage) {
        Err(Error::Locked { .. }) => assert!(second.is_owned(&**storage).unwrap()),
        Err(other) => panic!("{other}"),
        Ok(later) => {
            assert!(earlier.lease.is_some(), "a lock alone was taken twice");
            assert!(earlier.lock.is_none() || later.lock.is_none(), "a lock was taken twice");
            assert!(!counts(&earlier, &*storage.clock()), "both count");
            assert!(counts(&later, &*storage.clock()));
            // It comes too late to give anything back, and may say so.
            let _ = earlier.release();
            assert!(first.is_owned(&**storage).unwrap(), "gave back what was another's");
        }
    }
}

fn floors_never_fall(setup: &Setup) {
    let Setup { storage, first, second } = setup;
    let mut last = 0;
    for owner in [first, second, second, first] {
        let grant = owner.acquire(&**storage).unwrap();
        assert!(grant.term_floor >= last);
        if grant.lease.is_some() {
            assert!(grant.term_floor > last, "a lease has a term of its own");
        }
        last = grant.term_floor;
        grant.release().unwrap();
    }
}

fn dropped_ends(setup: &Setup) {
    let Setup { storage, first, second } = setup;
    drop(first.acquire(&**storage).unwrap());
    let grant = second.acquire(&**storage).unwrap();
    assert!(counts(&grant, &*storage.clock()));
    grant.release().unwrap();
}

fn lost_stays_lost(setup: &Setup) {
    let Setup { storage, first, .. } = setup;
    let grant = first.acquire(&**storage).unwrap();
    let Some(lease) = &grant.lease else { return };
    lease.lose("told so");
    lease.renew(u64::MAX);
    assert!(!counts(&grant, &*storage.clock()));
}
