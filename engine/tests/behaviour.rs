//! What callers see of appends: fencing, backpressure, waiting, driving, bad input. Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{config, folder, payloads};
use sapwood::{
    Batch, Config, Engine, Error, From, LogOptions, LogSettings, Lsn, Record, Rejected, ShardId,
};

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Nobody drove the shard in time, so the creation ended `Undriven`; its edit waited for the shard
/// all the same and became durable later. The catalog had not heard of it: the next creation of
/// that name got a second id, and there were two logs of one name, of which an open found only one.
#[test]
fn a_creation_that_ended_undriven_is_not_made_twice() {
    let dir = folder();
    let config = Config { undriven_after: Duration::from_millis(30), ..config(dir.path()) };
    let (engine, drivers) = Engine::open_driven(config.clone()).unwrap();
    let mut driving = drivers.into_iter().next().unwrap().bind().unwrap();
    let elsewhere = engine.clone();
    let create = move |name: &'static str| {
        let engine = elsewhere.clone();
        std::thread::spawn(move || engine.log(name).map(|log| log.id())).join().unwrap()
    };
    for _ in 0..2 {
        assert!(matches!(create("a"), Err(Error::Undriven)));
    }
    assert!(matches!(create("b"), Err(Error::Undriven)));
    for _ in 0..20 {
        driving.turn(Duration::from_millis(5));
    }
    let a = create("a").unwrap();
    let b = engine.log("b").unwrap().id();
    assert_ne!(a, b);
    engine.log("a").unwrap().writer().unwrap().append(b"kept".as_slice()).wait().unwrap();
    engine.close().unwrap();
    drop((engine, create, driving));
    let engine = Engine::open(config).unwrap();
    let names: Vec<_> = engine.logs().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(payloads(&engine.log("a").unwrap()), [b"kept".to_vec()]);
    engine.close().unwrap();
}

#[test]
fn a_fenced_writer_gets_its_record_back_for_ever() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let old = log.writer().unwrap();
    let before = old.submit(b"before".as_slice()).unwrap();
    let new = log.writer().unwrap();
    assert!(new.epoch() > old.epoch());
    assert_eq!(new.first().lsn, Lsn(1), "the tail is exact");
    assert!(before.is_done(), "all that was staged before is durable");
    before.wait().unwrap();
    for _ in 0..2 {
        let record = Record::new("after").with_properties(&[("k", b"v")]).unwrap();
        let Err(Rejected { record: Some(back), error }) = old.submit(record.clone()) else {
            panic!("a fenced writer appended");
        };
        assert_eq!(back, record);
        assert!(matches!(error, Error::Fenced { epoch } if epoch == new.epoch()), "{error}");
        let refused = old.clone().append(record.clone()).wait().unwrap_err();
        assert_eq!(refused.record, Some(record));
    }
    new.append(b"mine").wait().unwrap();
    assert_eq!(payloads(&log), [b"before".to_vec(), b"mine".to_vec()]);
    engine.close().unwrap();
}

#[test]
fn the_tail_of_a_new_writer_counts_what_was_staged_before_it() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let mut tail = 0;
    for round in 0..20u64 {
        let writer = log.writer().unwrap();
        assert_eq!(writer.first().lsn, Lsn(tail));
        assert_eq!(u64::from(writer.epoch().0), round + 1);
        for n in 0..round * 7 {
            let ticket = writer.submit(vec![n as u8; 100]).unwrap();
            assert_eq!(ticket.position().lsn, Lsn(tail));
            tail += 1;
        }
    }
    engine.close().unwrap();
    assert_eq!(payloads(&log).len() as u64, tail, "close drains what nobody waited for");
}

