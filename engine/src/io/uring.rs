//! The disk on io_uring: one ring per shard, one system call that submits and waits.
//!
//! Invariants:
//! - Whatever the kernel may still touch (buffers, names, the bell's word) is owned by a slot, or
//!   by the disk, until its completion was seen. Dropping the disk waits for every completion
//!   first; if it cannot, it leaks the memory rather than free it.
//! - A slot's entries enter the submission queue together or not at all; the queue has room for all
//!   entries of all slots, so a chain is never split for want of room.
//! - The completion queue has room for everything in flight: an overflow is fatal.
//! - A completion names the generation of its slot; one of an earlier life is fatal.
//! - Fixed file 0 is the directory's lock, which thus lives until the ring is gone.
//!
//! One of the two rooms of the engine that may contain `unsafe`. Not here: when an operation is
//! over (`slot`), what is done where there is no ring (`blocking`).

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::types::{Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::buf::{AlignedBuf, IoBuf};
use super::os::Directory;
use super::slot::{Kind, Part, Persist, Slot, Verdict};
use super::{
    Arena, Bell, Disk, DiskSpec, Done, Durable, File, IN_FLIGHT_MAX, Op, Wait, invalid, probe,
};
use crate::planted::{Bug, planted};

/// Places in the table of registered files: the lock, the segments and the manifest of one shard.
const FIXED_FILES: usize = 16;

/// The longest single transfer: one SQE's length is 32 bits, the kernel stops below 2 GiB.
const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// How often `io_uring_enter` may say EAGAIN (no memory for requests) or EBUSY in one reap.
const ENTER_TRIES_MAX: u32 = 1000;

/// The user data of the bell's read; no slot can have it, as slots are numbered below it.
const BELL: u64 = u64::MAX;

/// Opcodes without which the ring is of no use to us.
const OPCODES: &[(u8, &str)] = &[
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::UnlinkAt::CODE, "UNLINKAT"),
];

/// A disk of one ring.
pub(super) struct UringDisk {
    ring: IoUring,
    dir: Arc<Directory>,
    durable: Durable,
    slots: Box<[Slot]>,
    free: Vec<u32>,
    /// Operations that were over before they reached the ring.
    ready: Vec<Done>,
    fixed: [Option<File>; FIXED_FILES],
    /// Base and length of the registered arena, and what keeps it mapped.
    arena: Option<Arena>,
    bell: Arc<EventBell>,
    /// Where the kernel puts the bell's count; nobody reads it.
    bell_word: AlignedBuf,
    bell_armed: bool,
    rung: bool,
    bound: bool,
    /// Being dropped: the bell is not armed again.
    closing: bool,
    can_truncate: bool,
    resubmits: u64,
}

/// A bell that is heard inside the ring.
struct EventBell(OwnedFd);

impl Bell for EventBell {
    fn ring(&self) {
        // Fails only when the count is about to overflow: then it is rung already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// What an operation is done to: a registered file or a descriptor.
#[derive(Clone, Copy)]
enum Target {
    Fixed(u32),
    Raw(RawFd),
}

/// Builds an entry for either kind of target.
macro_rules! on_target {
    ($target:expr, |$fd:ident| $build:expr) => {
        match $target {
            Target::Fixed(index) => {
                let $fd = Fixed(index);
                $build
            }
            Target::Raw(raw) => {
                let $fd = Fd(raw);
                $build
            }
        }
    };
}

/// Whether this kernel gives us a ring that we can use; the error says why not.
pub(super) fn check() -> io::Result<()> {
    let ring = build(8)?;
    let params = ring.params();
    if !(params.is_feature_ext_arg() && params.is_feature_nodrop()) {
        return Err(unsupported("the kernel is too old (no EXT_ARG: before 5.11)"));
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    match OPCODES.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(unsupported(&format!("the kernel has no opcode {name}"))),
        None => Ok(()),
    }
}

/// Whether an error of making a ring means "no rings here" rather than "not now".
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::ENOMEM | libc::EINVAL)
        )
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// Makes a disabled ring with the best set of flags that this kernel knows.
fn build(entries: u32) -> io::Result<IoUring> {
    // Newest first: 6.1, 6.0, 5.19, 5.10.
    type Step = fn(&mut io_uring::Builder);
    let steps: [Step; 4] = [
        |b| {
            b.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
            b.setup_taskrun_flag().setup_submit_all();
        },
        |b| {
            b.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        },
        |b| {
            b.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        },
        |_| {},
    ];
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for step in steps {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_r_disabled().setup_cqsize(entries.saturating_mul(2));
        step(&mut builder);
        match builder.build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            other => return other,
        }
    }
    Err(refused)
}

