//! The simulated storage with a hook at every operation, blocking or of a disk: to fail it, to hold
//! its completion back, to look at the world in the middle of it.
//!
//! Invariants: a hook sees each operation once before it, and once when it has ended; one that
//! fails before it began has no end and leaves nothing, one that landed is all there and told as
//! failed all the same (what a lost answer looks like). Without a word of the hook nothing changes.
//!
//! Not here: failures by chance (`sim::Faults`), what hooks are for (the tests).

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::buf::{AlignedBuf, IoBuf};
use super::sim::SimStorage;
use super::{
    Bell, Clock, Disk, DiskSpec, Done, File, HostInfo, LockOutcome, Mode, Op, Probe, Storage, Wait,
};
use crate::sync::thread::JoinHandle;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as in `Op` and `Storage`
pub enum What {
    List,
    Open,
    Create,
    Len,
    Read,
    Write,
    Sync,
    SyncDir,
    Truncate,
    Remove,
    Rename,
    Lock,
}

/// An operation on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it does.
    pub what: What,
    /// To which file; empty for the directory.
    pub name: String,
    /// From which byte on, of a read or a write.
    pub offset: u64,
    /// Of an operation that a disk was given; `None`: a blocking call.
    pub token: Option<u64>,
}

/// What becomes of an operation.
#[derive(Debug)]
pub enum Fate {
    /// It goes on as if nobody had asked.
    Goes,
    /// It fails before it has begun.
    Fails(io::Error),
    /// It is done, and told as failed.
    Lands(io::Error),
    /// It is done, and its completion comes so much later; a blocking call goes on at once.
    Late(Duration),
    /// It goes on, with [`Hook::under_way`] in the middle of it, when any part of it may have
    /// happened: of a blocking call, what it writes, removes or renames is not durable then.
    InSteps,
}

/// Looks at operations.
pub trait Hook: Send + Sync {
    /// Before an operation: what is to become of it.
    fn before(&self, _call: &Call) -> Fate {
        Fate::Goes
    }

    /// In the middle of an operation that was to be [`InSteps`](Fate::InSteps).
    fn under_way(&self, _call: &Call) {}

    /// It has ended, well or not; nobody was told yet.
    fn after(&self, _call: &Call) {}

    /// A blocking read of this file has given so many bytes.
    fn read(&self, _name: &str, _bytes: usize) {}
}

/// See the module. Clones are the same directory, with the same hook, which it can be asked as.
pub struct Hooked<H> {
    world: SimStorage,
    hook: Arc<H>,
}

impl<H> Clone for Hooked<H> {
    fn clone(&self) -> Self {
        Self { world: self.world.clone(), hook: Arc::clone(&self.hook) }
    }
}

impl<H> Deref for Hooked<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hook
    }
}

impl<H: Hook> Hooked<H> {
    /// This world with this hook.
    #[must_use]
    pub fn with(world: SimStorage, hook: Arc<H>) -> Self {
        Self { world, hook }
    }

