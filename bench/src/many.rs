//! `bench many-logs`: what a log costs when there are very many: rate, time to open, memory, files.
//!
//! The directory with all the logs is opened in a process of its own, so that its memory is that
//! of the logs and of nothing that ran before.
//!
//! Invariants: both sides of the rate are measured in turns, on one engine; memory per log is what
//! opening with the logs takes beyond opening without.
//!
//! Not here: the files that are open while all logs are used (`many/files`), appends beside
//! snapshots (`checkpoints`), latency of a writer (`latency`), the figures with
//! their rivals (`cells`).

mod files;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sapwood::{Config, Engine, LogOptions, Writer};

use crate::checkpoints;
use crate::environment::Environment;
use crate::folder::Folder;
use crate::meter;

/// Threads that append, and what each has outstanding.
const THREADS: usize = 2;
const OUTSTANDING: usize = 256;
/// Threads that open writers: each opening waits for a write of the manifest.
const OPENERS: usize = 16;
/// Goals: of the rate, of the time to open after a clean close, of the memory per log.
const RATE_MIN: f64 = 0.9;
const OPEN_MAX: Duration = Duration::from_secs(2);
const BYTES_MAX: f64 = 512.0;
/// Files that logs and readers may have open beyond those of an engine without any: of a shard,
/// not of a log.
const FILES_MAX: usize = 16;

/// What `bench many-logs` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ManyArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Logs of the directory that is opened
    #[arg(long, default_value_t = 100_000)]
    pub logs: usize,
    /// Logs that are appended to, beside one
    #[arg(long, default_value_t = 10_000)]
    pub appended: usize,
    /// Bytes of each record
    #[arg(long, default_value_t = 128)]
    pub record: usize,
    /// Rounds of the rate
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each timed window
    #[arg(long, default_value_t = 1.0)]
    pub secs: f64,
    /// Snapshots of all logs beside which appends are timed
    #[arg(long, default_value_t = 3)]
    pub snapshots: u64,
    /// Open this directory, say what it took, and end: how the benchmark calls itself
    #[arg(long, hide = true, value_name = "DIR")]
    pub opens: Option<PathBuf>,
}

/// Measures, prints.
///
/// # Errors
/// When anything was refused or failed.
pub fn run(args: &ManyArgs) -> Result<()> {
    if let Some(dir) = &args.opens {
        return tell_opening(dir);
    }
    ensure!(args.rounds > 0 && args.appended > 0 && args.logs >= args.appended, "too few");
    print!("{}", Environment::of(&args.dir));
    let folder = Folder::fresh(&args.dir)?;
    let (none, all) = (folder.path().join("none"), folder.path().join("all"));
    make(&none, 0)?;
    let created = make(&all, args.logs)?;
    println!("create {} logs: {:.2} s", args.logs, created.as_secs_f64());
    let empty = open_elsewhere(&none)?;
    report_opening(args, "never appended to", &empty, &open_elsewhere(&all)?);
    rates(args, &all)?;
    report_opening(args, "after appends", &empty, &open_elsewhere(&all)?);
    all_in_use(args, &all)?;
    report_opening(args, "after appends to all", &empty, &open_elsewhere(&all)?);
    for (logs, dir) in [(1, &none), (args.logs, &all)] {
        let seen = checkpoints::beside(dir, &name(0), args.snapshots)?;
        println!(
            "appends beside {} snapshots of {logs} logs and their edits: p50 {:.0} us, p99.9 {:.0} \
             us, longest {:.0} us of {}",
            seen.snapshots, seen.p50_us, seen.p999_us, seen.max_us, seen.appends
        );
    }
    Ok(())
}

/// Makes a directory with so many logs, and closes it. How long the logs took.
fn make(dir: &Path, logs: usize) -> Result<Duration> {
    let engine = Engine::open(Config::new(dir))?;
    let options = LogOptions::default();
    let names: Vec<String> = (0..logs).map(name).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    let since = Instant::now();
    engine.create_many(&wanted)?;
    let took = since.elapsed();
    engine.close()?;
    Ok(took)
}

fn name(n: usize) -> String {
    format!("tenant/{n:06}/events")
}

/// What opening took: seconds, and bytes of resident memory.
struct Opening {
    seconds: f64,
    rss: f64,
    files: f64,
}

fn open_elsewhere(dir: &Path) -> Result<Opening> {
    let me = std::env::current_exe().context("find this program")?;
    let out = Command::new(me).args(["bench", "many-logs", "--opens"]).arg(dir).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [seconds, rss, files] = numbers[..] else { bail!("the opening said {text:?}") };
    Ok(Opening { seconds, rss, files })
}

fn tell_opening(dir: &Path) -> Result<()> {
    let before = meter::rss().unwrap_or(0);
    let since = Instant::now();
    let engine = Engine::open(Config::new(dir))?;
    let seconds = since.elapsed().as_secs_f64();
    let rss = meter::rss().unwrap_or(0).saturating_sub(before);
    let clean = engine.recovery().iter().all(|shard| shard.clean);
    ensure!(clean, "it was not closed in order");
    println!("{seconds} {rss} {}", open_files()?);
    engine.close()?;
    Ok(())
}

