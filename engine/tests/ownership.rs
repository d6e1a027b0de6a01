//! Who may write a directory: one suite over every owner, and what a shard does when its lease
//! ends.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sapwood::io::mountinfo::{Mount, Risk};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::io::{OsOptions, OsStorage, Storage};
use sapwood::owner::contract::{SUITE, Setup};
use sapwood::owner::sim::SimOwner;
use sapwood::owner::{DirectoryLock, Owner, SingleNode};
use sapwood::{Components, Config, Driving, Engine, Error, From, Lsn};

/// Leases of 100 ms of virtual time.
fn leases() -> SimOwner {
    SimOwner::new(Duration::from_millis(100), Duration::from_secs(10))
}

fn suite(name: &str, setup: impl Fn() -> Setup) {
    for (promise, check) in SUITE {
        println!("{name}: {promise}");
        check(&setup());
    }
}

#[test]
fn every_owner_keeps_the_contract() {
    suite("lock, simulated disk", || {
        let storage: Arc<dyn Storage> = Arc::new(SimStorage::new(1, Faults::default()));
        Setup { storage, first: Arc::new(DirectoryLock), second: Arc::new(DirectoryLock) }
    });
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = OsStorage::open(folder.path(), OsOptions::default()).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(storage);
    suite("lock, real disk", || Setup {
        storage: Arc::clone(&storage),
        first: Arc::new(DirectoryLock),
        second: Arc::new(DirectoryLock),
    });
    suite("single node, NFS", || {
        let storage: Arc<dyn Storage> = Arc::new(nfs("hard"));
        Setup { storage, first: Arc::new(SingleNode), second: Arc::new(SingleNode) }
    });
    suite("leases", || {
        let storage: Arc<dyn Storage> = Arc::new(SimStorage::new(2, Faults::default()));
        let first = leases();
        Setup { storage, first: Arc::new(first.clone()), second: Arc::new(first) }
    });
}

/// A ring may have writes under way when all else of its engine is gone; the lock lasts as long.
/// (It was shown for a ring that is given the lock. Nobody saw whether the engine gives it.)
#[test]
fn the_lock_lasts_as_long_as_a_ring_of_the_engine() {
    let disk = SimStorage::new(3, Faults::default());
    let config = Config { driven: true, ..Config::new("simulated") };
    let again = || Engine::open_on(Arc::new(disk.clone()), config.clone());
    let (engine, drivers) = again().unwrap();
    drop(engine);
    assert!(matches!(again(), Err(Error::Locked { .. })), "its ring is still there");
    drop(drivers);
    again().unwrap();
}

fn open(disk: &SimStorage, owner: &SimOwner) -> (Engine, Driving) {
    let (storage, owner): (Arc<dyn Storage>, Arc<dyn Owner>) =
        (Arc::new(disk.clone()), Arc::new(owner.clone()));
    let components =
        Components { storage: Some(storage), owner: Some(owner), ..Components::default() };
    let config = Config {
        driven: true,
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 64 << 10,
        stage_bytes: 1 << 20,
        ..Config::new("simulated")
    };
    let (engine, mut drivers) = Engine::open_with(config, components).unwrap();
    (engine, drivers.pop().unwrap().bind().unwrap())
}

/// All payloads of log `a`.
fn read(engine: &Engine) -> Vec<u8> {
    let mut reader = engine.log("a").unwrap().reader(From::Start).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        found.push(record.payload()[0]);
    }
    found
}

