//! A durable cursor: a consumer's place in a log, kept by the engine.
//!
//! Invariants: a place is durable before `set` returns, and is never beyond the log's durable end;
//! what `get` gives is durable. A cursor goes with its log.
//!
//! Not here: reading (`reader`), the table of them (`cursors`).

use std::fmt;
use std::sync::Arc;

use crate::catalog::check_name;
use crate::cursors::CURSORS_MAX;
use crate::error::{Error, Result};
use crate::format::manifest::{CURSOR_GONE, Edit};
use crate::inner::{Inner, change};
use crate::lsn::{LogId, Lsn};

/// A named place in a log, which survives crashes: how a consumer goes on where it was, at least
/// once for each record. Cheap to clone.
///
/// While it is set, retention by size or age takes nothing at or above it: a consumer that has
/// gone for good pins its log until the cursor is deleted. [`Log::truncate`](crate::Log::truncate)
/// does not ask cursors.
#[derive(Clone)]
pub struct Cursor {
    inner: Arc<Inner>,
    log: LogId,
    name: Arc<str>,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({:?} of log {})", self.name, self.log)
    }
}

impl Cursor {
    pub(crate) fn new(inner: Arc<Inner>, log: LogId, name: &str) -> Result<Self> {
        check_name("cursor", name)?;
        Ok(Self { inner, log, name: name.into() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next LSN that the consumer wants: begin reading there. `None`: never set, or deleted.
    ///
    /// # Errors
    /// `NoSuchLog` when the log was deleted.
    pub fn get(&self) -> Result<Option<Lsn>> {
        let view = self.inner.view(self.log.shard());
        let view = view.lock();
        view.log(self.log).ok_or_else(|| gone(self.log))?;
        Ok(view.cursors.get(self.log, &self.name))
    }

    /// Moves it, forward or back, creating it when there is none; durable when this returns. Give
    /// the LSN after the last record that was dealt with. Moving it costs a write of the manifest:
    /// after a batch of records rather than after each.
    ///
    /// # Errors
    /// `Trimmed` below the log's start and `Unwritten` beyond its durable end; `Invalid` for one
    /// more than the 64 that a log may have and in a read-only engine; `NoSuchLog` when the log was
    /// deleted; else as the shard says, and then it may have moved or not.
    pub fn set(&self, next: Lsn) -> Result<()> {
        let port = self.inner.port(self.log.shard())?;
        let known = {
            let view = port.view.lock();
            let log = view.log(self.log).ok_or_else(|| gone(self.log))?;
            if next < log.start {
                return Err(Error::Trimmed { start: log.start });
            }
            if next > log.next {
                return Err(Error::Unwritten { tail: log.next });
            }
            view.cursors.get(self.log, &self.name).is_some()
        };
        if known {
            return self.change(next);
        }
        // One new cursor at a time, so that they can be counted.
        let _one_at_a_time = self.inner.creating.lock();
        if port.view.lock().cursors.of(self.log).len() >= CURSORS_MAX {
            return Err(Error::Invalid(format!("a log has at most {CURSORS_MAX} cursors")));
        }
        self.change(next)
    }

    /// Deletes it, durably; it pins nothing any more. Deleting one that is not there does nothing.
    ///
    /// # Errors
    /// `NoSuchLog` when the log was deleted; `Invalid` in a read-only engine; else as the shard
    /// says.
    pub fn delete(&self) -> Result<()> {
        if self.get()?.is_none() {
            return Ok(());
        }
        self.change(CURSOR_GONE)
    }

    fn change(&self, lsn: Lsn) -> Result<()> {
        let port = self.inner.port(self.log.shard())?;
        change(&port, vec![Edit::Cursor { log: self.log, name: self.name.to_string(), lsn }])?;
        // Its log may have been deleted meanwhile, and it with it.
        self.get().map(drop)
    }
}

/// The log of a handle was deleted: open it anew by its name, if that is given again.
pub(crate) fn gone(log: LogId) -> Error {
    Error::NoSuchLog(format!("{log} (deleted)"))
}
