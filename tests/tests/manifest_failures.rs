//! The manifest's own writes fail: an edit, a snapshot into the other slot, the growth of a slot,
//! at an open and at a close; in one copy or in both, before they began or after they landed, once
//! and for ever, short and late.
//!
//! Whatever fails: the caller is told, the first cause is kept and shown, nothing is tried again
//! and then acked, another shard goes on; and a reopening, in place or after a power cut, finds the
//! old state or the new one, with all that was answered before.
//!
//! Not here: the wait of a manifest on a full disk (`disk_full`), failures everywhere (`every_io`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sapwood::io::Storage;
use sapwood::io::hooked::{Call, Fate, Hook, Hooked, What};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{
    Cause, Config, Driving, Engine, Error, From, HealthKind, Log, LogOptions, LogSettings, Lsn,
    Result, ShardId, Writer,
};
use sapwood_tests::fail::{FailStorage, Failing, Filter, Kind, Plan, onto};
use sapwood_tests::small;

/// Bytes of a slot that was never grown.
const SLOT_BYTES: u64 = 256 << 10;
/// Edits that fill such a slot, each in a frame of its own.
const EDITS_OF_A_SLOT: u64 = SLOT_BYTES / 4096;
const RECORDS: u64 = 8;

// ── which write of the manifest ──

fn is_of_x(call: &Call) -> bool {
    call.name.starts_with("manifest-000-")
}

fn runs(call: &Call, what: What) -> bool {
    call.token.is_some() && call.what == what && is_of_x(call)
}

fn any_edit(call: &Call) -> bool {
    runs(call, What::Write) && call.offset > 0 && call.offset < SLOT_BYTES
}

fn snapshot(call: &Call) -> bool {
    runs(call, What::Write) && call.offset == 0
}

fn growth(call: &Call) -> bool {
    runs(call, What::Write) && call.offset >= SLOT_BYTES
}

fn sync_of_growth(call: &Call) -> bool {
    runs(call, What::Sync)
}

/// What may be done to it at an open.
fn at_open(call: &Call) -> bool {
    call.token.is_none() && is_of_x(call)
}

/// How it fails: in its first copy, in its second, in both, and in all that follow.
fn plans(from: u64) -> impl Iterator<Item = Plan> {
    let kinds = [Kind::Refused, Kind::Landed];
    let copies = [(1, false), (2, false), (1, true), (2, true)];
    kinds.into_iter().flat_map(move |kind| {
        copies.into_iter().map(move |(copy, for_ever)| Plan { at: from + copy, kind, for_ever })
    })
}

// ── two shards, a log on each ──

struct Pair {
    storage: FailStorage,
    engine: Engine,
    drivers: Vec<Driving>,
    x: Log,
    y: Log,
    of_x: Writer,
    of_y: Writer,
}

fn config() -> Config {
    Config { shards: 2, ..small::config() }
}

fn grouped() -> LogOptions {
    LogOptions { group: Some("x".into()), ..LogOptions::default() }
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 100]
}

impl Pair {
    /// Log x is on shard 0, and so is log "other".
    fn new(seed: u64, filter: Filter) -> Self {
        let world = SimStorage::new(seed, Faults::default());
        let storage = Hooked::with(world, Failing::among(None, filter));
        let (engine, drivers) = small::open(storage.clone(), config()).unwrap();
        let x = engine.create("x", &grouped()).unwrap();
        engine.create("other", &grouped()).unwrap();
        let mut names = (0..).map(|n| format!("y{n}"));
        let y = names.find_map(|name| {
            let log = engine.log(&name).unwrap();
            (log.info().unwrap().shard != x.info().unwrap().shard).then_some(log)
        });
        let y = y.unwrap();
        assert_eq!(x.info().unwrap().shard, ShardId(0), "the filters are about shard 0");
        let (of_x, of_y) = (x.writer().unwrap(), y.writer().unwrap());
        for n in 0..RECORDS {
            of_x.append(payload(n)).wait().unwrap();
            of_y.append(payload(n)).wait().unwrap();
        }
        let mut pair = Self { storage, engine, drivers, x, y, of_x, of_y };
        pair.settle();
        pair
    }

