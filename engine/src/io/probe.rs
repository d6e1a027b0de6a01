//! What a directory's file system and device are like, found out when it is opened.
//!
//! Invariants: every finding says why it is what it is; nothing is believed that the kernel did not
//! report or a measurement did not show ("not reported" means 4096).
//!
//! Not here: what the directory recorded at creation (`manifest`), which overrules a new
//! measurement.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags};

use super::blocking::BlockingDisk;
use super::buf::{AlignedBuf, BUF_ALIGN, IoBuf};
use super::mountinfo::{Mount, Risk};
use super::os::{Backend, Directory, OsOptions};
use super::uring::{self, UringDisk};
use super::{Disk, DiskSpec, Durable, File, Op, Wait, plain};

/// A finding and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<T> {
    /// What was found.
    pub value: T,
    /// Why, in words for a person.
    pub why: String,
}

impl<T> Finding<T> {
    /// A finding with its reason.
    pub fn new(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into() }
    }
}

/// All that was found out about one directory.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Alignment of every transfer: max(4096, physical block, reported alignment of direct I/O).
    pub unit: Finding<u32>,
    /// How a write is made durable.
    pub durable: Finding<Durable>,
    /// Whether O_DIRECT is accepted.
    pub direct: Finding<bool>,
    /// What carries the operations of shards: `io_uring`, `pread/pwrite`, `simulated`.
    pub backend: Finding<&'static str>,
    /// The kind of file system.
    pub file_system: String,
    /// Whether it is NFS (batches ≤ wsize, slower idle marks).
    pub nfs: bool,
    /// How it is mounted, where that is NFS and the kernel tells.
    pub mount: Option<Mount>,
    /// What about that mount can lose acked records.
    pub risks: Vec<Risk>,
    /// The block device behind it, when there is one that the kernel names.
    pub device: Option<String>,
    /// The device's `queue/write_cache`: `write back` (flushes cost) or `write through`.
    pub write_cache: Option<String>,
    /// The kernel's release.
    pub kernel: String,
}

/// The name of the ring's backend.
pub(super) const URING: &str = "io_uring";

/// The name of the blocking backend.
pub(super) const PLAIN: &str = "pread/pwrite";

/// The scratch file: made once, written once, measured on at each open that has to choose.
const PROBE_FILE: &str = "probe";

/// Writes of each method that a measurement takes at most, each to a block of its own.
const SAMPLES: usize = 16;

/// A measurement ends after this, whatever it has.
const MEASURE_BUDGET: Duration = Duration::from_millis(12);

/// The file systems that `statfs` may name.
const FILE_SYSTEMS: &[(i64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (NFS_MAGIC, "nfs"),
    (0x6573_5546, "fuse"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x00c3_6400, "ceph"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x8584_58f6, "ramfs"),
];

const NFS_MAGIC: i64 = 0x6969;

/// Finds out what `dir` is like; also whether O_DIRECT is to be used in it.
pub(super) fn run(dir: &Directory, opts: &OsOptions) -> io::Result<Probe> {
    let magic = rustix::fs::fstatfs(dir.fd())?.f_type as i64;
    let nfs = magic == NFS_MAGIC;
    let file_system = match FILE_SYSTEMS.iter().find(|(known, _)| *known == magic) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("unknown ({magic:#x})"),
    };
    let device = Device::of(dir)?;
    let mount = if nfs { mount_of(dir)? } else { None };
    let backend = choose_backend(opts.backend)?;
    let (file, direct) = open_scratch(dir, opts)?;
    let align = file.as_ref().and_then(alignment);
    let direct = judge_direct(direct, align.as_ref(), &file_system);
    let unit = choose_unit(&device, align.as_ref());
    let durable = match (opts.durable, file) {
        (Some(recorded), _) => Finding::new(recorded, "recorded by the directory"),
        (None, _) if nfs => Finding::new(Durable::Dsync, "NFS: one round trip, not measured"),
        (None, _) if !direct.value => {
            Finding::new(Durable::Fdatasync, "buffered writes: nothing else covers the cache")
        }
        (None, Some(file)) if !opts.read_only => {
            measure(dir, File::from_os(file, true, PROBE_FILE), backend.value)?
        }
        (None, _) => Finding::new(Durable::Dsync, "not measured: nothing may be written here"),
    };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok(Probe {
        unit,
        durable,
        direct,
        backend,
        file_system,
        nfs,
        risks: mount.as_ref().map_or_else(Vec::new, |m| m.risks(recovers_lost_locks())),
        mount,
        device: device.name,
        write_cache: device.write_cache,
        kernel,
    })
}

