//! Load: threads that append, closed loop or open, and what they saw.
//!
//! An open loop (at a rate) with one append outstanding sends and waits on one thread; with more it
//! sends on one and waits on another, so that a late ack delays no start.
//!
//! Invariants: an operation counts when it was acked inside the window; in an open loop latency
//! counts from the *intended* start, so that a stall is charged to everything it delayed; the
//! warm-up is never in a number.
//!
//! Not here: what is appended (`traffic`), what a handle does with it (`baseline`,
//! `sapwood_rows`), async tasks (`tasks`), what was counted (`tally`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::clock::{Clock, Wall};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::tally::{Tally, Written};
use crate::traffic::{Arrivals, Pick, Shared, Sizes, Traffic};

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
    /// What is outstanding are async tasks, each of which awaits its append, on one executor per
    /// thread.
    pub tasks: bool,
    /// Payload bytes of one record, the greatest where lengths differ.
    pub record_bytes: usize,
    /// The least, where lengths differ.
    pub least_bytes: usize,
    /// How lengths differ.
    pub sizes: Sizes,
    /// Records of one operation: more than one is a batch, of records of one length.
    pub records: usize,
    /// Logs that are appended to.
    pub logs: usize,
    /// Which of them.
    pub pick: Pick,
    /// Operations a second over all threads; none: as fast as they are acked.
    pub rate: Option<f64>,
    /// When they begin, at a rate.
    pub arrivals: Arrivals,
    /// Time before the window.
    pub warm_up: Duration,
    /// The timed window.
    pub window: Duration,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            threads: 1,
            outstanding: 1,
            tasks: false,
            record_bytes: 128,
            least_bytes: 128,
            sizes: Sizes::Fixed,
            records: 1,
            logs: 1,
            pick: Pick::Uniform,
            rate: None,
            arrivals: Arrivals::Even,
            warm_up: Duration::from_millis(200),
            window: Duration::from_secs(1),
        }
    }
}

impl Load {
    /// Payload bytes of one operation, at most.
    #[must_use]
    pub fn operation_bytes(&self) -> usize {
        self.record_bytes * self.records
    }
}

/// One thread's way to append. `submit` starts, `wait` ends when it is durable.
pub trait Handle: Send {
    /// What is outstanding.
    type Ticket: Send;
    /// Starts the append of one operation's payload.
    ///
    /// # Errors
    /// When the subject refuses it: that ends the run.
    fn submit(&mut self, payload: &[u8]) -> Result<Self::Ticket>;
    /// The same to one of several logs; a subject that has one log need not say more.
    ///
    /// # Errors
    /// As [`Handle::submit`].
    fn submit_to(&mut self, _log: usize, payload: &[u8]) -> Result<Self::Ticket> {
        self.submit(payload)
    }
    /// Waits until it is durable.
    ///
    /// # Errors
    /// When it is not: that ends the run.
    fn wait(ticket: Self::Ticket) -> Result<()>;
}

const WARMING: u8 = 0;
const TIMED: u8 = 1;
const OVER: u8 = 2;

/// The stage that a run is in, told to all of its threads.
#[derive(Debug)]
pub(crate) struct Phase(AtomicU8);

impl Phase {
    fn set(&self, to: u8) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn is_timed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TIMED
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OVER
    }
}

/// Runs `load` over `handles`, one thread each.
///
/// # Errors
/// The first error of a handle.
pub fn drive<H: Handle>(handles: Vec<H>, load: &Load, meter: &Meter) -> Result<Sample> {
    drive_counted(handles, load, meter).map(|(sample, _)| sample)
}

/// The same, with what was written, for those who read it back.
///
/// # Errors
/// As [`drive`].
pub fn drive_counted<H: Handle>(
    handles: Vec<H>,
    load: &Load,
    meter: &Meter,
) -> Result<(Sample, Written)> {
    let wall = Wall::start();
    on_threads(wall, handles, load, meter, |handle, traffic, phase| {
        Worker::new(handle, load, wall, traffic).run(phase)
    })
}

