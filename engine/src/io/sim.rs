//! The simulated disk: one directory in memory, with a power switch.
//!
//! Each fault is declared in [`Faults`], with its knob and with what the engine promises under it.
//! Faults that need no knob, because every disk has them:
//!
//! | what the disk does | what the engine promises |
//! |---|---|
//! | a crash loses any unsynced write, or keeps it | what was acked is there; the rest may be |
//! | a crash tears an unsynced write at any sector (512 bytes) | a torn batch is cut, never shown |
//! | unsynced writes survive in any order | recovery stops at the first hole |
//! | operations complete in any order, after any time | acks leave in order all the same |
//! | a sync covers only what had completed when it was submitted | no ack rests on an early sync |
//! | a name survives only if the directory was synced after it, else by chance | no lost segment |
//! | the length of a file is lost with the write that made it | no end is read from a length |
//!
//! Invariants: the same seed and the same calls give the same run, to the byte
//! ([`SimStorage::fingerprint`]); time is virtual and passes only in `reap`, `sleep` and blocking
//! calls. A crash leaves the old world as it was, so that one moment can crash in many ways.
//!
//! Not here: threads. Shards are driven by whoever holds the seed.

mod disk;
mod filling;
mod image;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use self::disk::SimDisk;
pub use self::filling::Filling;
use self::state::{DirChange, State};
use super::buf::AlignedBuf;
use super::host::HostInfo;
use super::mountinfo::Mount;
use super::{
    Clock, Disk, DiskSpec, Durable, File, Finding, IN_FLIGHT_MAX, LockGuard, LockOutcome, Mode,
    Probe, Storage, check_name, invalid,
};
use crate::sync::thread::JoinHandle;

/// What may go wrong, and how often: chances are out of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A write fails with EIO; any of its sectors may have landed, now or at the crash. The shard
    /// halts, nothing of the batch is acked, what was acked stays readable.
    pub eio_write: u32,
    /// A sync fails with EIO, and what it should have covered will be covered by no later sync,
    /// which succeeds. The shard halts at the first failure and never tries again.
    pub eio_sync: u32,
    /// A read fails with EIO. Recovery and readers say so and lose nothing; others go on.
    pub eio_read: u32,
    /// A write transfers only a part, and is resubmitted. Nobody notices.
    pub short_write: u32,
    /// An operation is interrupted, and is resubmitted. Nobody notices.
    pub eintr: u32,
    /// An operation takes `stall_ns`. Nothing grows without bound meanwhile.
    pub stall: u32,
    /// How long a stall takes.
    pub stall_ns: u64,
    /// The shortest time that an operation takes.
    pub latency_ns_min: u64,
    /// The longest time that an operation takes, stalls apart.
    pub latency_ns_max: u64,
    /// Per sector that survives a crash: one bit of it is turned. Damage below the durable
    /// watermark is `Corrupt`, never silence.
    pub bit_rot: u32,
    /// The disk is full once it holds this many bytes: ENOSPC, retriable, nothing acked is lost.
    pub enospc_after: Option<u64>,
}

impl Default for Faults {
    /// A disk of 20 to 200 µs on which nothing goes wrong but crashes.
    fn default() -> Self {
        Self {
            eio_write: 0,
            eio_sync: 0,
            eio_read: 0,
            short_write: 0,
            eintr: 0,
            stall: 0,
            stall_ns: 50_000_000,
            latency_ns_min: 20_000,
            latency_ns_max: 200_000,
            bit_rot: 0,
            enospc_after: None,
        }
    }
}

/// Random numbers by seed: splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A sequence of its own per seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next_u64() % n }
    }

    /// True this often in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million != 0 && self.below(1_000_000) < u64::from(per_million)
    }
}

/// Time that passes only when something is waited for.
#[derive(Debug, Default)]
pub struct SimClock(AtomicU64);

impl SimClock {
    /// When the simulated world begins: 2023-11-14.
    const EPOCH_US: u64 = 1_700_000_000_000_000;

