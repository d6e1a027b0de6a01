//! Results as a text table and as JSON.
//!
//! Invariants: a claim is judged by the median of ratios taken round by round; the spread stands
//! beside it; the rival of a claim is the *best* of the rows whose name begins as it says.
//!
//! Not here: what is claimed (`cells`), the page with the plots (`page`).

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::sample::{Metric, Sample, Spread, Stages, histogram, over_rounds, ratio_over_rounds};

/// What a claim has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

/// One sentence that the figures are to prove or disprove.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The row it is about.
    pub subject: &'static str,
    /// The number.
    pub metric: Metric,
    /// Beginning of the names of the rows it is compared with; none: the number itself.
    pub against: Option<&'static str>,
    /// What it has to reach.
    pub goal: Goal,
    /// The line below which the work is not done, where there is one.
    pub line: Option<Goal>,
}

/// How a claim came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In every round.
    Met,
    /// By the median, not in every round.
    MetByMedian,
    /// Not by the median.
    Missed,
    /// A row was absent or has no such number.
    NotMeasured,
}

impl Verdict {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::MetByMedian => "met by median",
            Verdict::Missed => "MISSED",
            Verdict::NotMeasured => "not measured",
        }
    }
}

impl Goal {
    fn judge(self, spread: Spread) -> Verdict {
        let (worst, holds): (f64, fn(f64, f64) -> bool) = match self {
            Goal::AtLeast(_) => (spread.min, |value, bound| value >= bound),
            Goal::AtMost(_) => (spread.max, |value, bound| value <= bound),
        };
        let (Goal::AtLeast(bound) | Goal::AtMost(bound)) = self;
        match (holds(spread.median, bound), holds(worst, bound)) {
            (true, true) => Verdict::Met,
            (true, false) => Verdict::MetByMedian,
            (false, _) => Verdict::Missed,
        }
    }

    pub(crate) fn label(self) -> String {
        match self {
            Goal::AtLeast(bound) => format!(">= {}", number(bound)),
            Goal::AtMost(bound) => format!("<= {}", number(bound)),
        }
    }
}

/// All rounds of one row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the subject.
    pub name: String,
    /// Its rounds, in order.
    pub rounds: Vec<Sample>,
}

impl Row {
    /// All rounds in one histogram.
    #[must_use]
    pub fn merged(&self) -> Histogram<u64> {
        let mut all = histogram();
        for sample in &self.rounds {
            // Same bounds, so it cannot be refused.
            let _ = all.add(&sample.latency);
        }
        all
    }

    /// Records that were read back after its rounds, where they were.
    #[must_use]
    pub fn verified(&self) -> Option<u64> {
        self.rounds.iter().map(|round| round.verified).sum()
    }
}

/// A claim with its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The row it is about.
    pub subject: String,
    /// The number.
    pub metric: Metric,
    /// The row it was compared with, if any.
    pub against: Option<String>,
    /// Ratio, or the number itself.
    pub value: Option<Spread>,
    /// What it had to reach.
    pub goal: Goal,
    /// How it came out.
    pub verdict: Verdict,
    /// The line below which the work is not done, and how that came out.
    pub line: Option<(Goal, Verdict)>,
}

/// One cell with all its rows and claims.
#[derive(Clone, Debug)]
pub struct CellResult {
    /// Name of the cell.
    pub name: String,
    /// What it asks, in words.
    pub title: String,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Rows that could not run, and why.
    pub failures: Vec<(String, String)>,
    /// Its claims, judged.
    pub outcomes: Vec<Outcome>,
}

/// Judges `claim` over the rows of its cell.
#[must_use]
pub fn judge(claim: &Claim, rows: &[Row]) -> Outcome {
    let ours = rows.iter().find(|row| row.name == claim.subject);
    let rival = claim.against.and_then(|begin| best(rows, begin, claim));
    let value = ours.and_then(|ours| match claim.against {
        None => over_rounds(&ours.rounds, claim.metric),
        Some(_) => ratio_over_rounds(&ours.rounds, &rival?.rounds, claim.metric),
    });
    let judged = |goal: Goal| value.map_or(Verdict::NotMeasured, |spread| goal.judge(spread));
    Outcome {
        subject: claim.subject.to_owned(),
        metric: claim.metric,
        against: rival.map(|row| row.name.clone()).or(claim.against.map(str::to_owned)),
        value,
        goal: claim.goal,
        verdict: judged(claim.goal),
        line: claim.line.map(|line| (line, judged(line))),
    }
}

