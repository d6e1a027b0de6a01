//! A scenario: its cells run one after the other, told as text, page, JSON and histograms.
//!
//! Invariants: rows of a cell take turns (A, B, C, A, B, C …), so that what the machine does to
//! one round it does to all sides of a ratio; a row that fails is told and left out, never
//! printed with a number; data is in a fresh folder that is removed.
//!
//! Not here: which cells a scenario has (`cells`, `rivals`), tables (`report`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::baseline::Way;
use crate::bed;
use crate::cells::{Pace, Plan};
use crate::compare;
use crate::environment::Environment;
use crate::folder::Folder;
use crate::hgrm;
use crate::live::Live;
use crate::page::{self, Page};
use crate::report::{self, CellResult, Row};
use crate::ring::Method;
use crate::subject::Cell;

/// Where pages, JSON and histograms go, in the current folder.
pub const RESULTS: &str = "sapwood-bench";

/// What every scenario can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ScenarioArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rounds of each row
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each timed window
    #[arg(long, default_value_t = 3.0)]
    pub secs: f64,
    /// What was made of it and how
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What every scenario can be told beside its pace.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Only the cells whose name begins so (may be given more than once)
    #[arg(long, value_name = "CELL")]
    pub only: Vec<String>,
    /// Only the rows whose name begins so (may be given more than once); claims want their rivals
    #[arg(long, value_name = "ROW")]
    pub row: Vec<String>,
    /// How writes become durable, raw ones and the engine's; what the engine probes if not given
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// The baseline's way to the disk (may be given more than once)
    #[arg(long, value_enum, default_values = ["buffered", "direct"])]
    pub baseline: Vec<Way>,
    /// Size of each file prewritten for the floor and the baseline, MiB
    #[arg(long, default_value_t = 1024)]
    pub file_mib: u64,
    /// Size of Sapwood's prewritten segments, MiB; by default enough for the cell
    #[arg(long)]
    pub segment_mib: Option<u64>,
    /// Print JSON instead of text; with FILE, text here and JSON there
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub json: Option<Option<PathBuf>>,
    /// Compare with the JSON of an earlier run; fails when anything got worse by the threshold
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Worse by so many percent is worse: rate, p50 and CPU; twice that for p99 and p99.9
    #[arg(long, default_value_t = 15.0, value_name = "PERCENT")]
    pub threshold: f64,
    /// Folder for page, JSON and histograms
    #[arg(long, default_value = RESULTS, value_name = "DIR")]
    pub out: PathBuf,
}

/// Name, and the question that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// In one sentence or two.
    pub question: &'static str,
}

impl ScenarioArgs {
    /// The pace asked for.
    ///
    /// # Errors
    /// When there would be nothing to measure.
    pub fn pace(&self) -> Result<Pace> {
        ensure!(self.rounds > 0 && self.secs > 0.0, "rounds and secs must be above zero");
        let window = Duration::from_secs_f64(self.secs);
        Ok(Pace { warm_up: window.mul_f64(0.2).max(Duration::from_millis(300)), window })
    }
}

/// Runs the cells, prints as each is done, writes page, JSON and histograms.
///
/// # Errors
/// When a cell cannot even begin, a result cannot be written, or the comparison failed.
pub fn run(scenario: Scenario, args: &ScenarioArgs, plans: Vec<Plan>) -> Result<()> {
    ensure!(args.rounds > 0 && args.secs > 0.0, "rounds and secs must be above zero");
    let common = &args.common;
    let old = common.compare.as_deref().map(compare::load).transpose()?;
    let environment = Environment::of(&args.dir);
    let as_text = !matches!(common.json, Some(None));
    if as_text {
        print!("{environment}");
    }
    let method = bed::method_for(&args.dir, common.method)?;
    let plans = chosen(common, plans)?;
    let mut live = Live::over(plans.iter().map(|plan| plan.subjects.len() * args.rounds).sum());
    let mut cells = Vec::new();
    for plan in plans {
        live.cell(plan.name, &plan.title);
        let alone = command_for(plan.name);
        let result = run_plan(args, method, plan, &mut live)?;
        if as_text {
            live.aside(|| print!("\n{}", report::text(&result)));
        }
        cells.push((result, alone));
    }
    live.end();
    let told: Vec<_> = cells.iter().map(|(cell, _)| report::json(cell)).collect();
    let json = serde_json::json!({
        "scenario": scenario.name, "command": command(), "environment": environment,
        "method": method, "cells": told,
    });
    let page = Page {
        name: scenario.name,
        question: scenario.question,
        command: &command(),
        environment: &environment,
        cells: &cells,
    };
    write(args, &page, &json, as_text)?;
    old.map_or(Ok(()), |old| compare::judge(&old, &json, common.threshold, as_text))
}

fn write(
    args: &ScenarioArgs,
    page: &Page<'_>,
    json: &serde_json::Value,
    as_text: bool,
) -> Result<()> {
    let (out, name) = (&args.common.out, page.name);
    let histograms = out.join(name);
    fs::create_dir_all(&histograms).with_context(|| format!("make {}", histograms.display()))?;
    let text = serde_json::to_string_pretty(json)?;
    let put = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    };
    let (html, data) = (out.join(format!("{name}.html")), out.join(format!("{name}.json")));
    put(&html, &page::render(page)?)?;
    put(&data, &text)?;
    for (cell, _) in page.cells {
        for row in &cell.rows {
            let all = row.merged();
            if !all.is_empty() {
                let file = format!("{}.{}.hgrm", cell.name, hgrm::file_name(&row.name));
                put(&histograms.join(file), &hgrm::render(&all))?;
            }
        }
    }
    match &args.common.json {
        Some(None) => println!("{text}"),
        Some(Some(path)) => put(path, &text)?,
        None => {}
    }
    if as_text {
        println!("\npage: {}  (JSON and histograms beside it)", html.display());
    }
    Ok(())
}

