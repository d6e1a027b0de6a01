//! Records, batches and groups larger than a batch of the device: whole for every reader. Real
//! disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{config, folder, payloads};
use sapwood::format::{BatchHeader, SegmentHeader};
use sapwood::{Batch, Config, Engine, Error, From, LogOptions, Lsn, Record};

/// Batches of 64 KiB, records up to what a segment carries.
fn large(dir: &Path) -> Config {
    let config = Config { batch_bytes_max: 64 << 10, stage_bytes: 2 << 20, ..config(dir) };
    Config { record_bytes_max: config.record_bytes_limit() as u32, ..config }
}

/// Bytes that differ everywhere, so that a part in another's place shows.
fn payload(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((i * 31 + i / 251 + n * 7) % 256) as u8).collect()
}

const LENS: [usize; 9] = [10, 65_216, 65_217, 200_000, 0, 900_000, 64_000, 130_000, 33];

/// Appends records of all sizes and gives the payloads.
fn fill(engine: &Engine) -> Vec<Vec<u8>> {
    let writer = engine.log("a").unwrap().writer().unwrap();
    let other = engine.log("b").unwrap().writer().unwrap();
    let mut all = Vec::new();
    for (n, len) in LENS.into_iter().enumerate() {
        let one = payload(n as u64, len);
        let beside = other.append("beside");
        let ack = writer.append(&one).wait().unwrap();
        assert_eq!((ack.position.lsn, ack.records), (Lsn(n as u64), 1), "one LSN per record");
        beside.wait().unwrap();
        all.push(one);
    }
    all
}

#[test]
fn records_of_every_size_come_back_whole_from_anywhere() {
    let dir = folder();
    let config = large(dir.path());
    let engine = Engine::open(config.clone()).unwrap();
    let log = engine.log("a").unwrap();
    let follower = log.reader(From::Tail).unwrap().follow();
    let following = std::thread::spawn(move || {
        let mut reader = follower;
        let mut found = Vec::new();
        while found.len() < LENS.len() {
            found.push(reader.next().wait().unwrap().unwrap().payload().to_vec());
        }
        found
    });
    let all = fill(&engine);
    assert!(following.join().unwrap() == all, "the follower, from memory");
    let check = |engine: &Engine, how: &str| {
        let log = engine.log("a").unwrap();
        assert_eq!(log.durable().unwrap(), Lsn(LENS.len() as u64), "{how}");
        for from in 0..LENS.len() {
            let mut reader = log.reader(From::Lsn(Lsn(from as u64))).unwrap();
            for (lsn, want) in all.iter().enumerate().skip(from) {
                let record = reader.next().wait().unwrap().unwrap();
                assert_eq!(record.lsn(), Lsn(lsn as u64), "{how}, from {from}");
                assert!(record.payload() == want, "{how}, from {from}: LSN {lsn}");
            }
            assert!(reader.next().wait().unwrap().is_none());
        }
    };
    check(&engine, "as written");
    let read_only = Config { read_only: true, ..config.clone() };
    let foreign = Engine::open(read_only.clone()).unwrap();
    let found = foreign.log("a").unwrap().reader(From::Start).unwrap().follow();
    let mut found = found;
    for want in &all {
        assert!(found.next().wait().unwrap().unwrap().payload() == want, "a foreign follower");
    }
    drop((found, foreign));
    engine.close().unwrap();
    check(&Engine::open(read_only).unwrap(), "closed, read only");
    for entry in fs::read_dir(&config.dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("index-") {
            fs::remove_file(path).unwrap();
        }
    }
    let engine = Engine::open(config).unwrap();
    check(&engine, "opened again, indexes built again");
    engine.close().unwrap();
}

#[test]
fn properties_and_large_batches_are_whole_too() {
    let dir = folder();
    let engine = Engine::open(large(dir.path())).unwrap();
    let log = engine.log("a").unwrap();
    let writer = log.writer().unwrap();
    let long = vec![b'v'; 65_000];
    let record = Record::new(payload(1, 100_000)).with_properties(&[("key", &long)]).unwrap();
    writer.append(&record).wait().unwrap();
    let mut batch = Batch::new();
    for n in 0..300 {
        batch.push(&payload(n, 2000));
    }
    batch.push_record(&record);
    let ack = writer.append(&batch).wait().unwrap();
    assert_eq!((ack.position.lsn, ack.records), (Lsn(1), 301));
    let mut reader = log.reader(From::Start).unwrap();
    for lsn in 0..302u64 {
        let read = reader.next().wait().unwrap().unwrap();
        assert_eq!(read.lsn(), Lsn(lsn));
        if (1..301).contains(&lsn) {
            assert!(read.payload() == payload(lsn - 1, 2000));
        } else {
            assert!(read.payload() == record.payload());
            let properties: Vec<_> = read.properties().map(Result::unwrap).collect();
            assert_eq!(properties, [("key", long.as_slice())]);
        }
    }
    engine.close().unwrap();
}

