//! How far a command is, on stderr.
//!
//! Invariants: nothing is shown where stderr is no terminal, unless it is asked for, and then as
//! plain lines; stdout is never touched.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::tell;

/// How often plain lines are printed.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) enum Progress {
    None,
    Bar(ProgressBar),
    Lines { done: u64, total: Option<u64>, told: Instant, what: &'static str },
}

impl Progress {
    /// A bar on a terminal; plain lines when `asked` for elsewhere.
    pub(crate) fn new(asked: bool, total: Option<u64>, what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            let told = Instant::now();
            return if asked { Self::Lines { done: 0, total, told, what } } else { Self::None };
        }
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let shape = match total {
            Some(_) => "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{msg} {spinner} {bytes}, {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self::Bar(bar)
    }

    /// So many bytes more are done.
    pub(crate) fn add(&mut self, bytes: u64) {
        match self {
            Self::None => {}
            Self::Bar(bar) => bar.inc(bytes),
            Self::Lines { done, total, told, what } => {
                *done += bytes;
                if told.elapsed() < LINE_EVERY {
                    return;
                }
                *told = Instant::now();
                let mb = *done / 1_000_000;
                match total {
                    Some(total) => tell(format_args!("{what} {mb} of {} MB", *total / 1_000_000)),
                    None => tell(format_args!("{what} {mb} MB")),
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
