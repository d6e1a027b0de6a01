//! One worker: appends, truncates, cuts, deletes and creates its logs, as its seed has it.
//!
//! Invariants: it announces before it does, and says `acked` after; it has `OUTSTANDING` appends
//! open at most. Every log is visited in each sweep and loses what the sweep before had found, so
//! what is kept is what two sweeps append, and no log pins an old segment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sapwood::{Batch, Engine, Error, Log, Lsn, Ticket, Writer};

use super::SoakArgs;
use super::child::{WORKERS, name};
use super::event::Event;
use super::payload;

/// Appends open at once.
const OUTSTANDING: usize = 64;
/// Records in one append.
const TOGETHER_MAX: u64 = 4;
/// Records dropped by one cut.
const CUT_MAX: u64 = 5;
/// One in so many appends is a cut, or a deletion instead.
const CUT_ONE_IN: u64 = 400;
const DELETE_ONE_IN: u64 = 1500;
/// How long it naps when nothing is due.
const NAP: Duration = Duration::from_millis(1);
/// Sequence numbers of one worker's life: more than it can append in it.
const SEQS: u64 = 1 << 36;

/// A log as its worker sees it.
pub(crate) struct Owned {
    number: u32,
    log: Option<Log>,
    /// Opened when it is first needed.
    writer: Option<Writer>,
    start: u64,
    /// Behind the last acked record.
    next: u64,
    /// `next`, as the last sweep found it.
    swept: u64,
}

impl Owned {
    /// One that does not exist.
    pub(crate) fn absent(number: u32) -> Self {
        Self { number, log: None, writer: None, start: 0, next: 0, swept: 0 }
    }

    /// One that does, with these watermarks.
    pub(crate) fn there(number: u32, log: Log, start: u64, next: u64) -> Self {
        Self { log: Some(log), start, next, swept: start, ..Self::absent(number) }
    }

    fn writer(&mut self) -> Result<&Writer> {
        if self.writer.is_none() {
            let log = self.log.as_ref().context("a writer of no log")?;
            let writer = log.writer().with_context(|| format!("open log {}", self.number))?;
            self.writer = Some(writer);
        }
        self.writer.as_ref().context("no writer")
    }
}

/// An append that is not acked yet.
struct Open {
    at: usize,
    count: u64,
    ticket: Ticket,
}

pub(crate) struct Worker<'a> {
    engine: &'a Engine,
    owned: Vec<Owned>,
    open: VecDeque<Open>,
    rng: SmallRng,
    seq: u64,
    /// Between two appends, and between two visits of the sweep.
    append_every: Duration,
    visit_every: Duration,
    /// The log that the sweep visits next.
    visit: usize,
}

impl<'a> Worker<'a> {
    /// The worker number `life` of this soak, over these logs.
    pub(crate) fn new(engine: &'a Engine, args: &SoakArgs, life: u64, owned: Vec<Owned>) -> Self {
        let every = |rate: f64| Duration::from_secs_f64(1.0 / rate.max(0.001));
        Self {
            engine,
            append_every: every(args.rate / WORKERS as f64),
            visit_every: every(owned.len() as f64 / args.sweep_secs()),
            owned,
            open: VecDeque::new(),
            rng: SmallRng::seed_from_u64(args.seed ^ (life << 20)),
            seq: life * SEQS,
            visit: 0,
        }
    }

