//! A directory made of records that lie elsewhere: how a restore ends on the disk.
//!
//! Invariants:
//! - Records keep their log, epoch, LSN, time and bytes; each of a log comes after those before it.
//!   The directory is new in everything else: batches, segments and, unless it only is to be looked
//!   at, its lineage.
//! - It says that it is unfinished from its first file on until the last byte is durable. Nothing
//!   is written where anything else is; what an import that ended early left is removed first.
//! - It is recovered as it is made: all of it is read back, every checksum looked at, by the code
//!   that would decide at an open.
//!
//! Crash story: the power goes when some segments are written. The mark was durable before any of
//! them, so nobody takes them for a directory; the next import begins anew.
//!
//! Not here: where the records come from, which of them count (who restores), the batches
//! (`import/stream`).

mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use self::stream::Stream;
use crate::backup::{begin, end};
use crate::config::{Config, Recovery};
use crate::error::{Error, Result};
use crate::format::manifest::{Chain, DamageFacts, DirectoryFacts, Edit, Frame, Link, LogFacts};
use crate::format::{RecordHeader, is_unit};
use crate::io::{Backend, OsOptions, OsStorage, Storage};
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::manifest::{Cursor, Loaded, State};
use crate::names::Name;
use crate::open;
use crate::owner::{DirectoryLock, Grant, Owner};
use crate::recover::recover;
use crate::work::{MISSING, Plan, Powers};

/// Where an imported directory comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// What the source was made with. Its id is kept.
    pub facts: DirectoryFacts,
    /// The highest term that the source is known to have had.
    pub term: u32,
    /// Keep the lineage, too: for a directory that is looked at and thrown away. One that goes on
    /// starts a lineage of its own, so that nothing it writes is taken for the source's.
    pub keep_lineage: bool,
}

/// What an import came to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Segments that were written.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged or missing in the new directory, as text.
    pub damages: Vec<String>,
}

/// A directory that is being made. Dropped before [`finish`](Self::finish) it stays unfinished: no
/// open takes it, and the next import into it begins anew.
pub struct Import {
    storage: Arc<dyn Storage>,
    grant: Grant,
    facts: DirectoryFacts,
    term: u32,
    streams: Vec<Stream>,
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Import({:?}, {:?})", self.facts, self.grant)
    }
}

impl Import {
    /// Begins in `config.dir`, which is missing, empty, or what an import left that did not end.
    /// Blocks. Of the settings only `dir` and `direct` count.
    ///
    /// # Errors
    /// `Invalid` for a directory with anything else in it and for facts that cannot be;
    /// `Unsupported` when the device needs a larger unit than the batches of the source can have;
    /// `Locked` while another process is at it; `NoSpace`, `Io`.
    pub fn begin(config: &Config, origin: Origin) -> Result<Self> {
        let doing = |e| Error::io(format!("opening {}", config.dir.display()), e);
        let backend = Backend::Blocking;
        let look = OsOptions { backend, create_dir: false, read_only: true, ..Default::default() };
        // Before the probe, which writes a file.
        if let Ok(there) = OsStorage::open(&config.dir, look) {
            refuse_used(&there)?;
        }
        let options = OsOptions { backend, direct: config.direct, ..OsOptions::default() };
        let storage = OsStorage::open(&config.dir, options).map_err(doing)?;
        Self::begin_on(Arc::new(storage), origin)
    }

