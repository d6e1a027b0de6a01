//! The I/O seam: everything the engine asks of the world outside its own memory.
//!
//! [`Storage`] is the blocking half (open, recovery, readers, tools); [`Disk`] is the completion
//! half, one per shard; [`Clock`], [`futex`] and [`Storage::random_u64`] are time, waiting and
//! chance.
//!
//! Invariants:
//! - A buffer moves into its operation and comes back with the completion; nothing else may touch
//!   its bytes meanwhile, so "used after free" and "changed under the device" cannot be written.
//! - Every submitted operation completes exactly once, also when it failed.
//! - `Ok` of a write or a read means the whole buffer; a read alone may be short, at the end of the
//!   file. Short transfers, EINTR and EAGAIN are resubmitted here, over the same range and bounded
//!   by [`RESUBMITS_MAX`]; no other failure is ever tried again.
//! - `Ok` of a write with `persist` means: on the medium. A sync covers only what had completed
//!   when it was submitted.
//! - Time, chance, threads and `std::fs` enter the engine here and nowhere else.
//!
//! Not here: what the bytes mean (`format`), which file is which (`segment`, `manifest`), what to
//! do about a failure (`shard`).

// What the rest of the engine may not call is called here, and only here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod blocking;
pub mod buf;
#[cfg(any(test, feature = "sim"))]
pub mod contract;
pub mod doctor;
pub mod futex;
#[cfg(any(test, feature = "sim"))]
pub mod hooked;
mod host;
mod lock;
pub mod mountinfo;
mod os;
mod plain;
mod probe;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slot;
mod uring;

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::thread::JoinHandle;

use self::buf::{AlignedBuf, IoBuf};
pub use self::host::{HostInfo, hostinfo};
pub use self::os::{Backend, OsClock, OsOptions, OsStorage};
pub use self::probe::{Finding, Probe};

/// How often one operation is resubmitted after EINTR, EAGAIN, a short transfer or a transfer of
/// nothing, before it fails.
pub const RESUBMITS_MAX: u32 = 8;

/// The most operations that one [`Disk`] takes at once.
pub const IN_FLIGHT_MAX: usize = 4096;

/// The longest name of a file of the directory, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A file of the directory, open. Cheap to clone; the last clone closes it. Real or simulated.
#[derive(Clone, Debug)]
pub struct File(Arc<FileInner>);

#[derive(Debug)]
enum FileInner {
    /// A descriptor, whether it is O_DIRECT, and the name it was opened by.
    Os { file: std::fs::File, direct: bool, name: Box<str> },
    /// An inode of the simulated disk, and the lock it holds.
    #[cfg(any(test, feature = "sim"))]
    Sim { inode: u64, name: Box<str>, writable: bool, hold: Option<sim::Hold> },
}

impl File {
    /// Wraps a descriptor.
    pub(crate) fn from_os(file: std::fs::File, direct: bool, name: &str) -> Self {
        Self(Arc::new(FileInner::Os { file, direct, name: name.into() }))
    }

    /// The name in the directory that it was opened or created by.
    #[must_use]
    pub fn name(&self) -> &str {
        match &*self.0 {
            FileInner::Os { name, .. } => name,
            #[cfg(any(test, feature = "sim"))]
            FileInner::Sim { name, .. } => name,
        }
    }

    /// The descriptor.
    ///
    /// # Errors
    /// `InvalidInput` when the file belongs to the simulator.
    pub(crate) fn os(&self) -> io::Result<&std::fs::File> {
        match &*self.0 {
            FileInner::Os { file, .. } => Ok(file),
            #[cfg(any(test, feature = "sim"))]
            FileInner::Sim { .. } => Err(invalid("a simulated file given to a real disk")),
        }
    }

    /// Whether transfers go past the page cache (and must be aligned).
    #[must_use]
    pub fn direct(&self) -> bool {
        match &*self.0 {
            FileInner::Os { direct, .. } => *direct,
            #[cfg(any(test, feature = "sim"))]
            FileInner::Sim { .. } => true,
        }
    }

    /// Whether both are clones of one open file.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether no other clone exists.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Wraps an inode of the simulated disk.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn from_sim(
        inode: u64,
        name: &str,
        writable: bool,
        hold: Option<sim::Hold>,
    ) -> Self {
        Self(Arc::new(FileInner::Sim { inode, name: name.into(), writable, hold }))
    }

    /// The simulated inode.
    ///
    /// # Errors
    /// `InvalidInput` when the file is a real one.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sim(&self) -> io::Result<u64> {
        match &*self.0 {
            FileInner::Sim { inode, .. } => Ok(*inode),
            FileInner::Os { .. } => Err(invalid("a real file given to the simulated disk")),
        }
    }

    /// The simulated inode, of a file that was opened for writing.
    ///
    /// # Errors
    /// `PermissionDenied` otherwise.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sim_writable(&self) -> io::Result<u64> {
        match &*self.0 {
            FileInner::Sim { writable: false, .. } => Err(io::ErrorKind::PermissionDenied.into()),
            _ => self.sim(),
        }
    }
}

