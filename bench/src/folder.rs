//! A fresh folder for one measurement, removed when it is dropped.
//!
//! Invariants: made with `create_dir` under a name not there before, so nothing of the user's is
//! ever written to or removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The folder; its content goes with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a fresh folder under `parent`.
    ///
    /// # Errors
    /// When `parent` is not writable.
    pub fn fresh(parent: &Path) -> Result<Folder> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        let name = format!("sapwood-bench-{}-{:x}", std::process::id(), nanos & 0xffff_ffff_ffff);
        let path = parent.join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Folder(path))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("sapwood bench: {} was not removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fresh_and_goes_with_its_content() {
        let parent = tempfile::tempdir().unwrap();
        let (one, two) =
            (Folder::fresh(parent.path()).unwrap(), Folder::fresh(parent.path()).unwrap());
        assert_ne!(one.path(), two.path());
        fs::write(one.path().join("data"), b"x").unwrap();
        drop((one, two));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
