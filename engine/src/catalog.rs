//! The catalog: which logs there are, by name and by id.
//!
//! Invariants: a name stands for one log; ids are never reused; a log enters the catalog only after
//! its creation is durable. A name is in memory once, whoever holds it.
//!
//! Not here: what is in the logs (`view`), making creation durable (`engine`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::manifest::{LogFacts, LogSettings};
use crate::lsn::{LogId, ShardId};
use crate::table::Table;

/// The longest name of a log or a group, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// What most logs do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Special {
    pub group: Option<Arc<str>>,
    pub settings: LogSettings,
    pub flags: u32,
}

impl Special {
    /// Takes memory only when there is something to say.
    pub(crate) fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    pub(crate) fn of(shared: Option<&Arc<Self>>) -> Self {
        shared.map(|special| (**special).clone()).unwrap_or_default()
    }
}

/// A log's entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: LogId,
    pub name: Arc<str>,
    pub created_us: u64,
    special: Option<Arc<Special>>,
}

impl Entry {
    pub(crate) fn new(
        id: LogId,
        name: &Arc<str>,
        created_us: u64,
        special: Option<Arc<Special>>,
    ) -> Self {
        Self { id, name: Arc::clone(name), created_us, special }
    }

    /// That of a log which was just created.
    pub(crate) fn of(facts: &LogFacts) -> Self {
        let (group, settings, flags) = (facts.group.clone(), facts.settings, facts.flags);
        let special = Special { group, settings, flags }.shared();
        Self::new(facts.id, &facts.name, facts.created_us, special)
    }

    pub(crate) fn group(&self) -> Option<&Arc<str>> {
        self.special.as_ref()?.group.as_ref()
    }

    pub(crate) fn settings(&self) -> LogSettings {
        self.special.as_ref().map(|special| special.settings).unwrap_or_default()
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Catalog {
    by_name: HashMap<Arc<str>, LogId>,
    /// Per shard, by the counter of the id.
    entries: Vec<Table<Entry>>,
    groups: HashMap<Arc<str>, ShardId>,
    next: Vec<u64>,
}

impl Catalog {
    pub(crate) fn new(shards: u16) -> Self {
        let entries = (0..shards).map(|_| Table::default()).collect();
        Self { next: vec![0; usize::from(shards)], entries, ..Self::default() }
    }

    /// Adds what a shard's manifest knows.
    pub(crate) fn add(&mut self, entry: Entry) {
        let (id, shard) = (entry.id, usize::from(entry.id.shard().0));
        self.by_name.insert(Arc::clone(&entry.name), id);
        if let Some(group) = entry.group() {
            self.groups.insert(Arc::clone(group), id.shard());
        }
        self.entries[shard].insert(id.counter(), entry);
        self.reserve(id.shard(), id.counter() + 1);
    }

    /// So many logs will be added: their names need no table that is outgrown on the way.
    pub(crate) fn expect(&mut self, logs: usize) {
        self.by_name.reserve(logs);
    }

    /// Ids below this counter are taken.
    pub(crate) fn reserve(&mut self, shard: ShardId, next: u64) {
        let slot = &mut self.next[usize::from(shard.0)];
        *slot = (*slot).max(next);
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.get(*self.by_name.get(name)?)
    }

    pub(crate) fn get(&self, id: LogId) -> Option<&Entry> {
        self.entries.get(usize::from(id.shard().0))?.get(id.counter())
    }

    pub(crate) fn set(&mut self, id: LogId, settings: LogSettings) {
        let shard = self.entries.get_mut(usize::from(id.shard().0));
        if let Some(entry) = shard.and_then(|table| table.get_mut(id.counter())) {
            let special = Special::of(entry.special.as_ref());
            entry.special = Special { settings, ..special }.shared();
        }
    }

    /// The log is gone: its name is free, its id is never given again.
    pub(crate) fn remove(&mut self, id: LogId) {
        let shard = self.entries.get_mut(usize::from(id.shard().0));
        let Some(entry) = shard.and_then(|table| table.remove(id.counter())) else { return };
        if self.by_name.get(&entry.name) == Some(&id) {
            self.by_name.remove(&entry.name);
        }
    }

    /// A shard was reopened: these are its logs. What was asked for when it failed, and not
    /// answered, is found or not.
    pub(crate) fn replace(&mut self, shard: ShardId, next: u64, logs: impl Iterator<Item = Entry>) {
        let old: Vec<LogId> =
            self.entries[usize::from(shard.0)].iter().map(|(_, entry)| entry.id).collect();
        old.into_iter().for_each(|id| self.remove(id));
        self.reserve(shard, next);
        for entry in logs {
            // Created anew on another shard meanwhile, which was answered: that one has the name.
            match self.by_name.get(&entry.name).copied() {
                Some(other) => tracing::warn!(name = %entry.name, %other, "a log has two ids"),
                None => self.add(entry),
            }
        }
    }

    /// By id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flat_map(|table| table.iter().map(|(_, entry)| entry))
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