impl UringDisk {
    pub(super) fn new(dir: Arc<Directory>, durable: Durable, spec: &DiskSpec) -> io::Result<Self> {
        let places = u32::try_from(spec.in_flight.clamp(1, IN_FLIGHT_MAX))
            .map_err(|_| invalid("too many operations in flight"))?;
        // Two entries for a linked write of every slot, and the bell's read.
        let ring = build((2 * places + 2).next_power_of_two())?;
        let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let mut disk = Self {
            can_truncate: has_truncate(&ring),
            ring,
            dir,
            durable,
            slots: (0..places).map(|_| Slot::free()).collect(),
            free: (0..places).rev().collect(),
            ready: Vec::with_capacity(places as usize),
            fixed: [const { None }; FIXED_FILES],
            arena: None,
            bell: Arc::new(EventBell(bell)),
            bell_word: AlignedBuf::zeroed(size_of::<u64>())?,
            bell_armed: false,
            rung: false,
            bound: false,
            closing: false,
            resubmits: 0,
        };
        disk.register_files(spec.lock.as_ref())?;
        if let Some(arena) = &spec.arena {
            disk.register_arena(arena);
        }
        Ok(disk)
    }

    fn register_files(&mut self, lock: Option<&File>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let mut table = [-1; FIXED_FILES];
        if let Some(lock) = lock {
            table[0] = lock.os()?.as_raw_fd();
            self.fixed[0] = Some(lock.clone());
        }
        submitter.register_files(&table)
    }

    /// Registers the arena; without it, writes are plain ones that pin their pages each time.
    fn register_arena(&mut self, arena: &Arena) {
        let iovec = libc::iovec { iov_base: arena.base as *mut _, iov_len: arena.bytes };
        // SAFETY: the memory stays mapped while the ring lives, as `arena.keep` is stored beside
        // it; even were the range wrong, the ring is only ever told to write from inside an `IoBuf`
        // that it owns, never from the range as such.
        match unsafe { self.ring.submitter().register_buffers(&[iovec]) } {
            Ok(()) => self.arena = Some(arena.clone()),
            Err(error) => tracing::warn!(
                %error,
                bytes = arena.bytes,
                "the staging arena cannot be registered (RLIMIT_MEMLOCK?): writes pin pages"
            ),
        }
    }

    /// The target for an operation on `file`; `often` = worth a place in the table of fixed files.
    fn target(&mut self, file: &File, often: bool) -> io::Result<Target> {
        let known = self.fixed.iter().position(|f| f.as_ref().is_some_and(|f| f.same(file)));
        if let Some(index) = known {
            return Ok(Target::Fixed(index as u32));
        }
        let raw = file.os()?.as_raw_fd();
        if !often {
            return Ok(Target::Raw(raw));
        }
        if self.fixed[1..].iter().all(Option::is_some) {
            self.sweep_fixed();
        }
        let Some(index) = (1..FIXED_FILES).find(|i| self.fixed[*i].is_none()) else {
            return Ok(Target::Raw(raw));
        };
        match self.ring.submitter().register_files_update(index as u32, &[raw]) {
            Ok(_) => {
                self.fixed[index] = Some(file.clone());
                Ok(Target::Fixed(index as u32))
            }
            Err(_) => Ok(Target::Raw(raw)),
        }
    }

    /// Lets go of registered files that nobody else has open. None of them is in use: an operation
    /// under way holds a clone in its slot.
    fn sweep_fixed(&mut self) {
        for index in 1..FIXED_FILES {
            if self.fixed[index].as_ref().is_some_and(File::is_last)
                && self.ring.submitter().register_files_update(index as u32, &[-1]).is_ok()
            {
                self.fixed[index] = None;
            }
        }
    }