/// The lease runs out while a write is at the device. The write lands, whole and durable, and yet
/// no ack may leave: somebody else can own the directory by then. (Contract, 4 and 7.)
#[test]
fn a_lease_that_runs_out_under_a_write_acks_nothing() {
    let (disk, owner) = (SimStorage::new(3, Faults::default()), leases());
    let (engine, mut driving) = open(&disk, &owner);
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    for n in 0..5 {
        owner.renew(&*disk.clock());
        writer.submit(vec![n]).unwrap().wait().unwrap();
    }
    owner.renew(&*disk.clock());
    let slow =
        Faults { latency_ns_min: 200_000_000, latency_ns_max: 200_000_000, ..Faults::default() };
    disk.set_faults(slow);
    let ticket = writer.submit(vec![5]).unwrap();
    for _ in 0..4 {
        driving.turn(Duration::from_secs(1));
    }
    disk.set_faults(Faults::default());
    let Err(Error::Unknown { position, cause }) = ticket.wait() else { panic!("acked") };
    assert_eq!(position.lsn, Lsn(5));
    assert!(cause.to_string().contains("lease"), "{cause}");
    // Halted, with the first cause; nothing is staged any more, and the record comes back.
    let rejected = writer.submit(vec![6]).unwrap_err();
    assert_eq!(rejected.record, Some(vec![6]));
    assert!(matches!(rejected.error, Error::Halted { .. }));
    assert!(matches!(log.writer(), Err(Error::Halted { .. })), "no epoch is given either");
    // What was acked stays readable, and nothing else is shown.
    assert_eq!(read(&engine), [0, 1, 2, 3, 4]);
    assert!(matches!(engine.close(), Err(Error::Halted { .. })));
}

/// A successor waits the lease out and takes over, while the first owner still has a write at the
/// device. It lands after the recovery, and the first owner acks nothing.
#[test]
fn a_successor_takes_over_and_the_late_write_means_nothing() {
    let (disk, owner) = (SimStorage::new(4, Faults::default()), leases());
    let (first, mut driving) = open(&disk, &owner);
    let writer = first.log("a").unwrap().writer().unwrap();
    for n in 0..5 {
        owner.renew(&*disk.clock());
        writer.submit(vec![n]).unwrap().wait().unwrap();
    }
    let slow =
        Faults { latency_ns_min: 900_000_000, latency_ns_max: 900_000_000, ..Faults::default() };
    disk.set_faults(slow);
    let late = writer.submit(vec![66]).unwrap();
    driving.turn(Duration::ZERO);
    disk.set_faults(Faults::default());
    let (second, mut theirs) = open(&disk, &owner);
    assert_eq!(owner.term(), 2);
    assert_eq!(read(&second), [0, 1, 2, 3, 4]);
    owner.renew(&*disk.clock());
    let writer = second.log("a").unwrap().writer().unwrap();
    let ack = writer.submit(vec![5]).unwrap().wait().unwrap();
    assert_eq!(ack.position.lsn, Lsn(5));
    // Now the first owner's write lands.
    for _ in 0..40 {
        owner.renew(&*disk.clock());
        driving.turn(Duration::from_millis(50));
        theirs.turn(Duration::ZERO);
    }
    assert!(matches!(late.wait(), Err(Error::Unknown { .. })));
    assert_eq!(read(&second), [0, 1, 2, 3, 4, 5]);
    owner.renew(&*disk.clock());
    second.close().unwrap();
    drop((writer, second, theirs, first, driving));
    let (third, _driving) = open(&disk, &owner);
    assert_eq!(owner.term(), 3);
    assert_eq!(read(&third), [0, 1, 2, 3, 4, 5]);
}

/// Terms are at least what the owner says, and a revoked lease halts a shard that does nothing.
#[test]
fn a_revoked_lease_halts_an_idle_shard() {
    let (disk, owner) = (SimStorage::new(5, Faults::default()), leases());
    let (engine, mut driving) = open(&disk, &owner);
    owner.renew(&*disk.clock());
    engine.log("a").unwrap();
    driving.turn(Duration::from_millis(1));
    owner.revoke("the operator said so");
    driving.turn(Duration::from_secs(1));
    let Err(Error::Halted { cause }) = engine.log("b") else { panic!("not halted") };
    assert!(cause.to_string().contains("the operator said so"), "{cause}");
}

/// A clean close gives the directory back: a successor need not wait.
#[test]
fn a_clean_close_releases_the_lease() {
    let (disk, owner) = (SimStorage::new(6, Faults::default()), leases());
    let (engine, _driving) = open(&disk, &owner);
    owner.renew(&*disk.clock());
    engine.close().unwrap();
    assert!(!owner.is_owned(&disk).unwrap());
    let (engine, _driving) = open(&disk, &owner);
    engine.close().unwrap();
}

