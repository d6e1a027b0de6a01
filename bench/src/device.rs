//! The raw floor: what this disk does when nothing stands between the caller and its ring.
//!
//! Invariants: every number comes from a file that was written once in full and synced before;
//! memory and file are registered; one thread. So the engine can at best be equal.
//!
//! Not here: the ring itself (`ring`), rivals (`baseline`).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::meter::Meter;
use crate::ring::{Method, Ring};
use crate::sample::{Sample, histogram};

/// Block of prewriting, and of raw reads unless said otherwise.
pub const BLOCK_BYTES: usize = 1 << 20;

/// One loop of durable writes.
#[derive(Clone, Copy, Debug)]
pub struct WriteLoop {
    /// Bytes of each write.
    pub bytes: usize,
    /// Writes in flight.
    pub depth: usize,
    /// How each becomes durable.
    pub method: Method,
    /// Time before the window.
    pub warm_up: Duration,
    /// The timed window.
    pub window: Duration,
}

/// Opens `path` for reading and writing past the page cache.
///
/// # Errors
/// When the file system refuses `O_DIRECT`, among others.
pub fn open_direct(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .with_context(|| format!("open {} with O_DIRECT (the floor needs it)", path.display()))
}

/// Makes `path` a file of `bytes` that were all written and synced, so that later writes change
/// no metadata. A file of that size already there is taken as it is.
///
/// # Errors
/// Those of the file system.
pub fn prewrite(path: &Path, bytes: u64) -> Result<File> {
    ensure!(bytes.is_multiple_of(BLOCK_BYTES as u64), "prewritten files are whole blocks");
    let file = open_direct(path)?;
    if file.metadata()?.len() == bytes {
        return Ok(file);
    }
    // One extent where possible; unsupported on some file systems, where writing is enough.
    let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
    let mut ring = Ring::new(file.try_clone()?, 2, BLOCK_BYTES)?;
    stream(bytes, 2, BLOCK_BYTES, &mut ring, |ring, slot, at, len| {
        ring.write(slot, at, len, Method::Unsynced)
    })?;
    file.sync_all()?;
    Ok(file)
}

/// Moves `total` bytes in order, `depth` blocks in flight.
fn stream(
    total: u64,
    depth: usize,
    block: usize,
    ring: &mut Ring,
    mut queue: impl FnMut(&mut Ring, usize, u64, usize) -> std::io::Result<()>,
) -> Result<()> {
    let mut idle: Vec<usize> = (0..depth).collect();
    let mut next = 0;
    while next < total || ring.in_flight() > 0 {
        while next < total
            && let Some(slot) = idle.pop()
        {
            let bytes = usize::try_from(total - next)?.min(block);
            queue(ring, slot, next, bytes)?;
            next += bytes as u64;
        }
        ring.reap(1, &mut idle)?;
    }
    Ok(())
}

/// Writes in sequence over the prewritten `file`, from its start again at its end.
///
/// # Errors
/// Those of the file system; a short write is one.
pub fn write_loop(file: File, plan: &WriteLoop, meter: &Meter) -> Result<Sample> {
    let span = file.metadata()?.len() / plan.bytes as u64;
    ensure!(span > plan.depth as u64, "the file is too small for the loop");
    let mut ring = Ring::new(file, plan.depth, plan.bytes)?;
    let mut latency = histogram();
    let mut started = vec![Instant::now(); plan.depth];
    let mut idle: Vec<usize> = (0..plan.depth).collect();
    let (mut next, mut operations, mut begin) = (0_u64, 0_u64, None);
    let warm = Instant::now() + plan.warm_up;
    loop {
        let now = Instant::now();
        match begin {
            None if now >= warm => begin = Some((now, meter.read()?)),
            Some((since, before)) if now - since >= plan.window => {
                let cost = meter.read()?.since(&before);
                let bytes = operations * plan.bytes as u64;
                return Ok(Sample::new(operations, bytes, cost, latency));
            }
            _ => {}
        }
        for slot in idle.drain(..) {
            if let Some(bytes) = ring.slot_mut(slot) {
                bytes[..8].copy_from_slice(&next.to_le_bytes());
            }
            started[slot] = Instant::now();
            ring.write(slot, next % span * plan.bytes as u64, plan.bytes, plan.method)?;
            next += 1;
        }
        // A linked pair completes in two parts: wait until a whole slot is back.
        while idle.is_empty() {
            ring.reap(1, &mut idle)?;
        }
        if begin.is_some() {
            let now = Instant::now();
            for slot in &idle {
                latency.saturating_record((now - started[*slot]).as_nanos() as u64);
                operations += 1;
            }
        }
    }
}

/// Reads the first `total` bytes of `file` in order.
///
/// # Errors
/// Those of the file system; a file shorter than `total` is one.
pub fn read_all(
    file: File,
    total: u64,
    block: usize,
    depth: usize,
    meter: &Meter,
) -> Result<Sample> {
    let mut ring = Ring::new(file, depth, block)?;
    let before = meter.read()?;
    stream(total, depth, block, &mut ring, Ring::read)?;
    let operations = total.div_ceil(block as u64);
    Ok(Sample::new(operations, total, meter.read()?.since(&before), histogram()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Metric;

    #[test]
    fn the_floor_counts_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        let file = prewrite(&path, 2 * BLOCK_BYTES as u64).unwrap();
        let meter = Meter::new(dir.path());
        for method in [Method::Dsync, Method::Fdatasync] {
            for depth in [1, 3] {
                let plan = WriteLoop {
                    bytes: 4096,
                    depth,
                    method,
                    warm_up: Duration::from_millis(5),
                    window: Duration::from_millis(30),
                };
                let sample = write_loop(file.try_clone().unwrap(), &plan, &meter).unwrap();
                assert!(sample.operations > 0);
                assert_eq!(sample.latency.len(), sample.operations);
                assert!(sample.get(Metric::P50).unwrap() > 0.0);
            }
        }
        let read = read_all(file, 2 * BLOCK_BYTES as u64, BLOCK_BYTES, 2, &meter).unwrap();
        assert_eq!(read.operations, 2);
    }

    #[test]
    fn a_prewritten_file_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        drop(prewrite(&path, BLOCK_BYTES as u64).unwrap());
        let inode = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            (path.metadata().unwrap().ino(), path.metadata().unwrap().mtime_nsec())
        };
        let before = inode(&path);
        drop(prewrite(&path, BLOCK_BYTES as u64).unwrap());
        assert_eq!(inode(&path), before);
        assert!(prewrite(&path, 17).is_err());
    }
}
