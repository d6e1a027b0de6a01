//! A full disk is a state: a scripted life on a disk that others fill to the last byte, at every
//! so many changes of it, once with ENOSPC and once with EDQUOT; and the same where others take at
//! once what is given back.
//!
//! Invariants checked at each point: no shard halts while it runs, appends succeed or get `NoSpace`
//! with the record back, reads, truncation, collection and closing are served, the directory opens
//! with zero bytes free (after a close, after a power cut, for reading only), nothing acked is
//! lost; appends succeed again within 1000 turns of a millisecond after space has returned, without
//! a restart.
//!
//! Not here: failures of other kinds (`halts`), a real file system (`tests/lab/fulldisk.sh`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sapwood::io::sim::{Faults, Filling, SimStorage};
use sapwood::{Config, Driving, Engine, Error, From, LogOptions, LogSettings, Lsn, Ticket, Writer};
use sapwood_tests::small::config;

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// Rounds of a life; the engine is closed and opened again before some.
const ROUNDS: u64 = 9;
const REOPENED: [u64; 3] = [3, 5, 7];

/// Rounds that a life goes on for on the full disk.
const ROUNDS_FULL: u64 = 3;

/// Turns of a millisecond in which appends must succeed again.
const RESUMES_IN_MS: usize = 1000;

fn payload(log: &str, lsn: u64) -> Vec<u8> {
    let mut bytes = format!("{log}:{lsn}:").into_bytes();
    bytes.resize(2_000 + (lsn as usize * 7919) % 26_000, lsn as u8);
    bytes
}

/// What is known of a log.
#[derive(Clone, Debug, Default)]
struct Truth {
    acked: u64,
    staged: u64,
    start: u64,
    /// A truncation that was asked for.
    asked: u64,
    cursor: Option<u64>,
}

struct Life {
    disk: SimStorage,
    engine: Engine,
    drivers: Vec<Driving>,
    writers: BTreeMap<String, Writer>,
    truth: BTreeMap<String, Truth>,
    pending: Vec<(String, u64, Ticket)>,
    /// Refusals met.
    refused: u64,
}

impl Life {
    fn open(disk: &SimStorage, truth: BTreeMap<String, Truth>) -> Self {
        let opened = Engine::open_on(Arc::new(disk.clone()), config());
        let (engine, drivers) = opened.unwrap_or_else(|e| panic!("opening: {e}"));
        let drivers = drivers.into_iter().map(|driver| driver.bind().unwrap()).collect();
        let damages: Vec<_> = engine.recovery().iter().flat_map(|r| r.damages.clone()).collect();
        assert!(damages.is_empty(), "{damages:?}");
        let (disk, writers, pending) = (disk.clone(), BTreeMap::new(), Vec::new());
        let mut life = Self { disk, engine, drivers, writers, truth, pending, refused: 0 };
        life.settle();
        life.read();
        life
    }

    /// After an open: what is there counts.
    fn settle(&mut self) {
        for (name, truth) in &mut self.truth {
            let log = self.engine.find(name).unwrap().unwrap_or_else(|| panic!("{name} is gone"));
            let info = log.info().unwrap();
            let (start, end) = (info.start.0, info.durable.0);
            assert!((truth.acked..=truth.staged).contains(&end), "{name}: {end} of {truth:?}");
            assert!((truth.start..=truth.asked).contains(&start), "{name}: {start} of {truth:?}");
            (truth.acked, truth.staged, truth.start, truth.asked) = (end, end, start, start);
            let at = log.cursor("place").unwrap().get().unwrap().map(|lsn| lsn.0);
            assert!(at >= truth.cursor, "{name}: the cursor is at {at:?}: {truth:?}");
        }
    }

    fn turns(&mut self, times: usize) {
        for _ in 0..times {
            self.drivers.iter_mut().for_each(|driver| {
                driver.turn(Duration::from_millis(1));
            });
        }
        self.collect();
    }

