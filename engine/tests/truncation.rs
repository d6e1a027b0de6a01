//! What callers see of truncation: where a log starts, and what readers below are told.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::{config, folder, payloads};
use sapwood::{Config, Engine, Error, From, Log, Lsn, Position, Writer};

fn fill(writer: &Writer, numbers: std::ops::Range<u8>) {
    let tickets: Vec<_> = numbers.map(|n| writer.submit(vec![n; 100]).unwrap()).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
}

fn trimmed(log: &Log, lsn: u64) -> u64 {
    match log.reader(From::Lsn(Lsn(lsn))) {
        Err(Error::Trimmed { start }) => start.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_truncated_is_gone_for_readers_and_stays_gone() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, 0..10);
    log.truncate(Lsn(4)).unwrap();
    assert_eq!(log.start().unwrap(), Lsn(4));
    assert_eq!(trimmed(&log, 3), 4);
    // Below the start there is nothing to do; beyond the end there is nothing to drop.
    log.truncate(Lsn(2)).unwrap();
    assert_eq!(log.start().unwrap(), Lsn(4));
    assert!(matches!(log.truncate(Lsn(11)), Err(Error::Unwritten { tail: Lsn(10) })));
    assert_eq!(payloads(&log), (4..10).map(|n| vec![n; 100]).collect::<Vec<_>>());
    log.truncate(Lsn(10)).unwrap();
    assert!(payloads(&log).is_empty());
    fill(&writer, 10..12);
    engine.close().unwrap();

    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let info = log.info().unwrap();
    assert_eq!((info.start, info.durable), (Lsn(10), Lsn(12)));
    assert_eq!(payloads(&log), [vec![10; 100], vec![11; 100]]);
    engine.close().unwrap();

    let reading = Engine::open(Config { read_only: true, ..config(dir.path()) }).unwrap();
    let log = reading.log("a").unwrap();
    assert_eq!(trimmed(&log, 9), 10);
    assert!(matches!(log.truncate(Lsn(11)), Err(Error::Invalid(_))));
}

/// A reader in the middle of a batch had the rest of it at hand, and went on delivering what was
/// truncated meanwhile.
#[test]
fn a_reader_in_the_middle_of_a_batch_is_told() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut batch = sapwood::Batch::new();
    for n in 0..10 {
        batch.push(&[n; 10]);
    }
    writer.submit(batch).unwrap().wait().unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    assert_eq!(reader.next().wait().unwrap().unwrap().lsn(), Lsn(0));
    log.truncate(Lsn(6)).unwrap();
    for _ in 0..2 {
        let told = reader.next().wait().map(|_| ());
        assert!(matches!(told, Err(Error::Trimmed { start: Lsn(6) })), "{told:?}");
    }
    reader.seek(Lsn(6));
    assert_eq!(reader.next().wait().unwrap().unwrap().payload(), [6; 10]);
    engine.close().unwrap();
}

#[test]
fn who_truncates_what_it_has_read_goes_on_behind_it() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, 0..5);
    let last = Position { epoch: writer.epoch(), lsn: Lsn(4) };
    log.truncate(Lsn(5)).unwrap();
    let mut reader = log.reader(From::After(last)).unwrap();
    assert!(reader.next().wait().unwrap().is_none());
    fill(&writer, 5..6);
    assert_eq!(reader.next().wait().unwrap().unwrap().lsn(), Lsn(5));
    // One record before that is another matter: it misses one.
    let missed = Position { lsn: Lsn(3), ..last };
    assert!(matches!(log.reader(From::After(missed)), Err(Error::Trimmed { .. })));
    engine.close().unwrap();
}
