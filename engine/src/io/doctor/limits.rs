//! What a process may have here: locked memory, files, space, cores.

use rustix::process::{Resource, getrlimit};

use super::scratch::Place;
use super::{Measured, Row, Verdict, plural, size, told};

/// The staging memory of a shard by default, which a ring registers.
const STAGE_BYTES: u64 = 32 << 20;

/// Descriptors that a process with a few shards and readers needs, with room.
const FILES_MIN: u64 = 256;

/// What a new directory takes by default: two segments, manifests, the rest.
const FRESH_BYTES: u64 = 70 << 20;

/// Less free space than this is worth a word.
const SPACE_MIN: u64 = 1 << 30;

/// As few free inodes.
const INODES_MIN: u64 = 1000;

pub(super) fn rows(rows: &mut Vec<Row>, place: &Place) {
    rows.push(locked_memory());
    rows.push(files());
    space(rows, place);
    rows.push(cores());
    rows.push(swap(&told("/proc/meminfo").unwrap_or_default()));
}

fn locked_memory() -> Row {
    let limit = getrlimit(Resource::Memlock).current;
    let value = limit.map_or_else(|| "unlimited".to_owned(), size);
    let exempt = rustix::process::geteuid().is_root();
    if limit.is_some_and(|limit| limit < STAGE_BYTES) && !exempt {
        let advice = format!(
            "staging memory ({} a shard) cannot be registered and is pinned anew by each write: \
             raise it (LimitMEMLOCK=, ulimit -l)",
            size(STAGE_BYTES)
        );
        return Row::new("locked memory", value, Verdict::Note, advice);
    }
    Row::new("locked memory", value, Verdict::Ok, "nothing to do")
}

fn files() -> Row {
    let limit = getrlimit(Resource::Nofile).current;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let value = limit.map_or_else(|| "unlimited".to_owned(), |limit| format!("at most {limit}"));
    let open = Measured { what: "open now".into(), value: open as f64, unit: "files" };
    let row = if limit.is_some_and(|limit| limit < FILES_MIN) {
        let advice = format!("a shard holds a dozen, a reader a few: raise it to {FILES_MIN}");
        Row::new("open files", value, Verdict::Warning, advice)
    } else {
        Row::new("open files", value, Verdict::Ok, "nothing to do")
    };
    row.with([open])
}

fn space(rows: &mut Vec<Row>, place: &Place) {
    let Ok(dir) = &place.opened else { return };
    let Ok(stat) = rustix::fs::fstatvfs(dir.fd()) else {
        let advice = "the file system does not tell: keep an eye on it";
        return rows.push(Row::new("space", "not known", Verdict::Note, advice));
    };
    let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    rows.push(space_row(free, all));
    rows.push(inodes_row(stat.f_favail, stat.f_files));
}

fn space_row(free: u64, all: u64) -> Row {
    let value = format!("{} of {} free", size(free), size(all));
    let row = if free < FRESH_BYTES {
        let advice = format!("a new directory takes {}: make space", size(FRESH_BYTES));
        Row::new("space", value, Verdict::Bad, advice)
    } else if free < SPACE_MIN || free < all / 20 {
        let advice = "little is left: a full disk refuses appends until there is space again";
        Row::new("space", value, Verdict::Warning, advice)
    } else {
        Row::new("space", value, Verdict::Ok, "nothing to do")
    };
    row.with([Measured::bytes("free", free)])
}

fn inodes_row(free: u64, all: u64) -> Row {
    if all == 0 {
        return Row::new("inodes", "made as needed", Verdict::Ok, "nothing to do");
    }
    let value = format!("{free} of {all} free");
    let row = if free < INODES_MIN {
        let advice = "each segment takes two: remove small files";
        Row::new("inodes", value, Verdict::Warning, advice)
    } else {
        Row::new("inodes", value, Verdict::Ok, "nothing to do")
    };
    row.with([Measured { what: "free".into(), value: free as f64, unit: "inodes" }])
}

fn cores() -> Row {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let nodes = told("/sys/devices/system/node/online").unwrap_or_else(|| "0".to_owned());
    let value = format!("{}, NUMA nodes {nodes}", plural(cores, "core"));
    if cores == 1 {
        let advice = "shard and callers share it: a driven shard needs no hand-off";
        return Row::new("cores", value, Verdict::Note, advice);
    }
    if nodes != "0" {
        let advice = "pin shards (pin_cores) to the node that the device is on";
        return Row::new("cores", value, Verdict::Note, advice);
    }
    Row::new("cores", value, Verdict::Ok, "nothing to do")
}

fn swap(meminfo: &str) -> Row {
    let of = |key: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    };
    match (of("SwapTotal"), of("SwapFree")) {
        (Some(0), _) => Row::new("swap", "none", Verdict::Ok, "nothing to do"),
        (Some(all), Some(free)) => {
            let used = all.saturating_sub(free);
            let value = format!("{} of {} used", size(used), size(all));
            let row = if used > all / 2 {
                let advice = "memory is short: a shard that waits for swap keeps its waiters";
                Row::new("swap", value, Verdict::Warning, advice)
            } else {
                let advice = "an idle process may be swapped out, and its first append then waits";
                Row::new("swap", value, Verdict::Note, advice)
            };
            row.with([Measured::bytes("used", used)])
        }
        _ => Row::new("swap", "not known", Verdict::Note, "/proc/meminfo does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_that_runs_out_is_told_in_time() {
        let verdict = |free: u64, all: u64| space_row(free, all).verdict;
        assert_eq!(verdict(10 << 20, 100 << 30), Verdict::Bad);
        assert_eq!(verdict(500 << 20, 2 << 30), Verdict::Warning);
        assert_eq!(verdict(2 << 30, 100 << 30), Verdict::Warning);
        assert_eq!(verdict(20 << 30, 100 << 30), Verdict::Ok);
        assert_eq!(inodes_row(10, 100_000).verdict, Verdict::Warning);
        assert_eq!(inodes_row(0, 0).verdict, Verdict::Ok);
    }

    #[test]
    fn swap_is_read_from_meminfo() {
        let swap = |all: u64, free: u64| {
            swap(&format!("MemTotal: 1 kB\nSwapTotal: {all} kB\nSwapFree:   {free} kB\n")).verdict
        };
        assert_eq!(swap(0, 0), Verdict::Ok);
        assert_eq!(swap(1000, 900), Verdict::Note);
        assert_eq!(swap(1000, 100), Verdict::Warning);
        assert_eq!(super::swap("").verdict, Verdict::Note);
    }
}
