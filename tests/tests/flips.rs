//! Rot, exhaustively: single bits of every file of a directory turned, then opened and read by the
//! engine. Each is told, or proven harmless: every record is there, identical. Nothing panics and
//! nothing is cut off in silence.
//!
//! A run turns another share of the bits each day; `SAPWOOD_FLIPS=all` turns all of them, and
//! `SAPWOOD_FLIPS=K/N` those whose number is K modulo N, which is how a run is done again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use sapwood::io::Storage;
use sapwood::io::sim::{Faults, Rng, SimStorage};
use sapwood::{Config, Driving, Engine, Error, From, Log, Lsn, Writer};
use sapwood_tests::small;

const NAMES: [&str; 2] = ["a", "b"];

fn config() -> Config {
    Config { idle_mark_delay: Duration::from_millis(5), ..small::config() }
}

/// How the directory was left. Both have a witness of the last batch, so that nothing is torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The power failed behind a mark.
    Marked,
    /// Closed in order.
    Closed,
}

/// What was written: sizes of records by their number, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// One segment of 1 MiB sealed, one open.
    Rolled,
    /// A few records in an open segment: quick to open, for sweeps over all the bits.
    Short,
}

impl Life {
    /// Records per log.
    fn count(self) -> u64 {
        if self == Self::Rolled { 60 } else { 6 }
    }

    fn payload(self, log: usize, lsn: u64) -> Vec<u8> {
        let mut rng = Rng::new(lsn * 2 + log as u64);
        let large = self == Self::Rolled && lsn < 40;
        let bytes = if large { 13_000 + rng.below(4_000) } else { 50 + rng.below(900) } as usize;
        let words = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes());
        words.take(bytes).collect()
    }
}

/// Which bits are turned: number `k` modulo `n`.
#[derive(Clone, Copy)]
struct Share {
    k: u64,
    n: u64,
}

impl Share {
    /// What was asked for, else one bit in so many, others each day.
    fn of_run(one_in: u64) -> Self {
        let asked = std::env::var("SAPWOOD_FLIPS").ok().filter(|text| !text.is_empty());
        let parsed = match asked.as_deref() {
            None => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                Self { k: now.as_secs() / 86_400 % one_in, n: one_in }
            }
            Some("all") => Self { k: 0, n: 1 },
            Some(text) => {
                let (k, n) = text.split_once('/').expect("SAPWOOD_FLIPS is `all` or K/N");
                Self { k: k.parse().unwrap(), n: n.parse().unwrap() }
            }
        };
        assert!(parsed.k < parsed.n, "SAPWOOD_FLIPS=K/N with K below N");
        println!("SAPWOOD_FLIPS={}/{}", parsed.k, parsed.n);
        parsed
    }

    /// Of the bits of `bytes` bytes.
    fn bits(self, bytes: u64) -> impl Iterator<Item = (u64, u8)> {
        (self.k..bytes * 8).step_by(self.n as usize).map(|bit| (bit / 8, (bit % 8) as u8))
    }
}

/// What flips came to, by kind of file.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, [u64; 2]>);

impl Tally {
    fn count(&mut self, kind: &'static str, told: bool) {
        self.0.entry(kind).or_default()[usize::from(told)] += 1;
    }

    fn print(&self, title: &str) {
        for (kind, [harmless, told]) in &self.0 {
            println!(
                "{title}: {kind}: {} flips, {harmless} harmless, {told} told",
                harmless + told
            );
        }
    }
}

fn open(disk: &SimStorage) -> Result<(Engine, Vec<Driving>), Error> {
    small::open(disk.clone(), config())
}

/// A directory at rest.
fn specimen(life: Life, left: Left) -> SimStorage {
    let disk = SimStorage::new(1, Faults::default());
    let (engine, mut drivers) = open(&disk).unwrap();
    let writers = NAMES.map(|name| engine.log(name).unwrap().writer().unwrap());
    for lsn in 0..life.count() {
        let submit = |(n, w): (usize, &Writer)| w.submit(life.payload(n, lsn)).unwrap();
        let tickets: Vec<_> = writers.iter().enumerate().map(submit).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    }
    // Long enough for the mark, the index and its edit.
    for _ in 0..200 {
        drivers[0].turn(Duration::from_millis(1));
    }
    if left == Left::Closed {
        engine.close().unwrap();
    }
    let disk = disk.crash();
    let names = disk.list().unwrap();
    let sealed = names.iter().any(|name| name.starts_with("index"));
    assert_eq!(sealed, life == Life::Rolled || left == Left::Closed, "{names:?}");
    disk
}

fn kind_of(name: &str) -> &'static str {
    match name {
        n if n.starts_with("segment") => "segment",
        n if n.starts_with("index") => "index",
        n if n.starts_with("manifest") => "manifest",
        _ => "other",
    }
}