#[test]
fn a_group_larger_than_a_batch_is_seen_as_one() {
    let dir = folder();
    let engine = Engine::open(large(dir.path())).unwrap();
    let options = LogOptions { group: Some("g".into()), ..LogOptions::default() };
    let logs = ["a", "b", "c"].map(|name| engine.create(name, &options).unwrap());
    let writers = logs.each_ref().map(|log| log.writer().unwrap());
    let rounds = 20;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                let given = writers.each_ref().map(|writer| (writer, payload(round, 90_000)));
                let acks = engine.append_atomic(given).wait().unwrap();
                assert!(acks.iter().all(|ack| ack.position.lsn == Lsn(round)));
            }
        });
        let seen = |at: usize| logs[at].durable().unwrap().0;
        while seen(0) < rounds {
            let last = seen(2);
            assert!(seen(0) >= last && seen(1) >= last);
            let first = seen(0);
            assert!(seen(2) >= first, "the first member before the last");
        }
    });
    for log in &logs {
        let want: Vec<_> = (0..rounds).map(|round| payload(round, 90_000)).collect();
        assert!(payloads(log) == want);
    }
    engine.close().unwrap();
}

#[test]
fn what_fits_no_segment_or_no_memory_is_told() {
    let dir = folder();
    let config = large(dir.path());
    let engine = Engine::open(config.clone()).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    let mut batch = Batch::new();
    (0..20).for_each(|n| {
        batch.push(&payload(n, 60_000));
    });
    let rejected = writer.submit(&batch).unwrap_err();
    assert!(matches!(&rejected.error, Error::Invalid(what) if what.contains("segment")));
    let most = config.record_bytes_max as usize;
    writer.append(payload(1, most)).wait().unwrap();
    let rejected = writer.submit(payload(1, most + 1)).unwrap_err();
    assert_eq!(rejected.record.map(|record| record.len()), Some(most + 1));
    engine.close().unwrap();
    let engine = Engine::open(Config { stage_bytes: 256 << 10, ..config }).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    let rejected = writer.submit(payload(2, 300_000)).unwrap_err();
    assert!(matches!(&rejected.error, Error::Invalid(what) if what.contains("stage_bytes")));
    // What just fits gets its turn, however many small ones come.
    std::thread::scope(|scope| {
        let small = engine.log("b").unwrap().writer().unwrap();
        scope.spawn(move || {
            for _ in 0..500 {
                small.append([7; 900]).wait().unwrap();
            }
        });
        for n in 0..20 {
            writer.append(payload(n, 180_000)).wait().unwrap();
        }
    });
    assert_eq!(payloads(&engine.log("a").unwrap()).len(), 21);
    engine.close().unwrap();
}

/// The segments of a directory that was closed, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("segment-");
    let mut found: Vec<_> = entries.filter(is).collect();
    found.sort();
    found
}

/// Damage in any batch of a record in fragments names the record, and nothing else is lost.
#[test]
fn damage_in_any_fragment_names_the_record() {
    let dir = folder();
    let config = large(dir.path());
    let engine = Engine::open(config.clone()).unwrap();
    let writer = engine.log("a").unwrap().writer().unwrap();
    for (n, len) in [(0, 500), (1, 300_000), (2, 500)] {
        writer.append(payload(n, len)).wait().unwrap();
    }
    engine.close().unwrap();
    let path = segments(&config.dir).remove(0);
    let good = fs::read(&path).unwrap();
    let nonce = SegmentHeader::decode(&good).unwrap().nonce;
    let mut parts = Vec::new();
    let mut at = 4096;
    while let Some(Ok((header, _))) = good.get(at..).map(|bytes| BatchHeader::decode(bytes, nonce))
    {
        if header.continues || header.part > 0 {
            assert_eq!(header.part as usize, parts.len());
            parts.push(at);
        }
        at += header.padded_bytes(4096);
    }
    assert_eq!(parts.len(), 5);
    let config = Config { read_only: true, ..config };
    for part in parts {
        // The header, the record's header, its body.
        for offset in [9, 290, 1000] {
            let mut bad = good.clone();
            bad[part + offset] ^= 4;
            fs::write(&path, &bad).unwrap();
            let engine = Engine::open(config.clone()).unwrap();
            let mut reader = engine.log("a").unwrap().reader(From::Start).unwrap();
            assert!(reader.next().wait().unwrap().unwrap().payload() == payload(0, 500));
            for _ in 0..2 {
                let Err(Error::Corrupt(damage)) = reader.next().wait() else {
                    panic!("damage at {part} + {offset} was not told")
                };
                assert_eq!(damage.first, Lsn(1), "{damage}");
                assert_eq!(damage.last, Some(Lsn(1)), "{damage}");
            }
            reader.seek(Lsn(2));
            assert!(reader.next().wait().unwrap().unwrap().payload() == payload(2, 500));
        }
    }
}