/// How one write is made durable: probed at creation, recorded by the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durable {
    /// A DSYNC flag on the write itself.
    Dsync,
    /// The write, then fdatasync; durable only if both succeeded.
    Fdatasync,
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dsync => "dsync",
            Self::Fdatasync => "fdatasync",
        })
    }
}

/// What a shard asks of its disk.
#[derive(Debug)]
pub enum Op {
    /// Write the whole buffer at `offset`.
    Write {
        /// Where to.
        file: File,
        /// From which byte on; a multiple of the unit.
        offset: u64,
        /// What; its length is a multiple of the unit.
        buf: IoBuf,
        /// Durable, by the probed method, before `Done` says `Ok`.
        persist: bool,
    },
    /// Fill the buffer from `offset` on; short only at the end of the file.
    Read {
        /// Where from.
        file: File,
        /// From which byte on; a multiple of the unit.
        offset: u64,
        /// Where to; comes back as [`IoBuf::Owned`].
        buf: AlignedBuf,
    },
    /// Make durable what had completed in this file when the sync was submitted.
    Sync {
        /// Which file.
        file: File,
    },
    /// Make creations, removals and renames durable.
    SyncDir,
    /// Create a file that does not exist yet (0600, never through a symbolic link).
    Create {
        /// Its name; a plain name, no path.
        name: String,
    },
    /// Open a file that exists.
    Open {
        /// Its name; a plain name, no path.
        name: String,
        /// For what.
        mode: Mode,
    },
    /// Set a file's length.
    Truncate {
        /// Which file.
        file: File,
        /// Its new length.
        bytes: u64,
    },
    /// Remove a name. Space is free once the last clone of its [`File`] is gone.
    Remove {
        /// The name.
        name: String,
    },
}

/// How an operation ended.
#[derive(Debug)]
pub struct Done {
    /// What the submitter called it.
    pub token: u64,
    /// Bytes transferred (0 for operations that transfer none), or why not.
    pub result: io::Result<usize>,
    /// The buffer, if there was one, also after a failure.
    pub buf: Option<IoBuf>,
    /// The file, after `Create` and `Open`.
    pub file: Option<File>,
}

/// How long a reap may park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until a completion or a ring of the bell, at most this long.
    Until(Duration),
    /// Until a completion or a ring of the bell. May return early with nothing.
    Event,
}

/// One shard's device, completion style.
pub trait Disk: Send {
    /// Ties the disk to the thread that will drive it; called once, on that thread, before the
    /// first [`reap`](Disk::reap).
    ///
    /// # Errors
    /// Of the kernel.
    fn bind(&mut self) -> io::Result<()>;

    /// Queues an operation; the next `reap` hands it to the device.
    ///
    /// # Errors
    /// No room now: the operation is handed back untouched. There is room again after a `reap` that
    /// gave a completion.
    #[allow(clippy::result_large_err)] // the rejected operation *is* the point
    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)>;

    /// Submits what is queued and gathers completions, in whatever order they came; the only place
    /// where a shard parks.
    ///
    /// # Errors
    /// Only when the device as such is lost (the ring, not one operation). What is in flight then
    /// stays unknown.
    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()>;

    /// The bell that wakes a parked `reap`.
    fn bell(&self) -> Arc<dyn Bell>;

    /// Operations submitted and not yet given back by `reap`.
    fn in_flight(&self) -> usize;

    /// How many times a part of an operation was resubmitted so far.
    fn resubmits(&self) -> u64 {
        0
    }

    /// What carries the operations, in a word: `io_uring`, `pread/pwrite`, `simulated`.
    fn backend(&self) -> &'static str;
}

/// Wakes a parked [`Disk::reap`], from any thread. A ring is never lost: rung before the park, it
/// keeps the next park from sleeping. Not ringing when nobody is parked is the caller's business.
pub trait Bell: Send + Sync {
    /// Rings.
    fn ring(&self);
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

/// Memory that a disk may register with the kernel once, instead of pinning pages per write.
#[derive(Clone)]
pub struct Arena {
    /// Its first address.
    pub base: usize,
    /// Its length.
    pub bytes: usize,
    /// Keeps the memory mapped for as long as the disk lives.
    pub keep: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} bytes)", self.bytes)
    }
}

/// What a disk is made for.
#[derive(Clone, Debug, Default)]
pub struct DiskSpec {
    /// The most operations in flight; 1 to [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
    /// The staging arena, registered as fixed buffer 0.
    pub arena: Option<Arena>,
    /// The locked file of the directory. Registered, so that its lock lives until the last write of
    /// a killed process has landed.
    pub lock: Option<File>,
}

