//! The row to beat: the group commit that a competent engineer writes in an afternoon.
//!
//! One thread drains a channel, writes what it found with one call into a prewritten file that
//! wraps, syncs once, and wakes each caller. A record is a 16-byte header (length, CRC32C of the
//! payload, sequence) and its payload, summed and copied on the calling thread.
//!
//! Invariants: nobody is woken before the sync that covers his record returned; after a failed
//! write or sync nobody is acked again.
//!
//! Not here: recovery. It reads back what it wrote for the tests; it is no log.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle, Thread};

use anyhow::{Result, anyhow, bail, ensure};
use crossbeam_channel::{Receiver, Sender, bounded};
use memmap2::MmapMut;
use rustix::io::ReadWriteFlags;

use crate::load::Handle;

/// Length, CRC, sequence.
pub const HEADER_BYTES: usize = 16;
/// Records of one group: what one `pwritev` takes.
const GROUP_RECORDS_MAX: usize = 1024;
/// Bytes after which a group takes no further record.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Records that may wait in the channel.
const INTAKE_MAX: usize = 4096;
/// Alignment of direct writes.
const ALIGN: usize = 4096;

const PENDING: u32 = 0;
const DURABLE: u32 = 1;
const FAILED: u32 = 2;

/// Which way to the disk. Both are prewritten and wrap; which is faster depends on the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// `pwritev` of the callers' buffers into the page cache, then fdatasync.
    Buffered,
    /// Copied into one aligned buffer, then one `O_DIRECT` write with `RWF_DSYNC`.
    Direct,
}

/// Where one caller waits for one record at a time.
pub struct Waiter {
    state: AtomicU32,
    thread: Thread,
}

struct Entry {
    record: Vec<u8>,
    waiter: Arc<Waiter>,
}

/// The committer and its channel.
pub struct Baseline {
    intake: Option<Sender<Entry>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Baseline {
    /// Starts the committer over a prewritten `file` (opened with `O_DIRECT` when `way` says so).
    ///
    /// # Errors
    /// When no thread or buffer is to be had.
    pub fn start(file: File, way: Way) -> Result<Baseline> {
        let end = file.metadata()?.len();
        ensure!(end > 2 * GROUP_BYTES_MAX as u64, "the file holds too few groups to wrap");
        let (intake, entries) = bounded(INTAKE_MAX);
        let staging = MmapMut::map_anon(4 * GROUP_BYTES_MAX)?;
        let mut committer = Committer { file, way, end, at: 0, sequence: 0, staging };
        let thread = thread::Builder::new()
            .name("baseline".to_owned())
            .spawn(move || committer.run(&entries))?;
        Ok(Baseline { intake: Some(intake), thread: Some(thread) })
    }

    /// A handle for one thread.
    ///
    /// # Errors
    /// After [`Baseline::stop`].
    pub fn appender(&self) -> Result<Appender> {
        let intake = self.intake.clone().ok_or_else(|| anyhow!("the baseline was stopped"))?;
        Ok(Appender { intake, waiter: None })
    }

    /// Waits for the committer to end; all appenders must be gone.
    ///
    /// # Errors
    /// What made it fail, if it did.
    pub fn stop(&mut self) -> Result<()> {
        self.intake = None;
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        Ok(thread.join().map_err(|_| anyhow!("the baseline panicked"))??)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// One thread's end of the channel.
pub struct Appender {
    intake: Sender<Entry>,
    // Made at the first append: it names the thread that waits.
    waiter: Option<Arc<Waiter>>,
}

impl Handle for Appender {
    type Ticket = Arc<Waiter>;

    fn submit(&mut self, payload: &[u8]) -> Result<Self::Ticket> {
        let waiter = self.waiter.get_or_insert_with(|| {
            Arc::new(Waiter { state: AtomicU32::new(PENDING), thread: thread::current() })
        });
        waiter.state.store(PENDING, Ordering::Relaxed);
        let entry = Entry { record: frame(payload), waiter: Arc::clone(waiter) };
        self.intake.send(entry).map_err(|_| anyhow!("the baseline has stopped"))?;
        Ok(Arc::clone(waiter))
    }

    fn wait(waiter: Self::Ticket) -> Result<()> {
        loop {
            match waiter.state.load(Ordering::Acquire) {
                DURABLE => return Ok(()),
                FAILED => bail!("the baseline failed to write"),
                _ => thread::park(),
            }
        }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len());
    record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    record.extend_from_slice(&[0; 8]);
    record.extend_from_slice(payload);
    record
}

struct Committer {
    file: File,
    way: Way,
    end: u64,
    at: u64,
    sequence: u64,
    staging: MmapMut,
}

impl Committer {
    fn run(&mut self, entries: &Receiver<Entry>) -> io::Result<()> {
        let mut group: Vec<Entry> = Vec::with_capacity(GROUP_RECORDS_MAX);
        while let Ok(first) = entries.recv() {
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(mut entry) = next.take() {
                self.sequence += 1;
                entry.record[8..16].copy_from_slice(&self.sequence.to_le_bytes());
                bytes += entry.record.len();
                group.push(entry);
                if bytes < GROUP_BYTES_MAX && group.len() < GROUP_RECORDS_MAX {
                    next = entries.try_recv().ok();
                }
            }
            let result = self.commit(&group, bytes);
            let state = if result.is_ok() { DURABLE } else { FAILED };
            for entry in group.drain(..) {
                entry.waiter.state.store(state, Ordering::Release);
                entry.waiter.thread.unpark();
            }
            if result.is_err() {
                // Whoever is still in the channel must not wait for ever.
                for entry in entries {
                    entry.waiter.state.store(FAILED, Ordering::Release);
                    entry.waiter.thread.unpark();
                }
                return result;
            }
        }
        Ok(())
    }

    fn commit(&mut self, group: &[Entry], bytes: usize) -> io::Result<()> {
        let padded = match self.way {
            Way::Buffered => bytes,
            Way::Direct => bytes.next_multiple_of(ALIGN),
        };
        if self.at + padded as u64 > self.end {
            self.at = 0;
        }
        match self.way {
            Way::Buffered => self.commit_buffered(group, bytes)?,
            Way::Direct => self.commit_direct(group, padded)?,
        }
        self.at += padded as u64;
        Ok(())
    }

    fn commit_buffered(&self, group: &[Entry], bytes: usize) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> =
            group.iter().map(|entry| IoSlice::new(&entry.record)).collect();
        let (mut rest, mut at, mut left) = (&mut slices[..], self.at, bytes);
        while left > 0 {
            let wrote = rustix::io::pwritev(&self.file, rest, at)?;
            if wrote == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero));
            }
            IoSlice::advance_slices(&mut rest, wrote);
            at += wrote as u64;
            left -= wrote;
        }
        self.file.sync_data()
    }

    fn commit_direct(&mut self, group: &[Entry], padded: usize) -> io::Result<()> {
        let mut at = 0;
        for entry in group {
            self.staging[at..at + entry.record.len()].copy_from_slice(&entry.record);
            at += entry.record.len();
        }
        self.staging[at..padded].fill(0);
        let slices = [IoSlice::new(&self.staging[..padded])];
        let wrote = rustix::io::pwritev2(&self.file, &slices, self.at, ReadWriteFlags::DSYNC)?;
        // A short direct write is a failure here: retrying it is the engine's art.
        if wrote == padded { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }
}

