//! The engine from outside: append, read back, close, reopen, crash, reopen.

#![allow(clippy::unwrap_used)]

use sapwood::{Backend, Batch, Config, Engine, From};

fn config(dir: &std::path::Path) -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 256 << 10,
        record_bytes_max: 128 << 10,
        stage_bytes: 4 << 20,
        ..Config::new(dir)
    }
}

fn payload(n: u64) -> Vec<u8> {
    let len = (n * 7919 % 3000) as usize;
    (0..len).map(|i| (n as usize + i) as u8).collect()
}

fn check(engine: &Engine, log: &str, count: u64) {
    let log = engine.log(log).unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    let mut n = 0;
    while let Some(record) = reader.next().wait().unwrap() {
        assert_eq!(record.lsn().0, n);
        assert_eq!(record.payload(), payload(n));
        n += 1;
    }
    assert_eq!(n, count);
}

fn life(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("wal");
    let config = Config { backend, ..config(&dir) };
    let mut count = 0;
    for round in 0..4u64 {
        let engine = Engine::open(config.clone()).unwrap();
        for name in ["a", "b"] {
            check(&engine, name, count);
            let writer = engine.log(name).unwrap().writer().unwrap();
            assert_eq!(writer.first().lsn.0, count);
            let mut tickets = Vec::new();
            let mut batch = Batch::new();
            for n in count..count + 1500 {
                if n % 3 == 0 {
                    batch.clear();
                    batch.push(&payload(n));
                    tickets.push(writer.append(batch.clone()));
                } else {
                    tickets.push(writer.append(batch.clone_with(&payload(n))));
                }
            }
            for ticket in tickets {
                ticket.wait().unwrap();
            }
            check(&engine, name, count + 1500);
        }
        count += 1500;
        if round % 2 == 0 {
            engine.close().unwrap();
        }
        // Else dropped: drains without waiting; the next open waits for the lock.
    }
    let engine = Engine::open(config).unwrap();
    check(&engine, "a", count);
    check(&engine, "b", count);
    engine.close().unwrap();
}

trait CloneWith {
    fn clone_with(&self, payload: &[u8]) -> Batch;
}
impl CloneWith for Batch {
    fn clone_with(&self, payload: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.push(payload);
        batch
    }
}

#[test]
fn a_life_on_io_uring() {
    life(Backend::Auto);
}

#[test]
fn a_life_on_pread_and_pwrite() {
    life(Backend::Blocking);
}
