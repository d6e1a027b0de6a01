//! Where an examination writes: a file that nobody else sees.
//!
//! Invariants: the file has no name where the file system has such files, and else one that is
//! removed at the end; it is written once before it is measured on, as segments are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode as Permissions, OFlags};
use rustix::io::Errno;

use crate::io::buf::{AlignedBuf, BUF_ALIGN};
use crate::io::os::{Directory, FILE_MODE};
use crate::io::{Durable, File, plain};

/// Bytes of the scratch file: a block for each sample.
pub(super) const SCRATCH_BYTES: usize = 1 << 20;

/// Blocks of it.
pub(super) const BLOCKS: usize = SCRATCH_BYTES / BUF_ALIGN;

/// Where `dir` is, or would be.
pub(super) struct Place {
    pub path: PathBuf,
    /// The directory does not exist: its nearest parent was taken.
    pub missing: bool,
    /// Why it cannot be opened at all, or written to.
    pub opened: io::Result<Arc<Directory>>,
    pub scratch: io::Result<Scratch>,
}

/// A file to measure on.
pub(super) struct Scratch {
    pub file: File,
    /// O_DIRECT is accepted.
    pub direct: bool,
    /// To be removed.
    name: Option<PathBuf>,
}

impl Place {
    pub(super) fn find(dir: &Path) -> Self {
        let mut path = dir;
        while !path.exists() {
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => path = parent,
                Some(_) => path = Path::new("."),
                None => break,
            }
        }
        let missing = path != dir;
        let opened = Directory::at(path, true, true).map(Arc::new);
        let scratch = match &opened {
            Ok(dir) => Scratch::make(dir, path),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        Self { path: path.to_owned(), missing, opened, scratch }
    }
}

impl Scratch {
    fn make(dir: &Directory, path: &Path) -> io::Result<Self> {
        let scratch = Self::open(dir, path)?;
        let zeros = AlignedBuf::zeroed(SCRATCH_BYTES)?;
        plain::write(scratch.file.os()?, 0, &zeros, Some(Durable::Fdatasync), &mut 0)?;
        Ok(scratch)
    }

    fn open(dir: &Directory, path: &Path) -> io::Result<Self> {
        let base = OFlags::RDWR | OFlags::CLOEXEC;
        for direct in [true, false] {
            let flag = if direct { OFlags::DIRECT } else { OFlags::empty() };
            let mode = Permissions::from(FILE_MODE);
            match rustix::fs::openat(dir.fd(), ".", base | flag | OFlags::TMPFILE, mode) {
                Ok(fd) => {
                    let file = File::from_os(fs::File::from(fd), direct, "scratch");
                    return Ok(Self { file, direct, name: None });
                }
                // No O_DIRECT, or no files without a name.
                Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Self::named(dir, path)
    }

    /// A file with a name, for want of others.
    fn named(dir: &Directory, path: &Path) -> io::Result<Self> {
        let name = format!(".sapwood-doctor-{}", std::process::id());
        let new = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (file, direct) = match dir.open_flags(&name, new | OFlags::DIRECT) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Some file systems make the file before they refuse the flag.
                let _ = fs::remove_file(path.join(&name));
                (dir.open_flags(&name, new)?, false)
            }
            other => (other?, true),
        };
        let name = Some(path.join(name));
        Ok(Self { file: File::from_os(file, direct, "scratch"), direct, name })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_gone_afterwards_with_and_without_a_name() {
        let at = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(at.path()).unwrap().count();
        let dir = Directory::at(at.path(), true, true).unwrap();
        let named = Scratch::named(&dir, at.path()).unwrap();
        assert_eq!(count(), 1);
        drop(named);
        assert_eq!(count(), 0);
        let scratch = Scratch::make(&dir, at.path()).unwrap();
        assert_eq!(scratch.file.os().unwrap().metadata().unwrap().len(), SCRATCH_BYTES as u64);
        drop(scratch);
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_is_missing_is_looked_for_above() {
        let at = tempfile::tempdir().unwrap();
        let place = Place::find(&at.path().join("a/b/c"));
        assert!(place.missing && place.path == at.path() && place.scratch.is_ok());
        let place = Place::find(at.path());
        assert!(!place.missing && place.path == at.path());
        fs::write(at.path().join("file"), b"x").unwrap();
        let place = Place::find(&at.path().join("file"));
        assert!(!place.missing && place.opened.is_err() && place.scratch.is_err());
    }
}