    fn collect(&mut self) {
        let all = std::mem::take(&mut self.pending);
        let (done, open) = all.into_iter().partition(|(_, _, ticket)| ticket.is_done());
        self.pending = open;
        for (name, lsn, ticket) in done {
            let ticket: Ticket = ticket;
            let ack = ticket.wait().unwrap_or_else(|e| panic!("an append to {name}: {e}"));
            assert_eq!(ack.position.lsn, Lsn(lsn));
            let truth = self.truth.get_mut(&name).unwrap();
            assert_eq!(truth.acked, lsn, "{name}: acked out of order");
            truth.acked = lsn + 1;
        }
    }

    /// Only a full disk may be in the way.
    fn refused<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::NoSpace(_)) => {
                self.refused += 1;
                None
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn log(&mut self, name: &str) -> Option<sapwood::Log> {
        let log = self.engine.log(name);
        let log = self.refused(log)?;
        self.truth.entry(name.to_owned()).or_default();
        Some(log)
    }

    fn append(&mut self, name: &str, count: usize) {
        if !self.writers.contains_key(name) {
            let Some(log) = self.log(name) else { return };
            let writer = log.writer();
            let Some(writer) = self.refused(writer) else { return };
            self.collect();
            let truth = &self.truth[name];
            assert_eq!((writer.first().lsn.0, truth.acked), (truth.staged, truth.staged));
            self.writers.insert(name.to_owned(), writer);
        }
        for _ in 0..count {
            let lsn = self.truth[name].staged;
            match self.writers[name].submit(payload(name, lsn)) {
                Ok(ticket) => {
                    self.truth.get_mut(name).unwrap().staged += 1;
                    self.pending.push((name.to_owned(), lsn, ticket));
                }
                Err(rejected) => {
                    assert!(rejected.record.is_some_and(|back| back == payload(name, lsn)));
                    match rejected.error {
                        Error::NoSpace(_) => self.refused += 1,
                        Error::Busy => self.turns(5),
                        other => panic!("{other}"),
                    }
                }
            }
        }
    }

    fn read(&self) {
        read(&self.engine, &self.truth);
    }

    fn truncate(&mut self, name: &str) {
        let Some(log) = self.engine.find(name).unwrap() else { return };
        let info = log.info().unwrap();
        let to = (info.start.0 + info.durable.0) / 2;
        self.truth.get_mut(name).unwrap().asked = to;
        log.truncate(Lsn(to)).unwrap_or_else(|e| panic!("truncating {name}: {e}"));
        self.truth.get_mut(name).unwrap().start = to;
    }

    fn cut(&mut self, name: &str) {
        self.collect();
        if !self.pending.is_empty() {
            return; // it would wait until that is durable
        }
        let Some(writer) = self.writers.get(name).cloned() else { return };
        let to = self.truth[name].staged.saturating_sub(2).max(self.truth[name].asked);
        let cut = writer.cut_to(Lsn(to)).wait();
        if self.refused(cut).is_some() {
            let truth = self.truth.get_mut(name).unwrap();
            (truth.acked, truth.staged) = (to, to);
        } else {
            // It changed nothing; a writer that was fenced is taken anew.
            self.writers.remove(name);
        }
    }

    fn place(&mut self, name: &str) {
        let Some(log) = self.log(name) else { return };
        let start = log.start().unwrap();
        let set = log.cursor("place").unwrap().set(start);
        if self.refused(set).is_some() {
            self.truth.get_mut(name).unwrap().cursor = Some(start.0);
        }
    }

    fn round(&mut self, round: u64) {
        self.append("a", 40);
        self.turns(5);
        self.append("b", 25);
        self.turns(20);
        if round % 2 == 1 {
            self.append("cut", 3);
            self.turns(20);
            self.cut("cut");
        }
        self.append(&format!("new-{round}"), 1);
        self.turns(10);
        self.place("b");
        self.truncate("a");
        let settings = LogSettings { retention_secs: Some(86_400), ..Default::default() };
        if let Some(log) = self.log("b") {
            let set = log.set(settings);
            self.refused(set);
        }
        self.engine.gc().unwrap_or_else(|e| panic!("collecting: {e}"));
        self.turns(20);
        self.read();
    }

    /// Closes and opens again. What is staged and has no room is unknown then.
    fn reopen(mut self) -> Self {
        let closed = self.engine.close();
        let all = std::mem::take(&mut self.pending);
        let mut unknown = false;
        for (name, lsn, ticket) in all {
            match ticket.wait() {
                Ok(_) if !unknown => self.truth.get_mut(&name).unwrap().acked = lsn + 1,
                Ok(_) => panic!("acked behind one that was not"),
                Err(Error::Unknown { .. }) => unknown = true,
                Err(other) => panic!("{other}"),
            }
        }
        match closed {
            Ok(()) => assert!(!unknown, "closed, with appends unknown"),
            Err(Error::Halted { .. }) => assert!(unknown, "nothing was staged: {closed:?}"),
            Err(other) => panic!("closing: {other}"),
        }
        let Self { disk, engine, drivers, writers, truth, .. } = self;
        drop((engine, drivers, writers));
        look(&disk, &truth);
        Self::open(&disk, truth)
    }

    /// The power goes, and comes back.
    fn crash(mut self) -> Self {
        self.collect();
        let Self { disk, engine, drivers, writers, truth, pending, .. } = self;
        let after = disk.crash();
        drop((pending, writers, drivers, engine));
        look(&after, &truth);
        Self::open(&after, truth)
    }

    /// Space has returned: every log takes appends again, soon, and so does a new one.
    fn resumes(&mut self) {
        let mut turns = 0;
        for name in ["a", "b", "resumed"] {
            let before = self.truth.get(name).map_or(0, |truth| truth.acked.max(truth.staged));
            while self.truth.get(name).is_none_or(|truth| truth.acked <= before) {
                if self.truth.get(name).is_none_or(|truth| truth.staged <= before) {
                    self.append(name, 1);
                }
                self.turns(1);
                turns += 1;
                assert!(turns < RESUMES_IN_MS, "appends to {name} do not resume");
            }
        }
    }

    fn end(mut self) {
        self.resumes();
        let life = self.reopen();
        life.read();
        assert!(life.truth.values().all(|truth| truth.acked == truth.staged));
        life.engine.close().unwrap();
    }
}

