//! Models of a whole engine: its threads, its shard's turns, its readers, on the simulated disk.
//!
//! Each says what may not happen. Not here: parts of it, which run a hundred times as often.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::rand::Rng;

use super::pump::one_in;
use super::threaded::Threaded;
use crate::components::Components;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::Error;
use crate::io::sim::{Faults, SimStorage};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::reader::From;
use crate::sync::thread;

fn open(disk: &SimStorage) -> Engine {
    let config = Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 64 << 10,
        record_bytes_max: 32 << 10,
        stage_bytes: 256 << 10,
        ..Config::new("simulated")
    };
    let storage = Some(Arc::new(Threaded(disk.clone())) as _);
    let components = Components { storage, ..Components::default() };
    Engine::open_with(config, components).expect("a directory").0
}

/// Reads on until the engine ends: every record once, in order; how many.
fn follow(log: &Log, as_task: bool) -> u64 {
    let mut reader = log.reader(From::Start).expect("a reader").follow();
    let mut next = 0;
    loop {
        let read = if as_task { block_on(reader.next()) } else { reader.next().wait() };
        match read {
            Ok(Some(record)) => {
                assert_eq!((record.lsn(), record.payload()), (Lsn(next), &[next as u8; 40][..]));
                next += 1;
            }
            Ok(None) | Err(Error::Closed | Error::Halted { .. }) => return next,
            Err(error) => panic!("a follower is told {error}"),
        }
    }
}

/// Appends, followers and a close at any moment: nothing acked is missed, everybody ends, and what
/// was acked is there when the directory is opened again.
pub(super) fn engine_closes() {
    let disk = SimStorage::new(shuttle::rand::thread_rng().r#gen(), Faults::default());
    let engine = open(&disk);
    let log = engine.log("log").expect("a log");
    let followers: Vec<_> = (0..2)
        .map(|at| {
            let log = log.clone();
            thread::spawn(move || follow(&log, at == 0))
        })
        .collect();
    let appender = {
        let log = log.clone();
        thread::spawn(move || {
            let Ok(writer) = log.writer() else { return 0 };
            let mut acked = 0;
            for at in 0..3_u64 {
                match writer.append(vec![at as u8; 40]).wait() {
                    Ok(ack) => acked = ack.position.lsn.0 + 1,
                    Err(rejected) => {
                        let ends = matches!(rejected.error, Error::Closed | Error::Unknown { .. });
                        assert!(ends, "{}", rejected.error);
                    }
                }
            }
            acked
        })
    };
    // Or the close comes into the middle of it.
    let waits = one_in(2);
    let mut acked = None;
    let mut appender = Some(appender);
    if waits {
        acked = appender.take().map(|appender| appender.join().expect("the appender"));
    }
    engine.close().expect("closed");
    let seen: Vec<_> = followers.into_iter().map(|f| f.join().expect("a follower")).collect();
    let late = appender.map(|appender| appender.join().expect("the appender"));
    let acked = acked.or(late).unwrap_or(0);
    assert!(seen.iter().all(|seen| *seen >= acked), "{seen:?} of {acked} acked");
    drop((log, engine));
    let engine = open(&disk.crash());
    let kept = engine.logs().first().map_or(0, |log| log.durable.0);
    assert!(kept >= acked, "{kept} kept of {acked} acked");
    engine.close().expect("closed");
}