    /// Marks, spares: nothing is under way afterwards.
    fn settle(&mut self) {
        for _ in 0..60 {
            for driver in &mut self.drivers {
                driver.turn(Duration::from_millis(1));
            }
        }
    }

    fn counted(&self) -> u64 {
        self.storage.counted()
    }

    /// Shard 0 is halted by `cause`: told, shown, not tried again; the rest goes on.
    fn is_halted(&mut self, cause: &Arc<Cause>) {
        assert!(cause.doing.contains("writing the manifest"), "{cause}");
        assert_eq!(cause.error.raw_os_error(), Some(5), "{cause}");
        let written = self.counted();
        self.storage.plan(None);
        self.settle();
        let same = |error: &Error| match error {
            Error::Halted { cause: why } => Arc::ptr_eq(why, cause),
            _ => false,
        };
        for refused in [
            self.x.truncate(Lsn(1)).unwrap_err(),
            self.x.writer().map(drop).unwrap_err(),
            self.of_x.submit(b"late").map(drop).unwrap_err().error,
            self.engine.create("late", &grouped()).map(drop).unwrap_err(),
        ] {
            assert!(same(&refused), "{refused} is not the first cause: {cause}");
        }
        self.settle();
        assert_eq!(self.counted(), written, "the manifest was written again");
        let health = self.engine.health();
        let told = |finding: &sapwood::HealthFinding| {
            finding.kind == HealthKind::Halted
                && finding.shard == Some(ShardId(0))
                && finding.what.contains(&cause.to_string())
        };
        assert!(health.findings.iter().any(told), "{health:?}");
        // What was acked is read, of both shards; the other one takes all there is to take.
        assert_eq!(read(&self.x, Lsn(0)).len() as u64, RECORDS);
        self.of_y.append(payload(RECORDS)).wait().unwrap();
        self.y.truncate(Lsn(2)).unwrap();
        self.y.cursor("c").unwrap().set(Lsn(3)).unwrap();
        assert_eq!(read(&self.y, Lsn(2)).len() as u64, RECORDS - 1);
    }

    /// Shard 0 is reopened in place, and takes what it is given.
    fn reopen(&mut self) {
        let driver = self.engine.reopen_shard_driven(ShardId(0)).unwrap();
        self.drivers.retain(|driving| driving.shard() != ShardId(0));
        self.drivers.push(driver.bind().unwrap());
        self.settle();
    }

    /// What a power cut leaves, opened by another process.
    fn after_power_cut(&self) -> (Engine, Vec<Driving>) {
        let storage = onto(&self.storage, self.storage.world().crash());
        let (engine, drivers) = small::open(storage, config()).unwrap();
        let y = engine.find(self.y.name()).unwrap().unwrap();
        assert_eq!((y.start().unwrap(), y.durable().unwrap()), (Lsn(2), Lsn(RECORDS + 1)));
        (engine, drivers)
    }
}

/// The records from there on; they must be those that were written.
fn read(log: &Log, from: Lsn) -> Vec<Vec<u8>> {
    let mut reader = log.reader(From::Lsn(from)).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        assert_eq!(record.payload(), payload(record.lsn().0));
        found.push(record.payload().to_vec());
    }
    found
}

/// It goes on: an append, an edit, a close, an open.
fn goes_on(engine: &Engine) {
    let x = engine.find("x").unwrap().unwrap();
    let durable = x.durable().unwrap();
    let ack = x.writer().unwrap().append(payload(durable.0)).wait().unwrap();
    assert_eq!(ack.position.lsn, durable);
    x.cursor("on").unwrap().set(durable).unwrap();
    engine.close().unwrap();
}

