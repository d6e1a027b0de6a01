//! The files of a shard that readers have open: segments and indexes, a bounded number, shared.
//!
//! Invariants:
//! - At most `max` files are kept open, whatever the number of logs and of readers. A reader
//!   holds a place and no file: it asks for the file at each read, and has its clone only until
//!   that ends.
//! - A file stands for its number, which no other file ever gets: a handle that was kept is never
//!   that of something else. The *segment* in the file may change, as files are used again; who
//!   reads tells that by the nonce in what is read, as before.
//! - At most [`AHEAD_MAX`] readers of a shard read ahead at once, each with threads and a clone.
//! - When a segment leaves the view its files are forgotten, so that their space is free once they
//!   are removed. The shard does that: the lock is held for look-ups in memory that is there
//!   already, never across a system call or an allocation.
//!
//! Not here: what the bytes mean (`catchup`, `index`), what the shard itself has open (`segment`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::io::{File, Mode, Storage};
use crate::lsn::ShardId;
use crate::names;

/// Files that the readers of a shard keep open, unless the settings say otherwise.
pub(crate) const READ_FILES_MAX: u32 = 64;

/// Readers of a shard that may read ahead, by threads of their own, at once.
pub(crate) const AHEAD_MAX: usize = 4;

/// Which file of a shard, by the number in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Segment(u64),
    Index(u64),
}

impl What {
    /// Its name.
    pub(crate) fn name(self, shard: ShardId) -> String {
        match self {
            Self::Segment(number) => names::segment(shard, number),
            Self::Index(number) => names::index(shard, number),
        }
    }
}

struct Kept {
    what: What,
    file: File,
    used: u64,
}

#[derive(Default)]
struct Shelf {
    kept: Vec<Kept>,
    /// Counts uses: who was used longest ago goes first.
    uses: u64,
}

/// See the module. One per shard.
pub(crate) struct Files {
    max: AtomicUsize,
    shelf: Mutex<Shelf>,
    ahead: AtomicUsize,
}

impl Default for Files {
    fn default() -> Self {
        Self::new(READ_FILES_MAX)
    }
}

impl Files {
    pub(crate) fn new(max: u32) -> Self {
        let max = max.max(1) as usize;
        let shelf = Mutex::new(Shelf { kept: Vec::with_capacity(max), uses: 0 });
        Self { max: AtomicUsize::new(max), shelf, ahead: AtomicUsize::new(0) }
    }

    /// Another bound, before anybody reads.
    pub(crate) fn set_max(&self, max: u32) {
        let mut shelf = self.shelf.lock();
        shelf.kept.reserve(max as usize);
        self.max.store(max.max(1) as usize, Ordering::Relaxed);
    }

    /// Lets one more reader read ahead, until it drops this; `None` when enough of them do.
    pub(crate) fn read_ahead(self: &Arc<Self>) -> Option<Ahead> {
        let more = |count| (count < AHEAD_MAX).then_some(count + 1);
        let taken = self.ahead.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Ahead(Arc::clone(self)))
    }

    /// The file, opened if it is not yet. For one read.
    pub(crate) fn get(
        &self,
        storage: &dyn Storage,
        shard: ShardId,
        what: What,
    ) -> io::Result<File> {
        if let Some(file) = self.find(what) {
            return Ok(file);
        }
        let (file, _) = storage.open(&what.name(shard), Mode::Read)?;
        // Whatever is closed by this is closed without the lock.
        let _evicted = self.keep(what, file.clone());
        Ok(file)
    }

    fn find(&self, what: What) -> Option<File> {
        let mut shelf = self.shelf.lock();
        shelf.uses += 1;
        let now = shelf.uses;
        let kept = shelf.kept.iter_mut().find(|kept| kept.what == what)?;
        kept.used = now;
        Some(kept.file.clone())
    }

    fn keep(&self, what: What, file: File) -> Option<Kept> {
        let mut shelf = self.shelf.lock();
        let used = shelf.uses;
        if shelf.kept.iter().any(|kept| kept.what == what) {
            return Some(Kept { what, file, used }); // another reader was faster
        }
        let mut evicted = None;
        if shelf.kept.len() >= self.max.load(Ordering::Relaxed) {
            let oldest = shelf.kept.iter().enumerate().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.map(|(at, _)| at);
            evicted = oldest.map(|at| shelf.kept.swap_remove(at));
        }
        shelf.kept.push(Kept { what, file, used });
        evicted
    }

    /// Closes a file, once no read of it is under way.
    pub(crate) fn forget(&self, what: What) {
        let mut shelf = self.shelf.lock();
        let at = shelf.kept.iter().position(|kept| kept.what == what);
        let _gone = at.map(|at| shelf.kept.swap_remove(at));
        drop(shelf); // before what is closed
    }

    /// Closes the segment and its index that stand in the files of this number.
    pub(crate) fn forget_segment(&self, number: u64) {
        self.forget(What::Segment(number));
        self.forget(What::Index(number));
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        let fresh = Vec::with_capacity(self.max.load(Ordering::Relaxed));
        let _gone = std::mem::replace(&mut self.shelf.lock().kept, fresh);
    }
}

/// A reader's leave to read ahead.
pub(crate) struct Ahead(Arc<Files>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.ahead.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Faults, SimStorage};

    #[test]
    fn the_files_used_last_stay_open_and_no_others() {
        let disk = SimStorage::new(1, Faults::default());
        let shard = ShardId(0);
        for number in 0..6 {
            disk.create(&names::segment(shard, number)).unwrap();
        }
        let files = Files::new(3);
        let get = |number| files.get(&disk, shard, What::Segment(number)).unwrap();
        let first = get(0);
        for number in [1, 2, 0, 3, 4, 0] {
            drop(get(number));
            assert!(files.shelf.lock().kept.len() <= 3);
        }
        assert!(get(0).same(&first), "used in between: kept all the time");
        let kept: Vec<_> = files.shelf.lock().kept.iter().map(|kept| kept.what).collect();
        assert!(!kept.contains(&What::Segment(1)), "{kept:?}");
        files.forget_segment(0);
        assert!(!get(0).same(&first), "forgotten: opened anew");
        files.clear();
        assert!(files.shelf.lock().kept.is_empty());
        assert!(files.get(&disk, shard, What::Index(0)).is_err(), "there is none");
    }
}
