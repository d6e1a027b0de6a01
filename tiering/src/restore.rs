//! A directory is made of a bucket alone.
//!
//! Invariants:
//! - Every byte of every object is checked before a record of it is taken: its checksum in the
//!   manifest, its blocks, its records. Once all of it is written, all of it is read back.
//! - What cannot be had is told, and is damage in the new directory: a reader meets it as such,
//!   unless somebody had chosen to lose it before.
//! - The new directory has a lineage, a term and epochs of its own. So nothing that it writes is
//!   taken for what the lost one may have written behind its last upload.
//!
//! Crash story: see `Import`: what is not finished says so, and is begun anew.
//!
//! It writes through the engine's `Import` and not through appends: these would give new LSNs,
//! epochs and times.
//! Not here: what the bucket holds (`survey`), the directory (`sapwood::Import`).

use std::fmt;
use std::ops::Range;

use sapwood::format::RecordHeader;
use sapwood::{Config, Error, Import, Lsn, Origin};

use crate::layout;
use crate::object::{Verified, verify};
use crate::store::{ObjectStore, StoreError};
use crate::survey::{Survey, Surveyed, Trouble};
use crate::weave::Weave;
use crate::whole::get_checked;

/// Why there is no new directory.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotRestored {
    /// The store.
    Store(StoreError),
    /// The new directory.
    Engine(Error),
}

impl fmt::Display for NotRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => write!(f, "the store: {e}"),
            Self::Engine(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for NotRestored {}

impl From<StoreError> for NotRestored {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

impl From<Error> for NotRestored {
    fn from(e: Error) -> Self {
        Self::Engine(e)
    }
}

/// A log, as it was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLog {
    /// Its name.
    pub name: String,
    /// The first LSN.
    pub start: Lsn,
    /// The LSN behind the last record.
    pub tail: Lsn,
    /// Where it was known to have ended, when that is beyond: what lies between was never uploaded.
    pub known_to: Option<Lsn>,
}

/// What a restore came to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Restored {
    /// The logs, in order of their ids.
    pub logs: Vec<RestoredLog>,
    /// Records, those in fragments once.
    pub records: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Objects that were read.
    pub objects: u64,
    /// What is damaged or missing in the new directory.
    pub damages: Vec<String>,
    /// What was wrong with the bucket.
    pub troubles: Vec<Trouble>,
}

impl Restored {
    /// Everything was there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.troubles.is_empty()
    }
}

/// Makes the directory `config.dir`, which is missing or empty, of what a survey found. Blocks;
/// `progress` is told of bytes of objects that were read, and of how many there are. Takes twice
/// the memory of an object.
///
/// # Errors
/// See [`NotRestored`]; then the directory says that it is unfinished, and may be restored into
/// again. What is missing in the bucket is no error: see [`Restored`].
pub fn restore(
    store: &dyn ObjectStore,
    survey: &Survey,
    config: &Config,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, NotRestored> {
    let origin = Origin { facts: survey.facts, term: survey.term(), keep_lineage: false };
    restore_into(store, survey, Import::begin(config, origin)?, progress)
}

/// As [`restore`], into an import that has begun: how the simulator restores.
///
/// # Errors
/// As [`restore`].
pub fn restore_into(
    store: &dyn ObjectStore,
    survey: &Survey,
    mut import: Import,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, NotRestored> {
    let mut told = Restored { troubles: survey.troubles.clone(), ..Restored::default() };
    let mut weave = Weave::new(&survey.ledger);
    let total = survey.objects.iter().map(|object| object.bytes).sum();
    let mut done = 0;
    for object in &survey.objects {
        match fetch(store, object)? {
            Ok(bytes) => take(object, &bytes, &mut weave, &mut import, &mut told)?,
            Err(why) => {
                object.footer.stretches.iter().for_each(|stretch| weave.miss(stretch));
                let key = layout::key_of(&object.name)?.to_string();
                told.troubles.push(Trouble::Unreadable(key, why));
            }
        }
        done += object.bytes;
        progress(done, total);
    }
    for (log, known) in &survey.ledger.logs {
        let Some(end) = weave.end(*log) else { continue };
        let (name, start, tail) = (known.facts.name.to_string(), known.facts.start, end.tail);
        let known_to = Some(known.facts.tail).filter(|known| *known > tail);
        told.logs.push(RestoredLog { name, start, tail, known_to });
    }
    told.damages = import.finish(survey.frames(&weave, true))?.damages;
    Ok(told)
}

/// Makes a directory of what is known of the logs alone: read with an archive over the store, it
/// shows what the bucket holds. It has the lineage of its source, and is not to be written.
///
/// # Errors
/// As [`restore`].
pub fn look_into(survey: &Survey, config: &Config) -> Result<(), NotRestored> {
    let origin = Origin { facts: survey.facts, term: survey.term(), keep_lineage: true };
    let mut weave = Weave::new(&survey.ledger);
    for stretch in survey.objects.iter().flat_map(|object| &object.footer.stretches) {
        weave.take(stretch);
    }
    Import::begin(config, origin)?.finish(survey.frames(&weave, false))?;
    Ok(())
}

/// All of an object, every checksum of it looked at; in words why there is none.
fn fetch(
    store: &dyn ObjectStore,
    object: &Surveyed,
) -> Result<Result<Vec<u8>, String>, StoreError> {
    let key = layout::key_of(&object.name)?;
    let check = |bytes: &[u8]| {
        if object.crc.is_some_and(|crc| crc != crc32c::crc32c(bytes)) {
            return Err("it has another checksum than the manifest says".to_owned());
        }
        let verified = verify(bytes, &mut |_, _| ()).map_err(|wrong| wrong.to_string())?;
        let Verified { footer, .. } = verified;
        if footer.stretches == object.footer.stretches {
            Ok(bytes.to_vec())
        } else {
            Err("it changed".to_owned())
        }
    };
    match get_checked(store, &key, object.bytes, check) {
        Err(StoreError::NotFound) => Ok(Err("it is gone".into())),
        other => other,
    }
}

/// Takes what counts of an object.
fn take(
    object: &Surveyed,
    bytes: &[u8],
    weave: &mut Weave<'_>,
    import: &mut Import,
    told: &mut Restored,
) -> Result<(), NotRestored> {
    let stretches = &object.footer.stretches;
    let wanted: Vec<Range<Lsn>> = stretches.iter().map(|stretch| weave.take(stretch)).collect();
    // Records come in the order of the stretches.
    let (mut number, mut seen, mut failed) = (0, 0, None);
    let mut each = |header: &RecordHeader, framed: &[u8]| {
        while stretches.get(number).is_some_and(|stretch| seen == stretch.records) {
            (number, seen) = (number + 1, 0);
        }
        seen += 1;
        let counts = wanted.get(number).is_some_and(|lsns| lsns.contains(&header.lsn));
        if counts && failed.is_none() {
            failed = import.push(header, framed).err();
            told.records += u64::from(!header.continues());
            told.bytes += framed.len() as u64;
        }
    };
    let verified = verify(bytes, &mut |record, framed| each(&record.header, framed));
    told.objects += 1;
    match (failed, verified) {
        (Some(error), _) => Err(error.into()),
        (None, Err(wrong)) => Err(StoreError::Damaged(wrong.to_string()).into()),
        (None, Ok(_)) => Ok(()),
    }
}
