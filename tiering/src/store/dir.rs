//! A store in a local directory: an object is a file. The embedded default; needs no server.
//!
//! Invariants:
//! - An object is written to a file without a name of its own, synced, and linked under its name,
//!   which fails when there is one: the file system decides who wins. Then its folder is synced.
//! - Before it says `Exists` it syncs what exists. Crash story: 1. an object is linked; 2. the
//!   process is killed before the folder is synced; 3. the next one finds the object, believes it,
//!   and lets the local records go; 4. power is cut: the link was never durable.
//! - What stands in [`UNFINISHED`] is a put under way, locked by who writes it; the lock ends with
//!   the process, so a sweep takes what nobody goes on with.
//! - Files are 0600, folders 0700, links are not followed.
//!
//! `FORMAT.md` has the crash table. Not here: which names objects have (`layout`).

use std::collections::{BTreeMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Key, Listed, ObjectStore, Result, StoreError};

/// The folder of puts under way. No key begins with a dot.
const UNFINISHED: &str = ".unfinished";

/// Bytes of one read when an object is summed.
const READ_BYTES: usize = 1 << 20;

/// Folders below one another at most, when they are listed: a key has no more parts.
const DEPTH_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct DirStore {
    root: PathBuf,
    /// Folders whose names are durable, as far as this store made sure.
    durable: Mutex<HashSet<PathBuf>>,
    /// Makes the names of unfinished files unique in this process.
    count: AtomicU64,
    /// A test has it die at this step: nothing happens from there on.
    #[cfg(test)]
    dies_at: AtomicU64,
}

/// The steps of a put, as the crash table numbers them.
#[derive(Clone, Copy)]
enum Step {
    Created = 1,
    Written = 2,
    Synced = 3,
    Linked = 4,
    FolderSynced = 5,
}

impl DirStore {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let doing = |e: io::Error| failed(&format!("opening {}", root.display()), &e);
        let folder = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        folder(&root.join(UNFINISHED)).map_err(doing)?;
        let root = root.canonicalize().map_err(doing)?;
        // The name of the root, too, is an entry that a power cut could take.
        for path in [root.parent(), Some(&*root)].into_iter().flatten() {
            sync_folder(path).map_err(doing)?;
        }
        Ok(Self {
            root,
            durable: Mutex::default(),
            count: AtomicU64::new(0),
            #[cfg(test)]
            dies_at: AtomicU64::new(u64::MAX),
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Opens an object for reading, without following links.
    fn object(&self, key: &Key) -> Result<(File, u64)> {
        let open = || {
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(key))?;
            let found = file.metadata()?;
            let is_object = found.is_file();
            Ok(if is_object { Some((file, found.len())) } else { None })
        };
        match open() {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(StoreError::NotFound),
            Err(e) => Err(failed(&format!("opening {key}"), &e)),
        }
    }

    /// Makes the folders of an object, durably. Each is made sure of once per opened store: one
    /// that is there may have been made by a process that was killed before it synced.
    fn make_folders(&self, path: &Path) -> io::Result<()> {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        let mut folder = self.root.clone();
        for part in inside.parent().into_iter().flat_map(Path::components) {
            let above = folder.clone();
            folder.push(part);
            if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder) {
                continue;
            }
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => sync_folder(&above)?,
            }
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.clone());
        }
        Ok(())
    }

    /// A new file for a put, locked.
    fn unfinished(&self) -> io::Result<(File, PathBuf)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", std::process::id(), now.as_nanos());
        let path = self.root.join(UNFINISHED).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.lock()?;
        Ok((file, path))
    }

    #[cfg(test)]
    fn step(&self, step: Step) -> io::Result<()> {
        if step as u64 >= self.dies_at.load(Ordering::Relaxed) {
            return Err(io::Error::other("died"));
        }
        Ok(())
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test has it die there")]
    fn step(&self, _: Step) -> io::Result<()> {
        Ok(())
    }

    fn is_dead(&self) -> bool {
        self.step(Step::FolderSynced).is_err()
    }

    /// Writes the bytes to a file that has no name as an object yet, durably.
    fn write(&self, bytes: &[u8]) -> io::Result<(File, PathBuf)> {
        let (mut file, path) = self.unfinished()?;
        let written = (|| {
            self.step(Step::Created)?;
            file.write_all(bytes)?;
            self.step(Step::Written)?;
            file.sync_all()?;
            self.step(Step::Synced)
        })();
        match written {
            Ok(()) => Ok((file, path)),
            Err(e) => {
                self.forget(&path);
                Err(e)
            }
        }
    }

    /// Removes an unfinished file; one that stays is swept later.
    fn forget(&self, path: &Path) {
        if !self.is_dead() {
            let _ = std::fs::remove_file(path);
        }
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let path = self.path(key);
        let doing = |e: io::Error| failed(&format!("writing {key}"), &e);
        self.make_folders(&path).map_err(doing)?;
        if path.symlink_metadata().is_ok() {
            self.confirm(key, &path)?;
            return Err(StoreError::Exists); // without writing all of it first
        }
        let (file, unfinished) = self.write(bytes).map_err(doing)?;
        let linked = link(&unfinished, &path);
        let won = match &linked {
            Ok(()) => true,
            // A file system behind a network may answer so to its own retry.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => same_file(&file, &path),
            Err(_) => false,
        };
        if !won {
            self.forget(&unfinished);
            return match linked {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(doing(e)),
                _ => self.confirm(key, &path).and(Err(StoreError::Exists)),
            };
        }
        let durable = self.step(Step::Linked).and_then(|()| sync_parent(&path));
        durable.map_err(|e| unknown(&format!("syncing the folder of {key}"), &e))?;
        self.step(Step::FolderSynced).map_err(|e| unknown(key.as_str(), &e))?;
        self.forget(&unfinished);
        Ok(())
    }

    /// Makes sure that an object that is there stays there.
    fn confirm(&self, key: &Key, path: &Path) -> Result<()> {
        let (file, _) = self.object(key)?;
        let sync = || {
            file.sync_all()?;
            sync_parent(path)
        };
        sync().map_err(|e| unknown(&format!("syncing {key}, which exists"), &e))
    }
}

