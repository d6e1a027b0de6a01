//! Waiting and waking: one word on which threads sleep, and a list of wakers for futures.
//!
//! Invariants: the notifier changes the state first and notifies after; a sleeper looks at the
//! state after it has read the word, so no wake is lost. Sleepers wake by one call; with nobody
//! waiting, a notification makes no system call and takes no lock.
//!
//! Not here: what is waited for.

use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::io::{Clock, futex};
use crate::races::{Race, raced};
use crate::sync::atomic::{AtomicU32, Ordering, fence};

/// How often one of a crowd lets the others run before it sleeps.
const YIELDS: u32 = 8;

/// Waiting threads for each processor that are a crowd.
const CROWD: u32 = 8;

/// How many threads wait for batches. Of a crowd none sleeps at once.
///
/// The story: 256 threads that waited for one batch slept, and waking them took the shard 600 of
/// the 740 µs of a cycle. Where many more threads wait than there are processors, one that lets the
/// others run comes round again when they all have run, which is about when the write is done: it
/// finds its outcome, and nobody need wake it. Where few wait it would come round at once, and keep
/// the shard from its processor: one writer took 145 µs for 97, and twice the processor time.
#[derive(Debug)]
pub(crate) struct Crowd {
    waiting: AtomicU32,
    enough: u32,
}

impl Crowd {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let enough = clock.processors().saturating_mul(CROWD);
        Self { waiting: AtomicU32::new(0), enough }
    }

    /// Waits for what `look` gives: by `sleep`, in a crowd after having let others run.
    pub(crate) fn wait<T>(
        &self,
        clock: &dyn Clock,
        look: impl Fn() -> Option<T>,
        sleep: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        // A hint: nobody relies on the count being exact at any moment.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let yields = if waiting < self.enough { 0 } else { YIELDS };
        let yielded = (0..yields).find_map(|_| {
            let found = look();
            if found.is_none() {
                clock.yield_now();
            }
            found
        });
        let found = yielded.or_else(sleep);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        found
    }
}

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
            let late = raced(Race::LookedTooEarly);
            let seen = if late { self.word.load(Ordering::SeqCst) } else { seen };
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

    /// A clock that stands still and counts who lets others run.
    #[derive(Default)]
    struct Yielded(AtomicU32);

    impl Clock for Yielded {
        fn wall_us(&self) -> u64 {
            0
        }
        fn mono_ns(&self) -> u64 {
            0
        }
        fn sleep(&self, _: Duration) {}
        fn yield_now(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        fn processors(&self) -> u32 {
            2
        }
    }

    #[test]
    fn few_sleep_at_once_and_a_crowd_lets_others_run_first() {
        let clock = Yielded::default();
        let crowd = Crowd::new(&clock);
        let yields = || clock.0.swap(0, Ordering::SeqCst);
        for _ in 0..2 * CROWD {
            assert_eq!(crowd.wait(&clock, || None, || Some(3)), Some(3), "it slept");
            assert_eq!(yields(), 0);
        }
        assert_eq!(crowd.waiting.load(Ordering::SeqCst), 0, "who found it waits no longer");
        crowd.waiting.store(2 * CROWD, Ordering::SeqCst);
        assert_eq!(crowd.wait(&clock, || None, || Some(3)), Some(3), "it slept in the end");
        assert_eq!(yields(), YIELDS);
        let second = || (clock.0.load(Ordering::SeqCst) == 2).then_some(7);
        assert_eq!(crowd.wait(&clock, second, || Some(3)), Some(7), "nobody slept");
        assert_eq!(yields(), 2);
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
