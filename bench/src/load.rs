//! Load: threads that append, closed loop or at a rate, and what they saw.
//!
//! Invariants: an operation counts when it was acked inside the window; at a rate, latency
//! counts from the *intended* start, so that a stall is charged to everything it delayed; the
//! warm-up is never in a number.
//!
//! Not here: what a handle does with a payload (`baseline`, `sapwood_rows`).

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::meter::Meter;
use crate::sample::{Sample, histogram};

/// Above this many operations outstanding per thread only some are timed, so that the clock does
/// not become the load.
const TIMED_ALL_MAX: usize = 64;
/// Of those, one in this many.
const TIMED_ONE_IN: u64 = 16;

/// What one cell asks of a subject.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Threads that append.
    pub threads: usize,
    /// Operations each has outstanding; one means it blocks on each.
    pub outstanding: usize,
    /// Payload bytes of one record.
    pub record_bytes: usize,
    /// Records of one operation: more than one is a batch.
    pub records: usize,
    /// Operations a second over all threads; none: as fast as they are acked.
    pub rate: Option<f64>,
    /// Time before the window.
    pub warm_up: Duration,
    /// The timed window.
    pub window: Duration,
}

impl Load {
    /// Payload bytes of one operation.
    #[must_use]
    pub fn operation_bytes(&self) -> usize {
        self.record_bytes * self.records
    }
}

/// One thread's way to append. `submit` starts, `wait` ends when it is durable.
pub trait Handle: Send {
    /// What is outstanding.
    type Ticket;
    /// Starts the append of one operation's payload.
    ///
    /// # Errors
    /// When the subject refuses it: that ends the run.
    fn submit(&mut self, payload: &[u8]) -> Result<Self::Ticket>;
    /// Waits until it is durable.
    ///
    /// # Errors
    /// When it is not: that ends the run.
    fn wait(&mut self, ticket: Self::Ticket) -> Result<()>;
}

const WARMING: u8 = 0;
const TIMED: u8 = 1;
const OVER: u8 = 2;

struct Tally {
    operations: u64,
    latency: Histogram<u64>,
}

