//! What callers see of atomic appends: all or nothing, one order, one ack per member. Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use common::{config, folder, payloads};
use sapwood::{
    Batch, Config, Engine, Error, From, Log, LogOptions, Lsn, Rejected, ShardId, Writer,
};

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Logs of one group, and a writer of each.
fn group(engine: &Engine, names: &[&str]) -> Vec<(Log, Writer)> {
    let options = LogOptions { group: Some("g".into()), ..LogOptions::default() };
    let open = |name: &&str| {
        let log = engine.create(name, &options).unwrap();
        let writer = log.writer().unwrap();
        (log, writer)
    };
    names.iter().map(open).collect()
}

#[test]
fn a_group_is_acked_and_read_member_by_member() {
    let dir = folder();
    let config = Config { shards: 3, ..config(dir.path()) };
    let engine = Engine::open(config.clone()).unwrap();
    let logs = group(&engine, &["a", "b", "c"]);
    logs[1].1.append(b"alone").wait().unwrap();
    let mut two = Batch::new();
    two.push(b"b1").push(b"b2");
    let one = |payload: &[u8]| {
        let mut batch = Batch::new();
        batch.push(payload);
        batch
    };
    // A log may come twice.
    let members = [(0, one(b"a0")), (1, two), (2, one(b"c0")), (0, one(b"a1"))];
    let given = members.iter().map(|(log, batch)| (&logs[*log].1, batch));
    let acks = engine.append_atomic(given).wait().unwrap();
    let at: Vec<_> = acks.iter().map(|ack| (ack.position.lsn.0, ack.records)).collect();
    assert_eq!(at, [(0, 1), (1, 2), (0, 1), (1, 1)]);
    engine.close().unwrap();
    let engine = Engine::open(config).unwrap();
    let read = |name| payloads(&engine.log(name).unwrap());
    assert_eq!(read("a"), [b"a0", b"a1"]);
    assert_eq!(read("b"), [b"alone".to_vec(), b"b1".to_vec(), b"b2".to_vec()]);
    assert_eq!(read("c"), [b"c0"]);
    engine.close().unwrap();
}

#[test]
fn one_fenced_writer_rejects_all() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let logs = group(&engine, &["a", "b"]);
    let new = logs[1].0.writer().unwrap();
    let given = [(&logs[0].1, "to a".to_owned()), (&logs[1].1, "to b".to_owned())];
    let rejected = engine.append_atomic(given).wait().unwrap_err();
    assert_eq!(rejected.record, Some(vec!["to a".to_owned(), "to b".to_owned()]));
    assert!(matches!(rejected.error, Error::Fenced { epoch } if epoch == new.epoch()));
    assert!(logs.iter().all(|(log, _)| payloads(log).is_empty()));
    let acks = engine.append_atomic([(&logs[0].1, "to a"), (&new, "to b")]).wait().unwrap();
    assert_eq!(acks[1].position.epoch, new.epoch());
    engine.close().unwrap();
    let rejected = engine.submit_atomic([(&new, "late")]).unwrap_err();
    assert!(matches!(rejected.error, Error::Closed));
}

#[test]
fn bad_groups_are_told_and_come_back() {
    let dir = folder();
    let config = Config { shards: 2, ..config(dir.path()) };
    let engine = Engine::open(config.clone()).unwrap();
    let mut apart: Vec<Writer> = Vec::new();
    for n in 0.. {
        let log = engine.log(&format!("log-{n}")).unwrap();
        if log.id().shard() == ShardId(apart.len() as u16) {
            apart.push(log.writer().unwrap());
        }
        if apart.len() == 2 {
            break;
        }
    }
    let given = [(&apart[0], vec![1]), (&apart[1], vec![2])];
    let Rejected { record, error } = engine.append_atomic(given).wait().unwrap_err();
    assert_eq!(record, Some(vec![vec![1], vec![2]]));
    assert!(matches!(&error, Error::Invalid(what) if what.contains("one group")), "{error}");
    let none: [(&Writer, &[u8]); 0] = [];
    let rejected = engine.submit_atomic(none).unwrap_err();
    assert!(matches!(rejected.error, Error::Invalid(_)));
    let max = config.record_bytes_max as usize;
    let given = [(&apart[0], vec![1]), (&apart[0], vec![2; max + 1])];
    let rejected = engine.submit_atomic(given).unwrap_err();
    assert!(matches!(rejected.error, Error::Invalid(_)));
    assert_eq!(rejected.record.map(|records| records[1].len()), Some(max + 1));
    engine.close().unwrap();
}