/// Everything durable is there and is what was appended.
fn read(engine: &Engine, truth: &BTreeMap<String, Truth>) {
    for (name, truth) in truth {
        let log = engine.find(name).unwrap().unwrap();
        let mut reader = log.reader(From::Start).unwrap();
        let mut lsn = log.start().unwrap().0;
        while let Some(record) = reader.next().wait().unwrap_or_else(|e| panic!("{name}: {e}")) {
            assert_eq!((record.lsn(), record.payload()), (Lsn(lsn), &*payload(name, lsn)));
            lsn += 1;
        }
        assert!((truth.acked..=truth.staged).contains(&lsn), "{name}: {lsn} of {truth:?}");
    }
}

/// Opened for reading only, nothing is written and everything is there.
fn look(disk: &SimStorage, truth: &BTreeMap<String, Truth>) {
    let changes = disk.changes();
    let config = Config { read_only: true, ..config() };
    let (engine, _) = Engine::open_on(Arc::new(disk.clone()), config)
        .unwrap_or_else(|e| panic!("opening for reading: {e}"));
    read(&engine, truth);
    assert_eq!(disk.changes(), changes, "a reader changed the disk");
}

/// How a life goes on once the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    Reopen,
    Crash,
}

/// Lives a life; the disk fills up as `filling` says. Returns changes made and refusals met.
fn live(seed: u64, filling: Option<Filling>, then: Then) -> (u64, u64) {
    let disk = SimStorage::new(seed, Faults::default());
    let mut life = Life::open(&disk, BTreeMap::new());
    disk.fill(filling);
    let mut full_since = None;
    let mut refused = 0;
    for round in 0..ROUNDS {
        if REOPENED.contains(&round) {
            refused += std::mem::take(&mut life.refused);
            life = life.reopen();
        }
        life.round(round);
        if filling.is_some_and(|filling| life.disk.changes() >= filling.from_change) {
            let since = *full_since.get_or_insert(round);
            if round == since && then != Then::GoOn {
                refused += std::mem::take(&mut life.refused);
                life = if then == Then::Reopen { life.reopen() } else { life.crash() };
            }
            if round - since == ROUNDS_FULL {
                life.disk.fill(None);
                life.resumes();
            }
        }
    }
    life.disk.fill(None);
    refused += life.refused;
    let changes = life.disk.changes();
    life.end();
    (changes, refused)
}