    /// Fills a slot with an operation. On an error the slot holds what must be given back.
    fn fill(&mut self, index: u32, token: u64, op: Op) -> io::Result<()> {
        let durable = self.durable;
        let slot = &mut self.slots[index as usize];
        match op {
            Op::Write { file, offset, buf, persist } => {
                let sync = match (persist && !planted(Bug::DeviceSyncSkipped), durable) {
                    (false, _) => Persist::No,
                    (true, Durable::Dsync) => Persist::Dsync,
                    (true, Durable::Fdatasync) => Persist::Linked,
                };
                slot.begin(token, Kind::Write { offset, sync });
                slot.file = Some(file);
                slot.buf = Some(buf);
            }
            Op::Read { file, offset, buf } => {
                slot.begin(token, Kind::Read { offset });
                slot.file = Some(file);
                slot.buf = Some(IoBuf::Owned(buf));
            }
            Op::Sync { file } => {
                slot.begin(token, Kind::Sync);
                slot.file = Some(file);
            }
            Op::SyncDir => slot.begin(token, Kind::SyncDir),
            Op::Create { name } => {
                slot.begin(token, Kind::Create);
                slot.name = Some(c_name(&name)?);
            }
            Op::Open { name, mode } => {
                slot.begin(token, Kind::Open { mode });
                slot.name = Some(c_name(&name)?);
            }
            Op::Truncate { file, bytes } => {
                slot.begin(token, Kind::Truncate { bytes });
                slot.file = Some(file);
            }
            Op::Remove { name } => {
                slot.begin(token, Kind::Remove);
                slot.name = Some(c_name(&name)?);
            }
        }
        if slot.buf.as_ref().is_some_and(|buf| buf.len() > TRANSFER_BYTES_MAX) {
            return Err(invalid("a transfer beyond 1 GiB"));
        }
        Ok(())
    }

    /// Puts a slot's entries into the submission queue.
    fn push(&mut self, index: u32) -> io::Result<()> {
        let slot = &mut self.slots[index as usize];
        let often = matches!(slot.kind, Kind::Write { .. });
        let target = match slot.file.take() {
            None => Target::Raw(self.dir.fd().as_raw_fd()),
            Some(file) => {
                let target = self.target(&file, often);
                self.slots[index as usize].file = Some(file);
                target?
            }
        };
        let (main, sync) = self.entries(index, target)?;
        let slot = &mut self.slots[index as usize];
        let main = main.user_data(user_data(slot.generation, index, Part::Main));
        let mut queue = self.ring.submission();
        // SAFETY: all that the entries point to is owned by the slot (buffer, name) or by the disk
        // (descriptors, fixed tables), none of which is freed or moved before the slot's
        // completions were seen: the buffer and the name are heap memory, and `Drop` drains. The
        // memory of a read is written by the kernel alone, as the slot owns the buffer.
        let pushed = unsafe {
            match sync {
                None => queue.push(&main).map(|()| 1),
                Some(sync) => {
                    let sync = sync.user_data(user_data(slot.generation, index, Part::LinkedSync));
                    queue.push_multiple(&[main, sync]).map(|()| 2)
                }
            }
        };
        match pushed {
            Ok(pending) => {
                slot.pending = pending;
                Ok(())
            }
            Err(_) => Err(io::Error::other("the submission queue has no room for its own slots")),
        }
    }

    /// The entry of a slot, and of the sync linked to it.
    fn entries(
        &mut self,
        index: u32,
        target: Target,
    ) -> io::Result<(squeue::Entry, Option<squeue::Entry>)> {
        let slot = &mut self.slots[index as usize];
        let name = slot.name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
        let dir = Fd(self.dir.fd().as_raw_fd());
        let entry = match slot.kind {
            Kind::Write { offset, sync } => {
                let Some(buf) = &slot.buf else { return Err(invalid("a write of nothing")) };
                let entry = write_entry(target, buf, self.arena.as_ref(), offset, sync);
                if sync == Persist::Linked {
                    let sync = on_target!(target, |fd| opcode::Fsync::new(fd)
                        .flags(FsyncFlags::DATASYNC)
                        .build());
                    return Ok((entry.flags(squeue::Flags::IO_LINK), Some(sync)));
                }
                entry
            }
            Kind::Read { offset } => {
                let Some(IoBuf::Owned(buf)) = &mut slot.buf else {
                    return Err(invalid("a read into nothing"));
                };
                let (ptr, len) = (buf.as_mut_ptr(), buf.len() as u32);
                on_target!(target, |fd| opcode::Read::new(fd, ptr, len).offset(offset).build())
            }
            Kind::Sync => {
                on_target!(target, |fd| opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build())
            }
            Kind::SyncDir => opcode::Fsync::new(dir).build(),
            Kind::Create => opcode::OpenAt::new(dir, name)
                .flags(self.dir.create_flags().bits().cast_signed())
                .mode(super::os::FILE_MODE)
                .build(),
            Kind::Open { mode } => opcode::OpenAt::new(dir, name)
                .flags(self.dir.mode_flags(mode).bits().cast_signed())
                .build(),
            Kind::Truncate { bytes } => {
                on_target!(target, |fd| opcode::Ftruncate::new(fd, bytes).build())
            }
            Kind::Remove => opcode::UnlinkAt::new(dir, name).build(),
        };
        Ok((entry, None))
    }

