//! Appends with a condition and without a promise, and cuts of a log's suffix: what writers and
//! readers see of them. Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use common::{config, folder, payloads};
use sapwood::{Config, Engine, Epoch, Error, From, Log, Lsn, Position, Rejected, Writer};

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn at(epoch: u32, lsn: u64) -> Position {
    Position { epoch: Epoch(epoch), lsn: Lsn(lsn) }
}

/// A payload that tells who wrote it and where.
fn payload(epoch: u32, lsn: u64) -> Vec<u8> {
    let mut bytes = format!("{epoch}:{lsn} ").into_bytes();
    bytes.resize(bytes.len() + (lsn * 37 % 3000) as usize, b'.');
    bytes
}

/// Appends up to `end`, as the writer's epoch.
fn fill(writer: &Writer, log: &Log, end: u64) {
    let from = log.durable().unwrap().0;
    let epoch = writer.epoch().0;
    let appends: Vec<_> = (from..end).map(|n| writer.append(payload(epoch, n))).collect();
    for (n, append) in (from..).zip(appends) {
        assert_eq!(append.wait().unwrap().position, at(epoch, n));
    }
}

/// Reads on: the position of every record, each with the payload that goes with it.
fn positions(log: &Log, from: From) -> Vec<Position> {
    let mut reader = log.reader(from).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        let position = record.position();
        assert_eq!(record.payload(), payload(position.epoch.0, position.lsn.0), "{position}");
        found.push(position);
    }
    found
}

/// `(epoch, from, to)` pieces as positions.
fn pieces(pieces: &[(u32, u64, u64)]) -> Vec<Position> {
    pieces.iter().flat_map(|&(epoch, from, to)| (from..to).map(move |n| at(epoch, n))).collect()
}

#[test]
fn a_conditional_append_compares_with_everything_staged_before_it() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let first = writer.submit_if(Lsn(0), b"0".to_vec()).unwrap();
    // Staged and not yet durable: it counts.
    let Err(Rejected { record: Some(back), error }) = writer.submit_if(Lsn(0), b"x".to_vec())
    else {
        panic!("two appends at one tail");
    };
    assert!(matches!(error, Error::Conflict { tail: Lsn(1) }), "{error}");
    assert_eq!(back, b"x");
    first.wait().unwrap();
    assert_eq!(writer.append_if(Lsn(1), b"1").wait().unwrap().position.lsn, Lsn(1));
    let refused = writer.append_if(Lsn(1), b"y".to_vec()).wait().unwrap_err();
    assert!(matches!(refused.error, Error::Conflict { tail: Lsn(2) }));
    assert_eq!(refused.record.as_deref(), Some(b"y".as_slice()));
    let refused = writer.append_if(Lsn(7), b"z").wait().unwrap_err();
    assert!(matches!(refused.error, Error::Conflict { tail: Lsn(2) }), "beyond the tail");
    // A writer that is fenced is told that, whatever the tail.
    let next = log.writer().unwrap();
    for lsn in [2, 5] {
        let refused = writer.submit_if(Lsn(lsn), b"z").unwrap_err();
        assert!(matches!(refused.error, Error::Fenced { .. }), "{}", refused.error);
    }
    next.append_if(Lsn(2), b"2").wait().unwrap();
    assert_eq!(payloads(&log), [b"0", b"1", b"2"]);
    engine.close().unwrap();
    assert!(matches!(next.submit_if(Lsn(3), b"z").unwrap_err().error, Error::Closed));
}

/// Of many that want the same place, one gets it.
#[test]
fn conditional_appends_race_and_one_wins() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let threads: Vec<_> = (0..4u8)
        .map(|id| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let mut won = 0;
                let mut tail = Lsn(0);
                while tail < Lsn(200) {
                    match writer.append_if(tail, vec![id; 20]).wait() {
                        Ok(ack) => {
                            assert_eq!(ack.position.lsn, tail);
                            (won, tail) = (won + 1, tail.next());
                        }
                        Err(Rejected { error: Error::Conflict { tail: there }, .. }) => {
                            assert!(there > tail, "{there} is no conflict with {tail}");
                            tail = there;
                        }
                        Err(rejected) => panic!("{}", rejected.error),
                    }
                }
                won
            })
        })
        .collect();
    let won: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(payloads(&log).len(), won);
    engine.close().unwrap();
}

