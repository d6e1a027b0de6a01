//! A Sapwood engine on a fresh directory, with its segments in the state that a row asks for.
//!
//! Invariants: the durable method is given, never left to the engine's own measurement, so that
//! engine and floor do the same; what is called prewritten was written and synced before the
//! first timed append, and nothing is filled beside one.
//!
//! Not here: loads (`sapwood_rows`, `follow`), opening after a crash (`recovery`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sapwood::io::Durable;
use sapwood::{Config, DurableMethod, Engine, Log, LogOptions, ShardMetrics, Writer};

use crate::folder::Folder;
use crate::ring::Method;
use crate::subject::{Cell, Segments};

/// The log that rows append to, and the folder of several.
const LOG: &str = "bench";
/// Threads that open writers.
const OPENERS: usize = 16;
/// The largest batch: two user batches of 1 MiB, with their headers, can share one write.
const BATCH_BYTES_MAX: u32 = 4 << 20;
/// How long a segment may take to be written ahead.
const PREWRITE_MAX: Duration = Duration::from_secs(120);
/// Between two looks at whether it was.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// After its last byte was written a spare is synced and named: so long at most.
const NAMING: Duration = Duration::from_millis(100);

/// The engine, ready to be measured. Closed and removed when dropped.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    /// One of each log.
    pub(crate) writers: Arc<[Writer]>,
    pub(crate) logs: Vec<Log>,
    /// Bytes of one segment; what was written before the run, where it was.
    segment_bytes: u64,
    segments: Segments,
    dir: PathBuf,
}

/// The settings of a directory for `cell`.
pub(crate) fn config(dir: &Path, method: Method, segment_bytes: Option<u64>) -> Result<Config> {
    let durable = match method {
        Method::Dsync => DurableMethod::Dsync,
        Method::Fdatasync => DurableMethod::Fdatasync,
        Method::Unsynced => bail!("Sapwood has no writes that are not durable"),
    };
    let mut config = Config { durable, batch_bytes_max: BATCH_BYTES_MAX, ..Config::new(dir) };
    if let Some(bytes) = segment_bytes {
        config.segment_bytes = bytes;
        config.batch_bytes_max = BATCH_BYTES_MAX.min((bytes / 4) as u32 & !0xffff);
    }
    Ok(config)
}

/// The method asked for, or the one that the engine chooses under `parent`: the floor uses it too.
///
/// # Errors
/// When no engine can be opened there.
pub(crate) fn method_for(parent: &Path, asked: Option<Method>) -> Result<Method> {
    if let Some(method) = asked {
        return Ok(method);
    }
    let folder = Folder::fresh(parent)?;
    let dir = folder.path().join("probed");
    let config = Config { segment_bytes: 1 << 20, batch_bytes_max: 256 << 10, ..Config::new(&dir) };
    let config = Config { record_bytes_max: 64 << 10, ..config };
    let engine = Engine::open(config).context("open an engine to ask for its durable method")?;
    let durable = &engine.probe().durable;
    eprintln!("durable method: {} ({})", durable.value, durable.why);
    let method = match durable.value {
        Durable::Dsync => Method::Dsync,
        Durable::Fdatasync => Method::Fdatasync,
    };
    engine.close()?;
    Ok(method)
}

impl Bed {
    /// A bed under `dir`, on a thread of the engine's.
    pub(crate) fn make(cell: &Cell, dir: PathBuf, segments: Segments) -> Result<Bed> {
        let engine = Engine::open(settings(cell, &dir, segments)?)?;
        Bed::over(engine, cell, dir, segments, || thread::sleep(LOOK_EVERY))
    }