    /// Empties a slot into a `Done`.
    fn finish(&mut self, index: u32, result: io::Result<usize>) -> Done {
        let slot = &mut self.slots[index as usize];
        let file = match (&result, slot.kind) {
            (Ok(_), Kind::Create | Kind::Open { .. }) => {
                // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(slot.descriptor()) };
                let name = slot.name.as_deref().map(CStr::to_string_lossy).unwrap_or_default();
                Some(File::from_os(fs::File::from(fd), self.dir.direct(), &name))
            }
            _ => None,
        };
        let done = Done { token: slot.token, result, buf: slot.buf.take(), file };
        slot.file = None;
        slot.name = None;
        self.free.push(index);
        done
    }

    fn next_completion(&mut self) -> Option<(u64, i32)> {
        let entry = self.ring.completion().next()?;
        Some((entry.user_data(), entry.result()))
    }

    /// Takes what has completed out of the ring.
    fn harvest(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        while let Some((data, result)) = self.next_completion() {
            if data == BELL {
                self.bell_armed = false;
                self.rung = true;
                self.arm_bell()?;
                continue;
            }
            let (generation, index, part) = parse_user_data(data);
            let slot = &mut self.slots[index as usize];
            assert_eq!(slot.generation, generation, "a completion of an operation that is over");
            if !slot.complete(part, result) {
                continue;
            }
            match slot.judge() {
                Verdict::Over(result) => {
                    let over = self.finish(index, result);
                    done.push(over);
                }
                Verdict::Resubmit => {
                    self.resubmits += 1;
                    self.push(index)?;
                }
            }
        }
        match self.ring.completion().overflow() {
            0 => Ok(()),
            lost => Err(io::Error::other(format!("{lost} completions lost: queue overflow"))),
        }
    }

    /// Puts the bell's read into the ring.
    fn arm_bell(&mut self) -> io::Result<()> {
        if self.bell_armed || self.closing {
            return Ok(());
        }
        let fd = Fd(self.bell.0.as_raw_fd());
        let len = size_of::<u64>() as u32;
        let entry = opcode::Read::new(fd, self.bell_word.as_mut_ptr(), len).build();
        // SAFETY: the word and the eventfd live as long as the disk, whose `Drop` waits for this
        // read.
        unsafe { self.ring.submission().push(&entry.user_data(BELL)) }
            .map_err(|_| io::Error::other("the submission queue has no room for the bell"))?;
        self.bell_armed = true;
        Ok(())
    }

    /// One `io_uring_enter`: submits everything, waits for `want` completions. False: time was up.
    ///
    /// With nothing to wait for it asks for events all the same: with DEFER_TASKRUN completions are
    /// made only by an enter that does.
    fn enter(&mut self, want: usize, limit: Option<&Timespec>) -> io::Result<Entered> {
        let queued = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let entered = match limit {
            Some(limit) if want > 0 => {
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(limit))
            }
            // SAFETY: no signal mask is passed; the entries queued are covered by `push`.
            _ => unsafe {
                const GETEVENTS: u32 = 1;
                submitter.enter::<libc::sigset_t>(queued, want as u32, GETEVENTS, None)
            },
        };
        match entered {
            Ok(_) => Ok(Entered::Back),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => Ok(Entered::TimeUp),
                Some(libc::EINTR) => Ok(Entered::Interrupted),
                Some(libc::EAGAIN | libc::EBUSY) => Ok(Entered::Again),
                _ => Err(error),
            },
        }
    }

    /// Whether completions wait for us to enter the kernel.
    fn kernel_has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Waits for everything that the kernel may still write to. False: the ring is lost.
    fn drain(&mut self) -> bool {
        self.closing = true;
        if !self.bound {
            // Never enabled: the kernel has taken nothing out of the queue.
            return true;
        }
        self.bell.ring();
        let mut scratch = Vec::new();
        loop {
            if let Err(error) = self.harvest(&mut scratch) {
                tracing::error!(%error, "a ring is lost with operations in flight");
                return false;
            }
            scratch.clear();
            if self.free.len() == self.slots.len() && !self.bell_armed {
                return true;
            }
            if let Err(error) = self.enter(1, None) {
                tracing::error!(%error, "a ring cannot be drained; its buffers are leaked");
                return false;
            }
        }
    }
}

/// How an enter came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    Back,
    TimeUp,
    Interrupted,
    Again,
}

