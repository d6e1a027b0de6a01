//! Rows of the rivals: a rival as a subject, and any subject held to the rules of the scenario.
//!
//! Invariants: each has a folder of its own; a rival begins every run with an empty one; a number
//! is given only when the device flushed enough for it.

use std::fs;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::{Caller, Rival, proof};
use crate::hgrm;
use crate::load::{self, Handle, Load};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::subject::{Cell, Subject};

/// A rival as a row.
pub(super) struct Hosted<R>(PhantomData<R>);

impl<R> Default for Hosted<R> {
    fn default() -> Self {
        Hosted(PhantomData)
    }
}

impl<R: Rival> Subject for Hosted<R> {
    fn name(&self) -> &str {
        R::NAME
    }

    fn prepare(&mut self, _: &Cell) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let dir = cell.dir.join("data");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir(&dir)?;
        let rival = Arc::new(R::open(&dir).context("open it")?);
        let handle =
            |index| Calling { rival: Arc::clone(&rival), caller: Caller { index, count: 0 } };
        let handles = (0..cell.load.threads as u32).map(handle).collect();
        let sample = load::drive(handles, &cell.load, &Meter::new(&cell.dir));
        drop(rival);
        fs::remove_dir_all(&dir)?;
        sample
    }
}

/// A thread that blocks on each append.
struct Calling<R> {
    rival: Arc<R>,
    caller: Caller,
}

impl<R: Rival> Handle for Calling<R> {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.rival.append(&self.caller, payload)?;
        self.caller.count += 1;
        Ok(())
    }

    fn wait((): ()) -> Result<()> {
        Ok(())
    }
}

/// A subject under a name and in a folder of its own, in another shape if that is said.
pub(super) struct Guest {
    name: String,
    inner: Box<dyn Subject>,
    /// Threads, and what each has outstanding.
    shape: Option<(usize, usize)>,
}

impl Guest {
    pub(super) fn boxed(name: &str, inner: Box<dyn Subject>) -> Box<dyn Subject> {
        Box::new(Guest { name: name.to_owned(), inner, shape: None })
    }

    pub(super) fn shaped(
        name: &str,
        inner: Box<dyn Subject>,
        shape: (usize, usize),
    ) -> Box<dyn Subject> {
        Box::new(Guest { name: name.to_owned(), inner, shape: Some(shape) })
    }

    fn at_home(&self, cell: &Cell) -> Result<Cell> {
        let dir: PathBuf = cell.dir.join(hgrm::file_name(&self.name));
        fs::create_dir_all(&dir)?;
        let load = match self.shape {
            Some((threads, outstanding)) => Load { threads, outstanding, ..cell.load },
            None => cell.load,
        };
        Ok(Cell { dir, load, ..cell.clone() })
    }
}

impl Subject for Guest {
    fn name(&self) -> &str {
        &self.name
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        self.inner.prepare(&self.at_home(cell)?)
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let home = self.at_home(cell)?;
        let sample = self.inner.run(&home)?;
        proof::flushed(&sample, &home)?;
        Ok(sample)
    }
}
