//! The lock of a directory: an open-file-description lock on a file that names its owner.
//!
//! Invariants: the lock belongs to an open file, not to a process, so that it lives as long as any
//! ring that has the file registered; the content only *describes* the owner, the lock decides.
//!
//! Crash story: a process is killed with writes in flight. Its descriptors are closed at once, its
//! ring 16 to 60 ms later, when the last write has landed. A plain lock would be free in between,
//! and a successor would read bytes that still change. Ours is held; the successor sees that the
//! owner is gone and waits.
//!
//! Not here: fencing. A lock is advisory and can be lost (NFS); terms in the data path fence.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::host::HostInfo;

/// Bytes of a lock file: written once at creation, so that a later owner needs no new space.
pub(super) const LOCK_BYTES: usize = 4096;

/// How long a lock is waited for whose owner is gone.
const GONE_WAIT: Duration = Duration::from_secs(5);

/// How often the wait looks.
const GONE_POLL: Duration = Duration::from_millis(2);

/// How a wait for the lock ended.
pub(super) enum Held {
    /// Nobody holds it (any more); with `take`, now we do.
    Free,
    /// Somebody does, and this is what the file says about it.
    By(Vec<u8>),
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // The constants fit: F_RDLCK, F_WRLCK, F_UNLCK are 0, 1, 2 and SEEK_SET is 0.
    libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Tries to take the lock; false when another open file has it.
fn try_lock(file: &fs::File) -> io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another open file has the lock.
fn is_held(file: &fs::File) -> io::Result<bool> {
    let mut found = whole_file(libc::F_WRLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
}

/// Gives the lock up, whoever else has the open file.
pub(super) fn unlock(file: &fs::File) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)))?;
    Ok(())
}

/// What the owner wrote, trailing zeros cut.
fn read_identity(file: &fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LOCK_BYTES];
    let mut have = 0;
    loop {
        match file.read_at(&mut bytes[have..], have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// Waits until the lock is free (and takes it, if asked), or until its owner is seen alive. An
/// owner that is gone, or that has not yet said who it is, is given [`GONE_WAIT`].
pub(super) fn wait_for(file: &fs::File, take: bool) -> io::Result<Held> {
    let give_up = Instant::now() + GONE_WAIT;
    let mut told = false;
    loop {
        if if take { try_lock(file)? } else { !is_held(file)? } {
            return Ok(Held::Free);
        }
        let identity = read_identity(file)?;
        let owner = HostInfo::parse(&identity);
        let alive = owner.as_ref().is_some_and(|owner| !owner.is_gone());
        if alive || Instant::now() >= give_up {
            return Ok(Held::By(identity));
        }
        if !told {
            told = true;
            tracing::info!(?owner, "the lock is held by a process that is gone: waiting for it");
        }
        std::thread::sleep(GONE_POLL);
    }
}

/// Writes who holds the lock. Overwrites the same bytes, so a full disk does not stop it; where it
/// does (copy on write), the lock holds all the same and only its description is old.
pub(super) fn write_identity(file: &fs::File, identity: &[u8]) -> io::Result<()> {
    if identity.len() > LOCK_BYTES {
        return Err(super::invalid("an identity longer than the lock file"));
    }
    let mut bytes = [0; LOCK_BYTES];
    bytes[..identity.len()].copy_from_slice(identity);
    match file.write_all_at(&bytes, 0).and_then(|()| file.sync_data()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            tracing::warn!(%error, "the lock is taken, but no room to write by whom");
            Ok(())
        }
        other => other,
    }
}