/// How the file system of a directory is mounted.
fn mount_of(dir: &Directory) -> io::Result<Option<Mount>> {
    let device = rustix::fs::fstat(dir.fd())?.st_dev;
    // Without /proc nobody tells.
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(None) };
    Ok(Mount::of_device(&mounts, rustix::fs::major(device), rustix::fs::minor(device)))
}

/// What the kernel does with locks that it lost.
pub(super) fn recovers_lost_locks() -> bool {
    let parameter = fs::read_to_string("/sys/module/nfs/parameters/recover_lost_locks");
    parameter.is_ok_and(|set| set.trim() == "Y" || set.trim() == "1")
}

fn choose_backend(wanted: Backend) -> io::Result<Finding<&'static str>> {
    if wanted == Backend::Blocking {
        return Ok(Finding::new(PLAIN, "asked for"));
    }
    match uring::check() {
        Ok(()) => Ok(Finding::new(URING, "the kernel has every operation we need")),
        Err(error) if wanted == Backend::Auto && uring::is_refusal(&error) => {
            tracing::warn!("io_uring refused: {error}; using {PLAIN}");
            Ok(Finding::new(PLAIN, format!("io_uring refused: {error}")))
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("io_uring refused: {error}"))),
    }
}

/// Opens the scratch file, O_DIRECT where that is accepted; makes and fills it when it is missing.
fn open_scratch(
    dir: &Directory,
    opts: &OsOptions,
) -> io::Result<(Option<fs::File>, Finding<bool>)> {
    let access = if opts.read_only { OFlags::RDONLY } else { OFlags::RDWR | OFlags::CREATE };
    let direct = if opts.direct { OFlags::DIRECT } else { OFlags::empty() };
    let (opened, finding) = match dir.open_flags(PROBE_FILE, access | direct) {
        Err(error) if opts.direct && error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!("O_DIRECT is refused here; using buffered writes and fdatasync");
            let why = "refused at open (EINVAL): buffered writes and fdatasync";
            (dir.open_flags(PROBE_FILE, access), Finding::new(false, why))
        }
        other if opts.direct => (other, Finding::new(true, "accepted at open")),
        other => (other, Finding::new(false, "not asked for")),
    };
    let no_room = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if no_room(&error) || error.kind() == io::ErrorKind::NotFound => {
            return Ok((None, Finding::new(finding.value, "not tried: no file to try it on")));
        }
        Err(error) => return Err(error),
    };
    if !opts.read_only && file.metadata()?.len() < (SAMPLES * BUF_ALIGN) as u64 {
        let zeros = AlignedBuf::zeroed(SAMPLES * BUF_ALIGN)?;
        let written = plain::write(&file, 0, &zeros, Some(Durable::Fdatasync), &mut 0);
        match written.and_then(|()| dir.sync()) {
            Err(error) if no_room(&error) => return Ok((None, finding)),
            other => other?,
        }
    }
    Ok((Some(file), finding))
}

/// What the kernel says about direct I/O on a file: `None` when it says nothing.
pub(super) fn alignment(file: &fs::File) -> Option<Statx> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN);
    told.then_some(stat)
}

