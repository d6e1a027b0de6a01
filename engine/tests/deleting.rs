//! Logs that are deleted and made again, and durable cursors, as callers see them. Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::{config, folder, payloads};
use sapwood::{Config, Engine, Error, From, Log, Lsn};

fn is_gone<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::NoSuchLog(_)))
}

fn append(log: &Log, payload: &[u8]) {
    log.writer().unwrap().append(payload).wait().unwrap();
}

#[test]
fn a_deleted_log_is_gone_for_every_handle_and_its_name_is_free() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let old = engine.log("a").unwrap();
    let writer = old.writer().unwrap();
    writer.append(b"one").wait().unwrap();
    let cursor = old.cursor("c").unwrap();
    cursor.set(Lsn(1)).unwrap();
    let mut reader = old.reader(From::Start).unwrap();
    let mut follower = old.reader(From::Tail).unwrap().follow();
    let follows = std::thread::spawn(move || follower.next().wait().map(|_| ()));
    engine.delete_log("a").unwrap();
    assert!(is_gone(engine.delete_log("a")));
    assert!(is_gone(follows.join().unwrap()), "a follower is woken and told");
    for again in [false, true] {
        let rejected = writer.submit(b"late".to_vec()).unwrap_err();
        assert_eq!(rejected.record.unwrap(), b"late");
        assert!(matches!(rejected.error, Error::NoSuchLog(_)));
        assert!(is_gone(reader.next().wait().map(|_| ())));
        assert!(is_gone(old.reader(From::Start)) && is_gone(old.writer()) && is_gone(old.info()));
        assert!(is_gone(old.set(Default::default())) && is_gone(old.cursors()));
        assert!(is_gone(cursor.get()) && is_gone(cursor.set(Lsn(0))) && is_gone(cursor.delete()));
        if !again {
            assert!(engine.find("a").unwrap().is_none() && engine.logs().is_empty());
            let new = engine.log("a").unwrap();
            assert!(new.id() > old.id(), "ids are never given again");
            assert_eq!((new.cursors().unwrap(), payloads(&new)), (vec![], vec![]));
            append(&new, b"two");
        }
    }
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let new = engine.log("a").unwrap();
    assert!(new.id() > old.id());
    assert_eq!(payloads(&new), [b"two"]);
    // Deleted as the last thing before a close, with the highest id: not given again either.
    engine.delete_log("a").unwrap();
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    assert!(engine.logs().is_empty());
    assert!(engine.log("b").unwrap().id() > new.id());
    engine.close().unwrap();
}

#[test]
fn a_follower_of_another_process_is_told_of_a_deletion_and_sees_the_new_log() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    append(&log, b"one");
    log.cursor("c").unwrap().set(Lsn(1)).unwrap();
    let foreign = Engine::open(Config { read_only: true, ..config(dir.path()) }).unwrap();
    assert!(foreign.follows());
    let theirs = foreign.log("a").unwrap();
    assert_eq!(theirs.cursors().unwrap(), [("c".to_owned(), Lsn(1))]);
    assert!(matches!(foreign.delete_log("a"), Err(Error::Invalid(_))));
    assert!(matches!(theirs.cursor("c").unwrap().set(Lsn(0)), Err(Error::Invalid(_))));
    let mut reader = theirs.reader(From::Tail).unwrap().follow();
    engine.delete_log("a").unwrap();
    assert!(is_gone(reader.next().wait().map(|_| ())));
    let new = engine.log("a").unwrap();
    append(&new, b"two");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let seen = loop {
        match foreign.find("a").unwrap().filter(|log| log.durable().is_ok_and(|end| end.0 == 1)) {
            Some(log) => break log,
            None => assert!(std::time::Instant::now() < until, "the new log is not shown"),
        }
        std::thread::yield_now();
    };
    assert_eq!((seen.id(), payloads(&seen)), (new.id(), vec![b"two".to_vec()]));
    engine.close().unwrap();
}

#[test]
fn cursors_stay_within_their_log_and_are_bounded() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    for n in 0..5u8 {
        append(&log, &[n]);
    }
    let cursor = log.cursor("first").unwrap();
    assert_eq!(cursor.get().unwrap(), None);
    cursor.delete().unwrap();
    assert!(matches!(cursor.set(Lsn(6)), Err(Error::Unwritten { tail: Lsn(5) })));
    cursor.set(Lsn(5)).unwrap();
    cursor.set(Lsn(2)).unwrap();
    assert_eq!(log.cursor("first").unwrap().get().unwrap(), Some(Lsn(2)), "back, too");
    for n in 1..64 {
        log.cursor(&format!("c{n}")).unwrap().set(Lsn(n % 5)).unwrap();
    }
    assert!(matches!(log.cursor("more").unwrap().set(Lsn(0)), Err(Error::Invalid(_))));
    assert!(matches!(log.cursor(""), Err(Error::Invalid(_))));
    log.cursor("c1").unwrap().delete().unwrap();
    log.cursor("more").unwrap().set(Lsn(4)).unwrap();
    engine.log("b").unwrap().cursor("first").unwrap().set(Lsn(0)).unwrap();
    let before = log.cursors().unwrap();
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    assert_eq!(log.cursors().unwrap(), before);
    assert_eq!((before.len(), log.cursor("c1").unwrap().get().unwrap()), (64, None));
    assert_eq!(engine.log("b").unwrap().cursors().unwrap().len(), 1);
    engine.close().unwrap();
}
