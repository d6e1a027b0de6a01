//! Waiting on a word of memory: one system call wakes everyone who waits for the same word.
//!
//! Invariants: a wait returns at once when the word is no longer what the caller saw, so a wake
//! between look and wait is never lost; a wait may return for no reason, so callers look again.
//!
//! Not here: what the words mean (acks, watermarks); the two as the models have them
//! (`models/src/parker.rs`).

#[cfg(not(sapwood_models))]
use std::time::Duration;

#[cfg(not(sapwood_models))]
use rustix::io::Errno;
#[cfg(not(sapwood_models))]
use rustix::thread::futex::{Flags, Timespec, wait as futex_wait, wake as futex_wake};

use crate::sync::atomic::AtomicU32;
#[cfg(sapwood_models)]
pub use crate::sync::parker::{wait, wake_n};

/// Parks while `*word == expected`, at most for `timeout`. False: the time is up.
#[cfg(not(sapwood_models))]
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
    // A duration beyond what the kernel can count is for ever.
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    futex_wait(word, Flags::PRIVATE, expected, timeout.as_ref()) != Err(Errno::TIMEDOUT)
}

/// Wakes everyone who waits on `word`; how many there were.
pub fn wake_all(word: &AtomicU32) -> usize {
    // The kernel takes a signed count.
    wake_n(word, i32::MAX.unsigned_abs())
}

/// Wakes at most `n` of those who wait on `word`; how many there were.
#[cfg(not(sapwood_models))]
pub fn wake_n(word: &AtomicU32, n: u32) -> usize {
    futex_wake(word, Flags::PRIVATE, n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_does_not_park() {
        let word = AtomicU32::new(1);
        assert!(wait(&word, 0, None));
    }

    #[test]
    fn time_is_up() {
        let word = AtomicU32::new(0);
        assert!(!wait(&word, 0, Some(Duration::from_millis(2))));
    }

    #[test]
    fn one_wake_wakes_all() {
        let word = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let word = Arc::clone(&word);
                std::thread::spawn(move || {
                    while word.load(Ordering::Acquire) == 0 {
                        wait(&word, 0, None);
                    }
                })
            })
            .collect();
        word.store(1, Ordering::Release);
        wake_all(&word);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
