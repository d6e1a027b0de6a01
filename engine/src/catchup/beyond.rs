//! Beyond the local disk: what a cursor wants of the archive, and what it takes from its answer.
//!
//! Not here: asking and waiting (`reader`), judging an answer (`archive`).

use super::Cursor;
use crate::archive::{self, FETCH_BYTES, Wanted};
use crate::bisect::Bisect;
use crate::error::{Error, Result};
use crate::items::Item;
use crate::lsn::Lsn;

impl Cursor {
    /// `next` is kept, and not here: notes what the archive is to be asked for.
    pub(super) fn want(&mut self, below: Lsn) -> Result<()> {
        let (log, from) = (self.log, self.next);
        let start = self.source.view.lock().log(log).map_or(from, |log| log.start);
        if from < start {
            return Err(Error::Trimmed { start });
        }
        if self.source.archive.is_none() {
            return Err(Error::Invalid(format!(
                "LSNs {from} to {} of log {log} are in the tier alone, and the engine was opened \
                 without an archive: open it with one (Components::archive), or read from \
                 {below} on",
                Lsn(below.0.max(1) - 1)
            )));
        }
        // A cut under way may have put newer records below: they are looked for when it answered.
        let below = below.max(from.next());
        let ((directory, lineage), bytes_max) = (self.source.directory, FETCH_BYTES);
        let wanted = Wanted { directory, lineage, log, from, below, bytes_max };
        self.wanted = Some(self.sought(wanted));
        Ok(())
    }

    /// What to ask for first: who seeks a time looks at single records before.
    fn sought(&mut self, wanted: Wanted) -> Wanted {
        if self.not_before_us == 0 {
            return wanted;
        }
        let bisect = self.bisect.get_or_insert(Bisect::new(wanted.from, wanted.below));
        match bisect.next() {
            Ok(at) => Bisect::look(wanted, at),
            Err(low) => {
                self.next = self.next.max(low).min(Lsn(wanted.below.0 - 1));
                Wanted { from: self.next, ..wanted }
            }
        }
    }

    /// What the last step wants from the archive.
    pub(crate) fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    /// Takes what the archive gave, in place of a batch.
    pub(crate) fn supply(&mut self, wanted: &Wanted, given: Result<Vec<u8>>) -> Result<()> {
        // It may have been truncated or cut meanwhile.
        self.heed()?;
        self.forget();
        if wanted.from != self.next
            && let Some(bisect) = &mut self.bisect
        {
            let dropped = |at| self.cuts.dropped(at).is_some();
            let found = given.map(|bytes| archive::check(&bytes, wanted, dropped)).ok();
            match found.as_ref().and_then(|found| found.records.first()) {
                Some(one) => bisect.seen(wanted.from, one.header.time_us < self.not_before_us),
                None => bisect.give_up(),
            }
            return Ok(());
        }
        let bytes = given?;
        let found = archive::check(&bytes, wanted, |at| self.cuts.dropped(at).is_some());
        if found.too_large {
            let why = format!("it gave {}", found.wrong.unwrap_or_default());
            return Err(Error::io("fetching from the archive", std::io::Error::other(why)));
        }
        if let (true, Some(reason)) = (found.records.is_empty(), found.wrong) {
            if found.unsupported {
                return Err(Error::Unsupported(format!("a record of the archive: {reason}")));
            }
            return Err(self.damaged(wanted.from, 0, format!("in the archive: {reason}")));
        }
        self.batch = bytes;
        self.items = found.records.into_iter().map(Item::from).collect();
        Ok(())
    }
}
