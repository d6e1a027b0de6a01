//! What a directory, its device and this host are like for Sapwood, examined row by row.
//!
//! Invariants: nothing that exists is changed; what a measurement writes goes to a file without a
//! name or, where there is no such thing, to one of its own name that is removed; measurements are
//! bounded in time; each row says what to do.
//!
//! Not here: what an open finds out for itself (`probe`), what is in a directory of ours (the
//! engine, opened for reading).

mod clock;
mod device;
mod kernel;
mod limits;
mod methods;
mod mount;
mod scratch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::scratch::Place;

/// How good a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Costs speed, or safety in some case that the advice names.
    Warning,
    /// Does not work, or loses what was acked.
    Bad,
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A figure that was measured here and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What took so long, or is so large.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what: `us` for microseconds, `bytes`, `files`.
    pub unit: &'static str,
}

impl Measured {
    fn time(what: impl Into<String>, took: Duration) -> Self {
        Self { what: what.into(), value: took.as_nanos() as f64 / 1000.0, unit: "us" }
    }

    fn bytes(what: impl Into<String>, bytes: u64) -> Self {
        Self { what: what.into(), value: bytes as f64, unit: "bytes" }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.what)?;
        match self.unit {
            "us" if self.value < 10.0 => write!(f, "{:.2} µs", self.value),
            "us" if self.value < 10_000.0 => write!(f, "{:.0} µs", self.value),
            "us" => write!(f, "{:.1} ms", self.value / 1000.0),
            "bytes" => f.write_str(&size(self.value as u64)),
            unit => write!(f, "{} {unit}", self.value),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub value: String,
    /// How good that is.
    pub verdict: Verdict,
    /// What to do about it, in a line.
    pub advice: String,
    /// Figures that were measured.
    pub measured: Vec<Measured>,
}

impl Row {
    /// A row without figures.
    pub fn new(
        name: &'static str,
        value: impl Into<String>,
        verdict: Verdict,
        advice: impl Into<String>,
    ) -> Self {
        let (value, advice) = (value.into(), advice.into());
        Self { name, value, verdict, advice, measured: Vec::new() }
    }

    fn with(mut self, measured: impl IntoIterator<Item = Measured>) -> Self {
        self.measured.extend(measured);
        self
    }

    /// Makes it at least this bad, with a reason that is then the advice.
    fn at_least(&mut self, verdict: Verdict, advice: impl Into<String>) {
        if verdict > self.verdict {
            self.verdict = verdict;
            self.advice = advice.into();
        }
    }
}

/// What an examination came to.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Where: the directory, or what exists of the way to it.
    pub place: PathBuf,
    /// All that was looked at.
    pub rows: Vec<Row>,
    /// The unit that the device needs.
    pub unit: u32,
}

/// Looks at the host and at the place where `dir` is, or would be. Takes about two seconds, most of
/// it for durable writes; on a device that hangs it hangs.
#[must_use]
pub fn examine(dir: &Path) -> Examination {
    let place = Place::find(dir);
    let mut rows = Vec::new();
    let ring = kernel::rows(&mut rows, &place);
    let unit = device::rows(&mut rows, &place, ring);
    mount::row(&mut rows, &place);
    methods::row(&mut rows, &place, ring);
    limits::rows(&mut rows, &place);
    clock::row(&mut rows);
    Examination { place: place.path.clone(), rows, unit }
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// A file of `/proc` or `/sys`, trimmed.
fn told(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The middle one; `None` of none.
fn median(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_the_unit_that_fits() {
        let time = |us: f64| Measured { what: "it takes".into(), value: us, unit: "us" };
        assert_eq!(time(0.123).to_string(), "it takes 0.12 µs");
        assert_eq!(time(99.6).to_string(), "it takes 100 µs");
        assert_eq!(time(12_345.0).to_string(), "it takes 12.3 ms");
        let free = Measured::bytes("free", 3 << 30);
        assert_eq!(free.to_string(), "free 3.0 GiB");
        assert_eq!(size(17), "17 bytes");
        assert_eq!(size(5 << 20), "5.0 MiB");
    }

    #[test]
    fn a_row_is_as_bad_as_the_worst_that_was_said_of_it() {
        let mut row = Row::new("x", "y", Verdict::Ok, "nothing to do");
        row.at_least(Verdict::Warning, "look");
        row.at_least(Verdict::Note, "never mind");
        assert_eq!((row.verdict, row.advice.as_str()), (Verdict::Warning, "look"));
    }
}
