//! Every I/O of a scripted life fails in turn: refused, landed and told as failed, out of space;
//! once, and from there on for ever. The life has rolls, seals, a truncation, collection,
//! relocation, recycling, a cut, a cursor, a deletion, a close, a power cut and two recoveries.
//!
//! Whatever fails: nothing panics or hangs, no read shows anything but what was written, no error
//! of the disk is told as damage; and afterwards, restarted or with the power cut, the directory
//! opens, holds all that was acked, in order, and takes appends.
//!
//! A run takes another share of the points each day; `SAPWOOD_EVERY_IO=all` takes all of them,
//! `SAPWOOD_EVERY_IO=N` only that one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use std::collections::BTreeMap;
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use sapwood::io::sim::{Faults, Rng, SimStorage};
use sapwood::{Config, Driving, Engine, Error, From, Log, LogOptions, Lsn, Result, Writer};
use sapwood_tests::fail::{FailStorage, Failing, Kind, Plan, onto};
use sapwood_tests::small;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Points in all, at least: else the life has become a dull one.
const POINTS_MIN: u64 = 300;

/// One point in so many is taken by a run that was not told otherwise.
const ONE_IN: u64 = 17;

/// A point that takes longer, in real time, hangs.
const HUNG: Duration = Duration::from_secs(100);

fn config() -> Config {
    let idle_mark_delay = Duration::from_millis(5);
    Config { record_bytes_max: 60 << 10, idle_mark_delay, ..small::config() }
}

/// What one log has to hold.
#[derive(Clone, Debug, Default)]
struct Truth {
    /// What was staged, by LSN; all that may ever be read.
    staged: Vec<Vec<u8>>,
    /// So many of them have to be there.
    acked: u64,
    start_known: u64,
    start_asked: u64,
    created: bool,
    delete_asked: bool,
    deleted: bool,
}

/// A life under way.
struct Life {
    storage: FailStorage,
    truths: BTreeMap<&'static str, Truth>,
    rng: Rng,
    failures: Vec<String>,
    /// Sealed segments that are gone, and that moved.
    freed: u64,
    relocated: u64,
}

/// An engine that is open, and who drives it.
struct Session {
    engine: Engine,
    drivers: Vec<Driving>,
}

impl Session {
    fn open(storage: &FailStorage) -> Result<Self> {
        let (engine, drivers) = small::open(storage.clone(), config())?;
        Ok(Self { engine, drivers })
    }

    /// Lets time pass: marks, seals, spares, edits.
    fn idle(&mut self) {
        for _ in 0..60 {
            self.drivers[0].turn(Duration::from_millis(1));
        }
    }
}

impl Life {
    fn new(plan: Option<Plan>) -> Self {
        let world = SimStorage::new(5, Faults::default());
        let truths = NAMES.map(|name| (name, Truth::default())).into();
        let storage = FailStorage::with(world, Failing::new(plan));
        let (rng, failures) = (Rng::new(9), Vec::new());
        Self { storage, truths, rng, failures, freed: 0, relocated: 0 }
    }

    fn truth(&mut self, name: &'static str) -> &mut Truth {
        self.truths.get_mut(name).unwrap()
    }

    /// Notes an error; it must be one that a failing disk may give.
    fn note<T>(&mut self, doing: &str, result: Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let fitting = matches!(
            error,
            Error::NoSpace(_)
                | Error::Unknown { .. }
                | Error::Halted { .. }
                | Error::Io { .. }
                | Error::NoSuchLog(_)
                | Error::Closed
        );
        assert!(fitting, "{doing}: {error} ({error:?}), after {:?}", self.failures);
        assert!(self.storage.failed() > 0, "{doing}: {error}, and nothing had failed");
        self.failures.push(format!("{doing}: {error}"));
        None
    }

    /// Opens, twice if need be: a failure that happens once must not be for ever.
    fn open(&mut self) -> Option<Session> {
        let first = Session::open(&self.storage);
        let opened = self.note("opening", first);
        opened.or_else(|| {
            let again = Session::open(&self.storage);
            self.note("opening again", again)
        })
    }

    fn log(&mut self, session: &Session, name: &'static str) -> Option<Log> {
        let created = session.engine.create(name, &LogOptions::default());
        let log = match created {
            Err(Error::Invalid(_)) => session.engine.find(name).map(Option::unwrap),
            other => other,
        };
        let log = self.note("creating", log)?;
        self.truth(name).created = true;
        Some(log)
    }

    fn payload(&mut self, large: bool) -> Vec<u8> {
        let bytes = if large { 28_000 + self.rng.below(4_000) } else { self.rng.below(600) };
        let words = (0..bytes.div_ceil(8)).flat_map(|_| self.rng.next_u64().to_le_bytes());
        words.take(bytes as usize).collect()
    }

