//! The row of a follower: how long after a record is durable it is delivered in process.
//!
//! The moment of being durable is taken on the shard's own thread: by the waker of the append,
//! which the shard calls as it acks, before it tells readers.
//!
//! Invariants: every record is delivered once, in order, and was stamped before it is judged.
//!
//! Not here: followers of another process's directory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use sapwood::{From, Reader, Writer};

use crate::bed::Bed;
use crate::load::Load;
use crate::meter::Meter;
use crate::sample::{Sample, histogram};
use crate::subject::{Cell, Segments, Subject};

/// From when the latency of a delivery counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Since the record was durable.
    Durable,
    /// Since its append was called.
    Append,
}

/// One writer at a rate, one follower.
pub struct Follow {
    /// From when latency counts.
    pub since: Since,
    bed: Option<Bed>,
}

/// When each record of a run was appended and durable: nanoseconds since `epoch`.
struct Stamps {
    epoch: Instant,
    appended: Vec<AtomicU64>,
    durable: Vec<AtomicU64>,
    /// Records delivered from the timed window on count.
    timed: AtomicBool,
    over: AtomicU64,
}

impl Follow {
    /// The row that counts since then.
    #[must_use]
    pub fn new(since: Since) -> Follow {
        Follow { since, bed: None }
    }
}

impl Subject for Follow {
    fn name(&self) -> &str {
        match self.since {
            Since::Durable => "sapwood-follow",
            Since::Append => "sapwood-append-to-follow",
        }
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        let dir = cell.dir.join(self.name());
        self.bed = Some(Bed::make(cell, dir, Segments::Prewritten)?);
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let Some(bed) = &self.bed else { return Err(anyhow!("was not prepared")) };
        let reader = bed.logs[0].reader(From::Tail)?.follow();
        let sample = run(&bed.writers[0], reader, &cell.load, self.since, &Meter::new(&cell.dir))?;
        bed.check()?;
        Ok(sample)
    }
}

fn run(
    writer: &Writer,
    reader: Reader,
    load: &Load,
    since: Since,
    meter: &Meter,
) -> Result<Sample> {
    let interval = Duration::from_secs_f64(1.0 / load.rate.unwrap_or(1000.0));
    let count = ((load.warm_up + load.window).as_secs_f64() / interval.as_secs_f64()) as usize + 1;
    let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
    let stamps = Arc::new(Stamps {
        epoch: Instant::now(),
        appended: zeros(),
        durable: zeros(),
        timed: AtomicBool::new(false),
        over: AtomicU64::new(u64::MAX),
    });
    thread::scope(|scope| {
        let theirs = Arc::clone(&stamps);
        let follower = scope.spawn(move || deliver(reader, &theirs, since));
        let before = append_all(writer, load, interval, &stamps, meter);
        let cost = before.and_then(|before| Ok(meter.read()?.since(&before)));
        let latency = follower.join().map_err(|_| anyhow!("the follower panicked"))??;
        let operations = latency.len();
        let bytes = operations * load.record_bytes as u64;
        Ok(Sample::new(operations, bytes, cost?, latency))
    })
}

/// Appends at the rate; gives the reading at the begin of the window.
fn append_all(
    writer: &Writer,
    load: &Load,
    interval: Duration,
    stamps: &Arc<Stamps>,
    meter: &Meter,
) -> Result<crate::meter::Reading> {
    let mut payload = vec![7; load.record_bytes];
    let mut before = meter.read()?;
    let begin = Instant::now();
    let mut result = Ok(());
    for index in 0..stamps.appended.len() {
        let intended = begin + interval * index as u32;
        thread::sleep(intended.saturating_duration_since(Instant::now()));
        if begin.elapsed() >= load.warm_up && !stamps.timed.swap(true, Ordering::Relaxed) {
            before = meter.read()?;
        }
        payload[..8].copy_from_slice(&(index as u64).to_le_bytes());
        stamps.appended[index].store(stamps.now(), Ordering::Relaxed);
        result = append_one(writer, &payload, index, stamps);
        if result.is_err() || index + 1 == stamps.appended.len() {
            // The record after this one is the last: it wakes the follower and ends it.
            stamps.over.store(index as u64, Ordering::Release);
            let _ = writer.append(&payload).wait();
            break;
        }
    }
    result.map(|()| before)
}

fn append_one(writer: &Writer, payload: &[u8], index: usize, stamps: &Arc<Stamps>) -> Result<()> {
    let mut ticket = writer.submit(payload).map_err(|rejected| rejected.error)?;
    let (stamps, thread) = (Arc::clone(stamps), thread::current());
    let waker = Waker::from(Arc::new(StampingWaker { stamps, index, thread }));
    let mut context = Context::from_waker(&waker);
    loop {
        match Pin::new(&mut ticket).poll(&mut context) {
            Poll::Ready(ack) => return Ok(ack.map(drop)?),
            Poll::Pending => thread::park(),
        }
    }
}

/// Notes when it is called, and wakes the thread.
struct StampingWaker {
    stamps: Arc<Stamps>,
    index: usize,
    thread: Thread,
}

impl Wake for StampingWaker {
    fn wake(self: Arc<Self>) {
        self.stamps.durable[self.index].store(self.stamps.now(), Ordering::Release);
        self.thread.unpark();
    }
}

impl Stamps {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

fn deliver(
    mut reader: Reader,
    stamps: &Stamps,
    since: Since,
) -> Result<hdrhistogram::Histogram<u64>> {
    let mut latency = histogram();
    let mut index = 0;
    loop {
        let record = reader.next().wait()?.ok_or_else(|| anyhow!("the engine was closed"))?;
        let now = stamps.now();
        if index as u64 > stamps.over.load(Ordering::Acquire) {
            return Ok(latency);
        }
        let begins = record.payload()[..8] == (index as u64).to_le_bytes();
        ensure!(begins, "record {index} was delivered out of order");
        let then = match since {
            Since::Durable => stamps.durable[index].load(Ordering::Acquire),
            Since::Append => stamps.appended[index].load(Ordering::Relaxed),
        };
        // Not stamped: it was acked before its waker was there. That is no measurement.
        if stamps.timed.load(Ordering::Relaxed) && then != 0 {
            latency.saturating_record(now.saturating_sub(then));
        }
        index += 1;
    }
}
