//! `bench mixed`: what appends pay for everything else that goes on: followers, catch-up reads,
//! truncation.
//!
//! Rows are the same open loop over many logs, each with one more thing beside it, in turns; the
//! first has nothing beside it.
//!
//! Invariants: what goes on beside a row began before its warm-up and lasts until its end; every
//! log that is not truncated is read back and compared.
//!
//! Not here: rolls and collection by themselves (`roll`), followers by themselves (`follow`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use sapwood::{From, Log, Reader};

use crate::bed::Bed;
use crate::cells::Plan;
use crate::load::Load;
use crate::meter::Meter;
use crate::sample::{Sample, Stages};
use crate::sapwood_rows;
use crate::scenario::{self, Scenario, ScenarioArgs};
use crate::subject::{Cell, RawWrite, Segments, Subject};
use crate::traffic::{Arrivals, Pick, Sizes};
use crate::verify;

/// Appends a second of all rows: well below what a disk can do, so that what is seen is waiting.
const RATE: f64 = 2000.0;
const LOGS: usize = 1000;
const SIZES: (usize, usize) = (128, 16 << 10);
const OUTSTANDING: usize = 512;
const THREADS: usize = 2;
/// Logs that are followed: the most used ones that nobody truncates.
const FOLLOWED: usize = 16;
/// How often a log is truncated.
const TRUNCATED_EVERY: Duration = Duration::from_millis(2);
/// How long somebody who waits for a record sleeps before it looks whether the row is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What goes on beside the appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Followers,
    CatchUp,
    Truncation,
    Everything,
}

impl Beside {
    const ALL: [Beside; 5] = [
        Beside::Nothing,
        Beside::Followers,
        Beside::CatchUp,
        Beside::Truncation,
        Beside::Everything,
    ];

    fn has(self, other: Beside) -> bool {
        self == other || self == Beside::Everything
    }
}

/// Logs of odd number are truncated, those of even number are read.
fn is_read(log: usize) -> bool {
    log.is_multiple_of(2)
}

/// `bench mixed`.
///
/// # Errors
/// As [`scenario::run`].
pub fn run(args: &ScenarioArgs) -> Result<()> {
    let pace = args.pace()?;
    let load = Load {
        sizes: Sizes::Pareto,
        least_bytes: SIZES.0,
        logs: LOGS,
        pick: Pick::Zipf,
        rate: Some(RATE),
        arrivals: Arrivals::Poisson,
        ..pace.load(THREADS, OUTSTANDING, SIZES.1)
    };
    let mut subjects: Vec<Box<dyn Subject>> =
        vec![Box::new(RawWrite { name: "floor", depth: 1, method: None })];
    for beside in Beside::ALL {
        subjects.push(Box::new(Mixed { beside, bed: None }));
    }
    let plan = Plan {
        name: "mixed",
        title: format!(
            "{RATE} appends a second (Poisson) of {} B to 16 KiB (Pareto) to {LOGS} logs (Zipf)",
            SIZES.0
        ),
        load,
        segment_bytes: 1 << 30,
        subjects,
        claims: Vec::new(),
    };
    let question = "What do appends pay for followers, catch-up reads and truncation beside them?";
    scenario::run(Scenario { name: "mixed", question }, args, vec![plan])
}

/// A row.
struct Mixed {
    beside: Beside,
    bed: Option<Bed>,
}

/// What was done beside a run.
#[derive(Debug, Default)]
struct Deeds {
    followed: AtomicU64,
    caught_up: AtomicU64,
    truncated: AtomicU64,
}