    /// Appends so many, four at a time, until one fails.
    fn append(&mut self, name: &'static str, writer: Option<&Writer>, count: u64, large: bool) {
        let Some(writer) = writer else { return };
        for _ in 0..count.div_ceil(4) {
            let mut tickets = Vec::new();
            for _ in 0..4 {
                let payload = self.payload(large);
                let submitted = writer.submit(payload.clone()).map_err(|refused| refused.error);
                let Some(ticket) = self.note("submitting", submitted) else { break };
                let staged = &mut self.truth(name).staged;
                assert_eq!(ticket.position().lsn, Lsn(staged.len() as u64));
                staged.push(payload);
                tickets.push(ticket);
            }
            let whole = tickets.len() == 4;
            for ticket in tickets {
                let waited = ticket.wait();
                if let Some(ack) = self.note("appending", waited) {
                    let truth = self.truth(name);
                    assert_eq!(ack.position.lsn, Lsn(truth.acked), "an ack out of order");
                    truth.acked += 1;
                }
            }
            if !whole {
                return;
            }
        }
    }

    fn cut(&mut self, writer: Option<&Writer>) {
        let Some(writer) = writer else { return };
        let truth = self.truth("b");
        if truth.acked < 20 || truth.staged.len() as u64 > truth.acked {
            return;
        }
        truth.acked = 10;
        let cut = writer.cut_to(Lsn(10)).wait();
        if self.note("cutting", cut).is_some() {
            self.truth("b").staged.truncate(10);
            self.append("b", Some(writer), 8, false);
        }
    }

    fn truncate(&mut self, log: Option<&Log>, to: u64) {
        let Some(log) = log else { return };
        if self.truth("a").acked < to {
            return;
        }
        self.truth("a").start_asked = to;
        let truncated = log.truncate(Lsn(to));
        if self.note("truncating", truncated).is_some() {
            self.truth("a").start_known = to;
        }
    }

    fn collect(&mut self, session: &Session) {
        let collected = session.engine.gc();
        let Some(report) = self.note("collecting", collected) else { return };
        let sealed: u64 = session.engine.metrics().iter().map(|shard| shard.seals).sum();
        self.relocated += report.relocated_segments;
        self.freed = sealed.saturating_sub(report.kept.len() as u64);
    }

    fn delete(&mut self, session: &Session) {
        self.truth("c").delete_asked = true;
        let deleted = session.engine.delete_log("c");
        if self.note("deleting", deleted).is_some() {
            self.truth("c").deleted = true;
        }
    }

    /// The life. Ends early where nothing more can be done.
    fn live(&mut self) {
        let Some(mut session) = self.open() else { return };
        let logs = NAMES.map(|name| self.log(&session, name));
        let writers = logs.each_ref().map(|log| {
            let writer = log.as_ref().map(Log::writer);
            writer.and_then(|writer| self.note("opening a writer", writer))
        });
        let [a, b, c] = writers.each_ref().map(Option::as_ref);
        // A segment of a alone, one that b and c pin, others of a.
        self.append("a", a, 40, true);
        self.append("b", b, 20, false);
        self.append("c", c, 4, false);
        self.append("a", a, 80, true);
        self.cut(b);
        if let (Some(log), true) = (&logs[0], self.truth("a").acked >= 120) {
            let cursor = log.cursor("reader").and_then(|cursor| cursor.set(Lsn(120)));
            self.note("keeping a place", cursor);
        }
        self.truncate(logs[0].as_ref(), 110);
        session.idle();
        self.collect(&session);
        self.delete(&session);
        self.append("a", a, 80, true);
        self.truncate(logs[0].as_ref(), 180);
        session.idle();
        self.collect(&session);
        self.read(&session.engine, false);
        let closed = session.engine.close();
        self.note("closing", closed);
        drop(session);
        self.live_on();
    }

    /// The second session ends with a power cut, the third recovers from that.
    fn live_on(&mut self) {
        for last in [false, true] {
            let Some(mut session) = self.open() else { return };
            let found = session.engine.find("a");
            let log = self.note("finding", found).flatten();
            if let Some(log) = log {
                self.settle_tail(&log);
                let writer = log.writer();
                let writer = self.note("opening a writer", writer);
                self.append("a", writer.as_ref(), 12, true);
            }
            session.idle();
            if last {
                let closed = session.engine.close();
                self.note("closing", closed);
                return;
            }
            let after = self.storage.world().crash();
            self.storage = onto(&self.storage, after);
        }
    }

    /// What a reopening kept of what was not acked is acked from now on.
    fn settle_tail(&mut self, log: &Log) {
        let durable = log.durable().unwrap().0;
        let truth = self.truth("a");
        assert!((truth.acked..=truth.staged.len() as u64).contains(&durable), "{durable} kept");
        truth.staged.truncate(durable as usize);
        truth.acked = durable;
    }

