//! What the workload appends: every payload follows from its log and LSN alone.
//!
//! So the checker knows each record without being told, in whatever process, epoch or round it was
//! appended. Not here: how many there are (`marks`).

use std::path::Path;

use sapwood::Config;

/// The logs, on two shards: batches of one and of several logs, and shards that crash apart.
pub(crate) const LOGS: [&str; 3] = ["orders", "ledger", "audit"];

/// The smallest segments there are, small batches, several in flight: many rolls, many joints.
pub(crate) fn config(dir: &Path) -> Config {
    Config {
        shards: 2,
        segment_bytes: 1 << 20,
        batch_bytes_max: 256 << 10,
        record_bytes_max: 128 << 10,
        stage_bytes: 1 << 20,
        pipeline_bytes_min: 1,
        ..Config::new(dir)
    }
}

/// splitmix64: a number that looks like any other, from `x`.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The record at `lsn` of log number `log`: mostly small, some empty, one in sixteen of pages.
pub(crate) fn payload(log: usize, lsn: u64) -> Vec<u8> {
    let seed = mix(((log as u64) << 48) ^ lsn);
    let bytes = match seed % 16 {
        0 => 4_096 + (seed >> 8) as usize % 60_000,
        1 => 0,
        _ => (seed >> 8) as usize % 600,
    };
    let mut out = Vec::with_capacity(bytes + 8);
    let mut word = seed;
    while out.len() < bytes {
        word = mix(word);
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
