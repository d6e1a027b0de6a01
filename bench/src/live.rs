//! The live view of a scenario: a bar on a terminal, plain lines elsewhere; always on stderr.
//!
//! Invariant: it does nothing while a row is being measured but let a bar tick.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::plots::spoken;
use crate::report::number;
use crate::sample::{Metric, Sample};

/// How often the bar's clock moves: seldom, for it wakes a thread beside the measurement.
const TICK: Duration = Duration::from_millis(500);

/// The view; a bar only where somebody looks.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    cell: String,
}

impl Live {
    /// For so many runs.
    pub(crate) fn over(runs: usize) -> Live {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(runs as u64);
            let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Live { bar, cell: String::new() }
    }

    /// A cell begins.
    pub(crate) fn cell(&mut self, name: &str, title: &str) {
        name.clone_into(&mut self.cell);
        self.line(&format!("{name}: {title}"));
    }

    /// A row makes what it needs.
    pub(crate) fn preparing(&self, row: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: preparing {row}", self.cell));
        }
    }

    /// A row is being measured.
    pub(crate) fn running(&self, round: usize, rounds: usize, row: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {row}, round {round}/{rounds}", self.cell)),
            None => eprint!("  {round}/{rounds} {row:<28}"),
        }
    }

    /// It was.
    pub(crate) fn done(&self, row: &str, sample: &Sample) {
        let time = |metric| sample.get(metric).map_or_else(|| "-".to_owned(), spoken);
        let rate = sample.get(Metric::Rate).map_or_else(|| "-".to_owned(), number);
        let [p50, p99, p999] = [Metric::P50, Metric::P99, Metric::P999].map(time);
        let numbers = format!("{rate}/s, p50 {p50}, p99 {p99}, p99.9 {p999}");
        match &self.bar {
            Some(bar) => {
                bar.println(format!("  {row:<28}{numbers}"));
                bar.inc(1);
            }
            None => eprintln!("{numbers}"),
        }
    }

    /// So many runs will not be.
    pub(crate) fn skip(&self, runs: usize) {
        match &self.bar {
            Some(bar) => bar.inc(runs as u64),
            None => eprintln!(),
        }
    }

    /// Prints without the bar in between.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// All is done.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}
