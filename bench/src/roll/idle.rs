//! What an engine costs that has nothing to do: processor time, and writes after its mark.
//!
//! Invariants: nothing else runs in the process meanwhile; the look begins when the last append has
//! its mark, the spare is filled and nothing is at the disk.
//!
//! Not here: what it may cost (`claims`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use sapwood::{Config, Engine, From, LogOptions, LogSettings, ShardMetrics, Writer};
use serde::Serialize;

use crate::meter::Meter;

/// Logs with writers, followers of the first of them, of the engine that has any.
const LOGS: usize = 100;
const FOLLOWERS: usize = 8;
/// Retention of its logs, which has to be looked at though nobody does anything.
const RETENTION_SECS: u64 = 3600;
/// So long nothing may happen before the look begins, and so long it may take to come to that.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// An idle engine, looked at for some seconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Idle {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    /// Processor time of the process, per cent of a core.
    pub(super) cpu_percent: f64,
    /// Context switches a second.
    pub(super) switches_per_second: f64,
    /// Durable writes that the engine counted: batches, marks, fills, seals.
    pub(super) engine_writes: u64,
    /// Bytes that the kernel charged to the process for writes, where it tells.
    pub(super) written_bytes: Option<u64>,
}

impl Idle {
    pub(super) fn line(&self) -> String {
        let bytes = self.written_bytes.map_or("unknown".to_owned(), |bytes| bytes.to_string());
        format!(
            "idle, {}: {:.1} s, {:.3} % of a core, {:.1} switches a second, {} writes counted by \
             the engine, {bytes} bytes by the kernel",
            self.name, self.seconds, self.cpu_percent, self.switches_per_second, self.engine_writes,
        )
    }
}

/// An engine with the default settings and one log, then one with logs, writers and followers.
pub(super) fn measure(dir: &Path, window: Duration) -> Result<Vec<Idle>> {
    let alone = look("one log", &dir.join("idle"), 1, 0, window)?;
    let name = "100 logs with writers and retention, 8 followers";
    Ok(vec![alone, look(name, &dir.join("idle-logs"), LOGS, FOLLOWERS, window)?])
}

fn look(
    name: &'static str,
    dir: &Path,
    logs: usize,
    followers: usize,
    window: Duration,
) -> Result<Idle> {
    eprintln!("idle: {name}");
    let engine = Engine::open(Config::new(dir))?;
    let retention_secs = (followers > 0).then_some(RETENTION_SECS);
    let settings = LogSettings { retention_secs, ..LogSettings::default() };
    let options = LogOptions { settings, ..LogOptions::default() };
    let mut writers: Vec<Writer> = Vec::new();
    for n in 0..logs {
        let writer = engine.create(&format!("log-{n}"), &options)?.writer()?;
        writer.append(b"something").wait().map_err(|rejected| rejected.error)?;
        writers.push(writer);
    }
    let idle = thread::scope(|scope| {
        let following: Vec<_> = (0..followers)
            .map(|n| {
                let log = engine.log(&format!("log-{}", n % logs))?;
                let mut reader = log.reader(From::Tail)?.follow();
                Ok(scope.spawn(move || reader.next().wait().map(|record| record.is_some())))
            })
            .collect::<Result<_>>()?;
        let idle = quiet(&engine).and_then(|()| watch(name, dir, &engine, window));
        engine.close()?;
        for follower in following {
            let ended = follower.join().map_err(|_| anyhow!("a follower panicked"))?;
            ensure!(!matches!(ended, Ok(true)), "a follower was given what nobody appended");
        }
        idle
    });
    drop(writers);
    idle
}

fn counted(engine: &Engine) -> (u64, u64) {
    let writes = |shard: &ShardMetrics| {
        shard.batches + shard.marks + shard.fill_writes + shard.creates + shard.seals
    };
    let shards = engine.metrics();
    (shards.iter().map(writes).sum(), shards.iter().map(|shard| shard.operations_in_flight).sum())
}

/// Waits until the engine has come to rest.
fn quiet(engine: &Engine) -> Result<()> {
    let begun = Instant::now();
    let mut last = (counted(engine), Instant::now());
    while last.1.elapsed() < QUIET {
        ensure!(begun.elapsed() < QUIET_MAX, "the engine does not come to rest");
        thread::sleep(LOOK_EVERY);
        let now = counted(engine);
        if now != last.0 || now.1 > 0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

fn watch(name: &'static str, dir: &Path, engine: &Engine, window: Duration) -> Result<Idle> {
    let meter = Meter::new(dir);
    let (bytes, writes, before) = (written_bytes(), counted(engine).0, meter.read()?);
    thread::sleep(window);
    let cost = meter.read()?.since(&before);
    let (bytes_after, writes_after) = (written_bytes(), counted(engine).0);
    Ok(Idle {
        name,
        seconds: cost.seconds,
        cpu_percent: cost.cpu_us as f64 / cost.seconds / 1e4,
        switches_per_second: cost.switches as f64 / cost.seconds,
        engine_writes: writes_after - writes,
        written_bytes: bytes_after.zip(bytes).map(|(after, before)| after.saturating_sub(before)),
    })
}

/// What this process wrote to block devices, as the kernel accounts for it.
fn written_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_was_written() {
        let before = written_bytes().unwrap();
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        fs::write(file.path(), vec![1; 1 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        assert!(written_bytes().unwrap() >= before + (1 << 20));
    }
}
