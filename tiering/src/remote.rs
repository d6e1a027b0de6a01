//! The remote manifest: what of a bucket counts, written by one writer at a time.
//!
//! Invariants:
//! - Manifests are numbered and never overwritten: who writes a change puts the next number, by a
//!   conditional put. Of two writers one wins; the other reads what won, and either adds its change
//!   to it or learns that a newer term is at work, and stops (`Fenced`).
//! - What it lists was proven before. It is put before a segment is marked as tiered, so that
//!   nothing leaves a local disk that it does not list.
//! - It can be lost: objects and control objects tell the same (`rebuild`), but for what is missing
//!   from the bucket, which nobody would notice then.
//!
//! Crash story: a manifest is put, the answer is lost, the tier dies. The next one finds it as the
//! newest, whoever wrote it, and goes on from there. One that dies before the put leaves objects
//! that no manifest lists: their segments are not marked, so they are found and listed again.
//!
//! Not here: its bytes (`bytes`), facts of logs (`facts`), when (`tier`).

mod bytes;
mod facts;
mod keeper;

use std::fmt;
use std::sync::Arc;

pub use bytes::{
    Contents, ControlEntry, Entry, Kind, REMOTE_HEADER_BYTES, RemoteHeader, decode_control,
    decode_header, decode_manifest, encode_control, encode_manifest,
};
pub(crate) use facts::read_controls;
pub(crate) use keeper::Keeper;
use sapwood::format::Flaw;

use crate::layout;
use crate::pace::Backoff;
use crate::store::{Key, ObjectStore, StoreError};
use crate::whole::{ask, get_all, list_all};

/// Numbers tried in a row for one change: so many others may win before.
const NUMBERS_MAX: u32 = 64;

/// A put that may pass is made so often before the caller is told.
const TRIES: u32 = 4;

/// A manifest larger than this is refused.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Why the remote manifest does not say it yet.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotListed {
    /// The store.
    Store(StoreError),
    /// The engine does not answer.
    Engine(sapwood::Error),
    /// A writer of a newer term is at work: this one is over.
    Fenced {
        /// Its term.
        term: u32,
    },
    /// The bucket has a history that is not this directory's: it is behind its tier, or a copy of
    /// the directory goes on elsewhere.
    Foreign(String),
    /// What stands there was written by a newer version, or cannot be written by this one.
    Flaw(Flaw),
}

impl fmt::Display for NotListed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => write!(f, "the store: {e}"),
            Self::Engine(e) => write!(f, "asking the engine: {e}"),
            Self::Fenced { term } => write!(f, "a writer of term {term} has taken the tier over"),
            Self::Foreign(what) => f.write_str(what),
            Self::Flaw(flaw) => write!(f, "the remote manifest: {flaw}"),
        }
    }
}

impl std::error::Error for NotListed {}

impl From<StoreError> for NotListed {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

impl From<Flaw> for NotListed {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// A manifest as it was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its header; of number 0 when there is none.
    pub header: RemoteHeader,
    /// What it lists.
    pub contents: Contents,
    /// Newer ones that cannot be read: numbers.
    pub damaged: Vec<u64>,
}

/// The newest manifest that can be read. A list may lag: numbers behind it are looked for.
///
/// # Errors
/// The store; `Flaw` for one of a newer version.
pub fn newest(store: &dyn ObjectStore, directory: u64, lineage: u64) -> Result<Found, NotListed> {
    let mut numbers = Vec::new();
    let prefix = layout::manifest_prefix(directory, lineage);
    list_all(store, &prefix, &mut |listed| numbers.extend(layout::parse_numbered(&listed.key)))?;
    let mut next = numbers.last().map_or(1, |last| last + 1);
    while is_there(store, &layout::manifest(directory, lineage, next)?)? {
        numbers.push(next);
        next += 1;
    }
    let mut found = Found::default();
    for number in numbers.iter().rev() {
        let key = layout::manifest(directory, lineage, *number)?;
        match read(store, &key)? {
            Some((header, contents)) => {
                (found.header, found.contents) = (header, contents);
                break;
            }
            None => found.damaged.push(*number),
        }
    }
    Ok(found)
}

fn is_there(store: &dyn ObjectStore, key: &Key) -> Result<bool, StoreError> {
    match ask(|| store.len(key)) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound) => Ok(false),
        Err(other) => Err(other),
    }
}

