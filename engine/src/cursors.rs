//! The durable cursors of a shard's logs: by name, the next LSN that a consumer wants.
//!
//! Invariants: a cursor belongs to a log and goes with it; a log without cursors takes no memory
//! here.
//!
//! Not here: moving one durably (`cursor`), when the edit is durable (`manifest`).

use std::collections::BTreeMap;

use crate::format::manifest::CURSOR_GONE;
use crate::lsn::{LogId, Lsn};

/// Cursors that a log may have.
pub(crate) const CURSORS_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    /// Per log that has any: sorted by name.
    by_log: BTreeMap<LogId, Vec<(Box<str>, Lsn)>>,
}

impl Cursors {
    /// Sets a cursor, or removes it (`CURSOR_GONE`).
    pub(crate) fn apply(&mut self, log: LogId, name: &str, lsn: Lsn) {
        if lsn == CURSOR_GONE {
            let Some(cursors) = self.by_log.get_mut(&log) else { return };
            cursors.retain(|(known, _)| **known != *name);
            if cursors.is_empty() {
                self.by_log.remove(&log);
            }
            return;
        }
        let cursors = self.by_log.entry(log).or_default();
        match cursors.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(at) => cursors[at].1 = lsn,
            Err(at) => cursors.insert(at, (name.into(), lsn)),
        }
    }

    /// The log was cut: who was beyond goes on where it goes on.
    pub(crate) fn cut(&mut self, log: LogId, first: Lsn) {
        let cursors = self.by_log.get_mut(&log).into_iter().flatten();
        cursors.for_each(|(_, lsn)| *lsn = (*lsn).min(first));
    }

    /// The log is gone, and they with it.
    pub(crate) fn forget(&mut self, log: LogId) {
        self.by_log.remove(&log);
    }

    /// A log's cursors, by name.
    pub(crate) fn of(&self, log: LogId) -> &[(Box<str>, Lsn)] {
        self.by_log.get(&log).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn get(&self, log: LogId, name: &str) -> Option<Lsn> {
        let cursors = self.of(log);
        let at = cursors.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(cursors[at].1)
    }

    /// The lowest LSN that any cursor of the log still wants: a floor for garbage collection.
    pub(crate) fn lowest(&self, log: LogId) -> Option<Lsn> {
        self.of(log).iter().map(|(_, lsn)| *lsn).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_and_go_with_their_log() {
        let mut cursors = Cursors::default();
        for (log, name, lsn) in [(1, "b", 7), (1, "a", 9), (2, "a", 3), (1, "b", 8)] {
            cursors.apply(LogId(log), name, Lsn(lsn));
        }
        assert_eq!(cursors.get(LogId(1), "b"), Some(Lsn(8)));
        assert_eq!(cursors.lowest(LogId(1)), Some(Lsn(8)));
        let mut again = Cursors::default();
        for log in [1, 2].map(LogId) {
            cursors.of(log).iter().for_each(|(name, lsn)| again.apply(log, name, *lsn));
        }
        assert_eq!(again, cursors);
        cursors.apply(LogId(1), "b", CURSOR_GONE);
        assert_eq!((cursors.get(LogId(1), "b"), cursors.lowest(LogId(1))), (None, Some(Lsn(9))));
        cursors.forget(LogId(1));
        cursors.apply(LogId(2), "a", CURSOR_GONE);
        assert_eq!(cursors, Cursors::default());
    }
}
