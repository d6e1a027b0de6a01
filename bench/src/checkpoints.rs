//! What a checkpoint of very many logs does to appends beside it.
//!
//! One thread appends, one record outstanding; another changes a setting again and again, which
//! fills the manifest's slot until a snapshot of all logs goes to the other one.
//!
//! Invariants: both directories, with one log and with all of them, see the same load; a window in
//! which no snapshot was taken is an error, not a figure.
//!
//! Not here: what many logs take (`many`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use sapwood::format::manifest::{FRAME_HEADER_BYTES, FrameHeader};
use sapwood::{Config, Engine, LogSettings};

/// Longest time that is waited for the snapshots of a window.
const WINDOW_MAX: Duration = Duration::from_secs(30);

/// Latencies of appends beside snapshots, in microseconds.
pub struct Beside {
    /// Snapshots that began and ended meanwhile.
    pub snapshots: u64,
    /// Appends.
    pub appends: usize,
    /// The middle one.
    pub p50_us: f64,
    /// One in a thousand took longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Appends to log `name` of the directory until so many snapshots were taken.
///
/// # Errors
/// When anything failed, or no snapshot came.
pub fn beside(dir: &Path, name: &str, snapshots: u64) -> Result<Beside> {
    let engine = Engine::open(Config::new(dir))?;
    let writer = engine.log(name)?.writer()?;
    let busy = engine.log("checkpoints/busy")?;
    let stop = AtomicBool::new(false);
    let (mut times, mut seen) = (Vec::with_capacity(1 << 20), 0);
    thread::scope(|scope| -> Result<()> {
        let setter = scope.spawn(|| -> Result<()> {
            for n in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                busy.set(LogSettings { retention_secs: Some(n), ..LogSettings::default() })?;
            }
            Ok(())
        });
        let since = Instant::now();
        let mut newest = newest_snapshot(dir);
        let appended = loop {
            let begun = Instant::now();
            if let Err(rejected) = writer.append([7u8; 128].to_vec()).wait() {
                break Err(rejected.error);
            }
            times.push(begun.elapsed());
            if times.len() % 256 == 0 {
                let now = newest_snapshot(dir);
                seen += u64::from(now != newest);
                newest = now;
                if seen >= snapshots || since.elapsed() > WINDOW_MAX {
                    break Ok(());
                }
            }
        };
        stop.store(true, Ordering::Relaxed);
        setter.join().map_err(|_| anyhow!("the thread that changes settings panicked"))??;
        Ok(appended?)
    })?;
    drop(writer);
    engine.close()?;
    ensure!(seen > 0, "no snapshot was taken in {} s", WINDOW_MAX.as_secs());
    times.sort_unstable();
    let at = |share: f64| {
        let last = times.len() - 1;
        times[((times.len() as f64 * share) as usize).min(last)].as_secs_f64() * 1e6
    };
    let (p50_us, p999_us, max_us) = (at(0.5), at(0.999), at(1.0));
    Ok(Beside { snapshots: seen, appends: times.len(), p50_us, p999_us, max_us })
}

/// The sequence of the newest snapshot at the front of a slot of shard 0.
fn newest_snapshot(dir: &Path) -> u64 {
    let front = |slot: u32| {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let file = File::open(dir.join(format!("manifest-000-a{slot}"))).ok()?;
        file.read_exact_at(&mut bytes, 0).ok()?;
        FrameHeader::decode(&bytes).ok().map(|(header, _)| header.seq)
    };
    (0..2).filter_map(front).max().unwrap_or(0)
}
