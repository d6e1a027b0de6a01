//! Section F of the faults, at the store: each injected by the proxy, and what is seen of it.
//! `tiering/FAULTS.md` is the table.

use std::time::{Duration, Instant};

use sapwood_tiering::store::{ObjectStore, S3Settings, S3Store, StoreError};

use super::place::{Place, bytes, impatient, in_parts, key, put, whole};
use super::proxy::{Fault, To};
use super::server::Server;

fn open(place: &Place, settings: S3Settings) -> S3Store {
    S3Store::open(place.url(), S3Settings { keys: Some(place.keys()), ..settings }).unwrap()
}

/// The SDK's own retries, no more than were set.
#[test]
fn what_passes_is_tried_again() {
    let place = Place::new();
    let store = place.store();
    let faults = [
        Fault::Answers(503, "SlowDown"),
        Fault::Answers(500, "InternalError"),
        Fault::Answers(409, "ConditionalRequestConflict"),
        Fault::LostRequest,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let name = format!("again/{n}");
        place.proxy.fail(To::Put, fault, 2);
        place.proxy.seen();
        put(&store, &name, b"in the end").unwrap();
        let seen = place.proxy.seen();
        assert_eq!(seen.iter().filter(|one| one.starts_with("PUT")).count(), 3, "{seen:?}");
        place.proxy.fail(To::Get, fault, 2);
        assert_eq!(whole(&store, &name).unwrap(), b"in the end", "{fault:?}");
        place.proxy.fail(To::Head, fault, 2);
        assert_eq!(store.len(&key(&name)), Ok(10), "{fault:?}");
    }
}

