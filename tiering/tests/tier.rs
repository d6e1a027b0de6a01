//! The tier at work over a real directory: everything sealed gets to the store, once and whole,
//! whatever the store does and whenever the tier dies; what is damaged is told and stays.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/engine.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{RECORDS, append, folder, in_objects, open, payload, settled};
use sapwood::{Engine, Error, From, Log, Lsn, SealedSegment};
use sapwood_tiering::layout;
use sapwood_tiering::object::{Codec, Packing};
use sapwood_tiering::store::{DirStore, Fault, Key, ObjectStore, SimStore, StoreError};
use sapwood_tiering::upload::{NotUploaded, Proven, upload};
use sapwood_tiering::{Settings, Tier};

const LONG: Duration = Duration::from_secs(120);

fn settings() -> Settings {
    Settings {
        bytes_per_second: None,
        look_every: Duration::from_millis(20),
        ..Settings::default()
    }
}

fn start(engine: &Engine, store: &Arc<impl ObjectStore + 'static>) -> Tier {
    Tier::start(engine.clone(), Arc::clone(store) as Arc<dyn ObjectStore>, settings()).unwrap()
}

fn once(engine: &Engine, store: &SimStore, sealed: &SealedSegment) -> Result<Proven, NotUploaded> {
    upload(engine, store, sealed, Packing::default(), &mut |_| ())
}

fn all_tiered(engine: &Engine) -> bool {
    engine.sealed_segments().iter().all(|sealed| sealed.tiered)
}

/// The story: `drain` waits for what was sealed when it was called, and a test that asked for all
/// to be tiered behind it failed when one more segment was sealed meanwhile.
fn drained(engine: &Engine, tier: &Tier) {
    loop {
        assert!(tier.drain(engine, LONG));
        if all_tiered(engine) && tier.status().segments_behind == 0 {
            return;
        }
    }
}

/// Every sealed record of both logs is in an object, and nothing else.
fn assert_complete(store: &dyn ObjectStore, logs: &[Log; 2]) {
    let found = in_objects(store);
    for (log, name) in logs.iter().zip(["a", "b"]) {
        let own = &found[&log.id()];
        assert!(own.len() as u64 > RECORDS / 2, "{} records of {name}", own.len());
        for (n, (lsn, bytes)) in own.iter().enumerate() {
            assert_eq!(lsn.0, n as u64, "{name}: a gap");
            assert!(*bytes == payload(name, lsn.0), "{name} {lsn}");
        }
    }
}

#[test]
fn what_is_sealed_is_uploaded_and_marked() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(DirStore::open(dir.path().join("tier")).unwrap());
    let tier = start(&engine, &store);
    drained(&engine, &tier);
    assert_complete(&*store, &logs);
    let status = tier.status();
    assert_eq!((status.segments_behind, status.failures, status.found), (0, 0, 0));
    assert_eq!(status.uploaded as usize, common::segments_in(&*store).len());
    // It goes on with what is sealed later, and with a record in fragments.
    let writer = logs[0].writer().unwrap();
    let large = vec![b'x'; 390 << 10];
    writer.append(large.clone()).wait().unwrap();
    append(&logs[1], "b", RECORDS..RECORDS + 900);
    common::wait_for_seals(&engine, status.uploaded as usize + 1);
    assert!(tier.drain(&engine, LONG));
    let found = in_objects(&*store);
    assert!(found[&logs[0].id()][&Lsn(RECORDS)] == large);
}

/// The story: a segment of which little was kept moved into a smaller file before the tier came to
/// it. Its batches have the sequences of the last records that they hold, so they are not dense,
/// and the tier took each gap for damage: nothing of that shard would ever have left the disk.
#[test]
fn what_was_relocated_is_uploaded_as_it_is_now() {
    let dir = folder();
    let engine = open(dir.path());
    let logs = ["a", "b"].map(|name| engine.log(name).unwrap());
    for part in 0..6 {
        append(&logs[0], "a", part * 400..(part + 1) * 400);
        append(&logs[1], "b", part * 3..(part + 1) * 3);
    }
    common::wait_for_seals(&engine, 3);
    logs[0].truncate(Lsn(2_390)).unwrap();
    let moved = engine.gc().unwrap().relocated_segments;
    assert!(moved >= 2, "{moved} segments moved");
    let store = Arc::new(SimStore::new(3, 0));
    let tier = start(&engine, &store);
    drained(&engine, &tier);
    assert!(tier.status().damaged.is_empty());
    let found = in_objects(&*store);
    let sealed = found[&logs[1].id()].iter();
    assert!(sealed.len() > 10, "{} records of b", sealed.len());
    sealed.for_each(|(lsn, bytes)| assert!(*bytes == payload("b", lsn.0), "b {lsn}"));
}

