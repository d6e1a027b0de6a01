//! A row of `bench roll`: appends at a rate, and what goes on beside them.
//!
//! Invariants: what is counted (rolls, files, fills) is of the measured run, its warm-up of a fifth
//! included; the pool of spares has grown to what the load needs before the first round.
//!
//! Not here: what the numbers have to be (`claims`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use sapwood::{Config, Engine, Histogram, Log, ShardMetrics, Writer};
use serde::Serialize;

use super::machine::Machine;
use crate::bed;
use crate::load::{self, Handle, Load};
use crate::meter::Meter;
use crate::report::{Row, number};
use crate::ring::Method;
use crate::sample::{Sample, Spread, spread};

/// A batch is padded to so much; headers of a record's batch take less than this beside it.
pub(super) const BATCH_UNIT: u64 = 4096;
pub(super) const FRAME_BYTES: u64 = 512;
/// The same in all rows: what the smallest segment allows.
const BATCH_BYTES_MAX: u32 = 256 << 10;
const RECORD_BYTES_MAX: u32 = 64 << 10;
/// Bytes of one write that fills a segment.
const FILL_BYTES: u64 = 1 << 20;

/// Rolls that let the pool find its size, and how long they may take.
const SETTLING_ROLLS: u64 = 24;
const SETTLING_MAX: Duration = Duration::from_secs(20);
/// How long such a stretch is.
const SETTLING_STEP: Duration = Duration::from_millis(500);

/// Where collection is at full speed: logs, in turns, and how often one of them is truncated.
const COLLECTED_LOGS: usize = 8;
const COLLECTED_EVERY: Duration = Duration::from_millis(10);
/// A round of collection asked for is rested for so long before the next is.
const ASKED_EVERY: Duration = Duration::from_millis(10);
/// Else: so that space comes back at the pace of the rolls.
const TRUNCATED_EVERY: Duration = Duration::from_millis(100);
/// One append in so many goes to a log that is never truncated.
const LASTING_ONE_IN: u64 = 61;

/// What goes on beside the appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// One segment, written ahead, that has room for all rounds.
    Nothing,
    /// Segments roll, are sealed, die and are used again.
    Rolls,
    /// The smallest segments, several logs, truncated again and again.
    Collection,
    /// The same, every segment has some records that last, so that only relocation frees it, and
    /// collection is asked for again and again: it rests less then than by itself.
    Relocation,
}

impl Beside {
    pub(super) const ALL: [Beside; 4] =
        [Beside::Nothing, Beside::Rolls, Beside::Collection, Beside::Relocation];

    pub(super) fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "still",
            Beside::Rolls => "rolls",
            Beside::Collection => "collection",
            Beside::Relocation => "relocation",
        }
    }

    fn truncated_every(self) -> Option<Duration> {
        match self {
            Beside::Nothing => None,
            Beside::Rolls => Some(TRUNCATED_EVERY),
            Beside::Collection | Beside::Relocation => Some(COLLECTED_EVERY),
        }
    }

    fn logs(self) -> usize {
        match self {
            Beside::Nothing | Beside::Rolls => 1,
            Beside::Collection | Beside::Relocation => COLLECTED_LOGS,
        }
    }
}

/// What happened to segments in one round, and beside it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Deeds {
    /// A full segment gave way to the next.
    pub(super) rolls: u64,
    /// Segments sealed.
    pub(super) seals: u64,
    /// Files of the directory that were not there before the round.
    pub(super) created: u64,
    /// Bytes written to fill segments ahead of their use.
    pub(super) filled_bytes: u64,
    /// Segments that moved into a smaller file, and the bytes of those files.
    pub(super) relocated: u64,
    pub(super) relocated_bytes: u64,
    /// Segment files in the directory after the round.
    pub(super) segment_files: u64,
    /// Processors that other processes kept busy, where the kernel tells.
    pub(super) others_busy: Option<f64>,
    /// Where the time of the slowest batches went.
    pub(super) stages: Stages,
}

/// 99.9th percentiles of a batch's stages, us: what the engine adds, and what the device takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Stages {
    queue: u64,
    batch: u64,
    device: u64,
    ack: u64,
}

