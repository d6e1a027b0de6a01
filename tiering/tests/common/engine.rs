//! Engines on real directories, small, and what is in them and in a store.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sapwood::archive::Archive;
use sapwood::{Components, Config, Engine, Log, LogId, LogOptions, Lsn};
use sapwood_tiering::layout;
use sapwood_tiering::object::verify;
use sapwood_tiering::store::ObjectStore;

/// A folder on the disk that the project is on (`/tmp` may be a tmpfs).
pub fn folder() -> tempfile::TempDir {
    tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub fn open(dir: &Path) -> Engine {
    open_with(dir, None)
}

/// Small segments, so that there are several soon.
pub fn open_with(dir: &Path, archive: Option<Arc<dyn Archive>>) -> Engine {
    let config = Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 400 << 10,
        stage_bytes: 1 << 20,
        ..Config::new(dir.join("wal"))
    };
    let (engine, _) =
        Engine::open_with(config, Components { archive, ..Components::default() }).unwrap();
    engine
}

pub fn payload(log: &str, n: u64) -> Vec<u8> {
    let mut payload = format!("{log} {n} ").into_bytes();
    payload.resize(200 + (n * 37 % 2500) as usize, b'a' + (n % 26) as u8);
    payload
}

pub fn append(log: &Log, name: &str, range: std::ops::Range<u64>) {
    let writer = log.writer().unwrap();
    let appends: Vec<_> = range.map(|n| writer.append(payload(name, n))).collect();
    appends.into_iter().for_each(|append| {
        append.wait().unwrap();
    });
}

/// Waits for so many sealed segments.
pub fn wait_for_seals(engine: &Engine, count: usize) {
    while engine.sealed_segments().len() < count {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// An engine with two logs in several sealed segments.
pub fn settled(dir: &Path) -> (Engine, [Log; 2]) {
    settled_with(dir, None)
}

pub const RECORDS: u64 = 1500;

pub fn settled_with(dir: &Path, archive: Option<Arc<dyn Archive>>) -> (Engine, [Log; 2]) {
    let engine = open_with(dir, archive);
    let options = LogOptions { group: Some("g".into()), ..LogOptions::default() };
    let logs = ["a", "b"].map(|name| engine.create(name, &options).unwrap());
    for part in 0..3 {
        let range = RECORDS / 3 * part..RECORDS / 3 * (part + 1);
        append(&logs[0], "a", range.clone());
        append(&logs[1], "b", range);
    }
    wait_for_seals(&engine, 4);
    (engine, logs)
}

/// The payloads that the objects of a store hold, by log and LSN; every object is verified, and
/// each has the name that it must have.
pub fn in_objects(store: &dyn ObjectStore) -> BTreeMap<LogId, BTreeMap<Lsn, Vec<u8>>> {
    let mut found: BTreeMap<LogId, BTreeMap<Lsn, Vec<u8>>> = BTreeMap::new();
    for listed in segments_in(store) {
        let bytes = store.get(&listed.key, 0..listed.bytes).unwrap();
        let verified = verify(&bytes, &mut |record, _| {
            let log = found.entry(record.header.log).or_default();
            log.entry(record.header.lsn).or_default().extend_from_slice(record.payload);
        });
        let header = verified.unwrap().footer.header;
        assert_eq!(layout::segment(&header, 0).unwrap(), listed.key);
    }
    found
}

/// The objects of segments in a store: beside them stand manifests and control objects.
pub fn segments_in(store: &dyn ObjectStore) -> Vec<sapwood_tiering::store::Listed> {
    let mut listed = store.list("", None, 10_000).unwrap();
    listed.retain(|listed| layout::parse(&listed.key).is_some());
    listed
}

/// Their names, without a request.
pub fn segment_keys(store: &sapwood_tiering::store::SimStore) -> Vec<sapwood_tiering::store::Key> {
    let mut keys = store.keys();
    keys.retain(|key| layout::parse(key).is_some());
    keys
}
