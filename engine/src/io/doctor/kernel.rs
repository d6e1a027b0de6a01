//! The kernel and its rings.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use io_uring::IoUring;

use super::scratch::Place;
use super::{Measured, Row, Verdict, median, told};
use crate::io::uring::{self, UringDisk};
use crate::io::{Disk, DiskSpec, Durable, Wait};

/// Calls over which the cost of one is taken.
const CALLS: u32 = 2000;

/// Wakes whose median is told.
const WAKES: usize = 200;

/// Asks for a feature of rings.
type Ask = fn(&mut io_uring::Builder);

/// What a ring is asked for, newest first, and since when kernels have it.
const FLAGS: &[(&str, Ask)] = &[
    ("DEFER_TASKRUN (6.1)", |b| {
        b.setup_single_issuer().setup_defer_taskrun();
    }),
    ("SINGLE_ISSUER (6.0)", |b| {
        b.setup_single_issuer();
    }),
    ("COOP_TASKRUN (5.19)", |b| {
        b.setup_coop_taskrun();
    }),
    ("SUBMIT_ALL (5.18)", |b| {
        b.setup_submit_all();
    }),
];

/// Adds the rows; tells whether there are rings.
pub(super) fn rows(rows: &mut Vec<Row>, place: &Place) -> bool {
    rows.push(kernel());
    let (row, works) = ring(place);
    rows.push(row);
    works
}

fn kernel() -> Row {
    let began = Instant::now();
    for _ in 0..CALLS {
        let _ = rustix::process::getppid();
    }
    let call = Measured::time("a system call takes", began.elapsed() / CALLS);
    let system = rustix::system::uname();
    let value = system.release().to_string_lossy().into_owned();
    let row = match version(&value) {
        Some(version) if version < (5, 11) => {
            let advice = "too old for the rings (5.11): plain writes are used, one at a time";
            Row::new("kernel", value, Verdict::Warning, advice)
        }
        Some(version) if version < (6, 1) => {
            let advice = "works; from 6.1 on a ring interrupts its shard less (DEFER_TASKRUN)";
            Row::new("kernel", value, Verdict::Note, advice)
        }
        _ => Row::new("kernel", value, Verdict::Ok, "nothing to do"),
    };
    row.with([call])
}

/// Major and minor of a release's name.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn ring(place: &Place) -> (Row, bool) {
    if let Err(error) = uring::check() {
        let advice = why_refused(&error);
        return (
            Row::new("io_uring", format!("refused: {error}"), Verdict::Warning, advice),
            false,
        );
    }
    let has = |add: Ask| {
        let mut builder = IoUring::builder();
        builder.setup_r_disabled();
        add(&mut builder);
        builder.build(4).is_ok()
    };
    let (found, missing): (Vec<_>, Vec<_>) = FLAGS.iter().partition(|(_, add)| has(*add));
    let names =
        |flags: &[&(&str, Ask)]| flags.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let mut row = Row::new(
        "io_uring",
        if found.is_empty() { "yes".to_owned() } else { format!("yes: {}", names(&found)) },
        Verdict::Ok,
        "nothing to do",
    );
    if !missing.is_empty() {
        row.at_least(Verdict::Note, format!("this kernel has no {}", names(&missing)));
    }
    let wake = place.opened.as_ref().ok().and_then(|dir| wake(Arc::clone(dir)).ok().flatten());
    (row.with(wake), true)
}

/// What it costs to wake a ring: the hand-off between a caller and a shard, without the scheduler.
fn wake(dir: Arc<crate::io::os::Directory>) -> io::Result<Option<Measured>> {
    let spec = DiskSpec { in_flight: 1, ..DiskSpec::default() };
    let mut disk = UringDisk::new(dir, Durable::Dsync, &spec)?;
    disk.bind()?;
    let bell = disk.bell();
    let mut took = Vec::with_capacity(WAKES);
    let mut done = Vec::new();
    for _ in 0..WAKES {
        let began = Instant::now();
        bell.ring();
        disk.reap(&mut done, Wait::Event)?;
        took.push(began.elapsed());
    }
    Ok(median(took).map(|took| Measured::time("waking a ring takes", took)))
}

fn why_refused(error: &io::Error) -> String {
    let disabled = told("/proc/sys/kernel/io_uring_disabled");
    let status = told("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
    let why = reason(disabled.as_deref(), filtered, error.raw_os_error());
    format!("{why}plain writes are used, one at a time")
}

/// Why rings are refused, by the sysctl, whether a filter is in force, and the error.
fn reason(disabled: Option<&str>, filtered: bool, errno: Option<i32>) -> &'static str {
    match (disabled, errno) {
        (Some("2"), _) => "sysctl kernel.io_uring_disabled=2 forbids it; ",
        (Some("1"), _) => {
            "sysctl kernel.io_uring_disabled=1 allows it to root and to the group of \
             kernel.io_uring_group alone; "
        }
        (_, Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) if filtered => {
            "a seccomp filter forbids it, as containers do: allow io_uring_setup, io_uring_enter \
             and io_uring_register; "
        }
        (_, Some(libc::ENOSYS)) => "the kernel was built without it; ",
        (_, Some(libc::ENOMEM)) => "raise the memlock limit; ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.8.0-45-generic"), Some((6, 8)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("odd"), None);
    }

    #[test]
    fn a_refusal_is_told_by_its_reason() {
        let (perm, nosys) = (Some(libc::EPERM), Some(libc::ENOSYS));
        for (why, word) in [
            (reason(Some("2"), true, perm), "io_uring_disabled=2"),
            (reason(Some("1"), false, perm), "io_uring_group"),
            (reason(Some("0"), true, perm), "seccomp"),
            (reason(None, true, nosys), "seccomp"),
            (reason(None, false, nosys), "built without"),
            (reason(Some("0"), false, Some(libc::ENOMEM)), "memlock"),
        ] {
            assert!(why.contains(word), "{word}: {why}");
        }
        assert_eq!(reason(None, false, None), "");
    }
}
