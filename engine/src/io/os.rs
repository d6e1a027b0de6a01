//! A directory of the operating system: the blocking half of the seam, and what makes its disks.
//!
//! Invariants: everything is opened relative to the directory's descriptor, by a plain name, never
//! through a symbolic link; the directory is made 0700 and files 0600; one file is either O_DIRECT
//! or not, for writers and readers alike (hints never are).
//!
//! Not here: which files there are and what they mean.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode as Permissions, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::thread::CpuSet;

use super::blocking::BlockingDisk;
use super::buf::AlignedBuf;
use super::host::HostInfo;
use super::uring::UringDisk;
use super::{
    Clock, Disk, DiskSpec, Durable, File, Finding, IN_FLIGHT_MAX, LockGuard, LockOutcome, Mode,
    Probe, Storage, check_name, invalid, lock, plain, probe, uring,
};
use crate::sync::thread::JoinHandle;

/// Permissions of every file: the owner's alone.
pub(super) const FILE_MODE: u32 = 0o600;

/// Permissions of a directory that we make.
const DIR_MODE: u32 = 0o700;

/// What carries the operations of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the kernel has it, else pread and pwrite, said in the log.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// pread and pwrite.
    Blocking,
}

/// How a directory is opened.
#[derive(Clone, Copy, Debug)]
pub struct OsOptions {
    /// What carries the operations of shards.
    pub backend: Backend,
    /// The durable method that the directory recorded; `None` = measure.
    pub durable: Option<Durable>,
    /// Make the directory when it is missing.
    pub create_dir: bool,
    /// Refuse everything that changes the directory.
    pub read_only: bool,
    /// Use O_DIRECT where it is accepted.
    pub direct: bool,
}

impl Default for OsOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            durable: None,
            create_dir: true,
            read_only: false,
            direct: true,
        }
    }
}

/// The directory itself: its descriptor, and how its files are opened.
pub(super) struct Directory {
    fd: OwnedFd,
    direct: bool,
    read_only: bool,
}

impl Directory {
    /// Opens a directory that is there; changes nothing.
    pub(super) fn at(path: &Path, direct: bool, read_only: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Permissions::empty())?;
        Ok(Self { fd, direct, read_only })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn direct(&self) -> bool {
        self.direct
    }

    /// A second handle on the same directory.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        Ok(Self { fd, direct: self.direct, read_only: self.read_only })
    }

    fn direct_flag(&self) -> OFlags {
        if self.direct { OFlags::DIRECT } else { OFlags::empty() }
    }

    /// The flags with which a new file is made.
    pub(super) fn create_flags(&self) -> OFlags {
        OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | self.direct_flag()
    }

    /// The flags with which a file that is there is opened.
    pub(super) fn mode_flags(&self, mode: Mode) -> OFlags {
        let access = match mode {
            Mode::Read => OFlags::RDONLY,
            Mode::Write => OFlags::RDWR,
        };
        access | OFlags::NOFOLLOW | OFlags::CLOEXEC | self.direct_flag()
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Opens a regular file as it is, with these flags.
    pub(super) fn open_flags(&self, name: &str, flags: OFlags) -> io::Result<fs::File> {
        check_name(name)?;
        // NONBLOCK: opening a FIFO that somebody has put here must not hang. It means nothing for
        // regular files, and others are refused.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags, Permissions::from(FILE_MODE))?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid("not a regular file"));
        }
        // io_uring takes NONBLOCK as "fail rather than wait", so it has to go again.
        let kept = rustix::fs::fcntl_getfl(&fd)?.difference(OFlags::NONBLOCK);
        rustix::fs::fcntl_setfl(&fd, kept)?;
        Ok(fs::File::from(fd))
    }

    /// Opens a file that is there.
    pub(super) fn open(&self, name: &str, mode: Mode, direct: bool) -> io::Result<(File, u64)> {
        let flags = match mode {
            Mode::Read => OFlags::RDONLY,
            Mode::Write => {
                self.writable()?;
                OFlags::RDWR
            }
        };
        let direct_flag = if direct { OFlags::DIRECT } else { OFlags::empty() };
        let file = self.open_flags(name, flags | direct_flag)?;
        let len = file.metadata()?.len();
        Ok((File::from_os(file, direct, name), len))
    }

    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.writable()?;
        check_name(name)?;
        let mode = Permissions::from(FILE_MODE);
        let fd = rustix::fs::openat(&self.fd, name, self.create_flags(), mode)?;
        Ok(File::from_os(fs::File::from(fd), self.direct, name))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.writable()?;
        check_name(name)?;
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// A directory of the operating system.
pub struct OsStorage {
    dir: Arc<Directory>,
    path: PathBuf,
    backend: Backend,
    probe: Probe,
}

