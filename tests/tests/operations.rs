//! What an operator is told: metrics, slow writes, health. On the simulated disk, where a device
//! can be slow, stuck, full or broken on demand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Driving, Engine, Health, HealthKind, HealthState, Severity, Writer};
use sapwood_tests::small::config;

fn open(disk: &SimStorage, config: Config) -> (Engine, Driving) {
    let (engine, drivers) = Engine::open_on(Arc::new(disk.clone()), config).unwrap();
    let driver = drivers.into_iter().next().unwrap();
    (engine, driver.bind().unwrap())
}

/// An engine with one log, at rest: its spare is ready, its mark is written.
fn at_rest(disk: &SimStorage, config: Config) -> (Engine, Driving, Writer) {
    let (engine, mut driver) = open(disk, config);
    let writer = engine.log("orders").unwrap().writer().unwrap();
    writer.append(b"first").wait().unwrap();
    rest(&mut driver);
    assert_eq!(engine.health(), Health::default());
    (engine, driver, writer)
}

fn rest(driver: &mut Driving) {
    for _ in 0..200 {
        driver.turn(Duration::from_millis(1));
    }
}

fn slow(ms: u64) -> Faults {
    Faults { stall: 1_000_000, stall_ns: ms * 1_000_000, ..Faults::default() }
}

/// Runs something and gives what it logged.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(kept.0.lock().clone()).unwrap()
}

/// The one finding of this kind.
fn finding(health: &Health, kind: HealthKind) -> sapwood::HealthFinding {
    let mut of_kind = health.findings.iter().filter(|finding| finding.kind == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("no {kind:?} in: {health}"));
    assert!(of_kind.next().is_none(), "{kind:?} twice in: {health}");
    assert!(!found.advice.is_empty() && !found.what.is_empty());
    found.clone()
}

#[test]
fn every_batch_is_timed_in_every_stage() {
    let disk = SimStorage::new(1, Faults::default());
    let (engine, mut driver) = open(&disk, config());
    let writer = engine.log("orders").unwrap().writer().unwrap();
    let tickets: Vec<_> = (0..60).map(|n| writer.submit(vec![n; 10_000]).unwrap()).collect();
    assert!(engine.metrics()[0].staged_bytes >= 600_000);
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    for n in 0..60 {
        writer.append(vec![n; 10_000]).wait().unwrap();
    }
    rest(&mut driver);
    let metrics = engine.metrics().remove(0);
    assert_eq!((metrics.records, metrics.marks), (120, 1));
    assert!(metrics.batches >= 60 + 10, "{} batches", metrics.batches);
    for stage in [&metrics.queue_ns, &metrics.batch_ns, &metrics.ack_ns] {
        assert_eq!(stage.count(), metrics.batches, "{metrics:?}");
    }
    assert_eq!(metrics.device_ns.count(), metrics.batches + metrics.marks);
    // What the disk was told to take: 20 to 200 microseconds.
    assert!(metrics.device_ns.percentile(0.0) >= 20_000);
    assert!((100_000..300_000).contains(&metrics.device_ns.max()), "{metrics:?}");
    // The first batches went at once, those behind them waited for their turn.
    assert!(metrics.queue_ns.max() > 20_000, "{metrics:?}");
    assert_eq!(metrics.records_per_batch.sum(), 120);
    assert_eq!(metrics.bytes_per_batch.sum() + 4096, metrics.batch_bytes);
    assert_eq!((metrics.rolls, metrics.seals), (1, 1));
    assert_eq!((metrics.creates, metrics.fill_writes), (3, 3));
    assert_eq!((metrics.spares, metrics.sealing), (1, 0));
    assert_eq!((metrics.batches_in_flight, metrics.operations_in_flight), (0, 0));
    assert_eq!((metrics.staged_bytes, metrics.pinned_bytes), (0, 0));
    assert_eq!(metrics.stage_bytes, 1 << 20);
    assert_eq!((metrics.slow_writes, metrics.resubmits), (0, 0));
    assert_eq!(metrics.backend, "simulated");
    assert_eq!(engine.batch_bytes(), metrics.batch_bytes);
    engine.close().unwrap();
}

#[test]
fn resubmissions_are_counted() {
    let disk = SimStorage::new(2, Faults { eintr: 200_000, ..Faults::default() });
    let (engine, _driver) = open(&disk, config());
    let writer = engine.log("orders").unwrap().writer().unwrap();
    for _ in 0..50 {
        writer.append(b"x").wait().unwrap();
    }
    assert!(engine.metrics()[0].resubmits > 0);
    engine.close().unwrap();
}