/// Of a hundred calls thirty fail, in every way a store can: nothing is lost, nothing is there
/// twice, nothing is there in part.
#[test]
fn a_store_that_fails_all_the_time_gets_everything_once() {
    for seed in 0..6 {
        let dir = folder();
        let (engine, logs) = settled(dir.path());
        let store = Arc::new(SimStore::new(seed, 300));
        let tier = start(&engine, &store);
        assert!(tier.drain(&engine, LONG), "seed {seed}: {:?}", tier.status());
        assert!(all_tiered(&engine));
        drop(tier);
        store.set_per_mille(0);
        assert_complete(&*store, &logs);
        assert_eq!(
            common::segment_keys(&store).len(),
            engine.sealed_segments().len(),
            "seed {seed}: twice"
        );
    }
}

#[test]
fn a_store_that_is_down_keeps_no_append_waiting() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    store.set_down(true);
    let tier = start(&engine, &store);
    while tier.status().failures < 3 {
        tier.hurry();
        std::thread::sleep(Duration::from_millis(2));
    }
    append(&logs[0], "a", RECORDS..RECORDS + 300);
    let status = tier.status();
    assert!(status.last_failure.unwrap().contains("503"), "what the store says is told");
    assert!(status.segments_behind >= 4 && status.bytes_behind > 3 << 20);
    assert!(status.behind_for > Duration::ZERO && common::segment_keys(&store).is_empty());
    assert!(engine.sealed_segments().iter().all(|sealed| !sealed.tiered));
    store.set_down(false);
    drained(&engine, &tier);
    let status = tier.status();
    assert_eq!((status.failures, status.last_failure, status.bytes_behind), (0, None, 0));
    assert_complete(&*store, &logs);
}

/// First the object is put; then the tier dies, before the mark; the next one makes the same name,
/// finds it, compares, and marks.
#[test]
fn a_mark_that_was_lost_finds_its_object() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    let sealed = engine.sealed_segments();
    for sealed in &sealed[..2] {
        assert!(!once(&engine, &store, sealed).unwrap().found);
    }
    let before = common::segment_keys(&store);
    engine.close().unwrap();
    drop((engine, logs));
    let engine = open(dir.path());
    let tier = start(&engine, &store);
    assert!(tier.drain(&engine, LONG));
    assert_eq!(tier.status().found, 2);
    assert!(
        all_tiered(&engine) && before.iter().all(|key| common::segment_keys(&store).contains(key))
    );
    assert_eq!(common::segment_keys(&store).len(), engine.sealed_segments().len());
    assert_complete(&*store, &["a", "b"].map(|name| engine.log(name).unwrap()));
}

#[test]
fn a_lost_reply_is_unknown_and_then_found() {
    let dir = folder();
    let (engine, _logs) = settled(dir.path());
    let store = SimStore::default();
    let sealed = &engine.sealed_segments()[0];
    store.fail(&[Fault::LostReply]);
    let told = once(&engine, &store, sealed).unwrap_err();
    assert!(matches!(told, NotUploaded::Store(StoreError::Unknown(_))), "{told}");
    assert!(once(&engine, &store, sealed).unwrap().found);
    // It rots at the store between the put and the proof: not proven.
    let sealed = &engine.sealed_segments()[1];
    store.fail(&[Fault::DamagedOnTheWay]);
    let told = once(&engine, &store, sealed).unwrap_err();
    assert!(matches!(told, NotUploaded::Store(StoreError::Damaged(_))), "{told}");
    assert!(!once(&engine, &store, sealed).unwrap().found);
}

/// What stands under the name of an object is not believed: it is read, all of it.
#[test]
fn what_stands_under_the_own_name_is_looked_at() {
    let dir = folder();
    let (engine, _logs) = settled(dir.path());
    let sealed = &engine.sealed_segments()[0];
    let (other, store) = (SimStore::default(), SimStore::default());
    let key = once(&engine, &other, sealed).unwrap().key;
    let put = |key: &Key, bytes: &[u8]| store.put_new(key, bytes, crc32c::crc32c(bytes)).unwrap();
    // Something else, and the right one with a rotten bit.
    put(&key, b"not an object");
    let header = sapwood_tiering::object::ObjectHeader::decode(&other.peek(&key).unwrap());
    let second = layout::segment(&header.unwrap().0, 1).unwrap();
    put(&second, &other.peek(&key).unwrap());
    store.rot(&second, 5000);
    let proven = once(&engine, &store, sealed).unwrap();
    assert_eq!((proven.key.as_str(), proven.found), (&*format!("{key}.2"), false));
    // The same records, packed otherwise: good.
    let packing = Packing { codec: Codec::Plain, block_bytes: 64 << 10 };
    let found = upload(&engine, &other, sealed, packing, &mut |_| ()).unwrap();
    assert_eq!((found.key, found.found), (key, true));
}

