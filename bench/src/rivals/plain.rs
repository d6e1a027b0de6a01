//! What everyone writes first: a lock, a write at the end of a file, fdatasync.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Result, anyhow};

use super::{Caller, Rival};
use crate::baseline::{self, HEADER_BYTES};

/// The file; records are framed like the baseline's.
pub(super) struct Plain(Mutex<(File, u64)>);

impl Rival for Plain {
    const NAME: &'static str = "append+fdatasync";
    const DURABLE_BY: &'static str = "an fdatasync of its own for every append, under the lock";

    fn open(dir: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
        File::open(dir)?.sync_all()?;
        Ok(Plain(Mutex::new((file, 0))))
    }

    fn append(&self, _: &Caller, payload: &[u8]) -> Result<()> {
        let mut record = Vec::with_capacity(HEADER_BYTES + payload.len());
        let mut inner = self.0.lock().map_err(|_| anyhow!("an append panicked"))?;
        let (file, sequence) = &mut *inner;
        *sequence += 1;
        record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        record.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        record.extend_from_slice(&sequence.to_le_bytes());
        record.extend_from_slice(payload);
        file.write_all(&record)?;
        Ok(file.sync_data()?)
    }

    fn records(dir: &Path) -> Result<Vec<Vec<u8>>> {
        baseline::read_back(&fs::read(dir.join("log"))?, baseline::Way::Buffered)
    }
}
