//! Ephemeral records: between the others, for who follows now, never before what they follow.
//! Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{config, folder, payloads};
use sapwood::{Engine, Error, From, Lsn, Reader, Record};

/// What comes next, if it comes at once (the reading thread may have to look at the disk): the LSN,
/// whether it is ephemeral, and the payload.
fn now(reader: &mut Reader) -> Option<(u64, bool, Vec<u8>)> {
    for _ in 0..30 {
        let poll = pin!(reader.next()).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(record) = poll {
            let parts = |record: sapwood::ReadRecord<'_>| {
                (record.lsn().0, record.is_ephemeral(), record.payload().to_vec())
            };
            return record.unwrap().map(parts);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

#[test]
fn they_sit_between_two_records_and_wait_until_what_they_follow_is_durable() {
    let dir = folder();
    let (engine, drivers) = Engine::open_driven(config(dir.path())).unwrap();
    let mut driver = drivers.into_iter().next().unwrap().bind().unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    writer.append_ephemeral(b"nobody listens").unwrap();
    let mut reader = log.reader(From::Tail).unwrap().follow().with_ephemeral();
    let mut plain = log.reader(From::Tail).unwrap().follow();
    writer.append_ephemeral(b"tick 0").unwrap();
    assert_eq!(now(&mut reader), Some((0, true, b"tick 0".to_vec())), "nothing is before it");
    let first = writer.submit(b"one").unwrap();
    let tick = Record::new("tick 1").with_properties(&[("k", b"v")]).unwrap();
    writer.append_ephemeral(&tick).unwrap();
    let second = writer.submit(b"two").unwrap();
    writer.append_ephemeral(b"tick 2").unwrap();
    writer.append_ephemeral(b"tick 3").unwrap();
    assert_eq!(now(&mut reader), None, "what is before them is not durable");
    while !first.is_done() || !second.is_done() {
        driver.turn(Duration::from_millis(1));
    }
    assert_eq!(now(&mut reader), Some((0, false, b"one".to_vec())));
    {
        let mut next = pin!(reader.next());
        let Poll::Ready(record) = next.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("tick 1 is due");
        };
        let record = record.unwrap().unwrap();
        assert!(record.is_ephemeral() && record.lsn() == Lsn(1) && record.payload() == b"tick 1");
        assert_eq!(record.properties().map(Result::unwrap).next(), Some(("k", b"v".as_slice())));
        assert_eq!(record.epoch(), writer.epoch());
    }
    assert_eq!(reader.next_lsn(), Some(Lsn(1)), "the record behind it was not given yet");
    for due in
        [(1, false, b"two".to_vec()), (2, true, b"tick 2".into()), (2, true, b"tick 3".into())]
    {
        assert_eq!(now(&mut reader), Some(due));
    }
    assert_eq!((now(&mut reader), reader.missed()), (None, 0));
    for due in [(0, false, b"one".to_vec()), (1, false, b"two".into())] {
        assert_eq!(now(&mut plain), Some(due), "who did not ask does not get them");
    }
    assert_eq!(now(&mut plain), None);
    engine.close().unwrap();
    assert_eq!(payloads(&log), [b"one", b"two"], "they are nowhere");
    assert!(matches!(writer.append_ephemeral(b"x").unwrap_err().error, Error::Closed));
}

#[test]
fn a_follower_that_waits_is_woken() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut reader = log.reader(From::Tail).unwrap().follow().with_ephemeral();
    let reading = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while seen.len() < 400 {
            let record = reader.next().wait().unwrap().unwrap();
            let number = u32::from_le_bytes(record.payload().try_into().unwrap());
            seen.push((number, record.is_ephemeral()));
        }
        seen
    });
    for n in 0..200u32 {
        writer.append((2 * n).to_le_bytes()).wait().unwrap();
        writer.append_ephemeral((2 * n + 1).to_le_bytes()).unwrap();
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let seen = reading.join().unwrap();
    assert!(seen.iter().zip(0..).all(|(seen, n)| *seen == (n, n % 2 == 1)), "{seen:?}");
    engine.close().unwrap();
}

#[test]
fn too_many_drop_the_oldest_and_the_reader_is_told() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let mut reader = log.reader(From::Tail).unwrap().follow().with_ephemeral();
    for n in 0..1500u32 {
        writer.append_ephemeral(n.to_le_bytes()).unwrap();
    }
    let first = now(&mut reader).unwrap().2;
    assert_eq!((first, reader.missed()), (476u32.to_le_bytes().to_vec(), 476));
    let refused = writer.append_ephemeral(vec![0; 65_537]).unwrap_err();
    assert!(matches!(refused.error, Error::Invalid(_)));
    assert_eq!(refused.record.map(|record| record.len()), Some(65_537));
    engine.close().unwrap();
}

#[test]
fn a_fenced_writer_gets_its_own_back_and_a_cut_takes_what_stood_beyond() {
    let dir = folder();
    let engine = Engine::open(config(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    for n in 0..4u8 {
        writer.append([n]).wait().unwrap();
    }
    let mut reader = log.reader(From::Start).unwrap().follow().with_ephemeral();
    assert_eq!(now(&mut reader), Some((0, false, vec![0])));
    writer.append_ephemeral(b"beyond").unwrap();
    writer.cut_to(Lsn(2)).wait().unwrap();
    writer.append_ephemeral(b"at the cut").unwrap();
    writer.append([7]).wait().unwrap();
    for due in [(1, false, vec![1]), (2, true, b"at the cut".to_vec()), (2, false, vec![7])] {
        assert_eq!(now(&mut reader), Some(due));
    }
    assert_eq!(now(&mut reader), None);
    let next = log.writer().unwrap();
    let refused = writer.append_ephemeral(b"fenced".to_vec()).unwrap_err();
    assert!(matches!(refused.error, Error::Fenced { .. }));
    assert_eq!(refused.record.as_deref(), Some(b"fenced".as_slice()));
    next.append_ephemeral(b"mine").unwrap();
    assert_eq!(now(&mut reader), Some((3, true, b"mine".to_vec())));
    engine.close().unwrap();
}
