//! Reading: from anywhere, by many, following, asynchronously, and beside another engine. Real
//! disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::{config, folder, payloads};
use sapwood::{Config, Engine, Epoch, Error, From, Log, Lsn, Position};

/// A log of `count` records, from two writers, in several segments.
fn filled(engine: &Engine, count: u64) -> Log {
    let log = engine.log("a").unwrap();
    for half in [0..count / 2, count / 2..count] {
        let writer = log.writer().unwrap();
        let tickets: Vec<_> = half.map(|n| writer.append(payload(n))).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    }
    log
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 1000 + (n * 31 % 2000) as usize]
}

fn first(log: &Log, from: From) -> Result<Option<Lsn>, Error> {
    log.reader(from)?.next().wait().map(|record| record.map(|record| record.lsn()))
}

#[test]
fn a_reader_begins_anywhere() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = filled(&engine, 3000);
    let check = |log: &Log| {
        assert_eq!(first(log, From::Start).unwrap(), Some(Lsn(0)));
        assert_eq!(first(log, From::Tail).unwrap(), None);
        for lsn in [0, 1, 700, 1499, 1500, 1501, 2999].map(Lsn) {
            let epoch = Epoch(if lsn < Lsn(1500) { 1 } else { 2 });
            let at = Position { epoch, lsn };
            assert_eq!(first(log, From::Lsn(lsn)).unwrap(), Some(lsn));
            assert_eq!(first(log, From::At(at)).unwrap(), Some(lsn));
            let after = (lsn < Lsn(2999)).then(|| lsn.next());
            assert_eq!(first(log, From::After(at)).unwrap(), after, "after {at}");
            let other = Position { epoch: Epoch(9), lsn };
            assert!(matches!(first(log, From::At(other)), Err(Error::Diverged { .. })));
        }
        assert_eq!(first(log, From::Lsn(Lsn(3000))).unwrap(), None);
        for beyond in [From::Lsn(Lsn(3001)), From::At(at_end())] {
            assert!(matches!(first(log, beyond), Err(Error::Unwritten { tail: Lsn(3000) })));
        }
    };
    check(&log);
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    check(&engine.log("a").unwrap());
    engine.close().unwrap();
}

fn at_end() -> Position {
    Position { epoch: Epoch(2), lsn: Lsn(3000) }
}

#[test]
fn a_time_finds_the_first_record_that_is_not_older() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut times = Vec::new();
    for n in 0..400u64 {
        times.push(writer.append(vec![n as u8; 9_000]).wait().unwrap().timestamp_us);
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(times.is_sorted());
    let check = |log: &Log| {
        for time in times.iter().step_by(37).flat_map(|t| [t - 1, *t, t + 1]) {
            let want = times.partition_point(|t| *t < time) as u64;
            let want = (want < 400).then_some(Lsn(want));
            assert_eq!(first(log, From::Time(time)).unwrap(), want, "at {time}");
        }
        assert_eq!(first(log, From::Time(u64::MAX)).unwrap(), None);
        assert_eq!(first(log, From::Time(0)).unwrap(), Some(Lsn(0)));
    };
    check(&log);
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    check(&engine.log("a").unwrap());
    engine.close().unwrap();
}

#[test]
fn many_readers_follow_while_it_is_written() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let readers: Vec<_> = (0..6)
        .map(|n| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut reader = log.reader(From::Start).unwrap().follow();
                for lsn in 0..2000u64 {
                    let read = if n % 2 == 0 {
                        reader.next().wait()
                    } else {
                        pollster::block_on(reader.next())
                    };
                    let record = read.unwrap().unwrap();
                    assert_eq!(record.lsn(), Lsn(lsn));
                    assert_eq!(record.payload(), payload(lsn));
                }
                reader.next().wait().unwrap().is_none()
            })
        })
        .collect();
    for n in 0..2000 {
        let append = writer.append(payload(n));
        if n % 16 == 0 {
            append.wait().unwrap();
        } else {
            drop(append);
        }
    }
    // Closing ends who follows.
    engine.close().unwrap();
    assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
}

#[test]
fn a_next_that_is_dropped_loses_nothing() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    drop(filled(&engine, 1200));
    engine.close().unwrap();
    // Opened again: everything comes from disk, by the reading thread.
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    let mut dropped = 0;
    for lsn in 0..1200 {
        if lsn % 3 == 0 {
            let next = pin!(reader.next());
            let mut cx = Context::from_waker(Waker::noop());
            if next.poll(&mut cx).is_ready() {
                continue; // delivered: not lost, taken
            }
            dropped += 1;
        }
        let record = pollster::block_on(reader.next()).unwrap().unwrap();
        assert_eq!(record.lsn(), Lsn(lsn));
        assert_eq!(record.payload(), payload(lsn));
    }
    assert!(dropped > 0, "no read was under way when it was dropped");
    assert!(pollster::block_on(reader.next()).unwrap().is_none());
    engine.close().unwrap();
}