fn best<'a>(rows: &'a [Row], begin: &str, claim: &Claim) -> Option<&'a Row> {
    let median = |row: &Row| over_rounds(&row.rounds, claim.metric).map(|spread| spread.median);
    let named = rows.iter().filter(|row| row.name.starts_with(begin) && row.name != claim.subject);
    let known = named.filter_map(|row| median(row).map(|median| (median, row)));
    let order = |a: &(f64, &Row), b: &(f64, &Row)| a.0.total_cmp(&b.0);
    match claim.goal {
        Goal::AtLeast(_) => known.max_by(order),
        Goal::AtMost(_) => known.min_by(order),
    }
    .map(|(_, row)| row)
}

/// The columns of the table of measurements; those that no row has are left out.
pub(crate) const COLUMNS: [Metric; 13] = [
    Metric::Rate,
    Metric::Bandwidth,
    Metric::P50,
    Metric::P99,
    Metric::P999,
    Metric::P9999,
    Metric::Max,
    Metric::Cpu,
    Metric::Switches,
    Metric::Writes,
    Metric::Flushes,
    Metric::Amplification,
    Metric::Rss,
];

/// The percentiles that JSON and page show: a nine more at a time.
pub(crate) const QUANTILES: [f64; 8] = [0.0, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// How a percentile is called.
pub(crate) fn quantile_name(quantile: f64) -> String {
    match quantile {
        0.0 => "least".to_owned(),
        1.0 => "most".to_owned(),
        _ => format!("p{}", (quantile * 1e6).round() / 1e4),
    }
}

/// Indices of the columns that any of the rows has a number for.
pub(crate) fn used(rows: &[Row]) -> Vec<usize> {
    let any = |metric| rows.iter().any(|row| over_rounds(&row.rounds, metric).is_some());
    (0..COLUMNS.len()).filter(|column| any(COLUMNS[*column])).collect()
}

/// The cell as text: its measurements (medians), then its claims.
#[must_use]
pub fn text(cell: &CellResult) -> String {
    let columns = used(&cell.rows);
    let floor = cell.rows.iter().find(|row| row.name == "floor");
    let mut lines = vec![header(&columns, floor.is_some())];
    lines.extend(cell.rows.iter().map(|row| measurements(row, &columns, floor)));
    let mut out = format!("== {}: {}\n{}", cell.name, cell.title, align(&lines));
    for row in &cell.rows {
        if let Some(records) = row.verified() {
            let _ = writeln!(out, "{}: {records} records read back, whole and in order", row.name);
        }
    }
    for (name, reason) in &cell.failures {
        let _ = writeln!(out, "{name}: did not run: {reason}");
    }
    if !cell.outcomes.is_empty() {
        let titles = ["claim", "median", "min-max", "goal", "verdict", "line", "verdict"];
        let mut lines = vec![titles.map(str::to_owned).to_vec()];
        lines.extend(cell.outcomes.iter().map(verdict));
        out.push_str(&align(&lines));
    }
    out
}

fn header(columns: &[usize], has_floor: bool) -> Vec<String> {
    let mut all = vec!["median of rounds".to_owned()];
    all.extend(columns.iter().map(|column| COLUMNS[*column].label().to_owned()));
    if has_floor {
        all.push("p50/floor".to_owned());
    }
    all
}

fn measurements(row: &Row, columns: &[usize], floor: Option<&Row>) -> Vec<String> {
    let median = |spread: Option<Spread>| {
        spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median))
    };
    let value = |column: &usize| median(over_rounds(&row.rounds, COLUMNS[*column]));
    let mut all = vec![row.name.clone()];
    all.extend(columns.iter().map(value));
    if let Some(floor) = floor {
        all.push(median(ratio_over_rounds(&row.rounds, &floor.rounds, Metric::P50)));
    }
    all
}

/// What a claim is about, in words.
pub(crate) fn claim_text(outcome: &Outcome) -> String {
    let label = outcome.metric.label();
    match &outcome.against {
        Some(rival) => format!("{} / {rival}, {label}", outcome.subject),
        None => format!("{}, {label}", outcome.subject),
    }
}

fn verdict(outcome: &Outcome) -> Vec<String> {
    let dash = || "-".to_owned();
    let ends = |spread: Spread| format!("{}-{}", number(spread.min), number(spread.max));
    vec![
        claim_text(outcome),
        outcome.value.map_or_else(dash, |spread| number(spread.median)),
        outcome.value.map_or_else(dash, ends),
        outcome.goal.label(),
        outcome.verdict.label().to_owned(),
        outcome.line.map_or_else(String::new, |(line, _)| line.label()),
        outcome.line.map_or_else(String::new, |(_, verdict)| verdict.label().to_owned()),
    ]
}

/// A number with as many digits as it deserves.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100_000.0 => format!("{:.0}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// Lines of cells as columns: the first to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

