//! The bare ring under the raw floor: fixed slots of registered memory, one registered file.
//!
//! Invariants: a slot is either idle (its bytes belong to the caller) or in flight (they belong
//! to the kernel), never both; the ring is drained before any slot's memory is freed. This is
//! the only file of the crate with `unsafe` in it.
//!
//! Not here: offsets, pacing and timing (`device`). Nothing of the engine is used, on purpose:
//! the floor has to be independent of what it judges.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use memmap2::MmapMut;

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// One write with `RWF_DSYNC`.
    Dsync,
    /// A write linked to an fdatasync.
    Fdatasync,
    /// A write alone: not durable, the bandwidth of the medium.
    Unsynced,
}

/// Marks the completion of a linked sync; the low bits are the slot.
const SYNC_BIT: u64 = 1 << 32;

struct Slot {
    memory: MmapMut,
    /// Completions still to come; zero when idle.
    pending: u8,
    expected: usize,
    failure: Option<io::Error>,
}

/// One file, some registered slots, one io_uring. Used by the thread that made it.
pub struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    // Kept open for as long as operations may name it.
    _file: File,
}

impl Ring {
    /// A ring over `file` with `slots` buffers of `slot_bytes` each.
    ///
    /// # Errors
    /// When the kernel refuses the ring or the registrations.
    pub fn new(file: File, slots: usize, slot_bytes: usize) -> io::Result<Ring> {
        let entries = u32::try_from((slots * 2).next_power_of_two().max(8))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .or_else(|_| IoUring::new(entries))?;
        let slots = (0..slots)
            .map(|_| {
                let memory = MmapMut::map_anon(slot_bytes)?;
                Ok(Slot { memory, pending: 0, expected: 0, failure: None })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let ring = Ring { uring, slots, _file: file };
        ring.register()?;
        Ok(ring)
    }

    fn register(&self) -> io::Result<()> {
        let vectors: Vec<libc::iovec> = self
            .slots
            .iter()
            .map(|slot| libc::iovec {
                iov_base: slot.memory.as_ptr().cast_mut().cast(),
                iov_len: slot.memory.len(),
            })
            .collect();
        // SAFETY: every vector points to a private mapping owned by `self.slots`, which lives
        // (and does not move) until after the ring is drained and closed in `drop`.
        unsafe { self.uring.submitter().register_buffers(&vectors)? };
        self.uring.submitter().register_files(&[self._file.as_raw_fd()])
    }

    /// The bytes of an idle slot; `None` while the kernel has them.
    pub fn slot_mut(&mut self, slot: usize) -> Option<&mut [u8]> {
        let slot = self.slots.get_mut(slot)?;
        (slot.pending == 0).then_some(&mut slot.memory[..])
    }

    /// Slots whose operation has not come back.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.iter().filter(|slot| slot.pending > 0).count()
    }

    /// Queues a write of the slot's first `bytes`; nothing is submitted before [`Ring::reap`].
    ///
    /// # Errors
    /// When the slot is not idle, too small, or the queue is full.
    pub fn write(&mut self, slot: usize, at: u64, bytes: usize, method: Method) -> io::Result<()> {
        let index = self.claim(slot, bytes)?;
        let flags = if method == Method::Dsync { libc::RWF_DSYNC } else { 0 };
        let pointer = self.slots[slot].memory.as_ptr();
        let write = opcode::WriteFixed::new(types::Fixed(0), pointer, bytes as u32, index)
            .offset(at)
            .rw_flags(flags)
            .build()
            .user_data(slot as u64);
        if method != Method::Fdatasync {
            return self.push(slot, &[write]);
        }
        let sync = opcode::Fsync::new(types::Fixed(0))
            .flags(types::FsyncFlags::DATASYNC)
            .build()
            .user_data(slot as u64 | SYNC_BIT);
        self.push(slot, &[write.flags(squeue::Flags::IO_LINK), sync])
    }

    /// Queues a read into the slot's first `bytes`.
    ///
    /// # Errors
    /// As [`Ring::write`].
    pub fn read(&mut self, slot: usize, at: u64, bytes: usize) -> io::Result<()> {
        let index = self.claim(slot, bytes)?;
        let pointer = self.slots[slot].memory.as_mut_ptr();
        let read = opcode::ReadFixed::new(types::Fixed(0), pointer, bytes as u32, index)
            .offset(at)
            .build()
            .user_data(slot as u64);
        self.push(slot, &[read])
    }

    fn claim(&mut self, slot: usize, bytes: usize) -> io::Result<u16> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let entry = self.slots.get_mut(slot).ok_or_else(invalid)?;
        if entry.pending > 0 || bytes > entry.memory.len() {
            return Err(invalid());
        }
        entry.expected = bytes;
        entry.failure = None;
        u16::try_from(slot).map_err(|_| invalid())
    }

