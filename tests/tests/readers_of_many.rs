//! What a reader of one log of many reads from the disk: about what the log has, whatever stands
//! between. Reads are counted, on the simulated disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::Duration;

use sapwood::io::sim::{Faults, Rng, SimStorage};
use sapwood::{Config, Driving, Engine, From, Log, Lsn, Ticket, Writer};
use sapwood_tests::count::CountStorage;
use sapwood_tests::small;

const RECORD_BYTES: usize = 1000;
/// With its header, padded.
const FRAMED_BYTES: u64 = 1048;

fn config() -> Config {
    Config {
        segment_bytes: 4 << 20,
        batch_bytes_max: 1 << 20,
        record_bytes_max: 512 << 10,
        stage_bytes: 4 << 20,
        ..small::config()
    }
}

fn payload(log: usize, lsn: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new((log as u64) << 32 | lsn);
    let words = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes());
    words.take(bytes).collect()
}

struct World {
    disk: CountStorage,
    engine: Engine,
    drivers: Vec<Driving>,
}

impl World {
    fn open(disk: &CountStorage) -> Self {
        let (engine, drivers) = small::open(disk.clone(), config()).unwrap();
        Self { disk: disk.clone(), engine, drivers }
    }

    /// `each` records to each log, in turns; so many rounds are staged before they are waited for.
    fn append(&self, writers: &[Writer], lsns: std::ops::Range<u64>, rounds: u64) {
        let mut open = Vec::new();
        for lsn in lsns {
            for (log, writer) in writers.iter().enumerate() {
                open.push(writer.submit(payload(log, lsn, RECORD_BYTES)).unwrap());
            }
            if lsn % rounds == rounds - 1 {
                open.drain(..).for_each(wait);
            }
        }
        open.into_iter().for_each(wait);
    }

    fn logs(&self, count: usize) -> Vec<Log> {
        (0..count).map(|n| self.engine.log(&format!("log {n}")).unwrap()).collect()
    }

    /// Closed and opened again: nothing is in memory.
    fn again(mut self) -> Self {
        self.engine.close().unwrap();
        self.drivers.clear();
        let fresh = Self::open(&self.disk);
        drop(self.disk.take(""));
        fresh
    }

    fn rest(&mut self) {
        for _ in 0..200 {
            self.drivers[0].turn(Duration::from_millis(1));
        }
    }
}

fn wait(ticket: Ticket) {
    ticket.wait().unwrap();
}

fn read(log: &Log, tag: usize, from: u64, count: u64) {
    let mut reader = log.reader(From::Lsn(Lsn(from))).unwrap();
    for lsn in from..count {
        let record = reader.next().wait().unwrap().unwrap();
        assert_eq!(record.lsn(), Lsn(lsn));
        assert!(record.payload() == payload(tag, lsn, RECORD_BYTES), "log {tag}, {lsn}");
    }
    assert!(reader.next().wait().unwrap().is_none());
}

/// A thousand logs in 80 MB were read at the price of 9 GB: each reader went through what all the
/// others had appended in between.
#[test]
fn a_log_of_many_is_read_without_the_others() {
    const LOGS: usize = 200;
    const EACH: u64 = 60;
    let disk = CountStorage::new(SimStorage::new(1, Faults::default()));
    let world = World::open(&disk);
    let writers: Vec<_> = world.logs(LOGS).iter().map(|log| log.writer().unwrap()).collect();
    world.append(&writers, 0..EACH, 7);
    drop(writers);
    let judge = |world: &World, what: &str| {
        let data = LOGS as u64 * EACH * FRAMED_BYTES;
        let mut sum = 0;
        for (tag, log) in world.logs(LOGS).iter().enumerate() {
            read(log, tag, 0, EACH);
            let segments = disk.take_all("segment").bytes;
            let own = EACH * FRAMED_BYTES;
            assert!(segments <= 9 * own, "{what}: log {tag}: {segments} bytes for {own}");
            sum += segments;
        }
        let indexes = disk.take_all("index").bytes;
        println!("{what}: {sum} bytes of segments and {indexes} of indexes, for {data}");
        assert!(sum <= 7 * data, "{what}: {sum} bytes for {data}");
        assert!(indexes <= data / 4, "{what}: {indexes} bytes of indexes for {data}");
    };
    drop(disk.take(""));
    judge(&world, "partly unsealed");
    let world = world.again();
    judge(&world, "sealed");
    // From its middle, and its last record alone.
    let log = world.engine.log("log 17").unwrap();
    read(&log, 17, EACH - 1, EACH);
    let last = disk.take_all("segment");
    assert!(last.bytes <= 16 << 10, "{last:?} for the last record");
}