fn flip(dir: &Path, sealed: &SealedSegment, needle: &[u8]) {
    use std::os::unix::fs::FileExt;
    let path = dir.join("wal").join(&sealed.file);
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"X", (at + 1) as u64).unwrap();
    file.sync_all().unwrap();
}

/// A damaged record keeps its segment local, is told, and nothing else waits for it. Once it is
/// given up, by name, its segment is tiered.
#[test]
fn what_is_damaged_is_uploaded_around_and_stays() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let sealed = engine.sealed_segments()[1].clone();
    // A record in the middle of the second segment.
    let store = Arc::new(SimStore::default());
    let whole = SimStore::default();
    let key = once(&engine, &whole, &sealed).unwrap().key;
    let mut lsn = Lsn(0);
    sapwood_tiering::object::verify(&whole.peek(&key).unwrap(), &mut |record, _| {
        if record.header.log == logs[0].id() {
            lsn = record.header.lsn;
        }
    })
    .unwrap();
    flip(dir.path(), &sealed, format!("a {lsn} ").as_bytes());
    let settings = Settings { damaged_again_after: Duration::ZERO, ..settings() };
    let shared = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let tier = Tier::start(engine.clone(), shared, settings).unwrap();
    assert!(tier.drain(&engine, LONG));
    let open: Vec<_> = engine.sealed_segments().into_iter().filter(|one| !one.tiered).collect();
    assert_eq!(open.iter().map(|one| one.segment).collect::<Vec<_>>(), [sealed.segment]);
    let damaged = tier.status().damaged;
    assert_eq!(damaged.len(), 1);
    assert_eq!((damaged[0].shard, damaged[0].segment), (sealed.shard, sealed.segment));
    let told = &damaged[0].damages[0];
    assert_eq!((told.log, told.first_lsn, told.last_lsn), (Some(logs[0].id()), lsn, Some(lsn)));
    let found = in_objects(&*store);
    assert!(!found[&logs[0].id()].contains_key(&lsn), "a damaged record was uploaded");
    assert!(found[&logs[0].id()].contains_key(&lsn.next()));
    // Somebody goes on without it.
    let mut reader = logs[0].reader(From::Lsn(lsn)).unwrap();
    let Err(Error::Corrupt(damage)) = reader.next().wait() else { panic!("not told") };
    logs[0].salvage(&damage).unwrap();
    while !all_tiered(&engine) || !tier.status().damaged.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A segment that left while it was read is no failure.
#[test]
fn a_segment_that_is_gone_is_no_failure() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let sealed = engine.sealed_segments();
    for log in &logs {
        log.truncate(Lsn(RECORDS)).unwrap();
    }
    engine.gc().unwrap();
    let left = engine.sealed_segments();
    let gone: Vec<_> = sealed.iter().filter(|one| !left.contains(one)).collect();
    assert!(!gone.is_empty());
    let store = SimStore::default();
    for one in gone {
        let told = once(&engine, &store, one);
        assert!(matches!(told, Err(NotUploaded::Gone)), "{told:?}");
    }
    assert!(common::segment_keys(&store).is_empty());
}

#[test]
fn it_pauses_and_goes_on() {
    let dir = folder();
    let (engine, _logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    store.set_down(true);
    let tier = start(&engine, &store);
    tier.pause();
    store.set_down(false);
    std::thread::sleep(Duration::from_millis(50)); // what was under way when it was paused ends
    let before = common::segment_keys(&store).len();
    assert!(!tier.drain(&engine, Duration::from_millis(200)) && tier.status().paused);
    assert_eq!(common::segment_keys(&store).len(), before);
    tier.resume();
    assert!(tier.drain(&engine, LONG) && all_tiered(&engine));
}

/// With a budget of 4 MiB a second, 4 MiB read and some sent take a second at least.
#[test]
fn a_budget_is_kept() {
    let dir = folder();
    let (engine, _logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    let bytes: u64 = engine.sealed_segments().iter().map(|one| one.bytes).sum();
    let began = std::time::Instant::now();
    let settings = Settings { bytes_per_second: Some(4 << 20), ..settings() };
    let shared = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let tier = Tier::start(engine.clone(), shared, settings).unwrap();
    assert!(tier.drain(&engine, LONG));
    let took = began.elapsed().as_secs_f64();
    assert!(took > bytes as f64 / f64::from(4 << 20) - 0.3, "{bytes} bytes took {took} s");
}
