//! The contract of stores, over all of them; and that each fault of the simulated one is what it
//! says, so that who survives it survives something.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood_tiering::store::contract::contract;
use sapwood_tiering::store::{
    DirStore, Fault, Key, ObjectStore, SimStore, StoreError, open, probe,
};

#[test]
fn a_directory_keeps_the_contract() {
    let folders = Mutex::new(Vec::new());
    contract(&|| {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirStore::open(dir.path().join("not/yet/there")).unwrap());
        folders.lock().unwrap().push(dir);
        store
    });
}

/// Several handles on one directory, as several processes have.
#[test]
fn two_handles_on_one_directory_race_like_one() {
    let dir = tempfile::tempdir().unwrap();
    let handles: Vec<_> = (0..8).map(|_| DirStore::open(dir.path()).unwrap()).collect();
    for round in 0..20 {
        let key = Key::new(format!("r/{round}")).unwrap();
        let write = |n: usize| {
            let body = vec![n as u8; 5000];
            handles[n].put_new(&key, &body, crc32c::crc32c(&body)).is_ok()
        };
        let won: Vec<usize> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|n| scope.spawn(move || (n, write(n)))).collect();
            let ended = all.into_iter().map(|one| one.join().unwrap());
            ended.filter(|(_, won)| *won).map(|(n, _)| n).collect()
        });
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert_eq!(handles[0].get(&key, 0..5000).unwrap(), vec![won[0] as u8; 5000]);
    }
}

#[test]
fn the_simulated_store_keeps_the_contract() {
    contract(&|| Arc::new(SimStore::default()));
}

fn put(store: &SimStore, name: &str) -> Result<(), StoreError> {
    store.put_new(&Key::new(name).unwrap(), b"0123456789", crc32c::crc32c(b"0123456789"))
}

#[test]
fn each_fault_is_what_it_says() {
    let store = SimStore::default();
    let key = Key::new("k").unwrap();
    let nothing = |told: Result<(), StoreError>, fault| {
        assert!(told.is_err(), "{fault:?}");
        assert_eq!(store.peek(&key), None, "{fault:?}");
        told.unwrap_err()
    };
    let faults =
        [Fault::Refused, Fault::LostRequest, Fault::Full, Fault::Denied, Fault::DamagedOnTheWay];
    for fault in faults {
        store.fail(&[fault]);
        let told = nothing(put(&store, "k"), fault);
        assert_eq!(told.may_pass(), fault != Fault::Denied, "{told}");
    }
    store.fail(&[Fault::LostReply]);
    assert!(matches!(put(&store, "k"), Err(StoreError::Unknown(_))));
    assert_eq!(store.peek(&key).unwrap(), b"0123456789", "it was done");
    assert_eq!(put(&store, "k"), Err(StoreError::Exists));
    for fault in [Fault::Flipped, Fault::Short, Fault::WrongRange] {
        store.fail(&[fault]);
        assert_ne!(store.get(&key, 2..8).unwrap(), b"234567", "{fault:?}");
        assert_eq!(store.get(&key, 2..8).unwrap(), b"234567", "{fault:?}");
    }
    put(&store, "l").unwrap();
    store.fail(&[Fault::StaleList]);
    assert_eq!(store.list("", None, 9).unwrap().len(), 0);
    assert_eq!(store.list("", None, 9).unwrap().len(), 2);
    store.rot(&key, 3);
    assert_ne!(store.checksum(&key).unwrap(), crc32c::crc32c(b"0123456789"));
    store.set_down(true);
    assert!(matches!(store.len(&key), Err(StoreError::Busy(_))));
    store.set_down(false);
    let began = std::time::Instant::now();
    store.fail(&[Fault::Slow]);
    assert_eq!(store.len(&key), Ok(10));
    assert!(began.elapsed() >= Duration::from_millis(20));
}

#[test]
fn faults_by_chance_come_from_the_seed() {
    let life = |seed| {
        let store = SimStore::new(seed, 300);
        (0..200).map(|n| put(&store, &format!("k{n}")).is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(life(7), life(7));
    assert_ne!(life(7), life(8));
    let good = life(7).iter().filter(|good| **good).count();
    assert!((100..190).contains(&good), "{good} of 200");
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let store = SimStore::default();
    probe(&store, 1).unwrap();
    assert!(store.keys().is_empty(), "the probe left something");
    store.ignore_conditions();
    let told = probe(&store, 2).unwrap_err();
    assert!(told.to_string().contains("conditional put"), "{told}");
    let store = SimStore::default();
    store.fail(&[Fault::Slow, Fault::Slow, Fault::Slow, Fault::Slow, Fault::WrongRange]);
    assert!(matches!(probe(&store, 3), Err(StoreError::Invalid(_))), "wrong ranges");
}

#[test]
fn urls_name_stores() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().join("tier").display());
    assert_eq!(open(&url).unwrap().url(), url);
    for bad in ["", "tier", "file://", "s3://b", "http://x"] {
        assert!(matches!(open(bad), Err(StoreError::Invalid(_))), "{bad}");
    }
}
