//! Reading what left the local disk: over the seam from the archive into local segments and into
//! the tail, and what an archive that fails or lies is told as. Real disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod archives;
mod common;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use archives::{Fault, Memory};
use common::{config, folder, payloads};
use sapwood::format::Edit;
use sapwood::{
    Components, Config, Engine, Error, From, Log, LogOptions, LogSettings, Lsn, SegmentId, ShardId,
};

/// Local bytes that a log keeps although they are tiered.
const LOCAL: u64 = 600 << 10;

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 1000 + (n * 31 % 2000) as usize]
}

fn options() -> LogOptions {
    let settings = LogSettings { local_retention_bytes: Some(LOCAL), ..LogSettings::default() };
    LogOptions { group: Some("g".into()), settings }
}

fn open(config: Config, archive: Option<&Memory>) -> Engine {
    let archive =
        archive.map(|archive| Arc::new(archive.clone()) as Arc<dyn sapwood::archive::Archive>);
    Engine::open_with(config, Components { archive, ..Components::default() }).unwrap().0
}

fn append(log: &Log, range: std::ops::Range<u64>) {
    let writer = log.writer().unwrap();
    let tickets: Vec<_> = range.map(|n| writer.append(payload(n))).collect();
    tickets.into_iter().for_each(|ticket| {
        ticket.wait().unwrap();
    });
}

/// Uploads what is sealed and not tiered, marks it, and has it go.
fn tier(engine: &Engine, memory: &Memory, dir: &Path) {
    for sealed in engine.sealed_segments().into_iter().filter(|sealed| !sealed.tiered) {
        memory.upload(&sealed, &std::fs::read(dir.join("wal").join(&sealed.file)).unwrap());
        engine.set_tiered(sealed.shard, sealed.segment).unwrap();
    }
    engine.gc().unwrap();
}

/// Two logs of several segments, most of which left for the archive.
fn tiered(dir: &Path) -> (Engine, Memory, Log, u64) {
    let memory = Memory::default();
    let engine = open(config(dir), Some(&memory));
    let (log, other) =
        (engine.create("a", &options()).unwrap(), engine.create("b", &options()).unwrap());
    let count = 2500;
    append(&other, 0..50);
    append(&log, 0..count / 2);
    append(&log, count / 2..count);
    wait_for_seals(&engine, 4);
    let before = engine.sealed_segments().len();
    while engine.sealed_segments().iter().any(|sealed| !sealed.tiered) {
        tier(&engine, &memory, dir);
    }
    let left = engine.sealed_segments();
    assert!(left.len() + 2 < before, "{} of {before} stay", left.len());
    assert_eq!(log.start().unwrap(), Lsn(0), "the start does not move");
    (engine, memory, log, count)
}

fn wait_for_seals(engine: &Engine, count: usize) {
    while engine.sealed_segments().len() < count {
        std::thread::yield_now();
    }
}

fn expected(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(payload).collect()
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future as an executor does: it is polled when it was woken.
fn run<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_reader_crosses_the_seam_byte_for_byte() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    assert!(payloads(&log) == expected(count));
    let asked = memory.asked();
    let facts = engine.facts();
    assert!(asked.len() >= 2, "more than one fetch: {asked:?}");
    assert!(asked.iter().all(|w| (w.directory, w.lineage) == (facts.directory, facts.lineage)));
    let seam = asked[0].below;
    assert!(asked.iter().all(|w| w.log == log.id() && w.from < w.below && w.below == seam));
    assert!(Lsn(500) < seam && seam < Lsn(count));
    // Asynchronously, from inside.
    let mut reader = log.reader(From::Lsn(Lsn(333))).unwrap();
    run(async {
        for n in 333..count {
            let record = reader.next().await.unwrap().unwrap();
            assert_eq!((record.lsn(), record.payload()), (Lsn(n), &payload(n)[..]));
        }
        assert!(reader.next().await.unwrap().is_none());
    });
    memory.asked();
    // What is local is not asked for; around the seam both sides are right.
    for at in [seam.0 - 1, seam.0, seam.0 + 1] {
        let mut reader = log.reader(From::Lsn(Lsn(at))).unwrap();
        for n in at..at + 3 {
            assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n));
        }
    }
    assert_eq!(memory.asked().iter().map(|w| w.from).collect::<Vec<_>>(), [Lsn(seam.0 - 1)]);
    engine.close().unwrap();
}

