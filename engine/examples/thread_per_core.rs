//! A program that is thread-per-core itself: each of its threads drives a shard of its own, between
//! everything else that it does. No hand-off between threads, no thread of the engine's.
//!
//! `cargo run --release --example thread_per_core -- DIR`

#![allow(clippy::disallowed_methods)] // an application has threads of its own

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use sapwood::{Config, Driver, Engine, From, Log};

/// Shards, each with its thread.
const CORES: u16 = 2;

/// Records that each thread appends.
const RECORDS: u64 = 2000;

/// Clients of one thread: each waits for its ack before it asks again.
const CLIENTS: usize = 64;

/// How long a turn may park when there is nothing to do. A program with a poll loop of its own
/// gives `Duration::ZERO` and polls on.
const PARK: Duration = Duration::from_millis(1);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give a directory")?;
    let config = Config { shards: CORES, segment_bytes: 8 << 20, ..Config::new(&dir) };
    let (engine, drivers) = Engine::open_driven(config)?;
    let (finished, wait_finished) = channel();
    let mut give = Vec::new();
    let mut threads = Vec::new();
    for driver in drivers {
        let (to, from) = channel();
        let finished = finished.clone();
        give.push(to);
        threads.push(thread::spawn(move || {
            let result = core(driver, &from, &finished);
            let _ = finished.send(()); // a core that failed has finished, too
            result
        }));
    }

    // The engine spreads logs over its shards and remembers where each lives: a log is given to
    // the thread that drives its shard. This blocks until that thread has turned.
    let names: Vec<String> = (0..give.len()).map(|core| format!("requests-{core}")).collect();
    for name in &names {
        let log = engine.log(name)?;
        let shard = log.info()?.shard;
        give[usize::from(shard.0)].send(log)?;
    }
    drop(give);

    // Every core tells when its clients are done; then the engine closes, and the cores with it.
    for _ in 0..CORES {
        wait_finished.recv()?;
    }
    engine.close()?;
    for thread in threads {
        thread.join().map_err(|_| "a core panicked")??;
    }

    let mut records = 0;
    let engine = Engine::open(Config { read_only: true, ..Config::new(&dir) })?;
    for name in &names {
        let mut reader = engine.log(name)?.reader(From::Start)?;
        while reader.next().wait()?.is_some() {
            records += 1;
        }
    }
    println!("{CORES} cores appended {records} records");
    Ok(())
}

/// One core: its shard, its logs, its clients, in one loop.
fn core(driver: Driver, logs: &Receiver<Log>, finished: &Sender<()>) -> Result<(), Failure> {
    // From here on the shard belongs to this thread.
    let mut driving = driver.bind()?;
    let log = loop {
        match logs.try_recv() {
            Ok(log) => break log,
            Err(TryRecvError::Empty) => drop(driving.turn(PARK)),
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    };
    // Waiting on the driving thread drives: `writer` returns although nobody else turns the shard.
    let writer = log.writer()?;
    let mut waiting = VecDeque::with_capacity(CLIENTS);
    let (mut sent, mut acked) = (0, 0);
    while acked < RECORDS {
        // 1. What clients ask for, as long as there is room.
        while sent < RECORDS && waiting.len() < CLIENTS {
            match writer.submit(format!("request {sent}").into_bytes()) {
                Ok(ticket) => waiting.push_back(ticket),
                Err(rejected) if matches!(rejected.error, sapwood::Error::Busy) => break,
                Err(rejected) => return Err(rejected.error.into()),
            }
            sent += 1;
        }
        // 2. One turn: what was staged goes to the device, what became durable is acked.
        driving.turn(PARK);
        // 3. Answers, in order.
        while waiting.front().is_some_and(|ticket| ticket.is_done()) {
            if let Some(ticket) = waiting.pop_front() {
                ticket.wait()?;
                acked += 1;
            }
        }
        // 4. Whatever else this core does.
    }
    finished.send(())?;
    // Until the engine was closed and this shard has drained.
    while driving.turn(PARK) {}
    Ok(())
}