    /// Reads all there is. `whole`: nothing fails any more, so that all of it must be there.
    fn read(&mut self, engine: &Engine, whole: bool) {
        for name in NAMES {
            let found = engine.find(name);
            let Some(found) = self.note("finding", found) else { continue };
            let truth = self.truths[name].clone();
            let Some(log) = found else {
                assert!(!truth.created || truth.delete_asked, "log {name} is gone");
                continue;
            };
            assert!(!truth.deleted, "log {name} is back");
            self.read_log(&log, &truth, whole);
        }
    }

    fn read_log(&mut self, log: &Log, truth: &Truth, whole: bool) {
        let name = log.name().to_owned();
        let Ok(start) = log.start() else {
            assert!(!whole || truth.delete_asked, "log {name} has no start");
            return;
        };
        let starts = truth.start_known..=truth.start_asked;
        assert!(starts.contains(&start.0), "log {name} starts at {start}, not in {starts:?}");
        let reader = log.reader(From::Start);
        let Some(mut reader) = self.note("reading", reader) else { return };
        let mut next = start.0;
        loop {
            let read = reader.next().wait();
            match read {
                Ok(Some(record)) => {
                    assert_eq!(record.lsn(), Lsn(next), "log {name}");
                    let staged = truth.staged.get(next as usize);
                    assert_eq!(Some(record.payload()), staged.map(Vec::as_slice), "{name} {next}");
                    next += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    self.note("reading", Err::<(), _>(error));
                    assert!(!whole, "log {name} can't be read: {:?}", self.failures);
                    return;
                }
            }
        }
        assert!(next >= truth.acked, "log {name}: {next} records, {} acked", truth.acked);
    }

    /// Nothing fails any more: it opens, everything is there, it goes on.
    fn judge(&mut self, world: SimStorage) {
        let storage = onto(&self.storage, world);
        storage.plan(None);
        let mut session = Session::open(&storage)
            .unwrap_or_else(|e| panic!("opening when all is mended: {e}, {:?}", self.failures));
        self.read(&session.engine, true);
        let log = session.engine.log("a").unwrap();
        let ack = log.writer().unwrap().append(b"on").wait().unwrap();
        assert!(ack.position.lsn.0 >= self.truths["a"].acked);
        session.idle();
        session.engine.close().unwrap();
    }
}

fn number_of_points() -> u64 {
    let mut life = Life::new(None);
    life.live();
    assert!(life.failures.is_empty(), "{:?}", life.failures);
    assert!(life.truths["a"].acked > 160 && life.truths["c"].deleted, "{:?}", life.truths);
    assert!(life.freed >= 2, "only {} segments were collected", life.freed);
    assert!(life.relocated > 0, "nothing was relocated");
    let points = life.storage.counted();
    let world = life.storage.world().clone();
    life.judge(world.crash());
    life.judge(world);
    points
}

/// Points under way, for who looks whether they end.
fn watch(at: &Arc<AtomicU64>) {
    let at = Arc::clone(at);
    thread::spawn(move || {
        let mut seen = at.load(Ordering::Relaxed);
        loop {
            thread::sleep(HUNG);
            let now = at.load(Ordering::Relaxed);
            if now == u64::MAX {
                return;
            }
            if now == seen {
                eprintln!("point {now} hangs: SAPWOOD_EVERY_IO={now}");
                abort();
            }
            seen = now;
        }
    });
}

fn chosen(points: u64) -> Vec<u64> {
    let asked = std::env::var("SAPWOOD_EVERY_IO").ok().filter(|text| !text.is_empty());
    match asked.as_deref() {
        Some("all") => (1..=points).collect(),
        Some(text) => vec![text.parse().expect("SAPWOOD_EVERY_IO is `all` or a number")],
        None => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            (1 + now.as_secs() / 86_400 % ONE_IN..=points).step_by(ONE_IN as usize).collect()
        }
    }
}

#[test]
fn every_io_fails_in_turn_and_nothing_acked_is_lost() {
    let points = number_of_points();
    assert!(points >= POINTS_MIN, "only {points} points");
    println!("{points} points");
    let chosen = chosen(points);
    let at = Arc::new(AtomicU64::new(0));
    watch(&at);
    let mut told = 0;
    for &point in &chosen {
        at.store(point, Ordering::Relaxed);
        for kind in [Kind::Refused, Kind::Landed, Kind::Full] {
            for for_ever in [false, true] {
                println!("SAPWOOD_EVERY_IO={point}: {kind:?}, for ever: {for_ever}");
                let mut life = Life::new(Some(Plan { at: point, kind, for_ever }));
                life.live();
                told += u64::from(!life.failures.is_empty());
                assert!(!for_ever || life.storage.failed() > 0, "nothing failed");
                life.storage.plan(None);
                let world = life.storage.world().clone();
                life.judge(world.crash());
                life.judge(world);
            }
        }
    }
    at.store(u64::MAX, Ordering::Relaxed);
    let lives = chosen.len() * 6;
    eprintln!("{} of {points} points, {lives} lives, {told} of them were told", chosen.len());
    assert!(told > 0, "no failure was ever told");
}