#[test]
fn an_outage_is_told_in_time_and_ends_by_itself() {
    let place = Place::new();
    let store = open(&place, impatient());
    let outages = [Fault::Answers(503, "SlowDown"), Fault::Slow(Duration::from_secs(3))];
    for (n, fault) in outages.into_iter().enumerate() {
        let began = Instant::now();
        place.proxy.fail(To::Any, fault, 4);
        let told = put(&store, &format!("out/{n}"), b"x").unwrap_err();
        assert!(matches!(told, StoreError::Unknown(_)), "{told}");
        let told = store.len(&key("out/0")).unwrap_err();
        assert!(matches!(told, StoreError::Busy(_)), "{told}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        put(&store, &format!("out/after-{n}"), b"x").unwrap();
    }
}

/// The put took effect, its answer was lost, the retry is told that something exists: it is its
/// own. Of the same name and bytes by somebody else it is not.
#[test]
fn a_lost_reply_is_no_strangers_object() {
    let place = Place::new();
    let store = place.store();
    place.proxy.fail(To::Put, Fault::LostReply, 1);
    assert_eq!(put(&store, "own", b"bytes"), Ok(()));
    assert_eq!(whole(&store, "own").unwrap(), b"bytes");
    for other in [&store, &place.store()] {
        place.proxy.fail(To::Put, Fault::LostReply, 1);
        assert_eq!(put(other, "own", b"bytes"), Err(StoreError::Exists));
    }
    // In parts the last call decides: its retry finds no upload any more.
    let store = open(&place, in_parts());
    let body = bytes(6 << 20);
    place.proxy.fail(To::Complete, Fault::LostReply, 1);
    assert_eq!(put(&store, "own-in-parts", &body), Ok(()));
    assert!(whole(&store, "own-in-parts").unwrap() == body);
    place.proxy.fail(To::Complete, Fault::LostReply, 1);
    assert_eq!(put(&store, "own-in-parts", &body), Err(StoreError::Exists));
}

/// Whose it is cannot be asked: then it is not known, and nothing else is claimed.
#[test]
fn whose_object_it_is_may_be_unknown() {
    let place = Place::new();
    let store = open(&place, impatient());
    place.proxy.fail(To::Put, Fault::LostReply, 1);
    place.proxy.fail(To::Head, Fault::Answers(503, "SlowDown"), 2);
    let told = put(&store, "whose", b"bytes").unwrap_err();
    assert!(matches!(told, StoreError::Unknown(_)), "{told}");
    assert_eq!(whole(&store, "whose").unwrap(), b"bytes");
}

#[test]
fn what_is_damaged_on_the_way_up_is_refused() {
    let place = Place::new();
    let (store, parts) = (place.store(), open(&place, in_parts()));
    let body = bytes(6 << 20);
    let tries: [(&S3Store, To, &[u8]); 2] =
        [(&store, To::Put, b"bytes"), (&parts, To::Part, &body)];
    for (store, to, body) in tries {
        place.proxy.fail(to, Fault::FlippedRequest, 1);
        let told = put(store, "damaged", body).unwrap_err();
        assert!(matches!(told, StoreError::Damaged(_)), "{told}");
        assert_eq!(store.len(&key("damaged")), Err(StoreError::NotFound), "something is there");
        put(store, "damaged", body).unwrap();
        assert_eq!(store.checksum(&key("damaged")), Ok(crc32c::crc32c(body)));
        store.delete(&key("damaged")).unwrap();
    }
    // A checksum that is not that of the parts together.
    let told = parts.put_new(&key("lying"), &body, 1).unwrap_err();
    assert!(matches!(told, StoreError::Damaged(_)), "{told}");
    assert_eq!(parts.len(&key("lying")), Err(StoreError::NotFound));
}

/// A range has no checksum in S3: what it is made of is held against the block's own, by who reads.
#[test]
fn what_is_damaged_on_the_way_down_is_the_readers_to_see() {
    let place = Place::new();
    let store = place.store();
    put(&store, "down", &bytes(100_000)).unwrap();
    for to in [To::Get; 3] {
        place.proxy.fail(to, Fault::CutAnswer, 1);
        let told = store.get(&key("down"), 1000..90_000).unwrap_err();
        assert!(matches!(told, StoreError::Busy(_)), "{told}");
    }
    place.proxy.fail(To::Get, Fault::FlippedAnswer, 1);
    let came = store.get(&key("down"), 1000..90_000).unwrap();
    assert!(came != bytes(100_000)[1000..90_000] && came.len() == 89_000);
    assert!(store.get(&key("down"), 1000..90_000).unwrap() == bytes(100_000)[1000..90_000]);
    place.proxy.fail(To::Head, Fault::WrongSum, 1);
    assert_ne!(store.checksum(&key("down")), Ok(crc32c::crc32c(&bytes(100_000))));
    assert_eq!(store.checksum(&key("down")), Ok(crc32c::crc32c(&bytes(100_000))));
}

#[test]
fn who_is_refused_is_told_why() {
    let place = Place::new();
    let store = place.store();
    for (status, code, word) in [
        (400, "ExpiredToken", "renew"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "AccessDenied", "PutObject"),
        (403, "InvalidAccessKeyId", "not known there"),
    ] {
        place.proxy.fail(To::Put, Fault::Answers(status, code), 8);
        let told = put(&store, "refused", b"x").unwrap_err();
        assert!(matches!(told, StoreError::Denied(_)), "{code}: {told}");
        assert!(told.to_string().contains(word), "{told}");
        place.proxy.forget();
    }
    place.proxy.fail(To::Put, Fault::Answers(507, "XMinioStorageFull"), 8);
    let told = put(&store, "refused", b"x").unwrap_err();
    assert!(matches!(told, StoreError::Full(_)), "{told}");
    place.proxy.forget();
    put(&store, "refused", b"x").unwrap();
}

#[test]
fn a_stale_list_lags_and_nothing_else() {
    let place = Place::new();
    let store = place.store();
    put(&store, "listed", b"x").unwrap();
    place.proxy.fail(To::List, Fault::StaleList, 1);
    assert_eq!(store.list("", None, 9).unwrap().len(), 0);
    assert_eq!(whole(&store, "listed").unwrap(), b"x");
    assert_eq!(put(&store, "listed", b"x"), Err(StoreError::Exists));
    assert_eq!(store.list("", None, 9).unwrap().len(), 1);
}

/// An upload that fails is aborted; one whose process dies is found by its age.
#[test]
fn parts_that_nobody_goes_on_with_are_removed() {
    let place = Place::at(Server::start());
    let store = open(&place, S3Settings { attempts: 1, ..in_parts() });
    let body = bytes(12 << 20);
    place.proxy.fail(To::Part, Fault::Answers(503, "SlowDown"), 1);
    assert!(put(&store, "aborted", &body).unwrap_err().may_pass());
    assert_eq!(place.server().uploads(), 0, "aborted by who began it");
    // As if it had died: the service never hears of its end.
    place.proxy.fail(To::Complete, Fault::LostRequest, 1);
    place.proxy.fail(To::Abort, Fault::LostRequest, 1);
    assert!(put(&store, "orphan", &body).unwrap_err().may_pass());
    assert_eq!(place.server().uploads(), 1);
    assert_eq!(store.sweep(Duration::from_secs(3600)), Ok(0), "it is young");
    assert_eq!(place.server().uploads(), 1);
    let elsewhere = place.fresh(S3Settings::default());
    assert_eq!(elsewhere.sweep(Duration::ZERO), Ok(0), "it is not below that place");
    assert_eq!(store.sweep(Duration::ZERO), Ok(1));
    assert_eq!(place.server().uploads(), 0);
    put(&store, "orphan", &body).unwrap();
}