#[test]
fn async_appends_and_reads_work_on_any_executor() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut follower = log.reader(From::Tail).unwrap().follow();
    pollster::block_on(async {
        for n in 0..200u64 {
            let ack = writer.append(payload(n)).await.unwrap();
            assert_eq!(ack.position.lsn, Lsn(n));
            let record = follower.next().await.unwrap().unwrap();
            assert_eq!((record.lsn(), record.timestamp_us()), (Lsn(n), ack.timestamp_us));
        }
        let ticket = writer.submit(b"ticket").unwrap();
        assert_eq!(ticket.await.unwrap().position.lsn, Lsn(200));
    });
    engine.close().unwrap();
}

#[test]
fn a_reader_seeks_back_and_forth() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = filled(&engine, 2000);
    let mut reader = log.reader(From::Start).unwrap();
    for lsn in [1999, 0, 1000, 999, 1, 1500] {
        reader.seek(Lsn(lsn));
        let record = reader.next().wait().unwrap().unwrap();
        assert_eq!((record.lsn(), record.payload()), (Lsn(lsn), payload(lsn).as_slice()));
    }
    engine.close().unwrap();
}

#[test]
fn a_read_only_open_follows_who_writes_and_shows_nothing_else() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = filled(&engine, 500);
    let read_only = Config { read_only: true, ..config(dir.path()) };
    let foreign = Engine::open(read_only).unwrap();
    assert!(foreign.follows());
    assert!(matches!(foreign.log("none"), Err(Error::NoSuchLog(_))));
    assert!(matches!(foreign.log("a").unwrap().writer(), Err(Error::Invalid(_))));
    let theirs = foreign.log("a").unwrap();
    let reading = std::thread::spawn(move || {
        let mut reader = theirs.reader(From::Start).unwrap().follow();
        for lsn in 0..2000u64 {
            let record = reader.next().wait().unwrap().unwrap();
            assert_eq!((record.lsn(), record.payload()), (Lsn(lsn), payload(lsn).as_slice()));
        }
    });
    let writer = log.writer().unwrap();
    for n in 500..2000u64 {
        let append = writer.append(payload(n));
        if n % 8 == 0 {
            append.wait().unwrap();
            let shown = foreign.log("a").unwrap().durable().unwrap();
            assert!(shown <= log.durable().unwrap());
        } else {
            drop(append);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reading.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(reading.is_finished(), "at {:?} of 2000", foreign.log("a").unwrap().durable());
    reading.join().unwrap();
    engine.close().unwrap();
}

/// Nothing comes behind the record, no mark for a minute: the hint page alone shows it.
#[test]
fn a_foreign_follower_sees_a_record_long_before_its_mark() {
    let dir = folder();
    let config = Config { idle_mark_delay: Duration::from_secs(60), ..config(dir.path()) };
    let engine = Engine::open(config.clone()).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    writer.append(payload(0)).wait().unwrap();
    let foreign = Engine::open(Config { read_only: true, ..config }).unwrap();
    assert!(foreign.follows());
    let theirs = foreign.log("a").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut reader = theirs.reader(From::Start).unwrap().follow();
        for _ in 0..4 {
            let lsn = reader.next().wait().unwrap().unwrap().lsn();
            tell.send(lsn).unwrap();
        }
    });
    for lsn in 0..4 {
        if lsn > 0 {
            writer.append(payload(lsn)).wait().unwrap();
        }
        let shown = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(shown, Ok(Lsn(lsn)), "the last record is not shown");
    }
    reading.join().unwrap();
    engine.close().unwrap();
}

#[test]
fn a_read_only_open_without_a_writer_shows_what_the_next_open_keeps() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    drop(filled(&engine, 300));
    engine.close().unwrap();
    let foreign = Engine::open(Config { read_only: true, ..config(dir.path()) }).unwrap();
    assert!(!foreign.follows());
    let shown = payloads(&foreign.log("a").unwrap());
    let engine = Engine::open(config(dir.path())).unwrap();
    assert_eq!(shown, payloads(&engine.log("a").unwrap()));
    engine.close().unwrap();
}

#[test]
fn a_second_engine_is_told_who_holds_the_directory() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let Err(Error::Locked { pid, .. }) = Engine::open(config(dir.path())) else {
        panic!("two engines write one directory");
    };
    assert_eq!(pid, std::process::id());
    let log = filled(&engine, 10);
    assert_eq!(payloads(&log).len(), 10);
    engine.close().unwrap();
    Engine::open(config(dir.path())).unwrap().close().unwrap();
}
