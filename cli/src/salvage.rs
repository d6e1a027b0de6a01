//! `salvage`: goes on without what is damaged, durably, by name.
//!
//! Invariants: what would be lost is shown first, and nothing is given up without a confirmation; a
//! directory whose records can all be read is left alone.
//! Not here: finding damage (`survey`), making the choice durable (the engine).

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Result, anyhow};
use sapwood::{Engine, Error, Recovery};
use serde_json::json;

use crate::directory::{Backend, ReadDir, open_existing, open_read_only};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::survey::Survey;

/// What has to be typed.
const CONFIRMATION: &str = "salvage";

/// Each round reads all logs and gives up what it met; damage may hide behind damage.
const ROUNDS_MAX: usize = 8;

/// Go on without damaged records; every later reader is told that they are lost
///
/// Mends what can be mended without loss, shows what cannot, asks, and then records durably that
/// it is given up: logs can be read past it and appended to again. The bytes themselves are left as
/// they are; still, take a copy of the directory first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood verify --dir wal           what is damaged
  cp -a wal wal.damaged              keep the evidence
  sapwood salvage --dir wal          shows it again, asks, gives it up")]
pub(crate) struct Args {
    #[command(flatten)]
    dir: ReadDir,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// An object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let dir = &args.dir.dir;
    let (found, stage_bytes) = look(dir, backend)?;
    if found.is_empty() {
        let what = format!("every record in {} can be read; nothing was changed", dir.display());
        return Err(Failure::new(Exit::Other, what).into());
    }
    // Opening for writing mends what can be mended: indexes, for example, are built again.
    open_existing(dir, Recovery::TolerateTail, stage_bytes, backend)?.close()?;
    let (found, _) = look(dir, backend)?;
    if found.is_empty() {
        return done(args, "mended", "every record can be read again, nothing is lost");
    }
    tell(args, &found)?;
    if !args.yes {
        confirm(dir)?;
    }
    let engine = open_existing(dir, Recovery::Salvage, stage_bytes, backend)?;
    let left = give_up(&engine)?;
    engine.close()?;
    if left > 0 {
        let what = format!("{left} logs are still damaged; run it again, and report this");
        return Err(Failure::new(Exit::Damage, what).into());
    }
    done(args, "salvaged", "the logs go on, and readers are told what is lost")
}

/// What cannot be read, and the staging memory that the directory needs.
fn look(dir: &Path, backend: Backend) -> Result<(Vec<Survey>, u64)> {
    let engine = open_read_only(dir, backend)?;
    if engine.follows() {
        let what = format!("another process is writing {}: stop it first", dir.display());
        return Err(Failure::new(Exit::Locked, what).into());
    }
    Ok((damaged(&engine)?, 4 * u64::from(engine.facts().batch_bytes_max)))
}

fn done(args: &Args, item: &str, what: &str) -> Result<Exit> {
    let mut out = Output::stdout()?;
    if args.json {
        out.line(json!({ "item": item }))?;
    } else {
        out.line(format_args!("{item}: {what}"))?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// The logs that cannot be read whole.
fn damaged(engine: &Engine) -> Result<Vec<Survey>> {
    let mut found = Vec::new();
    let mut progress = Progress::new(false, None, "read");
    for info in engine.logs() {
        let Some(log) = engine.find(&info.name)? else { continue };
        let survey = Survey::of(&log, &mut progress)?;
        if let Some(error) = survey.failed {
            return Err(anyhow!(error).context(format!("reading log {:?}", info.name)));
        }
        if !survey.damages.is_empty() {
            found.push(survey);
        }
    }
    progress.finish();
    Ok(found)
}

fn tell(args: &Args, found: &[Survey]) -> Result<()> {
    let mut out = Output::stdout()?;
    for survey in found {
        let name = &survey.info.name;
        for damage in &survey.damages {
            if args.json {
                out.line(json!({
                    "item": "lost", "log": name, "first_lsn": damage.first.0,
                    "last_lsn": damage.last.map(|last| last.0), "segment": damage.segment.0,
                    "offset": damage.offset, "reason": damage.reason,
                }))?;
            } else {
                out.line(format_args!("lost    log {name}: {damage}"))?;
            }
        }
        if !args.json {
            let (gone, left) = (survey.damaged_records(), survey.records);
            out.line(format_args!("log     {name}: {gone} records are lost, {left} are left"))?;
        }
    }
    out.flush()
}

fn confirm(dir: &Path) -> Result<()> {
    let mut err = io::stderr();
    if io::stdin().is_terminal() {
        write!(err, "These records of {} are given up. ", dir.display())?;
        write!(err, "Type {CONFIRMATION:?} to go on: ")?;
        err.flush()?;
    }
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == CONFIRMATION {
        return Ok(());
    }
    let what = format!("not confirmed, nothing was changed (type {CONFIRMATION:?}, or give --yes)");
    Err(Failure::new(Exit::Other, what).into())
}

/// Gives up what the reopened engine's readers still meet; tells how many logs stay damaged.
fn give_up(engine: &Engine) -> Result<usize> {
    for _ in 0..ROUNDS_MAX {
        let found = damaged(engine)?;
        if found.is_empty() {
            return Ok(0);
        }
        for survey in &found {
            let name = &survey.info.name;
            let log = engine.find(name)?.ok_or_else(|| Error::NoSuchLog(name.clone()))?;
            for damage in &survey.damages {
                log.salvage(damage)?;
            }
        }
    }
    Ok(damaged(engine)?.len())
}