/// One that waits for room is compared when its turn comes.
#[test]
fn a_conditional_append_that_waits_is_compared_in_its_turn() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut tail = 0;
    while writer.submit(vec![0; 60_000]).map(drop).is_ok() {
        tail += 1;
    }
    let mut first = writer.append(vec![1; 50_000]);
    let mut right = writer.append_if(Lsn(tail + 1), vec![2; 50_000]);
    let mut wrong = writer.append_if(Lsn(tail + 1), vec![3; 50_000]);
    let mut ends = [None, None];
    while ends.contains(&None) {
        driver.turn(std::time::Duration::from_millis(1));
        let _ = poll(&mut first);
        for (end, append) in ends.iter_mut().zip([&mut right, &mut wrong]) {
            if end.is_none()
                && let Poll::Ready(result) = poll(append)
            {
                *end = Some(result.map(|ack| ack.position.lsn).map_err(|r| r.error.to_string()));
            }
        }
    }
    assert_eq!(ends[0], Some(Ok(Lsn(tail + 1))));
    let conflict = Error::Conflict { tail: Lsn(tail + 2) }.to_string();
    assert_eq!(ends[1], Some(Err(conflict)));
    engine.close().unwrap();
}

#[test]
fn a_relaxed_append_resolves_when_staged_and_a_flush_makes_it_durable() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    for n in 0..5u8 {
        let mut relaxed = writer.append_relaxed(vec![n; 3]);
        let Poll::Ready(Ok(accepted)) = poll(&mut relaxed) else { panic!("not staged at once") };
        assert_eq!(accepted.records, 1);
    }
    assert!(payloads(&log).is_empty(), "readers see what is durable, and nobody drove the shard");
    let mut flush = writer.flush();
    assert_eq!(flush.position(), at(1, 5));
    assert!(poll(&mut flush).is_pending() && !flush.is_done());
    let ack = flush.wait().unwrap();
    assert_eq!((ack.position, ack.records), (at(1, 5), 0));
    assert_eq!(payloads(&log).len(), 5);
    assert!(writer.flush().is_done(), "nothing is left to wait for");
    // What was staged before a fence belongs to the log, and who staged it may wait for it.
    writer.append_relaxed(b"last").wait().unwrap();
    let next = log.writer().unwrap();
    writer.flush().wait().unwrap();
    let refused = writer.append_relaxed(b"no".to_vec()).wait().unwrap_err();
    assert!(matches!(refused.error, Error::Fenced { .. }));
    assert_eq!(refused.record.as_deref(), Some(b"no".as_slice()));
    assert_eq!(next.first(), at(2, 6));
    engine.close().unwrap();
    drop(driver);
}

/// A relaxed append waits for room as others do, and blocks nobody who drives.
#[test]
fn relaxed_appends_wait_for_room() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    for n in 0..300u64 {
        writer.append_relaxed(vec![n as u8; 50_000]).wait().unwrap();
    }
    writer.flush().wait().unwrap();
    assert_eq!(payloads(&log).len(), 300);
    engine.close().unwrap();
    drop(driver);
}

#[test]
fn a_cut_drops_the_suffix_and_goes_on_under_the_next_epoch() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let clone = writer.clone();
    fill(&writer, &log, 100);
    assert_eq!(writer.cut_to(Lsn(60)).wait().unwrap(), at(2, 60));
    assert_eq!((log.durable().unwrap(), log.info().unwrap().epoch), (Lsn(60), Epoch(2)));
    assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 60)]));
    assert_eq!((clone.epoch(), clone.first()), (Epoch(2), at(1, 0)), "clones share the epoch");
    fill(&clone, &log, 80);
    let all = pieces(&[(1, 0, 60), (2, 60, 80)]);
    assert_eq!(positions(&log, From::Start), all);
    for lsn in [0, 59, 60, 61, 79] {
        assert_eq!(positions(&log, From::Lsn(Lsn(lsn))), all[lsn as usize..]);
    }
    assert_eq!(positions(&log, From::After(at(1, 59))), all[60..]);
    assert_eq!(positions(&log, From::At(at(2, 60))), all[60..]);
    // The same place again, the tail, the start.
    assert_eq!(writer.cut_to(Lsn(60)).wait().unwrap(), at(3, 60));
    assert_eq!(writer.cut_to(Lsn(60)).wait().unwrap(), at(4, 60));
    fill(&writer, &log, 62);
    assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 60), (4, 60, 62)]));
    assert_eq!(writer.cut_to(Lsn(0)).wait().unwrap(), at(5, 0));
    assert_eq!(positions(&log, From::Start), []);
    fill(&writer, &log, 70);
    assert_eq!(positions(&log, From::Start), pieces(&[(5, 0, 70)]));
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    assert_eq!(positions(&log, From::Start), pieces(&[(5, 0, 70)]));
    assert_eq!(log.writer().unwrap().first(), at(6, 70));
    engine.close().unwrap();
}

