//! Every way to make a block durable, one row each: what `pg_test_fsync` does, by the same loop as
//! everything else.
//!
//! Invariants: all write 4 KiB blocks (or as many as the payload needs) over one prewritten file,
//! one at a time; a row returns from its append only when the block is durable.
//!
//! Not here: the floor itself, which is one of the two by io_uring (`subject`).

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use anyhow::{Result, ensure};
use memmap2::MmapMut;
use rustix::io::ReadWriteFlags;

use crate::device;
use crate::load::{self, Handle, Load};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::subject::{Cell, Subject};

/// Blocks are multiples of so much.
const BLOCK: usize = 4096;
/// Windows of these rows: they are there for comparison, and there are many.
const WINDOW_MAX: Duration = Duration::from_millis(300);

/// A way by system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `pwrite` into the page cache, `fdatasync`.
    Fdatasync,
    /// `pwrite` into the page cache, `fsync`.
    Fsync,
    /// `pwrite` through a descriptor with `O_DSYNC`.
    Dsync,
    /// `pwrite` past the page cache, `fdatasync`.
    DirectFdatasync,
    /// `pwrite` through a descriptor with `O_DIRECT | O_DSYNC`.
    DirectDsync,
    /// `pwritev2` past the page cache with `RWF_DSYNC`.
    DirectRwfDsync,
}

impl Way {
    /// All, the plainest first.
    pub const ALL: [Way; 6] = [
        Way::Fdatasync,
        Way::Fsync,
        Way::Dsync,
        Way::DirectFdatasync,
        Way::DirectDsync,
        Way::DirectRwfDsync,
    ];

    fn flags(self) -> i32 {
        match self {
            Way::Fdatasync | Way::Fsync => 0,
            Way::Dsync => libc::O_DSYNC,
            Way::DirectFdatasync | Way::DirectRwfDsync => libc::O_DIRECT,
            Way::DirectDsync => libc::O_DIRECT | libc::O_DSYNC,
        }
    }
}

/// The row of a way.
pub struct MethodRow(pub Way);

impl Subject for MethodRow {
    fn name(&self) -> &str {
        match self.0 {
            Way::Fdatasync => "write, fdatasync",
            Way::Fsync => "write, fsync",
            Way::Dsync => "O_DSYNC write",
            Way::DirectFdatasync => "O_DIRECT write, fdatasync",
            Way::DirectDsync => "O_DIRECT|O_DSYNC write",
            Way::DirectRwfDsync => "O_DIRECT write, RWF_DSYNC",
        }
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        device::prewrite(&cell.dir.join("methods"), cell.file_bytes).map(drop)
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(self.0.flags());
        let file = options.open(cell.dir.join("methods"))?;
        let bytes = cell.load.operation_bytes().next_multiple_of(BLOCK);
        let end = file.metadata()?.len() / bytes as u64 * bytes as u64;
        ensure!(end > 0, "the file is too small for one write");
        let block = MmapMut::map_anon(bytes)?;
        let handle = Blocks { way: self.0, file, block, end, at: 0 };
        // Whole blocks are counted, as the floor does.
        let load =
            Load { record_bytes: bytes, least_bytes: bytes, records: 1, ..short(&cell.load) };
        load::drive_here(handle, &load, &Meter::new(&cell.dir)).map(|(sample, _)| sample)
    }
}

/// The load of these rows, and of a floor beside them.
#[must_use]
pub fn short(load: &Load) -> Load {
    let window = load.window.min(WINDOW_MAX);
    Load { window, warm_up: window / 5, threads: 1, outstanding: 1, ..*load }
}

struct Blocks {
    way: Way,
    file: File,
    block: MmapMut,
    end: u64,
    at: u64,
}

impl Handle for Blocks {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.block[..payload.len()].copy_from_slice(payload);
        let at = self.at;
        self.at = (at + self.block.len() as u64) % self.end;
        if self.way == Way::DirectRwfDsync {
            let slices = [IoSlice::new(&self.block)];
            let wrote = rustix::io::pwritev2(&self.file, &slices, at, ReadWriteFlags::DSYNC)?;
            ensure!(wrote == self.block.len(), "a short write of {wrote} bytes");
            return Ok(());
        }
        self.file.write_all_at(&self.block, at)?;
        match self.way {
            Way::Fdatasync | Way::DirectFdatasync => self.file.sync_data()?,
            Way::Fsync => self.file.sync_all()?,
            Way::Dsync | Way::DirectDsync | Way::DirectRwfDsync => {}
        }
        Ok(())
    }

    fn wait((): ()) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Method;
    use crate::traffic;

    #[test]
    fn each_way_writes_what_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load {
            warm_up: Duration::from_millis(2),
            window: Duration::from_millis(15),
            ..Load::default()
        };
        let cell = Cell {
            name: "test",
            load,
            dir: dir.path().to_owned(),
            method: Method::Dsync,
            file_bytes: 1 << 20,
            segment_bytes: 16 << 20,
        };
        for way in Way::ALL {
            let mut row = MethodRow(way);
            row.prepare(&cell).unwrap();
            let sample = row.run(&cell).unwrap();
            assert!(sample.operations > 0, "{}", row.name());
            let bytes = std::fs::read(dir.path().join("methods")).unwrap();
            assert!(traffic::check(&bytes[..BLOCK]).is_some(), "{}", row.name());
            std::fs::remove_file(dir.path().join("methods")).unwrap();
        }
    }
}
