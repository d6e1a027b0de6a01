//! The kinds of errors, by what the caller does next.
//!
//! Invariants: an error that concerns records says exactly which; the first cause of a halt is kept
//! and shown by every later error. The text of a message is not part of the API, the kind is.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::format::Flaw;
use crate::lsn::{Epoch, LogId, Lsn, Position, SegmentId};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what to do about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Fix the call: a name, a size or a setting out of range. Nothing was done.
    Invalid(String),
    /// No room in memory for the record now: retry, or use `append`, which waits.
    Busy,
    /// No room on disk: nothing was lost; retry after space was made.
    NoSpace(String),
    /// A newer writer has this log. Stop: this writer can never append again.
    Fenced {
        /// The epoch that fenced this writer.
        epoch: Epoch,
    },
    /// `append_if` found another tail than expected.
    Conflict {
        /// The tail there is.
        tail: Lsn,
    },
    /// The record was staged and its fate is not known: after reopening it may be there or not.
    /// Look before you append it again.
    Unknown {
        /// Where it would be.
        position: Position,
        /// Why it is not known.
        cause: Arc<Cause>,
    },
    /// The log starts later: move the cursor to `start`.
    Trimmed {
        /// The first LSN kept.
        start: Lsn,
    },
    /// The log was cut before this position and continued under another epoch.
    Diverged {
        /// The epoch that continued.
        epoch: Epoch,
        /// Where it began.
        lsn: Lsn,
    },
    /// Beyond the tail: nothing has been written there.
    Unwritten {
        /// The next LSN to be assigned.
        tail: Lsn,
    },
    /// Records that were acked are damaged. They are never skipped unless someone chooses to
    /// (`salvage`).
    Corrupt(Box<Damage>),
    /// Records that someone chose to go on without.
    Lost(Box<Damage>),
    /// The shard stopped after a failed write or sync; what was acked stays readable. Reopen.
    Halted {
        /// The first failure.
        cause: Arc<Cause>,
    },
    /// The shard is driven by the caller's thread, and nobody drove it in time.
    Undriven,
    /// Another living process has the directory open for writing.
    Locked {
        /// Its process id, as far as the lock file tells.
        pid: u32,
        /// Its host.
        host: String,
    },
    /// The directory holds something that is not this Sapwood directory.
    NotOurs(String),
    /// Written by a newer version, or with a feature that this version does not have.
    Unsupported(String),
    /// No such log.
    NoSuchLog(String),
    /// A hold passed its limit: what it kept may be gone. Take another, or raise the limit.
    HoldBroken(String),
    /// The engine was closed.
    Closed,
    /// The system refused something outside the append path (open, list, create).
    Io {
        /// What was being done, to what.
        doing: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// The first failure of a shard.
#[derive(Debug)]
pub struct Cause {
    /// What was being done, to which file, at which offset.
    pub doing: String,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}

/// A stretch of a log that cannot be read as it was acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log, where it is known: a rotten batch whose run table is gone names none.
    pub log: Option<LogId>,
    /// First LSN that is hit.
    pub first: Lsn,
    /// Last LSN that is hit; `None` when it cannot be told how far the damage reaches.
    pub last: Option<Lsn>,
    /// The segment it was found in.
    pub segment: SegmentId,
    /// Byte offset in the segment's file.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            Some(log) => write!(f, "log {log}, ")?,
            None => write!(f, "log unknown, ")?,
        }
        match self.last {
            Some(last) if last == self.first => write!(f, "LSN {last}")?,
            Some(last) => write!(f, "LSNs {} to {last}", self.first)?,
            None => write!(f, "LSNs from {} on", self.first)?,
        }
        write!(f, ", segment {} at offset {}: {}", self.segment, self.offset, self.reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "invalid: {what}"),
            Self::Busy => write!(f, "no room in memory now; retry"),
            Self::NoSpace(what) => write!(f, "no space on the disk ({what}); free some and retry"),
            Self::Fenced { epoch } => {
                write!(f, "fenced: a newer writer (epoch {epoch}) has this log")
            }
            Self::Conflict { tail } => write!(f, "conflict: the log's tail is {tail}"),
            Self::Unknown { position, cause } => write!(
                f,
                "unknown: the record at {position} may be found after reopening, or not ({cause})"
            ),
            Self::Trimmed { start } => write!(f, "trimmed: the log starts at {start}"),
            Self::Diverged { epoch, lsn } => {
                write!(f, "diverged: the log continues from {lsn} under epoch {epoch}")
            }
            Self::Unwritten { tail } => write!(f, "unwritten: the log's tail is {tail}"),
            Self::Corrupt(damage) => write!(
                f,
                "corrupt: {damage}; acked records are damaged and not skipped \
                 (see `sapwood verify`; `sapwood salvage` goes on without them)"
            ),
            Self::Lost(damage) => write!(f, "lost: {damage} (salvaged)"),
            Self::Halted { cause } => write!(
                f,
                "halted: the shard stopped after a failure ({cause}); what was acked stays \
                 readable, reopen to go on"
            ),
            Self::Undriven => write!(f, "undriven: no thread drives this shard"),
            Self::Locked { pid, host } => {
                write!(f, "locked: process {pid} on {host} is writing this directory")
            }
            Self::NotOurs(what) => write!(f, "not ours: {what}"),
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
            Self::NoSuchLog(name) => write!(f, "no log named {name:?}"),
            Self::HoldBroken(what) => {
                write!(f, "hold broken: {what}; begin again, or open with a larger limit")
            }
            Self::Closed => write!(f, "the engine is closed"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            Self::Halted { cause } | Self::Unknown { cause, .. } => Some(&cause.error),
            _ => None,
        }
    }
}

impl Error {
    /// Wraps what the system said with what was being done; a full disk becomes [`Error::NoSpace`].
    #[must_use]
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(format!("{doing}: {source}"))
            }
            _ => Self::Io { doing, source: Arc::new(source) },
        }
    }

    /// A flaw in a file of ours: newer version, or damage told as `NotOurs` by the opener.
    pub(crate) fn flaw(what: &str, flaw: &Flaw) -> Self {
        if flaw.is_unsupported() {
            Self::Unsupported(format!("{what}: {flaw}"))
        } else {
            Self::NotOurs(format!("{what}: {flaw}"))
        }
    }
}

/// An append that did not happen. An owned record comes back so that it can be retried.
#[derive(Debug)]
pub struct Rejected<R> {
    /// The record, untouched; `None` when it had been staged (its fate is then [`Error::Unknown`]).
    pub record: Option<R>,
    /// Why.
    pub error: Error,
}

impl<R> fmt::Display for Rejected<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<R: fmt::Debug> std::error::Error for Rejected<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<R> From<Rejected<R>> for Error {
    fn from(rejected: Rejected<R>) -> Self {
        rejected.error
    }
}
