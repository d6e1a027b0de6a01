//! The row of recovery: opening a directory whose one big segment nobody sealed.
//!
//! The crash: a shard on the caller's thread is dropped with its engine, without a close; what a
//! killed process leaves is the same, and costs no second process.
//!
//! Invariants: every record is there afterwards; the file is read past the page cache, as the
//! raw reads beside it are; memory counts from just before the opening.
//!
//! Not here: whether recovery is right (tests).

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sapwood::{Batch, Engine};

use crate::bed;
use crate::cells::RECOVERY_BYTES;
use crate::meter::{self, Meter};
use crate::sample::{Sample, histogram};
use crate::subject::{Cell, Subject};

/// Its name, and that of its directory.
const NAME: &str = "sapwood-recovery";
/// Room beyond the data, for batches that do not end where it does.
const SLACK_BYTES: u64 = 64 << 20;
/// Batches in flight while it is filled.
const FILL_DEPTH: usize = 4;

/// Opening with [`RECOVERY_BYTES`] unsealed.
pub struct Recovery;

/// The segment that the last opening recovered: what the raw reads read.
pub(crate) fn recovered_file(dir: &Path) -> Result<PathBuf> {
    let files = bed::segment_files(&dir.join(NAME), RECOVERY_BYTES)?;
    files.into_iter().next().context("nothing was recovered yet")
}

impl Subject for Recovery {
    fn name(&self) -> &str {
        NAME
    }

    fn prepare(&mut self, _: &Cell) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let dir = cell.dir.join(NAME);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let (records, bytes) = fill_and_crash(cell, &dir)?;
        let config = bed::config(&dir, cell.method, Some(RECOVERY_BYTES + SLACK_BYTES))?;
        let meter = Meter::new(&cell.dir);
        let fresh_peak = meter::reset_peak_rss();
        let rss = meter::rss().unwrap_or(0);
        let before = meter.read()?;
        let engine = Engine::open(config)?;
        let cost = meter.read()?.since(&before);
        let peak = meter::peak_rss().filter(|_| fresh_peak);
        let found = engine.log("bench")?.durable()?.0;
        ensure!(found == records, "{found} of {records} records were recovered");
        let scanned: u64 = engine.recovery().iter().map(|shard| shard.scanned_bytes).sum();
        ensure!(scanned >= bytes, "only {scanned} of {bytes} bytes were scanned");
        engine.close()?;
        let peak_rss = peak.map(|peak| peak.saturating_sub(rss));
        Ok(Sample { peak_rss, ..Sample::new(records, bytes, cost, histogram()) })
    }
}

/// Appends until the segment holds the bytes, and is gone without a close; its spare is not ready
/// yet. Gives the records and the bytes of their batches.
fn fill_and_crash(cell: &Cell, dir: &Path) -> Result<(u64, u64)> {
    let segment_bytes = RECOVERY_BYTES + SLACK_BYTES;
    let config = bed::config(dir, cell.method, Some(segment_bytes))?;
    let (engine, mut drivers) = Engine::open_driven(config)?;
    let _driving = drivers.pop().context("an engine has a shard")?.bind()?;
    let writer = engine.log("bench")?.writer()?;
    let payload: Vec<u8> = (0..cell.load.operation_bytes()).map(|at| (at * 31) as u8).collect();
    let mut batch = Batch::new();
    for record in payload.chunks(cell.load.record_bytes) {
        batch.push(record);
    }
    let mut outstanding = VecDeque::new();
    let mut records = 0;
    while engine.batch_bytes() < RECOVERY_BYTES {
        outstanding.push_back(writer.submit(&batch).map_err(|rejected| rejected.error)?);
        records += batch.len() as u64;
        if outstanding.len() == FILL_DEPTH
            && let Some(oldest) = outstanding.pop_front()
        {
            oldest.wait()?;
        }
    }
    for ticket in outstanding {
        ticket.wait()?;
    }
    Ok((records, engine.batch_bytes()))
}