impl Stages {
    fn between(before: &ShardMetrics, after: &ShardMetrics) -> Stages {
        let us = |then: &Histogram, now: &Histogram| now.since(then).percentile(99.9) / 1000;
        Stages {
            queue: us(&before.queue_ns, &after.queue_ns),
            batch: us(&before.batch_ns, &after.batch_ns),
            device: us(&before.device_ns, &after.device_ns),
            ack: us(&before.ack_ns, &after.ack_ns),
        }
    }
}

/// A row that is prepared. Its engine is closed and its directory removed when dropped.
pub(super) struct Running {
    pub(super) beside: Beside,
    pub(super) samples: Vec<Sample>,
    pub(super) deeds: Vec<Deeds>,
    segment_bytes: u64,
    engine: Engine,
    dir: PathBuf,
    logs: Vec<Log>,
    writers: Vec<Writer>,
    /// Of the log that is never truncated.
    lasting: Option<Writer>,
}

impl Running {
    /// A directory in the state that the row is about.
    pub(super) fn prepare(
        beside: Beside,
        dir: PathBuf,
        method: Method,
        segment_bytes: u64,
        load: &Load,
    ) -> Result<Running> {
        let config = Config {
            batch_bytes_max: BATCH_BYTES_MAX,
            record_bytes_max: RECORD_BYTES_MAX,
            ..bed::config(&dir, method, Some(segment_bytes))?
        };
        let engine = Engine::open(config)?;
        let names = (0..beside.logs()).map(|n| format!("log-{n}"));
        let logs = names.map(|name| engine.log(&name)).collect::<Result<Vec<_>, _>>()?;
        let writers = logs.iter().map(Log::writer).collect::<Result<Vec<_>, _>>()?;
        let lasts = beside == Beside::Relocation;
        let lasting = lasts.then(|| engine.log("lasting")?.writer()).transpose()?;
        let (samples, deeds) = (Vec::new(), Vec::new());
        let row =
            Running { beside, samples, deeds, segment_bytes, engine, dir, logs, writers, lasting };
        row.settle(load)?;
        Ok(row)
    }

