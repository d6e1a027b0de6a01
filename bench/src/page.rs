//! The page of `bench latency`: one self-contained HTML file, a percentile plot as inline SVG.
//!
//! Invariants: no script, no network, nothing but text in it; everything from outside is escaped.

use std::fmt::Write as _;

use crate::environment::Environment;
use crate::latency::{QUANTILES, merged};
use crate::report::{Row, number};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
/// Nines at the right edge: 99.99 %.
const NINES_MAX: f64 = 4.0;
const COLOURS: [&str; 4] = ["#8a8a8a", "#2f7d32", "#1565c0", "#c62828"];

/// The page.
#[must_use]
pub(crate) fn render(environment: &Environment, payload_bytes: usize, rows: &[Row]) -> String {
    let mut facts = String::new();
    for (name, value) in environment.facts() {
        let _ = writeln!(facts, "<tr><th>{}<td>{}", escape(name), escape(&value));
    }
    let plot = plot(rows);
    let table = table(rows);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <title>Sapwood: latency of durable appends</title>\n<style>\
         body{{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em}}\
         table{{border-collapse:collapse;margin:1em 0}}\
         td,th{{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}}\
         th:first-child{{text-align:left}}.facts td{{text-align:left}}\
         svg text{{font:12px system-ui,sans-serif}}</style>\n\
         <h1>Latency of durable appends</h1>\n\
         <p>One writer, {payload_bytes} bytes, each append waits until it is durable. The floor is \
         a bare io_uring that makes 4 KiB durable on the same device, taking turns.</p>\n\
         {plot}\n{table}\n<h2>Where</h2>\n<table class=\"facts\">\n{facts}</table>\n</html>\n"
    )
}

fn table(rows: &[Row]) -> String {
    let mut out = "<table>\n<tr><th>latency, us".to_owned();
    for quantile in QUANTILES {
        let _ = match quantile {
            0.0 => write!(out, "<th>least"),
            1.0 => write!(out, "<th>most"),
            _ => write!(out, "<th>p{}", number(quantile * 100.0)),
        };
    }
    for row in rows {
        let all = merged(row);
        let _ = write!(out, "\n<tr><th>{}", escape(&row.name));
        for quantile in QUANTILES {
            let micros = all.value_at_quantile(quantile) as f64 / 1000.0;
            let _ = write!(out, "<td>{}", number(micros));
        }
    }
    out.push_str("\n</table>");
    out
}

/// Latency over nines: linear upwards, a nine more to the right at each step.
fn plot(rows: &[Row]) -> String {
    let curves: Vec<Vec<(f64, f64)>> = rows.iter().map(curve).collect();
    let top = curves.iter().flatten().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let x = |nines: f64| LEFT + nines / NINES_MAX * (WIDTH - LEFT - 20.0);
    let y = |micros: f64| HEIGHT - BOTTOM - micros / top * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"latency by percentile\" style=\"width:100%\">\n"
    );
    for (nines, label) in ["0", "90 %", "99 %", "99.9 %", "99.99 %"].iter().enumerate() {
        let (at, low) = (x(nines as f64), HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {TOP}V{low}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            low + 18.0
        );
    }
    for step in 0..=4 {
        let micros = top * f64::from(step) / 4.0;
        let at = y(micros);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} us</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            at + 4.0,
            number(micros.round())
        );
    }
    for (index, (row, points)) in rows.iter().zip(&curves).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|(nines, micros)| format!("{:.1} {:.1}", x(*nines), y(*micros)))
            .collect();
        let high = TOP + 16.0 * (index as f64 + 1.0);
        let _ = writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{high:.1}\" fill=\"{colour}\">{}</text>",
            path.join("L"),
            LEFT + 12.0,
            escape(&row.name)
        );
    }
    out.push_str("</svg>");
    out
}

fn curve(row: &Row) -> Vec<(f64, f64)> {
    let all = merged(row);
    (0..=80)
        .map(|step| {
            let nines = f64::from(step) / 80.0 * NINES_MAX;
            let quantile = 1.0 - 10_f64.powf(-nines);
            (nines, all.value_at_quantile(quantile) as f64 / 1000.0)
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::sample;
    use std::path::Path;

    #[test]
    fn the_page_stands_alone() {
        let rounds = vec![sample(100, &[100, 110, 900]), sample(100, &[105, 120, 130])];
        let rows = [Row { name: "a<b".to_owned(), rounds }];
        let page = render(&Environment::of(Path::new("/")), 128, &rows);
        assert!(page.contains("<svg") && page.contains("a&lt;b") && page.contains("p99.9"));
        for outside in ["http", "<script", "src=", "NaN", "inf\""] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