fn halted(result: Result<()>) -> Arc<Cause> {
    match result {
        Err(Error::Halted { cause } | Error::Unknown { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

// ── an edit ──

/// What callers ask of the manifest, one edit each, and how it is seen that it was done.
struct Deed {
    name: &'static str,
    ask: fn(&Pair) -> Result<()>,
    is_done: fn(&Engine) -> bool,
}

fn x_of(engine: &Engine) -> Log {
    engine.find("x").unwrap().unwrap()
}

const RETENTION: LogSettings = LogSettings {
    retention_bytes: Some(1 << 30),
    retention_secs: None,
    local_retention_bytes: None,
    durability: 0,
};

const DEEDS: [Deed; 7] = [
    Deed {
        name: "truncate",
        ask: |pair| pair.x.truncate(Lsn(3)),
        is_done: |engine| x_of(engine).start().unwrap() == Lsn(3),
    },
    Deed {
        name: "create",
        ask: |pair| pair.engine.create("new", &grouped()).map(drop),
        is_done: |engine| engine.find("new").unwrap().is_some(),
    },
    Deed {
        name: "writer",
        ask: |pair| pair.x.writer().map(drop),
        is_done: |engine| x_of(engine).info().unwrap().epoch.0 > 1,
    },
    Deed {
        name: "settings",
        ask: |pair| pair.x.set(RETENTION),
        is_done: |engine| x_of(engine).info().unwrap().settings == RETENTION,
    },
    Deed {
        name: "cursor",
        ask: |pair| pair.x.cursor("c")?.set(Lsn(2)),
        is_done: |engine| !x_of(engine).cursors().unwrap().is_empty(),
    },
    Deed {
        name: "delete",
        ask: |pair| pair.engine.delete_log("other"),
        is_done: |engine| engine.find("other").unwrap().is_none(),
    },
    Deed {
        name: "cut",
        ask: |pair| pair.of_x.cut_to(Lsn(4)).wait().map(drop),
        is_done: |engine| x_of(engine).durable().unwrap() == Lsn(4),
    },
];

/// Whether the new state must be found: a copy of it is on the medium.
fn landed(plan: &Plan) -> bool {
    plan.kind == Kind::Landed || !plan.for_ever || plan.at.is_multiple_of(2)
}

#[test]
fn an_edit_that_fails_halts_its_shard_and_is_found_done_or_undone() {
    for (n, deed) in DEEDS.iter().enumerate() {
        let mut lives = 0;
        for plan in plans(0) {
            let mut pair = Pair::new(n as u64, any_edit);
            let from = pair.counted();
            pair.storage.plan(Some(Plan { at: from + plan.at, ..plan }));
            let cause = halted((deed.ask)(&pair));
            assert!(pair.storage.failed() > 0);
            pair.is_halted(&cause);
            let name = format!("{}, {plan:?}", deed.name);
            // Both copies were handed over before either failed: whatever is not refused is there.
            let done = landed(&plan);
            let (engine, _drivers) = pair.after_power_cut();
            assert_eq!((deed.is_done)(&engine), done, "{name}, after a power cut");
            goes_on(&engine);
            pair.reopen();
            assert_eq!((deed.is_done)(&pair.engine), done, "{name}, in place");
            goes_on(&pair.engine);
            lives += 1;
        }
        assert_eq!(lives, 8);
    }
}

// ── a snapshot ──

/// Sets a cursor again and again, until it fails; gives the last that was answered.
fn set_until_it_fails(pair: &Pair) -> (u64, Arc<Cause>) {
    let cursor = pair.x.cursor("c").unwrap();
    for n in 0..2 * EDITS_OF_A_SLOT {
        if let Err(error) = cursor.set(Lsn(n % RECORDS)) {
            return (n, halted(Err(error)));
        }
    }
    panic!("nothing failed");
}

fn cursor_of(engine: &Engine) -> u64 {
    x_of(engine).cursor("c").unwrap().get().unwrap().unwrap().0
}

#[test]
fn a_snapshot_that_fails_leaves_the_slot_in_force() {
    for plan in plans(0) {
        let mut pair = Pair::new(7, snapshot);
        let from = pair.counted();
        pair.storage.plan(Some(Plan { at: from + plan.at, ..plan }));
        let (failed, cause) = set_until_it_fails(&pair);
        assert!(failed > 10, "the slot was full after {failed} edits");
        pair.is_halted(&cause);
        let wanted = if landed(&plan) { failed } else { failed - 1 } % RECORDS;
        let (engine, _drivers) = pair.after_power_cut();
        assert_eq!(cursor_of(&engine), wanted, "{plan:?}");
        goes_on(&engine);
        pair.reopen();
        assert_eq!(cursor_of(&pair.engine), wanted, "{plan:?}, in place");
        goes_on(&pair.engine);
    }
}

// ── growth ──

/// So many logs that a snapshot wants a larger slot, and still fits the one there is.
fn with_many_logs(seed: u64, filter: Filter) -> Pair {
    let pair = Pair::new(seed, filter);
    let names: Vec<String> = (0..500).map(|n| format!("{n:0200}")).collect();
    let options = grouped();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    pair.engine.create_many(&wanted).unwrap();
    pair
}

#[test]
fn a_growth_that_fails_halts_the_shard_and_changes_nothing() {
    for filter in [growth as Filter, sync_of_growth] {
        for plan in plans(0) {
            let mut pair = with_many_logs(3, filter);
            let from = pair.counted();
            assert_eq!(from, 0, "it has grown already");
            pair.storage.plan(Some(plan));
            let (failed, cause) = set_until_it_fails(&pair);
            pair.is_halted(&cause);
            // The edit waited for the snapshot behind the growth: it was never written.
            let wanted = (failed - 1) % RECORDS;
            let (engine, _drivers) = pair.after_power_cut();
            assert_eq!(cursor_of(&engine), wanted, "{plan:?}");
            goes_on(&engine);
            pair.reopen();
            assert_eq!(cursor_of(&pair.engine), wanted, "{plan:?}, in place");
            goes_on(&pair.engine);
        }
    }
}

// A slot's growth that had no room was told by its sync, as a file system may that gives space out
// late: the shard halted, although a full disk is no failure and the slot in force was whole.
#[test]
fn a_growth_without_room_is_no_failure_wherever_it_is_told() {
    for filter in [growth as Filter, sync_of_growth] {
        for (at, for_ever) in [(1, false), (2, false), (1, true)] {
            let mut pair = with_many_logs(4, filter);
            pair.storage.plan(Some(Plan { at, kind: Kind::Full, for_ever }));
            let cursor = pair.x.cursor("c").unwrap();
            for n in 0..2 * EDITS_OF_A_SLOT {
                cursor.set(Lsn(n % RECORDS)).unwrap();
            }
            assert!(pair.storage.failed() > 0, "the slot was not grown");
            let crashed = onto(&pair.storage, pair.storage.world().crash());
            pair.storage.plan(None);
            let (engine, _drivers) = small::open(crashed, config()).unwrap();
            assert_eq!(cursor_of(&engine), (2 * EDITS_OF_A_SLOT - 1) % RECORDS);
            goes_on(&engine);
            pair.settle();
            goes_on(&pair.engine);
        }
    }
}

// ── short and late ──

#[test]
fn a_write_that_stays_short_is_given_up_and_told() {
    let mut pair = Pair::new(11, any_edit);
    let resubmits = |pair: &Pair| pair.engine.metrics()[0].resubmits;
    let faults = Faults { short_write: 1_000_000, ..Faults::default() };
    pair.storage.world().set_faults(faults);
    let before = pair.counted();
    let failed = pair.x.truncate(Lsn(3));
    assert!(matches!(failed, Err(Error::Halted { .. })), "{failed:?}");
    assert_eq!(pair.counted() - before, 2, "one frame, both copies, handed over once");
    pair.storage.world().set_faults(Faults::default());
    pair.settle();
    assert!((8..=16).contains(&resubmits(&pair)), "{} resubmits", resubmits(&pair));
    pair.reopen();
    assert!([Lsn(0), Lsn(3)].contains(&pair.x.start().unwrap()));
    goes_on(&pair.engine);
    // Short now and then is nothing that anybody notices.
    let pair = Pair::new(12, any_edit);
    pair.storage.world().set_faults(Faults { short_write: 400_000, ..Faults::default() });
    let cursor = pair.x.cursor("c").unwrap();
    (0..30).for_each(|n| cursor.set(Lsn(n % RECORDS)).unwrap());
    assert!(resubmits(&pair) > 0);
}

/// Of the frames that it lets through, the copy whose completion comes late.
struct Late {
    copy: &'static str,
    on: AtomicBool,
    /// The other copy fails.
    fails: bool,
}

const LATE: Duration = Duration::from_secs(2);

impl Hook for Late {
    fn before(&self, call: &Call) -> Fate {
        if !self.on.load(Ordering::Relaxed) || !runs(call, What::Write) {
            return Fate::Goes;
        }
        if call.name.starts_with(&format!("manifest-000-{}", self.copy)) {
            return Fate::Late(LATE);
        }
        match self.fails {
            true => Fate::Fails(std::io::Error::from_raw_os_error(5)),
            false => Fate::Goes,
        }
    }
}

#[test]
fn an_edit_is_answered_when_the_later_copy_is_durable() {
    for copy in ["a", "b"] {
        for fails in [false, true] {
            let hook = Arc::new(Late { copy, on: false.into(), fails });
            let storage = Hooked::with(SimStorage::new(13, Faults::default()), Arc::clone(&hook));
            let (engine, mut drivers) = small::open(storage.clone(), small::config()).unwrap();
            let log = engine.log("x").unwrap();
            let writer = log.writer().unwrap();
            for n in 0..RECORDS {
                writer.append(payload(n)).wait().unwrap();
            }
            for _ in 0..60 {
                drivers[0].turn(Duration::from_millis(1));
            }
            let now = || storage.clock().mono_ns();
            let since = now();
            let took = || Duration::from_nanos(now() - since);
            hook.on.store(true, Ordering::Relaxed);
            let answer = log.truncate(Lsn(3));
            hook.on.store(false, Ordering::Relaxed);
            if !fails {
                answer.unwrap();
                assert!(took() >= LATE, "answered after {:?}, with one copy", took());
                assert_eq!(log.start().unwrap(), Lsn(3));
                engine.close().unwrap();
                continue;
            }
            // Told at once; but nothing is built on what is still under way.
            assert!(matches!(answer, Err(Error::Halted { .. })), "{answer:?}");
            assert!(took() < LATE, "told after {:?}", took());
            let driver = engine.reopen_shard_driven(ShardId(0)).unwrap();
            assert!(took() >= LATE, "reopened after {:?}, with a write under way", took());
            drivers.clear();
            drivers.push(driver.bind().unwrap());
            assert_eq!(log.start().unwrap(), Lsn(3), "a copy of it had landed");
            goes_on(&engine);
        }
    }
}

// ── at a close ──

#[test]
fn a_close_whose_end_cannot_be_recorded_says_so_and_loses_nothing() {
    let whole = Pair::new(17, any_edit);
    let before = whole.counted();
    whole.engine.close().unwrap();
    let writes = whole.counted() - before;
    assert!(writes >= 4, "sealing and the end, in two copies: {writes}");
    for at in 1..=writes {
        for (kind, for_ever) in
            [(Kind::Refused, false), (Kind::Refused, true), (Kind::Landed, false)]
        {
            let mut pair = Pair::new(17, any_edit);
            let from = pair.counted();
            let plan = Plan { at: from + at, kind, for_ever };
            pair.storage.plan(Some(plan));
            let cause = halted(pair.engine.close());
            assert!(cause.doing.contains("writing the manifest"), "{cause}");
            pair.storage.plan(None);
            let again = halted(pair.engine.close());
            assert!(Arc::ptr_eq(&again, &cause), "{again} is not the first cause: {cause}");
            pair.drivers.clear();
            let world = pair.storage.world().clone();
            for world in [world.crash(), world] {
                let (engine, _drivers) = small::open(onto(&pair.storage, world), config()).unwrap();
                assert_eq!(read(&x_of(&engine), Lsn(0)).len() as u64, RECORDS, "{plan:?}");
                let y = engine.find(pair.y.name()).unwrap().unwrap();
                assert_eq!(read(&y, Lsn(0)).len() as u64, RECORDS, "{plan:?}");
                goes_on(&engine);
            }
        }
    }
}

// ── at an open ──

/// Opens with every operation on the manifest failing in turn; afterwards all is there.
fn fails_at_open(name: &str, before: &SimStorage, records: u64, least: u64) {
    let open = |world: &SimStorage, plan| {
        let storage = Hooked::with(world.clone(), Failing::among(plan, at_open));
        let opened = small::open(storage.clone(), config());
        (storage, opened.map(drop))
    };
    let (storage, opened) = open(&before.crash(), None);
    opened.unwrap();
    let points = storage.counted();
    assert!(points >= least, "{name}: only {points} operations");
    let mut told = 0;
    for at in 1..=points {
        for kind in [Kind::Refused, Kind::Landed, Kind::Full] {
            for for_ever in [false, true] {
                let plan = Plan { at, kind, for_ever };
                let (storage, opened) = open(&before.crash(), Some(plan));
                match opened {
                    Ok(()) => {} // the other copy helped, or it fits without
                    Err(Error::Io { .. } | Error::NoSpace(_)) => told += 1,
                    Err(other) => panic!("{name}, {plan:?}: {other:?}"),
                }
                storage.plan(None);
                let world = storage.world().clone();
                for world in [world.crash(), world] {
                    let (engine, _drivers) = small::open(onto(&storage, world), config())
                        .unwrap_or_else(|e| panic!("{name}, {plan:?}, mended: {e}"));
                    let found = engine.find("x").unwrap();
                    assert_eq!(found.is_some(), records > 0, "{name}, {plan:?}");
                    let found = found.map_or(0, |x| read(&x, Lsn(0)).len() as u64);
                    assert_eq!(found, records, "{name}, {plan:?}");
                    engine.create("x2", &grouped()).unwrap();
                    engine.close().unwrap();
                }
            }
        }
    }
    assert!(told > points, "{name}: {told} of {points} points were told");
}

#[test]
fn an_open_that_cannot_write_its_manifest_says_so_and_the_next_finds_all() {
    let fresh = SimStorage::new(21, Faults::default());
    fails_at_open("creation", &fresh, 0, 20);
    let pair = Pair::new(22, at_open);
    fails_at_open("after a crash", pair.storage.world(), RECORDS, 15);
    pair.engine.close().unwrap();
    fails_at_open("after a close", pair.storage.world(), RECORDS, 15);
}

// An older slot must not stand in for the one in force because that cannot be read just now.
#[test]
fn a_slot_that_cannot_be_read_in_either_copy_is_no_older_state() {
    for slot in ["0", "1"] {
        let pair = Pair::new(23, |_| false);
        let cursor = pair.x.cursor("c").unwrap();
        // A snapshot in each slot, and edits behind the newer.
        (0..EDITS_OF_A_SLOT + 5).for_each(|n| cursor.set(Lsn(n % RECORDS)).unwrap());
        let wanted = cursor_of(&pair.engine);
        let filter: Filter = match slot {
            "0" => |call| at_open(call) && call.what == What::Read && call.name.ends_with("0"),
            _ => |call| at_open(call) && call.what == What::Read && call.name.ends_with("1"),
        };
        let plan = Plan { at: 1, kind: Kind::Refused, for_ever: true };
        let world = pair.storage.world().crash();
        let storage = Hooked::with(world, Failing::among(Some(plan), filter));
        let refused = small::open(storage.clone(), config()).map(drop);
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        storage.plan(None);
        let (engine, _drivers) = small::open(storage, config()).unwrap();
        assert_eq!(cursor_of(&engine), wanted);
        goes_on(&engine);
    }
}
