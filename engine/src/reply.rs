//! A place for one answer, waited for by a thread or a task.
//!
//! Not here: answers of appends, which are too many for a place each (`intake`).

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::races::{Race, raced};

/// See the module.
#[derive(Default)]
pub(crate) struct Reply {
    answer: Mutex<Option<Result<()>>>,
    set: Condvar,
    waker: Mutex<Option<Waker>>,
    /// Done by who answers, before anybody sees that it went well.
    first: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Reply {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A place for an answer which, if it is good, is given after `first` was done.
    pub(crate) fn after(first: Box<dyn FnOnce() + Send>) -> Arc<Self> {
        Arc::new(Self { first: Mutex::new(Some(first)), ..Self::default() })
    }

    /// Answers. The first answer counts.
    pub(crate) fn set(&self, answer: Result<()>) {
        let first = self.first.lock().take();
        if let (Ok(()), Some(first)) = (&answer, first) {
            first();
        }
        if raced(Race::AnswerAfterWake) {
            self.wake();
        }
        self.answer.lock().get_or_insert(answer);
        if !raced(Race::AnswerAfterWake) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.set.notify_all();
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has `waker` woken by the answer. The caller must look once more afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        let old = self.waker.lock().replace(waker.clone());
        drop(old);
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