#[test]
fn a_full_stage_gives_busy_and_the_record_and_takes_more_once_driven() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut drivers: Vec<_> = drivers.into_iter().map(|d| d.bind().unwrap()).collect();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut tickets = Vec::new();
    let refused = loop {
        match writer.submit(vec![tickets.len() as u8; 10_000]) {
            Ok(ticket) => tickets.push(ticket),
            Err(rejected) => break rejected,
        }
        assert!(tickets.len() < 10_000, "memory is not bounded");
    };
    assert!(matches!(refused.error, Error::Busy), "{}", refused.error);
    assert_eq!(refused.record.unwrap(), vec![tickets.len() as u8; 10_000]);
    for ticket in &tickets {
        assert!(!ticket.is_done(), "nobody drove the shard");
    }
    let count = tickets.len() as u64;
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let next = writer.submit(vec![7; 10_000]).unwrap();
    assert_eq!(next.position().lsn, Lsn(count), "a rejected record takes no LSN");
    next.wait().unwrap();
    engine.close().unwrap();
    drivers.clear();
}

#[test]
fn appends_wait_in_order_of_arrival_and_a_dropped_one_writes_nothing() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut tickets = Vec::new();
    while let Ok(ticket) = writer.submit(vec![0; 60_000]) {
        tickets.push(ticket);
    }
    let mut waiting: Vec<_> = (1..=6u8).map(|n| writer.append(vec![n; 50_000])).collect();
    for append in &mut waiting {
        assert!(poll(append).is_pending());
    }
    // Who comes later does not overtake who waits, however small.
    assert!(matches!(writer.submit(b"x").unwrap_err().error, Error::Busy));
    drop(waiting.remove(4));
    drop(waiting.remove(0));
    let mut open = waiting;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut order = Vec::new();
    while !open.is_empty() {
        driver.turn(Duration::from_millis(1));
        open.retain_mut(|append| match poll(append) {
            Poll::Ready(ack) => {
                order.push(ack.unwrap().position.lsn);
                false
            }
            Poll::Pending => true,
        });
        assert!(Instant::now() < deadline, "appends wait for ever");
    }
    assert!(order.is_sorted());
    let written: Vec<u8> = payloads(&log).iter().map(|p| p[0]).filter(|n| *n != 0).collect();
    assert_eq!(written, [2, 3, 4, 6]);
    engine.close().unwrap();
}

#[test]
fn a_blocked_append_on_the_driving_thread_drives() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let _driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut staged = 0;
    while let Ok(ticket) = writer.submit(vec![0; 60_000]) {
        drop(ticket);
        staged += 1;
    }
    let ack = writer.append(vec![1; 60_000]).wait().unwrap();
    assert_eq!(ack.position.lsn, Lsn(staged));
    engine.close().unwrap();
}

#[test]
fn who_waits_for_a_shard_that_nobody_drives_is_told() {
    let dir = folder();
    let config = Config { undriven_after: Duration::from_millis(100), ..config(dir.path()) };
    let (engine, drivers) = Engine::open_driven(config).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let ticket = writer.submit(b"x").unwrap();
    let elsewhere = std::thread::spawn(move || ticket.wait());
    assert!(matches!(elsewhere.join().unwrap(), Err(Error::Undriven)));
    let other = log.clone();
    let elsewhere = std::thread::spawn(move || other.writer().map(|_| ()));
    assert!(matches!(elsewhere.join().unwrap(), Err(Error::Undriven)));
    // Dropping the driver drains: the record is there.
    drop(driver);
    assert_eq!(payloads(&log).len(), 1);
}

#[test]
fn a_driver_that_is_dropped_resolves_everybody() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let tickets: Vec<_> = (0..50u8).map(|n| writer.submit(vec![n; 500]).unwrap()).collect();
    drop(driver);
    for ticket in tickets {
        assert!(ticket.is_done());
        ticket.wait().unwrap();
    }
    let refused = writer.submit(b"late").unwrap_err();
    assert!(matches!(refused.error, Error::Closed), "{}", refused.error);
}

