//! What a reader looked up changes while it looks: its segment moves into another file, an index
//! that was owed becomes one. At each of its reads in turn.
//!
//! Invariant: whatever moves and whenever, a reader gives every record once, in order, unaltered.
//!
//! Not here: readers that rest meanwhile (`relocation`), crashes (`relocation`, `full_disk`).
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sapwood::io::Storage;
use sapwood::io::hooked::{Call, Fate, Hook, Hooked, What};
use sapwood::io::sim::{Faults, Filling, SimStorage};
use sapwood::{Config, Driving, Engine, From, Log, Lsn};

/// What is done in the middle of a read.
type Act = Box<dyn FnOnce() + Send>;

/// Acts at the n-th blocking operation from now on; 0: not at all.
#[derive(Default)]
struct AtRead {
    left: AtomicU64,
    act: Mutex<Option<Act>>,
}

impl AtRead {
    fn plan(&self, operations: u64, act: Act) {
        *self.act.lock().unwrap() = Some(act);
        self.left.store(operations, Ordering::Relaxed);
    }

    /// Whether it has acted.
    fn is_over(&self) -> bool {
        self.left.swap(0, Ordering::Relaxed);
        self.act.lock().unwrap().take().is_none()
    }

    fn count(&self) {
        let before = self.left.load(Ordering::Relaxed);
        self.left.store(before.saturating_sub(1), Ordering::Relaxed);
        if before == 1
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
    }
}

impl Hook for AtRead {
    fn before(&self, call: &Call) -> Fate {
        if call.token.is_none() && matches!(call.what, What::Open | What::Read) {
            self.count();
        }
        Fate::Goes
    }

    fn read(&self, _: &str, _: usize) {
        self.count();
    }
}

type Disk = Hooked<AtRead>;

fn disk(world: SimStorage) -> Disk {
    Hooked::with(world, Arc::default())
}

fn config() -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 64 << 10,
        // Of what is sealed nothing is in memory.
        stage_bytes: 512 << 10,
        index_cache_bytes: 64 << 10,
        read_files_max: 8,
        relocate_below_percent: 25,
        ..Config::new("simulated")
    }
}

fn open(disk: &Disk) -> (Engine, Vec<Driving>) {
    let (engine, drivers) = Engine::open_on(Arc::new(disk.clone()), config()).unwrap();
    (engine, drivers.into_iter().map(|driver| driver.bind().unwrap()).collect())
}

fn payload(log: &str, n: u64) -> Vec<u8> {
    let len = [17, 900, 5000, 20_000][(n % 4) as usize];
    log.bytes().cycle().zip(0..len).map(|(byte, i)| byte ^ (n as u8) ^ (i as u8)).collect()
}

/// `b` has a few records in each of some segments, among many of `a`.
fn write(engine: &Engine, rounds: u64) {
    let writers = ["a", "b"].map(|name| (name, engine.log(name).unwrap().writer().unwrap()));
    let append = |at: usize, count: u64| {
        let (name, writer) = &writers[at];
        let from = engine.log(name).unwrap().durable().unwrap().0;
        for n in from..from + count {
            writer.submit(payload(name, n)).unwrap().wait().unwrap();
        }
    };
    for _ in 0..rounds {
        append(0, 12);
        append(1, 1);
    }
}

/// The rest of a log, from `next` on.
fn read_on(log: &Log, from: u64, name: &str) -> u64 {
    let mut next = from;
    let mut reader = log.reader(From::Lsn(Lsn(from))).unwrap();
    while let Some(record) = reader.next().wait().unwrap() {
        assert_eq!(record.lsn(), Lsn(next), "{name}");
        assert!(record.payload() == payload(name, next), "{name}: LSN {next} is altered");
        next += 1;
    }
    next
}

/// A reader that hops by the index asks where its log goes on, reads postings of the segment, and
/// by then the segment has moved: the offsets are of a file that is gone, or of another segment by
/// now. It looks again. Nobody had enacted that.
#[test]
fn a_segment_moves_between_any_two_reads_of_its_reader() {
    let mut moved = 0;
    for operations in 1.. {
        let disk = disk(SimStorage::new(90, Faults::default()));
        let (engine, _driving) = open(&disk);
        write(&engine, 40);
        let (a, b) = (engine.log("a").unwrap(), engine.log("b").unwrap());
        let end = b.durable().unwrap().0;
        assert!(engine.sealed_segments().len() >= 3);
        a.truncate(Lsn(a.durable().unwrap().0 - 1)).unwrap();
        let acting = engine.clone();
        let act = move || {
            let report = acting.gc().unwrap();
            assert!(report.relocated_segments >= 2, "{report:?}");
        };
        disk.plan(operations, Box::new(act));
        assert_eq!(read_on(&b, 0, "b"), end, "at operation {operations}");
        if !disk.is_over() {
            break;
        }
        moved += 1;
        // And whoever comes later.
        for from in [0, end / 2, end - 1] {
            assert_eq!(read_on(&b, from, "b"), end, "behind operation {operations}");
        }
    }
    assert!(moved >= 20, "only {moved} operations of a reader");
}

/// An index that is owed is read from memory, by nobody's cache. Once it is a file, its blocks are
/// kept by the key of that file: a reader that began before goes on by what it has read, and one
/// that begins after sees the same.
#[test]
fn an_owed_index_becomes_a_file_between_any_two_reads() {
    const FULL: Filling = Filling { from_change: 0, errno: 28, greedy: true };
    let count = |disk: &Disk| {
        let names = disk.world().list().unwrap();
        names.iter().filter(|name| name.starts_with("index")).count()
    };
    let mut paid = 0;
    for operations in 1.. {
        let first = disk(SimStorage::new(91, Faults::default()));
        let (engine, driving) = open(&first);
        write(&engine, 40);
        first.world().fill(Some(FULL));
        let writer = engine.log("b").unwrap().writer().unwrap();
        let end = engine.log("b").unwrap().durable().unwrap().0;
        writer.submit(payload("b", end)).unwrap().wait().unwrap();
        let world = first.world().crash();
        drop((engine, driving));
        let disk = disk(world);
        let (engine, _driving) = open(&disk);
        let before = count(&disk);
        let b = engine.log("b").unwrap();
        let (acting, clock, its) = (engine.clone(), disk.world().clock(), disk.clone());
        let act = move || {
            its.world().fill(None);
            for _ in 0..100 {
                if count(&its) > before {
                    break;
                }
                clock.sleep(std::time::Duration::from_secs(1));
                acting.gc().unwrap();
            }
            assert!(count(&its) > before, "an index is owed for ever");
        };
        disk.plan(operations, Box::new(act));
        assert_eq!(read_on(&b, 0, "b"), end + 1, "at operation {operations}");
        if !disk.is_over() {
            break;
        }
        paid += 1;
        for from in [0, end / 2, end] {
            assert_eq!(read_on(&b, from, "b"), end + 1, "behind operation {operations}");
        }
    }
    assert!(paid >= 10, "only {paid} operations of a reader");
}
