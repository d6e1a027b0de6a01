//! What was promised so far, written down where a crash cannot reach it.
//!
//! A mark is one 4 KiB block: `MARK`, u32 n, n × u64 sent, n × u64 acked, little-endian, a pair for
//! each log. On a block device it goes around the page cache, without a flush, into the same order
//! of writes as the data (tests/lab/cutlab.py); in a file it outlives the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::plan::LOGS;

const BLOCK: usize = 4096;
/// O_DIRECT of Linux on x86-64 and on aarch64.
const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 };

/// What may be there of each log, and what must.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    /// Below this LSN records were submitted.
    pub(crate) sent: u64,
    /// Below this one they were acked.
    pub(crate) acked: u64,
}

/// All of them, and the block they are written to.
#[derive(Debug)]
pub(crate) struct Marks {
    /// One for each of [`LOGS`].
    pub(crate) logs: [Promise; LOGS.len()],
    file: Option<File>,
    /// Twice a block, so that one of them is aligned.
    buf: Vec<u8>,
}

impl Marks {
    /// Marks in a file or on a device; what stands there already is taken up.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let device = path.metadata().is_ok_and(|m| m.file_type().is_block_device());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(!device)
            .truncate(false)
            .custom_flags(if device { O_DIRECT } else { 0 })
            .open(path)?;
        let mut marks =
            Self { logs: Default::default(), file: Some(file), buf: vec![0; 2 * BLOCK] };
        marks.take_up()?;
        Ok(marks)
    }

    /// Marks as `cutlab.py` hands them over: two lists of numbers with commas between.
    pub(crate) fn parse(sent: &str, acked: &str) -> Option<Self> {
        let numbers = |list: &str| -> Option<Vec<u64>> {
            list.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
        };
        let mut logs = [Promise::default(); LOGS.len()];
        fill(&mut logs, &numbers(sent)?, &numbers(acked)?);
        Some(Self { logs, file: None, buf: vec![0; 2 * BLOCK] })
    }

    /// Writes them down: before what was `sent` is submitted, after what was `acked` was acked.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let at = self.buf.as_ptr().align_offset(BLOCK);
        let block = &mut self.buf[at..at + BLOCK];
        let sent = self.logs.iter().map(|p| p.sent);
        let numbers = sent.chain(self.logs.iter().map(|p| p.acked));
        block[..4].copy_from_slice(b"MARK");
        block[4..8].copy_from_slice(&(LOGS.len() as u32).to_le_bytes());
        for (number, place) in numbers.zip(block[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        file.write_all_at(block, 0)
    }

    fn take_up(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let at = self.buf.as_ptr().align_offset(BLOCK);
        let block = &mut self.buf[at..at + BLOCK];
        let read = file.read_at(block, 0)?;
        if read == BLOCK && block.starts_with(b"MARK") {
            let numbers: Vec<u64> = block[8..]
                .as_chunks()
                .0
                .iter()
                .take(2 * LOGS.len())
                .map(|n| u64::from_le_bytes(*n))
                .collect();
            let (sent, acked) = numbers.split_at(LOGS.len());
            fill(&mut self.logs, sent, acked);
        }
        Ok(())
    }
}

/// Lays the two lists of a mark into promises; what a list lacks stays 0.
fn fill(logs: &mut [Promise], sent: &[u64], acked: &[u64]) {
    let at = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
    for (i, promise) in logs.iter_mut().enumerate() {
        *promise = Promise { sent: at(sent, i), acked: at(acked, i) };
    }
}
