//! Imports: a directory made of records, and its crash table enacted.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

mod common;
// What other tables need.
#[allow(dead_code)]
mod cuts;

use std::sync::Arc;

use common::folder;
use cuts::Tap;
use sapwood::format::manifest::{DirectoryFacts, LogFacts};
use sapwood::format::{Edit, Frame, RecordHeader, body_crc, write_record};
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Engine, Epoch, Error, From, Import, LogId, Lsn, Origin, ShardId};

const UNIT: u32 = 4096;

/// A fragment that fills a batch of 64 KiB to the last byte, as a shard makes them.
const PART_BYTES: usize = (64 << 10) - 272 - 48;

fn origin() -> Origin {
    let facts = DirectoryFacts {
        directory: 77,
        lineage: 88,
        shards: 2,
        unit: UNIT,
        segment_bytes: 320 << 10,
        record_bytes_max: 100 << 10,
        batch_bytes_max: 64 << 10,
        created_us: 5,
    };
    Origin { facts, term: 9, keep_lineage: false }
}

fn log(n: u64) -> LogId {
    LogId::new(ShardId((n % 2) as u16), n / 2)
}

/// The records of log `n`: each as its fragments, if it has some.
fn records(n: u64) -> Vec<(RecordHeader, Vec<u8>)> {
    let mut all = Vec::new();
    for lsn in (3..40u64).filter(|lsn| n != 1 || !(20..23).contains(lsn)) {
        let parts = if lsn % 13 == 0 { 3 } else { 1 };
        for part in 0..parts {
            let payload = vec![(n * 40 + lsn) as u8; if parts == 1 { 900 } else { PART_BYTES }];
            let flags = match (parts, part) {
                (1, _) => 0,
                (_, 0) => 1,
                (_, 1) => 2,
                _ => 3,
            };
            let header = RecordHeader {
                log: log(n),
                epoch: Epoch(if lsn < 17 { 2 } else { 4 }),
                lsn: Lsn(lsn),
                time_us: 1000 + lsn,
                flags,
                fragment_index: part,
                payload_bytes: payload.len() as u32,
                body_crc: body_crc(&[], &payload),
                ..RecordHeader::default()
            };
            let mut framed = vec![0; header.framed_bytes()];
            write_record(&header, &[], &payload, &mut framed);
            all.push((header, framed));
        }
    }
    all
}

/// Frames that tell of four logs; log 1 misses some records, log 3 has none.
fn frames() -> Vec<Frame> {
    let mut frames = vec![Frame::default(), Frame::default()];
    for n in 0..4u64 {
        let facts = LogFacts {
            id: log(n),
            name: format!("log-{n}").into(),
            start: Lsn(3),
            tail: Lsn(if n == 3 { 3 } else { 40 }),
            tail_epoch: Epoch(11),
            epochs: vec![(Epoch(2), Lsn(0)), (Epoch(4), Lsn(17)), (Epoch(11), Lsn(40))],
            ..LogFacts::default()
        };
        frames[(n % 2) as usize].edits.push(Edit::Log(facts));
    }
    let missing = Import::missing(log(1), Lsn(20), Lsn(22), true);
    frames[1].edits.push(Edit::Damage(missing));
    frames[0].edits.push(Edit::NextLog { counter: 100 });
    frames
}

fn import_into(mut import: Import) -> sapwood::Result<sapwood::ImportReport> {
    // By turns, as they were appended.
    let all: Vec<_> = (0..3).map(records).collect();
    for lsn in 0..40 {
        for (header, framed) in all.iter().flatten().filter(|(header, _)| header.lsn == Lsn(lsn)) {
            import.push(header, framed)?;
        }
    }
    import.finish(frames())
}