impl Disk for UringDisk {
    fn bind(&mut self) -> io::Result<()> {
        if self.bound {
            return Err(invalid("a ring is bound once"));
        }
        self.ring.submitter().register_enable_rings()?;
        self.bound = true;
        self.arm_bell()
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        let Some(index) = self.free.pop() else { return Err((token, op)) };
        let mut result = self.fill(index, token, op);
        let slot = &self.slots[index as usize];
        if let (Ok(()), Kind::Truncate { bytes }, false) = (&result, slot.kind, self.can_truncate) {
            // Before 6.9 the ring cannot truncate: a plain call. Only tools and GC ask for it.
            let cut = slot.file.as_ref().map(|file| file.os().and_then(|f| f.set_len(bytes)));
            let over = self.finish(index, cut.unwrap_or(Ok(())).map(|()| 0));
            self.ready.push(over);
            return Ok(());
        }
        if result.is_ok() {
            result = self.push(index);
        }
        if let Err(error) = result {
            let over = self.finish(index, Err(error));
            self.ready.push(over);
        }
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        if !self.bound {
            return Err(invalid("a ring is driven before it is bound"));
        }
        let before = done.len();
        done.append(&mut self.ready);
        if self.in_flight() == 0 && wait != Wait::No {
            self.sweep_fixed();
        }
        let limit = match wait {
            Wait::Until(limit) => {
                Some(Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos()))
            }
            _ => None,
        };
        let mut tries = 0;
        let mut flushed = false;
        // What was queued before goes in now. What a harvest queues (the bell's next read, a write
        // that goes again) goes in with the next call, which is made before anything parks: a ring
        // of the bell meanwhile is kept by its eventfd.
        let queued = !self.ring.submission().is_empty();
        loop {
            self.harvest(done)?;
            let awake = wait == Wait::No || self.rung || done.len() > before;
            // Once: the TASKRUN flag can be stale. A completion on another core sets it after this
            // thread has run that very completion; no enter clears it then, until the next one.
            if awake && (flushed || !(queued || self.kernel_has_work())) {
                break;
            }
            flushed = awake;
            match self.enter(usize::from(!awake), limit.as_ref())? {
                Entered::TimeUp | Entered::Interrupted => {
                    self.harvest(done)?;
                    break;
                }
                Entered::Again if tries == ENTER_TRIES_MAX => {
                    return Err(io::Error::from_raw_os_error(libc::EAGAIN));
                }
                Entered::Again => {
                    flushed = false;
                    tries += 1;
                    std::thread::yield_now();
                }
                Entered::Back => {}
            }
        }
        self.rung = false;
        Ok(())
    }

    fn bell(&self) -> Arc<dyn Bell> {
        Arc::clone(&self.bell) as Arc<dyn Bell>
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.ready.len()
    }

    fn resubmits(&self) -> u64 {
        self.resubmits
    }

    fn backend(&self) -> &'static str {
        probe::URING
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        if !self.drain() {
            for slot in std::mem::take(&mut self.slots) {
                std::mem::forget(slot);
            }
            if let Ok(spare) = AlignedBuf::zeroed(1) {
                std::mem::forget(std::mem::replace(&mut self.bell_word, spare));
            }
            if let Some(arena) = self.arena.take() {
                std::mem::forget(arena);
            }
        }
    }
}

fn has_truncate(ring: &IoUring) -> bool {
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).is_ok()
        && probe.is_supported(opcode::Ftruncate::CODE)
}

fn c_name(name: &str) -> io::Result<CString> {
    super::check_name(name)?;
    CString::new(name).map_err(|_| invalid("a name with a zero byte"))
}

fn write_entry(
    target: Target,
    buf: &IoBuf,
    arena: Option<&Arena>,
    offset: u64,
    sync: Persist,
) -> squeue::Entry {
    let flags = if sync == Persist::Dsync { libc::RWF_DSYNC } else { 0 };
    let (ptr, len) = (buf.as_ptr(), buf.len() as u32);
    let registered = match (buf.arena(), arena) {
        (Some((base, bytes)), Some(arena)) => base as usize == arena.base && bytes == arena.bytes,
        _ => false,
    };
    if registered {
        on_target!(target, |fd| opcode::WriteFixed::new(fd, ptr, len, 0)
            .offset(offset)
            .rw_flags(flags)
            .build())
    } else {
        on_target!(target, |fd| opcode::Write::new(fd, ptr, len)
            .offset(offset)
            .rw_flags(flags)
            .build())
    }
}

/// Generation, slot and part in one number.
fn user_data(generation: u32, index: u32, part: Part) -> u64 {
    u64::from(generation) << 32 | u64::from(index) << 1 | u64::from(part == Part::LinkedSync)
}

fn parse_user_data(data: u64) -> (u32, u32, Part) {
    let part = if data & 1 == 1 { Part::LinkedSync } else { Part::Main };
    ((data >> 32) as u32, (data as u32) >> 1, part)
}
