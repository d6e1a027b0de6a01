//! The plots of a page as SVG: latency by percentile, and by time.
//!
//! Invariants: an SVG stands alone: no script, no link, no font that is not there anyway; latency
//! is drawn on a logarithmic axis, so that rows a hundredfold apart are all told.
//!
//! Not here: the page around them (`page`), plots of a soak (`soak/plot`).

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::report::{Row, number};

const WIDE: (u32, u32) = (900, 380);
/// Nines at the right edge: 99.99 %.
const NINES_MAX: f64 = 4.0;
const STEPS: usize = 160;
/// Labels of the time axis, at most.
const TIMES: usize = 11;
const FONT: (&str, i32) = ("sans-serif", 13);
/// Grey is for the floor, the first green for Sapwood.
const GREY: RGBColor = RGBColor(125, 125, 125);
const COLOURS: [RGBColor; 9] = [
    RGBColor(27, 122, 61),
    RGBColor(25, 100, 190),
    RGBColor(200, 50, 45),
    RGBColor(225, 130, 20),
    RGBColor(125, 60, 170),
    RGBColor(20, 150, 160),
    RGBColor(150, 95, 50),
    RGBColor(210, 60, 140),
    RGBColor(90, 100, 20),
];

/// The colour of the row at `index` of its cell.
#[must_use]
pub(crate) fn colour(row: &Row, index: usize) -> RGBColor {
    let floor = row.name.starts_with("floor");
    if floor { GREY } else { COLOURS[index.saturating_sub(1) % COLOURS.len()] }
}

type Chart<'a, 's, X, Y> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<X, Y>>;

/// Microseconds upwards, by decades with steps of 1, 2, 5.
fn microseconds(low: f64, high: f64) -> impl Ranged<ValueType = f64> + ValueFormatter<f64> {
    let mut points = Vec::new();
    let mut decade = 0.1;
    while decade < high * 10.0 {
        points.extend([1.0, 2.0, 5.0].map(|step| step * decade));
        decade *= 10.0;
    }
    points.retain(|point| (low..=high).contains(point));
    (low..high).log_scale().with_key_points(points)
}

/// A time as a reader says it.
#[must_use]
pub(crate) fn spoken(micros: f64) -> String {
    match micros {
        _ if micros >= 1e6 => format!("{} s", number(micros / 1e6)),
        _ if micros >= 1e3 => format!("{} ms", number(micros / 1e3)),
        _ => format!("{} µs", number(micros)),
    }
}

/// Room above and below what is drawn.
fn bounds(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let high = values.fold(1.0, f64::max);
    let low = if low.is_finite() { low } else { 1.0 };
    (low * 0.8, high.max(low) * 1.3)
}

/// Latency over nines: a nine more to the right at each step.
///
/// # Errors
/// When it cannot be drawn.
pub(crate) fn percentiles(rows: &[Row]) -> Result<Option<String>> {
    let curves: Vec<(usize, &Row, Curve)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.rounds.iter().any(|round| !round.latency.is_empty()))
        .map(|(index, row)| (index, row, curve(row)))
        .collect();
    if curves.is_empty() {
        return Ok(None);
    }
    let (low, high) = bounds(curves.iter().flat_map(|curve| &curve.2).map(|point| point.1));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, WIDE).into_drawing_area();
        let mut chart = framed(&root)
            .build_cartesian_2d(0.0..NINES_MAX, microseconds(low, high))
            .map_err(drawn)?;
        mesh(&mut chart, NINES_MAX as usize + 1, &|nines| percent(*nines))?;
        for (index, row, points) in curves {
            let colour = colour(row, index);
            let line = LineSeries::new(points, colour.stroke_width(2));
            let series = chart.draw_series(line).map_err(drawn)?;
            series.label(row.name.as_str()).legend(move |(x, y)| key(x, y, colour));
        }
        legend(&mut chart)?;
        root.present().map_err(drawn)?;
    }
    Ok(Some(svg))
}

fn percent(nines: f64) -> String {
    ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"][(nines.round() as usize).min(4)].to_owned()
}