/// Reads a log: LSN, epoch, first byte and length of each record.
fn read(engine: &Engine, n: u64) -> Vec<(u64, u32, u8, usize)> {
    let log = engine.find(&format!("log-{n}")).unwrap().unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next().wait() {
            Ok(Some(record)) => {
                let (position, payload) = (record.position(), record.payload());
                found.push((position.lsn.0, position.epoch.0, payload[0], payload.len()));
                assert_eq!(record.timestamp_us(), 1000 + position.lsn.0);
            }
            Ok(None) => return found,
            Err(Error::Lost { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn check(engine: &Engine) {
    assert_eq!(engine.facts().directory, 77);
    assert_ne!(engine.facts().lineage, 88, "it goes on by itself");
    for n in 0..3 {
        let known = records(n);
        let whole = known.iter().filter(|(header, _)| !header.is_continued());
        let expected: Vec<_> = whole
            .map(|(header, _)| {
                let len = if header.continues() { 3 * PART_BYTES } else { 900 };
                (header.lsn.0, header.epoch.0, (n * 40 + header.lsn.0) as u8, len)
            })
            .collect();
        assert_eq!(read(engine, n), expected, "log {n}");
    }
    assert_eq!(read(engine, 3), []);
}

#[test]
fn an_import_opens_like_any_directory_and_goes_on() {
    let dir = folder();
    let config = Config::new(dir.path().join("wal"));
    let import = Import::begin(&config, origin()).unwrap();
    assert!(
        matches!(Import::begin(&config, origin()), Err(Error::Locked { .. })),
        "by two at once"
    );
    let report = import_into(import).unwrap();
    assert!(report.segments >= 4, "{report:?}");
    assert_eq!(report.damages.len(), 1, "what is missing is told: {report:?}");
    let engine = Engine::open(config.clone()).unwrap();
    check(&engine);
    assert!(engine.recovery().iter().all(|shard| shard.term >= 10), "a higher term");
    let log = engine.find("log-0").unwrap().unwrap();
    let ack = log.writer().unwrap().append("more").wait().unwrap();
    assert_eq!(ack.position, sapwood::Position { epoch: Epoch(12), lsn: Lsn(40) });
    // An id is never given twice.
    assert!(engine.log("new-0").unwrap().id().counter() >= 2);
    engine.close().unwrap();
    let error = Import::begin(&config, origin()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    // What a reader from a position beyond gets.
    let engine = Engine::open(config).unwrap();
    let log = engine.find("log-2").unwrap().unwrap();
    let writer = log.writer().unwrap();
    for _ in 0..8 {
        writer.append("more").wait().unwrap();
    }
    let beyond = sapwood::Position { epoch: Epoch(7), lsn: Lsn(44) };
    let error = match log.reader(From::At(beyond)) {
        Ok(mut reader) => reader.next().wait().map(|_| ()).unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
}

/// Each step of the table in FORMAT.md: what is left is refused as unfinished and imported into
/// again, or it is whole.
#[test]
fn import() {
    let tap = Tap::new(SimStorage::new(901, Faults::default()));
    tap.record(true);
    let config = Config { shards: 2, ..cuts::judge::config() };
    let open = |world: &SimStorage| {
        let (engine, drivers) = Engine::open_on(Arc::new(world.clone()), config.clone())?;
        let driving: Vec<_> = drivers.into_iter().map(|d| d.bind().unwrap()).collect();
        Ok::<_, Error>((engine, driving))
    };
    import_into(Import::begin_on(Arc::new(tap.storage()), origin()).unwrap()).unwrap();
    tap.demand(&[
        "create unfinished",
        "create segment",
        "write segment",
        "sync segment",
        "create index",
        "create manifest",
        "write manifest",
        "remove unfinished",
        "sync-dir",
    ]);
    let (mut whole, mut again) = (0, 0);
    for cut in tap.cuts() {
        match open(&cut.world) {
            Ok((engine, _driving)) if engine.find("log-0").unwrap().is_some() => {
                check(&engine);
                whole += 1;
                continue;
            }
            // Nothing was there yet.
            Ok(_) => continue,
            Err(Error::NotOurs(why)) => assert!(why.contains("unfinished"), "{why}: {}", cut.step),
            Err(error) => panic!("{}: {error}", cut.step),
        }
        import_into(Import::begin_on(Arc::new(cut.world.clone()), origin()).unwrap()).unwrap();
        check(&open(&cut.world).unwrap().0);
        again += 1;
    }
    assert!(whole > 0 && again > 20, "{whole} whole, {again} again");
}

#[test]
fn what_does_not_fit_is_refused() {
    let begin = || {
        let disk = SimStorage::new(902, Faults::default());
        Import::begin_on(Arc::new(disk), origin()).unwrap()
    };
    let all = records(0);
    let mut import = begin();
    import.push(&all[1].0, &all[1].1).unwrap();
    assert!(import.push(&all[0].0, &all[0].1).is_err(), "backwards");
    assert!(import.push(&all[1].0, &all[1].1).is_err(), "twice");
    let mut import = begin();
    let first = all.iter().position(|(header, _)| header.continues()).unwrap();
    assert!(import.push(&all[first + 1].0, &all[first + 1].1).is_err(), "a part without its begin");
    import.push(&all[first].0, &all[first].1).unwrap();
    assert!(import.finish(frames()).is_err(), "a part without its end");
    let mut import = begin();
    import.push(&all[0].0, &all[0].1).unwrap();
    assert!(import.finish(vec![Frame::default(); 2]).is_err(), "records of no log");
    assert!(begin().finish(vec![]).is_err(), "a shard without facts");
    // Bytes that were damaged on the way here are told, and no directory is made of them.
    let disk = SimStorage::new(903, Faults::default());
    let mut import = Import::begin_on(Arc::new(disk.clone()), origin()).unwrap();
    for (header, framed) in &all {
        let mut framed = framed.clone();
        framed[60] ^= u8::from(header.lsn == Lsn(9));
        import.push(header, &framed).unwrap();
    }
    assert!(import.finish(frames()).is_err());
    assert!(disk.list().unwrap().iter().any(|name| name == "unfinished"));
}