    fn push(&mut self, slot: usize, entries: &[squeue::Entry]) -> io::Result<()> {
        // SAFETY: the entries name the registered file and, by pointer and index, the memory of
        // `slot` within its length (checked by `claim`). `pending` keeps that memory from the
        // caller until every completion is reaped; `drop` waits for them before it frees it.
        unsafe { self.uring.submission().push_multiple(entries) }
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        self.slots[slot].pending = entries.len() as u8;
        Ok(())
    }

    /// Submits what is queued, waits for `want` completions at least, and adds the slots that
    /// are done to `done`. A short transfer is an error.
    ///
    /// # Errors
    /// The first failure of an operation, or of the ring.
    pub fn reap(&mut self, want: usize, done: &mut Vec<usize>) -> io::Result<()> {
        loop {
            match self.uring.submit_and_wait(want) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut failure = None;
        for completion in self.uring.completion() {
            let token = completion.user_data();
            let slot = &mut self.slots[(token & !SYNC_BIT) as usize];
            let result = completion.result();
            let problem = if result < 0 {
                Some(io::Error::from_raw_os_error(-result))
            } else if token & SYNC_BIT == 0 && result as usize != slot.expected {
                Some(io::Error::new(io::ErrorKind::UnexpectedEof, "short transfer"))
            } else {
                None
            };
            slot.failure = slot.failure.take().or(problem);
            slot.pending = slot.pending.saturating_sub(1);
            if slot.pending == 0 {
                failure = failure.or(slot.failure.take());
                done.push((token & !SYNC_BIT) as usize);
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.in_flight() > 0 {
            let before = self.in_flight();
            if self.reap(1, &mut done).is_err() && self.in_flight() == before {
                // The kernel may still own the memory: leaking it is the only safe way out.
                self.slots.drain(..).for_each(|slot| std::mem::forget(slot.memory));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![0; bytes as usize]).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        (dir, file)
    }

    #[test]
    fn what_each_method_writes_reads_back() {
        for method in [Method::Dsync, Method::Fdatasync, Method::Unsynced] {
            let (_dir, file) = file(8192);
            let mut ring = Ring::new(file, 2, 4096).unwrap();
            ring.slot_mut(0).unwrap().fill(7);
            ring.write(0, 4096, 4096, method).unwrap();
            assert!(ring.slot_mut(0).is_none(), "the kernel has it");
            let mut done = Vec::new();
            while done.is_empty() {
                ring.reap(1, &mut done).unwrap();
            }
            ring.read(1, 4096, 4096).unwrap();
            done.clear();
            ring.reap(1, &mut done).unwrap();
            assert_eq!(done, [1]);
            assert!(ring.slot_mut(1).unwrap().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_short_read_is_an_error() {
        let (_dir, file) = file(1024);
        let mut ring = Ring::new(file, 1, 4096).unwrap();
        ring.read(0, 0, 4096).unwrap();
        let error = ring.reap(1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_busy_slot_is_refused() {
        let (_dir, file) = file(4096);
        let mut ring = Ring::new(file, 1, 4096).unwrap();
        ring.write(0, 0, 4096, Method::Dsync).unwrap();
        assert!(ring.write(0, 0, 4096, Method::Dsync).is_err());
    }
}