impl ObjectStore for DirStore {
    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn put_new(&self, key: &Key, bytes: &[u8], crc: u32) -> Result<()> {
        if crc32c::crc32c(bytes) != crc {
            return Err(StoreError::Damaged(format!("{key}: the checksum does not fit")));
        }
        self.put(key, bytes).map_err(|e| match e {
            // A part of its name is an object, or it is the folder of others.
            StoreError::NotFound => StoreError::Invalid(format!("{key} is no name in this store")),
            other => other,
        })
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>> {
        let (file, len) = self.object(key)?;
        let bytes = range.end.checked_sub(range.start).filter(|_| range.end <= len);
        let beyond = || StoreError::Invalid(format!("{key} has {len} bytes, not {range:?}"));
        let mut given = vec![0; bytes.ok_or_else(beyond)? as usize];
        let read = file.read_exact_at(&mut given, range.start);
        read.map_err(|e| failed(&format!("reading {key}"), &e))?;
        Ok(given)
    }

    fn len(&self, key: &Key) -> Result<u64> {
        Ok(self.object(key)?.1)
    }

    fn checksum(&self, key: &Key) -> Result<u32> {
        let (mut file, len) = self.object(key)?;
        let mut sum = || {
            // What was synced is dropped from memory, so that the medium is asked.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            let mut buf = vec![0; READ_BYTES.min(len as usize).max(1)];
            let mut crc = 0;
            loop {
                match file.read(&mut buf)? {
                    0 => return Ok(crc),
                    got => crc = crc32c::crc32c_append(crc, &buf[..got]),
                }
            }
        };
        sum().map_err(|e: io::Error| failed(&format!("reading {key}"), &e))
    }

    fn list(&self, prefix: &str, after: Option<&Key>, max: usize) -> Result<Vec<Listed>> {
        let from = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !from.is_empty() && Key::new(from).is_err() {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        let wanted = Wanted { prefix, after, max };
        let walked = walk(&self.root, from, &wanted, DEPTH_MAX, &mut found);
        walked.map_err(|e| failed("listing", &e))?;
        Ok(found.into_values().collect())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if is_absent(&e) || e.kind() == ErrorKind::IsADirectory => return Ok(()),
            Err(e) => return Err(failed(&format!("removing {key}"), &e)),
        }
        sync_parent(&path).map_err(|e| unknown(&format!("syncing the removal of {key}"), &e))
    }

    fn sweep(&self, older_than: Duration) -> Result<u64> {
        let doing = |e: io::Error| failed("sweeping", &e);
        let mut swept = 0;
        for entry in std::fs::read_dir(self.root.join(UNFINISHED)).map_err(doing)? {
            let path = entry.map_err(doing)?.path();
            let Ok(file) = File::open(&path) else { continue };
            let written = file.metadata().and_then(|found| found.modified()).map_err(doing)?;
            let old = written.elapsed().is_ok_and(|age| age >= older_than);
            // Locked: somebody is writing it.
            if old && file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// What a list asks for.
struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a Key>,
    max: usize,
}

impl Wanted<'_> {
    /// Whether a name counts, given those that were found so far.
    fn takes(&self, key: &Key, found: &BTreeMap<Key, Listed>) -> bool {
        key.as_str().starts_with(self.prefix)
            && self.after.is_none_or(|after| key > after)
            && (found.len() < self.max || found.keys().next_back().is_some_and(|last| key < last))
    }
}

/// The first names of a folder and those below it; never more than asked for in memory.
fn walk(
    root: &Path,
    folder: &str,
    wanted: &Wanted<'_>,
    depth: usize,
    found: &mut BTreeMap<Key, Listed>,
) -> io::Result<()> {
    let entries = match std::fs::read_dir(root.join(folder)) {
        Err(e) if is_absent(&e) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        // What has no name of ours is not ours.
        let Ok(key) = Key::new(name) else { continue };
        let meta = match entry.metadata() {
            Err(e) if is_absent(&e) => continue,
            meta => meta?,
        };
        if meta.is_dir() && depth > 0 {
            let name = format!("{key}/");
            if name.starts_with(wanted.prefix) || wanted.prefix.starts_with(&name) {
                walk(root, key.as_str(), wanted, depth - 1, found)?;
            }
        } else if meta.is_file() && wanted.takes(&key, found) {
            let written = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let written_us = written.as_micros() as u64;
            found.insert(key.clone(), Listed { key, bytes: meta.len(), written_us });
            if found.len() > wanted.max {
                found.pop_last();
            }
        }
    }
    Ok(())
}

/// Gives the file a name that nobody has.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            // A file system without links.
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE)?;
            Ok(())
        }
        linked => linked,
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    let own = file.metadata().map(|own| (own.dev(), own.ino()));
    let there = path.symlink_metadata().map(|there| (there.dev(), there.ino()));
    own.is_ok_and(|own| there.is_ok_and(|there| own == there))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What did not happen.