/// What came of [`Storage::lock`].
#[derive(Debug)]
pub enum LockOutcome {
    /// The directory is ours.
    Taken(LockGuard),
    /// Somebody else's.
    Held {
        /// What the owner wrote about itself, trailing zeros cut.
        identity: Vec<u8>,
    },
}

/// A taken lock. Dropping it closes our descriptor: the lock then ends with the last disk that has
/// it registered. [`unlock`](LockGuard::unlock) ends it now.
#[derive(Debug)]
pub struct LockGuard {
    file: File,
}

impl LockGuard {
    pub(crate) fn new(file: File) -> Self {
        Self { file }
    }

    /// The locked file, for [`DiskSpec::lock`].
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the lock up now: for a clean close, after the last completion.
    ///
    /// # Errors
    /// Of the file system; the lock then ends with the process.
    pub fn unlock(self) -> io::Result<()> {
        match &*self.file.0 {
            FileInner::Os { file, .. } => lock::unlock(file),
            #[cfg(any(test, feature = "sim"))]
            FileInner::Sim { hold, .. } => {
                hold.iter().for_each(sim::Hold::release);
                Ok(())
            }
        }
    }
}

/// The blocking half of the seam: open, recovery, readers, tools. One directory.
pub trait Storage: Send + Sync {
    /// The names in the directory, sorted.
    ///
    /// # Errors
    /// Of the directory.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file and tells its length.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a name that is a path; of the file system.
    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)>;

    /// As [`open`](Storage::open), but through the page cache, whatever the directory's other files
    /// do: for hints, which are never synced and mean nothing after a crash.
    ///
    /// # Errors
    /// As [`open`](Storage::open).
    fn open_cached(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.open(name, mode)
    }

    /// Creates a file that does not exist.
    ///
    /// # Errors
    /// `AlreadyExists`; of the file system.
    fn create(&self, name: &str) -> io::Result<File>;

    /// The length of a file.
    ///
    /// # Errors
    /// Of the file system.
    #[allow(clippy::len_without_is_empty)]
    fn len(&self, file: &File) -> io::Result<u64>;

    /// Reads `len` bytes at `offset` into the front of `buf`; short only at the end of the file.
    ///
    /// # Errors
    /// Of the device; `InvalidInput` when `len` exceeds the buffer.
    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize>;

    /// Writes the first `len` bytes of `buf` at `offset`, durably if asked.
    ///
    /// # Errors
    /// Of the device; `InvalidInput` when `len` exceeds the buffer.
    fn write_at(
        &self,
        file: &File,
        offset: u64,
        buf: &AlignedBuf,
        len: usize,
        persist: bool,
    ) -> io::Result<()>;

    /// Makes the content of a file durable (fdatasync).
    ///
    /// # Errors
    /// Of the device.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Makes creations, removals and renames durable.
    ///
    /// # Errors
    /// Of the device.
    fn sync_dir(&self) -> io::Result<()>;

    /// Sets a file's length.
    ///
    /// # Errors
    /// Of the file system.
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// Of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, never over another: only to set unknown files aside.
    ///
    /// # Errors
    /// `AlreadyExists`; of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes a shard's disk: a ring, created disabled, or its blocking twin.
    ///
    /// # Errors
    /// When neither can be had.
    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>>;

    /// Takes the lock file `name`, creating it when missing, and writes `identity` into it. A lock
    /// that a dead process of this host still holds (its ring is not gone yet) is waited for.
    ///
    /// # Errors
    /// Of the file system; a lock that is held is no error.
    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome>;

    /// The living owner of the lock file, if there is one, without taking the lock: what a
    /// read-only open asks. Waits like [`lock`](Storage::lock) for what a dead process still holds.
    ///
    /// # Errors
    /// Of the file system.
    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>>;

    /// What was found out about the directory when it was opened.
    fn probe(&self) -> &Probe;

    /// The clock that everything in this directory goes by.
    fn clock(&self) -> Arc<dyn Clock>;

    /// A random number (ids, nonces).
    fn random_u64(&self) -> u64;

    /// Starts a thread, pinned to a core where asked.
    ///
    /// # Errors
    /// Of the system. A core that cannot be had is only a warning.
    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        pin: Option<usize>,
    ) -> io::Result<JoinHandle<()>>;
}

/// Time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970.
    fn wall_us(&self) -> u64;
    /// Nanoseconds since some moment, never going back.
    fn mono_ns(&self) -> u64;
    /// Nanoseconds since some moment, counting also while the host is suspended: what leases go by.
    fn boot_ns(&self) -> u64 {
        self.mono_ns()
    }
    /// Sleeps.
    fn sleep(&self, time: Duration);
    /// Lets threads that are ready run first; where time is simulated there are none.
    fn yield_now(&self) {}
    /// How many threads run at once.
    fn processors(&self) -> u32 {
        1
    }
}

/// Refuses names that are not plain names of the directory.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'\\');
    if plain { Ok(()) } else { Err(invalid("not a plain file name")) }
}

/// An error of the caller.
pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