fn judge_direct(opened: Finding<bool>, align: Option<&Statx>, file_system: &str) -> Finding<bool> {
    match align {
        _ if !opened.value => opened,
        Some(stat) if stat.stx_dio_offset_align == 0 => {
            tracing::warn!("the file system reports no direct I/O; using buffered writes");
            Finding::new(false, "accepted at open, but statx reports that it is not supported")
        }
        Some(stat) if stat.stx_dio_mem_align as usize > BUF_ALIGN => {
            Finding::new(false, format!("wants memory aligned to {}", stat.stx_dio_mem_align))
        }
        _ if file_system == "btrfs" => Finding::new(
            true,
            format!("{}; btrfs buffers checksummed files all the same", opened.why),
        ),
        _ => opened,
    }
}

pub(super) fn choose_unit(device: &Device, align: Option<&Statx>) -> Finding<u32> {
    let block = device.physical_block.unwrap_or(0);
    let offset = align.map_or(0, |stat| stat.stx_dio_offset_align);
    let unit = [block, offset]
        .into_iter()
        .filter(|n| n.is_power_of_two())
        .fold(BUF_ALIGN as u32, u32::max);
    let told = |n: u32| if n == 0 { "not reported".to_owned() } else { n.to_string() };
    let why = format!(
        "max({BUF_ALIGN}, physical block {}, alignment of direct I/O {})",
        told(block),
        told(offset)
    );
    Finding::new(unit, why)
}

/// What the kernel names as the device under a directory.
#[derive(Default)]
pub(super) struct Device {
    pub(super) name: Option<String>,
    physical_block: Option<u32>,
    pub(super) write_cache: Option<String>,
}

impl Device {
    pub(super) fn of(dir: &Directory) -> io::Result<Self> {
        let stat = rustix::fs::fstat(dir.fd())?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let node = format!("/sys/dev/block/{major}:{minor}");
        let Ok(target) = fs::read_link(&node) else {
            // Btrfs, NFS, tmpfs, overlay: numbers without a device.
            return Ok(Self::default());
        };
        // A partition has no queue of its own; its disk does, one folder up.
        let queue = |what: &str| {
            [format!("{node}/queue/{what}"), format!("{node}/../queue/{what}")]
                .iter()
                .find_map(|path| Some(fs::read_to_string(path).ok()?.trim().to_owned()))
        };
        Ok(Self {
            name: target.file_name().map(|name| name.to_string_lossy().into_owned()),
            physical_block: queue("physical_block_size").and_then(|text| text.parse().ok()),
            write_cache: queue("write_cache"),
        })
    }
}

/// Measures durable writes of one block by each method, through the backend that will carry them.
fn measure(dir: &Directory, file: File, backend: &str) -> io::Result<Finding<Durable>> {
    let dir = Arc::new(dir.try_clone()?);
    let spec = DiskSpec { in_flight: 1, ..DiskSpec::default() };
    let mut methods = Vec::new();
    for durable in [Durable::Dsync, Durable::Fdatasync] {
        let mut disk: Box<dyn Disk> = if backend == URING {
            Box::new(UringDisk::new(Arc::clone(&dir), durable, &spec)?)
        } else {
            Box::new(BlockingDisk::new(Arc::clone(&dir), durable, &spec))
        };
        disk.bind()?;
        methods.push((disk, Vec::with_capacity(SAMPLES)));
    }
    let mut buf = Some(IoBuf::Owned(AlignedBuf::zeroed(BUF_ALIGN)?));
    let began = Instant::now();
    'budget: for round in 0..SAMPLES {
        for (disk, took) in &mut methods {
            if round > 0 && began.elapsed() > MEASURE_BUDGET {
                break 'budget;
            }
            let Some(block) = buf.take() else { break 'budget };
            let start = Instant::now();
            match write_one(disk.as_mut(), &file, (round * BUF_ALIGN) as u64, block) {
                Ok(back) => {
                    took.push(start.elapsed());
                    buf = Some(back);
                }
                Err(error) => {
                    // A method that is not supported is no choice; a device that fails shows itself
                    // in the other one.
                    tracing::warn!(%error, "a durable method fails here");
                    took.clear();
                    buf = Some(IoBuf::Owned(AlignedBuf::zeroed(BUF_ALIGN)?));
                }
            }
        }
    }
    let mut medians = methods.into_iter().map(|(_, took)| median(took));
    decide(medians.next().flatten(), medians.next().flatten(), backend)
}

