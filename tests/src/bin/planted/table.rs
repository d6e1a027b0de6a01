//! The table of bugs and of who caught them (tests/PLANTED.md).
//!
//! Not here: catching them (`catch`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::Outcome;
use crate::catch::{SIM_SECONDS, SIMULATOR};

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

/// A bug: its name, what it breaks, its story.
pub(crate) type Bug = (&'static str, &'static str, &'static str);

/// A bug and its end.
pub(crate) struct Row {
    pub(crate) bug: Bug,
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
            return format!("| {name} | {breaks} | {story} | **nobody** |  |  |");
        };
        let what: String = what.replace('|', "/").chars().take(SAID_MAX).collect();
        format!("| {name} | {breaks} | {story} | {suite} | {what} | {seconds:.1} |")
    }
}

/// Rows by the name of their bug.
pub(crate) type Rows = BTreeMap<&'static str, Row>;

/// The rows of a page that was written before; none when there was no page.
pub(crate) fn read(page: &str, bugs: &[Bug]) -> Rows {
    let text = fs::read_to_string(page).unwrap_or_default();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [name, _, _, suite, what, seconds] = cells[..] else { return None };
        let bug = *bugs.iter().find(|bug| bug.0 == name)?;
        let (suite, what) = (suite.to_owned(), what.to_owned());
        let caught = seconds.parse().ok().map(|seconds| Caught { suite, what, seconds });
        Some((bug.0, Row { bug, caught }))
    };
    text.lines().filter_map(row).collect()
}

/// The page.
pub(crate) fn page(rows: &[&Row], bugs: usize) -> String {
    let simulated = rows.iter().filter(|row| row.is_simulated()).count();
    let mut page = format!(
        "# Planted bugs\n\n\
         Of {bugs} bugs on purpose (`engine/src/planted.rs`) those {} that were run; {simulated} \
         are caught by the simulator\nalone, from the seeds that every run begins with. Written by \
         `tests/planted.sh`: run it after a change of the\nengine or of a suite, with the names of \
         the bugs that it is about; the other rows stay.\n\n\
         A bug goes to the simulator first, for {SIM_SECONDS} seconds, then to the other suites \
         until one fails. *Seconds*\ncount from the first of them, those included that did not \
         see it.\n\n\
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
