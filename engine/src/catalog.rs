//! The catalog: which logs there are, by name and by id.
//!
//! Invariants: a name stands for one log; ids are never reused; a log enters the catalog only after
//! its creation is durable.
//!
//! Not here: what is in the logs (`view`), making creation durable (`engine`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::manifest::{LogFacts, LogSettings};
use crate::lsn::{LogId, ShardId};

/// The longest name of a log or a group, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// A log's entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: LogId,
    pub name: Arc<str>,
    pub group: Option<Arc<str>>,
    pub settings: LogSettings,
    pub created_us: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Catalog {
    by_name: HashMap<Arc<str>, LogId>,
    entries: BTreeMap<LogId, Entry>,
    groups: HashMap<Arc<str>, ShardId>,
    next: Vec<u64>,
}

impl Catalog {
    pub(crate) fn new(shards: u16) -> Self {
        Self { next: vec![0; usize::from(shards)], ..Self::default() }
    }

    /// Adds what a shard's manifest knows.
    pub(crate) fn add(&mut self, facts: &LogFacts) {
        let name: Arc<str> = facts.name.as_str().into();
        let group: Option<Arc<str>> = facts.group.as_deref().map(Into::into);
        self.by_name.insert(Arc::clone(&name), facts.id);
        if let Some(group) = &group {
            self.groups.insert(Arc::clone(group), facts.id.shard());
        }
        let (id, settings, created_us) = (facts.id, facts.settings, facts.created_us);
        self.entries.insert(id, Entry { id, name, group, settings, created_us });
        self.reserve(id.shard(), id.counter() + 1);
    }

    /// Ids below this counter are taken.
    pub(crate) fn reserve(&mut self, shard: ShardId, next: u64) {
        let slot = &mut self.next[usize::from(shard.0)];
        *slot = (*slot).max(next);
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.get(self.by_name.get(name)?)
    }

    pub(crate) fn get(&self, id: LogId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn set(&mut self, id: LogId, settings: LogSettings) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.settings = settings;
        }
    }

    /// The log is gone: its name is free, its id is never given again.
    pub(crate) fn remove(&mut self, id: LogId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if self.by_name.get(&entry.name) == Some(&id) {
            self.by_name.remove(&entry.name);
        }
    }

    /// A shard was reopened: these are its logs. What was asked for when it failed, and not
    /// answered, is found or not.
    pub(crate) fn replace<'a>(
        &mut self,
        shard: ShardId,
        next: u64,
        logs: impl Iterator<Item = &'a LogFacts>,
    ) {
        let old: Vec<LogId> =
            self.entries.keys().copied().filter(|id| id.shard() == shard).collect();
        old.into_iter().for_each(|id| self.remove(id));
        self.reserve(shard, next);
        for facts in logs {
            // Created anew on another shard meanwhile, which was answered: that one has the name.
            match self.by_name.get(facts.name.as_str()).copied() {
                Some(other) => tracing::warn!(name = %facts.name, %other, "a log has two ids"),
                None => self.add(facts),
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Gives a new log its id: on the shard of its group, else on the one with the fewest.
    pub(crate) fn assign(&mut self, group: Option<&str>) -> LogId {
        let fewest = |next: &[u64]| {
            let least = next.iter().enumerate().min_by_key(|(_, n)| **n);
            ShardId(least.map_or(0, |(shard, _)| shard as u16))
        };
        let known = group.and_then(|group| self.groups.get(group).copied());
        let shard = known.unwrap_or_else(|| fewest(&self.next));
        if let Some(group) = group {
            self.groups.entry(group.into()).or_insert(shard);
        }
        let counter = &mut self.next[usize::from(shard.0)];
        let id = LogId::new(shard, *counter);
        *counter += 1;
        id
    }
}

/// Refuses names that nobody could type or print.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "a {what}'s name has 1 to {NAME_BYTES_MAX} bytes; this one has {}",
            name.len()
        )));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control()) {
        return Err(Error::Invalid(format!("a {what}'s name cannot contain {bad:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_stays_on_one_shard_and_others_spread() {
        let mut catalog = Catalog::new(3);
        let first = catalog.assign(Some("g")).shard();
        assert!((0..10).all(|_| catalog.assign(Some("g")).shard() == first));
        let shards: std::collections::HashSet<_> =
            (0..10).map(|_| catalog.assign(None).shard()).collect();
        assert_eq!(shards.len(), 2, "the crowded shard is left alone");
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("log", "orders/eu – 1").is_ok());
        let long = "x".repeat(256);
        for bad in ["", "a\nb", "\u{7f}", long.as_str()] {
            assert!(matches!(check_name("log", bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }
}
