//! What a run cost: CPU, context switches, and what the block device saw.
//!
//! CPU is this process's, as getrusage tells it: kernel workers are not in it. Device counts are
//! the whole device's, so they mean something only on an otherwise quiet machine.
//!
//! Not here: latency (`load`), the machine's description (`environment`).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

/// Counters of a block device, from `/sys/dev/block/…/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceCounts {
    /// Write requests completed.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Flush requests completed.
    pub flushes: u64,
}

/// One reading of all counters.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    cpu_us: u64,
    switches: u64,
    device: Option<DeviceCounts>,
}

/// The difference of two readings.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Wall time, seconds.
    pub seconds: f64,
    /// User and system time of the process, microseconds.
    pub cpu_us: u64,
    /// Voluntary and involuntary context switches.
    pub switches: u64,
    /// What the device saw, where it was found.
    pub device: Option<DeviceCounts>,
}

/// Reads the counters for data under one folder.
#[derive(Clone, Debug)]
pub struct Meter {
    stat: Option<PathBuf>,
}

impl Meter {
    /// A meter for the device under `dir`; without device counts where there is none to name.
    #[must_use]
    pub fn new(dir: &Path) -> Meter {
        let stat = device_folder(dir).map(|folder| folder.join("stat"));
        Meter { stat: stat.filter(|path| path.exists()) }
    }

    /// The counters now.
    ///
    /// # Errors
    /// When getrusage fails.
    pub fn read(&self) -> Result<Reading> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let micros = |time: nix::sys::time::TimeVal| {
            (time.tv_sec() as u64) * 1_000_000 + time.tv_usec() as u64
        };
        let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
        let stat = self.stat.as_ref().and_then(|path| fs::read_to_string(path).ok());
        Ok(Reading {
            at: Instant::now(),
            cpu_us: micros(usage.user_time()) + micros(usage.system_time()),
            switches: switches as u64,
            device: stat.as_deref().and_then(parse_stat),
        })
    }
}

impl Reading {
    /// What was spent since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Reading) -> Cost {
        let device = self.device.zip(earlier.device).map(|(now, then)| DeviceCounts {
            writes: now.writes.saturating_sub(then.writes),
            bytes: now.bytes.saturating_sub(then.bytes),
            flushes: now.flushes.saturating_sub(then.flushes),
        });
        Cost {
            seconds: self.at.duration_since(earlier.at).as_secs_f64(),
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            switches: self.switches.saturating_sub(earlier.switches),
            device,
        }
    }
}

/// The sysfs folder of the whole disk that holds `dir` (flushes are counted there, not on a
/// partition), if the file system sits on exactly one.
#[must_use]
pub fn device_folder(dir: &Path) -> Option<PathBuf> {
    let number = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if folder.join("partition").exists() {
        return folder.parent().map(Path::to_path_buf);
    }
    Some(folder)
}

fn parse_stat(text: &str) -> Option<DeviceCounts> {
    let fields: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    Some(DeviceCounts {
        writes: *fields.get(4)?,
        bytes: fields.get(6)? * 512,
        flushes: *fields.get(15)?,
    })
}

/// The peak resident size since [`reset_peak_rss`], in bytes.
#[must_use]
pub fn peak_rss() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The resident size now, in bytes.
#[must_use]
pub fn rss() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Starts a new peak; false where the kernel does not let us.
#[must_use]
pub fn reset_peak_rss() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn status_bytes(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_gives_writes_bytes_and_flushes() {
        let line = "87060 25901 4219410 36555 11293 18776 958416 6294 0 21764 43534 1 2 3 4 929 5";
        let counts = parse_stat(line).unwrap();
        assert_eq!(counts, DeviceCounts { writes: 11293, bytes: 958_416 * 512, flushes: 929 });
        assert!(parse_stat("1 2 3").is_none(), "an old kernel tells no flushes");
    }

    #[test]
    fn cost_counts_forward() {
        let meter = Meter::new(Path::new("/"));
        let first = meter.read().unwrap();
        let cost = meter.read().unwrap().since(&first);
        assert!(cost.seconds >= 0.0 && cost.seconds < 60.0);
        assert!(peak_rss().unwrap() > 0 && rss().unwrap() > 0);
    }
}
