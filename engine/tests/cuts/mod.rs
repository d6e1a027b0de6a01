//! A storage that takes a picture of what a power cut would leave at every step of the engine.
//!
//! Invariants: a picture is taken when an operation has been handed over (any part of it may have
//! landed) and when it has completed; it names the step, so that a test can demand the steps that
//! it is about. Not here: what must be true of a picture (`judge`).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;

use sapwood::io::buf::AlignedBuf;
use sapwood::io::sim::SimStorage;
use sapwood::io::{
    Bell, Clock, Disk, DiskSpec, Done, File, HostInfo, LockOutcome, Mode, Op, Probe, Storage, Wait,
};

pub(crate) mod judge;
pub(crate) mod rot;

/// Pictures of one moment: each keeps another random part of what was not yet durable.
const PICTURES: usize = 2;

/// What a power cut would leave, and after which step.
pub(crate) struct Cut {
    pub(crate) step: String,
    pub(crate) world: SimStorage,
}

#[derive(Default)]
struct Album {
    on: bool,
    cuts: Vec<Cut>,
    steps: BTreeSet<String>,
    /// The file that was opened or created last: blocking code writes one file at a time.
    name: String,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Tap {
    inner: SimStorage,
    album: Arc<Mutex<Album>>,
}

/// A name without its numbers: `manifest`, `segment`, `index`.
fn kind(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

impl Tap {
    pub(crate) fn new(inner: SimStorage) -> Self {
        Self { inner, album: Arc::default() }
    }

    /// Takes pictures from here on, or stops.
    pub(crate) fn record(&self, on: bool) {
        self.album.lock().unwrap().on = on;
    }

    /// The pictures since the last call.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        std::mem::take(&mut self.album.lock().unwrap().cuts)
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> SimStorage {
        self.inner.clone()
    }

    /// What a power cut would leave now.
    pub(crate) fn crash(&self) -> SimStorage {
        self.inner.crash()
    }

    /// Demands that these steps were seen.
    pub(crate) fn demand(&self, steps: &[&str]) {
        let seen = self.album.lock().unwrap().steps.clone();
        for step in steps {
            assert!(seen.contains(*step), "step {step:?} did not happen; there were {seen:?}");
        }
    }

    /// Whether a step was seen.
    pub(crate) fn saw(&self, step: &str) -> bool {
        self.album.lock().unwrap().steps.contains(step)
    }

    fn shoot(&self, step: &str) {
        let mut album = self.album.lock().unwrap();
        if !album.on {
            return;
        }
        album.steps.insert(step.to_owned());
        for _ in 0..PICTURES {
            album.cuts.push(Cut { step: step.to_owned(), world: self.inner.crash() });
        }
    }

    fn name(&self, name: &str) {
        kind(name).clone_into(&mut self.album.lock().unwrap().name);
    }

    fn blocking<T>(&self, what: &str, result: io::Result<T>) -> io::Result<T> {
        let step = format!("{what} {}", self.album.lock().unwrap().name);
        self.shoot(step.trim());
        result
    }
}

impl Storage for Tap {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.name(name);
        self.inner.open(name, mode)
    }
    fn create(&self, name: &str) -> io::Result<File> {
        self.name(name);
        self.blocking("create", self.inner.create(name))
    }
    fn len(&self, file: &File) -> io::Result<u64> {
        self.inner.len(file)
    }
    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        self.inner.read_at(file, offset, buf, len)
    }
    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        self.blocking("write", self.inner.write_at(file, offset, buf, len, persist))
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.blocking("sync", self.inner.sync(file))
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.name("");
        self.blocking("sync-dir", self.inner.sync_dir())
    }
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.blocking("truncate", self.inner.truncate(file, bytes))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.name(name);
        self.blocking("remove", self.inner.remove(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.name(from);
        self.blocking("rename", self.inner.rename(from, to))
    }
    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        let inner = self.inner.disk(spec)?;
        Ok(Box::new(TapDisk { inner, tap: self.clone(), flights: Vec::new() }))
    }
    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.name(name);
        self.blocking("take", self.inner.lock(name, identity))
    }
    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        self.inner.lock_owner_alive(name)
    }
    fn probe(&self) -> &Probe {
        self.inner.probe()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }
    fn random_u64(&self) -> u64 {
        self.inner.random_u64()
    }
    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        pin: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        self.inner.spawn(name, run, pin)
    }
}

/// A disk that tells the tap what it is given and what it gives back.
struct TapDisk {
    inner: Box<dyn Disk>,
    tap: Tap,
    flights: Vec<(u64, String)>,
}

/// Whose operation it is, by its token's high byte, and what it does.
fn label(token: u64, op: &Op) -> String {
    let whose =
        ["", "batch", "manifest", "fill", "seal", "gc", "", "hint"].get((token >> 56) as usize);
    let what = match op {
        Op::Write { .. } => "write",
        Op::Read { .. } => "read",
        Op::Sync { .. } => "sync",
        Op::SyncDir => "sync-dir",
        Op::Create { .. } => "create",
        Op::Open { .. } => "open",
        Op::Truncate { .. } => "truncate",
        Op::Remove { .. } => "remove",
    };
    format!("{} {what}", whose.copied().unwrap_or("other"))
}

impl Disk for TapDisk {
    fn bind(&mut self) -> io::Result<()> {
        self.inner.bind()
    }
    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        let label = label(token, &op);
        self.inner.submit(token, op)?;
        self.tap.shoot(&format!("{label} under way"));
        self.flights.push((token, label));
        Ok(())
    }
    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        let before = done.len();
        self.inner.reap(done, wait)?;
        for done in &done[before..] {
            if let Some(at) = self.flights.iter().position(|(token, _)| *token == done.token) {
                let (_, label) = self.flights.remove(at);
                self.tap.shoot(&label);
            }
        }
        Ok(())
    }
    fn bell(&self) -> Arc<dyn Bell> {
        self.inner.bell()
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }
}