/// The cell as JSON: every metric of every round, and the claims.
#[must_use]
pub fn json(cell: &CellResult) -> serde_json::Value {
    let round = |sample: &Sample| {
        let numbers: serde_json::Map<_, _> = COLUMNS
            .into_iter()
            .filter_map(|metric| Some((metric.label().to_owned(), sample.get(metric)?.into())))
            .collect();
        serde_json::json!({
            "operations": sample.operations, "bytes": sample.bytes, "cost": sample.cost,
            "numbers": numbers, "verified": sample.verified, "slices": sample.slices,
            "stages_us": sample.stages.as_ref().map(stages_json),
        })
    };
    let floor = cell.rows.iter().find(|row| row.name == "floor");
    let row = |row: &Row| {
        let all = row.merged();
        let us = |quantile: &f64| all.value_at_quantile(*quantile) as f64 / 1000.0;
        let percentiles: serde_json::Map<_, _> = QUANTILES
            .iter()
            .map(|quantile| (quantile_name(*quantile), us(quantile).into()))
            .collect();
        let ratio =
            floor.and_then(|floor| ratio_over_rounds(&row.rounds, &floor.rounds, Metric::P50));
        serde_json::json!({
            "name": row.name, "rounds": row.rounds.iter().map(round).collect::<Vec<_>>(),
            "percentiles_us": percentiles, "p50_to_floor": ratio,
        })
    };
    let rows: Vec<_> = cell.rows.iter().map(row).collect();
    serde_json::json!({
        "name": cell.name, "title": cell.title, "rows": rows,
        "failures": cell.failures, "claims": cell.outcomes,
    })
}

fn stages_json(stages: &Stages) -> serde_json::Value {
    let of = |(name, histogram): (&str, &sapwood::Histogram)| {
        let us = |percent| histogram.percentile(percent) as f64 / 1000.0;
        let numbers = serde_json::json!({
            "p50": us(50.0), "p99": us(99.0), "p999": us(99.9), "p9999": us(99.99),
            "most": histogram.max() as f64 / 1000.0,
        });
        (name.to_owned(), numbers)
    };
    stages.named().into_iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::sample;

    fn rows() -> Vec<Row> {
        let row = |name: &str, counts: [u64; 3]| Row {
            name: name.to_owned(),
            rounds: counts.iter().map(|count| sample(*count, &[*count, 2 * count])).collect(),
        };
        vec![
            row("sapwood", [150, 160, 120]),
            row("baseline-direct", [100, 100, 100]),
            row("baseline-buffered", [50, 200, 60]),
        ]
    }

    fn claim(goal: Goal) -> Claim {
        Claim {
            subject: "sapwood",
            metric: Metric::Rate,
            against: Some("baseline"),
            goal,
            line: Some(Goal::AtLeast(1.0)),
        }
    }

    #[test]
    fn the_rival_is_the_best_of_its_kind() {
        let outcome = judge(&claim(Goal::AtLeast(1.2)), &rows());
        assert_eq!(outcome.against.as_deref(), Some("baseline-direct"));
        assert_eq!(outcome.value.unwrap().median, 1.5);
        assert_eq!(outcome.verdict, Verdict::Met);
        assert_eq!(outcome.line, Some((Goal::AtLeast(1.0), Verdict::Met)));
        let least = judge(&claim(Goal::AtMost(9.0)), &rows());
        assert_eq!(least.against.as_deref(), Some("baseline-buffered"), "least is best there");
    }

    #[test]
    fn a_verdict_knows_the_rounds() {
        assert_eq!(judge(&claim(Goal::AtLeast(1.4)), &rows()).verdict, Verdict::MetByMedian);
        assert_eq!(judge(&claim(Goal::AtLeast(1.7)), &rows()).verdict, Verdict::Missed);
        let absent = Claim { subject: "driven", ..claim(Goal::AtLeast(1.0)) };
        assert_eq!(judge(&absent, &rows()).verdict, Verdict::NotMeasured);
        let own = Claim { against: None, ..claim(Goal::AtLeast(75.0)) };
        assert_eq!(judge(&own, &rows()).value.unwrap().median, 75.0);
    }

    #[test]
    fn the_table_lines_up_and_the_json_has_every_round() {
        let rows = rows();
        let outcomes = vec![judge(&claim(Goal::AtLeast(1.2)), &rows)];
        let cell = CellResult {
            name: "cell".into(),
            title: "words".into(),
            rows,
            failures: vec![("other".into(), "reason".into())],
            outcomes,
        };
        let text = text(&cell);
        assert!(text.contains("sapwood / baseline-direct, ops/s"), "{text}");
        assert!(text.contains("other: did not run: reason"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].find("ops/s").unwrap() + 5, lines[2].find("75.0").unwrap() + 4);
        assert_eq!(json(&cell)["rows"][0]["rounds"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn numbers_have_the_digits_they_deserve() {
        let all = [0.0, 1.5, 12.34, 640.2, 187_345.0].map(number);
        assert_eq!(all, ["0", "1.5", "12.3", "640", "187k"]);
    }
}
