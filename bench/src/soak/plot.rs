//! The plot of a soak: disk, memory, files and rate over time, one SVG that stands alone.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::series::Sample;

const SIZE: (u32, u32) = (960, 900);
/// Samples drawn of each series: an hour has more than an eye can tell.
const POINTS_MAX: usize = 1200;

/// The SVG, with a line at each restart (in seconds).
pub(crate) fn render(samples: &[Sample], restarts: &[f64]) -> Result<String> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let panels: [(&str, Vec<f64>, RGBColor); 4] = [
        ("disk, MiB", samples.iter().map(|s| mib(s.disk_bytes)).collect(), RGBColor(21, 101, 192)),
        ("memory, MiB", samples.iter().map(|s| mib(s.rss_bytes)).collect(), RGBColor(47, 125, 50)),
        ("open files", samples.iter().map(|s| s.files as f64).collect(), RGBColor(198, 40, 40)),
        ("records acked a second", samples.iter().map(|s| s.appends).collect(), BLACK),
    ];
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(drawn)?;
        let seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
        for (area, (name, values, colour)) in root.split_evenly((4, 1)).iter().zip(panels) {
            panel(area, name, &seconds, &values, restarts, colour)?;
        }
        root.present().map_err(drawn)?;
    }
    Ok(out)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    seconds: &[f64],
    values: &[f64],
    restarts: &[f64],
    colour: RGBColor,
) -> Result<()> {
    let end = seconds.last().copied().unwrap_or(0.0).max(1.0);
    let top = values.iter().copied().fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(name, ("sans-serif", 15))
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(drawn)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().y_labels(5).x_label_formatter(&|s| format!("{s:.0} s"));
    mesh.light_line_style(WHITE).draw().map_err(drawn)?;
    let grey = RGBColor(210, 210, 210);
    let lines = restarts.iter().map(|at| PathElement::new([(*at, 0.0), (*at, top)], grey));
    chart.draw_series(lines).map_err(drawn)?;
    let step = seconds.len().div_ceil(POINTS_MAX).max(1);
    let points = seconds.iter().copied().zip(values.iter().copied()).step_by(step);
    chart.draw_series(LineSeries::new(points, colour)).map_err(drawn)?;
    Ok(())
}

fn drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::series::tests::samples;
    use super::*;

    #[test]
    fn four_panels_that_stand_alone() {
        let svg = render(&samples(|_| 64 << 20), &[10.0, 20.0]).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for name in ["disk, MiB", "memory, MiB", "open files", "records acked a second"] {
            assert!(svg.contains(name), "{name}");
        }
        assert!(svg.matches("<polyline").count() >= 4 + 8, "series and restarts");
        assert!(!svg.contains("NaN") && !svg.contains("href"));
        render(&[], &[]).unwrap();
    }
}