#[test]
fn bad_input_is_told_and_changes_nothing() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let long = "x".repeat(5000);
    for name in ["", "a\0b", long.as_str()] {
        assert!(matches!(engine.log(name), Err(Error::Invalid(_))), "{name:?}");
    }
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let max = config(dir.path()).record_bytes_max as usize;
    let refused = writer.submit(vec![1; max + 1]).unwrap_err();
    assert_eq!(refused.record.map(|r| r.len()), Some(max + 1));
    assert!(matches!(refused.error, Error::Invalid(_)));
    let refused = writer.submit(Batch::new()).unwrap_err();
    assert!(matches!(refused.error, Error::Invalid(_)), "an append of nothing");
    let mut batch = Batch::new();
    for _ in 0..20 {
        batch.push(&vec![2; max]);
    }
    let refused = writer.submit(batch).unwrap_err();
    assert!(matches!(refused.error, Error::Invalid(_)), "more than one batch holds");
    writer.append(vec![3; max]).wait().unwrap();
    writer.append(b"").wait().unwrap();
    assert_eq!(payloads(&log), [vec![3; max], vec![]]);
    engine.close().unwrap();
    assert!(matches!(engine.log("new"), Err(Error::Closed)));
    assert!(matches!(writer.submit(b"x").unwrap_err().error, Error::Closed));
}

#[test]
fn settings_groups_and_ten_thousand_logs_survive() {
    let dir = folder();
    let config = Config { shards: 3, ..config(dir.path()) };
    let settings = LogSettings { retention_secs: Some(77), ..LogSettings::default() };
    let shard = {
        let engine = Engine::open(config.clone()).unwrap();
        let options = LogOptions { group: Some("g".into()), settings };
        let names: Vec<String> = (0..10_000).map(|n| format!("log/{n}")).collect();
        let plain = LogOptions::default();
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &plain)).collect();
        assert_eq!(engine.create_many(&wanted).unwrap().len(), 10_000);
        let grouped = ["x", "y", "z"].map(|name| engine.create(name, &options).unwrap());
        let shard = grouped[0].info().unwrap().shard;
        assert!(grouped.iter().all(|log| log.info().unwrap().shard == shard));
        engine.log("log/5").unwrap().set(settings).unwrap();
        let writer = engine.log("log/9999").unwrap().writer().unwrap();
        writer.append(b"last").wait().unwrap();
        engine.close().unwrap();
        shard
    };
    let engine = Engine::open(Config { shards: 1, ..config }).unwrap();
    assert_eq!(engine.facts().shards, 3, "a directory keeps the shards it was made with");
    let logs = engine.logs();
    assert_eq!(logs.len(), 10_003);
    let ids: std::collections::BTreeSet<_> = logs.iter().map(|log| log.id).collect();
    assert_eq!(ids.len(), 10_003);
    let used: std::collections::BTreeSet<ShardId> = logs.iter().map(|log| log.shard).collect();
    assert_eq!(used.len(), 3, "logs are spread");
    for name in ["x", "y", "z"] {
        let info = engine.log(name).unwrap().info().unwrap();
        assert_eq!((info.shard, info.group.as_deref()), (shard, Some("g")));
        assert_eq!(info.settings, settings);
    }
    assert_eq!(engine.log("log/5").unwrap().info().unwrap().settings, settings);
    assert_eq!(payloads(&engine.log("log/9999").unwrap()), [b"last"]);
    engine.close().unwrap();
}

#[test]
fn many_writers_on_many_threads_keep_their_own_order() {
    let dir = folder();
    let config = Config { shards: 2, ..config(dir.path()) };
    let engine = Engine::open(config).unwrap();
    let logs: Arc<Vec<_>> =
        Arc::new((0..4).map(|n| engine.log(&format!("l{n}")).unwrap()).collect());
    let threads: Vec<_> = (0..4usize)
        .map(|n| {
            let logs = Arc::clone(&logs);
            std::thread::spawn(move || {
                let writer = logs[n].writer().unwrap();
                for i in 0..600u32 {
                    let ack = writer.append(i.to_le_bytes().to_vec()).wait().unwrap();
                    assert_eq!(ack.position.lsn, Lsn(u64::from(i)));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    for log in logs.iter() {
        let found = payloads(log);
        assert_eq!(found.len(), 600);
        assert!((0..600u32).zip(found).all(|(i, payload)| payload == i.to_le_bytes()));
    }
    let tail = logs[0].reader(From::Tail).unwrap().next().wait().unwrap().is_none();
    assert!(tail);
    engine.close().unwrap();
}