fn every_point(points: u64, errno: i32, greedy: bool) {
    let (changes, refused) = live(1, None, Then::GoOn);
    assert_eq!(refused, 0, "refused on a disk with room");
    assert!(changes > 2 * points, "{changes} changes");
    let mut refused = 0;
    for point in 0..points {
        let from_change = changes * point / points;
        let filling = Filling { from_change, errno, greedy };
        let then = [Then::GoOn, Then::Reopen, Then::Crash][point as usize % 3];
        println!("point {point}: {filling:?}, then {then:?}");
        refused += live(1, Some(filling), then).1;
    }
    assert!(refused > points, "{refused} refusals at {points} points");
}

#[test]
fn a_disk_full_at_every_point_of_a_life() {
    every_point(120, ENOSPC, false);
}

#[test]
fn a_quota_used_up_at_every_point_of_a_life() {
    every_point(120, EDQUOT, false);
}

#[test]
fn a_disk_full_at_every_point_whose_space_others_take() {
    every_point(120, ENOSPC, true);
}

// `Log::writer` waits for what was staged before its fence. On a full disk that has no room, so it
// waited until somebody made some, and the thread that drives the shard with it.
#[test]
fn a_writer_on_a_full_disk_is_refused_instead_of_kept_waiting() {
    let mut life = Life::open(&SimStorage::new(2, Faults::default()), BTreeMap::new());
    life.disk.fill(Some(Filling { from_change: 0, errno: ENOSPC, greedy: false }));
    life.append("a", 3);
    life.turns(5);
    assert!(!life.pending.is_empty(), "staged, without a segment");
    let log = life.log("b").expect("a log is created in the room that the manifest has");
    assert!(matches!(log.writer(), Err(Error::NoSpace(_))));
    life.disk.fill(None);
    life.end();
}

/// Three records are staged, the disk is full and no segment is there for them; the shard has not
/// found out yet.
fn staged_on_a_full_disk() -> (Life, Writer) {
    let mut life = Life::open(&SimStorage::new(4, Faults::default()), BTreeMap::new());
    life.disk.fill(Some(Filling { from_change: 0, errno: ENOSPC, greedy: true }));
    life.append("a", 3);
    let writer = life.writers["a"].clone();
    assert!(writer.check().is_ok(), "refused already");
    (life, writer)
}

// A cut, and a flush, waited for what was staged before them, on a full disk for as long as it was
// full; the thread that drives the shard waited too. They are refused instead, and change nothing.
#[test]
fn a_flush_on_a_full_disk_is_refused_instead_of_kept_waiting() {
    for asynchronous in [false, true] {
        let (mut life, writer) = staged_on_a_full_disk();
        let flush = writer.flush();
        let flushed = if asynchronous { turning(&mut life, flush) } else { flush.wait() };
        assert!(matches!(flushed, Err(Error::NoSpace(_))), "{flushed:?}");
        life.disk.fill(None);
        life.turns(200);
        assert_eq!(writer.flush().wait().unwrap().position.lsn, Lsn(3));
        life.end();
    }
}

