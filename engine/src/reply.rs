//! A place for one answer, waited for by a thread.
//!
//! Not here: answers of appends, which are too many for a place each (`intake`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Result;

/// See the module.
#[derive(Default)]
pub(crate) struct Reply {
    answer: Mutex<Option<Result<()>>>,
    set: Condvar,
}

impl Reply {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Answers. The first answer counts.
    pub(crate) fn set(&self, answer: Result<()>) {
        self.answer.lock().get_or_insert(answer);
        self.set.notify_all();
    }

    /// The answer, if it is there.
    pub(crate) fn get(&self) -> Option<Result<()>> {
        self.answer.lock().clone()
    }

    /// Waits for the answer; `None` when `limit` is over first.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Option<Result<()>> {
        let mut answer = self.answer.lock();
        while answer.is_none() {
            match limit {
                None => self.set.wait(&mut answer),
                Some(limit) => {
                    if self.set.wait_for(&mut answer, limit).timed_out() {
                        break;
                    }
                }
            }
        }
        answer.clone()
    }
}
