//! Exit codes: what a script may rely on, and the message that goes with a failure.
//!
//! Invariants: one code per thing the caller does next; the table in [`HELP`] is the whole truth
//! and stands in the README too.

use std::fmt;
use std::process::ExitCode;

use sapwood::Error;

use crate::output::{self, StdoutClosed};

/// The table of codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  another failure: a file that cannot be read, an I/O error
  2  the command line or a setting is wrong; nothing was done
  3  damage found: acked records cannot be read as they were acked
  4  another process is writing the directory
  5  no space on the disk
  6  not a Sapwood directory, files of it are missing or foreign, or a newer version wrote it
  7  the append did not go through: fenced by a newer writer, or the shard halted
  8  no such directory or log, or nothing at that position of it
  9  read to the end, but records are missing that someone chose to go on without (salvage)
  10  doctor found something that does not work, or would lose what was acked

Examples:
  sapwood append orders --dir wal orders.txt
  sapwood read orders --dir wal --from 100 --count 10
  sapwood verify --dir wal

Environment:
  SAPWOOD_LOG  what to tell on stderr, as a filter: warn (default), info, sapwood=debug";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Other = 1,
    Usage = 2,
    Damage = 3,
    Locked = 4,
    NoSpace = 5,
    NotOurs = 6,
    Rejected = 7,
    Missing = 8,
    Lost = 9,
    Unfit = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure that the command line itself found.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with its code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Nobody reads stdout any more: no failure, and nobody to tell.
pub(crate) fn is_quiet(error: &anyhow::Error) -> bool {
    error.is::<StdoutClosed>()
}

/// Prints the failure and what to do about it.
pub(crate) fn tell(error: &anyhow::Error) -> Exit {
    let exit = of(error);
    output::tell(format_args!("sapwood: {}", text(error)));
    if let Some(hint) = error.chain().find_map(|e| e.downcast_ref()).and_then(hint) {
        output::tell(format_args!("  {hint}"));
    }
    exit
}

/// The messages of the chain, without those that an outer one repeats.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for part in error.chain().map(ToString::to_string) {
        if text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

/// The code of a failure.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|e| {
            let own = e.downcast_ref::<Failure>().map(|failure| failure.exit);
            own.or_else(|| e.downcast_ref().map(of_engine))
        })
        .unwrap_or(Exit::Other)
}

fn of_engine(error: &Error) -> Exit {
    match error {
        Error::Invalid(_) => Exit::Usage,
        Error::Corrupt(_) => Exit::Damage,
        Error::Lost(_) => Exit::Lost,
        Error::Locked { .. } => Exit::Locked,
        Error::NoSpace(_) => Exit::NoSpace,
        Error::NotOurs(_) | Error::Unsupported(_) => Exit::NotOurs,
        Error::Fenced { .. }
        | Error::Conflict { .. }
        | Error::Unknown { .. }
        | Error::Halted { .. } => Exit::Rejected,
        Error::NoSuchLog(_)
        | Error::Trimmed { .. }
        | Error::Unwritten { .. }
        | Error::Diverged { .. } => Exit::Missing,
        _ => Exit::Other,
    }
}

/// What to do next, where the message does not say it.
fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Locked { pid: 0, .. } => {
            "wait for it to end, or stop it; `sapwood read` works meanwhile".into()
        }
        Error::Locked { pid, .. } => {
            format!("wait for process {pid} to end, or stop it; `sapwood read` works meanwhile")
        }
        Error::Corrupt(damage) if damage.log.is_none() => {
            "perhaps nothing is lost: `sapwood salvage` mends what it can before it asks".into()
        }
        Error::NoSpace(_) => {
            "what was acked is safe; once there is space, `sapwood append --resume` goes on".into()
        }
        Error::Fenced { .. } => {
            "another writer took the log over: see who it is before you append again".into()
        }
        Error::Unknown { .. } | Error::Halted { .. } => {
            "see to the disk, then run again: opening recovers, `append --resume` goes on".into()
        }
        Error::NoSuchLog(_) => "`sapwood logs --dir DIR` lists the logs there are".into(),
        Error::Trimmed { start } => format!("read with `--from start` or `--from {start}`"),
        Error::Unwritten { tail } => {
            format!("`--from tail` waits there with --follow; the last record is below {tail}")
        }
        Error::Diverged { lsn, .. } => {
            format!("what you know of the log ends below {lsn}: drop the rest, read on from there")
        }
        Error::Unsupported(_) => "use the version that wrote it, or a newer one".into(),
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_failure_keeps_its_code_under_any_context() {
        let error = anyhow::Error::new(Error::NoSpace("here".into())).context("appending");
        assert_eq!(of(&error), Exit::NoSpace);
        let error: anyhow::Result<()> = Err(Failure::new(Exit::Missing, "no").into());
        assert_eq!(of(&error.context("outer").unwrap_err()), Exit::Missing);
        assert_eq!(of(&anyhow::anyhow!("plain")), Exit::Other);
    }

    #[test]
    fn a_message_says_nothing_twice() {
        let error = anyhow::anyhow!("inner").context("outer: inner").context("top");
        assert_eq!(text(&error), "top: outer: inner");
    }
}
