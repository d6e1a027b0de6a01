//! Gathering: after an ack, the callers that it woke get to run before the shard looks for work.
//!
//! The story: 64 threads append in a closed loop. A batch of 64 is acked; the shard parks, the
//! first thread to run stages one record and rings; the shard writes that one record, and the other
//! 63 wait for a whole write before theirs begins: every second batch held next to nothing. So the
//! shard steps back for as long as more is staged each time, at most until as much is there as was
//! acked.
//!
//! Invariants:
//! - A batch of one record is followed by nothing: a caller alone never pays.
//! - It ends at the first step that brought nothing, and after [`STEPS_MAX`] in any case.
//! - It is learned whether it pays: one that brought nothing makes the next ones rarer, up to one
//!   in [`REST_MAX`] acks. Arrivals that are no closed loop, and processors that are busy with
//!   other things, so cost next to nothing.
//!
//! Not here: who is woken (`intake`), what a batch is (`commit`), the wait that a user asks for
//! (`commit_delay_us`, in `shard`).

use crate::intake::Intake;
use crate::io::Clock;

/// Steps back after one ack, at most.
const STEPS_MAX: u32 = 16;

/// The longest run of acks without a step back, after steps in vain.
const REST_MAX: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// Acks to let pass before the next step back.
    rest: u32,
    /// What `rest` becomes when that one is in vain.
    backoff: u32,
}

impl Gather {
    /// So many records were acked, their callers woken, and nothing is in flight.
    pub(crate) fn acked(&mut self, clock: &dyn Clock, intake: &Intake, acked: u32) {
        // Who drives a shard himself cannot come back while he is in a turn of it.
        if intake.driven.is_none() {
            self.step_back(clock, acked, || intake.staged_records());
        }
    }

    fn step_back(&mut self, clock: &dyn Clock, acked: u32, staged: impl Fn() -> u32) {
        if acked < 2 {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let mut seen = staged();
        for step in 0..STEPS_MAX {
            if seen >= acked {
                break;
            }
            clock.yield_now();
            let now = staged();
            if now <= seen {
                self.learn(step > 0);
                return;
            }
            seen = now;
        }
        self.learn(true);
    }

    fn learn(&mut self, paid: bool) {
        self.backoff = if paid { 0 } else { (self.backoff * 2).clamp(1, REST_MAX) };
        self.rest = self.backoff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[derive(Default)]
    struct Yields(AtomicU32);

    impl Clock for Yields {
        fn wall_us(&self) -> u64 {
            0
        }
        fn mono_ns(&self) -> u64 {
            0
        }
        fn sleep(&self, _: Duration) {}
        fn yield_now(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Steps back after an ack of `acked`, when each step brings so many more records.
    fn steps(gather: &mut Gather, acked: u32, each: u32) -> u32 {
        let (clock, looks) = (Yields::default(), Cell::new(0));
        gather.step_back(&clock, acked, || {
            looks.set(looks.get() + 1);
            (looks.get() - 1) * each
        });
        clock.0.into_inner()
    }

    #[test]
    fn a_caller_alone_never_pays() {
        assert_eq!(steps(&mut Gather::default(), 1, 0), 0);
    }

    #[test]
    fn those_who_come_back_are_waited_for_and_no_longer() {
        let mut gather = Gather::default();
        assert_eq!(steps(&mut gather, 64, 20), 4);
        assert_eq!(steps(&mut gather, 64, 64), 1, "it paid, so it is done again");
        assert_eq!(steps(&mut gather, 1000, 1), STEPS_MAX);
    }

    #[test]
    fn steps_in_vain_become_rare() {
        let mut gather = Gather::default();
        let steps: u32 = (0..1000).map(|_| steps(&mut gather, 2, 0)).sum();
        assert!((7..25).contains(&steps), "{steps} of 1000");
        // One that pays makes them common again.
        while super::tests::steps(&mut gather, 64, 64) == 0 {}
        assert_eq!(super::tests::steps(&mut gather, 64, 64), 1);
    }
}
