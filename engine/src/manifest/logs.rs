//! The logs of a shard's state, each as small as most logs allow: there may be very many.
//!
//! Invariants: a name is in memory once, whoever holds it; what few logs have (a group, settings
//! that differ from the default) takes memory of those few.
//!
//! Not here: what edits do to a log (the module above), the bytes of its entry (`format`).

use std::sync::Arc;

use crate::catalog::{Entry, Special};
use crate::format::manifest::{Chain, LogFacts, LogSettings};
use crate::lsn::{Epoch, LogId, Lsn};
use crate::table::Table;

/// A log, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    pub id: LogId,
    pub name: Arc<str>,
    pub start: Lsn,
    /// As of the last snapshot: the view knows better, and `take_tails` asks it.
    pub tail: Lsn,
    pub tail_time_us: u64,
    pub tail_epoch: Epoch,
    pub created_us: u64,
    /// Each epoch and the LSN it began at, oldest first.
    pub epochs: Box<[(Epoch, Lsn)]>,
    /// Its newest sealed segments as of the last snapshot; in a running shard the view alone has
    /// them.
    pub chain: Chain,
    special: Option<Arc<Special>>,
}

impl LogState {
    pub(crate) fn new(facts: LogFacts) -> Self {
        let LogFacts { id, name, group, settings, start, tail, tail_epoch, .. } = facts;
        Self {
            id,
            name,
            start,
            tail,
            tail_time_us: facts.tail_time_us,
            tail_epoch,
            created_us: facts.created_us,
            epochs: facts.epochs.into_boxed_slice(),
            chain: facts.chain,
            special: Special { group, settings, flags: facts.flags }.shared(),
        }
    }

    /// What its entry says.
    pub(crate) fn facts(&self) -> LogFacts {
        let Special { group, settings, flags } = Special::of(self.special.as_ref());
        LogFacts {
            id: self.id,
            name: Arc::clone(&self.name),
            group,
            settings,
            start: self.start,
            tail: self.tail,
            tail_epoch: self.tail_epoch,
            tail_time_us: self.tail_time_us,
            epochs: self.epochs.to_vec(),
            chain: self.chain.clone(),
            created_us: self.created_us,
            flags,
        }
    }

    pub(crate) fn settings(&self) -> LogSettings {
        self.special.as_ref().map(|special| special.settings).unwrap_or_default()
    }

    pub(crate) fn set(&mut self, settings: LogSettings) {
        let special = Special::of(self.special.as_ref());
        self.special = Special { settings, ..special }.shared();
    }

    /// What the catalog knows of it.
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.id, &self.name, self.created_us, self.special.clone())
    }
}

/// The logs of one shard, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Logs(Table<LogState>);

impl Logs {
    pub(crate) fn get(&self, id: LogId) -> Option<&LogState> {
        self.0.get(id.counter()).filter(|log| log.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LogId) -> Option<&mut LogState> {
        self.0.get_mut(id.counter()).filter(|log| log.id == id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn insert(&mut self, log: LogState) {
        self.0.insert(log.id.counter(), log);
    }

    pub(crate) fn remove(&mut self, id: LogId) {
        self.0.remove(id.counter());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LogState> {
        self.0.iter().map(|(_, log)| log)
    }

    /// Those whose counter is not below, ascending.
    pub(crate) fn from(&self, counter: u64) -> impl Iterator<Item = &LogState> {
        self.0.from(counter).map(|(_, log)| log)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LogState> {
        self.0.values_mut()
    }
}