#[test]
fn a_slow_write_is_told_with_its_place() {
    let disk = SimStorage::new(3, Faults::default());
    let (engine, _driver, writer) = at_rest(&disk, config());
    disk.set_faults(slow(300));
    let text = logged(|| {
        writer.append(b"slow").wait().unwrap();
    });
    let line = text.lines().find(|line| line.contains("a durable write was slow")).unwrap();
    for word in
        ["WARN", "device=simulated", "segment-000-", "offset=12288", "bytes=4096", "took_ms=300"]
    {
        assert!(line.contains(word), "no {word} in {line}");
    }
    assert_eq!(engine.metrics()[0].slow_writes, 1);
    disk.set_faults(Faults::default());
    engine.close().unwrap();
}

#[test]
fn slow_writes_are_not_told_faster_than_one_a_second() {
    let disk = SimStorage::new(4, Faults::default());
    let (engine, _driver, writer) = at_rest(&disk, config());
    disk.set_faults(slow(250));
    let text = logged(|| {
        for _ in 0..10 {
            writer.append(b"slow").wait().unwrap();
        }
    });
    let told: Vec<_> = text.lines().filter(|line| line.contains("was slow")).collect();
    assert_eq!(engine.metrics()[0].slow_writes, 10);
    assert!((2..=4).contains(&told.len()), "{text}");
    assert!(told[0].contains("untold_before=0") && told[1].contains("untold_before=3"), "{text}");
    disk.set_faults(Faults::default());
    engine.close().unwrap();
}

#[test]
fn who_does_not_want_to_hear_of_slow_writes_does_not() {
    let disk = SimStorage::new(5, Faults::default());
    let (engine, _driver, writer) = at_rest(&disk, Config { slow_write_ms: 0, ..config() });
    disk.set_faults(slow(300));
    let text = logged(|| {
        writer.append(b"slow").wait().unwrap();
    });
    assert_eq!(text, "");
    assert_eq!(engine.metrics()[0].slow_writes, 0);
    disk.set_faults(Faults::default());
    engine.close().unwrap();
}

#[test]
fn a_write_that_does_not_end_is_told_with_its_age() {
    let disk = SimStorage::new(6, Faults::default());
    let (engine, mut driver, writer) = at_rest(&disk, config());
    disk.set_faults(slow(3_600_000));
    let ticket = writer.submit(b"stuck").unwrap();
    driver.turn(Duration::from_millis(50));
    driver.turn(Duration::from_millis(10));
    assert_eq!(engine.health().state, HealthState::Well, "not yet slow: {}", engine.health());
    for _ in 0..4 {
        driver.turn(Duration::from_millis(50));
    }
    let health = engine.health();
    assert_eq!(health.state, HealthState::Ailing, "{health}");
    let found = finding(&health, HealthKind::SlowDevice);
    assert!(found.what.contains("4096 bytes at 12288 of segment-000-"), "{health}");
    for _ in 0..120 {
        driver.turn(Duration::from_millis(50));
    }
    let health = engine.health();
    assert_eq!(health.state, HealthState::Failing, "{health}");
    let found = finding(&health, HealthKind::StuckDevice);
    assert!(found.age.unwrap() > Duration::from_secs(6), "{health}");
    let since = disk.clock().wall_us() - found.since_us.unwrap();
    assert!((6_000_000..7_000_000).contains(&since), "since {since} us");
    assert!(health.to_string().contains("bad: shard 0: writing 4096 bytes"), "{health}");
    let oldest = engine.metrics()[0].oldest_operation.unwrap();
    assert!(oldest > Duration::from_secs(6));
    assert!(!ticket.is_done());
    // It ends after all: acked, and the engine is well again.
    disk.set_faults(Faults::default());
    ticket.wait().unwrap();
    rest(&mut driver);
    assert_eq!(engine.health(), Health::default());
    engine.close().unwrap();
}

#[test]
fn a_shard_that_nobody_turns_is_told() {
    let disk = SimStorage::new(7, Faults::default());
    let (engine, mut driver, writer) = at_rest(&disk, config());
    disk.clock().sleep(Duration::from_secs(60));
    assert_eq!(engine.health(), Health::default(), "nothing waits for a turn");
    let ticket = writer.submit(b"waiting").unwrap();
    let health = engine.health();
    let found = finding(&health, HealthKind::Undriven);
    assert_eq!((found.severity, health.state), (Severity::Bad, HealthState::Failing));
    assert!(found.age.unwrap() >= Duration::from_secs(60));
    driver.turn(Duration::ZERO);
    // Handed over and landed, but nobody has looked: that is not the device's fault.
    disk.clock().sleep(Duration::from_secs(60));
    let health = engine.health();
    finding(&health, HealthKind::Undriven);
    assert_eq!(health.findings.len(), 1, "{health}");
    ticket.wait().unwrap();
    rest(&mut driver);
    assert_eq!(engine.health(), Health::default());
    engine.close().unwrap();
}