/// A simulated directory on NFS, mounted with this.
fn nfs(with: &str) -> SimStorage {
    let line = format!("36 35 0:44 / /efs rw - nfs4 server:/ rw,vers=4.1,wsize=131072,{with}");
    SimStorage::on_nfs(7, Faults::default(), Mount::parse(&line).unwrap())
}

fn open_nfs(
    disk: &SimStorage,
    owner: Option<Arc<dyn Owner>>,
    accept_risks: Vec<Risk>,
) -> Result<(Engine, Driving), Error> {
    let storage: Option<Arc<dyn Storage>> = Some(Arc::new(disk.clone()));
    let config = Config { driven: true, accept_risks, ..Config::new("simulated") };
    let components = Components { storage, owner, ..Components::default() };
    let (engine, mut drivers) = Engine::open_with(config, components)?;
    Ok((engine, drivers.pop().unwrap().bind().unwrap()))
}

/// On NFS nobody writes under a lock without having said that it is all there is; nor, whoever
/// owns, on a mount that can lose what was acked.
#[test]
fn nfs_is_written_by_choice_and_on_safe_mounts_only() {
    let single = || Some(Arc::new(SingleNode) as Arc<dyn Owner>);
    let refused = |opened: Result<(Engine, Driving), Error>| match opened {
        Err(Error::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(open_nfs(&nfs("hard"), None, Vec::new()));
    assert!(why.contains("--single-node") && why.contains("--etcd"), "{why}");
    let why = refused(open_nfs(&nfs("soft"), single(), Vec::new()));
    assert!(why.contains("soft") && why.contains("--accept-risk soft"), "{why}");
    refused(open_nfs(&nfs("soft"), single(), vec![Risk::LocalLocks]));
    assert!(nfs("soft").list().unwrap().is_empty(), "nothing was touched");
    open_nfs(&nfs("soft"), single(), vec![Risk::Soft]).unwrap();
    // Reading changes nothing, and is let in.
    let disk = nfs("hard");
    let (engine, _driving) = open_nfs(&disk, single(), Vec::new()).unwrap();
    engine.log("a").unwrap().writer().unwrap().submit(b"x".to_vec()).unwrap().wait().unwrap();
    engine.close().unwrap();
    let config = Config { read_only: true, ..Config::new("simulated") };
    let storage: Option<Arc<dyn Storage>> = Some(Arc::new(disk));
    let parts = Components { storage, ..Components::default() };
    Engine::open_with(config, parts).unwrap();
}

/// A batch, with all that is around it, fits one WRITE of NFS. (The default batch is 2 MiB, the
/// mount here takes 128 KiB: each would have been 16 writes and a commit, and not one.)
#[test]
fn batches_fit_one_write_of_nfs() {
    let disk = nfs("hard");
    let (engine, mut driving) = open_nfs(&disk, Some(Arc::new(SingleNode)), Vec::new()).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    let before = engine.metrics()[0].clone();
    let tickets: Vec<_> = (0..60).map(|n| writer.submit(vec![n; 20_000]).unwrap()).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let after = engine.metrics()[0].clone();
    let (batches, bytes) = (after.batches - before.batches, after.batch_bytes - before.batch_bytes);
    assert!(bytes >= 60 * 20_000 && bytes <= batches * 131_072, "{bytes} in {batches} batches");
    // One record that is larger than a batch is written in parts.
    writer.submit(vec![9; 500_000]).unwrap().wait().unwrap();
    // An idle shard waits a second for its mark: it is a round trip.
    let marks = engine.metrics()[0].marks;
    for _ in 0..20 {
        driving.turn(Duration::from_millis(20));
    }
    assert_eq!(engine.metrics()[0].marks, marks);
    for _ in 0..60 {
        driving.turn(Duration::from_millis(20));
    }
    assert!(engine.metrics()[0].marks > marks);
}
