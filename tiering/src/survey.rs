//! What a bucket holds of a directory: its objects, what they and the control objects tell of the
//! logs, and what is missing.
//!
//! Invariants: the newest manifest is believed about what must be there, the list about what is;
//! what is in the list and in no manifest counts too. Of several objects of one segment one is
//! taken: the one the manifest lists, else that of the highest term. Nothing is written.
//! Not here: the records (`restore`, `archive`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sapwood::format::manifest::{DirectoryFacts, LogFacts};
use sapwood::format::{Edit, Flaw, Frame};
use sapwood::{Epoch, LogId, SegmentId, ShardId};

use crate::layout::{self, Named};
use crate::ledger::Ledger;
use crate::object::{Footer, ObjectHeader, TRAILER_BYTES, Trailer};
use crate::remote::{Contents, Entry, Found, NotListed, newest, read_controls, rebuild};
use crate::store::{Key, ObjectStore, StoreError};
use crate::weave::Weave;
use crate::whole::{ask, list_all};

/// Bytes of the end of an object that are fetched to begin with.
const TAIL_BYTES: u64 = 64 << 10;

/// A footer larger than this is refused.
const FOOTER_BYTES_MAX: u64 = 1 << 30;

/// A call that gave bytes that do not pass is made so often.
const TRIES: u32 = 4;

/// After a restore epochs go on so much higher: whatever the lost directory still handed out is
/// below.
const EPOCHS_SKIPPED: u32 = 1 << 16;

/// One directory in one lineage, as a bucket names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// The directory.
    pub directory: u64,
    /// Its lineage: a restored directory has a new one.
    pub lineage: u64,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.directory, self.lineage)
    }
}

impl History {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (directory, lineage) = layout::parse_owner(text)?;
        Some(Self { directory, lineage })
    }
}

/// The histories that a bucket holds, in order of their names.
///
/// # Errors
/// The store.
pub fn histories(store: &dyn ObjectStore) -> Result<Vec<History>, StoreError> {
    let mut found: Vec<History> = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let page = ask(|| store.list("", after.as_ref(), 1))?;
        let Some(listed) = page.first() else { return Ok(found) };
        let owner = listed.key.as_str().split('/').next().unwrap_or_default();
        after = match History::parse(owner) {
            Some(history) => {
                found.push(history);
                // Behind everything of this one.
                Some(Key::new(format!("{owner}/zzzz"))?)
            }
            None => Some(listed.key.clone()),
        };
    }
}

/// An object that counts.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Its name.
    pub name: Named,
    /// Its length, and its checksum where the manifest knows it.
    pub bytes: u64,
    /// See `bytes`.
    pub crc: Option<u32>,
    /// What it holds.
    pub footer: Arc<Footer>,
}

/// What is wrong with a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// The manifest lists it and it is not there.
    Missing(String),
    /// It is there and cannot be read.
    Unreadable(String, String),
    /// A manifest that cannot be read; an older one was taken, or none.
    Manifest(u64),
    /// A control object that cannot be read or is not there: facts may be older than they were.
    Control(u64),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "{key} is listed in the manifest and is not there"),
            Self::Unreadable(key, why) => write!(f, "{key} cannot be read: {why}"),
            Self::Manifest(number) => write!(f, "manifest {number} cannot be read"),
            Self::Control(number) => {
                write!(f, "control object {number} cannot be read: what it told of logs is missing")
            }
        }
    }
}

/// Why a bucket could not be surveyed.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotSurveyed {
    /// The store.
    Store(StoreError),
    /// Something is of a newer version.
    Unsupported(Flaw),
    /// Nothing in it tells of a directory.
    Nothing,
}

impl fmt::Display for NotSurveyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => write!(f, "the store: {e}"),
            Self::Unsupported(flaw) => write!(f, "a newer version wrote it: {flaw}"),
            Self::Nothing => f.write_str("there is nothing of a directory in it"),
        }
    }
}

impl std::error::Error for NotSurveyed {}