/// A linked fdatasync costs a worker thread, a hand-over to it and back, and twice the processor
/// time of a flag on the write (measured: 37 to 41 against 18 to 20 µs a write). It has to be this
/// much faster than the flag, in percent, to be worth that; less is within the noise of a few
/// samples anyway.
const WORTH_A_WORKER_PERCENT: u32 = 25;

/// The longest time of a DSYNC write that still beats this fdatasync.
fn dearest_dsync(fdatasync: Duration) -> Duration {
    fdatasync + fdatasync * WORTH_A_WORKER_PERCENT / 100
}

/// Chooses between the medians; `None` = the method failed.
fn decide(
    dsync: Option<Duration>,
    fdatasync: Option<Duration>,
    backend: &str,
) -> io::Result<Finding<Durable>> {
    let why = match (dsync, fdatasync) {
        (Some(d), Some(f)) => format!(
            "measured by {backend}: dsync {} µs, fdatasync {} µs; fdatasync costs more processor \
             time and must be {WORTH_A_WORKER_PERCENT} % faster to be worth it",
            d.as_micros(),
            f.as_micros()
        ),
        (Some(_), None) => "fdatasync fails here".to_owned(),
        (None, Some(_)) => "dsync fails here".to_owned(),
        (None, None) => return Err(io::Error::other("no durable method works here")),
    };
    let dsync_wins = fdatasync.is_none_or(|f| dsync.is_some_and(|d| d <= dearest_dsync(f)));
    Ok(Finding::new(if dsync_wins { Durable::Dsync } else { Durable::Fdatasync }, why))
}

fn write_one(disk: &mut dyn Disk, file: &File, offset: u64, buf: IoBuf) -> io::Result<IoBuf> {
    let op = Op::Write { file: file.clone(), offset, buf, persist: true };
    disk.submit(0, op).map_err(|_| io::ErrorKind::ResourceBusy)?;
    let mut done = Vec::with_capacity(1);
    while done.is_empty() {
        disk.reap(&mut done, Wait::Event)?;
    }
    let done = done.pop().ok_or(io::ErrorKind::Interrupted)?;
    done.result?;
    done.buf.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn median(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The story: on a shared machine 16 samples of each said 131 against 129 µs, the directory
    /// was made with linked syncs for good, and each append cost 82 µs of processor instead of
    /// 24, its latency 1.36 times the floor instead of 1.08.
    #[test]
    fn a_flag_on_the_write_wins_all_that_is_near() {
        let us = |n| Some(Duration::from_micros(n));
        let choose = |d, f| decide(d, f, URING).map(|finding| finding.value).ok();
        assert_eq!(choose(us(131), us(129)), Some(Durable::Dsync));
        assert_eq!(choose(us(125), us(100)), Some(Durable::Dsync));
        assert_eq!(choose(us(126), us(100)), Some(Durable::Fdatasync));
    }

    #[test]
    fn the_cheaper_method_wins_and_a_failing_one_never() {
        let us = |n| Some(Duration::from_micros(n));
        let choose = |d, f| decide(d, f, URING).map(|finding| finding.value).ok();
        assert_eq!(choose(us(100), us(120)), Some(Durable::Dsync));
        assert_eq!(choose(us(100), us(100)), Some(Durable::Dsync));
        assert_eq!(choose(us(150), us(100)), Some(Durable::Fdatasync));
        assert_eq!(choose(None, us(100)), Some(Durable::Fdatasync));
        assert_eq!(choose(us(120), None), Some(Durable::Dsync));
        assert_eq!(choose(None, None), None);
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_unit_is_the_largest_of_what_is_reported() {
        let device = |block| Device { physical_block: block, ..Device::default() };
        assert_eq!(choose_unit(&device(Some(512)), None).value, 4096);
        assert_eq!(choose_unit(&device(Some(16384)), None).value, 16384);
        assert_eq!(choose_unit(&device(None), None).value, 4096);
    }
}