/// A manifest; `None` when it is gone, or damaged for good.
fn read(store: &dyn ObjectStore, key: &Key) -> Result<Option<(RemoteHeader, Contents)>, NotListed> {
    let bytes = match ask(|| store.len(key)) {
        Ok(bytes) if bytes <= MANIFEST_BYTES_MAX => bytes,
        Ok(_) | Err(StoreError::NotFound) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    for _ in 0..TRIES {
        match decode_manifest(&get_all(store, key, bytes)?) {
            Ok(found) => return Ok(Some(found)),
            Err(flaw) if flaw.is_unsupported() => return Err(flaw.into()),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Who writes manifests: the term it writes under, and a number of its own.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// The directory.
    pub directory: u64,
    /// Its lineage.
    pub lineage: u64,
    /// The writer's term.
    pub term: u32,
    /// Drawn when it started.
    pub writer: u64,
}

/// The newest manifest, and the way to the next.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    author: Author,
    found: Found,
    /// The next number to try.
    next: u64,
}

impl Remote {
    /// Finds the newest manifest, or, when there is none or newer ones are damaged, what it would
    /// say. Changes nothing.
    ///
    /// # Errors
    /// As the store says; `Fenced` when a newer term is at work.
    pub fn open(store: Arc<dyn ObjectStore>, author: Author) -> Result<Self, NotListed> {
        let mut found = newest(&*store, author.directory, author.lineage)?;
        fence(&found.header, &author)?;
        if found.header.number == 0 || !found.damaged.is_empty() {
            let rebuilt = rebuild(&*store, author.directory, author.lineage)?;
            found.contents.objects.extend(rebuilt.objects);
            if found.contents.controls.is_empty() {
                found.contents.controls = rebuilt.controls;
            }
        }
        let last = found.damaged.iter().copied().max().unwrap_or(0).max(found.header.number);
        Ok(Self { store, author, found, next: last + 1 })
    }

    /// What the newest manifest lists, as far as is known here.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.found.contents
    }

    /// The number of the newest manifest known here; 0: none was written yet.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.found.header.number
    }

    /// Writes under this term from now on: the shard was opened again.
    pub fn set_term(&mut self, term: u32) {
        self.author.term = self.author.term.max(term);
    }

    /// Writes the next manifest, changed so, unless there is nothing to change. `change` may be
    /// called several times, each time with what has won meanwhile; `check` looks at what others
    /// wrote before anything is added to it. Blocks; after an error the same change may be made
    /// again.
    ///
    /// # Errors
    /// See [`NotListed`].
    pub fn commit(
        &mut self,
        time_us: u64,
        check: &dyn Fn(&Contents) -> Result<(), String>,
        change: &dyn Fn(&mut Contents),
    ) -> Result<(), NotListed> {
        let Author { directory, lineage, term, writer } = self.author;
        let mut backoff = Backoff::new(writer);
        for attempt in 0..NUMBERS_MAX {
            check(&self.found.contents).map_err(NotListed::Foreign)?;
            let mut contents = self.found.contents.clone();
            change(&mut contents);
            if contents == self.found.contents && self.found.header.number != 0 {
                return Ok(());
            }
            let (kind, number) = (Kind::Manifest, self.next);
            let header = RemoteHeader { kind, directory, lineage, number, term, time_us, writer };
            let bytes = encode_manifest(&header, &contents)?;
            let key = layout::manifest(directory, lineage, number)?;
            match self.store.put_new(&key, &bytes, crc32c::crc32c(&bytes)) {
                Ok(()) => {
                    (self.found.header, self.found.contents) = (header, contents);
                    self.next += 1;
                    return Ok(());
                }
                // It may be our own, of an earlier call whose answer was lost: that is read, too.
                Err(StoreError::Exists) => self.adopt(&key)?,
                Err(error) if error.may_pass() && attempt < TRIES => {
                    std::thread::sleep(backoff.failed());
                }
                Err(other) => return Err(other.into()),
            }
        }
        Err(StoreError::Busy("others write manifests all the time".into()).into())
    }

    /// Somebody wrote this number: what it says counts, unless it is over, or we are.
    fn adopt(&mut self, key: &Key) -> Result<(), NotListed> {
        if let Some((header, contents)) = read(&*self.store, key)? {
            fence(&header, &self.author)?;
            // Who got this number knew all those before it.
            (self.found.header, self.found.contents) = (header, contents);
        }
        self.next += 1;
        Ok(())
    }
}

fn fence(header: &RemoteHeader, author: &Author) -> Result<(), NotListed> {
    if header.term > author.term {
        return Err(NotListed::Fenced { term: header.term });
    }
    Ok(())
}

/// What a manifest would say, from what is in the bucket.
///
/// # Errors
/// The store.
pub fn rebuild(
    store: &dyn ObjectStore,
    directory: u64,
    lineage: u64,
) -> Result<Contents, StoreError> {
    let mut names = Vec::new();
    list_all(store, &layout::prefix(directory, lineage), &mut |listed| {
        names.push((listed.key.clone(), listed.bytes));
    })?;
    let mut contents = Contents::default();
    for (key, bytes) in names {
        if let Some(named) = layout::parse(&key) {
            let crc = ask(|| store.checksum(&key))?;
            contents.objects.insert(named, Entry { bytes, crc });
        }
    }
    // Facts that were met twice, or too early, do no harm: the latest count.
    let prefix = layout::control_prefix(directory, lineage);
    let mut controls = Vec::new();
    list_all(store, &prefix, &mut |listed| {
        let number = layout::parse_numbered(&listed.key);
        controls.extend(number.map(|number| (number, listed.key.clone(), listed.bytes)));
    })?;
    for (number, key, bytes) in controls {
        let crc = ask(|| store.checksum(&key))?;
        contents.controls.push(ControlEntry { number, bytes, crc });
    }
    Ok(contents)
}
