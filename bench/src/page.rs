//! The page of a scenario: one self-contained HTML file with plots, tables and where it was.
//!
//! Invariants: no script, no network, nothing but text in it; everything from outside is escaped;
//! beside each number stands the command that measures it again.
//!
//! Not here: the plots (`plots`), the same as text or JSON (`report`).

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::environment::Environment;
use crate::plots;
use crate::report::{self, COLUMNS, CellResult, Outcome, QUANTILES, Row, Verdict, number};
use crate::sample::{Metric, Spread, over_rounds, ratio_over_rounds};

const STYLE: &str = "\
body{font:15px/1.55 system-ui,sans-serif;color:#222;max-width:980px;margin:2em auto;padding:0 1em}
h1{font-size:1.7em;margin-bottom:.1em}h2{margin-top:2.2em;border-bottom:2px solid #1b7a3d}
.lead{font-size:1.1em;color:#444}.note{color:#666;font-size:.9em}
.big{display:flex;flex-wrap:wrap;gap:.8em;margin:1.2em 0}
.big div{border:1px solid #ddd;border-radius:8px;padding:.6em 1.1em;min-width:7em}
.big b{display:block;font-size:1.6em;font-variant-numeric:tabular-nums}.big span{color:#666}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.8em 0;font-size:.86em}
td,th{padding:.25em .6em;text-align:right;border-bottom:1px solid #e4e4e4;white-space:nowrap;\
font-variant-numeric:tabular-nums}
thead th{color:#555;border-bottom:2px solid #bbb}th:first-child,.facts td{text-align:left}
tbody tr:hover{background:#f4f8f4}.facts td{white-space:normal}
.met{color:#1b7a3d}.missed{color:#c0322d;font-weight:600}
code{background:#f3f3f3;padding:.15em .4em;border-radius:4px;font-size:.9em}
svg{width:100%;height:auto}i.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;\
margin-right:.45em}figure{margin:1em 0}figcaption{color:#555;font-size:.9em}";

const NOTE: &str = "\
Rows of a cell take turns, round by round. Numbers are medians of the rounds; percentiles in \
plots are of all rounds together. CPU is this process's, workers of the kernel are not in it. \
Writes, flushes and bytes are what the block device counted, other processes included.";

/// What a page tells.
pub(crate) struct Page<'a> {
    /// Name of the scenario, and the question it answers.
    pub(crate) name: &'a str,
    pub(crate) question: &'a str,
    /// The command that made all of it.
    pub(crate) command: &'a str,
    pub(crate) environment: &'a Environment,
    /// Its cells, each with the command for it alone.
    pub(crate) cells: &'a [(CellResult, String)],
}

/// The page.
///
/// # Errors
/// When a plot cannot be drawn.
pub(crate) fn render(page: &Page<'_>) -> Result<String> {
    let cells = page.cells.iter().map(|(cell, command)| section(cell, command));
    let cells = cells.collect::<Result<Vec<_>>>()?;
    let title = format!("Sapwood: {}", page.name);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.lead { (page.question) }
                @if let Some((cell, _)) = page.cells.first() { (headline(&cell.rows)) }
                p { "Everything here: " code { (page.command) } }
                @for cell in &cells { (cell) }
                h2 { "Where" }
                table.facts { tbody {
                    @for (name, value) in page.environment.facts() {
                        tr { th { (name) } td { (value) } }
                    }
                } }
                p.note { (NOTE) }
            }
        }
    };
    Ok(markup.into_string())
}

/// The numbers that one came for, in large: Sapwood's, and how far above the floor.
fn headline(rows: &[Row]) -> Markup {
    let Some(ours) = rows.iter().find(|row| row.name.starts_with("sapwood")) else {
        return html! {};
    };
    let floor = rows.iter().find(|row| row.name == "floor");
    let ratio = floor.and_then(|floor| ratio_over_rounds(&ours.rounds, &floor.rounds, Metric::P50));
    let tile = |metric: Metric, name: &str| {
        let value = over_rounds(&ours.rounds, metric);
        html! {
            @if let Some(spread) = value {
                div { b { (plots::spoken(spread.median)) } span { (name) } }
            }
        }
    };
    html! {
        div.big {
            (tile(Metric::P50, "p50")) (tile(Metric::P99, "p99")) (tile(Metric::P999, "p99.9"))
            @if let Some(ratio) = ratio {
                div { b { (number(ratio.median)) " ×" } span { "the floor's p50" } }
            }
            @if let Some(rate) = over_rounds(&ours.rounds, Metric::Rate) {
                div { b { (number(rate.median)) } span { "appends/s" } }
            }
        }
    }
}

fn section(cell: &CellResult, command: &str) -> Result<Markup> {
    let percentiles = plots::percentiles(&cell.rows)?;
    let over_time = plots::over_time(&cell.rows)?;
    Ok(html! {
        h2 id=(cell.name) { (cell.name) }
        p { (cell.title) ". " code { (command) } }
        @if let Some(svg) = percentiles {
            figure { (PreEscaped(svg)) figcaption { "Latency by percentile, all rounds" } }
        }
        @if let Some(svg) = over_time {
            figure {
                (PreEscaped(svg))
                figcaption { "p99 of each sixtieth of a window, the rounds one after the other" }
            }
        }
        (measurements(&cell.rows))
        (quantiles(&cell.rows))
        (stages(&cell.rows))
        @for (name, reason) in &cell.failures {
            p.missed { (name) " did not run: " (reason) }
        }
        @if !cell.outcomes.is_empty() { (claims(&cell.outcomes)) }
    })
}

fn name(row: &Row, index: usize) -> Markup {
    let colour = plots::colour(row, index);
    let style = format!("background:rgb({},{},{})", colour.0, colour.1, colour.2);
    html! { th { i.key style=(style) {} (row.name) } }
}

fn measurements(rows: &[Row]) -> Markup {
    let columns = report::used(rows);
    let floor = rows.iter().find(|row| row.name == "floor");
    html! {
        div.wide { table {
            thead { tr {
                th { "median of rounds" }
                @for column in &columns { th { (COLUMNS[*column].label()) } }
                @if floor.is_some() { th { "p50 / floor (min–max)" } }
                th { "read back" }
            } }
            tbody { @for (index, row) in rows.iter().enumerate() { tr {
                (name(row, index))
                @for column in &columns { td {
                    @match over_rounds(&row.rounds, COLUMNS[*column]) {
                        Some(spread) => span title=(ends(spread)) { (number(spread.median)) },
                        None => "–",
                    }
                } }
                @if let Some(floor) = floor { td {
                    @match ratio_over_rounds(&row.rounds, &floor.rounds, Metric::P50) {
                        Some(ratio) => { (number(ratio.median)) " (" (ends(ratio)) ")" },
                        None => "–",
                    }
                } }
                td { @match row.verified() { Some(records) => (records), None => "–" } }
            } } }
        } }
    }
}

fn ends(spread: Spread) -> String {
    format!("{}–{}", number(spread.min), number(spread.max))
}

fn quantiles(rows: &[Row]) -> Markup {
    let known = |row: &Row| row.rounds.iter().any(|round| !round.latency.is_empty());
    html! {
        @if rows.iter().any(known) { div.wide { table {
            thead { tr {
                th { "latency, µs, all rounds" }
                @for quantile in QUANTILES { th { (report::quantile_name(quantile)) } }
            } }
            tbody {
                @for (index, row) in rows.iter().enumerate().filter(|(_, row)| known(row)) {
                    @let all = row.merged();
                    tr {
                        (name(row, index))
                        @for quantile in QUANTILES {
                            td { (number(all.value_at_quantile(quantile) as f64 / 1000.0)) }
                        }
                    }
                }
            }
        } } }
    }
}

/// Where the time of a batch went; of the last round, which is as good as any.
fn stages(rows: &[Row]) -> Markup {
    let with = || rows.iter().filter_map(|row| Some((row, row.rounds.last()?.stages.as_ref()?)));
    let us = |nanos: u64| number(nanos as f64 / 1000.0);
    html! {
        @if with().next().is_some() { div.wide { table {
            thead { tr {
                th { "stages of a batch, µs, last round" }
                @for label in ["p50", "p99", "p99.9", "most"] { th { (label) } }
            } }
            tbody { @for (row, stages) in with() {
                @for (stage, histogram) in stages.named() { tr {
                    th { (row.name) ": " (stage) }
                    @for percent in [50.0, 99.0, 99.9] {
                        td { (us(histogram.percentile(percent))) }
                    }
                    td { (us(histogram.max())) }
                } }
                tr {
                    th { (row.name) ": records of a batch" }
                    @for percent in [50.0, 99.0, 99.9] {
                        td { (stages.records.percentile(percent)) }
                    }
                    td { (stages.records.max()) }
                }
            } }
        } } }
    }
}

fn claims(outcomes: &[Outcome]) -> Markup {
    html! {
        div.wide { table {
            thead { tr {
                @for title in ["claim", "median", "min–max", "goal", "verdict"] { th { (title) } }
            } }
            tbody { @for outcome in outcomes { tr {
                th { (report::claim_text(outcome)) }
                td { (outcome.value.map_or_else(|| "–".to_owned(), |s| number(s.median))) }
                td { (outcome.value.map_or_else(|| "–".to_owned(), ends)) }
                td { (outcome.goal.label()) }
                td class=(if outcome.verdict == Verdict::Missed { "missed" } else { "met" }) {
                    (outcome.verdict.label())
                }
            } } }
        } }
    }
}

#[cfg(test)]
mod tests;