/// Reads these records of a log: whole, or `Corrupt` with the place. Anything else is silence, or
/// worse.
fn is_told(life: Life, log: &Log, tag: usize, lsns: Range<u64>) -> Result<bool, String> {
    let total = life.count();
    let reader = log.reader(From::Lsn(Lsn(lsns.start)));
    let mut reader = reader.map_err(|e| format!("log {tag} from {}: {e}", lsns.start))?;
    for next in lsns.clone() {
        match reader.next().wait() {
            Ok(Some(record)) if record.lsn() != Lsn(next) => {
                return Err(format!("log {tag}: {} where {next} was", record.lsn()));
            }
            Ok(Some(record)) if record.payload() != life.payload(tag, next) => {
                return Err(format!("log {tag}: {next} is altered"));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("log {tag}: ends at {next} of {total}, in silence")),
            Err(Error::Corrupt(damage)) if damage.first <= Lsn(next) => {
                return match damage.log {
                    Some(id) if id == log.id() => Ok(true),
                    other => Err(format!("log {tag}: told for {other:?}")),
                };
            }
            Err(error) => return Err(format!("log {tag} at {next}: {error}")),
        }
    }
    if lsns.end == total && !matches!(reader.next().wait(), Ok(None)) {
        return Err(format!("log {tag}: more than {total} records"));
    }
    Ok(false)
}

/// Opens what a flip left, reads all of it. Whether damage was told.
fn look(life: Life, disk: &SimStorage) -> Result<bool, String> {
    let (engine, drivers) = open(disk).map_err(|e| format!("opening: {e}"))?;
    let mut told = false;
    for (tag, name) in NAMES.iter().enumerate() {
        let found = engine.find(name).map_err(|e| e.to_string())?;
        let log = found.ok_or_else(|| format!("log {name} is gone"))?;
        told |= is_told(life, &log, tag, 0..life.count())?;
    }
    drop(drivers);
    Ok(told)
}

fn sweep(life: Life, left: Left, one_in: u64) {
    let disk = specimen(life, left);
    assert_eq!(look(life, &disk.crash()), Ok(false), "it is whole to begin with");
    let share = Share::of_run(one_in);
    let mut tally = Tally::default();
    for name in disk.list().unwrap() {
        let bytes = disk.image(&name).unwrap().len() as u64;
        for (offset, bit) in share.bits(bytes) {
            let flipped = disk.crash();
            flipped.flip(&name, offset, bit).unwrap();
            let at = || format!("{life:?}, {left:?}, {name}, byte {offset}, bit {bit}");
            let told = look(life, &flipped).unwrap_or_else(|e| panic!("{}: {e}", at()));
            let kind = kind_of(&name);
            // One copy of two, or made again from the segment: nobody may notice.
            assert!(!told || kind == "segment", "{}: told, and could be mended", at());
            tally.count(kind, told);
        }
    }
    tally.print(&format!("{life:?}, {left:?}"));
}

#[test]
fn any_bit_of_any_file_behind_a_mark() {
    sweep(Life::Rolled, Left::Marked, 200_003);
    sweep(Life::Short, Left::Marked, 20_011);
}

#[test]
fn any_bit_of_any_file_after_a_clean_close() {
    sweep(Life::Rolled, Left::Closed, 200_003);
    sweep(Life::Short, Left::Closed, 20_011);
}

/// Where each record's payload stands in a segment: (offset, log, LSN), by offset.
fn places(image: &[u8]) -> Vec<(u64, usize, u64)> {
    let mut heads = BTreeMap::new();
    for tag in 0..NAMES.len() {
        for lsn in 0..Life::Rolled.count() {
            heads.insert(Life::Rolled.payload(tag, lsn)[..16].to_vec(), (tag, lsn));
        }
    }
    let found = (0..image.len().saturating_sub(16)).step_by(8).filter_map(|at| {
        let (tag, lsn) = heads.get(&image[at..at + 16])?;
        Some((at as u64, *tag, *lsn))
    });
    found.collect()
}

/// Every bit of a sealed segment of 1 MiB, through a reader of an engine that has it open: what
/// stands around the bit is read, and is told or identical.
#[test]
fn any_bit_of_a_sealed_segment_under_an_open_engine() {
    let life = Life::Rolled;
    let disk = specimen(life, Left::Closed);
    let (engine, _drivers) = open(&disk).unwrap();
    let logs = NAMES.map(|name| engine.find(name).unwrap().unwrap());
    let mut names = disk.list().unwrap().into_iter();
    let sealed = names.find(|name| name.starts_with("segment")).unwrap();
    let image = disk.image(&sealed).unwrap();
    let places = places(&image);
    assert!(places.len() > 40, "{} records in {sealed}", places.len());
    let share = Share::of_run(4_001);
    let mut tally = Tally::default();
    for (offset, bit) in share.bits(image.len() as u64) {
        disk.flip(&sealed, offset, bit).unwrap();
        // The record before the bit, which holds it or ends before it, and the one behind it.
        let at = places.partition_point(|place| place.0 <= offset);
        let mut told = false;
        for (_, tag, lsn) in &places[at.saturating_sub(1)..(at + 1).min(places.len())] {
            let read = is_told(life, &logs[*tag], *tag, *lsn..lsn + 1);
            told |= read.unwrap_or_else(|e| panic!("{sealed}, byte {offset}, bit {bit}: {e}"));
        }
        tally.count("sealed segment", told);
        disk.flip(&sealed, offset, bit).unwrap();
    }
    tally.print("open engine");
    assert!(tally.0["sealed segment"][1] > 0, "no flip was told");
    for (tag, log) in logs.iter().enumerate() {
        assert_eq!(is_told(life, log, tag, 0..life.count()), Ok(false), "flipped back");
    }
}
