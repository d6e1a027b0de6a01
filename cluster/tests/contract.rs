//! The suite of every owner, over leases: simulated here, over a real etcd with the feature `etcd`.
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sapwood::io::sim::{Faults, SimStorage};
use sapwood::owner::contract::{SUITE, Setup};
use sapwood_cluster::sim::SimEtcd;
use sapwood_cluster::{LeaseOwner, Terms};

#[test]
fn leases_keep_the_contract_of_owners() {
    for (promise, check) in SUITE {
        println!("{promise}");
        let etcd = SimEtcd::default();
        let terms = Terms::of(Duration::from_secs(10)).unwrap();
        let owner = |etcd: SimEtcd| Arc::new(LeaseOwner::new(etcd, "wal", terms).driven());
        check(&Setup {
            storage: Arc::new(SimStorage::new(1, Faults::default())),
            first: owner(etcd.clone()),
            second: owner(etcd.another()),
        });
    }
}
