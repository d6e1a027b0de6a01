//! The process that is killed: opens, says what it found, then does everything at once.
//!
//! Invariants: each log belongs to one worker, so what is announced for it is staged in that order;
//! nothing is done before it was announced, nothing is said to be acked before it was.
//!
//! Not here: comparing (`model`), a worker's deeds (`worker`), followers (`follower`).

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use sapwood::{Config, Engine, From, Log, Recovery};

use super::SoakArgs;
use super::event::Event;
use super::follower;
use super::payload;
use super::worker::{Owned, Worker};

/// Workers; logs are dealt to them in turns.
pub(crate) const WORKERS: usize = 4;
/// Shards of the directory.
pub(crate) const SHARDS: u16 = 2;
/// Segments are small, so that there are many of them: most of what can leak is theirs.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;

/// A log's name, and its number again.
pub(crate) fn name(log: u32) -> String {
    format!("soak/{log:05}")
}

fn number(name: &str) -> Result<u32> {
    let digits = name.strip_prefix("soak/").context("a log of somebody else")?;
    Ok(digits.parse()?)
}

fn config(dir: &Path) -> Config {
    Config {
        shards: SHARDS,
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: 512 << 10,
        stage_bytes: 16 << 20,
        // Killed is not cut off from power: whatever is damaged is a bug.
        recovery: Recovery::Strict,
        ..Config::new(dir)
    }
}

/// One life, from a survey to the end of its input (or of the process).
pub(crate) fn live(args: &SoakArgs, life: u64) -> Result<()> {
    let engine = Engine::open(config(&args.dir)).context("open")?;
    let owned = survey(&engine, args.logs)?;
    Event::Ready.say()?;
    let stop = Arc::new(AtomicBool::new(false));
    listen_for_the_end(Arc::clone(&stop));
    for log in 0..args.followers.min(args.logs) {
        let engine = engine.clone();
        thread::spawn(move || follower::follow(&engine, log));
    }
    let mut parts: Vec<Vec<Owned>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for (at, owned) in owned.into_iter().enumerate() {
        parts[at % WORKERS].push(owned);
    }
    thread::scope(|scope| {
        let workers: Vec<_> = (0..)
            .zip(parts)
            .map(|(at, owned)| {
                let worker = Worker::new(&engine, args, life * WORKERS as u64 + at, owned);
                let stop = &*stop;
                scope.spawn(move || worker.run(stop))
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(())
    })?;
    engine.close().context("close")
}

/// Whoever started this holds the other end: closed, this life ends in order.
fn listen_for_the_end(stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
}

/// Says what is there, record by record; gives every log, those too that do not exist.
fn survey(engine: &Engine, logs: u32) -> Result<Vec<Owned>> {
    Event::Survey.say()?;
    let mut owned: Vec<_> = (0..logs).map(Owned::absent).collect();
    for info in engine.logs() {
        let log = number(&info.name)?;
        let (start, next) = (info.start.0, info.durable.0);
        Event::Found { log, start, next }.say()?;
        let handle = engine.find(&info.name)?.context("a log is listed and not found")?;
        read_through(log, &handle)?;
        let place = owned.get_mut(log as usize).context("more logs than there were")?;
        *place = Owned::there(log, handle, start, next);
    }
    Ok(owned)
}

fn read_through(log: u32, handle: &Log) -> Result<()> {
    let mut reader = handle.reader(From::Start)?;
    // First LSN and first sequence number of a run, and its length.
    let mut run: Option<(u64, u64, u64)> = None;
    let mut epoch_before = None;
    let say = |(lsn, seq, count)| Event::Run { log, lsn, seq, count }.say();
    while let Some(record) = reader.next().wait().with_context(|| format!("read log {log}"))? {
        let lsn = record.lsn().0;
        let seq = payload::check(log, record.payload());
        let seq = seq.with_context(|| format!("log {log}: what is at {lsn} was never appended"))?;
        ensure!(Some(record.epoch()) >= epoch_before, "log {log}: at {lsn} the epoch goes back");
        epoch_before = Some(record.epoch());
        match &mut run {
            Some((first, seqs, count)) if lsn == *first + *count && seq == *seqs + *count => {
                *count += 1;
            }
            _ => {
                run.replace((lsn, seq, 1)).map_or(Ok(()), say)?;
            }
        }
    }
    Ok(run.map_or(Ok(()), say)?)
}
