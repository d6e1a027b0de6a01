//! The suite that every store passes: each promise of the trait, as a test over a fresh store.
//!
//! Invariant: nothing in it knows which store it runs over. It panics with the promise that was
//! broken.
//! Not here: crashes, which every store has of its own kind.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a suite of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Key, ObjectStore, StoreError};

/// Makes an empty store.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn ObjectStore>;

/// Runs all of it.
pub fn contract(make: Make<'_>) {
    what_was_put_is_there(make);
    nothing_is_overwritten(make);
    one_of_many_writers_wins(make);
    wrong_bytes_are_refused(make);
    what_is_missing_is_told(make);
    lists_are_in_order_and_in_pages(make);
    what_was_deleted_is_gone(make);
    nobody_sees_a_part(make);
    super::probe(&*make(), 1).unwrap();
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn put(store: &dyn ObjectStore, name: &str, bytes: &[u8]) -> super::Result<()> {
    store.put_new(&key(name), bytes, crc32c::crc32c(bytes))
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(seed | 1) >> 5) as u8).collect()
}

/// An object has the bytes that were put, whole and by any range.
pub fn what_was_put_is_there(make: Make<'_>) {
    let store = make();
    for (name, len) in [("a/empty", 0), ("a/small", 11), ("b", (5 << 20) + 3)] {
        let (key, body) = (key(name), bytes(len, 77));
        let end = len as u64;
        put(&*store, name, &body).unwrap();
        assert_eq!(store.len(&key), Ok(end), "{name}");
        assert_eq!(store.checksum(&key), Ok(crc32c::crc32c(&body)), "{name}");
        assert!(store.get(&key, 0..end).unwrap() == body, "{name}");
        let middle = end / 3..end - end / 3;
        let part = &body[middle.start as usize..middle.end as usize];
        assert!(store.get(&key, middle).unwrap() == part, "{name}: a range");
        assert_eq!(store.get(&key, end..end), Ok(Vec::new()), "{name}: nothing, at its end");
        for beyond in [0..end + 1, end + 1..end + 1, end + 5..end + 9] {
            let told = store.get(&key, beyond.clone());
            assert!(matches!(told, Err(StoreError::Invalid(_))), "{name} {beyond:?}: {told:?}");
        }
    }
}

/// The second put of a name is refused, whatever its bytes.
pub fn nothing_is_overwritten(make: Make<'_>) {
    let store = make();
    put(&*store, "x/y", b"first").unwrap();
    for again in [&b"first"[..], b"other", b""] {
        assert_eq!(put(&*store, "x/y", again), Err(StoreError::Exists));
    }
    assert_eq!(store.get(&key("x/y"), 0..5).unwrap(), b"first");
}

/// Of writers that race for a name exactly one wins, and its bytes are those that are there.
pub fn one_of_many_writers_wins(make: Make<'_>) {
    let store = make();
    for round in 0..20 {
        let name = format!("race/{round}");
        let body = |writer: u64| bytes(1000 + writer as usize, writer * 2 + 3);
        let write = |writer: u64| match put(&*store, &name, &body(writer)) {
            Ok(()) => true,
            Err(StoreError::Exists) => false,
            Err(other) => panic!("{other}"),
        };
        let won: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8u64).map(|n| (n, scope.spawn(move || write(n)))).collect();
            let ended = writers.into_iter().map(|(n, writer)| (n, writer.join().unwrap()));
            ended.filter(|(_, won)| *won).map(|(n, _)| n).collect()
        });
        assert_eq!(won.len(), 1, "round {round}: winners {won:?}");
        let (key, body) = (key(&name), body(won[0]));
        assert!(store.get(&key, 0..store.len(&key).unwrap()).unwrap() == body, "round {round}");
    }
}

/// Bytes that are not those of the checksum are refused, and nothing is there.
pub fn wrong_bytes_are_refused(make: Make<'_>) {
    let store = make();
    let told = store.put_new(&key("k"), b"damaged", crc32c::crc32c(b"whole"));
    assert!(matches!(told, Err(StoreError::Damaged(_))), "{told:?}");
    assert_eq!(store.len(&key("k")), Err(StoreError::NotFound));
    put(&*store, "k", b"whole").unwrap();
}

