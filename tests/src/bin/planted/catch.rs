//! Runs the suites against each bug until one fails.
//!
//! Invariant: a suite is a process of its own, ended when it takes too long: that is a failure.
//!
//! Not here: the table (`table`), what the simulator does (`simulate`).

use std::cell::Cell;
use std::fs;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::table::{self, Caught, Row};

/// How long the simulator looks for a bug.
pub(crate) const SIM_SECONDS: u64 = 30;

/// A suite that takes longer hangs.
const HANGS: Duration = Duration::from_secs(240);

/// The simulator as the name of a suite.
pub(crate) const SIMULATOR: &str = "simulator";

/// A program of tests.
struct Suite {
    name: String,
    program: String,
    words: Vec<String>,
    /// It passes without a bug: looked at once, when it has caught one.
    sound: Cell<bool>,
}

/// How a suite ended.
enum End {
    Passed,
    Failed(String),
}

/// The bugs, in the order in which they are declared.
#[cfg(sapwood_planted)]
fn bugs() -> Outcome<Vec<sapwood::Described>> {
    Ok(sapwood::BUGS.to_vec())
}

/// Without the cfg there is nothing to plant.
#[cfg(not(sapwood_planted))]
fn bugs() -> Outcome<Vec<(&'static str, &'static str, &'static str)>> {
    Err("built without --cfg sapwood_planted: run tests/planted.sh".into())
}

/// Plants the bugs that were asked for, or all of them, and writes the table.
pub(crate) fn run(list: &str, table: &str, asked: &[&str]) -> Outcome {
    let bugs = bugs()?;
    if let Some(strange) = asked.iter().find(|name| bugs.iter().all(|bug| bug.0 != **name)) {
        return Err(format!("{strange}: there is no such bug"));
    }
    let suites = suites(list)?;
    // What other runs have found stays.
    let mut rows = table::read(table, &bugs);
    for bug in bugs.iter().filter(|bug| asked.is_empty() || asked.contains(&bug.0)) {
        let row = Row { bug: *bug, caught: catch(&suites, bug.0)? };
        println!("{}", row.line());
        rows.insert(bug.0, row);
        // At once: a run that is ended has found something all the same.
        let page = table::page(&in_order(&rows, &bugs), bugs.len());
        fs::write(table, page).map_err(|e| format!("{table}: {e}"))?;
    }
    table::judge(&in_order(&rows, &bugs), bugs.len())
}

/// The rows in the order in which the bugs are declared.
fn in_order<'r>(rows: &'r table::Rows, bugs: &[table::Bug]) -> Vec<&'r Row> {
    bugs.iter().filter_map(|bug| rows.get(bug.0)).collect()
}

/// The simulator, then the programs of the list.
fn suites(list: &str) -> Outcome<Vec<Suite>> {
    let own = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let own = own.to_string_lossy().into_owned();
    let simulator = Suite {
        name: SIMULATOR.into(),
        program: own,
        words: vec!["sim".into(), SIM_SECONDS.to_string()],
        sound: Cell::new(false),
    };
    let text = fs::read_to_string(list).map_err(|e| format!("{list}: {e}"))?;
    let named = text.lines().filter_map(|line| line.split_once(' '));
    let program = |(name, program): (&str, &str)| Suite {
        name: name.into(),
        program: program.into(),
        words: Vec::new(),
        sound: Cell::new(false),
    };
    Ok(std::iter::once(simulator).chain(named.map(program)).collect())
}

fn catch(suites: &[Suite], bug: &str) -> Outcome<Option<Caught>> {
    let began = Instant::now();
    for suite in suites {
        if let End::Failed(what) = suite.run(bug)? {
            let seconds = began.elapsed().as_secs_f64();
            suite.prove()?;
            let suite = suite.name.clone();
            return Ok(Some(Caught { suite, what, seconds }));
        }
    }
    Ok(None)
}

impl Suite {
    /// One that fails without any bug proves nothing.
    fn prove(&self) -> Outcome {
        if self.sound.replace(true) {
            return Ok(());
        }
        match self.run("")? {
            End::Passed => Ok(()),
            End::Failed(what) => Err(format!("{} fails without any bug: {what}", self.name)),
        }
    }

    fn run(&self, bug: &str) -> Outcome<End> {
        let doing = |e| format!("running {}: {e}", self.program);
        // Into a file: nobody reads while it runs.
        let mut output = tempfile()?;
        let mut child = Command::new(&self.program)
            .args(&self.words)
            .env("SAPWOOD_PLANTED", bug)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(doing)?)
            .stderr(output.try_clone().map_err(doing)?)
            .spawn()
            .map_err(doing)?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(doing)? {
                break status;
            }
            if began.elapsed() > HANGS {
                child.kill().map_err(doing)?;
                child.wait().map_err(doing)?;
                return Ok(End::Failed("it does not end".into()));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if status.success() {
            return Ok(End::Passed);
        }
        let mut text = Vec::new();
        output.rewind().map_err(doing)?;
        output.read_to_end(&mut text).map_err(doing)?;
        Ok(End::Failed(first_words(&String::from_utf8_lossy(&text))))
    }
}

fn tempfile() -> Outcome<fs::File> {
    let path = std::env::temp_dir().join(format!("sapwood-planted-{}", std::process::id()));
    let options =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let file = options.map_err(|e| format!("{}: {e}", path.display()))?;
    fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(file)
}

/// Which test failed, or what the simulator says.
fn first_words(text: &str) -> String {
    let failed = |line: &&str| line.starts_with("test ") && line.ends_with("FAILED");
    if let Some(line) = text.lines().find(failed) {
        return line.split(' ').nth(1).unwrap_or(line).to_owned();
    }
    let said = |line: &&str| !line.trim().is_empty();
    text.lines().rfind(said).unwrap_or("it ends without a word").to_owned()
}
