//! The tier that a directory was given once: a small file in it, so that later commands need not be
//! told.
//!
//! Invariants: it is replaced whole or not at all; it holds no secret. It only says where to look:
//! what is there is held against the directory by its id.
//! Not here: the tier (`tier`).

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Its name; none of the engine's.
const NAME: &str = "tier-url";

/// A URL that long is none.
const URL_BYTES_MAX: u64 = 4096;

/// The URL that is remembered in a directory.
pub(crate) fn url(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(NAME);
    let reading = || format!("reading {}", path.display());
    match fs::metadata(&path) {
        Ok(found) if found.len() <= URL_BYTES_MAX => {}
        Ok(_) => return Ok(None),
        // No directory either: who opens it says so.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(reading),
    }
    let text = fs::read_to_string(&path).with_context(reading)?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The URL that is given, or that is remembered.
pub(crate) fn or(given: Option<&str>, dir: &Path) -> Result<Option<String>> {
    match given {
        Some(given) => Ok(Some(given.to_owned())),
        None => url(dir),
    }
}

/// Remembers a URL, durably.
pub(crate) fn remember(dir: &Path, given: &str) -> Result<()> {
    let given = absolute(given)?;
    if url(dir)?.as_deref() == Some(&given) {
        return Ok(());
    }
    let (path, new) = (dir.join(NAME), dir.join(format!("{NAME}.new")));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{given}")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A path is remembered as it is from everywhere.
fn absolute(url: &str) -> Result<String> {
    match url.split_once("://") {
        Some(("file", path)) => Ok(format!("file://{}", std::path::absolute(path)?.display())),
        _ => Ok(url.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_found_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(url(dir.path()).unwrap(), None);
        assert_eq!(url(&dir.path().join("missing")).unwrap(), None);
        remember(dir.path(), "s3://bucket/prefix").unwrap();
        assert_eq!(url(dir.path()).unwrap().unwrap(), "s3://bucket/prefix");
        remember(dir.path(), "file:///mnt/tier").unwrap();
        assert_eq!(or(None, dir.path()).unwrap().unwrap(), "file:///mnt/tier");
        assert_eq!(or(Some("file:///x"), dir.path()).unwrap().unwrap(), "file:///x");
        remember(dir.path(), "file://relative").unwrap();
        assert!(url(dir.path()).unwrap().unwrap().starts_with("file:///"));
        fs::write(dir.path().join(NAME), "").unwrap();
        assert_eq!(url(dir.path()).unwrap(), None);
    }
}