impl Subject for Mixed {
    fn name(&self) -> &str {
        match self.beside {
            Beside::Nothing => "sapwood, appends alone",
            Beside::Followers => "+ followers",
            Beside::CatchUp => "+ catch-up reads",
            Beside::Truncation => "+ truncation",
            Beside::Everything => "+ all of them",
        }
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        let dir = cell.dir.join(format!("{:?}", self.beside));
        self.bed = Some(Bed::make(cell, dir, Segments::Fresh)?);
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let Some(bed) = &self.bed else { return Err(anyhow!("was not prepared")) };
        let (ends, before) = (verify::ends(&bed.logs)?, bed.counted());
        let (over, deeds) = (AtomicBool::new(false), Deeds::default());
        let (sample, mut written) = thread::scope(|scope| {
            let mut others = Vec::new();
            let (over, deeds, logs) = (&over, &deeds, &bed.logs[..]);
            if self.beside.has(Beside::Followers) {
                others.push(scope.spawn(move || follow(logs, over, deeds)));
            }
            if self.beside.has(Beside::CatchUp) {
                others.push(scope.spawn(move || catch_up(logs, over, deeds)));
            }
            if self.beside.has(Beside::Truncation) {
                others.push(scope.spawn(move || truncate(logs, over, deeds)));
            }
            let result = sapwood_rows::run(&bed.writers, &cell.load, &Meter::new(&cell.dir));
            over.store(true, Ordering::Relaxed);
            for other in others {
                other.join().map_err(|_| anyhow!("a thread beside the load panicked"))??;
            }
            result
        })?;
        check(self.beside, &deeds)?;
        if self.beside.has(Beside::Truncation) {
            for sequences in &mut written.0 {
                let gone = sequences.iter_mut().enumerate().filter(|(log, _)| !is_read(*log));
                gone.for_each(|(_, count)| *count = 0);
            }
        }
        let stages = Some(Stages::between(&before, &bed.counted()));
        let verified = Some(verify::read_back(&bed.logs, &ends, &written)?);
        Ok(Sample { stages, verified, ..sample })
    }
}

/// A row beside which nothing happened is no measurement of it.
fn check(beside: Beside, deeds: &Deeds) -> Result<()> {
    let each = [
        (Beside::Followers, &deeds.followed, "record was delivered to a follower"),
        (Beside::CatchUp, &deeds.caught_up, "record was read in catching up"),
        (Beside::Truncation, &deeds.truncated, "log was truncated"),
    ];
    for (kind, count, what) in each {
        ensure!(!beside.has(kind) || count.load(Ordering::Relaxed) > 0, "not one {what}");
    }
    Ok(())
}

/// Followers of the most used logs, one thread for all: whoever has a record wakes it.
fn follow(logs: &[Log], over: &AtomicBool, deeds: &Deeds) -> Result<()> {
    let read = logs.iter().enumerate().filter(|(log, _)| is_read(*log)).take(FOLLOWED);
    let readers = read.map(|(_, log)| Ok(log.reader(From::Tail)?.follow()));
    let mut readers = readers.collect::<Result<Vec<Reader>>>()?;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    while !over.load(Ordering::Relaxed) {
        for reader in &mut readers {
            while let Poll::Ready(record) = pin!(reader.next()).poll(&mut context) {
                record?.ok_or_else(|| anyhow!("the engine was closed"))?;
                deeds.followed.fetch_add(1, Ordering::Relaxed);
            }
        }
        thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Reads the most used log from its start, again and again.
fn catch_up(logs: &[Log], over: &AtomicBool, deeds: &Deeds) -> Result<()> {
    let log = logs.first().ok_or_else(|| anyhow!("there is no log"))?;
    while !over.load(Ordering::Relaxed) {
        let mut reader = log.reader(From::Start)?;
        while let Some(record) = reader.next().wait()? {
            std::hint::black_box(record.payload());
            deeds.caught_up.fetch_add(1, Ordering::Relaxed);
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// Truncates the logs that nobody reads, one after the other, each to its end.
fn truncate(logs: &[Log], over: &AtomicBool, deeds: &Deeds) -> Result<()> {
    let gone = logs.iter().enumerate().filter(|(log, _)| !is_read(*log));
    for (_, log) in gone.cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let (start, durable) = (log.start()?, log.durable()?);
        if start < durable {
            log.truncate(durable)?;
            deeds.truncated.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(TRUNCATED_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_does_what_it_is_about_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("data"), dir.path().join("out"));
        std::fs::create_dir(&data).unwrap();
        let mut args = crate::scenario::tests::args(&["--rounds", "1", "--secs", "0.3"]);
        args.dir = data;
        args.common.file_mib = 8;
        args.common.out = out.clone();
        run(&args).unwrap();
        let json = std::fs::read_to_string(out.join("mixed.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let cell = &json["cells"][0];
        assert_eq!(cell["failures"].as_array().unwrap().len(), 0, "{}", cell["failures"]);
        let rows = cell["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        for row in &rows[1..] {
            assert!(row["rounds"][0]["verified"].as_u64().unwrap() > 0, "{}", row["name"]);
        }
    }
}