/// Runs `work` on a thread per handle through warm-up and window, and adds up what they counted.
pub(crate) fn on_threads<H: Send>(
    wall: Wall,
    handles: Vec<H>,
    load: &Load,
    meter: &Meter,
    work: impl Fn(H, Traffic, &Phase) -> Result<(Tally, Vec<u32>)> + Sync,
) -> Result<(Sample, Written)> {
    let phase = Phase(AtomicU8::new(WARMING));
    let ready = Barrier::new(handles.len() + 1);
    let (count, shared) = (handles.len(), Shared::of(load));
    thread::scope(|scope| {
        let workers: Vec<_> = handles
            .into_iter()
            .enumerate()
            .map(|(index, handle)| {
                let (phase, ready, shared, work) = (&phase, &ready, Arc::clone(&shared), &work);
                scope.spawn(move || {
                    ready.wait();
                    work(handle, Traffic::new(&shared, index, count, wall.now()), phase)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(load.warm_up);
        let before = meter.read();
        phase.set(TIMED);
        thread::sleep(load.window);
        phase.set(OVER);
        let after = meter.read();
        let (mut total, mut written) = (Tally::new(load.window), Written::default());
        for worker in workers {
            let (tally, sequences) = worker.join().map_err(|_| anyhow!("a thread panicked"))??;
            total.add(&tally);
            written.0.push(sequences);
        }
        Ok((total.into_sample(after?.since(&before?)), written))
    })
}

/// The loop of [`drive`] for one handle on the calling thread: for subjects that are bound to it.
///
/// # Errors
/// The first error of the handle.
pub fn drive_here<H: Handle>(handle: H, load: &Load, meter: &Meter) -> Result<(Sample, Written)> {
    drive_by(Wall::start(), handle, load, meter)
}

/// The same by a clock of the caller's.
///
/// # Errors
/// As [`drive_here`].
pub fn drive_by<H: Handle>(
    clock: impl Clock,
    handle: H,
    load: &Load,
    meter: &Meter,
) -> Result<(Sample, Written)> {
    let traffic = Traffic::new(&Shared::of(load), 0, 1, clock.now());
    let mut worker = Worker::new(handle, load, clock, traffic);
    worker.until(worker.clock.now() + load.warm_up)?;
    let before = meter.read()?;
    worker.counting = true;
    worker.until(worker.clock.now() + load.window)?;
    let cost = meter.read()?.since(&before);
    worker.counting = false;
    worker.drain()?;
    let sequences = worker.traffic.into_sequences();
    Ok((worker.tally.into_sample(cost), Written(vec![sequences])))
}

/// What is outstanding: when it began (if it is timed), its bytes, its ticket.
type Outstanding<T> = (Option<Duration>, u64, T);

struct Worker<H: Handle, C> {
    handle: H,
    clock: C,
    traffic: Traffic,
    outstanding: VecDeque<Outstanding<H::Ticket>>,
    limit: usize,
    timed_one_in: u64,
    submitted: u64,
    counting: bool,
    tally: Tally,
}

impl<H: Handle, C: Clock> Worker<H, C> {
    fn new(handle: H, load: &Load, clock: C, traffic: Traffic) -> Worker<H, C> {
        Worker {
            handle,
            clock,
            traffic,
            outstanding: VecDeque::with_capacity(load.outstanding),
            limit: load.outstanding,
            timed_one_in: if load.outstanding > TIMED_ALL_MAX { TIMED_ONE_IN } else { 1 },
            submitted: 0,
            counting: false,
            tally: Tally::new(load.window),
        }
    }

    fn run(mut self, phase: &Phase) -> Result<(Tally, Vec<u32>)> {
        if self.limit > 1 && self.traffic.is_open() {
            return self.run_apart(phase);
        }
        while !phase.is_over() {
            self.counting = phase.is_timed();
            self.step()?;
        }
        self.counting = false;
        self.drain()?;
        Ok((self.tally, self.traffic.into_sequences()))
    }

    /// An open loop with several outstanding: starts here, waits on another thread.
    fn run_apart(mut self, phase: &Phase) -> Result<(Tally, Vec<u32>)> {
        let (sender, receiver) = sync_channel(self.limit);
        let (clock, mut tally) = (self.clock.clone(), self.tally.take());
        thread::scope(|scope| {
            let reaper = scope.spawn(move || {
                reap::<H, C>(&receiver, &clock, phase, &mut tally)?;
                Ok::<_, anyhow::Error>(tally)
            });
            let mut failure = None;
            while !phase.is_over() && failure.is_none() {
                match self.start() {
                    Ok(begun) => {
                        // The reaper hangs up only when it failed, and then says why.
                        if sender.send(begun).is_err() {
                            break;
                        }
                    }
                    Err(error) => failure = Some(error),
                }
            }
            drop(sender);
            let tally = reaper.join().map_err(|_| anyhow!("the waiting thread panicked"))??;
            match failure {
                Some(error) => Err(error),
                None => Ok((tally, self.traffic.into_sequences())),
            }
        })
    }

    fn until(&mut self, end: Duration) -> Result<()> {
        // The clock is read once per refill, which costs nothing beside a durable write.
        while self.clock.now() < end {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        while self.outstanding.len() < self.limit {
            let begun = self.start()?;
            self.outstanding.push_back(begun);
        }
        self.retire()
    }

    fn start(&mut self) -> Result<Outstanding<H::Ticket>> {
        let start = match self.traffic.intended() {
            Some(intended) => {
                self.clock.sleep_until(intended);
                Some(intended)
            }
            None => {
                let timed = self.submitted.is_multiple_of(self.timed_one_in);
                timed.then(|| self.clock.now())
            }
        };
        let (log, payload) = self.traffic.next();
        let ticket = self.handle.submit_to(log, payload)?;
        self.submitted += 1;
        Ok((start, payload.len() as u64, ticket))
    }

    fn retire(&mut self) -> Result<()> {
        let Some((start, bytes, ticket)) = self.outstanding.pop_front() else {
            return Ok(());
        };
        H::wait(ticket)?;
        if self.counting {
            self.tally.count(start, bytes, || self.clock.now());
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

/// Waits for what was begun, in order; ends with its sender.
fn reap<H: Handle, C: Clock>(
    begun: &Receiver<Outstanding<H::Ticket>>,
    clock: &C,
    phase: &Phase,
    tally: &mut Tally,
) -> Result<()> {
    for (start, bytes, ticket) in begun {
        H::wait(ticket)?;
        if phase.is_timed() {
            tally.count(start, bytes, || clock.now());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