    /// This world with a hook that is made for it.
    #[must_use]
    pub fn new(world: SimStorage) -> Self
    where
        H: From<SimStorage>,
    {
        let hook = Arc::new(H::from(world.clone()));
        Self { world, hook }
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &SimStorage {
        &self.world
    }

    /// The hook.
    #[must_use]
    pub fn hook(&self) -> &Arc<H> {
        &self.hook
    }

    /// A blocking call. `begin` is its first step where it has two: `run` is the rest, or all.
    fn call<T>(
        &self,
        what: What,
        name: &str,
        offset: u64,
        begin: impl FnOnce(&SimStorage) -> io::Result<()>,
        run: impl FnOnce(&SimStorage) -> io::Result<T>,
    ) -> io::Result<T> {
        let call = Call { what, name: name.to_owned(), offset, token: None };
        // Names change at once, and are not durable before the directory is synced.
        let at_end = matches!(what, What::Remove | What::Rename);
        let fate = match self.hook.before(&call) {
            Fate::Fails(error) => return Err(error),
            fate => fate,
        };
        if matches!(fate, Fate::InSteps) && !at_end {
            begin(&self.world)?;
            self.hook.under_way(&call);
        }
        let result = run(&self.world);
        if matches!(fate, Fate::InSteps) && at_end {
            self.hook.under_way(&call);
        }
        self.hook.after(&call);
        match fate {
            Fate::Lands(error) => Err(error),
            _ => result,
        }
    }

    /// A blocking call that is done in one step.
    fn once<T>(
        &self,
        what: What,
        name: &str,
        run: impl FnOnce(&SimStorage) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(what, name, 0, |_| Ok(()), run)
    }
}

impl<H: Hook + 'static> Storage for Hooked<H> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.once(What::List, "", |world| world.list())
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.once(What::Open, name, |world| world.open(name, mode))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.once(What::Create, name, |world| world.create(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.once(What::Len, file.name(), |world| world.len(file))
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        let run = |world: &SimStorage| world.read_at(file, offset, buf, len);
        let got = self.call(What::Read, file.name(), offset, |_| Ok(()), run)?;
        self.hook.read(file.name(), got);
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
        let begin = |world: &SimStorage| world.write_at(file, offset, buf, len, false);
        let run = |world: &SimStorage| world.write_at(file, offset, buf, len, persist);
        self.call(What::Write, file.name(), offset, begin, run)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.once(What::Sync, file.name(), |world| world.sync(file))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.once(What::SyncDir, "", |world| world.sync_dir())
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let begin = |world: &SimStorage| world.truncate(file, bytes);
        let run = |world: &SimStorage| world.truncate(file, bytes);
        self.call(What::Truncate, file.name(), 0, begin, run)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.once(What::Remove, name, |world| world.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.once(What::Rename, from, |world| world.rename(from, to))
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        let disk = self.world.disk(spec)?;
        let (calls, kept) = (Vec::new(), Vec::new());
        Ok(Box::new(HookedDisk { storage: self.clone(), disk, calls, kept, next: 0 }))
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.once(What::Lock, name, |world| world.lock(name, identity))
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

/// An operation that the disk below has, under a number of its own: tokens need not be unique.
struct Flight {
    number: u64,
    call: Call,
    fate: Fate,
}

/// A disk whose every operation passes the hook.
struct HookedDisk<H> {
    storage: Hooked<H>,
    disk: Box<dyn Disk>,
    calls: Vec<Flight>,
    /// Completions that are to be told, and from when on.
    kept: Vec<(u64, Done)>,
    next: u64,
}

fn seen(token: u64, op: &Op) -> Call {
    let (what, name, offset) = match op {
        Op::Write { file, offset, .. } => (What::Write, file.name(), *offset),
        Op::Read { file, offset, .. } => (What::Read, file.name(), *offset),
        Op::Sync { file } => (What::Sync, file.name(), 0),
        Op::SyncDir => (What::SyncDir, "", 0),
        Op::Create { name } => (What::Create, name.as_str(), 0),
        Op::Open { name, .. } => (What::Open, name.as_str(), 0),
        Op::Truncate { file, .. } => (What::Truncate, file.name(), 0),
        Op::Remove { name } => (What::Remove, name.as_str(), 0),
    };
    Call { what, name: name.to_owned(), offset, token: Some(token) }
}

fn refused(token: u64, op: Op, error: io::Error) -> Done {
    let buf = match op {
        Op::Write { buf, .. } => Some(buf),
        Op::Read { buf, .. } => Some(IoBuf::Owned(buf)),
        _ => None,
    };
    Done { token, result: Err(error), buf, file: None }
}

impl<H: Hook> HookedDisk<H> {
    /// Of what has ended below: what is told of it, and when.
    fn end(&mut self, mut done: Done, now: u64) {
        let Some(at) = self.calls.iter().position(|flight| flight.number == done.token) else {
            return;
        };
        let Flight { call, fate, .. } = self.calls.swap_remove(at);
        done.token = call.token.unwrap_or_default();
        let mut when = now;
        match fate {
            Fate::Lands(error) => {
                done.result = Err(error);
                done.file = None;
            }
            Fate::Late(time) => when += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2),
            _ => {}
        }
        self.storage.hook.after(&call);
        self.kept.push((when, done));
    }
}

impl<H: Hook + 'static> Disk for HookedDisk<H> {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        let call = seen(token, &op);
        let fate = match self.storage.hook.before(&call) {
            Fate::Fails(error) => {
                self.kept.push((0, refused(token, op, error)));
                return Ok(());
            }
            fate => fate,
        };
        self.next += 1;
        let number = self.next;
        self.disk.submit(number, op).map_err(|(_, op)| (token, op))?;
        if matches!(fate, Fate::InSteps) {
            self.storage.hook.under_way(&call);
        }
        self.calls.push(Flight { number, call, fate });
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        let clock = self.storage.clock();
        let now = clock.mono_ns();
        let due = self.kept.iter().map(|(when, _)| when.saturating_sub(now)).min();
        let wait = match (due, wait) {
            (Some(0), _) => Wait::No,
            (Some(ns), Wait::Until(limit)) => Wait::Until(limit.min(Duration::from_nanos(ns))),
            (Some(ns), Wait::Event) => Wait::Until(Duration::from_nanos(ns)),
            (_, wait) => wait,
        };
        let mut ended = Vec::new();
        self.disk.reap(&mut ended, wait)?;
        let now = clock.mono_ns();
        ended.into_iter().for_each(|done| self.end(done, now));
        let (told, kept) = std::mem::take(&mut self.kept).into_iter().partition(|k| k.0 <= now);
        self.kept = kept;
        let told: Vec<(u64, Done)> = told;
        done.extend(told.into_iter().map(|(_, done)| done));
        Ok(())
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.disk.bell()
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight() + self.kept.len()
    }

    fn resubmits(&self) -> u64 {
        self.disk.resubmits()
    }

    fn backend(&self) -> &'static str {
        self.disk.backend()
    }
}
