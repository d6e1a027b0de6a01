//! Plants each bug in turn and looks which suite catches it (tests/planted.sh builds and runs it).
//!
//! ```text
//! planted run SUITES TABLE [BUG...]   all bugs, or these; SUITES: lines of NAME PROGRAM
//! planted sim SECONDS                 the simulator alone, with the bug of SAPWOOD_PLANTED
//! ```
//!
//! Each bug goes to the simulator, from the seeds of every day, and after that to the other
//! suites, until one fails. A suite that fails without any bug proves nothing: one that has caught
//! a bug is run once without, and must pass. A run of some bugs changes their rows; others stay as
//! the table has them.
//!
//! Exit code 0: every bug was caught, and enough of them by the simulator. 1: see the last lines.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod catch;
mod simulate;
mod table;

use std::process::ExitCode;

/// What went wrong, as a sentence.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn run(words: &[&str]) -> Outcome {
    match words {
        ["sim", seconds] => {
            let seconds = seconds.parse().map_err(|e| format!("SECONDS: {e}"))?;
            simulate::run(seconds)
        }
        ["run", suites, table, bugs @ ..] => catch::run(suites, table, bugs),
        _ => Err("planted run SUITES TABLE [BUG...] | sim SECONDS".into()),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