#[test]
fn a_halted_shard_is_told_with_its_first_cause() {
    let disk = SimStorage::new(8, Faults::default());
    let (engine, mut driver, writer) = at_rest(&disk, config());
    disk.set_faults(Faults { eio_write: 1_000_000, ..Faults::default() });
    writer.append(b"lost").wait().unwrap_err();
    disk.set_faults(Faults::default());
    disk.clock().sleep(Duration::from_secs(30));
    driver.turn(Duration::from_millis(1));
    let health = engine.health();
    let found = finding(&health, HealthKind::Halted);
    assert_eq!((found.severity, health.state), (Severity::Bad, HealthState::Failing));
    assert!(found.what.contains("writing batch"), "{health}");
    let age = found.age.unwrap();
    assert!(age >= Duration::from_secs(30) && age < Duration::from_secs(31), "{age:?}");
    assert_eq!(health.findings.len(), 1, "{health}");
}

#[test]
fn a_disk_that_fills_up_is_told_before_and_after_it_matters() {
    let disk = SimStorage::new(9, Faults::default());
    let (engine, mut driver, writer) = at_rest(&disk, config());
    disk.set_capacity(Some(disk.used()));
    // The first roll takes the spare, and no other can be made: appends go on.
    let mut early = None;
    let full = loop {
        match writer.submit(vec![7; 20_000]) {
            Ok(ticket) => drop(ticket),
            Err(rejected) if matches!(rejected.error, sapwood::Error::Busy) => {}
            Err(_) => break engine.health(),
        }
        driver.turn(Duration::from_millis(5));
        let health = engine.health();
        if health.state == HealthState::Ailing {
            early.get_or_insert(health);
        }
    };
    let early = early.expect("nothing was told before appends were refused");
    let before = finding(&early, HealthKind::NoSpace);
    assert_eq!(before.severity, Severity::Warning);
    let found = finding(&full, HealthKind::NoSpace);
    assert_eq!((found.severity, full.state), (Severity::Bad, HealthState::Failing), "{full}");
    assert!(found.what.contains("appends are refused"), "{full}");
    let apart = found.since_us.unwrap().abs_diff(before.since_us.unwrap());
    assert!(apart <= 1, "it began once, not twice: {apart} us apart");
    disk.set_capacity(None);
    for _ in 0..50 {
        driver.turn(Duration::from_millis(50));
    }
    assert_eq!(engine.health(), Health::default());
    writer.append(b"on").wait().unwrap();
    engine.close().unwrap();
}

#[test]
fn damaged_logs_are_named() {
    let disk = SimStorage::new(10, Faults::default());
    let (engine, driver, writer) = at_rest(&disk, config());
    let other = engine.log("other").unwrap().writer().unwrap();
    for n in 0..10u8 {
        writer.append(vec![n; 5_000]).wait().unwrap();
        other.append(vec![n; 10]).wait().unwrap();
    }
    drop((writer, other, driver));
    drop(engine);
    let crashed = disk.crash();
    let segment = crashed.list().unwrap().into_iter().find(|name| name.starts_with("segment"));
    let image = crashed.image(segment.as_ref().unwrap()).unwrap();
    let at = image.windows(100).position(|window| window == [3; 100]).unwrap();
    crashed.flip(&segment.unwrap(), at as u64 + 500, 2).unwrap();
    let (engine, _driver) = open(&crashed, config());
    let health = engine.health();
    let found = finding(&health, HealthKind::Damaged);
    let orders = engine.log("orders").unwrap().id();
    assert_eq!((found.logs.as_slice(), health.state), ([orders].as_slice(), HealthState::Failing));
    assert!(found.what.contains("\"orders\"") && !found.what.contains("other"), "{health}");
    engine.close().unwrap();
    // Once somebody has chosen to go on without them, nothing is wrong any more.
    let salvage = Config { recovery: sapwood::Recovery::Salvage, ..config() };
    let (engine, mut driver) = open(&crashed, salvage);
    rest(&mut driver);
    assert_eq!(engine.health(), Health::default());
    engine.close().unwrap();
}

#[test]
fn going_without_io_uring_is_a_note() {
    let dir = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backend = sapwood::Backend::Blocking;
    let engine = Engine::open(Config { backend, ..Config::new(dir.path().join("wal")) }).unwrap();
    let writer = engine.log("orders").unwrap().writer().unwrap();
    writer.append(b"x").wait().unwrap();
    let health = engine.health();
    let found = finding(&health, HealthKind::Fallback);
    assert_eq!((found.severity, health.state), (Severity::Note, HealthState::Well));
    let metrics = engine.metrics().remove(0);
    assert_eq!(metrics.backend, "pread/pwrite");
    assert!(metrics.device_ns.count() >= 1 && metrics.device_ns.max() > 0);
    engine.close().unwrap();
    assert_eq!(engine.health().state, HealthState::Failing, "closed");
}