/// What is not there is told by every call.
pub fn what_is_missing_is_told(make: Make<'_>) {
    let store = make();
    put(&*store, "folder/object", b"o").unwrap();
    for missing in ["nothing", "folder/nothing", "folder", "folder/object/below"] {
        let key = key(missing);
        assert_eq!(store.get(&key, 0..1), Err(StoreError::NotFound), "{missing}");
        assert_eq!(store.len(&key), Err(StoreError::NotFound), "{missing}");
        assert_eq!(store.checksum(&key), Err(StoreError::NotFound), "{missing}");
        assert_eq!(store.delete(&key), Ok(()), "{missing}: gone already");
    }
    assert_eq!(store.list("nothing", None, 10), Ok(Vec::new()));
}

/// Lists are in order of name, by prefix, in pages.
pub fn lists_are_in_order_and_in_pages(make: Make<'_>) {
    let store = make();
    let names = ["a/1", "a/10", "a/2", "a/2-x", "a/3/4", "ab", "b/1", "b/c/d/e"];
    for (n, name) in names.iter().enumerate().rev() {
        put(&*store, name, &bytes(n, 3)).unwrap();
    }
    let list = |prefix: &str, after: Option<&str>, max| {
        let after = after.map(key);
        let listed = store.list(prefix, after.as_ref(), max).unwrap();
        listed.iter().map(|one| (one.key.to_string(), one.bytes)).collect::<Vec<_>>()
    };
    let mut sorted: Vec<_> =
        names.iter().enumerate().map(|(n, name)| ((*name).to_owned(), n as u64)).collect();
    sorted.sort();
    assert_eq!(list("", None, 100), sorted);
    for prefix in ["a", "a/", "a/2", "a/3/", "a/3", "b/c", "b/c/d/e", "c"] {
        let expected: Vec<_> =
            sorted.iter().filter(|(name, _)| name.starts_with(prefix)).cloned().collect();
        assert_eq!(list(prefix, None, 100), expected, "{prefix}");
    }
    let mut paged = Vec::new();
    while let page = list("", paged.last().map(|(name, _): &(String, u64)| &**name), 3)
        && !page.is_empty()
    {
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, sorted);
    assert_eq!(list("", None, 0), []);
}

/// What was deleted is gone, and its name is free.
pub fn what_was_deleted_is_gone(make: Make<'_>) {
    let store = make();
    put(&*store, "d/1", b"one").unwrap();
    put(&*store, "d/2", b"two").unwrap();
    store.delete(&key("d/1")).unwrap();
    assert_eq!(store.len(&key("d/1")), Err(StoreError::NotFound));
    assert_eq!(store.list("d/", None, 9).unwrap().len(), 1);
    put(&*store, "d/1", b"another").unwrap();
    assert_eq!(store.get(&key("d/1"), 0..7).unwrap(), b"another");
}

/// While an object is written, others see nothing or all of it, by name and in lists.
pub fn nobody_sees_a_part(make: Make<'_>) {
    let store = make();
    let body = bytes(3 << 20, 5);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..4 {
                put(&*store, &format!("p/{n}"), &body).unwrap();
            }
            ended.store(true, Ordering::Release);
        });
        let mut last = false;
        while !last {
            last = ended.load(Ordering::Acquire);
            let whole = body.len() as u64;
            for listed in store.list("", None, 100).unwrap() {
                assert_eq!(listed.bytes, whole, "{}: a part is listed", listed.key);
            }
            for n in 0..4 {
                match store.len(&key(&format!("p/{n}"))) {
                    Err(StoreError::NotFound) => {}
                    seen => assert_eq!(seen, Ok(whole), "a part is there"),
                }
            }
        }
    });
    assert_eq!(store.list("p/", None, 9).unwrap().len(), 4);
}
