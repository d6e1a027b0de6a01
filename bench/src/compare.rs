//! `--compare old.json`: what got worse since an earlier run, as an exit code.
//!
//! Where both runs have a floor, latencies are compared as multiples of it: a slower disk is no
//! regression.
//!
//! Invariants: only what both runs have is compared, and that there is something is demanded.
//!
//! Not here: the numbers (`report`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::report::number;
use crate::sample::{Metric, spread};

/// What is compared: whether more is better, how many thresholds it may lose, whether a floor
/// measures it.
const COMPARED: [(Metric, bool, f64, bool); 6] = [
    (Metric::Rate, true, 1.0, false),
    (Metric::Bandwidth, true, 1.0, false),
    (Metric::P50, false, 1.0, true),
    (Metric::P99, false, 2.0, true),
    (Metric::P999, false, 2.0, true),
    (Metric::Cpu, false, 1.0, false),
];

/// One number of both runs.
#[derive(Debug)]
struct Change {
    what: String,
    old: f64,
    new: f64,
    /// How much worse, percent; below zero it is better.
    worse: f64,
    allowed: f64,
}

/// The JSON of an earlier run.
///
/// # Errors
/// When it cannot be read, or is something else.
pub(crate) fn load(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    ensure!(value["cells"].is_array(), "{} is no result of a scenario", path.display());
    Ok(value)
}

/// Compares, prints what changed, and fails when something got worse.
///
/// # Errors
/// When something got worse, or nothing could be compared.
pub(crate) fn judge(old: &Value, new: &Value, threshold: f64, print: bool) -> Result<()> {
    let changes = changes(old, new, threshold);
    ensure!(!changes.is_empty(), "the runs have nothing in common to compare");
    let worse: Vec<&Change> =
        changes.iter().filter(|change| change.worse > change.allowed).collect();
    if print {
        println!(
            "\ncompared with the run before: {} numbers, {} worse",
            changes.len(),
            worse.len()
        );
    }
    for Change { what, old, new, worse, allowed } in &worse {
        let (old, new) = (number(*old), number(*new));
        eprintln!("worse: {what}: {old} to {new}, by {worse:.0} % (allowed {allowed:.0} %)");
    }
    if worse.is_empty() { Ok(()) } else { bail!("{} numbers got worse", worse.len()) }
}

fn changes(old: &Value, new: &Value, threshold: f64) -> Vec<Change> {
    let mut changes = Vec::new();
    for cell in list(&new["cells"]) {
        let Some(before) = named(&old["cells"], &cell["name"]) else { continue };
        let floors =
            named(&before["rows"], &"floor".into()).zip(named(&cell["rows"], &"floor".into()));
        for row in list(&cell["rows"]).filter(|row| row["name"] != "floor") {
            let Some(was) = named(&before["rows"], &row["name"]) else { continue };
            for (metric, more_is_better, thresholds, floored) in COMPARED {
                let (mut old, mut new) = (median(was, metric), median(row, metric));
                if let (true, Some((then, now))) = (floored, floors) {
                    old = old.zip(median(then, Metric::P50)).map(|(value, floor)| value / floor);
                    new = new.zip(median(now, Metric::P50)).map(|(value, floor)| value / floor);
                }
                let Some((old, new)) = old.zip(new).filter(|(old, new)| *old > 0.0 && *new > 0.0)
                else {
                    continue;
                };
                let ratio = if more_is_better { old / new } else { new / old };
                let unit = if floored && floors.is_some() { " by the floor's p50" } else { "" };
                let names = [&cell["name"], &row["name"]].map(|name| name.as_str().unwrap_or("?"));
                let what = format!("{}, {}, {}{unit}", names[0], names[1], metric.label());
                let (worse, allowed) = ((ratio - 1.0) * 100.0, thresholds * threshold);
                changes.push(Change { what, old, new, worse, allowed });
            }
        }
    }
    changes
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn named<'a>(values: &'a Value, name: &Value) -> Option<&'a Value> {
    list(values).find(|value| value["name"] == *name)
}

fn median(row: &Value, metric: Metric) -> Option<f64> {
    let rounds: Option<Vec<f64>> =
        list(&row["rounds"]).map(|round| round["numbers"][metric.label()].as_f64()).collect();
    spread(&rounds?).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(floor: f64, p50: f64, rate: f64) -> Value {
        let row = |name: &str, p50: f64| {
            let numbers = json!({ "p50 us": p50, "ops/s": rate });
            json!({ "name": name, "rounds": [{ "numbers": numbers }] })
        };
        json!({ "cells": [{ "name": "c", "rows": [row("floor", floor), row("sapwood", p50)] }] })
    }

    #[test]
    fn worse_fails_better_and_a_slower_disk_do_not() {
        let old = run(100.0, 110.0, 1000.0);
        assert!(judge(&old, &run(100.0, 120.0, 1000.0), 15.0, false).is_ok());
        let error = judge(&old, &run(100.0, 130.0, 1000.0), 15.0, false).unwrap_err();
        assert_eq!(error.to_string(), "1 numbers got worse");
        assert!(judge(&old, &run(200.0, 230.0, 1000.0), 15.0, false).is_ok(), "a slower disk");
        assert!(judge(&old, &run(100.0, 110.0, 800.0), 15.0, false).is_err(), "a lower rate");
        assert!(judge(&old, &run(100.0, 50.0, 2000.0), 15.0, false).is_ok());
    }

    #[test]
    fn runs_without_anything_in_common_are_refused() {
        let other = json!({ "cells": [{ "name": "d", "rows": [] }] });
        assert!(judge(&run(1.0, 1.0, 1.0), &other, 15.0, false).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        fs::write(&path, "{}").unwrap();
        assert!(load(&path).is_err());
    }
}