    /// The same with the only shard driven by the calling thread.
    pub(crate) fn make_driven(cell: &Cell, dir: PathBuf) -> Result<(Bed, sapwood::Driving)> {
        let segments = Segments::Prewritten;
        let (engine, mut drivers) = Engine::open_driven(settings(cell, &dir, segments)?)?;
        let mut driving = drivers.pop().context("an engine has a shard")?.bind()?;
        let turn = || {
            driving.turn(LOOK_EVERY);
        };
        let bed = Bed::over(engine, cell, dir, segments, turn)?;
        Ok((bed, driving))
    }

    fn over(
        engine: Engine,
        cell: &Cell,
        dir: PathBuf,
        segments: Segments,
        pause: impl FnMut(),
    ) -> Result<Bed> {
        let logs = make_logs(&engine, cell.load.logs)?;
        let writers: Arc<[Writer]> = make_writers(&logs)?.into();
        let first = writers.first().context("a load has a log")?;
        first.append(&[0; 64]).wait().map_err(|rejected| rejected.error)?;
        let segment_bytes = cell.segment_bytes;
        if segments == Segments::Prewritten {
            wait_for_segments(&dir, segment_bytes, pause)?;
        }
        Ok(Bed { engine, writers, logs, segment_bytes, segments, dir })
    }

    /// Bytes of batches so far.
    pub(crate) fn used(&self) -> u64 {
        self.engine.batch_bytes()
    }

    /// Metrics of the only shard.
    pub(crate) fn counted(&self) -> ShardMetrics {
        self.engine.metrics().into_iter().next().unwrap_or_default()
    }

    /// Whether so many bytes more are still prewritten.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.segments == Segments::Fresh || self.used() + bytes <= self.segment_bytes
    }

    /// Says so when a run wrote more than had been prewritten for it.
    pub(crate) fn check(&self) -> Result<()> {
        let (used, had) = (self.used() >> 20, self.segment_bytes >> 20);
        ensure!(
            self.has_room(0),
            "the run wrote {used} MiB and {had} were prewritten: give it less --secs"
        );
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A driven shard that is gone already cannot close; its directory goes all the same.
        let _ = self.engine.close();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn make_logs(engine: &Engine, count: usize) -> Result<Vec<Log>> {
    if count <= 1 {
        return Ok(vec![engine.log(LOG)?]);
    }
    let options = LogOptions::default();
    let names: Vec<String> = (0..count).map(|n| format!("{LOG}/{n:06}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    Ok(engine.create_many(&wanted)?)
}

/// Each opening waits for a write of the manifest, so several threads open.
fn make_writers(logs: &[Log]) -> Result<Vec<Writer>> {
    if logs.len() == 1 {
        return Ok(vec![logs[0].writer()?]);
    }
    let part = logs.len().div_ceil(OPENERS);
    thread::scope(|scope| {
        let open = |logs: &[Log]| logs.iter().map(Log::writer).collect::<Result<Vec<_>, _>>();
        let parts: Vec<_> = logs.chunks(part).map(|logs| scope.spawn(move || open(logs))).collect();
        let mut all = Vec::with_capacity(logs.len());
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(all)
    })
}

fn settings(cell: &Cell, dir: &Path, segments: Segments) -> Result<Config> {
    let bytes = (segments == Segments::Prewritten).then_some(cell.segment_bytes);
    config(dir, cell.method, bytes)
}

/// Waits until the active segment and its spare are both written in full.
pub(crate) fn wait_for_segments(dir: &Path, bytes: u64, mut pause: impl FnMut()) -> Result<()> {
    let since = Instant::now();
    while segment_files(dir, bytes)?.len() < 2 {
        ensure!(since.elapsed() < PREWRITE_MAX, "the spare segment was not written ahead");
        pause();
    }
    let since = Instant::now();
    while since.elapsed() < NAMING {
        pause();
    }
    Ok(())
}

/// The segments in `dir` that are `bytes` long.
pub(crate) fn segment_files(dir: &Path, bytes: u64) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let is_segment = entry.file_name().to_string_lossy().starts_with("segment-");
        if is_segment && entry.metadata()?.len() >= bytes {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
