//! Waiting and waking: one word on which threads sleep, and a list of wakers for futures.
//!
//! Invariants: the notifier changes the state first and notifies after; a sleeper looks at the
//! state after it has read the word, so no wake is lost. Sleepers wake by one call; with nobody
//! waiting, a notification makes no system call and takes no lock.
//!
//! Not here: what is waited for.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::io::{Clock, futex};

/// A place to wait.
#[derive(Default)]
pub(crate) struct WaitWord {
    word: AtomicU32,
    sleepers: AtomicU32,
    wakers: AtomicU32,
    list: Mutex<Vec<Waker>>,
}

impl WaitWord {
    /// Sleeps until `look` gives something; `None` when `limit` is over first.
    pub(crate) fn sleep<T>(
        &self,
        clock: &dyn Clock,
        limit: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = look() {
            return Some(found);
        }
        let deadline = limit.map(|l| clock.mono_ns().saturating_add(l.as_nanos() as u64));
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            let seen = self.word.load(Ordering::SeqCst);
            if let Some(found) = look() {
                break Some(found);
            }
            let left = match deadline.map(|end| end.saturating_sub(clock.mono_ns())) {
                Some(0) => break None,
                other => other.map(Duration::from_nanos),
            };
            futex::wait(&self.word, seen, left);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Has `waker` woken by the next notification. The caller must look once more afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut bigger: Vec<Waker> = Vec::new();
        loop {
            let mut list = self.list.lock();
            if list.iter().any(|w| w.will_wake(waker)) {
                break;
            }
            if list.len() == list.capacity() {
                // Grow outside of the lock: the notifier must never wait for an allocation.
                if bigger.capacity() > list.len() {
                    bigger.append(&mut list);
                    std::mem::swap(&mut *list, &mut bigger);
                } else {
                    let want = (list.len() * 2).max(16);
                    drop(list);
                    bigger.reserve(want);
                    continue;
                }
            }
            list.push(waker.clone());
            self.wakers.store(list.len() as u32, Ordering::SeqCst);
            break;
        }
        fence(Ordering::SeqCst);
    }

    /// Wakes everybody. `scratch` is a vector to swap the wakers into: nothing is allocated.
    pub(crate) fn notify(&self, scratch: &mut Vec<Waker>) {
        if self.tell(scratch) != 0 {
            futex::wake_all(&self.word);
        }
    }

    #[cfg(test)]
    pub(crate) fn sleepers(&self) -> u32 {
        self.sleepers.load(Ordering::SeqCst)
    }

    /// Wakes at most `n` sleepers; how many there were.
    pub(crate) fn wake(&self, n: u32) -> u32 {
        u32::try_from(futex::wake_n(&self.word, n.min(i32::MAX.unsigned_abs()))).unwrap_or(n)
    }

    /// Wakes the futures; nobody falls asleep any more over what they saw before. How many sleep,
    /// at most: they are still to be woken.
    pub(crate) fn tell(&self, scratch: &mut Vec<Waker>) -> u32 {
        self.word.fetch_add(1, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if self.wakers.load(Ordering::SeqCst) != 0 {
            let mut list = self.list.lock();
            std::mem::swap(&mut *list, scratch);
            self.wakers.store(0, Ordering::SeqCst);
            drop(list);
            scratch.drain(..).for_each(Waker::wake);
        }
        sleepers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_registered_waker_is_woken_once() {
        let word = WaitWord::default();
        let flags: Vec<_> = (0..40).map(|_| Arc::new(Flag(AtomicBool::new(false)))).collect();
        for flag in &flags {
            let waker = Waker::from(Arc::clone(flag));
            word.register(&waker);
            word.register(&waker);
        }
        word.notify(&mut Vec::new());
        assert!(flags.iter().all(|f| f.0.load(Ordering::SeqCst)));
        assert_eq!(word.list.lock().len(), 0);
    }
}
