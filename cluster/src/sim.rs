//! A simulated etcd: one map with revisions, and whatever a test does between a question and its
//! answer.
//!
//! Invariants: gets and conditional puts are linearizable, as they are over a real one; what a hook
//! does at a moment happens exactly there, suspending the asker included.
//!
//! Not here: time. It passes on the clock of the storage, when something is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::transport::{Failure, Revision, Transport};

/// Where a question is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Decided, not yet sent.
    Before,
    /// Done, the answer not yet there.
    After,
}

/// What becomes of a question at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Goes,
    /// It, or its answer, is lost here.
    Lost,
}

/// Told of each question, at both moments, and whether it is a put; decides what becomes of it.
pub type Hook = Box<dyn FnMut(Moment, bool) -> Fate + Send>;

#[derive(Default)]
struct State {
    revision: Revision,
    keys: BTreeMap<String, (Revision, Vec<u8>)>,
}

/// A node's way to a simulated etcd.
#[derive(Clone, Default)]
pub struct SimEtcd {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl SimEtcd {
    /// Another node's way to the same etcd, with a hook of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { state: Arc::clone(&self.state), hook: Arc::default() }
    }

    /// What happens to questions on this way from now on.
    pub fn hook(&self, hook: impl FnMut(Moment, bool) -> Fate + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// Others put keys too: revisions move on.
    pub fn others_write(&self) {
        self.state.lock().revision += 1;
    }

    /// The hook may itself come to this etcd: nothing is locked meanwhile but the hook, which a
    /// question of its own passes by.
    fn at(&self, moment: Moment, put: bool) -> Result<(), Failure> {
        let hook = self.hook.lock().take();
        let Some(mut hook) = hook else { return Ok(()) };
        let fate = hook(moment, put);
        self.hook.lock().get_or_insert(hook);
        match fate {
            Fate::Goes => Ok(()),
            Fate::Lost => Err(Failure::Unknown("lost".to_owned())),
        }
    }
}

impl Transport for SimEtcd {
    fn get(&self, key: &str) -> Result<Option<(Revision, Vec<u8>)>, Failure> {
        self.at(Moment::Before, false)?;
        let found = self.state.lock().keys.get(key).cloned();
        self.at(Moment::After, false)?;
        Ok(found)
    }

    fn put_if(
        &self,
        key: &str,
        revision: Revision,
        value: &[u8],
    ) -> Result<Option<Revision>, Failure> {
        self.at(Moment::Before, true)?;
        let mut state = self.state.lock();
        let has = state.keys.get(key).map_or(0, |(revision, _)| *revision);
        let put = (has == revision).then(|| {
            state.revision += 1;
            let new = state.revision;
            state.keys.insert(key.to_owned(), (new, value.to_vec()));
            new
        });
        drop(state);
        self.at(Moment::After, true)?;
        Ok(put)
    }
}
