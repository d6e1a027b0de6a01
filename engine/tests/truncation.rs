//! What callers see of truncation: where a log starts, and what readers below are told.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

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

// The edit of a cut to 3 was on its way, readers still saw ten records, and the log was truncated
// at 7: it began at 7 then and ended at 3, and what was appended next was acked and `Trimmed`.
#[test]
fn a_log_is_not_truncated_beyond_a_cut_under_way() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let driving = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, 0..10);
    let mut cut = writer.cut_to(Lsn(3));
    assert!(Pin::new(&mut cut).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(log.durable().unwrap(), Lsn(10), "readers see all of it yet");
    let beyond = log.truncate(Lsn(7));
    assert!(matches!(beyond, Err(Error::Unwritten { tail: Lsn(3) })), "{beyond:?}");
    log.truncate(Lsn(2)).unwrap();
    assert_eq!(cut.wait().unwrap().lsn, Lsn(3));
    assert_eq!(writer.append(b"on").wait().unwrap().position.lsn, Lsn(3));
    assert_eq!(log.start().unwrap(), Lsn(2));
    assert_eq!(payloads(&log), [vec![2; 100], b"on".to_vec()]);
    engine.close().unwrap();
    drop(driving);
    let engine = Engine::open(config(dir.path())).unwrap();
    assert_eq!(payloads(&engine.log("a").unwrap()), [vec![2; 100], b"on".to_vec()]);
}

// The other way round: a truncation was on its way, nobody drove the shard, and the log was cut
// below; its start went back to the cut.
#[test]
fn a_log_is_not_cut_below_a_truncation_under_way() {
    let dir = folder();
    let config = Config { undriven_after: Duration::from_millis(20), ..config(dir.path()) };
    let (engine, drivers) = Engine::open_driven(config).unwrap();
    let driving = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, 0..10);
    let elsewhere = log.clone();
    let truncated = std::thread::spawn(move || elsewhere.truncate(Lsn(7))).join().unwrap();
    assert!(matches!(truncated, Err(Error::Undriven)), "{truncated:?}");
    let below = writer.cut_to(Lsn(3)).wait();
    assert!(matches!(below, Err(Error::Invalid(_))), "{below:?}");
    assert_eq!(writer.cut_to(Lsn(8)).wait().unwrap().lsn, Lsn(8));
    log.truncate(Lsn(7)).unwrap();
    assert_eq!((log.start().unwrap(), log.durable().unwrap()), (Lsn(7), Lsn(8)));
    engine.close().unwrap();
    drop(driving);
}
