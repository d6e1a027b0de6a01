//! A shard in small: what `shard::turn` does between the callers and a device, without segments.
//!
//! Invariants, as in `shard`: it declares that it parks and looks again; a batch is written once
//! all its slots are filled, and at most [`DEPTH`] are under way; one becomes durable, then
//! enters the view, then is acked, then its callers are woken. A batch that is written holds whole
//! records, all of them, whoever was still copying.
//!
//! Not here: what callers do (`appends`, `ends`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use shuttle::rand::Rng;

use crate::error::Cause;
use crate::format::{BATCH_FRONT_BYTES, Run, read_record};
use crate::intake::{Closed, Intake, IntakeSpec, LogStage};
use crate::io::sim::{Faults, SimStorage};
use crate::io::{Bell, Clock, DiskSpec, Storage};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId, ShardId};
use crate::metrics::Meters;
use crate::quota::Usage;
use crate::shard::Port;
use crate::sync::thread;
use crate::view::{Durable, Ended, LogView, SegmentView, View, ViewState};
use crate::waking::Waking;
use crate::watch::UnderWay;

/// Writes under way at once.
const DEPTH: usize = 2;

/// Logs that are there, each under epoch 1.
pub(super) const LOGS: u64 = 3;

/// The one segment there is.
const SEGMENT: SegmentId = SegmentId(1);

/// One chance in so many, as shuttle throws it.
pub(super) fn one_in(n: u32) -> bool {
    shuttle::rand::thread_rng().gen_ratio(1, n)
}

/// A bell as disks without a ring have it.
#[derive(Default)]
pub(super) struct RungBell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell for RungBell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }
}

impl RungBell {
    /// Whether it has rung since.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock())
    }

    pub fn wait(&self) {
        let mut rung = self.rung.lock();
        while !*rung {
            self.changed.wait(&mut rung);
        }
        *rung = false;
    }
}

/// A microsecond for every look.
#[derive(Default)]
pub(super) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn wall_us(&self) -> u64 {
        self.mono_ns() / 1_000
    }
    fn mono_ns(&self) -> u64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }
    fn sleep(&self, _: Duration) {
        thread::yield_now();
    }
    fn yield_now(&self) {
        thread::yield_now();
    }
    /// None: then whoever waits is one of a crowd.
    fn processors(&self) -> u32 {
        u32::from(one_in(2))
    }
}

/// What callers see of a small shard.
#[derive(Clone)]
pub(super) struct Small {
    pub port: Arc<Port>,
    /// The last batch that the device has made durable, for who checks an ack.
    pub durable: Arc<AtomicU64>,
    closing: Arc<crate::sync::atomic::AtomicBool>,
}

/// How a shard in small is made, and how it goes.
pub(super) struct Plan {
    pub stage_bytes: usize,
    pub batch_bytes_max: usize,
    /// Bytes of a log that are staged and not durable; 0: any number.
    pub log_bytes_max: u64,
    /// One batch in so many fails; 0: none does.
    pub fails_one_in: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { stage_bytes: 32 << 10, batch_bytes_max: 8 << 10, log_bytes_max: 0, fails_one_in: 0 }
    }
}

pub(super) fn log(counter: u64) -> LogId {
    LogId::new(ShardId(0), counter)
}

impl Small {
    fn new(plan: &Plan) -> Self {
        let spec = IntakeSpec {
            stage_bytes: plan.stage_bytes,
            batch_bytes_max: plan.batch_bytes_max,
            unit: 4096,
            first_seq: 1,
            pipeline_min: 6 << 10,
            log_bytes_max: plan.log_bytes_max,
            span_bytes_max: 1 << 20,
            driven: None,
        };
        let intake = Intake::new(&spec, Arc::new(Ticks::default())).expect("memory");
        let mut state = ViewState::default();
        state.segments.insert(SEGMENT, SegmentView::unsealed(1, 1));
        for counter in 0..LOGS {
            intake.put_log(counter as usize, LogStage::new(Epoch(1), Lsn(0), 0));
            state.put_log(log(counter), LogView::new(Lsn(0), Lsn(0)));
        }
        let disk = SimStorage::new(1, Faults::default());
        let spec = DiskSpec { in_flight: 1, arena: None, lock: None };
        let under_way = UnderWay::new(&*disk.disk(&spec).expect("a disk"), 1, 0);
        let port = Port {
            intake: Arc::new(intake),
            view: Arc::new(View::new(ShardId(0), state)),
            requests: Mutex::default(),
            collected: Mutex::default(),
            meters: Arc::new(Meters::default()),
            under_way: Arc::new(under_way),
            usage: Arc::new(Usage::new(0, 0)),
        };
        Self { port: Arc::new(port), durable: Arc::default(), closing: Arc::default() }
    }