/// The command line of this process, as one types it.
fn command() -> String {
    let quoted = |word: String| {
        let plain = |c: char| c.is_alphanumeric() || "-_./=,:".contains(c);
        let word_is_plain = !word.is_empty() && word.chars().all(plain);
        if word_is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("sapwood".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The same for one of its cells.
fn command_for(cell: &str) -> String {
    format!("{} --only {cell}", command())
}

fn chosen(common: &CommonArgs, mut plans: Vec<Plan>) -> Result<Vec<Plan>> {
    if !common.only.is_empty() {
        let names: Vec<&str> = plans.iter().map(|plan| plan.name).collect();
        let unknown = common
            .only
            .iter()
            .find(|only| !names.iter().any(|name| name.starts_with(only.as_str())));
        if let Some(only) = unknown {
            bail!("no cell {only}; there are {}", names.join(", "));
        }
        plans.retain(|plan| common.only.iter().any(|only| plan.name.starts_with(only.as_str())));
    }
    Ok(plans)
}

fn run_plan(
    args: &ScenarioArgs,
    method: Method,
    plan: Plan,
    live: &mut Live,
) -> Result<CellResult> {
    let folder = Folder::fresh(&args.dir)?;
    let cell = Cell {
        name: plan.name,
        load: plan.load,
        dir: folder.path().to_owned(),
        method,
        file_bytes: args.common.file_mib << 20,
        segment_bytes: args.common.segment_mib.map_or(plan.segment_bytes, |mib| mib << 20),
    };
    let mut failures = Vec::new();
    let mut running = Vec::new();
    let wanted = |name: &str| args.common.row.iter().any(|row| name.starts_with(row.as_str()));
    for mut subject in plan.subjects {
        if !args.common.row.is_empty() && !wanted(subject.name()) {
            live.skip(args.rounds);
            continue;
        }
        live.preparing(subject.name());
        match subject.prepare(&cell) {
            Ok(()) => running.push((subject, Vec::new())),
            Err(error) => failures.push((subject.name().to_owned(), format!("{error:#}"))),
        }
    }
    for round in 0..args.rounds {
        running.retain_mut(|(subject, rounds)| {
            live.running(round + 1, args.rounds, subject.name());
            match subject.run(&cell) {
                Ok(sample) => {
                    live.done(subject.name(), &sample);
                    rounds.push(sample);
                    true
                }
                Err(error) => {
                    live.skip(args.rounds - round);
                    failures.push((subject.name().to_owned(), format!("{error:#}")));
                    false
                }
            }
        });
    }
    let rows: Vec<Row> = running
        .into_iter()
        .map(|(subject, rounds)| Row { name: subject.name().to_owned(), rounds })
        .collect();
    let outcomes = plan.claims.iter().map(|claim| report::judge(claim, &rows)).collect();
    Ok(CellResult { name: plan.name.to_owned(), title: plan.title, rows, failures, outcomes })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cells;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: ScenarioArgs,
    }

    pub(crate) fn args(words: &[&str]) -> ScenarioArgs {
        let words = std::iter::once("scenario").chain(words.iter().copied());
        Program::try_parse_from(words).unwrap().args
    }

    fn figures(args: &ScenarioArgs) -> Vec<Plan> {
        cells::all(args.pace().unwrap(), &args.common.baseline)
    }

    #[test]
    fn only_chooses_by_beginning_and_refuses_what_is_not_there() {
        let wanted = args(&["--only", "blocked", "--only", "bulk"]);
        let plans = chosen(&wanted.common, figures(&wanted)).unwrap();
        let names: Vec<_> = plans.iter().map(|plan| plan.name).collect();
        assert_eq!(names, ["blocked-64", "blocked-256", "bulk"]);
        let unknown = args(&["--only", "nothing"]);
        assert!(chosen(&unknown.common, figures(&unknown)).is_err());
    }

    #[test]
    fn a_cell_runs_whole_and_leaves_page_json_and_histograms() {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("data"), dir.path().join("out"));
        fs::create_dir(&data).unwrap();
        let mut args = args(&["--only", "one-writer", "--rounds", "2", "--secs", "0.05"]);
        args.dir = data.clone();
        args.common.file_mib = 8;
        args.common.segment_mib = Some(16);
        args.common.out = out.clone();
        let scenario = Scenario { name: "figures", question: "Does it run?" };
        run(scenario, &args, figures(&args)).unwrap();
        let json = out.join("figures.json");
        let value: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let rows = value["cells"][0]["rows"].as_array().unwrap();
        assert_eq!(rows[0]["name"], "floor");
        let ours = rows.iter().find(|row| row["name"] == "sapwood").unwrap();
        assert!(ours["rounds"][0]["verified"].as_u64().unwrap() > 0, "what was written was read");
        assert!(ours["rounds"][0]["stages_us"]["device"]["p50"].as_f64().unwrap() > 0.0);
        assert!(fs::read_to_string(out.join("figures.html")).unwrap().contains("<svg"));
        let histogram = fs::read_to_string(out.join("figures/one-writer.sapwood.hgrm")).unwrap();
        assert!(histogram.contains("#[Max"));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "data is removed");

        // The same machine a moment later is no worse by a thousandfold, and worse than nothing.
        args.common.compare = Some(json);
        args.common.threshold = 1e5;
        run(scenario, &args, figures(&args)).unwrap();
        args.common.threshold = -1e5;
        assert!(run(scenario, &args, figures(&args)).is_err());
    }
}
