//! `doctor`: whether a directory, its device and this host are fit for Sapwood.
//!
//! Invariant: nothing that exists is changed, whatever stands at the place that was given.
//! Not here: looking and measuring (`sapwood::io::doctor`), damage in detail (`verify`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytesize::ByteSize;
use sapwood::io::doctor::{Examination, Measured, Row, Verdict, examine};
use sapwood::{Engine, Error, Severity};
use serde_json::{Value, json};

use crate::directory::{Backend, open_read_only};
use crate::exit::Exit;
use crate::output::Output;
use crate::place::time_text;

/// Seconds that a record's time may be ahead of the clock before that is told.
const AHEAD_SECS_MAX: u64 = 2;

/// Say whether a directory, its device and this host are fit; exit code 10 when something is bad
///
/// Kernel, io_uring, alignment, write cache, file system and mount, what a durable write takes by
/// each method, limits, space and clock; and, of a directory of logs, what it was made with and
/// whether anything in it is damaged. Works where nothing is yet, changes nothing that is there,
/// and takes about three seconds of writing to a file that it removes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood doctor --dir wal
  sapwood doctor --dir /mnt/nvme/wal --json | jq 'select(.verdict == \"bad\")'")]
pub(crate) struct Args {
    /// The directory: of logs, empty, or not there yet
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// An object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let mut examination = examine(&args.dir);
    let rows = directory(&args.dir, backend, &examination);
    examination.rows.extend(rows);
    let mut out = Output::stdout()?;
    if !args.json {
        out.line(format_args!("{:<9}{:<16}FOUND", "VERDICT", "WHAT"))?;
    }
    for row in &examination.rows {
        if args.json {
            out.line(object(row))?;
        } else {
            text(&mut out, row)?;
        }
    }
    let count = |verdict| examination.rows.iter().filter(|row| row.verdict == verdict).count();
    let bad = count(Verdict::Bad);
    if !args.json {
        let notes = plural(count(Verdict::Note), "note");
        let warnings = plural(count(Verdict::Warning), "warning");
        out.line(format_args!("{} ok, {notes}, {warnings}, {bad} bad", count(Verdict::Ok)))?;
    }
    out.flush()?;
    Ok(if bad > 0 { Exit::Unfit } else { Exit::Ok })
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn text(out: &mut Output, row: &Row) -> Result<()> {
    out.line(format_args!("{:<9}{:<16}{}", row.verdict, row.name, row.value))?;
    for measured in &row.measured {
        out.line(format_args!("{:25}{measured}", ""))?;
    }
    if row.verdict != Verdict::Ok || !row.advice.starts_with("nothing to do") {
        out.line(format_args!("{:25}→ {}", "", row.advice))?;
    }
    Ok(())
}

fn object(row: &Row) -> Value {
    let figure = |measured: &Measured| {
        let Measured { what, value, unit } = measured;
        json!({ "what": what, "value": value, "unit": unit })
    };
    json!({
        "name": row.name,
        "value": row.value,
        "verdict": row.verdict.word(),
        "advice": row.advice,
        "measured": row.measured.iter().map(figure).collect::<Vec<_>>(),
    })
}

/// What is in the directory.
fn directory(dir: &Path, backend: Backend, examination: &Examination) -> Vec<Row> {
    let name = "directory";
    if !dir.exists() {
        return vec![Row::new(name, "not there yet", Verdict::Ok, "nothing to do")];
    }
    let empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if empty {
        return vec![Row::new(name, "empty", Verdict::Ok, "nothing to do")];
    }
    match open_read_only(dir, backend) {
        Ok(engine) => facts(dir, &engine, examination),
        Err(error) => {
            let advice = match error.downcast_ref() {
                Some(Error::NotOurs(_)) => "logs need a directory of their own: give another one",
                Some(Error::Unsupported(_)) => "use the version that wrote it, or a newer one",
                _ => "`sapwood verify` says more",
            };
            vec![Row::new(name, error.to_string(), Verdict::Bad, advice)]
        }
    }
}

/// What a directory of ours was made with, and how it is.
fn facts(dir: &Path, engine: &Engine, examination: &Examination) -> Vec<Row> {
    let facts = engine.facts();
    let logs = engine.logs();
    let size = |bytes: u64| ByteSize(bytes);
    let value = format!(
        "{}, {}, unit {}, segments of {}, records up to {}, made {}",
        plural(logs.len(), "log"),
        plural(usize::from(facts.shards), "shard"),
        facts.unit,
        size(facts.segment_bytes),
        size(u64::from(facts.record_bytes_max)),
        time_text(facts.created_us),
    );
    let mut rows = Vec::new();
    rows.push(if examination.unit > facts.unit {
        let advice = format!(
            "this device needs units of {}: copy the logs into a new directory",
            examination.unit
        );
        Row::new("directory", value, Verdict::Bad, advice)
    } else {
        Row::new("directory", value, Verdict::Ok, "nothing to do")
    });
    rows.push(files(dir));
    rows.push(uses(engine));
    let newest = logs.iter().map(|log| log.last_time_us).max().unwrap_or(0);
    rows.extend(newer_than_now(newest));
    for finding in engine.health().findings {
        let verdict = match finding.severity {
            Severity::Note => continue, // the rows above tell of the surroundings
            Severity::Warning => Verdict::Warning,
            Severity::Bad => Verdict::Bad,
        };
        rows.push(Row::new(finding.kind.word(), finding.what, verdict, finding.advice));
    }
    let repaired: Vec<_> = engine.recovery().iter().flat_map(|shard| &shard.repaired).collect();
    if let Some(first) = repaired.first() {
        let value = format!("{} in one copy of two, the first: {first}", repaired.len());
        let advice = "nothing is lost; the next open for writing mends it; see to the device";
        rows.push(Row::new("manifest", value, Verdict::Warning, advice));
    }
    rows
}

/// Files and their bytes.
fn files(dir: &Path) -> Row {
    let lengths = fs::read_dir(dir).into_iter().flatten().flatten();
    let lengths: Vec<u64> =
        lengths.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect();
    let bytes = ByteSize(lengths.iter().sum());
    let value = format!("{}, {bytes}", plural(lengths.len(), "file"));
    Row::new("size", value, Verdict::Ok, "nothing to do")
}

/// Who writes it, and how it was left.
fn uses(engine: &Engine) -> Row {
    if engine.follows() {
        let value = "another process is writing it";
        return Row::new("use", value, Verdict::Ok, "nothing to do: it can be read meanwhile");
    }
    let reports = engine.recovery();
    let term = reports.iter().map(|shard| shard.term).max().unwrap_or(0);
    let clean = reports.iter().all(|shard| shard.clean);
    let scanned: u64 = reports.iter().map(|shard| shard.scanned_bytes).sum();
    let dropped: u64 = reports.iter().map(|shard| shard.dropped).sum();
    let value = if clean {
        format!("term {term}, closed in order")
    } else {
        format!(
            "term {term}, not closed: {} are scanned at the next open, {dropped} batches of the \
             torn tail dropped",
            ByteSize(scanned)
        )
    };
    Row::new("use", value, Verdict::Ok, "nothing to do")
}

/// A clock that has gone back gives new records the time of old ones.
fn newer_than_now(newest_us: u64) -> Option<Row> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let ahead = newest_us.saturating_sub(now) / 1_000_000;
    (ahead > AHEAD_SECS_MAX).then(|| {
        let value = format!("the newest record is {ahead} s ahead of this clock");
        let advice = "set the clock: until it has caught up, new records carry the old time";
        Row::new("wall clock", value, Verdict::Warning, advice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_behind_the_newest_record_is_told() {
        assert!(newer_than_now(0).is_none());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        assert!(newer_than_now(now).is_none());
        let row = newer_than_now(now + 3_600_000_000).unwrap();
        assert!(row.verdict == Verdict::Warning && row.value.contains("3"), "{row:?}");
    }
}