    /// Until it is told to stop; then what is open is waited for.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let began = Instant::now();
        let (mut next_append, mut next_visit) = (began, began);
        while !stop.load(Ordering::Relaxed) && !self.owned.is_empty() {
            let now = Instant::now();
            self.settle(false)?;
            if now >= next_visit {
                self.sweep()?;
                // Behind its time it does not run faster than ten times as fast.
                next_visit = (next_visit + self.visit_every).max(now - 10 * self.visit_every);
            } else if now >= next_append {
                self.turn()?;
                next_append = (next_append + self.append_every).max(now - 10 * self.append_every);
            } else {
                thread::sleep(NAP.min(next_append.min(next_visit) - now));
            }
        }
        self.settle(true)
    }

    /// One deed on one log; the first logs are the busiest.
    fn turn(&mut self) -> Result<()> {
        let skew = self.rng.random::<f64>().powi(2);
        let at = (skew * self.owned.len() as f64) as usize;
        if self.owned[at].log.is_none() {
            return self.create(at);
        }
        if self.rng.random_range(0..CUT_ONE_IN) == 0 {
            return self.cut(at);
        }
        if self.rng.random_range(0..DELETE_ONE_IN) == 0 {
            return self.delete(at);
        }
        self.append(at)
    }

    fn append(&mut self, at: usize) -> Result<()> {
        let log = self.owned[at].number;
        let bytes = size(&mut self.rng);
        let count = if bytes > 4096 { 1 } else { self.rng.random_range(1..=TOGETHER_MAX) };
        let first = self.seq;
        self.seq += count;
        let mut batch = Batch::new();
        for seq in first..self.seq {
            batch.push(&payload::make(log, seq, bytes));
        }
        self.owned[at].writer()?;
        Event::Append { log, seq: first, count }.say()?;
        while self.open.len() >= OUTSTANDING {
            self.settle_one()?;
        }
        let ticket = loop {
            match self.owned[at].writer()?.submit(batch) {
                Ok(ticket) => break ticket,
                Err(rejected) if matches!(rejected.error, Error::Busy) => {
                    batch = rejected.record.context("a busy writer kept the records")?;
                    if self.open.is_empty() {
                        thread::sleep(NAP);
                    } else {
                        self.settle_one()?;
                    }
                }
                Err(rejected) => return Err(rejected.error).context(format!("append to {log}")),
            }
        };
        self.open.push_back(Open { at, count, ticket });
        Ok(())
    }

    /// Says what is acked of what is open; all of it if `all`, and then it waits.
    fn settle(&mut self, all: bool) -> Result<()> {
        while self.open.front().is_some_and(|open| all || open.ticket.is_done()) {
            self.settle_one()?;
        }
        Ok(())
    }

    fn settle_one(&mut self) -> Result<()> {
        let Some(Open { at, count, ticket }) = self.open.pop_front() else { return Ok(()) };
        let owned = &mut self.owned[at];
        let log = owned.number;
        let ack = ticket.wait().with_context(|| format!("an append to log {log}"))?;
        ensure!(u64::from(ack.records) == count, "log {log}: {ack:?} of {count} records");
        let lsn = ack.position.lsn.0;
        owned.next = lsn + count;
        Ok(Event::Acked { log, lsn }.say()?)
    }

    /// The next log loses what it had when it was visited last.
    fn sweep(&mut self) -> Result<()> {
        let at = self.visit;
        self.visit = (self.visit + 1) % self.owned.len();
        let owned = &mut self.owned[at];
        let (log, lsn) = (owned.number, owned.swept);
        owned.swept = owned.next;
        let Some(handle) = owned.log.clone().filter(|_| lsn > owned.start) else { return Ok(()) };
        Event::Truncate { log, lsn, acked: false }.say()?;
        handle.truncate(Lsn(lsn)).with_context(|| format!("truncate log {log} at {lsn}"))?;
        owned.start = lsn;
        Ok(Event::Truncate { log, lsn, acked: true }.say()?)
    }

    /// With appends under way: they are below the cut, or dropped by it.
    fn cut(&mut self, at: usize) -> Result<()> {
        let owned = &mut self.owned[at];
        let log = owned.number;
        let room = owned.next - owned.start;
        if room == 0 {
            return Ok(());
        }
        let lsn = owned.next - self.rng.random_range(1..=room.min(CUT_MAX));
        let writer = owned.writer()?.clone();
        Event::Cut { log, lsn, acked: false }.say()?;
        writer.cut_to(Lsn(lsn)).wait().with_context(|| format!("cut log {log} at {lsn}"))?;
        self.settle(true)?;
        let owned = &mut self.owned[at];
        (owned.next, owned.swept) = (lsn, owned.swept.min(lsn));
        Ok(Event::Cut { log, lsn, acked: true }.say()?)
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        self.settle(true)?;
        let log = self.owned[at].number;
        Event::Delete { log, acked: false }.say()?;
        self.owned[at] = Owned::absent(log);
        self.engine.delete_log(&name(log)).with_context(|| format!("delete log {log}"))?;
        Ok(Event::Delete { log, acked: true }.say()?)
    }

    fn create(&mut self, at: usize) -> Result<()> {
        let log = self.owned[at].number;
        Event::Create { log, acked: false }.say()?;
        let handle = self.engine.log(&name(log)).with_context(|| format!("create log {log}"))?;
        self.owned[at] = Owned::there(log, handle, 0, 0);
        Ok(Event::Create { log, acked: true }.say()?)
    }
}

/// Mostly small, some of some KiB, few of tens, and one in a thousand larger than a batch.
fn size(rng: &mut SmallRng) -> usize {
    let (least, most) = match rng.random_range(0..1000) {
        0 => (600 << 10, 900 << 10),
        1..40 => (4 << 10, 48 << 10),
        40..300 => (512, 4 << 10),
        _ => (payload::BYTES_MIN as u64, 512),
    };
    rng.random_range(least..most) as usize
}