#[test]
fn cuts_that_cannot_be_are_told_and_change_nothing() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let old = log.writer().unwrap();
    fill(&old, &log, 10);
    let beyond = old.cut_to(Lsn(11)).wait();
    assert!(matches!(beyond, Err(Error::Invalid(_))), "{beyond:?}");
    assert_eq!(old.epoch(), Epoch(1));
    let writer = log.writer().unwrap();
    let fenced = old.cut_to(Lsn(5)).wait();
    assert!(matches!(fenced, Err(Error::Fenced { epoch: Epoch(2) })), "{fenced:?}");
    fill(&writer, &log, 12);
    assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 10), (2, 10, 12)]));
    engine.close().unwrap();
    assert!(matches!(writer.cut_to(Lsn(5)).wait(), Err(Error::Closed)));
}

/// What is staged when a cut begins is dropped with the rest, and whoever staged it was told the
/// truth: it was durable.
#[test]
fn a_cut_waits_for_what_was_staged_and_holds_back_what_comes() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, &log, 4);
    let mut staged = writer.submit(payload(1, 4)).unwrap();
    let mut cut = writer.cut_to(Lsn(2));
    assert!(poll(&mut cut).is_pending());
    let busy = writer.submit(payload(2, 2)).unwrap_err();
    assert!(matches!(busy.error, Error::Busy), "{}", busy.error);
    assert!(matches!(writer.cut_to(Lsn(1)).wait(), Err(Error::Busy)), "one cut at a time");
    let mut append = writer.clone().append(payload(2, 2));
    assert!(poll(&mut append).is_pending(), "it waits");
    let cut = loop {
        driver.turn(std::time::Duration::from_millis(1));
        if let Poll::Ready(cut) = poll(&mut cut) {
            break cut.unwrap();
        }
    };
    assert_eq!(cut, at(2, 2));
    let Poll::Ready(Ok(ack)) = poll(&mut staged) else { panic!("staged before the cut") };
    assert_eq!(ack.position, at(1, 4));
    assert_eq!(append.wait().unwrap().position, at(2, 2));
    assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 2), (2, 2, 3)]));
    engine.close().unwrap();
}

/// A cut that nobody waits for fences its writer; the next one carries it through.
#[test]
fn a_cut_that_is_dropped_fences_its_writer() {
    for named in [false, true] {
        let dir = folder();
        let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
        let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
        let log = engine.log("a").unwrap();
        let writer = log.writer().unwrap();
        fill(&writer, &log, 10);
        let staged = writer.submit(payload(1, 10)).unwrap();
        let mut cut = writer.cut_to(Lsn(5));
        assert!(poll(&mut cut).is_pending());
        if named {
            while !staged.is_done() {
                driver.turn(std::time::Duration::from_millis(1));
            }
            assert!(poll(&mut cut).is_pending(), "now the edit is on its way");
            for _ in 0..20 {
                driver.turn(std::time::Duration::from_millis(1));
            }
            assert_eq!(log.durable().unwrap(), Lsn(5), "what is durable is shown");
        }
        drop(cut);
        let refused = writer.submit(b"x").unwrap_err();
        assert!(matches!(refused.error, Error::Fenced { epoch: Epoch(2) }), "{}", refused.error);
        let next = log.writer().unwrap();
        assert_eq!(next.first(), at(3, 5));
        assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 5)]));
        fill(&next, &log, 7);
        engine.close().unwrap();
        drop(driver);
        let engine = Engine::open(config(dir.path())).unwrap();
        let log = engine.log("a").unwrap();
        assert_eq!(positions(&log, From::Start), pieces(&[(1, 0, 5), (3, 5, 7)]));
        engine.close().unwrap();
    }
}

