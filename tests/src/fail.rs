//! A storage in which one chosen operation fails, or everything from it on: wherever the engine is
//! by then, in a commit, in the manifest, in a recovery, in a read.
//!
//! Invariants: the same calls have the same numbers in every run, so that each can be failed in
//! turn; an operation that failed before it began leaves nothing, one that landed is all there and
//! told as failed all the same (what a lost answer looks like).
//!
//! Not here: failures by chance (`sapwood::io::sim::Faults`), the power switch (`cut`).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sapwood::io::buf::{AlignedBuf, IoBuf};
use sapwood::io::sim::SimStorage;
use sapwood::io::{
    Bell, Clock, Disk, DiskSpec, Done, File, HostInfo, LockOutcome, Mode, Op, Probe, Storage, Wait,
};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EIO, and nothing of it was done.
    Refused,
    /// EIO, although all of it was done.
    Landed,
    /// ENOSPC, and nothing of it was done.
    Full,
}

impl Kind {
    fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(if self == Self::Full { ENOSPC } else { EIO })
    }
}

/// Which operations fail.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first, counted from 1.
    pub at: u64,
    /// How.
    pub kind: Kind,
    /// And every later one.
    pub for_ever: bool,
}

#[derive(Default)]
struct Inner {
    counted: u64,
    plan: Option<Plan>,
    failed: u64,
}

/// See the module.
#[derive(Clone)]
pub struct FailStorage {
    world: SimStorage,
    inner: Arc<Mutex<Inner>>,
}

impl FailStorage {
    /// Over this world; without a plan, operations are only counted.
    #[must_use]
    pub fn new(world: SimStorage, plan: Option<Plan>) -> Self {
        Self { world, inner: Arc::new(Mutex::new(Inner { plan, ..Inner::default() })) }
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &SimStorage {
        &self.world
    }

    /// The same count and plan, over another world: what a power cut left.
    #[must_use]
    pub fn onto(&self, world: SimStorage) -> Self {
        Self { world, inner: Arc::clone(&self.inner) }
    }

    /// Fails by this plan from now on.
    pub fn fail(&self, plan: Plan) {
        self.inner.lock().plan = Some(plan);
    }

    /// Nothing fails from now on.
    pub fn mend(&self) {
        self.inner.lock().plan = None;
    }

    /// Operations so far.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.inner.lock().counted
    }

    /// How many of them failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.inner.lock().failed
    }

    /// Counts an operation; how it fails.
    fn count(&self) -> Option<Kind> {
        let mut inner = self.inner.lock();
        inner.counted += 1;
        let plan = inner.plan?;
        let hit = if plan.for_ever { inner.counted >= plan.at } else { inner.counted == plan.at };
        inner.failed += u64::from(hit);
        hit.then_some(plan.kind)
    }

    fn run<T>(&self, run: impl FnOnce(&SimStorage) -> io::Result<T>) -> io::Result<T> {
        match self.count() {
            None => run(&self.world),
            Some(kind @ Kind::Landed) => run(&self.world).and_then(|_| Err(kind.error())),
            Some(kind) => Err(kind.error()),
        }
    }
}

struct FailDisk {
    storage: FailStorage,
    disk: Box<dyn Disk>,
    /// Refused, and not told yet.
    refused: Vec<Done>,
    /// Under way, to be told as failed.
    landing: BTreeSet<u64>,
}

fn refuse(token: u64, op: Op, kind: Kind) -> Done {
    let buf = match op {
        Op::Write { buf, .. } => Some(buf),
        Op::Read { buf, .. } => Some(IoBuf::Owned(buf)),
        _ => None,
    };
    Done { token, result: Err(kind.error()), buf, file: None }
}

impl Disk for FailDisk {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        match self.storage.count() {
            None => self.disk.submit(token, op),
            Some(Kind::Landed) => {
                self.disk.submit(token, op)?;
                self.landing.insert(token);
                Ok(())
            }
            Some(kind) => {
                self.refused.push(refuse(token, op, kind));
                Ok(())
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        let wait = if self.refused.is_empty() { wait } else { Wait::No };
        let before = done.len();
        self.disk.reap(done, wait)?;
        for done in &mut done[before..] {
            if self.landing.remove(&done.token) {
                done.result = Err(Kind::Landed.error());
                done.file = None;
            }
        }
        done.append(&mut self.refused);
        Ok(())
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.disk.bell()
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight() + self.refused.len()
    }

    fn resubmits(&self) -> u64 {
        self.disk.resubmits()
    }

    fn backend(&self) -> &'static str {
        self.disk.backend()
    }
}

impl Storage for FailStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.run(|world| world.list())
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.run(|world| world.open(name, mode))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.run(|world| world.create(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.run(|world| world.len(file))
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        self.run(|world| world.read_at(file, offset, buf, len))
    }

    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        self.run(|world| world.write_at(file, offset, buf, len, persist))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.run(|world| world.sync(file))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.run(|world| world.sync_dir())
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.run(|world| world.truncate(file, bytes))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.run(|world| world.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.run(|world| world.rename(from, to))
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        let disk = self.world.disk(spec)?;
        let (refused, landing) = (Vec::new(), BTreeSet::new());
        Ok(Box::new(FailDisk { storage: self.clone(), disk, refused, landing }))
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.run(|world| world.lock(name, identity))
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