/// Groups go into consecutive places: between a group's records of one log nothing else comes, and
/// nobody sees one log ahead of the other.
#[test]
fn groups_of_many_threads_keep_together() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let logs = group(&engine, &["a", "b"]);
    let (rounds, threads) = (200u32, 4u32);
    let seen = |log: &Log| log.durable().unwrap().0;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (engine, logs) = (&engine, &logs);
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut batch = Batch::new();
                    for n in 0..3u32 {
                        batch.push(format!("{thread} {round} {n}").as_bytes());
                    }
                    let given = [(&logs[0].1, &batch), (&logs[1].1, &batch)];
                    engine.append_atomic(given).wait().unwrap();
                }
            });
        }
        let all = u64::from(rounds * threads * 3);
        while seen(&logs[1].0) < all {
            let a = seen(&logs[0].0);
            let b = seen(&logs[1].0);
            assert!(b >= a, "{a} records of one log, {b} of the other");
        }
    });
    let (a, b) = (payloads(&logs[0].0), payloads(&logs[1].0));
    assert!(a == b, "the same groups in the same order");
    for three in a.chunks(3) {
        let text = |at: usize| String::from_utf8(three[at].clone()).unwrap();
        let prefix = text(0).trim_end_matches('0').to_owned();
        assert_eq!((text(1), text(2)), (format!("{prefix}1"), format!("{prefix}2")));
    }
    engine.close().unwrap();
}

/// Dropped while it waits for room, a group wrote nothing; dropped later, it is written.
#[test]
fn dropping_a_group_withdraws_only_what_waits() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let logs = group(&engine, &["a", "b"]);
    let pair = |fill: u8| [(&logs[0].1, vec![fill; 30_000]), (&logs[1].1, vec![fill; 30_000])];
    let mut staged = 0u8;
    let waiting = loop {
        let mut group = engine.append_atomic(pair(staged));
        if format!("{group:?}").contains("waiting") {
            assert!(poll(&mut group).is_pending());
            break group;
        }
        drop(group);
        staged += 1;
    };
    assert!(staged > 4);
    let rejected = engine.submit_atomic(pair(200)).unwrap_err();
    assert!(matches!(rejected.error, Error::Busy));
    drop(waiting);
    let acks = engine.append_atomic(pair(201)).wait().unwrap();
    assert_eq!(acks[0].position.lsn, Lsn(u64::from(staged)));
    let mut reader = logs[1].0.reader(From::Tail).unwrap();
    assert!(reader.next().wait().unwrap().is_none());
    let last = |log: &Log| payloads(log).pop().map(|payload| payload[0]);
    assert_eq!((last(&logs[0].0), last(&logs[1].0)), (Some(201), Some(201)));
    assert_eq!(payloads(&logs[0].0).len(), usize::from(staged) + 1);
    engine.close().unwrap();
    drop(driver);
}

// A clone of one of the writers cut its log while a group waited: the others of the writer went on
// under the new epoch, the group was told `Fenced`, as if a stranger had taken the log.
#[test]
fn a_group_goes_on_after_the_cut_of_a_clone() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let logs = group(&engine, &["a", "b"]);
    let writer = &logs[0].1;
    writer.append(b"before").wait().unwrap();
    let mut cut = writer.clone().cut_to(Lsn(0));
    assert!(poll(&mut cut).is_pending());
    let mut both = engine.append_atomic([(writer, "a"), (&logs[1].1, "b")]);
    assert!(poll(&mut both).is_pending(), "it waits");
    let first = loop {
        driver.turn(std::time::Duration::from_millis(1));
        if let Poll::Ready(cut) = poll(&mut cut) {
            break cut.unwrap();
        }
    };
    let acks = both.wait().unwrap();
    assert_eq!(acks[0].position, first);
    assert_eq!(payloads(&logs[0].0), [b"a"]);
    assert_eq!(payloads(&logs[1].0), [b"b"]);
    // A stranger does fence it.
    let _next = logs[1].0.writer().unwrap();
    let fenced = engine.submit_atomic([(writer, "a"), (&logs[1].1, "b")]).unwrap_err();
    assert!(matches!(fenced.error, Error::Fenced { .. }), "{}", fenced.error);
    engine.close().unwrap();
}
