//! The contract of stores over S3, in one put and in parts; what the probe refuses.

use std::sync::Arc;
use std::time::Duration;

use sapwood_tiering::store::contract::contract;
use sapwood_tiering::store::{Keys, ObjectStore, S3Settings, S3Store, S3Url, StoreError, probe};

use super::place::{Place, bytes, impatient, in_parts, key, put, whole};
use super::server::{Habits, Server};

#[test]
fn s3_keeps_the_contract() {
    let place = Place::new();
    contract(&|| Arc::new(place.fresh(S3Settings::default())));
}

/// The condition and the checksum of the whole stand in the call that completes an upload.
#[test]
fn s3_keeps_the_contract_in_parts() {
    let place = Place::new();
    contract(&|| Arc::new(place.fresh(in_parts())));
}

#[test]
fn many_parts_become_one_object_with_one_checksum() {
    let place = Place::new();
    let store = place.fresh(S3Settings { part_bytes: 5 << 20, ..S3Settings::default() });
    let body = bytes((31 << 20) + 7);
    put(&store, "large", &body).unwrap();
    assert_eq!(store.len(&key("large")), Ok(body.len() as u64));
    assert_eq!(store.checksum(&key("large")), Ok(crc32c::crc32c(&body)));
    assert!(whole(&store, "large").unwrap() == body);
    assert_eq!(put(&store, "large", &body), Err(StoreError::Exists));
}

/// More than one page of the protocol, and names that are not ours among them.
#[test]
fn long_lists_and_foreign_names() {
    let place = Place::at(Server::start());
    let store = place.store();
    for n in 0..1003 {
        put(&store, &format!("many/{n:04}"), b"").unwrap();
    }
    let listed = store.list("many/", None, 5000).unwrap();
    assert_eq!(listed.len(), 1003);
    assert_eq!(listed[1002].key, key("many/1002"));
    assert!(listed.iter().all(|one| one.written_us > 1_700_000_000_000_000));
    let elsewhere = S3Store::open(S3Url { prefix: "ti".into(), ..place.url() }, place.settings());
    assert_eq!(elsewhere.unwrap().list("", None, 9), Ok(Vec::new()), "another's prefix");
}

fn refused(habits: Habits) -> String {
    let place = Place::at(Server::with(habits));
    let told = probe(&place.store(), 1).unwrap_err();
    assert!(matches!(told, StoreError::Invalid(_)), "{told}");
    assert!(place.server().names().is_empty(), "the probe left {:?}", place.server().names());
    told.to_string()
}

#[test]
fn a_service_that_is_not_safe_is_refused() {
    let told = refused(Habits { ignores_conditions: true, ..Habits::default() });
    assert!(told.contains("conditional put"), "{told}");
    let told = refused(Habits { ignores_checksums: true, ..Habits::default() });
    assert!(told.contains("checksum"), "{told}");
}

#[test]
fn who_may_not_is_told_what_to_do() {
    let place = Place::new();
    let open = |url: S3Url, keys: Keys| {
        let settings = S3Settings { keys: Some(keys), ..impatient() };
        let store = S3Store::open(url, settings).unwrap();
        put(&store, "x", b"y").unwrap_err().to_string()
    };
    let wrong = Keys { secret: "another".into(), ..place.keys() };
    let told = open(place.url(), wrong.clone());
    assert!(told.contains("refuses") && told.contains("secret is wrong"), "{told}");
    assert!(!told.contains("another"), "a secret is shown: {told}");
    assert!(!format!("{wrong:?}").contains("another"));
    let told = open(S3Url { bucket: "no-such-bucket".into(), ..place.url() }, place.keys());
    assert!(told.contains("create it"), "{told}");
}

/// Nobody listens: told within the time that was given, as something that may pass.
#[test]
fn a_service_that_is_not_there_is_told() {
    let place = Place::at(Server::start());
    let store = place.fresh(impatient());
    drop(place);
    let began = std::time::Instant::now();
    let told = put(&store, "x", b"y").unwrap_err();
    assert!(told.may_pass(), "{told}");
    let told = store.len(&key("x")).unwrap_err();
    assert!(matches!(told, StoreError::Busy(_)), "{told}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
