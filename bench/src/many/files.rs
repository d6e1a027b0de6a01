//! Open files of an engine whose logs are all appended to and read at once.
//!
//! Invariants: every log has a writer that appends and a reader that is kept, has read its log from
//! the start and goes on as it grows; the count is the most that a look in between has seen.
//!
//! Not here: rates and memory (the module above).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use sapwood::{Config, Engine, From, Reader, Writer};

use super::{OUTSTANDING, name, open_files};

/// Threads that append, and threads that read: each has its part of the logs.
const THREADS: usize = 2;
/// Appends that each log has before anybody reads: most of them are in no memory any more then.
const AHEAD: usize = 3;
/// From then on each thread appends so many, and waits a little: readers are to come round.
const BURST: usize = 16;
const REST: Duration = Duration::from_millis(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Beyond the files that readers share, and one for each read under way: the shard's own.
const OWN_MAX: usize = 16;

/// What was seen.
pub(super) struct Seen {
    pub(super) logs: usize,
    /// Files open in the process before the first append, and the most while all went on.
    pub(super) before: usize,
    pub(super) most: usize,
    /// What the settings allow.
    pub(super) bound: usize,
    pub(super) looks: u64,
    pub(super) appends: u64,
    pub(super) records: u64,
    pub(super) seconds: f64,
    /// What one more writer waited for each of its appends, one outstanding: the middle, one in a
    /// thousand, the longest.
    pub(super) waits_ms: [f64; 3],
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// Threads whose logs all have records that nobody waits for any more.
    ahead: AtomicUsize,
    over: AtomicBool,
    appends: AtomicU64,
    records: AtomicU64,
}

impl Shared {
    /// Whether reading has begun.
    fn reads(&self) -> bool {
        self.ahead.load(Ordering::SeqCst) == THREADS
    }
}

/// Appends to all of them and reads all of them, at once, until each reader came round again.
pub(super) fn watch(engine: &Engine, writers: &[Writer], record: usize) -> Result<Seen> {
    let (logs, before) = (writers.len(), open_files()?);
    let (shared, since) = (&Shared::default(), Instant::now());
    let payload = &vec![7u8; record];
    let part = logs.div_ceil(THREADS);
    let ((most, looks), waits_ms) = thread::scope(|scope| -> Result<_> {
        let mut appending = Vec::new();
        for mine in writers.chunks(part) {
            appending.push(scope.spawn(move || append(mine, payload, shared)));
        }
        let watching = scope.spawn(move || look(shared));
        let probing = scope.spawn(move || probe(&writers[0], payload, shared));
        // One that fails ends the others.
        let mut reading = Vec::new();
        for first in (0..logs).step_by(part) {
            let mine = first..(first + part).min(logs);
            reading.push(scope.spawn(move || read(engine, mine, shared)));
        }
        let read: Vec<_> = reading.into_iter().map(|thread| thread.join()).collect();
        shared.over.store(true, Ordering::SeqCst);
        let appended: Vec<_> = appending.into_iter().map(|thread| thread.join()).collect();
        let (seen, waits) = (watching.join(), probing.join());
        for ended in appended.into_iter().chain(read) {
            ended.map_err(|_| anyhow!("a thread panicked"))??;
        }
        let waits = waits.map_err(|_| anyhow!("the thread that waits panicked"))??;
        Ok((seen.map_err(|_| anyhow!("the thread that looks panicked"))??, waits))
    })?;
    // Each reading thread has a read under way.
    let bound = before + Config::new(".").read_files_max as usize + THREADS + OWN_MAX;
    Ok(Seen {
        logs,
        before,
        most,
        bound,
        looks,
        appends: shared.appends.load(Ordering::Relaxed),
        records: shared.records.load(Ordering::Relaxed),
        seconds: since.elapsed().as_secs_f64(),
        waits_ms,
    })
}

/// Appends to these logs in turns until it is over.
fn append(writers: &[Writer], payload: &[u8], shared: &Shared) -> Result<()> {
    let mut open = VecDeque::with_capacity(OUTSTANDING);
    let result = (|| {
        for round in 0.. {
            for writer in writers {
                if shared.over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if open.len() == OUTSTANDING {
                    ended(open.pop_front())?;
                }
                open.push_back(writer.append(payload.to_vec()));
                let count = shared.appends.fetch_add(1, Ordering::Relaxed);
                if round >= AHEAD && count.is_multiple_of(BURST as u64) {
                    thread::sleep(REST);
                }
            }
            if round + 1 == AHEAD {
                open.drain(..).try_for_each(|append| ended(Some(append)))?;
                shared.ahead.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    })();
    if result.is_err() {
        shared.over.store(true, Ordering::SeqCst);
    }
    result.and_then(|()| open.into_iter().try_for_each(|append| ended(Some(append))))
}

fn ended(append: Option<sapwood::Append<Vec<u8>>>) -> Result<()> {
    if let Some(append) = append {
        append.wait().map_err(|rejected| rejected.error)?;
    }
    Ok(())
}

/// Opens a reader of each of these logs, keeps all of them, and goes round once more.
fn read(engine: &Engine, logs: std::ops::Range<usize>, shared: &Shared) -> Result<()> {
    while !shared.reads() {
        if shared.over.load(Ordering::SeqCst) {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
    let mut readers = Vec::with_capacity(logs.len());
    for n in logs {
        let log = engine.find(&name(n))?.context("a log is missing")?;
        let mut reader = log.reader(From::Start)?;
        take(&mut reader, AHEAD, shared).with_context(|| format!("read log {n}"))?;
        readers.push(reader);
    }
    for reader in &mut readers {
        take(reader, 1, shared)?;
    }
    Ok(())
}

/// Reads so many records, which the log has or will have.
fn take(reader: &mut Reader, count: usize, shared: &Shared) -> Result<()> {
    for _ in 0..count {
        while reader.next().wait()?.is_none() {
            ensure!(!shared.over.load(Ordering::SeqCst), "appending has ended");
            thread::sleep(REST);
        }
        shared.records.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Appends one record after the other until it is over; how long each took.
fn probe(writer: &Writer, payload: &[u8], shared: &Shared) -> Result<[f64; 3]> {
    let mut took = vec![Duration::ZERO];
    while !shared.over.load(Ordering::Relaxed) {
        let since = Instant::now();
        ended(Some(writer.append(payload.to_vec())))?;
        took.push(since.elapsed());
    }
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    Ok([at(0.5), at(0.999), at(1.0)])
}

/// The most files that were open, and how often that was looked at.
fn look(shared: &Shared) -> Result<(usize, u64)> {
    let (mut most, mut looks) = (0, 0);
    while !shared.over.load(Ordering::Relaxed) {
        if shared.reads() {
            (most, looks) = (most.max(open_files()?), looks + 1);
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok((most, looks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::many::{make, open_writers};

    #[test]
    fn all_logs_are_appended_to_and_read_and_files_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 200).unwrap();
        let engine = Engine::open(Config::new(dir.path())).unwrap();
        let writers = open_writers(&engine, 200).unwrap();
        let seen = watch(&engine, &writers, 64).unwrap();
        assert!(seen.appends >= 200 * AHEAD as u64 && seen.records >= 200 * (AHEAD as u64 + 1));
        assert!(seen.most <= seen.bound, "{} of {}", seen.most, seen.bound);
        engine.close().unwrap();
    }
}
