//! The simulated directory with threads of shuttle's: what it lacks to run a whole engine there.
//!
//! Invariants: whoever parks with nothing in flight sleeps until the bell; else time passes in the
//! simulator, and others get steps meanwhile. A scan reads by itself: its lanes are refused.
//!
//! Not here: the disk and its faults (`io/sim`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::Rng;

use super::pump::RungBell;
use crate::io::buf::AlignedBuf;
use crate::io::sim::SimStorage;
use crate::io::{
    Bell, Clock, Disk, DiskSpec, Done, File, HostInfo, LockOutcome, Mode, Op, Probe, Storage, Wait,
};
use crate::sync::thread::{self, JoinHandle};

/// Steps that others get while time passes, at most.
const STEPS_MAX: u32 = 4;

fn let_others() {
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..=STEPS_MAX) {
        thread::yield_now();
    }
}

/// See the module.
pub(super) struct Threaded(pub SimStorage);

impl Storage for Threaded {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.0.open(name, mode)
    }
    fn create(&self, name: &str) -> io::Result<File> {
        self.0.create(name)
    }
    fn len(&self, file: &File) -> io::Result<u64> {
        self.0.len(file)
    }
    fn read_at(&self, f: &File, at: u64, buf: &mut AlignedBuf, len: usize) -> io::Result<usize> {
        self.0.read_at(f, at, buf, len)
    }
    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        self.0.write_at(file, offset, buf, len, persist)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.0.sync(file)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.0.truncate(file, bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(ThreadedDisk { disk: self.0.disk(spec)?, bell: Arc::default() }))
    }
    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.0.lock(name, identity)
    }
    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        self.0.lock_owner_alive(name)
    }
    fn probe(&self) -> &Probe {
        self.0.probe()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(ThreadedClock(self.0.clock()))
    }
    fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }
    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        _: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        if name == "sapwood-scan" {
            return Err(io::ErrorKind::Unsupported.into());
        }
        thread::Builder::new().name(name).spawn(run)
    }
}

/// The simulator's time, in which others get steps.
struct ThreadedClock(Arc<dyn Clock>);

impl Clock for ThreadedClock {
    fn wall_us(&self) -> u64 {
        self.0.wall_us()
    }
    fn mono_ns(&self) -> u64 {
        self.0.mono_ns()
    }
    fn sleep(&self, time: Duration) {
        thread::yield_now();
        self.0.sleep(time);
    }
    fn yield_now(&self) {
        thread::yield_now();
    }
}

/// A simulated disk on which a shard parks.
struct ThreadedDisk {
    disk: Box<dyn Disk>,
    bell: Arc<RungBell>,
}

impl Disk for ThreadedDisk {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }
    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        self.disk.submit(token, op)
    }
    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        let idle = self.disk.in_flight() == 0;
        let wait = match wait {
            Wait::Event if idle => {
                self.bell.wait();
                Wait::No
            }
            Wait::No => Wait::No,
            _ if self.bell.take() => Wait::No,
            other => {
                let_others();
                other
            }
        };
        self.disk.reap(done, wait)
    }
    fn bell(&self) -> Arc<dyn Bell> {
        Arc::clone(&self.bell) as Arc<dyn Bell>
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