#[test]
fn readers_beyond_a_cut_are_told() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, &log, 50);
    let stand = |at: u64| {
        let mut reader = log.reader(From::Start).unwrap();
        (0..at).for_each(|n| assert_eq!(reader.next().wait().unwrap().unwrap().lsn(), Lsn(n)));
        reader
    };
    let mut below = stand(20);
    let mut edge = stand(30);
    let mut beyond = stand(31).follow();
    let mut tail = log.reader(From::Tail).unwrap().follow();
    let waits = std::thread::spawn(move || tail.next().wait().map(|_| ()));
    writer.cut_to(Lsn(30)).wait().unwrap();
    let diverged = |result: Result<(), Error>, epoch: u32, lsn: u64| {
        let told = matches!(result, Err(Error::Diverged { epoch: e, lsn: l })
            if (e, l) == (Epoch(epoch), Lsn(lsn)));
        assert!(told, "{result:?}");
    };
    diverged(waits.join().unwrap(), 2, 30);
    diverged(beyond.next().wait().map(|_| ()), 2, 30);
    assert_eq!(edge.next().wait().unwrap().map(|record| record.lsn()), None, "the end");
    // It is not forgotten when the log has grown beyond again.
    fill(&writer, &log, 60);
    diverged(beyond.next().wait().map(|_| ()), 2, 30);
    beyond.seek(Lsn(30));
    assert_eq!(beyond.next().wait().unwrap().unwrap().position(), at(2, 30));
    assert_eq!(edge.next().wait().unwrap().unwrap().position(), at(2, 30));
    for n in 20..60 {
        let epoch = if n < 30 { 1 } else { 2 };
        assert_eq!(below.next().wait().unwrap().unwrap().position(), at(epoch, n));
    }
    for from in [From::At(at(1, 30)), From::After(at(1, 49)), From::At(at(1, 35))] {
        diverged(log.reader(from).map(|_| ()), 2, 30);
    }
    assert!(log.reader(From::After(at(1, 29))).is_ok());
    // A second cut, below: told by where the log now goes on.
    writer.cut_to(Lsn(10)).wait().unwrap();
    diverged(below.next().wait().map(|_| ()), 3, 10);
    diverged(log.reader(From::At(at(1, 35))).map(|_| ()), 3, 10);
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    diverged(log.reader(From::At(at(2, 35))).map(|_| ()), 3, 10);
    diverged(log.reader(From::At(at(1, 10))).map(|_| ()), 3, 10);
    assert!(log.reader(From::At(at(1, 9))).is_ok());
    engine.close().unwrap();
}

/// Cuts into what was sealed long ago, back and forth, over many segments: every LSN is read from
/// where it was written last, from any place, before and after a reopening.
#[test]
fn a_log_that_was_cut_often_is_read_from_anywhere() {
    let dir = folder();
    let config = Config { segment_bytes: 1 << 20, ..config(dir.path()) };
    let mut truth: Vec<Position> = Vec::new();
    let engine = Engine::open(config.clone()).unwrap();
    let log = engine.log("a").unwrap();
    let other = engine.log("other").unwrap();
    let writer = log.writer().unwrap();
    let beside = other.writer().unwrap();
    for (cut, end) in [(0, 900), (700, 1500), (200, 1900), (1800, 2600), (1000, 1001), (990, 2400)]
    {
        if cut < truth.len() as u64 {
            let first = writer.cut_to(Lsn(cut)).wait().unwrap();
            assert_eq!(first.lsn, Lsn(cut));
            truth.truncate(cut as usize);
        }
        fill(&writer, &log, end);
        truth.extend((cut..end).map(|n| at(writer.epoch().0, n)));
        beside.append(vec![1; 5000]).wait().unwrap();
    }
    let check = |log: &Log| {
        assert_eq!(positions(log, From::Start), truth);
        for lsn in (0..2400).step_by(83).chain([199, 200, 699, 700, 989, 990, 2399]) {
            assert_eq!(positions(log, From::Lsn(Lsn(lsn))), truth[lsn as usize..], "{lsn}");
        }
    };
    check(&log);
    let indexes = || {
        let files = std::fs::read_dir(dir.path().join("wal")).unwrap();
        let paths = files.map(|entry| entry.unwrap().path());
        let is_index = |path: &std::path::PathBuf| path.to_string_lossy().contains("index-");
        paths.filter(is_index).collect::<Vec<_>>()
    };
    assert!(indexes().len() > 5, "segments were sealed between the cuts");
    engine.close().unwrap();
    let engine = Engine::open(config.clone()).unwrap();
    check(&engine.log("a").unwrap());
    assert_eq!(payloads(&engine.log("other").unwrap()).len(), 6);
    engine.close().unwrap();
    // Indexes that are gone are built from segments that hold what was dropped.
    indexes().into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let engine = Engine::open(config).unwrap();
    assert!(!engine.recovery()[0].repaired.is_empty());
    check(&engine.log("a").unwrap());
    engine.close().unwrap();
}

