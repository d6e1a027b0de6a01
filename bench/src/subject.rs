//! What can be measured: one trait, and its rows that need no engine.
//!
//! Invariants: everything that is not the thing measured (files, prewriting, opening) happens in
//! `prepare`; a subject between two runs does nothing, so that the others can run.
//!
//! Not here: Sapwood's own rows (`sapwood_rows`), which cells there are (`cells`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::baseline::{Baseline, Way};
use crate::device::{self, BLOCK_BYTES, WriteLoop};
use crate::load::{self, Load};
use crate::meter::Meter;
use crate::recovery::recovered_file;
use crate::ring::Method;
use crate::sample::Sample;

/// Whether Sapwood finds its segments written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// Enough for the whole run were written before it: what the steady state will be when files
    /// are recycled.
    Prewritten,
    /// Those of the default size: the run fills new ones beside its commits, rolls and seals.
    Fresh,
}

/// One cell of the figures: the load, and where.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What is asked.
    pub load: Load,
    /// A folder of this cell alone.
    pub dir: PathBuf,
    /// How raw writes become durable.
    pub method: Method,
    /// Size of a file that is prewritten for the floor or a rival, which wrap in it.
    pub file_bytes: u64,
    /// Size of Sapwood's prewritten segments, which do not wrap.
    pub segment_bytes: u64,
}

/// A row of the table.
pub trait Subject {
    /// Its name, unique in its cell.
    fn name(&self) -> &str;
    /// Makes what a run needs; called once, not timed.
    ///
    /// # Errors
    /// When the place will not do.
    fn prepare(&mut self, cell: &Cell) -> Result<()>;
    /// One timed run.
    ///
    /// # Errors
    /// When anything was refused or failed: a number with errors in it is none.
    fn run(&mut self, cell: &Cell) -> Result<Sample>;
}

/// The raw floor for writes: one thread, its own ring.
pub struct RawWrite {
    /// Name of the row.
    pub name: &'static str,
    /// Writes in flight.
    pub depth: usize,
    /// Another method than the cell's.
    pub method: Option<Method>,
}

impl Subject for RawWrite {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        device::prewrite(&floor_file(&cell.dir), cell.file_bytes).map(drop)
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let plan = WriteLoop {
            bytes: cell.load.operation_bytes().next_multiple_of(4096),
            depth: self.depth,
            method: self.method.unwrap_or(cell.method),
            warm_up: cell.load.warm_up,
            window: cell.load.window,
        };
        let file = device::open_direct(&floor_file(&cell.dir))?;
        device::write_loop(file, &plan, &Meter::new(&cell.dir))
    }
}

/// The raw floor for reads: the whole file, past the page cache.
pub struct RawRead {
    /// Name of the row.
    pub name: &'static str,
    /// Reads in flight.
    pub depth: usize,
    /// Bytes to read.
    pub bytes: u64,
    /// Of the file that the recovery row has just opened, instead of a file of its own.
    pub recovered: bool,
}

impl Subject for RawRead {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        if self.recovered {
            return Ok(());
        }
        let bytes = self.bytes.next_multiple_of(BLOCK_BYTES as u64);
        device::prewrite(&floor_file(&cell.dir), bytes).map(drop)
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let path = match self.recovered {
            true => recovered_file(&cell.dir)?,
            false => floor_file(&cell.dir),
        };
        let file = device::open_direct(&path)?;
        let meter = Meter::new(&cell.dir);
        device::read_all(file, self.bytes, BLOCK_BYTES, self.depth, &meter)
    }
}

fn floor_file(dir: &Path) -> PathBuf {
    dir.join("floor")
}

/// The obvious group commit.
pub struct GroupCommit {
    /// Which of its two ways.
    pub way: Way,
    /// Other threads than the cell's: the rival has no tickets, only threads.
    pub threads: Option<usize>,
}

impl GroupCommit {
    fn path(&self, cell: &Cell) -> PathBuf {
        cell.dir.join(self.name())
    }
}

impl Subject for GroupCommit {
    fn name(&self) -> &str {
        match self.way {
            Way::Buffered => "baseline-buffered",
            Way::Direct => "baseline-direct",
        }
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        let path = self.path(cell);
        device::prewrite(&path, cell.file_bytes)?;
        if self.way == Way::Buffered {
            // Into the page cache, so that no first write has to read its page.
            let mut file = File::open(&path)?;
            io::copy(&mut file, &mut io::sink()).context("warm the page cache")?;
        }
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let path = self.path(cell);
        let file = match self.way {
            Way::Direct => device::open_direct(&path)?,
            Way::Buffered => File::options().read(true).write(true).open(&path)?,
        };
        let load = Load {
            threads: self.threads.unwrap_or(cell.load.threads),
            outstanding: 1,
            ..cell.load
        };
        let mut baseline = Baseline::start(file, self.way)?;
        let handles: Result<Vec<_>> = (0..load.threads).map(|_| baseline.appender()).collect();
        let sample = load::drive(handles?, &load, &Meter::new(&cell.dir));
        // A failure of the committer explains one of its callers.
        baseline.stop()?;
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_rows_without_an_engine_run() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load {
            threads: 3,
            record_bytes: 500,
            warm_up: Duration::from_millis(5),
            window: Duration::from_millis(40),
            ..Load::default()
        };
        let cell = Cell {
            name: "test",
            load,
            dir: dir.path().to_owned(),
            method: Method::Dsync,
            file_bytes: 4 << 20,
            segment_bytes: 16 << 20,
        };
        let mut rows: Vec<Box<dyn Subject>> = vec![
            Box::new(RawWrite { name: "floor", depth: 1, method: None }),
            Box::new(RawRead { name: "read", depth: 2, bytes: 4 << 20, recovered: false }),
            Box::new(GroupCommit { way: Way::Buffered, threads: None }),
            Box::new(GroupCommit { way: Way::Direct, threads: Some(5) }),
        ];
        for row in &mut rows {
            row.prepare(&cell).unwrap();
            assert!(row.run(&cell).unwrap().operations > 0, "{}", row.name());
        }
    }
}
