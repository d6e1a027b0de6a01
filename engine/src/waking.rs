//! Waking the callers of acked batches, so many a turn.
//!
//! The story: 256 threads wait for one batch. Waking them all takes some 600 µs of the shard's
//! thread, and while it did that nothing was written, though the first to wake had long staged
//! again. Woken 128 at a time, the first half's next batch is at the device while the second half
//! wakes: a write is hidden behind every wake, and one who missed a batch waits for half a company.
//!
//! Invariants:
//! - A batch is acked before anybody is woken for it; a wake only tells. Batches are woken for in
//!   their sequence, and all of one before any of the next.
//! - Whoever sleeps for a batch in the queue is woken by the shard's next turns, which do not park
//!   before, or by its end (`Intake::stop` wakes every word).
//! - Between two parts nothing goes to an idle device unless waking the rest takes longer than a
//!   write: where the device is slow, the whole company shares one batch.
//! - A driven shard wakes all at once: who drives it may not come back for another turn.
//!
//! Where the callers are a crowd (`wake::Crowd`) few sleep, and parts make no difference: they are
//! for machines with more processors.
//!
//! 128, not 64: with four parts the processors never drain, and the scheduler (earliest deadline
//! first) let single threads wait for 10 to 40 ms.
//!
//! Not here: when the shard steps back for those who were woken (`gather`).

use std::collections::VecDeque;
use std::task::Waker;

use crate::gather::Gather;
use crate::intake::Intake;
use crate::io::Clock;
use crate::metrics::Meters;

/// Callers woken in one turn.
const PART_MAX: u32 = 128;

/// Batches whose callers may be waiting for later turns.
const QUEUE_MAX: usize = 64;

/// A batch whose callers are being woken.
#[derive(Clone, Copy, Debug)]
struct Batch {
    seq: u64,
    /// Asleep when it was acked and not woken since, at most.
    asleep: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Waking {
    queue: VecDeque<Batch>,
    /// When each batch came back from the device whose callers are not all woken.
    landed_ns: Vec<u64>,
    /// Records acked since all were woken.
    records: u32,
    /// What waking one caller takes, on average.
    each_ns: u64,
    /// What a write takes: its best times, slowly forgotten. Others hold the shard's own delays.
    write_ns: u64,
    gather: Gather,
}

impl Default for Waking {
    fn default() -> Self {
        Self {
            queue: VecDeque::with_capacity(QUEUE_MAX),
            landed_ns: Vec::with_capacity(QUEUE_MAX),
            records: 0,
            each_ns: 0,
            write_ns: 0,
            gather: Gather::default(),
        }
    }
}

impl Waking {
    /// Somebody is still to be woken: the shard does not park.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A batch handed over at `sent_ns` came back at `landed_ns`; it is acked next.
    pub(crate) fn landed(&mut self, sent_ns: u64, landed_ns: u64, meters: &Meters) {
        let took = landed_ns.saturating_sub(sent_ns);
        let forgotten = self.write_ns + self.write_ns / 16 + 1;
        self.write_ns = if self.write_ns == 0 { took } else { took.min(forgotten) };
        if self.landed_ns.len() == QUEUE_MAX {
            self.record(landed_ns, meters);
        }
        self.landed_ns.push(landed_ns);
    }

    /// The batches behind `from` up to `seq` are acked, with so many records.
    pub(crate) fn acked(
        &mut self,
        intake: &Intake,
        (from, seq): (u64, u64),
        records: u32,
        scratch: &mut Vec<Waker>,
    ) {
        self.records = self.records.saturating_add(records);
        let queue = &mut self.queue;
        intake.ack(from, seq, scratch, |seq, asleep| {
            if queue.len() == QUEUE_MAX {
                queue.drain(..).for_each(|batch| {
                    intake.word(batch.seq).wake(u32::MAX);
                });
            }
            queue.push_back(Batch { seq, asleep });
        });
    }

    /// Wakes the next part. Once all are woken, steps back for them when the device is `idle`.
    pub(crate) fn step(&mut self, clock: &dyn Clock, intake: &Intake, meters: &Meters, idle: bool) {
        let part = if intake.driven.is_some() { u32::MAX } else { PART_MAX };
        let begun = if self.is_under_way() { clock.mono_ns() } else { 0 };
        let mut woken = 0;
        while woken < part
            && let Some(batch) = self.queue.front_mut()
        {
            let (want, count) = (part - woken, intake.word(batch.seq).wake(part - woken));
            woken += count;
            batch.asleep = batch.asleep.saturating_sub(count);
            if count < want {
                self.queue.pop_front();
            }
        }
        if woken != 0 {
            let each = clock.mono_ns().saturating_sub(begun) / u64::from(woken);
            self.each_ns = (self.each_ns * 7 + each) / 8;
        }
        if self.is_under_way() || self.landed_ns.is_empty() {
            return;
        }
        self.record(clock.mono_ns(), meters);
        let records = std::mem::take(&mut self.records);
        if idle {
            self.gather.acked(clock, intake, records);
        }
    }

