//! `bench roll`: what segments cost while they come and go: rolls, collection, an idle engine.
//!
//! Invariants: rows take turns, at one rate that all of them can keep, and latency counts from the
//! intended start; a row that did not do what it is about gives no verdict.
//!
//! Not here: a row (`roll/row`), the idle engine (`roll/idle`), what is demanded (`roll/claims`).

mod claims;
mod idle;
mod machine;
mod row;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bed;
use crate::environment::Environment;
use crate::folder::Folder;
use crate::load::Load;
use crate::report::{self, CellResult, number};
use crate::ring::Method;
use claims::Finding;
use idle::Idle;
use row::{BATCH_UNIT, Beside, Running};

/// Threads that append; at the rate, each waits for its append.
const THREADS: usize = 2;
/// Of each window, so much goes before it unmeasured.
const WARM_UP: f64 = 0.2;
/// Segments of the rolling rows are so small that a window has about so many rolls.
const ROLLS_AIMED_AT: u64 = 16;

/// What `bench roll` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct RollArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rounds of each row
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each timed window
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Appends a second, from two threads: well below what the disk can do
    #[arg(long, default_value_t = 2000.0)]
    pub rate: f64,
    /// Payload bytes of a record
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// Size of the rolling rows' segments, MiB; by default, what gives 10 rolls in a window
    #[arg(long, value_name = "MIB")]
    pub segment_mib: Option<u64>,
    /// Seconds that an idle engine is looked at
    #[arg(long, default_value_t = 5.0)]
    pub idle_secs: f64,
    /// Only the rows whose name begins so, and idle (may be given more than once)
    #[arg(long, value_name = "ROW")]
    pub only: Vec<String>,
    /// How writes become durable; what the engine probes if not given
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// All that was measured. Rows close their engines before their folder goes.
struct Report {
    rows: Vec<Running>,
    cell: CellResult,
    idle: Vec<Idle>,
    findings: Vec<Finding>,
    _folder: Folder,
}

/// Measures, prints.
///
/// # Errors
/// When anything was refused or failed.
pub fn run(args: &RollArgs) -> Result<()> {
    let environment = Environment::of(&args.dir);
    let report = measure(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&to_json(args, &environment, &report))?);
    } else {
        print!("{environment}{}", to_text(&report));
    }
    Ok(())
}

impl RollArgs {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }

    /// Bytes that so many seconds write at most: every append a batch of its own.
    fn bytes_in(&self, secs: f64) -> u64 {
        let each = (self.bytes as u64 + row::FRAME_BYTES).next_multiple_of(BATCH_UNIT);
        (self.rate * secs) as u64 * each
    }

    /// Bytes of a segment of this row.
    fn segment_bytes(&self, beside: Beside) -> Result<u64> {
        let mib = match (beside, self.segment_mib) {
            (Beside::Nothing, _) => {
                let secs = self.secs * (1.0 + WARM_UP) * self.rounds as f64;
                (self.bytes_in(secs) >> 20) + 2
            }
            (Beside::Rolls, None) => (self.bytes_in(self.secs) / ROLLS_AIMED_AT) >> 20,
            (Beside::Collection | Beside::Relocation, None) => 1,
            (_, Some(mib)) => mib,
        };
        ensure!(
            mib <= 4096,
            "a segment of {mib} MiB is too large: less --secs, --rounds or --rate"
        );
        Ok(mib.max(1) << 20)
    }
}