fn open_files() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("count open files")?.count())
}

fn report_opening(args: &ManyArgs, when: &str, empty: &Opening, all: &Opening) {
    let each = (all.rss - empty.rss) / args.logs as f64;
    println!(
        "open {} logs, {when}: {:.2} s (goal {} s: {}), {each:.0} B each (goal {BYTES_MAX}: {}), \
         {} files, {} without logs (goal {FILES_MAX} more: {})",
        args.logs,
        all.seconds,
        OPEN_MAX.as_secs(),
        met(all.seconds <= OPEN_MAX.as_secs_f64()),
        met(each <= BYTES_MAX),
        all.files,
        empty.files,
        met(all.files <= empty.files + FILES_MAX as f64)
    );
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// One log and many under the same load, in turns.
fn rates(args: &ManyArgs, dir: &Path) -> Result<()> {
    let engine = Engine::open(Config::new(dir))?;
    let since = Instant::now();
    let writers = open_writers(&engine, args.appended)?;
    println!("open {} writers: {:.2} s", args.appended, since.elapsed().as_secs_f64());
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let (mut one_mb, mut many_mb) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for (side, used, written) in
            [(&mut one, &writers[..1], &mut one_mb), (&mut many, &writers[..], &mut many_mb)]
        {
            let before = engine.batch_bytes();
            side.push(rate(used, args)?);
            written.push((engine.batch_bytes() - before) as f64 / args.secs / 1e6);
        }
    }
    let mut ratios: Vec<f64> = many.iter().zip(&one).map(|(many, one)| many / one).collect();
    let (one, many, ratio) = (median(&mut one), median(&mut many), median(&mut ratios));
    println!(
        "appends of {} B a second: {one:.0} to one log ({:.0} MB/s of batches), {many:.0} to {} \
         ({:.0} MB/s): {ratio:.2} ({:.2}-{:.2}, goal {RATE_MIN}: {})",
        args.record,
        median(&mut one_mb),
        args.appended,
        median(&mut many_mb),
        ratios[0],
        ratios[ratios.len() - 1],
        met(ratio >= RATE_MIN)
    );
    drop(writers);
    engine.close()?;
    Ok(())
}

/// A tenth of the logs, then all of them, appended to and read at once.
fn all_in_use(args: &ManyArgs, dir: &Path) -> Result<()> {
    for logs in [args.logs.div_ceil(10), args.logs] {
        let engine = Engine::open(Config::new(dir))?;
        let since = Instant::now();
        let writers = open_writers(&engine, logs)?;
        println!("open {logs} writers: {:.2} s", since.elapsed().as_secs_f64());
        let seen = files::watch(&engine, &writers, args.record)?;
        println!(
            "files open while {} logs are appended to and read: at most {} of {} looks, {} before \
             (goal: at most {}, however many logs: {}); {} appends, {} records read, {:.1} s",
            seen.logs,
            seen.most,
            seen.looks,
            seen.before,
            seen.bound,
            met(seen.most <= seen.bound),
            seen.appends,
            seen.records,
            seen.seconds
        );
        let [middle, most, longest] = seen.waits_ms;
        println!(
            "one more writer meanwhile, sealing included: p50 {middle:.2} ms, p99.9 {most:.2} ms, \
             longest {longest:.2} ms"
        );
        drop(writers);
        engine.close()?;
    }
    Ok(())
}

fn open_writers(engine: &Engine, count: usize) -> Result<Vec<Writer>> {
    let part = count.div_ceil(OPENERS);
    thread::scope(|scope| {
        let parts: Vec<_> = (0..OPENERS)
            .map(|at| {
                scope.spawn(move || -> Result<Vec<Writer>> {
                    let mine = (at * part).min(count)..((at + 1) * part).min(count);
                    mine.map(|n| Ok(engine.log(&name(n))?.writer()?)).collect()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(all)
    })
}

/// Acked appends a second, over `writers` in turns.
fn rate(writers: &[Writer], args: &ManyArgs) -> Result<f64> {
    let until = Instant::now() + Duration::from_secs_f64(args.secs);
    let payload = &vec![7u8; args.record];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|at| {
                scope.spawn(move || -> Result<u64> {
                    let mine = writers.iter().skip(at * writers.len() / THREADS);
                    let mut next = mine.chain(writers).cycle();
                    let mut open = VecDeque::with_capacity(OUTSTANDING);
                    let mut acked = 0;
                    while Instant::now() < until {
                        while open.len() < OUTSTANDING {
                            let writer = next.next().context("no writers")?;
                            open.push_back(writer.append(payload.clone()));
                        }
                        if let Some(append) = open.pop_front() {
                            append.wait().map_err(|rejected| rejected.error)?;
                            acked += 1;
                        }
                    }
                    for append in open {
                        append.wait().map_err(|rejected| rejected.error)?;
                    }
                    Ok(acked)
                })
            })
            .collect();
        let mut acked = 0;
        for thread in threads {
            acked += thread.join().map_err(|_| anyhow!("a load thread panicked"))??;
        }
        Ok(acked as f64 / args.secs)
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
