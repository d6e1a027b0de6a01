//! What a tier has proven is listed, with what changed about the logs: one manifest for both.
//!
//! Invariants: control objects are written before the manifest that lists them; nothing is listed
//! in a history that is not this directory's own. After an error the same may be listed again.
//! Not here: uploading, marking, when (`tier`).

use std::collections::BTreeMap;
use std::sync::Arc;

use sapwood::format::manifest::DirectoryFacts;
use sapwood::{Engine, SegmentId, ShardId};

use super::facts::Facts;
use super::{Author, Contents, Entry, NotListed, Remote};
use crate::layout::Named;
use crate::store::ObjectStore;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    engine: Engine,
    store: Arc<dyn ObjectStore>,
    writer: u64,
    open: Option<(Remote, Facts)>,
}

/// The directory as it is now, to hold a history against.
struct Own {
    term: u32,
    /// The durable sequence of each shard.
    durable: BTreeMap<ShardId, u64>,
    /// The last batch of each segment that is sealed here.
    sealed: BTreeMap<(ShardId, SegmentId), u64>,
}

impl Own {
    fn of(engine: &Engine) -> Result<Self, NotListed> {
        let (mut term, mut durable) = (0, BTreeMap::new());
        for shard in (0..engine.facts().shards).map(ShardId) {
            let frame = engine.log_facts(shard, &[])?;
            term = term.max(frame.term);
            durable.insert(shard, frame.durable);
        }
        let sealed = engine.sealed_segments();
        let sealed = sealed.iter().map(|one| ((one.shard, one.segment), one.last_seq));
        Ok(Self { term, durable, sealed: sealed.collect() })
    }

    /// A segment ends in one way.
    fn check_ends(&self, contents: &Contents, proven: &[(Named, Entry)]) -> Result<(), String> {
        for (own, _) in proven {
            let first = Named { last_seq: 0, last_crc: 0, again: 0, ..*own };
            let same = |name: &&Named| (name.shard, name.segment) == (own.shard, own.segment);
            let mut listed = contents.objects.range(first..).map(|(name, _)| name).take_while(same);
            let (shard, segment) = (own.shard, own.segment);
            if listed.any(|name| (name.last_seq, name.last_crc) != (own.last_seq, own.last_crc)) {
                return Err(format!(
                    "the tier has another segment {segment} of shard {shard}: a copy of this \
                     directory goes on elsewhere. One of the two needs another URL"
                ));
            }
        }
        Ok(())
    }

    fn check(&self, contents: &Contents) -> Result<(), String> {
        for name in contents.objects.keys() {
            let (shard, segment) = (name.shard, name.segment);
            if self.durable.get(&shard).is_none_or(|durable| name.last_seq > *durable) {
                return Err(format!(
                    "the tier has segment {segment} of shard {shard} up to batch {}, which this \
                     directory never wrote: it is older than its tier, or a copy of it goes on \
                     elsewhere. Restore it from the tier",
                    name.last_seq
                ));
            }
            let own = self.sealed.get(&(shard, segment));
            if own.is_some_and(|last_seq| *last_seq != name.last_seq) {
                return Err(format!(
                    "the tier has segment {segment} of shard {shard} with another end than this \
                     directory: a copy of it goes on elsewhere. One of the two needs another URL"
                ));
            }
        }
        Ok(())
    }
}

impl Keeper {
    pub(crate) fn new(engine: Engine, store: Arc<dyn ObjectStore>, writer: u64) -> Self {
        Self { engine, store, writer, open: None }
    }

    /// Lists objects that are proven; with `facts`, also what changed about the logs. Blocks.
    pub(crate) fn list(
        &mut self,
        proven: &[(Named, Entry)],
        facts: bool,
        time_us: u64,
    ) -> Result<(), NotListed> {
        let own = Own::of(&self.engine)?;
        let DirectoryFacts { directory, lineage, .. } = *self.engine.facts();
        let author = Author { directory, lineage, term: own.term, writer: self.writer };
        if self.open.is_none() {
            let remote = Remote::open(Arc::clone(&self.store), author)?;
            let facts = Facts::load(&*self.store, &author, remote.contents())?;
            self.open = Some((remote, facts));
        }
        let Some((remote, known)) = &mut self.open else { return Ok(()) };
        remote.set_term(own.term);
        own.check(remote.contents()).map_err(NotListed::Foreign)?;
        let told = match facts {
            true => known.write(&*self.store, &self.engine, &author, time_us)?,
            false => None,
        };
        let change = |contents: &mut Contents| {
            contents.objects.extend(proven.iter().copied());
            if let Some(told) = &told {
                if told.base {
                    contents.controls.clear();
                }
                contents.controls.retain(|one| one.number != told.entry.number);
                contents.controls.push(told.entry);
            }
        };
        let check = |contents: &Contents| {
            own.check(contents).and_then(|()| own.check_ends(contents, proven))
        };
        remote.commit(time_us, &check, &change)?;
        if let Some(told) = told {
            known.accept(told);
        }
        Ok(())
    }
}