fn measure(args: &RollArgs) -> Result<Report> {
    ensure!(args.rounds > 0 && args.secs > 0.0, "rounds and secs must be above zero");
    ensure!(args.rate > 0.0 && args.idle_secs > 0.0, "rate and idle-secs must be above zero");
    let folder = Folder::fresh(&args.dir)?;
    // First, for an idle engine is to be alone in its process.
    let idle = match args.wants("idle") {
        true => idle::measure(folder.path(), Duration::from_secs_f64(args.idle_secs))?,
        false => Vec::new(),
    };
    let method = bed::method_for(folder.path(), args.method)?;
    let window = Duration::from_secs_f64(args.secs);
    let load = Load {
        threads: THREADS,
        outstanding: 1,
        record_bytes: args.bytes,
        records: 1,
        rate: Some(args.rate),
        warm_up: window.mul_f64(WARM_UP),
        window,
        ..Load::default()
    };
    let mut rows = Vec::new();
    for beside in Beside::ALL.into_iter().filter(|beside| args.wants(beside.name())) {
        eprintln!("prepare {}", beside.name());
        let dir = folder.path().join(beside.name());
        let row = Running::prepare(beside, dir, method, args.segment_bytes(beside)?, &load);
        rows.push(row.with_context(|| format!("prepare {}", beside.name()))?);
    }
    for round in 0..args.rounds {
        for row in &mut rows {
            eprintln!("round {} of {}: {}", round + 1, args.rounds, row.name());
            row.round(&load).with_context(|| format!("run {}", row.name()))?;
        }
    }
    let cell = CellResult {
        name: "roll".to_owned(),
        title: format!("{} appends of {} B a second", number(args.rate), args.bytes),
        rows: rows.iter().map(Running::row).collect(),
        failures: Vec::new(),
        outcomes: Vec::new(),
    };
    let findings = claims::judge(&rows, &idle);
    Ok(Report { rows, cell, idle, findings, _folder: folder })
}

fn to_text(report: &Report) -> String {
    let mut out = String::from("\n");
    if !report.rows.is_empty() {
        out.push_str(&report::text(&report.cell));
    }
    let lines = report.rows.iter().map(Running::line);
    for line in lines.chain(report.idle.iter().map(Idle::line)) {
        out.push_str(&line);
        out.push('\n');
    }
    for finding in &report.findings {
        out.push_str(&finding.line());
        out.push('\n');
    }
    out
}

fn to_json(args: &RollArgs, environment: &Environment, report: &Report) -> serde_json::Value {
    let beside: Vec<_> = report.rows.iter().map(Running::to_json).collect();
    json!({
        "environment": environment, "rate": args.rate, "payload_bytes": args.bytes,
        "secs": args.secs, "cell": report::json(&report.cell), "segments": beside,
        "idle": report.idle, "claims": report.findings,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: RollArgs,
    }

    fn args(words: &[&str]) -> RollArgs {
        Program::try_parse_from(std::iter::once("roll").chain(words.iter().copied())).unwrap().args
    }

    #[test]
    fn a_tiny_run_reports_every_cell_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let words = ["--secs", "0.2", "--rounds", "2", "--idle-secs", "0.1", "--rate", "300"];
        let args = RollArgs { dir: dir.path().to_owned(), ..args(&words) };
        let report = measure(&args).unwrap();
        for beside in Beside::ALL {
            let row = report.cell.rows.iter().find(|row| row.name == beside.name()).unwrap();
            assert!(row.rounds.len() == 2 && row.rounds.iter().all(|round| round.operations > 0));
        }
        let text = to_text(&report);
        for words in ["p99.9, rolls / still", "collection / still", "relocation / still"] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        for words in ["files created", "CPU of an idle engine", "writes of an idle engine"] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        // Two windows of a fifth of a second have no ten rolls: that is no verdict.
        assert!(text.contains("not measured"), "{text}");
        let json = to_json(&args, &Environment::of(dir.path()), &report).to_string();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["cell"]["rows"].as_array().unwrap().len(), Beside::ALL.len());
        assert_eq!(json["segments"][1]["rounds"].as_array().unwrap().len(), 2);
        assert_eq!(json["idle"].as_array().unwrap().len(), 2);
        assert!(json["claims"][0]["verdict"].is_string());
        drop(report);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn segments_are_large_enough_not_to_roll_and_small_enough_to() {
        let args = args(&["--secs", "5", "--rounds", "5", "--rate", "2000"]);
        let bytes = |beside| args.segment_bytes(beside).unwrap();
        assert!(bytes(Beside::Nothing) > args.bytes_in(30.0));
        assert!(bytes(Beside::Rolls) * 10 < args.bytes_in(5.0));
        assert_eq!(bytes(Beside::Collection), 1 << 20);
        let huge = RollArgs { rate: 1e6, ..args };
        assert!(huge.segment_bytes(Beside::Nothing).is_err());
    }

    #[test]
    fn only_chooses_rows_by_their_beginning() {
        let args = args(&["--only", "idle", "--only", "st"]);
        assert!(args.wants("idle") && args.wants("still") && !args.wants("rolls"));
    }
}