/// The payloads in `bytes` from the start on, in order of their sequence; ends at the first gap.
///
/// # Errors
/// When a payload does not match its CRC.
pub fn read_back(bytes: &[u8], way: Way) -> Result<Vec<Vec<u8>>> {
    let mut payloads = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let number = |from: usize| header[from..from + 4].try_into().map(u32::from_le_bytes);
        let (length, crc) = (number(0)? as usize, number(4)?);
        let sequence = u64::from_le_bytes(header[8..16].try_into()?);
        if sequence != payloads.len() as u64 + 1 {
            let aligned = at.next_multiple_of(ALIGN);
            if way == Way::Buffered || aligned == at {
                break;
            }
            at = aligned;
            continue;
        }
        let from = at + HEADER_BYTES;
        let Some(payload) = bytes.get(from..from + length) else {
            break;
        };
        ensure!(crc32c::crc32c(payload) == crc, "record {sequence} does not match its CRC");
        payloads.push(payload.to_vec());
        at = from + length;
    }
    Ok(payloads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::prewrite;
    use std::collections::HashSet;

    fn acked_is_in_the_file(way: Way) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline");
        let direct = prewrite(&path, 8 << 20).unwrap();
        let file = match way {
            Way::Direct => direct,
            Way::Buffered => File::options().read(true).write(true).open(&path).unwrap(),
        };
        let mut baseline = Baseline::start(file, way).unwrap();
        let acked: HashSet<Vec<u8>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let mut appender = baseline.appender().unwrap();
                    scope.spawn(move || {
                        let mut acked = Vec::new();
                        for count in 0..50 {
                            let payload = format!("{thread}:{count}").repeat(1 + count * 7);
                            let ticket = appender.submit(payload.as_bytes()).unwrap();
                            Appender::wait(ticket).unwrap();
                            acked.push(payload.into_bytes());
                        }
                        acked
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        baseline.stop().unwrap();
        let found = read_back(&std::fs::read(&path).unwrap(), way).unwrap();
        assert_eq!(found.len(), 400);
        assert_eq!(found.into_iter().collect::<HashSet<_>>(), acked);
    }

    #[test]
    fn every_acked_record_is_in_the_file_buffered() {
        acked_is_in_the_file(Way::Buffered);
    }

    #[test]
    fn every_acked_record_is_in_the_file_direct() {
        acked_is_in_the_file(Way::Direct);
    }

    #[test]
    fn damage_is_noticed_by_the_reader() {
        let mut bytes = frame(b"hello");
        bytes[8] = 1;
        bytes[20] ^= 1;
        assert!(read_back(&bytes, Way::Buffered).is_err());
    }

    #[test]
    fn a_failed_write_wakes_everyone_and_acks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline");
        drop(prewrite(&path, 8 << 20).unwrap());
        // Opened for reading only: every write fails.
        let file = File::open(&path).unwrap();
        let mut baseline = Baseline::start(file, Way::Buffered).unwrap();
        let mut appender = baseline.appender().unwrap();
        let ticket = appender.submit(b"never").unwrap();
        assert!(Appender::wait(ticket).is_err());
        drop(appender);
        assert!(baseline.stop().is_err());
    }
}
