//! Blocking transfers at a position: the one place that says when pread and pwrite are done.
//!
//! Invariants: after EINTR, EAGAIN or a short transfer the whole range is transferred again, at
//! most [`RESUBMITS_MAX`] times: a partial direct write leaves nothing known about what it wrote.
//! Never O_APPEND. An error of a sync is final.
//!
//! Not here: the ring (`uring`), which follows the same rules by `slot`.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::io::{IoSlice, ReadWriteFlags, pwritev2};

use super::buf::BUF_ALIGN;
use super::{Durable, RESUBMITS_MAX};

/// Whether an error only asks to try the same bytes again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// The error of a write that stayed short: what a full file system or quota does to a write that
/// it could take a part of.
pub(super) fn short_write(wrote: usize, len: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        format!("wrote {wrote} of {len} bytes, {RESUBMITS_MAX} times over: no space"),
    )
}

/// The error of a read that stayed short although the file goes on.
pub(super) fn short_read(read: usize, len: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("read {read} of {len} bytes, {RESUBMITS_MAX} times over"),
    )
}

/// Whether a read of `read` bytes at `offset` reached the end of the file.
pub(super) fn is_at_end(file: &fs::File, offset: u64, read: usize) -> io::Result<bool> {
    Ok(offset.saturating_add(read as u64) >= file.metadata()?.len())
}

/// Writes all of `bytes` at `offset`; with `persist`, durably by that method. Counts resubmissions.
pub(super) fn write(
    file: &fs::File,
    offset: u64,
    bytes: &[u8],
    persist: Option<Durable>,
    resubmits: &mut u64,
) -> io::Result<()> {
    let flags = match persist {
        Some(Durable::Dsync) => ReadWriteFlags::DSYNC,
        _ => ReadWriteFlags::empty(),
    };
    let mut tries = 0;
    loop {
        let wrote = match pwritev2(file, &[IoSlice::new(bytes)], offset, flags) {
            Ok(wrote) if wrote == bytes.len() => break,
            Ok(wrote) => Ok(wrote),
            Err(errno) => Err(io::Error::from(errno)),
        };
        match wrote {
            Err(error) if !is_passing(&error) || tries == RESUBMITS_MAX => return Err(error),
            Ok(wrote) if tries == RESUBMITS_MAX => return Err(short_write(wrote, bytes.len())),
            _ => tries += 1,
        }
        *resubmits += 1;
    }
    if persist == Some(Durable::Fdatasync) { sync(file) } else { Ok(()) }
}

/// Fills the first `len` bytes of `buf` from `offset` on; short only at the end of the file.
///
/// The transfer is rounded up to [`BUF_ALIGN`], which the buffer's length is a multiple of.
pub(super) fn read(
    file: &fs::File,
    offset: u64,
    buf: &mut [u8],
    len: usize,
    resubmits: &mut u64,
) -> io::Result<usize> {
    let Some(buf) = buf.get_mut(..len.next_multiple_of(BUF_ALIGN)) else {
        return Err(super::invalid("a read longer than its buffer"));
    };
    let mut tries = 0;
    loop {
        let got = match file.read_at(buf, offset) {
            Ok(got) if got >= len || is_at_end(file, offset, got)? => return Ok(got.min(len)),
            other => other,
        };
        match got {
            Err(error) if !is_passing(&error) || tries == RESUBMITS_MAX => return Err(error),
            Ok(got) if tries == RESUBMITS_MAX => return Err(short_read(got, len)),
            _ => tries += 1,
        }
        *resubmits += 1;
    }
}

/// fdatasync. EINTR and EAGAIN alone are tried again: they say that nothing was tried.
pub(super) fn sync(file: &fs::File) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match file.sync_data() {
            Err(error) if is_passing(&error) && tries < RESUBMITS_MAX => tries += 1,
            other => return other,
        }
    }
}
