//! Results as a text table and as JSON.
//!
//! Invariants: a claim is judged by the median of ratios taken round by round; the spread stands
//! beside it; the rival of a claim is the *best* of the rows whose name begins as it says.
//!
//! Not here: what is claimed (`cells`), the page with the plot (`page`).

use std::fmt::Write as _;

use serde::Serialize;

use crate::sample::{Metric, Sample, Spread, over_rounds, ratio_over_rounds};

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

    fn label(self) -> String {
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

/// The columns of the table of measurements.
const COLUMNS: [Metric; 9] = [
    Metric::Rate,
    Metric::Bandwidth,
    Metric::P50,
    Metric::P99,
    Metric::P999,
    Metric::Cpu,
    Metric::Switches,
    Metric::Flushes,
    Metric::Rss,
];

/// The cell as text: its measurements (medians), then its claims.
#[must_use]
pub fn text(cell: &CellResult) -> String {
    let mut lines = vec![header()];
    lines.extend(cell.rows.iter().map(measurements));
    let mut out = format!("== {}: {}\n{}", cell.name, cell.title, align(&lines));
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

fn header() -> Vec<String> {
    let first = "median of rounds".to_owned();
    std::iter::once(first).chain(COLUMNS.iter().map(|metric| metric.label().to_owned())).collect()
}

fn measurements(row: &Row) -> Vec<String> {
    let value = |metric: &Metric| {
        let spread = over_rounds(&row.rounds, *metric);
        spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median))
    };
    std::iter::once(row.name.clone()).chain(COLUMNS.iter().map(value)).collect()
}

fn verdict(outcome: &Outcome) -> Vec<String> {
    let label = outcome.metric.label();
    let claim = match &outcome.against {
        Some(rival) => format!("{} / {rival}, {label}", outcome.subject),
        None => format!("{}, {label}", outcome.subject),
    };
    let dash = || "-".to_owned();
    let ends = |spread: Spread| format!("{}-{}", number(spread.min), number(spread.max));
    vec![
        claim,
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
    let all = COLUMNS.into_iter().chain([Metric::Amplification]);
    let round = |sample: &Sample| {
        let numbers: serde_json::Map<_, _> = all
            .clone()
            .filter_map(|metric| Some((metric.label().to_owned(), sample.get(metric)?.into())))
            .collect();
        serde_json::json!({
            "operations": sample.operations, "bytes": sample.bytes,
            "cost": sample.cost, "numbers": numbers,
        })
    };
    let rows: Vec<_> = cell
        .rows
        .iter()
        .map(|row| {
            let rounds: Vec<_> = row.rounds.iter().map(round).collect();
            serde_json::json!({ "name": row.name, "rounds": rounds })
        })
        .collect();
    serde_json::json!({
        "name": cell.name, "title": cell.title, "rows": rows,
        "failures": cell.failures, "claims": cell.outcomes,
    })
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