#[test]
fn a_reader_begins_at_a_time_or_a_position_in_the_archive() {
    let dir = folder();
    let (engine, _memory, log, count) = tiered(dir.path());
    let mut reader = log.reader(From::Start).unwrap();
    let mut at = None;
    while let Some(record) = reader.next().wait().unwrap() {
        if record.lsn() == Lsn(700) {
            at = Some((record.position(), record.timestamp_us()));
        }
    }
    let (position, time_us) = at.unwrap();
    let first = |from| {
        let mut reader = log.reader(from).unwrap();
        let record = reader.next().wait().unwrap().unwrap();
        (record.lsn(), record.timestamp_us())
    };
    assert_eq!(first(From::At(position)).0, Lsn(700));
    assert_eq!(first(From::After(position)).0, Lsn(701));
    let (lsn, found) = first(From::Time(time_us));
    assert!(lsn <= Lsn(700) && found == time_us, "{lsn} at {found}, asked for {time_us}");
    if lsn > Lsn(0) {
        let mut reader = log.reader(From::Lsn(Lsn(lsn.0 - 1))).unwrap();
        assert!(reader.next().wait().unwrap().unwrap().timestamp_us() < time_us);
    }
    let mut other = position;
    other.epoch.0 += 5;
    let diverged = log.reader(From::At(other)).unwrap().next().wait().map(|_| ());
    assert!(matches!(diverged, Err(Error::Diverged { .. })), "{diverged:?}");
    assert_eq!(first(From::Lsn(Lsn(count - 1))).0, Lsn(count - 1));
    log.truncate(Lsn(900)).unwrap();
    assert!(matches!(log.reader(From::Lsn(Lsn(899))), Err(Error::Trimmed { start: Lsn(900) })));
    assert_eq!(first(From::Start).0, Lsn(900));
    engine.close().unwrap();
}

#[test]
fn a_follower_goes_from_the_archive_into_the_tail() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    let mut reader = log.reader(From::Start).unwrap().follow();
    for n in 0..count {
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n));
    }
    assert!(!memory.asked().is_empty());
    let theirs = log.clone();
    let writer = std::thread::spawn(move || append(&theirs, count..count + 50));
    for n in count..count + 50 {
        let record = run(reader.next()).unwrap().unwrap();
        assert_eq!((record.lsn(), record.payload()), (Lsn(n), &payload(n)[..]));
    }
    writer.join().unwrap();
    assert!(memory.asked().is_empty(), "the tail is local");
    engine.close().unwrap();
}

/// The segment that a reader stands in is tiered and goes while it reads: it goes on in the
/// archive, and calls nothing damaged.
#[test]
fn a_segment_leaves_under_its_reader() {
    let dir = folder();
    let memory = Memory::default();
    let engine = open(config(dir.path()), Some(&memory));
    let log = engine.create("a", &options()).unwrap();
    append(&log, 0..2500);
    wait_for_seals(&engine, 3);
    let mut reader = log.reader(From::Start).unwrap();
    for n in 0..100 {
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n));
    }
    tier(&engine, &memory, dir.path());
    append(&log, 2500..5000); // files are used again
    for n in 100..5000 {
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n), "at {n}");
    }
    assert!(!memory.asked().is_empty());
    engine.close().unwrap();
}

/// A time in the archive was found by reading everything before it.
#[test]
fn a_time_in_the_archive_is_found_by_few_looks() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    let mut reader = log.reader(From::Start).unwrap();
    let mut times = Vec::new();
    while let Some(record) = reader.next().wait().unwrap() {
        times.push(record.timestamp_us());
    }
    assert_eq!(times.len() as u64, count);
    drop(memory.asked());
    for at in [0, 1, 700, 1000, 1001, 1700] {
        for time in [times[at] - 1, times[at], times[at] + 1] {
            let first = times.partition_point(|t| *t < time);
            let mut reader = log.reader(From::Time(time)).unwrap();
            let record = reader.next().wait().unwrap().unwrap();
            assert_eq!(record.lsn(), Lsn(first as u64));
            assert_eq!(record.payload(), payload(first as u64));
            let asked = memory.asked();
            let whole = asked.iter().filter(|wanted| wanted.bytes_max > 1).count();
            assert!(whole <= 2 && asked.len() <= 16, "{asked:?}");
        }
    }
    // A look that fails passes over nothing.
    memory.fail(&[Fault::Unreachable]);
    let first = times.partition_point(|t| *t < times[1000]);
    let mut reader = log.reader(From::Time(times[1000])).unwrap();
    assert_eq!(reader.next().wait().unwrap().unwrap().lsn(), Lsn(first as u64));
    engine.close().unwrap();
}

