//! A storage that counts what is read of each file by calls that block: by readers and recovery.
//!
//! Not here: what shards read and write (they have disks of their own), failures (`fail`).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use sapwood::io::hooked::{Hook, Hooked};
use sapwood::io::sim::SimStorage;

/// Reads of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// How many.
    pub calls: u64,
    /// What they gave.
    pub bytes: u64,
}

/// Counts reads.
#[derive(Default)]
pub struct Counting {
    reads: Mutex<BTreeMap<String, Read>>,
}

/// See the module.
pub type CountStorage = Hooked<Counting>;

impl From<SimStorage> for Counting {
    fn from(_: SimStorage) -> Self {
        Self::default()
    }
}

impl Hook for Counting {
    fn read(&self, name: &str, bytes: usize) {
        let mut reads = self.reads.lock();
        let read = reads.entry(name.to_owned()).or_default();
        read.calls += 1;
        read.bytes += bytes as u64;
    }
}

impl Counting {
    /// What was read since the last look, by file, of those whose name begins like this.
    #[must_use]
    pub fn take(&self, like: &str) -> BTreeMap<String, Read> {
        let mut reads = self.reads.lock();
        let names: Vec<_> = reads.keys().filter(|name| name.starts_with(like)).cloned().collect();
        names.into_iter().filter_map(|name| reads.remove_entry(&name)).collect()
    }

    /// All of [`take`](Self::take) together.
    #[must_use]
    pub fn take_all(&self, like: &str) -> Read {
        self.take(like).values().fold(Read::default(), |sum, read| Read {
            calls: sum.calls + read.calls,
            bytes: sum.bytes + read.bytes,
        })
    }
}