impl From<StoreError> for NotSurveyed {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

impl From<NotListed> for NotSurveyed {
    fn from(e: NotListed) -> Self {
        match e {
            NotListed::Store(e) => Self::Store(e),
            NotListed::Flaw(flaw) => Self::Unsupported(flaw),
            other => Self::Store(StoreError::Invalid(other.to_string())),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Survey {
    pub(crate) ledger: Ledger,
    /// The directory, as it was made.
    pub facts: DirectoryFacts,
    /// Objects that count, in the order of their shards and segments.
    pub objects: Vec<Surveyed>,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
    /// The number of the manifest that was read; 0: there was none.
    pub manifest: u64,
    /// Objects that are there beside another one of the same segment, and are not taken.
    pub others: Vec<Named>,
}

impl Survey {
    /// Looks at everything in a bucket that is of this history. Blocks; `progress` is told of
    /// objects seen, and of how many there are.
    ///
    /// # Errors
    /// See [`NotSurveyed`]. What is missing or damaged is no error: see
    /// [`troubles`](Self::troubles).
    pub fn of(
        store: &dyn ObjectStore,
        history: History,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, NotSurveyed> {
        let History { directory, lineage } = history;
        let Found { header, mut contents, damaged } = newest(store, directory, lineage)?;
        let mut ledger = Ledger::default();
        let mut troubles: Vec<Trouble> = damaged.iter().copied().map(Trouble::Manifest).collect();
        if header.number == 0 || !damaged.is_empty() {
            // Facts are good whoever lists them.
            contents.controls = rebuild(store, directory, lineage)?.controls;
        }
        let learn = &mut |frame: &Frame| ledger.learn(frame);
        let missing = read_controls(store, directory, lineage, &contents.controls, learn)?;
        troubles.extend(missing.into_iter().map(Trouble::Control));
        let mut survey = Self {
            ledger,
            facts: DirectoryFacts::default(),
            objects: Vec::new(),
            troubles,
            manifest: header.number,
            others: Vec::new(),
        };
        survey.look_at_objects(store, history, &contents, progress)?;
        survey.facts = survey.ledger.facts.ok_or(NotSurveyed::Nothing)?;
        Ok(survey)
    }

    fn look_at_objects(
        &mut self,
        store: &dyn ObjectStore,
        history: History,
        contents: &Contents,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), NotSurveyed> {
        let mut there: BTreeMap<Named, u64> = BTreeMap::new();
        let prefix = layout::prefix(history.directory, history.lineage);
        list_all(store, &prefix, &mut |listed| {
            there.extend(layout::parse(&listed.key).map(|name| (name, listed.bytes)));
        })?;
        for (name, entry) in &contents.objects {
            // A list may lag: what is listed in the manifest is looked for by its name.
            if !there.contains_key(name) && is_there(store, name, entry)? {
                there.insert(*name, entry.bytes);
            }
        }
        let count = there.len() as u64;
        let mut read = Vec::new();
        for (n, (name, bytes)) in there.into_iter().enumerate() {
            let listed = contents.objects.get(&name);
            match footer_of(store, &name, bytes)? {
                Ok((footer, facts)) => {
                    self.ledger.learn(&facts);
                    let (footer, crc) = (Arc::new(footer), listed.map(|entry| entry.crc));
                    read.push(Surveyed { name, bytes, crc, footer });
                }
                Err(flaw) if flaw.is_unsupported() => return Err(NotSurveyed::Unsupported(flaw)),
                Err(flaw) => {
                    let key = layout::key_of(&name)?.to_string();
                    self.troubles.push(Trouble::Unreadable(key, flaw.to_string()));
                }
            }
            progress(n as u64 + 1, count);
        }
        self.choose(read);
        for name in contents.objects.keys() {
            let place = (name.shard, name.segment);
            let key = layout::key_of(name)?.to_string();
            let told = |trouble: &Trouble| match trouble {
                Trouble::Unreadable(other, _) => *other == key,
                _ => false,
            };
            let known = self.objects.iter().any(|one| (one.name.shard, one.name.segment) == place);
            if !known && !self.troubles.iter().any(told) {
                self.troubles.push(Trouble::Missing(key));
            }
        }
        Ok(())
    }

    /// One object of each segment.
    fn choose(&mut self, read: Vec<Surveyed>) {
        let mut of: BTreeMap<(ShardId, SegmentId), Surveyed> = BTreeMap::new();
        for object in read {
            let rank = |one: &Surveyed| {
                (
                    one.crc.is_some(),
                    one.footer.header.term,
                    one.name.last_seq,
                    std::cmp::Reverse(one.name.again),
                )
            };
            let place = (object.name.shard, object.name.segment);
            match of.get_mut(&place) {
                None => {
                    of.insert(place, object);
                }
                Some(best) if rank(&object) > rank(best) => {
                    self.others.push(std::mem::replace(best, object).name);
                }
                Some(_) => self.others.push(object.name),
            }
        }
        self.objects = of.into_values().collect();
    }

    /// The highest term that is known.
    #[must_use]
    pub fn term(&self) -> u32 {
        let terms = self.objects.iter().map(|object| object.footer.header.term);
        terms.max().unwrap_or(0).max(self.ledger.term)
    }

    /// What exists, shard by shard, with the ends that `weave` found; for a directory that goes on,
    /// with a new epoch for each log.
    pub(crate) fn frames(&self, weave: &Weave<'_>, goes_on: bool) -> Vec<Frame> {
        let shards = (0..self.facts.shards).map(ShardId);
        let mut frames: Vec<Frame> = shards
            .map(|shard| {
                let edits = vec![Edit::NextLog { counter: self.ledger.next_log(shard) }];
                Frame { shard, edits, ..Frame::default() }
            })
            .collect();
        let mut put = |log: LogId, edit: Edit| {
            if let Some(frame) = frames.get_mut(usize::from(log.shard().0)) {
                frame.edits.push(edit);
            }
        };
        for (log, known) in &self.ledger.logs {
            put(*log, Edit::Log(self.log(*log, &known.facts, weave, goes_on)));
            for (epoch, first_lsn) in &known.cuts {
                put(*log, Edit::Cut { log: *log, epoch: *epoch, first_lsn: *first_lsn });
            }
        }
        for hole in weave.holes() {
            if let Some(log) = hole.log {
                put(log, Edit::Damage(*hole));
            }
        }
        frames
    }

    fn log(&self, log: LogId, facts: &LogFacts, weave: &Weave<'_>, goes_on: bool) -> LogFacts {
        let Some(end) = weave.end(log) else { return facts.clone() };
        let newest = facts.epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch);
        let highest = facts.tail_epoch.max(newest).max(end.epoch);
        let mut epochs = facts.epochs.clone();
        let mut tail_epoch = highest;
        // An epoch that begins where nothing is any more wrote nothing that is left.
        epochs.retain(|(_, first)| *first < end.tail);
        if goes_on {
            tail_epoch = Epoch(highest.0.saturating_add(EPOCHS_SKIPPED));
            epochs.push((tail_epoch, end.tail));
        }
        let (tail, tail_time_us) = (end.tail, end.time_us);
        LogFacts { tail, tail_epoch, tail_time_us, epochs, ..facts.clone() }
    }
}

fn is_there(store: &dyn ObjectStore, name: &Named, entry: &Entry) -> Result<bool, StoreError> {
    let key = layout::key_of(name)?;
    match ask(|| store.len(&key)) {
        Ok(bytes) => Ok(bytes == entry.bytes),
        Err(StoreError::NotFound) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Footer and facts of an object; bytes that do not pass are fetched again.
fn footer_of(
    store: &dyn ObjectStore,
    name: &Named,
    bytes: u64,
) -> Result<Result<(Footer, Frame), Flaw>, StoreError> {
    let key = layout::key_of(name)?;
    let mut tries = 1;
    loop {
        let found = read_footer(store, &key, name, bytes)?;
        match found {
            Err(flaw) if !flaw.is_unsupported() && tries < TRIES => tries += 1,
            other => return Ok(other),
        }
    }
}

fn read_footer(
    store: &dyn ObjectStore,
    key: &Key,
    name: &Named,
    bytes: u64,
) -> Result<Result<(Footer, Frame), Flaw>, StoreError> {
    let start = bytes.saturating_sub(TAIL_BYTES);
    let tail = ask(|| store.get(key, start..bytes))?;
    let read = || -> Result<(Trailer, Option<Vec<u8>>), Flaw> {
        if tail.len() as u64 != bytes - start {
            return Err(Flaw::Field("length of a range"));
        }
        let trailer = Trailer::decode(&tail, bytes)?;
        if trailer.footer_bytes > FOOTER_BYTES_MAX {
            return Err(Flaw::Field("bytes of a footer"));
        }
        let inside = trailer.footer_range().start.checked_sub(start);
        let end = tail.len() - TRAILER_BYTES;
        let here = inside.and_then(|at| tail.get(at as usize..end));
        Ok((trailer, here.map(<[u8]>::to_vec)))
    };
    let (trailer, here) = match read() {
        Ok(read) => read,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let footer = match here {
        Some(here) => here,
        None => ask(|| store.get(key, trailer.footer_range()))?,
    };
    if footer.len() as u64 != trailer.footer_bytes {
        return Ok(Err(Flaw::Field("length of a range")));
    }
    let decode = || {
        let decoded = Footer::decode(&footer, &trailer)?;
        let facts = Footer::facts(&footer, &trailer)?;
        let ObjectHeader { segment, last_seq, last_crc, .. } = decoded.header;
        if (segment, last_seq, last_crc) != (name.segment, name.last_seq, name.last_crc) {
            return Err(Flaw::Field("another object under this name"));
        }
        Ok((decoded, facts))
    };
    Ok(decode())
}