/// Runs `load` over `handles`, one thread each.
///
/// # Errors
/// The first error of a handle.
pub fn drive<H: Handle>(handles: Vec<H>, load: &Load, meter: &Meter) -> Result<Sample> {
    let phase = AtomicU8::new(WARMING);
    let ready = Barrier::new(handles.len() + 1);
    let count = handles.len();
    thread::scope(|scope| {
        let workers: Vec<_> = handles
            .into_iter()
            .enumerate()
            .map(|(index, handle)| {
                let (phase, ready) = (&phase, &ready);
                scope.spawn(move || {
                    let mut worker = Worker::new(handle, load, index, count);
                    ready.wait();
                    let result = worker.run(phase);
                    result.map(|()| worker.tally)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(load.warm_up);
        let before = meter.read();
        phase.store(TIMED, Ordering::Relaxed);
        thread::sleep(load.window);
        phase.store(OVER, Ordering::Relaxed);
        let after = meter.read();
        let mut operations = 0;
        let mut latency = histogram();
        for worker in workers {
            let tally = worker.join().map_err(|_| anyhow!("a load thread panicked"))??;
            operations += tally.operations;
            latency.add(&tally.latency)?;
        }
        let bytes = operations * load.operation_bytes() as u64;
        let cost = after?.since(&before?);
        Ok(Sample { operations, bytes, cost, latency, peak_rss: None })
    })
}

/// The loop of [`drive`] for one handle on the calling thread: for subjects that are bound to it.
///
/// # Errors
/// The first error of the handle.
pub fn drive_here<H: Handle>(handle: H, load: &Load, meter: &Meter) -> Result<Sample> {
    let mut worker = Worker::new(handle, load, 0, 1);
    worker.until(Instant::now() + load.warm_up)?;
    worker.tally = Tally { operations: 0, latency: histogram() };
    let before = meter.read()?;
    worker.counting = true;
    worker.until(Instant::now() + load.window)?;
    let cost = meter.read()?.since(&before);
    worker.counting = false;
    worker.drain()?;
    let Tally { operations, latency } = worker.tally;
    let bytes = operations * load.operation_bytes() as u64;
    Ok(Sample { operations, bytes, cost, latency, peak_rss: None })
}

struct Worker<H: Handle> {
    handle: H,
    payload: Vec<u8>,
    outstanding: VecDeque<(Option<Instant>, H::Ticket)>,
    limit: usize,
    /// Time between intended starts, and the next of them.
    interval: Option<Duration>,
    intended: Instant,
    timed_one_in: u64,
    submitted: u64,
    counting: bool,
    tally: Tally,
}

impl<H: Handle> Worker<H> {
    fn new(handle: H, load: &Load, index: usize, count: usize) -> Worker<H> {
        let interval = load.rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
        let offset = interval.map_or(Duration::ZERO, |each| each * index as u32 / count as u32);
        Worker {
            handle,
            payload: (0..load.operation_bytes()).map(|at| (at * 31 + index) as u8).collect(),
            outstanding: VecDeque::with_capacity(load.outstanding),
            limit: load.outstanding,
            interval,
            intended: Instant::now() + offset,
            timed_one_in: if load.outstanding > TIMED_ALL_MAX { TIMED_ONE_IN } else { 1 },
            submitted: 0,
            counting: false,
            tally: Tally { operations: 0, latency: histogram() },
        }
    }

    fn run(&mut self, phase: &AtomicU8) -> Result<()> {
        loop {
            match phase.load(Ordering::Relaxed) {
                WARMING => {}
                TIMED => self.counting = true,
                _ => break,
            }
            self.step()?;
        }
        self.counting = false;
        self.drain()
    }

    fn until(&mut self, end: Instant) -> Result<()> {
        // The clock is read once per refill, which costs nothing beside a durable write.
        while Instant::now() < end {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        while self.outstanding.len() < self.limit {
            self.submit()?;
        }
        self.retire()
    }

    fn submit(&mut self) -> Result<()> {
        let start = match self.interval {
            Some(interval) => {
                let intended = self.intended;
                self.intended += interval;
                if let Some(early) = intended.checked_duration_since(Instant::now()) {
                    thread::sleep(early);
                }
                Some(intended)
            }
            None => {
                let timed = self.submitted.is_multiple_of(self.timed_one_in);
                timed.then(Instant::now)
            }
        };
        let stamp = self.submitted.to_le_bytes();
        let head = stamp.len().min(self.payload.len());
        self.payload[..head].copy_from_slice(&stamp[..head]);
        let ticket = self.handle.submit(&self.payload)?;
        self.submitted += 1;
        self.outstanding.push_back((start, ticket));
        Ok(())
    }

    fn retire(&mut self) -> Result<()> {
        let Some((start, ticket)) = self.outstanding.pop_front() else {
            return Ok(());
        };
        self.handle.wait(ticket)?;
        if self.counting {
            self.tally.operations += 1;
            if let Some(start) = start {
                self.tally.latency.saturating_record(start.elapsed().as_nanos() as u64);
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while !self.outstanding.is_empty() {
            self.retire()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Metric;
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    /// Becomes durable a fixed time after it was submitted, or stalls once.
    struct Clockwork<'a> {
        takes: Duration,
        stall: Option<(u64, Duration)>,
        count: u64,
        most: &'a AtomicUsize,
        open: usize,
    }

    impl Handle for Clockwork<'_> {
        type Ticket = Instant;
        fn submit(&mut self, _: &[u8]) -> Result<Instant> {
            self.open += 1;
            self.count += 1;
            self.most.fetch_max(self.open, Ordering::Relaxed);
            if let Some((at, long)) = self.stall
                && at == self.count
            {
                thread::sleep(long);
            }
            Ok(Instant::now() + self.takes)
        }
        fn wait(&mut self, until: Instant) -> Result<()> {
            self.open -= 1;
            thread::sleep(until.saturating_duration_since(Instant::now()));
            Ok(())
        }
    }

    fn load(outstanding: usize, rate: Option<f64>) -> Load {
        Load {
            threads: 2,
            outstanding,
            record_bytes: 100,
            records: 1,
            rate,
            warm_up: Duration::from_millis(10),
            window: Duration::from_millis(200),
        }
    }

    #[test]
    fn a_closed_loop_keeps_so_many_outstanding_and_counts_its_window() {
        let most = AtomicUsize::new(0);
        let takes = Duration::from_millis(2);
        let handle = || Clockwork { takes, stall: None, count: 0, most: &most, open: 0 };
        let meter = Meter::new(Path::new("/"));
        let sample = drive(vec![handle(), handle()], &load(4, None), &meter).unwrap();
        assert_eq!(most.load(Ordering::Relaxed), 4);
        assert!(sample.operations > 20 && sample.operations < 1000, "{}", sample.operations);
        assert!(sample.get(Metric::P50).unwrap() >= 1990.0);
        assert_eq!(sample.bytes, sample.operations * 100);
        let alone = drive_here(handle(), &load(1, None), &meter).unwrap();
        assert!(alone.operations > 5);
    }

    #[test]
    fn at_a_rate_a_stall_is_charged_to_everything_it_delayed() {
        let most = AtomicUsize::new(0);
        let stall = Some((100, Duration::from_millis(100)));
        let takes = Duration::ZERO;
        let handle = Clockwork { takes, stall, count: 0, most: &most, open: 0 };
        let meter = Meter::new(Path::new("/"));
        let sample = drive_here(handle, &load(1, Some(1000.0)), &meter).unwrap();
        let late = sample.latency.count_between(20_000_000, 200_000_000);
        assert!(late > 40, "coordinated omission: only {late} of some 80 were late");
    }

    #[test]
    fn an_error_ends_the_run() {
        struct Broken;
        impl Handle for Broken {
            type Ticket = ();
            fn submit(&mut self, _: &[u8]) -> Result<()> {
                Err(anyhow!("broken"))
            }
            fn wait(&mut self, (): ()) -> Result<()> {
                Ok(())
            }
        }
        let meter = Meter::new(Path::new("/"));
        let error = drive(vec![Broken], &load(1, None), &meter).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
