//! Over a real etcd, which each test starts for itself on loopback: the suite of owners, and what
//! becomes of a lease when etcd is slow, down, restarted, compacted, or holds something else.
//!
//! Needs `etcd` in the path; says SKIPPED without.
#![cfg(feature = "etcd")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "server/mod.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood::Error;
use sapwood::io::{OsOptions, OsStorage, Storage};
use sapwood::owner::contract::{SUITE, Setup};
use sapwood::owner::{Grant, Owner};
use sapwood_cluster::etcd::{Access, Etcd};
use sapwood_cluster::owner::key;
use sapwood_cluster::transport::Transport;
use sapwood_cluster::{EtcdOwner, Terms};

use self::server::Server;

fn terms(millis: u64) -> Terms {
    Terms::of(Duration::from_millis(millis)).unwrap()
}

fn way(url: &str, terms: Terms) -> Etcd {
    let endpoints = vec![url.to_owned()];
    Etcd::new(Access { endpoints, patience: terms.patience(), ..Access::default() }).unwrap()
}

fn owner(url: &str, name: &str, terms: Terms) -> Arc<EtcdOwner> {
    Arc::new(EtcdOwner::new(way(url, terms), name, terms))
}

fn storage() -> (tempfile::TempDir, Arc<dyn Storage>) {
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = OsStorage::open(folder.path(), OsOptions::default()).unwrap();
    (folder, Arc::new(storage))
}

fn holds(grant: &Grant, storage: &dyn Storage) -> bool {
    grant.lease.as_ref().unwrap().holds(storage.clock().boot_ns())
}

fn sleep(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Waits until the lease is over; how long that took.
fn over(grant: &Grant, storage: &dyn Storage) -> Duration {
    let begun = Instant::now();
    while holds(grant, storage) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
        sleep(10);
    }
    begun.elapsed()
}

#[test]
fn leases_in_a_real_etcd_keep_the_contract_of_owners() {
    let Some(server) = Server::start() else { return };
    for (promise, check) in SUITE {
        println!("{promise}");
        let (_folder, storage) = storage();
        let name = promise.replace(' ', "-");
        let owner = || owner(&server.url, &name, terms(4000));
        check(&Setup { storage, first: owner(), second: owner() });
    }
}

/// Restarted, compacted, and others write: nothing is noticed as long as it answers within the
/// lease, and the term stays.
#[test]
fn a_restart_and_a_compaction_cost_nothing_within_the_lease() {
    let Some(mut server) = Server::start() else { return };
    let ((_folder, storage), terms) = (storage(), terms(12_000));
    let ours = owner(&server.url, "wal", terms);
    let grant = ours.acquire(&*storage).unwrap();
    let way = way(&server.url, terms);
    for n in 0..20 {
        let had = way.get("/other").unwrap().map_or(0, |(revision, _)| revision);
        way.put_if("/other", had, format!("{n}").as_bytes()).unwrap().unwrap();
    }
    server.compact();
    server.kill();
    sleep(300);
    server.again();
    sleep(13_000);
    assert!(holds(&grant, &*storage), "{:?}", grant.lease);
    let record = ours.look().unwrap().unwrap();
    assert_eq!((record.term, grant.term_floor), (1, 1));
    assert!(record.renewal > 0);
    grant.release().unwrap();
    assert!(!ours.is_owned(&*storage).unwrap());
}

/// Down, or up and not answering: what is owned stays so until the lease is over, no longer, and
/// nobody takes it meanwhile.
#[test]
fn an_etcd_that_does_not_answer_ends_the_lease_in_time() {
    let Some(mut server) = Server::start() else { return };
    let ((_folder, storage), terms) = (storage(), terms(2000));
    for stopped in [true, false] {
        let ours = owner(&server.url, if stopped { "stopped" } else { "killed" }, terms);
        let grant = ours.acquire(&*storage).unwrap();
        if stopped {
            server.pause()
        } else {
            server.kill()
        }
        let took = over(&grant, &*storage);
        assert!(took > Duration::from_millis(900), "it was renewed a third of it ago: {took:?}");
        assert!(took < Duration::from_millis(1900), "{took:?}");
        let Err(Error::Io { doing, .. }) = ours.acquire(&*storage) else { panic!("taken") };
        assert!(doing.contains("who owns"), "{doing}");
        if stopped {
            server.resume()
        } else {
            server.again()
        }
        drop(grant);
        // It is there again: the next term, once the record was seen still for a lease.
        let next = ours.acquire(&*storage).unwrap();
        assert_eq!(next.term_floor, 2);
        next.release().unwrap();
    }
}

/// A key that holds something else is told, and left alone.
#[test]
fn a_key_that_holds_something_else_is_refused() {
    let Some(server) = Server::start() else { return };
    let ((_folder, storage), terms) = (storage(), terms(4000));
    let way = way(&server.url, terms);
    way.put_if(&key("wal"), 0, b"hello").unwrap().unwrap();
    let Err(error) = owner(&server.url, "wal", terms).acquire(&*storage) else { panic!("taken") };
    assert!(error.to_string().contains("no owner"), "{error}");
    assert_eq!(way.get(&key("wal")).unwrap().unwrap().1, b"hello");
}

/// A standby takes over when the owner is gone, not before, and at most a lease and a second later;
/// after a clean close at once.
#[test]
fn a_standby_is_promoted_in_time() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = || sapwood::Config::new(folder.path().join("wal"));
    let ours = || -> Arc<dyn Owner> { owner(&server.url, "wal", terms(4000)) };
    let components = || sapwood::Components { owner: Some(ours()), ..Default::default() };
    let (engine, _) = sapwood::Engine::open_with(config(), components()).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    writer.submit(b"one".to_vec()).unwrap().wait().unwrap();
    let standby = sapwood::Engine::open_standby(config(), ours()).unwrap();
    let follower = standby.follow().unwrap();
    assert!(follower.follows());
    sleep(6000);
    assert!(standby.poll().unwrap().is_none(), "the owner lives");
    writer.submit(b"two".to_vec()).unwrap().wait().unwrap();
    let begun = Instant::now();
    engine.close().unwrap();
    let second = standby.promoted().wait().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    let mut reader = second.log("a").unwrap().reader(sapwood::From::Start).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        found.push(record.payload().to_vec());
    }
    assert_eq!(found, [b"one".to_vec(), b"two".to_vec()]);
    drop((standby, follower, reader));
    second.close().unwrap();
}

/// With users: who may not write the key is refused at once, with the reason; who may, owns.
#[test]
fn permissions_of_etcd_are_kept_and_told() {
    let Some(server) = Server::start() else { return };
    server.demand_users();
    let ((_folder, storage), terms) = (storage(), terms(2000));
    let as_user = |user: &str, password: &str| {
        let access = Access {
            endpoints: vec![server.url.clone()],
            user: Some((user.to_owned(), password.to_owned())),
            patience: terms.patience(),
            ..Access::default()
        };
        assert!(!format!("{access:?}").contains(password), "told its password");
        EtcdOwner::new(Etcd::new(access).unwrap(), "wal", terms)
    };
    let begun = Instant::now();
    let Err(error) = as_user("reader", "secret1").acquire(&*storage) else { panic!("taken") };
    assert!(error.to_string().contains("refuses"), "{error}");
    let Err(error) = as_user("owner", "wrong").acquire(&*storage) else { panic!("taken") };
    assert!(error.to_string().contains("refuses"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "a refusal is not waited for");
    let grant = as_user("owner", "secret2").acquire(&*storage).unwrap();
    assert_eq!(grant.term_floor, 1);
    grant.release().unwrap();
}
