//! A storage that counts what is read of each file by calls that block: by readers and recovery.
//!
//! Not here: what shards read and write (they have disks of their own), failures (`fail`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sapwood::io::buf::AlignedBuf;
use sapwood::io::sim::SimStorage;
use sapwood::io::{Clock, Disk, DiskSpec, File, HostInfo, LockOutcome, Mode, Probe, Storage};

/// Reads of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// How many.
    pub calls: u64,
    /// What they gave.
    pub bytes: u64,
}

/// See the module.
#[derive(Clone)]
pub struct CountStorage {
    world: SimStorage,
    reads: Arc<Mutex<BTreeMap<String, Read>>>,
}

impl CountStorage {
    /// Over this world.
    #[must_use]
    pub fn new(world: SimStorage) -> Self {
        Self { world, reads: Arc::default() }
    }

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

impl Storage for CountStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.world.list()
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.world.open(name, mode)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.world.create(name)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.world.len(file)
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        let got = self.world.read_at(file, offset, buf, len)?;
        let mut reads = self.reads.lock();
        let read = reads.entry(file.name().to_owned()).or_default();
        read.calls += 1;
        read.bytes += got as u64;
        Ok(got)
    }

    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        self.world.write_at(file, offset, buf, len, persist)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.world.sync(file)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.world.sync_dir()
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.world.truncate(file, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.world.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.world.rename(from, to)
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        self.world.disk(spec)
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.world.lock(name, identity)
    }

    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        self.world.lock_owner_alive(name)
    }

    fn probe(&self) -> &Probe {
        self.world.probe()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.world.clock()
    }

    fn random_u64(&self) -> u64 {
        self.world.random_u64()
    }

    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        pin: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        self.world.spawn(name, run, pin)
    }
}