    /// Starts the shard's thread.
    pub fn start(plan: &Plan) -> (Self, thread::JoinHandle<()>) {
        let small = Self::new(plan);
        let bell = Arc::new(RungBell::default());
        small.port.intake.set_bell(Arc::clone(&bell) as Arc<dyn Bell>);
        let pump = Pump {
            small: small.clone(),
            bell,
            clock: Ticks::default(),
            fails_one_in: plan.fails_one_in,
            pending: None,
            in_flight: VecDeque::new(),
            waking: Waking::default(),
            wakers: Vec::new(),
            acked: 0,
            at: 4096,
        };
        (small, thread::spawn(move || pump.run()))
    }

    /// Asks the shard to end: what is staged drains.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.port.intake.ring_bell();
    }
}

/// The shard's side.
struct Pump {
    small: Small,
    bell: Arc<RungBell>,
    clock: Ticks,
    fails_one_in: u32,
    pending: Option<Closed>,
    in_flight: VecDeque<Closed>,
    waking: Waking,
    wakers: Vec<Waker>,
    acked: u64,
    at: u64,
}

impl Pump {
    fn run(mut self) {
        while self.turn() {}
        // A halted shard is there until it is closed, and does nothing.
        while !self.small.closing.load(Ordering::SeqCst) {
            self.bell.wait();
        }
        let port = &self.small.port;
        port.intake.finish();
        port.view.end(Ended::Closed);
        port.end_requests();
    }

    fn turn(&mut self) -> bool {
        let port = Arc::clone(&self.small.port);
        let closing = self.small.closing.load(Ordering::SeqCst);
        if closing {
            port.intake.close();
        }
        let busy = !self.in_flight.is_empty();
        port.intake.park(busy);
        if !self.has_work(busy) && !self.waking.is_under_way() {
            if busy {
                thread::yield_now();
            } else if closing && self.pending.is_none() {
                return false;
            } else {
                self.bell.wait();
            }
        }
        port.intake.unpark();
        if busy && one_in(2) && !self.land() {
            return false;
        }
        let idle = self.in_flight.is_empty();
        self.waking.step(&self.clock, &port.intake, &port.meters, idle);
        self.write(busy);
        true
    }

    fn has_work(&self, busy: bool) -> bool {
        match &self.pending {
            Some(closed) => closed.staged.filled() && self.in_flight.len() < DEPTH,
            None => self.small.port.intake.has_work(busy),
        }
    }

    /// The oldest write has landed; false when it has failed.
    fn land(&mut self) -> bool {
        let port = Arc::clone(&self.small.port);
        let Some(closed) = self.in_flight.pop_front() else { return true };
        let (seq, bytes) = (closed.staged.seq(), closed.staged.as_slice().len() as u64);
        if self.fails_one_in != 0 && one_in(self.fails_one_in) {
            let error = std::io::Error::other("a failure of the model");
            let cause = Arc::new(Cause { doing: "writing".into(), error });
            port.intake.fail(seq, Arc::clone(&cause));
            port.view.end(Ended::Halted(cause));
            return false;
        }
        self.small.durable.store(seq, Ordering::SeqCst);
        let (offset, time_us, runs) = (self.at, closed.time_us, &closed.runs);
        let durable = Durable { segment: SEGMENT, offset, bytes, seq, time_us, runs };
        port.view.publish(std::iter::once(durable));
        self.at += bytes;
        closed.staged.freeze();
        self.waking.landed(0, self.clock.mono_ns(), &port.meters);
        port.intake.recycle(closed.runs);
        let span = (self.acked, seq);
        self.waking.acked(&port.intake, span, closed.records, &mut self.wakers);
        self.acked = seq;
        port.view.notify(&mut self.wakers);
        true
    }

    /// Hands the next batch to the device, once all of it is there.
    fn write(&mut self, busy: bool) {
        if self.pending.is_none() {
            self.pending = self.small.port.intake.take(busy);
        }
        let ready = |closed: &mut Closed| closed.staged.filled();
        if self.in_flight.len() < DEPTH
            && let Some(closed) = self.pending.take_if(ready)
        {
            check(&closed);
            self.in_flight.push_back(closed);
        }
    }
}

/// What a batch must hold: each record that its runs promise, whole, and no other.
fn check(closed: &Closed) {
    let bytes = &closed.staged.as_slice()[..closed.staged.used()];
    let mut runs = closed.runs.clone();
    let mut at = BATCH_FRONT_BYTES;
    for _ in 0..closed.records {
        let (record, framed) = read_record(&bytes[at..]).expect("a record that is not whole");
        let header = record.header;
        let of = |run: &&mut Run| (run.log, run.epoch) == (header.log, header.epoch);
        let run = runs.iter_mut().find(of).expect("a record of no run");
        assert_eq!(header.lsn, run.first_lsn, "another record");
        (run.first_lsn, run.count) = (header.lsn.next(), run.count - 1);
        at += framed;
    }
    assert!(runs.iter().all(|run| run.count == 0), "a record is missing");
}
