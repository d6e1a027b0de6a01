//! Facts of logs that no object would tell: what changed since it was last told, as small control
//! objects.
//!
//! Invariants: a change counts as told once a manifest lists the object that tells it; until then
//! the next one tells it again. A log is told to be deleted only when the engine's manifest has it
//! no more. After `DELTAS_MAX` of them all logs are told anew, in one.
//! Not here: the manifest (`remote`), what facts mean together (`ledger`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use sapwood::format::manifest::{Chain, LogFacts};
use sapwood::format::{Edit, Flaw, Frame};
use sapwood::{Engine, LogId, Lsn, ShardId};

use super::bytes::{ControlEntry, Kind, RemoteHeader, decode_control, encode_control};
use super::{Author, Contents, NotListed};
use crate::layout;
use crate::ledger::Ledger;
use crate::store::{ObjectStore, StoreError};
use crate::whole::{ask, get_checked};

/// Changes that are told one by one before all is told anew.
const DELTAS_MAX: usize = 32;

/// A control object larger than this is refused.
const CONTROL_BYTES_MAX: u64 = 1 << 30;

/// Reads control objects that a manifest lists. One that is gone, or damaged for good, is left out:
/// gives the numbers of those.
pub(crate) fn read_controls(
    store: &dyn ObjectStore,
    directory: u64,
    lineage: u64,
    controls: &[ControlEntry],
    each: &mut dyn FnMut(&Frame),
) -> Result<Vec<u64>, NotListed> {
    let mut missing = Vec::new();
    for control in controls {
        let key = layout::control(directory, lineage, control.number)?;
        if control.bytes > CONTROL_BYTES_MAX {
            missing.push(control.number);
            continue;
        }
        match get_checked(store, &key, control.bytes, decode_control) {
            Ok(Ok((_, frames))) => frames.iter().for_each(&mut *each),
            Ok(Err(flaw)) if flaw.is_unsupported() => return Err(flaw.into()),
            Ok(Err(_)) | Err(StoreError::NotFound | StoreError::Invalid(_)) => {
                missing.push(control.number);
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(missing)
}

/// What is to be told, once it was told.
#[derive(Debug)]
pub(crate) struct Told {
    digests: BTreeMap<LogId, u64>,
    deleted: BTreeSet<LogId>,
    /// The object; it replaces all others when it is a base.
    pub entry: ControlEntry,
    pub base: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Of each log that was told, what was.
    digests: BTreeMap<LogId, u64>,
    deleted: BTreeSet<LogId>,
    deltas: usize,
    /// Control objects are missing: all is to be told anew.
    whole: bool,
    /// The number of the next control object, if nobody takes it.
    next: u64,
}

impl Facts {
    /// What the control objects of a manifest have told.
    pub(crate) fn load(
        store: &dyn ObjectStore,
        author: &Author,
        contents: &Contents,
    ) -> Result<Self, NotListed> {
        let mut ledger = Ledger::default();
        let controls = &contents.controls;
        let Author { directory, lineage, .. } = *author;
        let learn = &mut |frame: &Frame| ledger.learn(frame);
        let missing = read_controls(store, directory, lineage, controls, learn)?;
        let mut facts = Self {
            deltas: controls.len().saturating_sub(1),
            whole: controls.is_empty() || !missing.is_empty(),
            next: controls.iter().map(|one| one.number + 1).max().unwrap_or(1),
            ..Self::default()
        };
        facts.deleted.extend(ledger.deleted());
        // What it told is compared with what is; of which log it told is what counts here.
        facts.digests.extend(ledger.logs.keys().map(|log| (*log, 0)));
        for (log, known) in &ledger.logs {
            let cuts = known.cuts.iter().map(|(epoch, first_lsn)| Edit::Cut {
                log: *log,
                epoch: *epoch,
                first_lsn: *first_lsn,
            });
            let edits: Vec<Edit> =
                std::iter::once(Edit::Log(known.facts.clone())).chain(cuts).collect();
            facts.digests.insert(*log, digest(&edits));
        }
        Ok(facts)
    }

    /// Writes what changed, if anything did.
    pub(crate) fn write(
        &mut self,
        store: &dyn ObjectStore,
        engine: &Engine,
        author: &Author,
        time_us: u64,
    ) -> Result<Option<Told>, NotListed> {
        let base = self.whole || self.deltas >= DELTAS_MAX;
        let (mut frames, mut digests) = (Vec::new(), BTreeMap::new());
        let mut deleted = BTreeSet::new();
        for shard in (0..engine.facts().shards).map(ShardId) {
            let frame = self.look(engine, shard, base, &mut digests, &mut deleted)?;
            // Who rebuilds a directory wants to know of a shard without logs, too.
            if base || frame.edits.len() > 1 {
                frames.push(frame);
            }
        }
        if frames.is_empty() {
            return Ok(None);
        }
        let kind = if base { Kind::Base } else { Kind::Delta };
        let Author { directory, lineage, term, writer } = *author;
        loop {
            let number = self.next;
            let header = RemoteHeader { kind, directory, lineage, number, term, time_us, writer };
            let bytes = encode_control(&header, &frames)?;
            let crc = crc32c::crc32c(&bytes);
            let key = layout::control(directory, lineage, number)?;
            match ask(|| store.put_new(&key, &bytes, crc)) {
                Ok(()) => {
                    let entry = ControlEntry { number, bytes: bytes.len() as u64, crc };
                    self.next += 1;
                    return Ok(Some(Told { digests, deleted, entry, base }));
                }
                // Somebody's, perhaps our own of an earlier try: harmless where it is.
                Err(StoreError::Exists) => self.next += 1,
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// What changed in a shard; for a base, all of it.
    fn look(
        &self,
        engine: &Engine,
        shard: ShardId,
        base: bool,
        digests: &mut BTreeMap<LogId, u64>,
        deleted: &mut BTreeSet<LogId>,
    ) -> Result<Frame, NotListed> {
        let known = self.digests.keys().copied().filter(|log| log.shard() == shard);
        let mut ids: BTreeSet<LogId> = known.collect();
        ids.extend(engine.logs().into_iter().filter(|log| log.shard == shard).map(|log| log.id));
        let ids: Vec<LogId> = ids.into_iter().collect();
        let mut frame = engine.log_facts(shard, &ids).map_err(NotListed::Engine)?;
        let mut of: BTreeMap<LogId, Vec<Edit>> = BTreeMap::new();
        let mut edits = Vec::new();
        for edit in std::mem::take(&mut frame.edits) {
            match log_of(&edit) {
                Some(log) => of.entry(log).or_default().push(edit),
                None => edits.push(edit),
            }
        }
        for log in ids {
            let Some(told) = of.remove(&log) else {
                deleted.insert(log);
                edits.push(Edit::Deleted { log });
                continue;
            };
            let new = digest(&told);
            if base || self.digests.get(&log) != Some(&new) {
                edits.extend(told);
                digests.insert(log, new);
            }
        }
        if base {
            let gone = self.deleted.iter().filter(|log| log.shard() == shard);
            edits.extend(gone.map(|log| Edit::Deleted { log: *log }));
        }
        edits.sort_by_key(|edit| match edit {
            Edit::Directory(_) => 0,
            Edit::Log(_) => 1,
            Edit::Cut { .. } => 2,
            _ => 3,
        });
        frame.edits = edits;
        Ok(frame)
    }

    /// A manifest lists it.
    pub(crate) fn accept(&mut self, told: Told) {
        let Told { digests, deleted, base, .. } = told;
        self.digests.extend(digests);
        for log in deleted {
            self.digests.remove(&log);
            self.deleted.insert(log);
        }
        self.deltas = if base { 0 } else { self.deltas + 1 };
        self.whole = false;
    }
}

fn log_of(edit: &Edit) -> Option<LogId> {
    match edit {
        Edit::Log(facts) => Some(facts.id),
        Edit::Cut { log, .. } => Some(*log),
        Edit::Damage(damage) => damage.log,
        _ => None,
    }
}

/// What of a log's facts is worth telling: not where it ends, which its objects tell.
fn digest(edits: &[Edit]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for edit in edits {
        match edit {
            Edit::Log(facts) => {
                LogFacts { tail: Lsn(0), tail_time_us: 0, chain: Chain::default(), ..facts.clone() }
                    .hash(&mut hasher)
            }
            Edit::Cut { epoch, first_lsn, .. } => (epoch, first_lsn).hash(&mut hasher),
            Edit::Damage(damage) => damage.hash(&mut hasher),
            _ => {}
        }
    }
    hasher.finish()
}

impl From<sapwood::Error> for NotListed {
    fn from(e: sapwood::Error) -> Self {
        Self::Engine(e)
    }
}

impl NotListed {
    /// Whether it may be well by itself, later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Engine(_) | Self::Fenced { .. } | Self::Foreign(_) => false,
            Self::Flaw(flaw) => !matches!(flaw, Flaw::Version { .. } | Flaw::Incompat { .. }),
        }
    }
}
