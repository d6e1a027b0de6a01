//! What stands in the files of a simulated disk, read back by its format: promises that no reader
//! of records can look at.
//!
//! Not here: damage of every kind (`engine/tests/surgery.rs`), every bit (`flips`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood::format::{BatchHeader, SegmentHeader};
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Driving, Engine, Error, From, Lsn, Writer};
use sapwood_tests::small;

const UNIT: usize = 4096;

fn open(disk: &SimStorage, config: Config) -> (Engine, Driving) {
    let (engine, mut drivers) = small::open(disk.clone(), config).unwrap();
    (engine, drivers.remove(0))
}

fn segments(disk: &SimStorage) -> Vec<String> {
    let names = disk.list().unwrap().into_iter();
    names.filter(|name| name.starts_with("segment-")).collect()
}

/// The batches of a segment: where each begins, and its header.
fn batches(image: &[u8]) -> Vec<(usize, BatchHeader)> {
    let Ok(header) = SegmentHeader::decode(&image[..UNIT]) else { return Vec::new() };
    let (mut at, mut found) = (UNIT, Vec::new());
    while let Ok((batch, _)) = BatchHeader::decode(&image[at..], header.nonce) {
        found.push((at, batch));
        at += batch.padded_bytes(UNIT);
        if at + UNIT > image.len() {
            break;
        }
    }
    found
}

/// The staging memory goes round: behind a batch would stand what somebody else had appended there
/// before, and a copy of the segment would give it away.
#[test]
fn behind_a_batch_stand_zeros() {
    let disk = SimStorage::new(1, Faults::default());
    let (engine, driver) = open(&disk, small::config());
    let writer = engine.log("a").unwrap().writer().unwrap();
    let mut looked_at = 0;
    for round in 0..120 {
        let len = if round % 2 == 0 { 30_000 } else { 10 };
        writer.append(vec![0xa5; len]).wait().unwrap();
    }
    for name in segments(&disk) {
        let image = disk.image(&name).unwrap();
        for (at, batch) in batches(&image) {
            let rest = &image[at + batch.bytes as usize..at + batch.padded_bytes(UNIT)];
            assert!(rest.iter().all(|byte| *byte == 0), "{name}, batch {}", batch.seq);
            looked_at += 1;
        }
    }
    assert!(looked_at > 100, "{looked_at} batches");
    drop((engine, driver));
}

/// Old batches of a file that is used again pass no checksum of its new life: for that each life
/// has a nonce of its own.
#[test]
fn each_life_of_a_file_has_a_seed_of_its_own() {
    let disk = SimStorage::new(2, Faults::default());
    let (engine, mut driver) = open(&disk, small::config());
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    // Per file: its lives, as segment and nonce.
    let mut lives: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
    for _ in 0..300 {
        let ack = writer.append(vec![7; 30_000]).wait().unwrap();
        log.truncate(ack.position.lsn).unwrap();
        for _ in 0..5 {
            driver.turn(Duration::from_millis(1));
        }
        for name in segments(&disk) {
            let Ok(header) = SegmentHeader::decode(&disk.image(&name).unwrap()[..UNIT]) else {
                continue;
            };
            let before = lives.entry(name).or_default().insert(header.segment.0, header.nonce);
            assert!(before.is_none_or(|nonce| nonce == header.nonce), "a nonce changed");
        }
    }
    let again = lives.values().filter(|lives| lives.len() > 1).count();
    assert!(again > 0, "no file was used again: {lives:?}");
    let mut nonces: Vec<u64> = lives.values().flat_map(BTreeMap::values).copied().collect();
    let count = nonces.len();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), count, "two lives have the same nonce: {lives:?}");
}

fn two_batches(disk: &SimStorage) -> (Engine, Driving, Writer) {
    // No mark comes in time: what the second header claims is all the witness there is.
    let idle_mark_delay = Duration::from_secs(1);
    let (engine, driver) = open(disk, Config { idle_mark_delay, ..small::config() });
    let writer = engine.log("a").unwrap().writer().unwrap();
    writer.append(vec![1; 3000]).wait().unwrap();
    writer.append(vec![2; 3000]).wait().unwrap();
    (engine, driver, writer)
}

/// A is acked; B, whose header claims A, is in flight, and lands in part; a bit of A turns. The
/// body of B is torn, its claim counts all the same: A was durable, and that it is damaged must be
/// told. A recovery that hears whole batches only cuts both, in silence.
#[test]
fn the_claim_of_a_torn_batch_counts() {
    let disk = SimStorage::new(3, Faults::default());
    let (engine, driver, writer) = two_batches(&disk);
    let left = disk.crash();
    drop((engine, driver, writer));
    let name = segments(&left).remove(0);
    let found = batches(&left.image(&name).unwrap());
    let data: Vec<_> = found.iter().filter(|(_, batch)| batch.records > 0).collect();
    let [(a, first), (b, second)] = data[..] else { panic!("two batches: {found:?}") };
    assert!(second.durable >= first.seq, "the second claims the first");
    for at in [a, b] {
        left.flip(&name, *at as u64 + 2000, 3).unwrap();
    }
    let (engine, _driver) = open(&left, small::config());
    let log = engine.find("a").unwrap().unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    let read = reader.next().wait().map(|record| record.map(|record| record.lsn()));
    match read {
        Err(Error::Corrupt(damage)) => assert_eq!(damage.first, Lsn(0), "{damage}"),
        other => panic!("an acked record is gone in silence: {other:?}"),
    }
}