    /// What is staged had better wait for those who are still to be woken.
    pub(crate) fn is_worth_a_wait(&self) -> bool {
        let asleep: u64 = self.queue.iter().map(|batch| u64::from(batch.asleep)).sum();
        self.is_under_way() && asleep * self.each_ns < self.write_ns
    }

    fn record(&mut self, now: u64, meters: &Meters) {
        for landed in self.landed_ns.drain(..) {
            meters.ack_ns.record(now.saturating_sub(landed));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::intake::IntakeSpec;
    use std::sync::Arc;
    use std::thread;

    /// Nothing here waits by the clock.
    struct Still;

    impl Clock for Still {
        fn wall_us(&self) -> u64 {
            0
        }
        fn mono_ns(&self) -> u64 {
            0
        }
        fn sleep(&self, _: std::time::Duration) {}
    }

    fn intake(driven: bool) -> Arc<Intake> {
        let spec = IntakeSpec {
            stage_bytes: 1 << 20,
            batch_bytes_max: 64 << 10,
            unit: 4096,
            first_seq: 1,
            pipeline_min: 64 << 10,
            log_bytes_max: 0,
            span_bytes_max: 1 << 20,
            driven: driven.then_some(std::time::Duration::from_secs(5)),
        };
        Arc::new(Intake::new(&spec, Arc::new(Still)).unwrap())
    }

    /// `callers` sleep for batch 1, which is acked; gives the steps until nobody is to be woken.
    fn steps(intake: &Arc<Intake>, callers: u32) -> u32 {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                let intake = Arc::clone(intake);
                thread::spawn(move || intake.sleep(1, None))
            })
            .collect();
        while intake.word(1).sleepers() < callers {
            thread::yield_now();
        }
        let (clock, meters) = (Still, Meters::default());
        let mut waking = Waking::default();
        waking.landed(0, 0, &meters);
        waking.acked(intake, (0, 1), callers, &mut Vec::new());
        let mut steps = 0;
        while waking.is_under_way() {
            waking.step(&clock, intake, &meters, false);
            steps += 1;
        }
        for thread in threads {
            assert!(matches!(thread.join().unwrap(), Some(Ok(()))));
        }
        steps
    }

    /// Whoever was on the way to sleep as the batch was acked saw the word change, so there may be
    /// fewer steps than parts; nobody may be left asleep (a join that never ends).
    #[test]
    fn everybody_is_woken_part_by_part() {
        assert!((1..=3).contains(&steps(&intake(false), PART_MAX * 2 + 20)));
    }

    #[test]
    fn a_driven_shard_wakes_all_at_once() {
        assert_eq!(steps(&intake(true), PART_MAX * 2 + 20), 1);
    }

    #[test]
    fn a_slow_device_waits_for_the_company_and_a_fast_one_does_not() {
        let mut waking = Waking { each_ns: 2_000, write_ns: 150_000, ..Waking::default() };
        assert!(!waking.is_worth_a_wait(), "nobody is to be woken");
        waking.queue.push_back(Batch { seq: 7, asleep: 128 });
        assert!(!waking.is_worth_a_wait(), "256 us of waking hide a write of 150 us");
        waking.write_ns = 2_000_000;
        assert!(waking.is_worth_a_wait());
        waking.queue[0].asleep = 3;
        waking.write_ns = 150_000;
        assert!(waking.is_worth_a_wait(), "the last three are there in 6 us");
    }

    /// A write that landed while the shard was busy with others looks long; its delay must not make
    /// the device look slow for good.
    #[test]
    fn what_a_write_takes_is_its_best_time_slowly_forgotten() {
        let (mut waking, meters) = (Waking::default(), Meters::default());
        for took in [150, 900, 900] {
            waking.landed(1_000, 1_000 + took, &meters);
        }
        assert!((150..200).contains(&waking.write_ns), "{}", waking.write_ns);
        for _ in 0..100 {
            waking.landed(1_000, 1_900, &meters);
        }
        assert_eq!(waking.write_ns, 900, "a device that became slow is believed in the end");
    }
}