/// Nothing is lost by that for a log that has its segments for itself: few large reads.
#[test]
fn a_log_alone_is_read_from_front_to_back() {
    let disk = CountStorage::new(SimStorage::new(2, Faults::default()));
    let world = World::open(&disk);
    let writers = [world.engine.log("log 0").unwrap().writer().unwrap()];
    world.append(&writers, 0..12_000, 700);
    drop(writers);
    let world = world.again();
    read(&world.engine.log("log 0").unwrap(), 0, 0, 12_000);
    let read = disk.take_all("segment");
    let data = 12_000 * FRAMED_BYTES;
    println!("{read:?} for {data}");
    assert!(read.bytes <= data + data / 8, "{read:?} for {data}");
    assert!(read.calls <= 60, "{read:?} for {data}");
}

/// Two records, with many segments of another log between them.
#[test]
fn segments_without_the_log_are_not_read() {
    let disk = CountStorage::new(SimStorage::new(3, Faults::default()));
    let mut world = World::open(&disk);
    let logs = world.logs(2);
    let writers: Vec<_> = logs.iter().map(|log| log.writer().unwrap()).collect();
    world.append(&writers[..1], 0..1, 1);
    for lsn in 0..24_000u64 {
        let ticket = writers[1].submit(payload(1, lsn, RECORD_BYTES)).unwrap();
        if lsn % 700 == 699 {
            ticket.wait().unwrap();
        }
    }
    world.append(&writers[..1], 1..2, 1);
    drop((logs, writers));
    world.rest();
    let check = |world: &World, what: &str| {
        drop(disk.take(""));
        read(&world.engine.log("log 0").unwrap(), 0, 0, 2);
        let files = disk.take("segment");
        let bytes: u64 = files.values().map(|read| read.bytes).sum();
        assert!(files.len() <= 2 && bytes <= 64 << 10, "{what}: {files:?}");
    };
    check(&world, "as it was written");
    let world = world.again();
    check(&world, "opened again");
}

/// A part of a batch that is not as it should be is no damage by itself: the batch tells. A bit
/// turned in one log's record costs that record alone, with its name.
#[test]
fn rot_among_many_logs_is_told_to_the_one_it_hit() {
    const LOGS: usize = 50;
    let sim = SimStorage::new(4, Faults::default());
    let disk = CountStorage::new(sim.clone());
    let world = World::open(&disk);
    let writers: Vec<_> = world.logs(LOGS).iter().map(|log| log.writer().unwrap()).collect();
    world.append(&writers, 0..20, 7);
    drop(writers);
    let world = world.again();
    let hit = payload(13, 9, RECORD_BYTES);
    let names = sapwood::io::Storage::list(&sim).unwrap();
    let mut flipped = 0;
    for name in names.iter().filter(|name| name.starts_with("segment")) {
        let image = sim.image(name).unwrap();
        if let Some(at) = image.windows(hit.len()).step_by(8).position(|bytes| bytes == hit) {
            sim.flip(name, at as u64 * 8 + 500, 3).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    for (tag, log) in world.logs(LOGS).iter().enumerate() {
        if tag != 13 {
            read(log, tag, 0, 20);
            continue;
        }
        let mut reader = log.reader(From::Start).unwrap();
        for _ in 0..9 {
            assert!(reader.next().wait().unwrap().is_some());
        }
        let told = reader.next().wait();
        let Err(sapwood::Error::Corrupt(damage)) = told else { panic!("{told:?}") };
        assert_eq!((damage.first, damage.last), (Lsn(9), Some(Lsn(9))));
        reader.seek(Lsn(10));
        assert_eq!(reader.next().wait().unwrap().unwrap().lsn(), Lsn(10));
    }
}

/// A batch may hold several runs of one log, far from each other. Recovery took the second of them
/// for one that begins behind a gap, and told damage on a disk without any.
#[test]
fn several_runs_of_a_log_in_one_batch_are_recovered() {
    const LOGS: usize = 60;
    const EACH: u64 = 21;
    let sim = SimStorage::new(5, Faults::default());
    let disk = CountStorage::new(sim.clone());
    let world = World::open(&disk);
    let writers: Vec<_> = world.logs(LOGS).iter().map(|log| log.writer().unwrap()).collect();
    world.append(&writers, 0..EACH, 7);
    let crashed = World::open(&CountStorage::new(sim.crash()));
    for report in crashed.engine.recovery() {
        assert!(!report.clean && report.damages.is_empty(), "{report:?}");
    }
    for (tag, log) in crashed.logs(LOGS).iter().enumerate() {
        read(log, tag, 0, EACH);
    }
}
