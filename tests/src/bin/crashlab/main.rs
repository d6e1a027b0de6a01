//! The workload and the judge of the labs (powercut.sh, kill.sh, fulldisk.sh in tests/lab).
//!
//! ```text
//! crashlab load DIR MARKS ROUNDS      appends until it is done, or dead
//! crashlab check DIR SENT ACKED       judges DIR by numbers with commas between
//! crashlab check DIR MARKS            judges DIR by a mark file, and writes on in it
//! crashlab fill DIR MARKS (kill|close)   appends until the disk is full
//! crashlab survive DIR MARKS BALLAST  lives with not a byte free, and then goes on
//! ```
//!
//! Exit code 0: every promise was kept. 1: the message says which was not.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod full;
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
        ["fill", dir, marks, mode @ ("kill" | "close")] => {
            let marks = Marks::open(Path::new(marks)).map_err(told("marks"))?;
            full::fill(Path::new(dir), marks, *mode == "close")
        }
        ["survive", dir, marks, ballast] => {
            let marks = Marks::open(Path::new(marks)).map_err(told("marks"))?;
            full::survive(Path::new(dir), marks, Path::new(ballast))
        }
        _ => {
            Err("crashlab load DIR MARKS ROUNDS | check DIR (MARKS | SENT ACKED) | fill DIR MARKS \
                  (kill | close) | survive DIR MARKS BALLAST"
                .into())
        }
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
