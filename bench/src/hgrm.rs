//! A histogram as `.hgrm`: the text that HdrHistogram's plotters read, values in microseconds.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Steps to each halving of what is left above.
const TICKS_PER_HALF: u32 = 5;

/// The text.
#[must_use]
pub(crate) fn render(histogram: &Histogram<u64>) -> String {
    let us = |nanos: f64| nanos / 1000.0;
    let head = ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", head[0], head[1], head[2], head[3]);
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let quantile = step.quantile_iterated_to();
        let count = histogram.count_between(0, step.value_iterated_to());
        let value = us(step.value_iterated_to() as f64);
        let _ = write!(out, "{value:>12.3} {quantile:>14.12} {count:>10}");
        let _ = match quantile < 1.0 {
            true => writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(out),
        };
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        us(histogram.mean()),
        us(histogram.stdev()),
        us(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        2048
    );
    out
}

/// A row's name as a part of a file's.
#[must_use]
pub(crate) fn file_name(row: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = row.chars().map(plain).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::histogram;

    #[test]
    fn it_ends_at_the_greatest_and_counts_all() {
        let mut all = histogram();
        (1..=1000).for_each(|us| all.record(us * 1000).unwrap());
        let text = render(&all);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().rfind(|line| !line.starts_with('#')).unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(&fields[1..], ["1.000000000000", "1000"]);
        assert!((fields[0].parse::<f64>().unwrap() - 1000.0).abs() < 1.0);
        let half = lines.iter().find(|line| line.contains(" 0.500000000000 ")).unwrap();
        assert_eq!(half.split_whitespace().nth(2), Some("500"), "{half}");
        assert!(text.contains("Total count    =         1000]"));
    }

    #[test]
    fn a_row_names_a_file() {
        assert_eq!(file_name("O_DIRECT|O_DSYNC write, x"), "O-DIRECT-O-DSYNC-write-x");
    }
}