    /// As [`begin`](Self::begin), on any storage: how the simulator restores.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_on(storage: Arc<dyn Storage>, origin: Origin) -> Result<Self> {
        let facts = facts_here(&*storage, &origin)?;
        refuse_used(&*storage)?;
        let grant = DirectoryLock.acquire(&*storage)?;
        // Once more: somebody may have been faster.
        let unfinished = refuse_used(&*storage)?;
        if unfinished {
            clear(&*storage)?;
        } else {
            begin(&*storage)?;
        }
        let term = origin.term.max(1);
        let stream = |shard| Stream::new(ShardId(shard), facts, term);
        let streams = (0..facts.shards).map(stream).collect();
        Ok(Self { storage, grant, facts, term, streams })
    }

    /// What the new directory is made with.
    #[must_use]
    pub fn facts(&self) -> &DirectoryFacts {
        &self.facts
    }

    /// The damage to tell where records of a log are nowhere to be had; `lost` when somebody chose
    /// to go on without them.
    #[must_use]
    pub fn missing(log: LogId, first: Lsn, last: Lsn, lost: bool) -> DamageFacts {
        DamageFacts {
            log: Some(log),
            first_lsn: first,
            last_lsn: Some(last),
            segment: SegmentId(0),
            reason: MISSING,
            lost,
            ..DamageFacts::default()
        }
    }

    /// Adds a record, or the next fragment of one: its bytes as they stand in a batch or an object,
    /// with their header, zeroes to a multiple of 8 included. They are believed here, and checked
    /// when all of it is read back. Blocks for a write now and then; memory is a batch per shard,
    /// or a record in fragments.
    ///
    /// # Errors
    /// `Invalid` for a record of no shard of this directory, or one that is not behind those of its
    /// log that are there; `NoSpace`, `Io`.
    pub fn push(&mut self, header: &RecordHeader, framed: &[u8]) -> Result<()> {
        let shard = header.log.shard();
        let stream = self.streams.get_mut(usize::from(shard.0));
        let stream = stream.ok_or_else(|| Error::Invalid(format!("there is no shard {shard}")))?;
        stream.push(&*self.storage, header, framed)
    }

    /// Makes a directory of it. `shards` say what exists, one frame for each shard, in order: logs
    /// (with the start and the tail that they have here, and without segments), cuts, cursors,
    /// damage, the next log. What is missing between a log's start and tail and is no damage is
    /// taken for the archive's. Blocks until all of it is durable and was read back.
    ///
    /// # Errors
    /// `Invalid` for frames that do not fit what was pushed; `Corrupt` when what was written reads
    /// back otherwise; `NoSpace`, `Io`.
    pub fn finish(self, shards: Vec<Frame>) -> Result<ImportReport> {
        let Self { storage, grant, facts, term, streams } = self;
        if shards.len() != streams.len() {
            return Err(Error::Invalid(format!(
                "{} frames for {} shards",
                shards.len(),
                facts.shards
            )));
        }
        let mut report = ImportReport::default();
        let mut states = Vec::new();
        for (mut stream, frame) in streams.into_iter().zip(shards) {
            stream.end(&*storage)?;
            states.push((state_of(&stream, frame, facts, term)?, stream.seq()));
        }
        storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))?;
        for (number, (state, seq)) in states.into_iter().enumerate().rev() {
            report.segments += state.segments.len() as u64;
            report.bytes += state.segments.values().map(|facts| facts.bytes).sum::<u64>();
            let damages = make_true(&storage, ShardId(number as u16), state, seq)?;
            report.damages.extend(damages);
        }
        end(&*storage)?;
        grant.release()?;
        Ok(report)
    }
}

/// What the new directory is made with: the source's, on this device.
fn facts_here(storage: &dyn Storage, origin: &Origin) -> Result<DirectoryFacts> {
    let mut facts = origin.facts;
    facts.unit = facts.unit.max(storage.probe().unit.value);
    let unit = facts.unit;
    let sane = facts.shards > 0
        && is_unit(unit)
        && facts.segment_bytes > 2 * u64::from(unit)
        && u64::from(facts.batch_bytes_max) < facts.segment_bytes;
    if !sane {
        return Err(Error::Invalid("facts of a directory that cannot be".into()));
    }
    let fits = facts.segment_bytes.is_multiple_of(u64::from(unit))
        && facts.batch_bytes_max.is_multiple_of(unit);
    if !fits {
        return Err(Error::Unsupported(format!(
            "the device needs units of {unit} bytes, and the source's segments and batches are no \
             multiples of it"
        )));
    }
    if !origin.keep_lineage {
        facts.lineage = storage.random_u64();
    }
    Ok(facts)
}