    fn advance_to(&self, ns: u64) {
        self.0.fetch_max(ns, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall_us(&self) -> u64 {
        Self::EPOCH_US + self.mono_ns() / 1000
    }

    fn mono_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn sleep(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

/// A simulated directory. Clones are the same directory.
#[derive(Clone)]
pub struct SimStorage(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Name of each locked file, and which taking of it holds it.
    locks: Mutex<BTreeMap<String, u64>>,
    clock: Arc<SimClock>,
    probe: Probe,
}

/// A simulated lock, held as long as any clone of the file that carries it.
#[derive(Debug)]
pub(crate) struct Hold {
    name: String,
    taking: u64,
    world: Weak<Shared>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated directory")
    }
}

impl Hold {
    /// Gives the lock up, if it is still ours.
    pub(crate) fn release(&self) {
        if let Some(world) = self.world.upgrade() {
            let mut locks = world.locks.lock();
            if locks.get(&self.name) == Some(&self.taking) {
                locks.remove(&self.name);
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

impl SimStorage {
    /// An empty directory on a disk with these faults.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with(State::new(seed, faults), Arc::default(), Self::local())
    }

    /// As [`new`](Self::new), on NFS that is mounted like this.
    #[must_use]
    pub fn on_nfs(seed: u64, faults: Faults, mount: Mount) -> Self {
        let (risks, mount) = (mount.risks(false), Some(mount));
        let probe = Probe { nfs: true, mount, risks, ..Self::local() };
        Self::with(State::new(seed, faults), Arc::default(), probe)
    }

    fn local() -> Probe {
        let said = |what: &str| what.to_owned();
        Probe {
            unit: Finding::new(4096, said("simulated")),
            durable: Finding::new(Durable::Dsync, said("simulated")),
            direct: Finding::new(true, said("simulated")),
            backend: Finding::new("simulated", said("simulated")),
            file_system: said("simulated"),
            nfs: false,
            mount: None,
            risks: Vec::new(),
            device: None,
            write_cache: None,
            kernel: said("simulated"),
        }
    }

    fn with(state: State, clock: Arc<SimClock>, probe: Probe) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(state), locks: Mutex::default(), clock, probe }))
    }

    /// What a power cut at this moment leaves: everything synced; of everything else, completed or
    /// in flight, a random part. Nobody holds the lock; files of the old world are stale in the
    /// new.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.0.state.lock().crash();
        let clock = SimClock::default();
        clock.advance_to(self.0.clock.mono_ns() + 1_000_000_000);
        Self::with(state, Arc::new(clock), self.0.probe.clone())
    }

    /// Changes what may go wrong from now on (the capacity, too).
    pub fn set_faults(&self, faults: Faults) {
        self.0.state.lock().faults = faults;
    }

    /// Changes how many bytes the disk holds.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.state.lock().faults.enospc_after = bytes;
    }

    /// Has others fill the disk to the last byte at some change, or (`None`) give its space back.
    pub fn fill(&self, filling: Option<Filling>) {
        let filled = filling.map(|filling| filling::Filled { filling, limit: None });
        self.0.state.lock().filled = filled;
    }

    /// Changes of files and names that have completed so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.state.lock().completions()
    }

    /// Bytes that the files take now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.state.lock().used()
    }

    /// Turns one bit of a file, on the medium.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` beyond the end.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let id = state.lookup(name)?;
        let inode = state.inode(id)?;
        let live = inode.live.flip(offset, bit);
        inode.durable.flip(offset, bit);
        if live { Ok(()) } else { Err(invalid("a bit beyond the end of the file")) }
    }

    /// What a reader of this file sees now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn image(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut state = self.0.state.lock();
        let id = state.lookup(name)?;
        Ok(state.inode(id)?.live.to_vec())
    }

    /// What of this file is certain to survive a crash.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn durable_image(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut state = self.0.state.lock();
        let id = state.lookup(name)?;
        Ok(state.inode(id)?.durable.to_vec())
    }

    /// A number that stands for everything that has happened so far: two runs that differ in one
    /// byte, one order or one nanosecond differ in it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.0.state.lock().fingerprint
    }

    /// A blocking call takes its time.
    fn take_time(&self, state: &mut State) {
        let ns = state.latency();
        self.0.clock.sleep(Duration::from_nanos(ns));
    }

    fn change_dir(&self, change: DirChange) -> io::Result<()> {
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        let seq = state.begin_dir(change);
        state.finish_dir(seq)
    }
}

