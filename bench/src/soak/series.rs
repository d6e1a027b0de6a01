//! What a soak uses, over time, and whether that is flat.
//!
//! Invariants: a sample is taken of the living process and its directory, from outside, while
//! it is under load: an opening has a use of its own.
//!
//! The rule: a series is flat when the median of its last quarter is at most `GROWTH_MAX` times the
//! median of its second quarter (the first one warms up), plus a slack that is stated with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::child::{SEGMENT_BYTES, SHARDS};

/// How much the last quarter may be above the second.
pub(crate) const GROWTH_MAX: f64 = 1.1;
/// On top of that: a segment that is active, spare, being sealed and being retired, per shard.
const SLACK_DISK: f64 = 4.0 * SHARDS as f64 * SEGMENT_BYTES as f64;
/// Memory that comes and goes with batches and caches.
const SLACK_RSS: f64 = (16 << 20) as f64;
const SLACK_FILES: f64 = 8.0;

/// One look.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// Since the soak began.
    pub(crate) seconds: f64,
    /// Allocated bytes of the directory.
    pub(crate) disk_bytes: u64,
    /// Resident memory of the process.
    pub(crate) rss_bytes: u64,
    /// Files it has open.
    pub(crate) files: u64,
    /// Records acked a second since the sample before.
    pub(crate) appends: f64,
}

/// How one series came out.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Flatness {
    pub(crate) name: &'static str,
    /// Medians of the second and of the last quarter.
    pub(crate) second_quarter: f64,
    pub(crate) last_quarter: f64,
    /// What the last one may be.
    pub(crate) limit: f64,
    pub(crate) flat: bool,
}

/// The verdicts on disk, memory and files. None without enough samples.
pub(crate) fn verdicts(samples: &[Sample]) -> Vec<Flatness> {
    let all = |value: fn(&Sample) -> u64| samples.iter().map(|s| value(s) as f64).collect();
    let of: [(&str, Vec<f64>, f64); 3] = [
        ("disk bytes", all(|s| s.disk_bytes), SLACK_DISK),
        ("resident bytes", all(|s| s.rss_bytes), SLACK_RSS),
        ("open files", all(|s| s.files), SLACK_FILES),
    ];
    of.into_iter().filter_map(|(name, values, slack)| flatness(name, &values, slack)).collect()
}

fn flatness(name: &'static str, values: &[f64], slack: f64) -> Option<Flatness> {
    let quarter = values.len() / 4;
    if quarter == 0 {
        return None;
    }
    let second_quarter = median(&values[quarter..2 * quarter]);
    let last_quarter = median(&values[values.len() - quarter..]);
    let limit = GROWTH_MAX * second_quarter + slack;
    Some(Flatness { name, second_quarter, last_quarter, limit, flat: last_quarter <= limit })
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Allocated bytes of the files in `dir`. A file that goes meanwhile counts nothing.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.filter_map(Result::ok).filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { disk_bytes(&entry.path()) } else { meta.blocks() * 512 })
    });
    sizes.sum()
}

/// Resident bytes and open files of a process, while it lives.
pub(crate) fn of_process(pid: u32) -> Option<(u64, u64)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib * 1024, files))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn samples(rss: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..40)
            .map(|at| Sample {
                seconds: at as f64,
                disk_bytes: 1 << 30,
                rss_bytes: rss(at),
                files: 40,
                appends: 2000.0,
            })
            .collect()
    }

    #[test]
    fn what_grows_is_not_flat() {
        let all_flat = |samples: &[Sample]| verdicts(samples).iter().all(|series| series.flat);
        assert_eq!(verdicts(&samples(|_| 64 << 20)).len(), 3);
        assert!(all_flat(&samples(|_| 64 << 20)));
        assert!(all_flat(&samples(|at| if at < 10 { 0 } else { 64 << 20 })), "a warm-up");
        assert!(all_flat(&samples(|at| (64 + at % 7) << 20)), "noise");
        assert!(!all_flat(&samples(|at| (64 + 2 * at) << 20)), "a leak");
        assert!(verdicts(&samples(|_| 1)[..3]).is_empty(), "too few to say");
    }

    #[test]
    fn a_process_and_a_directory_are_seen_from_outside() {
        let (rss, files) = of_process(std::process::id()).unwrap();
        assert!(rss > 1 << 20 && files > 2);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let before = disk_bytes(dir.path());
        std::fs::write(dir.path().join("in/file"), vec![1; 100_000]).unwrap();
        assert!(disk_bytes(dir.path()) >= before + 100_000);
    }
}