fn failed(doing: &str, e: &io::Error) -> StoreError {
    let text = format!("{doing}: {e}");
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StoreError::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(text),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Denied(text),
        ErrorKind::UnexpectedEof => StoreError::Damaged(text),
        _ if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => StoreError::Denied(text),
        _ => StoreError::Busy(text),
    }
}

fn unknown(doing: &str, e: &io::Error) -> StoreError {
    StoreError::Unknown(format!("{doing}: {e}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("a/b/object").unwrap()
    }

    fn put(store: &DirStore, bytes: &[u8]) -> Result<()> {
        store.put_new(&key(), bytes, crc32c::crc32c(bytes))
    }

    fn unfinished(root: &Path) -> usize {
        std::fs::read_dir(root.join(UNFINISHED)).unwrap().count()
    }

    /// The writer is killed in each step of a put: the object is there whole, or not at all; the
    /// retry writes it, or finds its own; what is left over is swept.
    #[test]
    fn a_put_that_dies_in_any_step_is_whole_or_nothing() {
        for dies_at in Step::Created as u64..=Step::FolderSynced as u64 {
            let dir = tempfile::tempdir().unwrap();
            let store = DirStore::open(dir.path()).unwrap();
            store.dies_at.store(dies_at, Ordering::Relaxed);
            let told = put(&store, b"the bytes").unwrap_err();
            assert!(told != StoreError::Exists, "{told}");
            drop(store);
            let store = DirStore::open(dir.path()).unwrap();
            let there = store.len(&key());
            let expected =
                if dies_at < Step::Linked as u64 { Err(StoreError::NotFound) } else { Ok(9) };
            assert_eq!(there, expected, "step {dies_at}");
            assert_eq!(unfinished(dir.path()), 1, "step {dies_at}");
            let again = put(&store, b"the bytes");
            assert_eq!(again, there.map_or(Ok(()), |_| Err(StoreError::Exists)), "step {dies_at}");
            assert_eq!(store.checksum(&key()), Ok(crc32c::crc32c(b"the bytes")));
            assert_eq!(store.list("", None, 9).unwrap().len(), 1, "what is unfinished is listed");
            assert_eq!(store.sweep(Duration::from_secs(3600)), Ok(0), "it is young");
            assert_eq!(store.sweep(Duration::ZERO), Ok(1));
            assert_eq!(unfinished(dir.path()), 0);
            assert_eq!(store.get(&key(), 0..9).unwrap(), b"the bytes");
        }
    }

    /// A sweep beside a put under way leaves it alone.
    #[test]
    fn what_somebody_writes_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        let (file, path) = store.write(b"half").unwrap();
        assert_eq!(store.sweep(Duration::ZERO), Ok(0));
        assert!(path.exists());
        drop(file);
        assert_eq!(store.sweep(Duration::ZERO), Ok(1));
    }

    #[test]
    fn links_are_not_followed_and_strange_names_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path().join("store")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        let link = dir.path().join("store/link");
        std::os::unix::fs::symlink(dir.path().join("secret"), link).unwrap();
        std::fs::write(dir.path().join("store/a name"), "x").unwrap();
        let link = Key::new("link").unwrap();
        assert!(store.get(&link, 0..6).is_err());
        assert!(store.put_new(&link, b"x", crc32c::crc32c(b"x")).is_err());
        assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"secret");
        assert_eq!(store.list("", None, 9), Ok(Vec::new()));
    }
}