/// True when an import, or a backup, began here and did not end.
fn refuse_used(storage: &dyn Storage) -> Result<bool> {
    let files = open::list(storage)?;
    let unfinished = files.iter().any(|(_, name)| *name == Name::Unfinished);
    let strange = files.iter().find(|(_, name)| match name {
        Name::Lock | Name::Probe | Name::Unfinished => false,
        Name::Foreign => true,
        _ => !unfinished,
    });
    match strange {
        None => Ok(unfinished),
        Some((name, _)) => Err(Error::Invalid(format!(
            "records are restored into an empty or a missing directory; there is {name:?}"
        ))),
    }
}

/// Removes what is left of an import that did not end. Its mark stays.
fn clear(storage: &dyn Storage) -> Result<()> {
    for (name, kind) in open::list(storage)? {
        if !matches!(kind, Name::Lock | Name::Probe | Name::Unfinished | Name::Foreign) {
            storage.remove(&name).map_err(|e| Error::io(format!("removing {name}"), e))?;
        }
    }
    storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))
}

/// What the manifest of a shard would say, had it written these batches and crashed.
fn state_of(stream: &Stream, frame: Frame, facts: DirectoryFacts, term: u32) -> Result<State> {
    let mut state = State { facts, term, ..State::default() };
    for edit in &frame.edits {
        match edit {
            Edit::Log(log) if log.id.shard() == stream.shard => {
                let away = log.tail > log.start && !stream.has(log.id);
                // Led to a segment that is not here, a reader asks the archive.
                let (segment, ordinal, first_lsn) = (SegmentId(0), 0, log.start);
                let link = away.then_some(Link { segment, ordinal, first_lsn });
                let chain = Chain { links: link.into_iter().collect() };
                state.apply(&Edit::Log(LogFacts { chain, ..log.clone() }));
            }
            Edit::Cut { log, .. } | Edit::Cursor { log, .. } if state.logs.contains(*log) => {
                state.apply(edit);
            }
            Edit::Damage(_) | Edit::NextLog { .. } => state.apply(edit),
            Edit::Directory(_) => {}
            other => return Err(Error::Invalid(format!("a directory is not made of {other:?}"))),
        }
    }
    for (log, next) in stream.tails() {
        let known = state.logs.get(log).is_some_and(|log| log.tail >= next);
        if !known {
            return Err(Error::Invalid(format!(
                "log {log} ends below LSN {next}, or is not there"
            )));
        }
    }
    stream.segments().for_each(|edit| state.apply(&edit));
    Ok(state)
}

/// Recovers what was written: indexes, and the manifest, last.
fn make_true(
    storage: &Arc<dyn Storage>,
    shard: ShardId,
    state: State,
    durable: u64,
) -> Result<Vec<String>> {
    let (powers, progress) = (&Powers::default(), &AtomicU64::new(0));
    let (mode, write, keep_to) = (Recovery::TolerateTail, true, durable);
    let plan = Plan { storage, shard, mode, write, keep_to, powers, progress };
    let told = state.damages.len();
    let loaded = Loaded { state, cursor: Cursor::default(), durable, repaired: Vec::new() };
    let recovered = recover(&plan, loaded)?;
    if recovered.durable != durable || recovered.state.damages.len() != told {
        let what = recovered.report.damages.join("; ");
        let source = Arc::new(std::io::Error::other(format!(
            "what was written reads back otherwise: {what}"
        )));
        return Err(Error::Io { doing: format!("restoring shard {shard}"), source });
    }
    if recovered.view.segments.values().any(|seen| seen.owed.is_some()) {
        return Err(Error::NoSpace("writing the indexes".into()));
    }
    Ok(recovered.report.damages)
}