#[test]
fn an_archive_that_fails_is_told_and_asked_again() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    let mut reader = log.reader(From::Start).unwrap();
    memory.fail(&[Fault::Unreachable, Fault::Dropped, Fault::TooMuch]);
    for _ in 0..3 {
        let told = reader.next().wait().map(|_| ());
        assert!(matches!(told, Err(Error::Io { .. })), "{told:?}");
    }
    assert_eq!(reader.next_lsn(), Some(Lsn(0)), "nothing moved");
    let mut asynchronous = log.reader(From::Start).unwrap();
    memory.fail(&[Fault::Dropped]);
    let told = run(asynchronous.next()).map(|_| ());
    assert!(matches!(told, Err(Error::Io { .. })), "{told:?}");
    for n in 0..count {
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n));
    }
    engine.close().unwrap();
}

#[test]
fn an_archive_that_lies_is_corrupt_and_nothing_wrong_is_shown() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    for lie in [Fault::Flipped, Fault::Later, Fault::OtherLog, Fault::Empty] {
        let mut reader = log.reader(From::Lsn(Lsn(40))).unwrap();
        memory.fail(&[lie]);
        let told = reader.next().wait().map(|_| ());
        let Err(Error::Corrupt(damage)) = told else { panic!("{lie:?}: {told:?}") };
        assert_eq!((damage.log, damage.first), (Some(log.id()), Lsn(40)), "{lie:?}: {damage}");
        assert!(damage.reason.contains("archive"), "{damage}");
        // It is well again.
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(40), "{lie:?}");
    }
    // What is whole is delivered, the rest asked for again; nothing is skipped or given twice.
    for lie in [Fault::Gap, Fault::Short] {
        let mut reader = log.reader(From::Start).unwrap();
        memory.fail(&[lie]);
        for n in 0..count {
            assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n), "{lie:?}");
        }
    }
    engine.close().unwrap();
}

