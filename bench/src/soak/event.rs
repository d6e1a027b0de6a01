//! What the load says on its pipe, a line each: what it is about to do, and what was acked.
//!
//! Invariants: a line is written by one call before the deed (or after the ack) and is shorter than
//! a pipe writes at once, so a kill leaves whole lines, and what was said before it is heard.

use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// One line. Logs go by their number; a record by its sequence number, which no other record of the
/// soak has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A survey of all logs begins: what an opening found.
    Survey,
    /// Found: a log with its first LSN and the one behind its last.
    Found { log: u32, start: u64, next: u64 },
    /// Found in it: so many records, consecutive in LSN and in sequence.
    Run { log: u32, lsn: u64, seq: u64, count: u64 },
    /// The survey ends, the load begins.
    Ready,
    /// To be created, or it was.
    Create { log: u32, acked: bool },
    /// To be deleted, or it was.
    Delete { log: u32, acked: bool },
    /// So many records in one append, to be kept or dropped together.
    Append { log: u32, seq: u64, count: u64 },
    /// The oldest append of the log that was not acked yet is: its first LSN.
    Acked { log: u32, lsn: u64 },
    /// Its start to be moved, or it was.
    Truncate { log: u32, lsn: u64, acked: bool },
    /// Its suffix to be cut, or it was.
    Cut { log: u32, lsn: u64, acked: bool },
    /// So many records came to followers, each behind the one before.
    Followed { count: u64 },
}

impl Event {
    /// Says it.
    pub(crate) fn say(self) -> io::Result<()> {
        io::stdout().lock().write_all(self.line().as_bytes()) // a line goes out at its end
    }

    fn line(self) -> String {
        let sign = |acked| if acked { '+' } else { '?' };
        match self {
            Self::Survey => "survey\n".to_owned(),
            Self::Found { log, start, next } => format!("found {log} {start} {next}\n"),
            Self::Run { log, lsn, seq, count } => format!("run {log} {lsn} {seq} {count}\n"),
            Self::Ready => "ready\n".to_owned(),
            Self::Create { log, acked } => format!("create{} {log}\n", sign(acked)),
            Self::Delete { log, acked } => format!("delete{} {log}\n", sign(acked)),
            Self::Append { log, seq, count } => format!("append {log} {seq} {count}\n"),
            Self::Acked { log, lsn } => format!("acked {log} {lsn}\n"),
            Self::Truncate { log, lsn, acked } => format!("truncate{} {log} {lsn}\n", sign(acked)),
            Self::Cut { log, lsn, acked } => format!("cut{} {log} {lsn}\n", sign(acked)),
            Self::Followed { count } => format!("followed {count}\n"),
        }
    }
}

impl FromStr for Event {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = words.map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("the load said {line:?}"))?;
        let log = numbers.first().map_or(0, |log| *log as u32);
        let acked = word.ends_with('+');
        Ok(match (word.trim_end_matches(['+', '?']), &numbers[..]) {
            ("survey", []) => Self::Survey,
            ("found", &[_, start, next]) => Self::Found { log, start, next },
            ("run", &[_, lsn, seq, count]) => Self::Run { log, lsn, seq, count },
            ("ready", []) => Self::Ready,
            ("create", [_]) => Self::Create { log, acked },
            ("delete", [_]) => Self::Delete { log, acked },
            ("append", &[_, seq, count]) => Self::Append { log, seq, count },
            ("acked", &[_, lsn]) => Self::Acked { log, lsn },
            ("truncate", &[_, lsn]) => Self::Truncate { log, lsn, acked },
            ("cut", &[_, lsn]) => Self::Cut { log, lsn, acked },
            ("followed", &[count]) => Self::Followed { count },
            _ => bail!("the load said {line:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        for event in [
            Event::Survey,
            Event::Found { log: 7, start: 1, next: 9 },
            Event::Run { log: 7, lsn: 1, seq: 1 << 40, count: 8 },
            Event::Ready,
            Event::Create { log: 1, acked: false },
            Event::Create { log: 1, acked: true },
            Event::Delete { log: 1, acked: true },
            Event::Append { log: 3, seq: 5, count: 2 },
            Event::Acked { log: 3, lsn: 4 },
            Event::Truncate { log: 3, lsn: 4, acked: false },
            Event::Cut { log: 3, lsn: 4, acked: true },
            Event::Followed { count: 3 },
        ] {
            let line = event.line();
            assert_eq!(line.trim_end().parse::<Event>().unwrap(), event, "{line}");
        }
        assert!("cut+ 3".parse::<Event>().is_err() && "acked 3 x".parse::<Event>().is_err());
    }
}
