//! What the tests on real directories share.

#![allow(dead_code, unreachable_pub)]

use std::path::Path;

use sapwood::{Config, From, Log};

/// A folder on the disk that the project is on (`/tmp` may be a tmpfs).
pub fn folder() -> tempfile::TempDir {
    tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Small segments and little memory, so that tests meet their limits.
pub fn config(dir: &Path) -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 64 << 10,
        stage_bytes: 1 << 20,
        ..Config::new(dir.join("wal"))
    }
}

/// All payloads of a log.
pub fn payloads(log: &Log) -> Vec<Vec<u8>> {
    let mut reader = log.reader(From::Start).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        found.push(record.payload().to_vec());
    }
    found
}