/// A reader that is sent elsewhere, or dropped, in the middle of a fetch never sees its answer.
#[test]
fn an_answer_that_comes_too_late_is_never_looked_at() {
    let dir = folder();
    let (engine, memory, log, _) = tiered(dir.path());
    let mut reader = log.reader(From::Start).unwrap();
    memory.fail(&[Fault::Flipped]);
    {
        // From the reading thread back, then away to the archive.
        let mut next = pin!(reader.next());
        let mut context = Context::from_waker(Waker::noop());
        while memory.asked().is_empty() {
            assert!(!matches!(next.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
            std::thread::yield_now();
        }
    }
    reader.seek(Lsn(77));
    assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(77));
    engine.close().unwrap();
}

#[test]
fn nothing_untiered_goes_and_nothing_that_stays_locally() {
    let dir = folder();
    let memory = Memory::default();
    let engine = open(config(dir.path()), Some(&memory));
    let log = engine.create("a", &options()).unwrap();
    append(&log, 0..2500);
    wait_for_seals(&engine, 4);
    let all = engine.sealed_segments();
    assert_eq!(engine.gc().unwrap().freed_segments, 0, "nothing is tiered");
    // All but the oldest: those behind it may not go before it.
    for sealed in &all[1..] {
        engine.set_tiered(sealed.shard, sealed.segment).unwrap();
    }
    assert_eq!(engine.gc().unwrap().freed_segments, 0, "the oldest is not tiered");
    assert!(payloads(&log) == expected(2500));
    let settings = LogSettings::default();
    log.set(settings).unwrap();
    engine.set_tiered(all[0].shard, all[0].segment).unwrap();
    engine.set_tiered(all[0].shard, all[0].segment).unwrap();
    assert_eq!(engine.gc().unwrap().freed_segments, 0, "without the setting all stays");
    assert!(payloads(&log) == expected(2500) && memory.asked().is_empty());
    log.set(LogSettings { local_retention_bytes: Some(LOCAL), ..settings }).unwrap();
    engine.gc().unwrap();
    let left: u64 = engine.sealed_segments().iter().map(|sealed| sealed.bytes).sum();
    assert!(engine.sealed_segments().len() < all.len() && left + (1 << 20) > LOCAL, "{left}");
    assert!(engine.set_tiered(ShardId(99), SegmentId(1)).is_err());
    let unsealed = engine.set_tiered(ShardId(0), SegmentId(999));
    assert!(matches!(unsealed, Err(Error::Invalid(_))), "{unsealed:?}");
    assert!(engine.set_tiered(all[0].shard, all[0].segment).is_ok(), "it is gone, all is said");
    engine.close().unwrap();
}

#[test]
fn reopened_with_the_archive_and_without_it() {
    let dir = folder();
    let (engine, memory, log, count) = tiered(dir.path());
    memory.asked();
    drop(payloads(&log));
    let seam = memory.asked()[0].below;
    let before = engine.sealed_segments();
    engine.close().unwrap();
    drop((engine, log));

    let engine = open(config(dir.path()), None);
    let log = engine.log("a").unwrap();
    let tiered = |all: &[sapwood::SealedSegment]| all.iter().filter(|one| one.tiered).count();
    assert_eq!(tiered(&engine.sealed_segments()), tiered(&before), "it is durable");
    let told = log.reader(From::Start).unwrap().next().wait().map(|_| ());
    let Err(Error::Invalid(what)) = &told else { panic!("{told:?}") };
    assert!(what.contains("without an archive") && what.contains(&format!("{seam} on")), "{what}");
    let mut reader = log.reader(From::Lsn(seam)).unwrap();
    for n in seam.0..count {
        assert_eq!(reader.next().wait().unwrap().unwrap().payload(), payload(n));
    }
    append(&log, count..count + 10);
    assert_eq!(engine.gc().unwrap().freed_segments, 0, "without an archive nothing more goes");
    engine.close().unwrap();
    drop((engine, log));

    let engine = open(config(dir.path()), Some(&memory));
    assert!(payloads(&engine.log("a").unwrap()) == expected(count + 10));
    engine.close().unwrap();
    let reading = Config { read_only: true, ..config(dir.path()) };
    let engine = open(reading, Some(&memory));
    assert!(payloads(&engine.log("a").unwrap()) == expected(count + 10));
}

/// What a tier is told of logs: start, epochs and cuts as they are durable, nothing of others.
#[test]
fn facts_of_logs_are_those_of_the_manifest() {
    let dir = folder();
    let engine = open(config(dir.path()), None);
    let (a, b) = (engine.log("a").unwrap(), engine.log("b").unwrap());
    append(&a, 0..20);
    a.truncate(Lsn(4)).unwrap();
    a.writer().unwrap().cut_to(Lsn(12)).wait().unwrap();
    append(&b, 0..3);
    let missing = sapwood::LogId::new(ShardId(0), 999);
    let frame = engine.log_facts(ShardId(0), &[missing, a.id()]).unwrap();
    let facts = engine.facts();
    assert_eq!((frame.directory, frame.lineage), (facts.directory, facts.lineage));
    assert!(frame.term > 0 && frame.seq > 0);
    let [Edit::Directory(directory), Edit::Log(log), Edit::Cut { log: of, first_lsn, .. }] =
        &*frame.edits
    else {
        panic!("{:?}", frame.edits)
    };
    assert_eq!(directory, facts);
    assert_eq!((&*log.name, log.id, log.start), ("a", a.id(), Lsn(4)));
    assert_eq!(log.epochs.last().map(|(_, first)| *first), Some(Lsn(12)));
    assert!(log.chain.links.is_empty());
    assert_eq!((*of, *first_lsn), (a.id(), Lsn(12)));
    assert_eq!(engine.log_facts(ShardId(0), &[]).unwrap().edits.len(), 1);
    assert!(matches!(engine.log_facts(ShardId(9), &[]), Err(Error::Invalid(_))));
}