impl Storage for SimStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.state.lock().names())
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        check_name(name)?;
        let mut state = self.0.state.lock();
        let id = state.lookup(name)?;
        let len = state.inode(id)?.live.len();
        Ok((File::from_sim(id, name, mode == Mode::Write, None), len))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        check_name(name)?;
        let inode = self.0.state.lock().new_inode();
        self.change_dir(DirChange::Create { name: name.to_owned(), inode })?;
        Ok(File::from_sim(inode, name, true, None))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(self.0.state.lock().inode(file.sim()?)?.live.len())
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        let buf = buf.get_mut(..len).ok_or_else(|| invalid("a read longer than its buffer"))?;
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        state.read(file.sim()?, offset, buf)
    }

    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()> {
        let bytes = buf.get(..len).ok_or_else(|| invalid("a write longer than its buffer"))?;
        let inode = file.sim_writable()?;
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        let seq = state.begin_write(inode, offset, bytes, crc32c::crc32c(bytes))?;
        state.finish_write(inode, seq, persist)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        let covers = state.completions();
        state.finish_sync(file.sim()?, covers)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        let covers = state.completions();
        state.finish_sync_dir(covers)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let inode = file.sim_writable()?;
        let mut state = self.0.state.lock();
        self.take_time(&mut state);
        let seq = state.begin_truncate(inode, bytes)?;
        state.finish_truncate(inode, seq)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.change_dir(DirChange::Remove { name: name.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.change_dir(DirChange::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        if spec.in_flight == 0 || spec.in_flight > IN_FLIGHT_MAX {
            return Err(invalid("operations in flight out of range"));
        }
        Ok(Box::new(SimDisk::new(Arc::clone(&self.0), spec)))
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        check_name(name)?;
        let found = self.0.state.lock().lookup(name);
        let inode = match found {
            Ok(inode) => inode,
            Err(_) => {
                let file = self.create(name)?;
                self.sync_dir()?;
                file.sim()?
            }
        };
        if self.0.locks.lock().contains_key(name) {
            let mut identity = self.image(name)?;
            identity.truncate(identity.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
            return Ok(LockOutcome::Held { identity });
        }
        let taking = self.0.state.lock().next_seq();
        self.0.locks.lock().insert(name.to_owned(), taking);
        let world = Arc::downgrade(&self.0);
        let hold = Hold { name: name.to_owned(), taking, world };
        let file = File::from_sim(inode, name, true, Some(hold));
        let mut block = AlignedBuf::zeroed(identity.len())?;
        block[..identity.len()].copy_from_slice(identity);
        let len = block.len();
        match self.write_at(&file, 0, &block, len, true) {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            _ => Ok(LockOutcome::Taken(LockGuard::new(file))),
        }
    }

    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        if !self.0.locks.lock().contains_key(name) {
            return Ok(None);
        }
        Ok(Some(HostInfo::parse(&self.image(name)?).unwrap_or_default()))
    }

    fn probe(&self) -> &Probe {
        &self.0.probe
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock) as Arc<dyn Clock>
    }

    fn random_u64(&self) -> u64 {
        self.0.state.lock().rng.next_u64()
    }

    fn spawn(
        &self,
        _: String,
        _: Box<dyn FnOnce() + Send>,
        _: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the simulator drives shards"))
    }
}