    pub(super) fn name(&self) -> &'static str {
        self.beside.name()
    }

    /// Goes on until the spares are there that the load needs.
    fn settle(&self, load: &Load) -> Result<()> {
        self.writers[0].append(&[0; 64]).wait().map_err(|rejected| rejected.error)?;
        if self.beside == Beside::Nothing {
            return bed::wait_for_segments(&self.dir, self.segment_bytes, || {
                thread::sleep(Duration::from_millis(10));
            });
        }
        let step =
            Load { warm_up: Duration::ZERO, window: SETTLING_STEP.min(load.window), ..*load };
        let since = Instant::now();
        while self.counted().rolls < SETTLING_ROLLS
            && since.elapsed() < SETTLING_MAX.min(load.window * 4)
        {
            self.drive(&step)?;
        }
        Ok(())
    }

    /// One round.
    pub(super) fn round(&mut self, load: &Load) -> Result<()> {
        let (before, known) = (self.counted(), files(&self.dir)?);
        let machine = Machine::now();
        let sample = self.drive(load)?;
        let others = Machine::now().zip(machine).map(|(now, then)| now.others_since(&then));
        let (after, found) = (self.counted(), files(&self.dir)?);
        self.samples.push(sample);
        self.deeds.push(Deeds {
            rolls: after.rolls - before.rolls,
            seals: after.seals - before.seals,
            created: found.difference(&known).count() as u64,
            filled_bytes: (after.fill_writes - before.fill_writes) * FILL_BYTES,
            relocated: after.relocations - before.relocations,
            relocated_bytes: after.relocated_bytes - before.relocated_bytes,
            segment_files: found.iter().filter(|name| name.starts_with("segment-")).count() as u64,
            others_busy: others,
            stages: Stages::between(&before, &after),
        });
        Ok(())
    }

    fn counted(&self) -> ShardMetrics {
        self.engine.metrics().into_iter().next().unwrap_or_default()
    }

    /// The load, with truncation beside it.
    fn drive(&self, load: &Load) -> Result<Sample> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = &over;
            let every = self.beside.truncated_every();
            let truncating = every.map(|every| scope.spawn(move || self.truncate(every, over)));
            let asks = self.beside == Beside::Relocation;
            let asking = asks.then(|| scope.spawn(move || self.ask(over)));
            let handle = |_| Turns {
                writers: self.writers.clone(),
                lasting: self.lasting.clone(),
                count: 0,
            };
            let handles = (0..load.threads).map(handle).collect();
            let sample = load::drive(handles, load, &Meter::new(&self.dir));
            over.store(true, Ordering::Relaxed);
            for thread in [truncating, asking].into_iter().flatten() {
                thread.join().map_err(|_| anyhow!("a thread beside the load panicked"))??;
            }
            sample
        })
    }

    /// Truncates the logs in turns, each to its end.
    fn truncate(&self, every: Duration, over: &AtomicBool) -> Result<()> {
        for log in self.logs.iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            log.truncate(log.durable()?).context("truncate")?;
            thread::sleep(every);
        }
        Ok(())
    }

    /// Has space taken back, as fast as the engine can.
    fn ask(&self, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            self.engine.gc().context("collect")?;
            thread::sleep(ASKED_EVERY);
        }
        Ok(())
    }

    /// Its samples under its name.
    pub(super) fn row(&self) -> Row {
        Row { name: self.name().to_owned(), rounds: self.samples.clone() }
    }

    /// The spread of something that was counted.
    pub(super) fn over_rounds(&self, of: impl Fn(&Deeds) -> u64) -> Option<Spread> {
        spread(&self.deeds.iter().map(|deeds| of(deeds) as f64).collect::<Vec<_>>())
    }

    /// What became of its segments, in words, and how busy others were.
    pub(super) fn line(&self) -> String {
        let others: Option<Vec<f64>> = self.deeds.iter().map(|deeds| deeds.others_busy).collect();
        let others = others.and_then(|others| spread(&others)).map_or_else(
            || "how busy others were is unknown".to_owned(),
            |spread| {
                let (middle, max) = (number(spread.median), number(spread.max));
                format!("others kept {middle} cores busy (at most {max})")
            },
        );
        let median = |of: fn(&Deeds) -> u64| {
            self.over_rounds(of).map_or_else(|| "-".to_owned(), |spread| number(spread.median))
        };
        format!(
            "{:<11}segments of {} MiB; a round: {} rolls, {} seals, {} files created, {} MiB \
             filled, {} segments relocated to {} KiB; {} segment files after it; p99.9 of a \
             batch: queue {}, batch {}, device {}, ack {} us; {others}",
            self.name(),
            self.segment_bytes >> 20,
            median(|deeds| deeds.rolls),
            median(|deeds| deeds.seals),
            median(|deeds| deeds.created),
            median(|deeds| deeds.filled_bytes >> 20),
            median(|deeds| deeds.relocated),
            median(|deeds| deeds.relocated_bytes >> 10),
            median(|deeds| deeds.segment_files),
            median(|deeds| deeds.stages.queue),
            median(|deeds| deeds.stages.batch),
            median(|deeds| deeds.stages.device),
            median(|deeds| deeds.stages.ack),
        )
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name(), "segment_bytes": self.segment_bytes, "rounds": self.deeds,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.engine.close();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    Ok(entries.map(|entry| entry.map(name)).collect::<Result<_, _>>()?)
}

/// A thread that appends to the logs in turns, and waits for each append.
struct Turns {
    writers: Vec<Writer>,
    lasting: Option<Writer>,
    count: u64,
}

impl Handle for Turns {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.count += 1;
        let turn = self.count as usize % self.writers.len();
        let lasting = self.lasting.as_ref().filter(|_| self.count.is_multiple_of(LASTING_ONE_IN));
        let writer = lasting.unwrap_or(&self.writers[turn]);
        writer.append(payload).wait().map_err(|rejected| rejected.error)?;
        Ok(())
    }

    fn wait((): ()) -> Result<()> {
        Ok(())
    }
}
