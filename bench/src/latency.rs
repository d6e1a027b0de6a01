//! `bench latency`: one writer, each append waits, beside the floor of the device.
//!
//! Prints the two numbers that matter (p50 and its ratio to the floor) with the place they were
//! measured in; the full percentiles go into a page and JSON in `sapwood-bench/`.
//!
//! Invariants: rows take turns; data is in a fresh folder that is removed; the page stands alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed;
use crate::environment::Environment;
use crate::folder::Folder;
use crate::load::Load;
use crate::page;
use crate::report::{Row, number};
use crate::ring::Method;
use crate::sample::{Metric, Sample, histogram, over_rounds, ratio_over_rounds};
use crate::sapwood_rows::{Driven, Sapwood};
use crate::subject::{Cell, RawWrite, Segments, Subject};

/// Where page and JSON go, in the current folder.
const RESULTS: &str = "sapwood-bench";
/// Seconds of windows at most, so that the whole ends within a minute.
const SECONDS_MAX: f64 = 12.0;
/// Rounds of each row.
const ROUNDS: usize = 3;
/// Prewritten bytes under the floor: some seconds of small writes.
const FLOOR_BYTES: u64 = 64 << 20;

/// What `bench latency` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct LatencyArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Seconds measured for each row, over three rounds (12 at most)
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Payload bytes of a record
    #[arg(long, default_value_t = 128)]
    pub bytes: usize,
    /// How writes become durable, the floor's and the engine's; what the engine probes if not given
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Size of Sapwood's prewritten segments, MiB: as much as the longest run writes
    #[arg(long, default_value_t = 1024)]
    pub segment_mib: u64,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Measures, prints, writes page and JSON.
///
/// # Errors
/// When a row fails, or a result cannot be written.
pub fn run(args: &LatencyArgs) -> Result<()> {
    ensure!(args.secs > 0.0 && args.bytes > 0, "secs and bytes must be above zero");
    let environment = Environment::of(&args.dir);
    let method = bed::method_for(&args.dir, args.method)?;
    let rows = measure(args, method)?;
    let json = to_json(&environment, args.bytes, method, &rows);
    let text = serde_json::to_string_pretty(&json)?;
    let results = Path::new(RESULTS);
    fs::create_dir_all(results).context("make sapwood-bench/")?;
    let page_path = results.join("latency.html");
    fs::write(results.join("latency.json"), &text).context("write latency.json")?;
    let page = page::render(&environment, args.bytes, &rows);
    fs::write(&page_path, page).context("write latency.html")?;
    if args.json {
        println!("{text}");
    } else {
        print!("{}", summary(&environment, &rows));
        println!("page: {}", page_path.display());
    }
    Ok(())
}

fn subjects() -> Vec<Box<dyn Subject>> {
    let floor = RawWrite { name: "floor", depth: 1, method: None };
    let sapwood = Sapwood::new(Segments::Prewritten);
    vec![Box::new(floor), Box::new(sapwood), Box::new(Driven::default())]
}

fn measure(args: &LatencyArgs, method: Method) -> Result<Vec<Row>> {
    let folder = Folder::fresh(&args.dir)?;
    let window = Duration::from_secs_f64(args.secs.min(SECONDS_MAX) / ROUNDS as f64);
    let load = Load {
        threads: 1,
        outstanding: 1,
        record_bytes: args.bytes,
        records: 1,
        rate: None,
        warm_up: window.mul_f64(0.2),
        window,
    };
    let cell = Cell {
        name: "latency",
        load,
        dir: folder.path().to_owned(),
        method,
        file_bytes: FLOOR_BYTES,
        segment_bytes: args.segment_mib << 20,
    };
    let mut running = Vec::new();
    for mut subject in subjects() {
        subject.prepare(&cell).with_context(|| format!("prepare {}", subject.name()))?;
        let row = Row { name: subject.name().to_owned(), rounds: Vec::new() };
        running.push((subject, row));
    }
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for (subject, row) in &mut running {
            let sample = subject.run(&cell).with_context(|| format!("run {}", row.name))?;
            row.rounds.push(sample);
        }
    }
    Ok(running.into_iter().map(|(_, row)| row).collect())
}

fn summary(environment: &Environment, rows: &[Row]) -> String {
    let mut out = environment.to_string();
    out.push('\n');
    let floor = rows.first().map(|row| &row.rounds[..]).unwrap_or_default();
    for row in rows {
        let value = |metric| {
            let median = over_rounds(&row.rounds, metric).map(|spread| number(spread.median));
            median.unwrap_or_else(|| "-".to_owned())
        };
        let ratio =
            ratio_over_rounds(&row.rounds, floor, Metric::P50).map_or_else(String::new, |ratio| {
                let (middle, min, max) =
                    (number(ratio.median), number(ratio.min), number(ratio.max));
                format!("{middle} x the floor ({min}-{max})")
            });
        let percentiles = [Metric::P50, Metric::P99, Metric::P999].map(value).join(" / ");
        let cpu = value(Metric::Cpu);
        let name = &row.name;
        out.push_str(&format!(
            "{name:<16}p50 / p99 / p99.9 {percentiles} us, CPU {cpu} us, {ratio}\n"
        ));
    }
    out
}

/// The percentiles that JSON and page show: a nine more at a time.
pub(crate) const QUANTILES: [f64; 8] = [0.0, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// All rounds of a row in one histogram.
pub(crate) fn merged(row: &Row) -> hdrhistogram::Histogram<u64> {
    let mut all = histogram();
    for sample in &row.rounds {
        // Same bounds, so it cannot be refused.
        let _ = all.add(&sample.latency);
    }
    all
}

fn to_json(
    environment: &Environment,
    payload_bytes: usize,
    method: Method,
    rows: &[Row],
) -> serde_json::Value {
    let floor = rows.first().map(|row| &row.rounds[..]).unwrap_or_default();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let all = merged(row);
            let percentiles: Vec<_> = QUANTILES
                .iter()
                .map(|quantile| (quantile * 100.0, all.value_at_quantile(*quantile) as f64 / 1e3))
                .collect();
            let median = |metric| over_rounds(&row.rounds, metric);
            serde_json::json!({
                "name": row.name,
                "p50_us": median(Metric::P50), "p99_us": median(Metric::P99),
                "p999_us": median(Metric::P999), "cpu_us": median(Metric::Cpu),
                "p50_to_floor": ratio_over_rounds(&row.rounds, floor, Metric::P50),
                "operations": row.rounds.iter().map(|round: &Sample| round.operations).sum::<u64>(),
                "percentiles_us": percentiles,
            })
        })
        .collect();
    serde_json::json!({
        "environment": environment, "payload_bytes": payload_bytes, "method": method,
        "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_turns_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let args = LatencyArgs {
            dir: dir.path().to_owned(),
            secs: 0.15,
            bytes: 128,
            method: Some(Method::Dsync),
            segment_mib: 16,
            json: false,
        };
        let rows = measure(&args, Method::Dsync).unwrap();
        assert!(rows.iter().all(|row| row.rounds.len() == ROUNDS));
        let environment = Environment::of(dir.path());
        let text = summary(&environment, &rows);
        assert!(text.contains("floor") && text.contains("1 x the floor (1-1)"), "{text}");
        let json = to_json(&environment, args.bytes, Method::Dsync, &rows);
        assert!(json["rows"][0]["p50_us"]["median"].as_f64().unwrap() > 0.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
