//! Parking on a word as the models have it: the two calls of `io/futex`, over shuttle's threads.
//!
//! Invariants: comparing and falling asleep is one step, as in the kernel: whoever changes the word
//! before it is seen, and wakes after it finds the sleeper. A wait may end for no reason; one with
//! a limit ends after some steps of others. A wake for `n` wakes the first `n` and is then spent.
//!
//! Not here: what the words mean.

use std::cell::RefCell;
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::thread::{self, Thread};

use super::atomic::{AtomicU32, Ordering};

/// One wait in so many ends before it began.
const SPURIOUS_ONE_IN: u32 = 16;

/// Steps that others are given before the time is up, at most.
const STEPS_MAX: u32 = 6;

thread_local! {
    /// Who sleeps, on which word, in order of arrival. Every thread of a model runs on this one.
    static ASLEEP: RefCell<Vec<(usize, u64, Thread)>> = const { RefCell::new(Vec::new()) };
    static NUMBER: RefCell<u64> = const { RefCell::new(0) };
}

/// Forgets who slept when a model ended badly.
pub fn reset() {
    ASLEEP.with_borrow_mut(Vec::clear);
}

/// Parks while `*word == expected`. False: the time is up.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
    if shuttle::rand::thread_rng().gen_ratio(1, SPURIOUS_ONE_IN) {
        thread::yield_now();
        return true;
    }
    let own = thread::current();
    // The step is taken before the load: nobody runs between it and the push.
    if word.load(Ordering::SeqCst) != expected {
        return true;
    }
    let number = NUMBER.with_borrow_mut(|number| {
        *number += 1;
        *number
    });
    ASLEEP.with_borrow_mut(|asleep| asleep.push((address(word), number, own)));
    match timeout {
        None => thread::park(),
        Some(_) => {
            for _ in 0..shuttle::rand::thread_rng().gen_range(1..=STEPS_MAX) {
                thread::yield_now();
            }
        }
    }
    let slept_on = ASLEEP.with_borrow_mut(|asleep| {
        let at = asleep.iter().position(|(_, other, _)| *other == number);
        at.map(|at| asleep.remove(at)).is_some()
    });
    timeout.is_none() || !slept_on
}

/// Wakes at most `n` of those who wait on `word`; how many there were.
pub fn wake_n(word: &AtomicU32, n: u32) -> usize {
    thread::yield_now();
    let mut woken = Vec::new();
    ASLEEP.with_borrow_mut(|asleep| {
        asleep.retain(|(on, _, thread)| {
            let wakes = *on == address(word) && woken.len() < n as usize;
            if wakes {
                woken.push(thread.clone());
            }
            !wakes
        });
    });
    woken.iter().for_each(Thread::unpark);
    woken.len()
}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word) as usize
}
