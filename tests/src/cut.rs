//! A storage whose power fails at a chosen operation, wherever the engine is by then: in a commit,
//! in the manifest, in the middle of recovery.
//!
//! Invariants: the image is taken once; what the engine does afterwards happens to a ghost and
//! counts for nothing. The operation that the power fails in has begun: any part of it may survive.
//!
//! Not here: crashes between operations, which need no wrapper ([`SimStorage::crash`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sapwood::io::buf::AlignedBuf;
use sapwood::io::sim::SimStorage;
use sapwood::io::{
    Bell, Clock, Disk, DiskSpec, Done, File, HostInfo, LockOutcome, Mode, Op, Probe, Storage, Wait,
};

/// See the module.
#[derive(Clone)]
pub struct CutStorage(Arc<Inner>);

struct Inner {
    world: SimStorage,
    /// Operations until the power fails; 0: it does not.
    left: AtomicU64,
    image: Mutex<Option<SimStorage>>,
}

impl Inner {
    /// Counts an operation; true when the power fails in it.
    fn count(&self) -> bool {
        let before = self.left.load(Ordering::Relaxed);
        if before > 0 {
            self.left.store(before - 1, Ordering::Relaxed);
        }
        before == 1
    }

    fn take(&self) {
        *self.image.lock() = Some(self.world.crash());
    }

    fn change<T>(&self, run: impl FnOnce(&SimStorage) -> T) -> T {
        if self.count() {
            self.take();
        }
        run(&self.world)
    }
}

impl CutStorage {
    /// Over this world, with the power on.
    #[must_use]
    pub fn new(world: SimStorage) -> Self {
        Self(Arc::new(Inner { world, left: AtomicU64::new(0), image: Mutex::new(None) }))
    }

    /// Has the power fail in the `operations`-th operation from now on; 0: in none.
    pub fn cut_after(&self, operations: u64) {
        self.0.left.store(operations, Ordering::Relaxed);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.image.lock().is_some()
    }

    /// What the power cut left, or what one at this moment would.
    #[must_use]
    pub fn image(&self) -> SimStorage {
        let taken = self.0.image.lock().take();
        taken.unwrap_or_else(|| self.0.world.crash())
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &SimStorage {
        &self.0.world
    }
}

struct CutDisk {
    inner: Arc<Inner>,
    disk: Box<dyn Disk>,
}

impl Disk for CutDisk {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        let cut = self.inner.count();
        let answer = self.disk.submit(token, op);
        if cut {
            self.inner.take();
        }
        answer
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        self.disk.reap(done, wait)
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.disk.bell()
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight()
    }

    fn resubmits(&self) -> u64 {
        self.disk.resubmits()
    }

    fn backend(&self) -> &'static str {
        self.disk.backend()
    }
}

impl Storage for CutStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.world.list()
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.0.world.open(name, mode)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.0.change(|world| world.create(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.0.world.len(file)
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        self.0.world.read_at(file, offset, buf, len)
    }

    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        if self.0.count() {
            // Begun and not durable when the power fails: any of its sectors may survive.
            self.0.world.write_at(file, offset, buf, len, false)?;
            self.0.take();
        }
        self.0.world.write_at(file, offset, buf, len, persist)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.0.change(|world| world.sync(file))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.change(|world| world.sync_dir())
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let done = self.0.world.truncate(file, bytes);
        self.0.change(|_| done)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let done = self.0.world.remove(name);
        self.0.change(|_| done)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let done = self.0.world.rename(from, to);
        self.0.change(|_| done)
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        let disk = self.0.world.disk(spec)?;
        Ok(Box::new(CutDisk { inner: Arc::clone(&self.0), disk }))
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.0.change(|world| world.lock(name, identity))
    }

    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        self.0.world.lock_owner_alive(name)
    }

    fn probe(&self) -> &Probe {
        self.0.world.probe()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.world.clock()
    }

    fn random_u64(&self) -> u64 {
        self.0.world.random_u64()
    }

    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        pin: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        self.0.world.spawn(name, run, pin)
    }
}