impl OsStorage {
    /// Opens (and, if asked, makes) a directory, and finds out what it is like.
    ///
    /// # Errors
    /// Of the file system; `Unsupported` when [`Backend::Uring`] is asked for and refused.
    pub fn open(dir: &Path, opts: OsOptions) -> io::Result<Self> {
        if opts.create_dir && !opts.read_only && !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
            if let Some(parent) = dir.parent() {
                // The directory's own name must survive, too. A parent that cannot be opened for
                // reading cannot be synced; the first sync of ours then has to do.
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                fs::File::open(parent).and_then(|parent| parent.sync_all()).ok();
            }
        }
        let mut handle = Directory::at(dir, opts.direct, opts.read_only)?;
        let probe = probe::run(&handle, &opts)?;
        handle.direct = probe.direct.value;
        Ok(Self { dir: Arc::new(handle), path: dir.to_owned(), backend: opts.backend, probe })
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The durable method in use.
    #[must_use]
    pub fn durable(&self) -> Durable {
        self.probe.durable.value
    }

    /// Uses the method that the directory recorded at its creation instead of what was measured.
    pub fn set_durable(&mut self, durable: Durable) {
        self.probe.durable = Finding::new(durable, "recorded by the directory");
    }

    fn lock_file(&self, name: &str) -> io::Result<(fs::File, bool)> {
        match self.dir.open_flags(name, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Not EXCL: whoever makes it first, the lock decides.
                Ok((self.dir.open_flags(name, OFlags::RDWR | OFlags::CREATE)?, true))
            }
            other => Ok((other?, false)),
        }
    }
}

impl Storage for OsStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir.fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.dir.open(name, mode, self.dir.direct)
    }

    fn open_cached(&self, name: &str, mode: Mode) -> io::Result<(File, u64)> {
        self.dir.open(name, mode, false)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.dir.create(name)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.os()?.metadata()?.len())
    }

    fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut AlignedBuf,
        len: usize,
    ) -> io::Result<usize> {
        plain::read(file.os()?, offset, buf, len, &mut 0)
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
        plain::write(file.os()?, offset, bytes, persist.then(|| self.durable()), &mut 0)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        plain::sync(file.os()?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync()
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.dir.writable()?;
        file.os()?.set_len(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.writable()?;
        check_name(from)?;
        check_name(to)?;
        let dir = &self.dir.fd;
        match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                // NFS has no such flag. We hold the directory's lock: look, then rename.
                match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(rustix::fs::renameat(dir, from, dir, to)?),
                    Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                    Err(errno) => Err(errno.into()),
                }
            }
            other => Ok(other?),
        }
    }

    fn disk(&self, spec: &DiskSpec) -> io::Result<Box<dyn Disk>> {
        if spec.in_flight == 0 || spec.in_flight > IN_FLIGHT_MAX {
            return Err(invalid("operations in flight out of range"));
        }
        let dir = Arc::clone(&self.dir);
        if self.probe.backend.value == probe::URING {
            match UringDisk::new(Arc::clone(&dir), self.durable(), spec) {
                Ok(disk) => return Ok(Box::new(disk)),
                Err(error) if self.backend == Backend::Auto && uring::is_refusal(&error) => {
                    tracing::warn!("io_uring refused: {error}; using {}", probe::PLAIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Box::new(BlockingDisk::new(dir, self.durable(), spec)))
    }

    fn lock(&self, name: &str, identity: &[u8]) -> io::Result<LockOutcome> {
        self.dir.writable()?;
        let (file, new) = self.lock_file(name)?;
        match lock::wait_for(&file, true)? {
            lock::Held::By(identity) => Ok(LockOutcome::Held { identity }),
            lock::Held::Free => {
                lock::write_identity(&file, identity)?;
                if new {
                    self.dir.sync()?;
                }
                Ok(LockOutcome::Taken(LockGuard::new(File::from_os(file, false, name))))
            }
        }
    }

    fn lock_owner_alive(&self, name: &str) -> io::Result<Option<HostInfo>> {
        let file = match self.dir.open_flags(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(match lock::wait_for(&file, false)? {
            lock::Held::Free => None,
            lock::Held::By(identity) => Some(HostInfo::parse(&identity).unwrap_or_default()),
        })
    }

    fn probe(&self) -> &Probe {
        &self.probe
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(OsClock)
    }

    fn random_u64(&self) -> u64 {
        use std::hash::BuildHasher;
        // The kernel's random numbers do not fail on any kernel that has io_uring; the standard
        // library's hash keys come from the same source and are the way out where it is filtered.
        getrandom::u64()
            .unwrap_or_else(|_| std::hash::RandomState::new().hash_one(OsClock.mono_ns()))
    }

    fn spawn(
        &self,
        name: String,
        run: Box<dyn FnOnce() + Send>,
        pin: Option<usize>,
    ) -> io::Result<JoinHandle<()>> {
        crate::sync::thread::Builder::new().name(name).spawn(move || {
            if let Some(core) = pin {
                pin_to(core);
            }
            run();
        })
    }
}

fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        tracing::warn!(core, "no such core; the thread is not pinned");
        return;
    }
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the thread cannot be pinned");
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn wall_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn mono_ns(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let since = START.get_or_init(Instant::now).elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn boot_ns(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (secs, ns) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
        secs.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(ns.unwrap_or(0))
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn yield_now(&self) {
        std::thread::yield_now();
    }

    fn processors(&self) -> u32 {
        let processors = std::thread::available_parallelism();
        processors.map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
    }
}
