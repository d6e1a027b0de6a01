//! The table of bugs and of who caught them (tests/PLANTED.md).
//!
//! Not here: catching them (`catch`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{fs, io};

use crate::Outcome;
use crate::catch::SIMULATOR;

/// So many bugs there are, at least, and so many the simulator catches by itself.
const BUGS_MIN: usize = 40;
const SIMULATED_MIN: usize = 25;

/// Longest text of what was said in a row.
const SAID_MAX: usize = 90;

/// Who caught a bug.
pub(crate) struct Caught {
    pub(crate) suite: String,
    /// The test that failed, or what was said.
    pub(crate) what: String,
    /// From the first run with the bug on, those suites included that did not see it.
    pub(crate) seconds: f64,
}

/// A bug and its end.
pub(crate) struct Row {
    pub(crate) bug: (&'static str, &'static str, &'static str),
    pub(crate) caught: Option<Caught>,
}

impl Row {
    fn is_simulated(&self) -> bool {
        self.caught.as_ref().is_some_and(|caught| caught.suite == SIMULATOR)
    }

    /// A row of the table.
    pub(crate) fn line(&self) -> String {
        let (name, breaks, story) = self.bug;
        let Some(Caught { suite, what, seconds }) = &self.caught else {
            return format!("| {name} | {breaks} | {story} | **nobody** | | |");
        };
        let what: String = what.replace('|', "/").chars().take(SAID_MAX).collect();
        format!("| {name} | {breaks} | {story} | {suite} | {what} | {seconds:.1} |")
    }
}

/// Rows by the name of their bug.
pub(crate) type Rows = BTreeMap<&'static str, Row>;

/// What runs before this one found; nothing when there was none.
pub(crate) fn read(path: &str, bugs: &[(&'static str, &'static str, &'static str)]) -> Rows {
    let text = fs::read_to_string(path).unwrap_or_default();
    let row = |line: &str| {
        let mut words = line.split('\t');
        let name = words.next()?;
        let bug = *bugs.iter().find(|bug| bug.0 == name)?;
        let (suite, what) = (words.next()?.to_owned(), words.next()?.to_owned());
        let seconds = words.next()?.parse().ok()?;
        Some((bug.0, Row { bug, caught: Some(Caught { suite, what, seconds }) }))
    };
    text.lines().filter_map(row).collect()
}

/// Keeps what was found.
pub(crate) fn write(path: &str, rows: &Rows) -> io::Result<()> {
    let mut text = String::new();
    for (name, row) in rows {
        if let Some(Caught { suite, what, seconds }) = &row.caught {
            let what = what.replace(['\t', '\n'], " ");
            let _ = writeln!(text, "{name}\t{suite}\t{what}\t{seconds:.1}");
        }
    }
    fs::write(path, text)
}

/// The page.
pub(crate) fn page(rows: &[&Row], bugs: usize) -> String {
    let simulated = rows.iter().filter(|row| row.is_simulated()).count();
    let mut page = format!(
        "# Planted bugs\n\n\
         Of {bugs} bugs on purpose (`engine/src/planted.rs`) those {} that were run; {simulated} \
         are caught by the simulator\nalone, from the seeds that every run begins with. Written by \
         `tests/planted.sh`: run it after a change of the\nengine or of a suite.\n\n\
         A bug goes to the simulator first, for 30 seconds, then to the other suites until one \
         fails. *Seconds*\ncount from the first of them, those included that did not see it.\n\n\
         | bug | breaks | story | caught by | how | seconds |\n|---|---|---|---|---|---|\n",
        rows.len()
    );
    for row in rows {
        let _ = writeln!(page, "{}", row.line());
    }
    page
}

/// Whether the suites are as good as they have to be.
pub(crate) fn judge(rows: &[&Row], bugs: usize) -> Outcome {
    let nobody = rows.iter().filter(|row| row.caught.is_none()).map(|row| row.bug.0);
    let nobody: Vec<&str> = nobody.collect();
    let simulated = rows.iter().filter(|row| row.is_simulated()).count();
    println!(
        "{} bugs, {} caught, {simulated} by the simulator",
        rows.len(),
        rows.len() - nobody.len()
    );
    if !nobody.is_empty() {
        return Err(format!("not caught: {}", nobody.join(", ")));
    }
    if rows.len() < bugs || bugs < BUGS_MIN || simulated < SIMULATED_MIN {
        return Err(format!(
            "all {bugs} have to be run, {BUGS_MIN} at least, {SIMULATED_MIN} by the simulator"
        ));
    }
    Ok(())
}
