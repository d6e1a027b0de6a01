//! The workload and the judge of the crash labs (tests/lab/powercut.sh, tests/lab/kill.sh).
//!
//! ```text
//! crashlab load DIR MARKS ROUNDS      appends until it is done, or dead
//! crashlab check DIR SENT ACKED       judges DIR by numbers with commas between
//! crashlab check DIR MARKS            judges DIR by a mark file, and writes on in it
//! ```
//!
//! Exit code 0: every promise was kept. 1: the message says which was not.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod load;
mod marks;
mod plan;

use std::path::Path;
use std::process::ExitCode;

use marks::Marks;

/// What went wrong, as a sentence.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Turns an error into a sentence that begins with what was being done.
pub(crate) fn told<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{doing}: {error}")
}

fn run(words: &[&str]) -> Outcome {
    match words {
        ["load", dir, marks, rounds] => {
            let marks = Marks::open(Path::new(marks)).map_err(told("marks"))?;
            let rounds = rounds.parse().map_err(told("ROUNDS"))?;
            load::run(Path::new(dir), marks, rounds)
        }
        ["check", dir, sent, acked] => {
            let marks = Marks::parse(sent, acked).ok_or("SENT and ACKED are numbers")?;
            check::run(Path::new(dir), marks)
        }
        ["check", dir, marks] => {
            let marks = Marks::open(Path::new(marks)).map_err(told("marks"))?;
            check::run(Path::new(dir), marks)
        }
        _ => Err("crashlab load DIR MARKS ROUNDS | check DIR (MARKS | SENT ACKED)".into()),
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