#[test]
fn a_cut_on_a_full_disk_is_refused_and_changes_nothing() {
    for asynchronous in [false, true] {
        let (mut life, writer) = staged_on_a_full_disk();
        let epoch = writer.epoch();
        let cut = writer.cut_to(Lsn(1));
        let cut = if asynchronous { turning(&mut life, cut) } else { cut.wait() };
        assert!(matches!(cut, Err(Error::NoSpace(_))), "{cut:?}");
        assert_eq!(writer.epoch(), epoch);
        life.disk.fill(None);
        life.turns(200);
        assert_eq!(life.truth["a"].acked, 3, "what was to be cut is there");
        life.append("a", 2); // by the same writer, behind it
        life.turns(5);
        let first = writer.cut_to(Lsn(4)).wait().unwrap();
        assert_eq!((first.lsn, first.epoch.0), (Lsn(4), epoch.0 + 1));
        life.collect();
        let truth = life.truth.get_mut("a").unwrap();
        (truth.acked, truth.staged) = (4, 4);
        life.end();
    }
}

/// Polls, and turns the shard in between.
fn turning<T>(life: &mut Life, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        life.turns(1);
    }
    panic!("it waits");
}

// A snapshot of many logs went to a slot that was grown for it. The other slot was as short as it
// was made; the disk filled up, the power went, and the next open had no place for its snapshot.
#[test]
fn a_directory_of_many_logs_opens_on_a_full_disk() {
    let full = Filling { from_change: 0, errno: ENOSPC, greedy: true };
    let mut life = Life::open(&SimStorage::new(5, Faults::default()), BTreeMap::new());
    let names: Vec<String> = (0..4000).map(|n| format!("{n:0>100}")).collect();
    let options = LogOptions::default();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    life.engine.create_many(&wanted[..3000]).unwrap();
    life.append("a", 3);
    life.turns(50);
    life.disk.fill(Some(full));
    for name in &names[..3] {
        let logs = life.engine.logs().len();
        life = life.crash();
        assert_eq!(life.engine.logs().len(), logs);
        // As many more as there is room for; then it is told, and not waited for.
        let mut refused = 0;
        for part in wanted[3000..].chunks(10) {
            let created = life.engine.create_many(part).map(drop);
            refused += u64::from(life.refused(created).is_none());
        }
        assert!(refused > 0, "the manifest takes whatever comes");
        life.truncate("a");
        life.engine.delete_log(name).unwrap();
    }
    life.disk.fill(None);
    life.turns(200);
    life.engine.create_many(&wanted[3000..]).unwrap();
    let life = life.crash();
    assert_eq!(life.engine.logs().len(), names.len() - 3 + 1);
    life.end();
}

// A snapshot was taken only once its slot had been grown to hold it twice over. On a full disk no
// slot grows: edits waited for ever, truncation with them, although the snapshot would have fitted.
#[test]
fn a_manifest_that_cannot_grow_takes_edits_as_long_as_it_fits() {
    let mut life = Life::open(&SimStorage::new(3, Faults::default()), BTreeMap::new());
    let names: Vec<String> = (0..1000).map(|n| format!("{n:0>100}")).collect();
    let options = LogOptions::default();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    life.engine.create_many(&wanted).unwrap();
    life.turns(20); // the other slot is grown ahead
    life.disk.fill(Some(Filling { from_change: 0, errno: ENOSPC, greedy: true }));
    let cursor = life.engine.log(&names[0]).unwrap().cursor("place").unwrap();
    for _ in 0..200 {
        cursor.set(Lsn(0)).unwrap();
    }
    let mut life = life.reopen();
    assert_eq!(life.engine.logs().len(), names.len());
    life.disk.fill(None);
    life.resumes();
    life.engine.close().unwrap();
}
