//! The part of `parking_lot` that the engine uses, over threads whose steps shuttle chooses.
//!
//! Invariants: a waiter is in the queue before it lets the lock go, so a notification in between
//! finds it; it may wake for no reason. Time is nobody's: whoever waits with a limit is out of time
//! after some steps of others.
//!
//! Not here: locks themselves (`shuttle-parking_lot-impl`).

use std::collections::VecDeque;
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use shuttle::rand::Rng;
use shuttle::thread::{self, Thread};
pub use shuttle_parking_lot_impl::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Steps that others are given before the time is up, at most.
const STEPS_MAX: u32 = 6;

/// Whether a wait ended because the time was up.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// It did.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// Those who wait, in order of arrival. The inner lock is never held over a step of the schedule.
#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<(u64, Thread)>,
}

/// A condition to wait for.
#[derive(Default)]
pub struct Condvar(StdMutex<Queue>);

impl Condvar {
    /// Lets the lock go and sleeps until notified, or for no reason.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let own = self.enter();
        MutexGuard::unlocked(guard, thread::park);
        self.leave(own);
    }

    /// As [`wait`](Self::wait), until the time is up.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        let own = self.enter();
        MutexGuard::unlocked(guard, || {
            for _ in 0..shuttle::rand::thread_rng().gen_range(1..=STEPS_MAX) {
                thread::yield_now();
            }
        });
        WaitTimeoutResult(self.leave(own))
    }

    /// As [`wait_for`](Self::wait_for).
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
        self.wait_for(guard, Duration::ZERO)
    }

    /// Wakes the first who waits.
    pub fn notify_one(&self) -> bool {
        let first = self.queue().waiting.pop_front();
        first.inspect(|(_, thread)| thread.unpark()).is_some()
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) -> usize {
        let all = std::mem::take(&mut self.queue().waiting);
        all.iter().for_each(|(_, thread)| thread.unpark());
        all.len()
    }

    fn enter(&self) -> u64 {
        let own = thread::current();
        let mut queue = self.queue();
        queue.next += 1;
        let number = queue.next;
        queue.waiting.push_back((number, own));
        number
    }

    /// Whether nobody had notified this one.
    fn leave(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let at = queue.waiting.iter().position(|(other, _)| *other == number);
        at.map(|at| queue.waiting.remove(at)).is_some()
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
