//! `bench figures`: every claim about speed, each as a ratio inside one interleaved run.
//!
//! Invariants: rows of a cell take turns (A, B, C, A, B, C …), so that what the machine does to
//! one round it does to all sides of a ratio; a row that fails is told and left out, never
//! printed with a number.
//!
//! Not here: the cells (`cells`), tables (`report`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::baseline::Way;
use crate::bed;
use crate::cells::{self, Pace, Plan};
use crate::environment::Environment;
use crate::folder::Folder;
use crate::report::{self, CellResult, Row};
use crate::ring::Method;
use crate::subject::Cell;

/// What `bench figures` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct FiguresArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rounds of each row
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each timed window
    #[arg(long, default_value_t = 3.0)]
    pub secs: f64,
    /// Only the cells whose name begins so (may be given more than once)
    #[arg(long, value_name = "CELL")]
    pub only: Vec<String>,
    /// Only the rows whose name begins so (may be given more than once); claims want their rivals
    #[arg(long, value_name = "ROW")]
    pub row: Vec<String>,
    /// How writes become durable, raw ones and the engine's; what the engine probes if not given
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// The rivals' way to the disk (may be given more than once)
    #[arg(long, value_enum, default_values = ["buffered", "direct"])]
    pub baseline: Vec<Way>,
    /// Size of each file prewritten for the floor and the rivals, MiB
    #[arg(long, default_value_t = 1024)]
    pub file_mib: u64,
    /// Size of Sapwood's prewritten segments, MiB; by default enough for the cell
    #[arg(long)]
    pub segment_mib: Option<u64>,
    /// Print JSON instead of text; with FILE, text here and JSON there
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub json: Option<Option<PathBuf>>,
}

/// Runs the cells, prints as each is done, and writes the JSON.
///
/// # Errors
/// When a cell cannot even begin, or the JSON cannot be written.
pub fn run(args: &FiguresArgs) -> Result<()> {
    ensure!(args.rounds > 0 && args.secs > 0.0, "rounds and secs must be above zero");
    let environment = Environment::of(&args.dir);
    let as_text = !matches!(args.json, Some(None));
    if as_text {
        print!("{environment}");
    }
    let method = bed::method_for(&args.dir, args.method)?;
    let results = chosen(args)?
        .into_iter()
        .map(|plan| {
            eprintln!("{}: {}", plan.name, plan.title);
            let result = run_plan(args, method, plan)?;
            if as_text {
                print!("\n{}", report::text(&result));
            }
            Ok(result)
        })
        .collect::<Result<Vec<_>>>()?;
    let Some(target) = &args.json else {
        return Ok(());
    };
    let cells: Vec<_> = results.iter().map(report::json).collect();
    let json = serde_json::json!({ "environment": environment, "method": method, "cells": cells });
    let text = serde_json::to_string_pretty(&json)?;
    match target {
        Some(path) => fs::write(path, text).with_context(|| format!("write {}", path.display())),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

fn chosen(args: &FiguresArgs) -> Result<Vec<Plan>> {
    let window = Duration::from_secs_f64(args.secs);
    let pace = Pace { warm_up: window.mul_f64(0.2).max(Duration::from_millis(300)), window };
    let mut plans = cells::all(pace, &args.baseline);
    if !args.only.is_empty() {
        let names: Vec<&str> = plans.iter().map(|plan| plan.name).collect();
        let unknown =
            args.only.iter().find(|only| !names.iter().any(|name| name.starts_with(only.as_str())));
        if let Some(only) = unknown {
            bail!("no cell {only}; there are {}", names.join(", "));
        }
        plans.retain(|plan| args.only.iter().any(|only| plan.name.starts_with(only.as_str())));
    }
    Ok(plans)
}

fn run_plan(args: &FiguresArgs, method: Method, plan: Plan) -> Result<CellResult> {
    let folder = Folder::fresh(&args.dir)?;
    let cell = Cell {
        name: plan.name,
        load: plan.load,
        dir: folder.path().to_owned(),
        method,
        file_bytes: args.file_mib << 20,
        segment_bytes: args.segment_mib.map_or(plan.segment_bytes, |mib| mib << 20),
    };
    let mut failures = Vec::new();
    let mut running = Vec::new();
    let wanted = |name: &str| args.row.iter().any(|row| name.starts_with(row.as_str()));
    for mut subject in plan.subjects {
        if !args.row.is_empty() && !wanted(subject.name()) {
            continue;
        }
        match subject.prepare(&cell) {
            Ok(()) => running.push((subject, Vec::new())),
            Err(error) => failures.push((subject.name().to_owned(), format!("{error:#}"))),
        }
    }
    for round in 0..args.rounds {
        running.retain_mut(|(subject, rounds)| {
            eprintln!("  round {} of {}: {}", round + 1, args.rounds, subject.name());
            match subject.run(&cell) {
                Ok(sample) => rounds.push(sample),
                Err(error) => {
                    failures.push((subject.name().to_owned(), format!("{error:#}")));
                    return false;
                }
            }
            true
        });
    }
    let rows: Vec<Row> = running
        .into_iter()
        .map(|(subject, rounds)| Row { name: subject.name().to_owned(), rounds })
        .collect();
    let outcomes = plan.claims.iter().map(|claim| report::judge(claim, &rows)).collect();
    let (name, title) = (plan.name.to_owned(), plan.title.to_owned());
    Ok(CellResult { name, title, rows, failures, outcomes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: FiguresArgs,
    }

    fn args(words: &[&str]) -> FiguresArgs {
        let words = std::iter::once("figures").chain(words.iter().copied());
        Program::try_parse_from(words).unwrap().args
    }

    #[test]
    fn only_chooses_by_beginning_and_refuses_what_is_not_there() {
        let plans = chosen(&args(&["--only", "blocked", "--only", "bulk"])).unwrap();
        let names: Vec<_> = plans.iter().map(|plan| plan.name).collect();
        assert_eq!(names, ["blocked-64", "blocked-256", "bulk"]);
        assert!(chosen(&args(&["--only", "nothing"])).is_err());
    }

    #[test]
    fn a_cell_runs_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("figures.json");
        let mut args = args(&["--only", "one-writer", "--rounds", "2", "--secs", "0.05"]);
        args.dir = dir.path().to_owned();
        args.file_mib = 8;
        args.segment_mib = Some(16);
        args.json = Some(Some(json.clone()));
        run(&args).unwrap();
        let text = fs::read_to_string(&json).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["cells"][0]["rows"][0]["name"], "floor");
        fs::remove_file(json).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