#[test]
fn a_time_leads_to_what_is_left_after_a_cut() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut times = Vec::new();
    for (cut, end) in [(0, 300u64), (100, 200), (150, 400)] {
        if cut > 0 {
            writer.cut_to(Lsn(cut)).wait().unwrap();
            times.truncate(cut as usize);
        }
        for n in cut..end {
            let append = writer.append(payload(writer.epoch().0, n));
            times.push(append.wait().unwrap().timestamp_us);
        }
    }
    let check = |log: &Log| {
        for time in times.iter().step_by(13).flat_map(|t| [t - 1, *t, t + 1]) {
            let due = times.iter().position(|t| *t >= time).map(|n| Lsn(n as u64));
            let mut reader = log.reader(From::Time(time)).unwrap();
            assert_eq!(reader.next().wait().unwrap().map(|record| record.lsn()), due);
        }
    };
    check(&log);
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    check(&engine.log("a").unwrap());
    engine.close().unwrap();
}

/// Another engine that follows sees cuts as readers in the process do.
#[test]
fn a_foreign_follower_learns_of_cuts() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    fill(&writer, &log, 40);
    let foreign = Engine::open(Config { read_only: true, ..config(dir.path()) }).unwrap();
    let theirs = foreign.log("a").unwrap();
    let until = |end: u64| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while theirs.durable().unwrap() != Lsn(end) {
            assert!(std::time::Instant::now() < deadline, "at {}", theirs.durable().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    until(40);
    let mut reader = theirs.reader(From::Lsn(Lsn(39))).unwrap().follow();
    assert_eq!(reader.next().wait().unwrap().unwrap().position(), at(1, 39));
    writer.cut_to(Lsn(25)).wait().unwrap();
    let told = reader.next().wait().map(|_| ());
    assert!(matches!(told, Err(Error::Diverged { lsn: Lsn(25), .. })), "{told:?}");
    until(25);
    fill(&writer, &log, 90);
    until(90);
    assert_eq!(positions(&theirs, From::Start), pieces(&[(1, 0, 25), (2, 25, 90)]));
    engine.close().unwrap();
}

/// Writers that are opened while others cut: nobody's records get mixed up.
#[test]
fn cuts_and_new_writers_race() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = Arc::new(engine.log("a").unwrap());
    let threads: Vec<_> = (0..3u64)
        .map(|id| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for round in 0..15u64 {
                    let writer = log.writer().unwrap();
                    for step in 0..10u64 {
                        let epoch = writer.epoch();
                        // Its LSN is known to whoever writes alone: staged, else fenced.
                        let tail = writer.flush().position();
                        let record = payload(epoch.0, tail.lsn.0);
                        match writer.append_if(tail.lsn, record).wait() {
                            Ok(ack) => assert!(ack.position.lsn == tail.lsn),
                            Err(Rejected {
                                error: Error::Fenced { .. } | Error::Conflict { .. },
                                ..
                            }) => break,
                            Err(rejected) => panic!("{}", rejected.error),
                        }
                        if (id + round + step) % 7 == 0 {
                            let lsn = Lsn(tail.lsn.0 / 2);
                            match writer.cut_to(lsn).wait() {
                                Ok(first) => assert_eq!(first.lsn, lsn),
                                Err(Error::Fenced { .. } | Error::Invalid(_)) => break,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let found = positions(&log, From::Start);
    assert!(found.is_sorted() && found.iter().zip(0..).all(|(p, n)| p.lsn == Lsn(n)));
    engine.close().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    assert_eq!(positions(&engine.log("a").unwrap(), From::Start), found);
    engine.close().unwrap();
}

/// A record that fits an empty batch was refused as too large for any, when the open batch had many
/// runs: their table would have stood beside it.
#[test]
fn a_large_record_goes_behind_a_batch_of_many_runs() {
    let dir = folder();
    let config = Config {
        batch_bytes_max: 64 << 10,
        record_bytes_max: 57_344,
        stage_bytes: 2 << 20,
        ..config(dir.path())
    };
    let (engine, drivers) = Engine::open_driven(config).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let writers: Vec<_> =
        (0..300).map(|n| engine.log(&format!("{n}")).unwrap().writer().unwrap()).collect();
    let tickets: Vec<_> = writers.iter().map(|writer| writer.submit(b"x").unwrap()).collect();
    let large = writers[0].submit(vec![7; 57_344]).unwrap();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    large.wait().unwrap();
    engine.close().unwrap();
    drop(driver);
}