/// p99 of each part of the window over time, the rounds one after the other.
///
/// # Errors
/// When it cannot be drawn.
pub(crate) fn over_time(rows: &[Row]) -> Result<Option<String>> {
    let all = || rows.iter().flat_map(|row| &row.rounds).flat_map(|round| &round.slices);
    if all().next().is_none() {
        return Ok(None);
    }
    let (low, high) = bounds(all().flat_map(|slice| [slice.p50_us, slice.p99_us]));
    let window = rows.iter().flat_map(|row| &row.rounds).map(|round| round.cost.seconds);
    let window = window.fold(0.001, f64::max);
    let rounds = rows.iter().map(|row| row.rounds.len()).max().unwrap_or(1);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, WIDE).into_drawing_area();
        let mut chart = framed(&root)
            .build_cartesian_2d(0.0..window * rounds as f64, microseconds(low, high))
            .map_err(drawn)?;
        mesh(&mut chart, TIMES, &|seconds| format!("{} s", number(*seconds)))?;
        for round in 1..rounds {
            let at = window * round as f64;
            let line = PathElement::new([(at, low), (at, high)], GREY.mix(0.5));
            chart.draw_series([line]).map_err(drawn)?;
        }
        for (index, row) in rows.iter().enumerate() {
            if row.rounds.iter().all(|round| round.slices.is_empty()) {
                continue;
            }
            let colour = colour(row, index);
            for (round, sample) in row.rounds.iter().enumerate() {
                let begin = window * round as f64;
                // Where nothing ended there is no latency, not one of zero.
                let known = sample.slices.iter().filter(|slice| slice.rate > 0.0);
                let points = known.map(|slice| (begin + slice.seconds, slice.p99_us));
                let line = LineSeries::new(points, colour.stroke_width(2));
                let series = chart.draw_series(line).map_err(drawn)?;
                if round == 0 {
                    series.label(row.name.as_str()).legend(move |(x, y)| key(x, y, colour));
                }
            }
        }
        legend(&mut chart)?;
        root.present().map_err(drawn)?;
    }
    Ok(Some(svg))
}

/// A chart with room for its labels.
fn framed<'a, 'b>(
    root: &'a DrawingArea<SVGBackend<'b>, Shift>,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(root);
    chart.margin(10).margin_right(30).x_label_area_size(34).y_label_area_size(70);
    chart
}

fn key(x: i32, y: i32, colour: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(3))
}

fn mesh<'a, 's: 'a, X, Y>(
    chart: &mut Chart<'a, 's, X, Y>,
    labels: usize,
    across: &dyn Fn(&f64) -> String,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.4))
        .label_style(FONT)
        .x_labels(labels)
        .x_label_formatter(across)
        .y_label_formatter(&|micros| spoken(*micros))
        .draw()
        .map_err(drawn)
}

fn legend<'a, 's: 'a, X, Y>(chart: &mut Chart<'a, 's, X, Y>) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.15))
        .label_font(FONT)
        .draw()
        .map_err(drawn)
}

/// Nines and microseconds, from left to right.
type Curve = Vec<(f64, f64)>;

fn curve(row: &Row) -> Curve {
    let all = row.merged();
    (0..=STEPS)
        .map(|step| {
            let nines = step as f64 / STEPS as f64 * NINES_MAX;
            let quantile = 1.0 - 10_f64.powf(-nines);
            (nines, (all.value_at_quantile(quantile) as f64 / 1000.0).max(0.1))
        })
        .collect()
}

fn drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::sample;
    use crate::sample::{Sample, Slice};

    fn rows() -> Vec<Row> {
        let slice = |at: usize| Slice {
            seconds: at as f64 / 10.0,
            rate: 100.0,
            p50_us: 100.0,
            p99_us: 150.0 + at as f64,
            max_us: 900.0,
        };
        let round = |latency: &[u64]| Sample {
            slices: (0..20).map(slice).collect(),
            ..sample(100, latency)
        };
        let row = |name: &str| Row {
            name: name.to_owned(),
            rounds: vec![round(&[100, 110, 9000]), round(&[105, 120])],
        };
        vec![row("floor"), row("a<b")]
    }

    #[test]
    fn a_plot_stands_alone_and_names_its_rows() {
        for svg in [percentiles(&rows()).unwrap().unwrap(), over_time(&rows()).unwrap().unwrap()] {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("a&lt;b") && svg.contains("100 µs"), "{svg}");
            assert!(svg.matches("<polyline").count() >= 4);
            assert!(!svg.contains("NaN") && !svg.contains("href") && !svg.contains("<script"));
        }
    }

    #[test]
    fn nothing_to_draw_is_no_plot() {
        let empty = [Row { name: "x".to_owned(), rounds: vec![sample(3, &[])] }];
        assert!(percentiles(&empty).unwrap().is_none() && over_time(&empty).unwrap().is_none());
        assert!(percentiles(&[]).unwrap().is_none());
    }

    #[test]
    fn times_are_said_as_a_reader_says_them() {
        let all = [0.5, 98.0, 1500.0, 2e6].map(spoken);
        assert_eq!(all, ["0.5 µs", "98.0 µs", "1.5 ms", "2 s"]);
    }
}
