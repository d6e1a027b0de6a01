//! The crash tables of FORMAT.md, enacted: the power goes in every step of every mutation, and what
//! is left is opened, read, written, closed and opened again. Below: the rows about rot.
//!
//! One test per table; each demands by name the steps that its table lists.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

mod cuts;

use cuts::judge::{Life, Model, config};
use cuts::rot::{batches, last_frame, look};
use sapwood::format::HintPage;
use sapwood::io::buf::AlignedBuf;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::io::{Mode, Storage};
use sapwood::{Config, Error, LogOptions};

/// Another world per seed; `SAPWOOD_SEED=n` gives others for all tests.
fn disk(seed: u64) -> SimStorage {
    let shift = std::env::var("SAPWOOD_SEED").ok().and_then(|n| n.parse::<u64>().ok());
    SimStorage::new(seed + shift.unwrap_or(0) * 1000, Faults::default())
}

/// A directory with a log of some records, its first spare ready, nothing recorded yet.
fn settled(seed: u64) -> (Life, sapwood::Writer) {
    let mut life = Life::open(&disk(seed), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 5);
    life.idle(60);
    life.tap.record(true);
    (life, writer)
}

#[test]
fn append() {
    let (mut life, writer) = settled(1);
    life.append(&writer, "a", 1);
    life.append(&writer, "a", 12);
    life.demand(&["batch write under way", "batch write"]);
}

/// Two logs of one group, in batches of their own and in company.
#[test]
fn append_atomic() {
    let (mut life, a) = settled(13);
    life.tap.record(false);
    let b = life.writer("b");
    life.tap.record(true);
    life.append_atomic(&[(&a, "a", 2), (&b, "b", 3)]);
    life.append(&b, "b", 2);
    life.append_atomic(&[(&b, "b", 1), (&a, "a", 1)]);
    life.demand(&["batch write under way", "batch write"]);
}

/// Groups larger than a batch: spans, with records cut where a batch ends, until segments roll.
#[test]
fn append_in_several_batches() {
    let (mut life, a) = settled(14);
    life.tap.record(false);
    let b = life.writer("b");
    for round in 0..6 {
        life.tap.record(round == 1 || round >= 4);
        life.append_atomic(&[(&a, "a", 8), (&b, "b", 4)]);
        life.append(&b, "b", 1);
    }
    life.append_atomic(&[(&a, "a", 12)]);
    life.demand(&["batch write under way", "batch write", "seal create"]);
}

/// The power goes with some batches of a span on the disk, whole and in sequence: none is kept, and
/// what is appended afterwards stands where they stood.
#[test]
fn a_part_of_a_span_is_dropped() {
    let mut dropped = 0;
    for seed in 90..98 {
        let (mut life, writer) = settled(seed);
        life.tap.record(false);
        life.append(&writer, "a", 1);
        let mut batch = sapwood::Batch::new();
        (6..18).for_each(|n| {
            batch.push(&cuts::judge::payload("a", n));
        });
        let ticket = writer.submit(&batch).unwrap();
        while !ticket.is_done() {
            life.turn();
            let world = life.tap.crash();
            let (report, count, end) = look(&world).unwrap();
            assert!(end.is_ok() && report.damages.is_empty(), "{end:?} {report:?}");
            assert!(count == 6 || count == 18, "{count} records");
            if count == 6 && report.dropped > 0 {
                dropped += 1;
                let mut model = life.model.clone();
                model.get_mut("a").unwrap().acked = 6;
                let mut life = Life::open(&world, config(), model, false);
                let writer = life.writer("a");
                life.append(&writer, "a", 4);
                assert_eq!(look(&life.tap.crash()).unwrap().1, 10);
            }
        }
    }
    assert!(dropped > 0, "no run left a part of a span");
}

/// A batch of a record in fragments rots under a claim, with or without its run table: the record
/// is named, and not put together without it.
#[test]
fn rot_in_a_fragment_under_a_claim_is_told() {
    for (seed, part) in (110..).zip(0..3) {
        for table in [false, true] {
            let (mut life, writer) = settled(seed);
            life.tap.record(false);
            let first = batches(&life.tap.crash(), SEGMENT).len();
            let mut batch = sapwood::Batch::new();
            (5..12).for_each(|_| {
                batch.push(&cuts::judge::payload("a", 3));
            });
            let ticket = writer.submit(&batch).unwrap();
            while !ticket.is_done() {
                life.turn();
            }
            life.idle(40);
            let world = life.tap.crash();
            let at = batches(&world, SEGMENT)[first + part].0;
            world.flip(SEGMENT, at + 41, 0).unwrap();
            if table {
                world.flip(SEGMENT, at + 140, 0).unwrap();
            }
            let (report, count, end) = look(&world).unwrap();
            assert!(!report.damages.is_empty() && report.dropped == 0, "{report:?}");
            let Err(Error::Corrupt(damage)) = end else { panic!("{count} records, then {end:?}") };
            assert_eq!(damage.first.0, count, "{damage}");
            // Records before and behind are there: each 60,000 bytes, two and a bit a batch.
            assert_eq!(count, 5 + [0, 2, 4][part], "{damage}");
        }
    }
}

#[test]
fn mark() {
    let (mut life, writer) = settled(2);
    life.append(&writer, "a", 1);
    let marks = life.engine.metrics()[0].marks;
    life.idle(20);
    assert_eq!(life.engine.metrics()[0].marks, marks + 1);
    life.demand(&["batch write under way", "batch write"]);
}

/// The page says 5 after 5, in any part of it, of any moment: the next open does not ask it.
#[test]
fn hint() {
    let (mut life, writer) = settled(9);
    life.append(&writer, "a", 5);
    life.idle(20);
    life.demand(&["hint write under way", "hint write"]);
    let life = Life::open(&disk(9), config(), Model::new(), true);
    life.demand(&["create hint", "write hint"]);
}

/// A page that survived a crash and claims more than there is would, if anyone believed it, make a
/// torn tail into rot.
#[test]
fn recovery_does_not_read_the_hint_page() {
    let mut torn = 0;
    for seed in 0..8 {
        let (mut life, writer) = settled(90 + seed);
        life.tap.record(false);
        life.append(&writer, "a", 5);
        life.idle(5);
        for lsn in 10..20 {
            drop(writer.submit(cuts::judge::payload("a", lsn)).unwrap());
        }
        life.turn();
        let world = life.tap.crash();
        let bytes = world.image("hint-000").unwrap();
        let page = HintPage::decode(&life.tap.disk().image("hint-000").unwrap()).unwrap();
        let lie = HintPage { durable: page.durable + 50, term: page.term + 1, ..page };
        let (file, _) = world.open("hint-000", Mode::Write).unwrap();
        let mut buf = AlignedBuf::zeroed(bytes.len().max(4096)).unwrap();
        lie.encode(&mut buf);
        world.write_at(&file, 0, &buf, 4096, true).unwrap();
        let (report, count, end) = look(&world).unwrap();
        assert!(end.is_ok() && report.damages.is_empty(), "{end:?} {report:?}");
        assert!(count >= 10, "{count}");
        torn += report.dropped;
    }
    assert!(torn > 0, "no tail was torn: the test shows nothing");
}

#[test]
fn roll_prepare_and_seal() {
    let (mut life, writer) = settled(3);
    life.append(&writer, "a", 100);
    life.idle(20);
    life.demand(&[
        "fill create",
        "fill write under way",
        "fill write",
        "fill sync under way",
        "fill sync",
        "fill sync-dir",
        "manifest write under way",
        "manifest write",
        "batch write",
        "seal create",
        "seal write",
        "seal sync",
        "seal sync-dir",
    ]);
}

#[test]
fn new_epoch() {
    let (mut life, first) = settled(4);
    life.append(&first, "a", 2);
    let second = life.writer("a");
    life.append(&second, "a", 3);
    let third = life.writer("a");
    life.append(&third, "a", 1);
    life.demand(&["manifest write under way", "manifest write"]);
}

#[test]
fn create_directory() {
    for shards in [1, 3] {
        let config = Config { shards, ..config() };
        let life = Life::open(&disk(5), config, Model::new(), true);
        life.demand(&[
            "take lock",
            "create manifest",
            "write manifest",
            "sync manifest",
            "sync-dir",
        ]);
    }
}

#[test]
fn create_log() {
    let (mut life, _writer) = settled(6);
    for name in ["b", "c"] {
        life.model.entry(name.into()).or_default();
    }
    life.step(|life| {
        let options = LogOptions::default();
        life.engine.create_many(&[("b", &options), ("c", &options)]).unwrap();
        for name in ["b", "c"] {
            life.model.get_mut(name).unwrap().created = true;
        }
    });
    let writer = life.writer("c");
    life.append(&writer, "c", 2);
    life.demand(&["manifest write under way", "manifest write"]);
}

/// The start moves up, also to the durable end, where nothing is left of the log.
#[test]
fn truncate() {
    let (mut life, writer) = settled(13);
    life.append(&writer, "a", 7);
    life.truncate("a", 3);
    life.append(&writer, "a", 2);
    life.truncate("a", 14);
    life.append(&writer, "a", 1);
    life.demand(&["manifest write under way", "manifest write"]);
}

#[test]
fn delete_log() {
    let (mut life, old) = settled(13);
    life.append(&old, "a", 3);
    life.move_cursor("a");
    let other = life.writer("b");
    let staged = old.submit(cuts::judge::payload("a", 8)).unwrap();
    life.model.get_mut("a").unwrap().staged += 1;
    life.delete("a");
    assert!(matches!(old.submit(b"late").unwrap_err().error, Error::NoSuchLog(_)));
    life.append(&other, "b", 4);
    staged.wait().unwrap();
    life.idle(20);
    life.model.get_mut("a").unwrap().asked_again = true;
    let new = life.writer("a");
    life.append(&new, "a", 2);
    life.close();
    life.demand(&["manifest write under way", "manifest write", "batch write", "seal write"]);
}

#[test]
fn durable_cursor() {
    let (mut life, writer) = settled(14);
    for _ in 0..3 {
        life.append(&writer, "a", 2);
        life.move_cursor("a");
    }
    life.demand(&["manifest write under way", "manifest write"]);
}

/// A suffix is cut, with appends in flight, in the same segment; again at the same place, at the
/// tail, below an older cut, down to the start.
#[test]
fn cut() {
    let (mut life, writer) = settled(14);
    let beside = life.writer("b");
    life.append(&writer, "a", 9);
    life.cut(&writer, "a", 3, 8);
    life.append(&writer, "a", 5);
    life.cut(&writer, "a", 0, 8);
    life.append(&beside, "b", 2);
    life.append(&writer, "a", 2);
    life.cut(&writer, "a", 0, 10);
    life.append(&writer, "a", 2);
    life.cut(&writer, "a", 2, 3);
    life.cut(&writer, "a", 0, 0);
    life.append(&writer, "a", 3);
    life.truncate("a", 2);
    life.cut(&writer, "a", 1, 2);
    let writer = life.writer("a");
    life.append(&writer, "a", 1);
    life.close();
    life.demand(&["batch write", "manifest write under way", "manifest write"]);
}

/// A cut into segments that are sealed, and are being sealed, then the next ones are sealed too.
#[test]
fn cut_of_sealed_segments() {
    for (seed, count) in [(15, 90), (16, 120)] {
        let (mut life, writer) = settled(seed);
        life.tap.record(false);
        life.append(&writer, "a", count);
        life.tap.record(true);
        life.cut(&writer, "a", 4, 40);
        life.append(&writer, "a", 50);
        life.cut(&writer, "a", 2, 20);
        life.append(&writer, "a", 2);
        life.close();
        life.demand(&["seal write", "manifest write under way", "manifest write"]);
    }
}

/// The power goes in every step of a recovery that finds a cut: of what the last snapshot tells, of
/// segments that were sealed since, and of such as were not.
#[test]
fn open_after_a_cut() {
    for seed in 17..20 {
        let mut life = Life::open(&disk(seed), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 40 + seed % 3 * 30);
        life.cut(&writer, "a", 2, 30);
        if seed % 2 == 0 {
            life.append(&writer, "a", 25);
            life.cut(&writer, "a", 1, 10);
            life.append(&writer, "a", 1);
        }
        let world = life.tap.crash();
        let life = Life::open(&world, config(), life.model.clone(), true);
        life.demand(&["write manifest", "sync manifest", "sync segment", "write index"]);
    }
}

/// Enough logs that a slot overflows: a snapshot goes to the other one, which is grown first. It
/// tells of a cut that came before it.
/// A segment's worth of records, all truncated once they are acked; then time for what follows.
fn turn_over(life: &mut Life, writer: &sapwood::Writer) {
    life.append(writer, "a", 64);
    life.truncate("a", life.model["a"].acked);
    life.idle(40);
}

/// Segments that nobody needs retire, and their files become the next spares.
#[test]
fn retire_and_recycle() {
    let (mut life, writer) = settled(14);
    life.tap.record(false);
    (0..3).for_each(|_| turn_over(&mut life, &writer));
    life.tap.record(true);
    (0..2).for_each(|_| turn_over(&mut life, &writer));
    life.demand(&[
        "gc open",
        "gc read",
        "manifest write under way",
        "manifest write",
        "fill open",
        "fill write under way",
        "fill write",
        "seal open",
        "seal write",
        "seal truncate",
    ]);
    assert!(life.engine.metrics()[0].rolls >= 4);
}

/// Segments that nobody needs retire, and their files go.
#[test]
fn retire_and_remove() {
    let (mut life, writer) = settled(15);
    life.tap.record(false);
    life.append(&writer, "a", 200);
    life.idle(60);
    life.tap.record(true);
    life.truncate("a", 199);
    life.step(|life| life.engine.gc().unwrap());
    life.demand(&["gc open", "gc read", "gc remove under way", "gc remove", "gc sync-dir"]);
    let names = life.tap.disk().list().unwrap();
    let segments = names.iter().filter(|name| name.starts_with("segment")).count();
    assert!(segments <= 3, "the end, the active one and a spare: {names:?}");
}

/// Under a load that is truncated as it comes, nothing is created and nothing is filled.
#[test]
fn in_the_steady_state_nothing_is_made() {
    let (mut life, writer) = settled(16);
    life.tap.record(false);
    (0..10).for_each(|_| turn_over(&mut life, &writer));
    let before = life.engine.metrics()[0].clone();
    life.tap.record(true);
    for _ in 0..10 {
        turn_over_unjudged(&mut life, &writer);
    }
    let after = life.engine.metrics()[0].clone();
    assert!(after.rolls >= before.rolls + 9, "{} rolls", after.rolls - before.rolls);
    assert_eq!((after.creates, after.fill_writes), (before.creates, before.fill_writes));
    assert!(!life.tap.saw("fill create") && !life.tap.saw("seal create"));
    assert!(life.tap.saw("fill open") && life.tap.saw("seal open"));
    let used = life.tap.disk().used();
    assert!(used < 16 << 20, "{used} bytes on the disk");
}

/// Retention moves starts by size and by age, in the background, and the space comes back.
#[test]
fn retention_moves_the_start_and_frees_space() {
    use sapwood::LogSettings;
    let (mut life, writer) = settled(17);
    life.tap.record(false);
    let log = life.engine.log("a").unwrap();
    let keep = 1_500_000;
    log.set(LogSettings { retention_bytes: Some(keep), ..LogSettings::default() }).unwrap();
    for n in 5..405 {
        writer.submit(cuts::judge::payload("a", n)).unwrap().wait().unwrap();
    }
    let report = life.engine.gc().unwrap();
    let start = log.start().unwrap().0;
    let kept: u64 = (start..405).map(|n| cuts::judge::payload("a", n).len() as u64).sum();
    assert!((keep * 9 / 10..=keep).contains(&kept), "{kept} bytes from {start} on");
    let files = life.tap.disk().list().unwrap();
    let segments = files.iter().filter(|name| name.starts_with("segment")).count();
    assert!(segments <= 5, "{segments} segments, {report:?}");

    log.set(LogSettings { retention_secs: Some(10), ..LogSettings::default() }).unwrap();
    (0..50).for_each(|_| life.turn());
    assert_eq!(log.start().unwrap().0, start, "all are young enough");
    life.tap.clock().sleep(std::time::Duration::from_secs(20));
    (0..50).for_each(|_| life.turn());
    assert_eq!(log.start().unwrap().0, 405, "all are too old");
    let ticket = writer.submit(cuts::judge::payload("a", 405)).unwrap();
    assert_eq!(ticket.wait().unwrap().position.lsn.0, 405);
}

/// A consumer was slow, and retention took what its durable cursor had not come by for. Settings
/// stop at the lowest cursor; truncation is the owner's own choice, and does not.
#[test]
fn retention_stops_at_a_cursor_and_truncation_does_not() {
    use sapwood::{LogSettings, Lsn};
    let (mut life, writer) = settled(19);
    life.tap.record(false);
    let log = life.engine.log("a").unwrap();
    let (slow, fast) = (log.cursor("slow").unwrap(), log.cursor("fast").unwrap());
    slow.set(Lsn(3)).unwrap();
    fast.set(Lsn(5)).unwrap();
    log.set(LogSettings { retention_bytes: Some(1), ..LogSettings::default() }).unwrap();
    for n in 5..205 {
        writer.submit(cuts::judge::payload("a", n)).unwrap().wait().unwrap();
    }
    let start = |life: &Life| {
        life.engine.gc().unwrap();
        log.start().unwrap().0
    };
    assert_eq!(start(&life), 3, "the slowest holds");
    slow.set(Lsn(100)).unwrap();
    assert_eq!(start(&life), 5, "then the other one");
    fast.delete().unwrap();
    assert_eq!(start(&life), 100, "a deleted one holds nothing");
    log.truncate(Lsn(150)).unwrap();
    assert_eq!(start(&life), 150, "truncation asks no cursor, and retention goes no further");
    slow.delete().unwrap();
    assert!(start(&life) > 200, "nobody holds it");
    (0..5).for_each(|_| life.turn());
}

/// A quota is a full disk: appends are refused, and go on once something was truncated.
#[test]
fn a_quota_refuses_and_collection_relieves() {
    let config = Config { quota_bytes: 4 << 20, ..config() };
    let mut life = Life::open(&disk(18), config, Model::new(), false);
    let writer = life.writer("a");
    let mut appended = 0;
    let error = loop {
        match writer.submit(cuts::judge::payload("a", appended)) {
            Ok(ticket) => drop((appended += 1, ticket)),
            Err(rejected) if matches!(rejected.error, Error::NoSpace(_)) => break rejected.error,
            Err(_) => {}
        }
        life.turn();
        assert!(appended < 1000, "never refused");
    };
    assert!(error.to_string().contains("quota"), "{error}");
    let used = |life: &Life| {
        let world = life.tap.disk();
        let names = world.list().unwrap();
        let ours = names.iter().filter(|n| n.starts_with("segment") || n.starts_with("index"));
        ours.map(|name| world.image(name).unwrap().len() as u64).sum::<u64>()
    };
    assert!(used(&life) <= (4 << 20) + (256 << 10), "{} bytes", used(&life));
    let log = life.engine.log("a").unwrap();
    log.truncate(log.durable().unwrap()).unwrap();
    for _ in 0..1000 {
        life.turn();
        if let Ok(ticket) = writer.submit(b"again") {
            ticket.wait().unwrap();
            return;
        }
    }
    panic!("truncated, and still refused");
}

/// As `turn_over`, without opening every picture.
fn turn_over_unjudged(life: &mut Life, writer: &sapwood::Writer) {
    let from = life.model["a"].acked;
    for n in from..from + 64 {
        writer.submit(cuts::judge::payload("a", n)).unwrap().wait().unwrap();
    }
    let known = life.model.get_mut("a").unwrap();
    (known.acked, known.staged, known.start_asked) = (from + 64, from + 64, from + 64);
    life.engine.log("a").unwrap().truncate(sapwood::Lsn(from + 64)).unwrap();
    (0..40).for_each(|_| life.turn());
    life.tap.cuts();
}

/// Enough logs that a slot overflows: a snapshot goes to the other one, which is grown first.
#[test]
fn manifest_snapshot() {
    let mut life = Life::open(&disk(7), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 9);
    life.cut(&writer, "a", 1, 5);
    let options = LogOptions::default();
    let name = |n: usize| format!("{n:0>240}");
    for part in 0..8 {
        life.tap.record(part >= 6);
        let names: Vec<String> = (part * 100..part * 100 + 100).map(name).collect();
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
        life.step(|life| life.engine.create_many(&wanted).unwrap());
        life.append(&writer, "a", 1);
    }
    life.demand(&["manifest write under way", "manifest write", "manifest sync"]);
}

#[test]
fn close() {
    let (mut life, writer) = settled(8);
    life.append(&writer, "a", 2);
    life.close();
    life.demand(&[
        "batch write",
        "seal create",
        "seal write",
        "seal sync",
        "seal sync-dir",
        "seal truncate",
        "manifest write under way",
        "manifest write",
    ]);
}

/// A crash with several unsealed segments; then the power goes in every step of the recovery.
#[test]
fn open_after_a_crash() {
    for seed in 9..12 {
        let mut life = Life::open(&disk(seed), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 20 + seed % 3 * 25);
        let other = life.writer("b");
        life.append(&other, "b", 3);
        let world = life.tap.crash();
        let model = life.model.clone();
        let life = Life::open(&world, config(), model, true);
        life.demand(&[
            "take lock",
            "sync segment",
            "create index",
            "write index",
            "sync index",
            "sync-dir",
            "write manifest",
            "sync manifest",
            "truncate segment",
        ]);
    }
}

/// A write fails, the shard halts; then the power goes in every step of its reopening.
#[test]
fn reopen_shard() {
    for seed in 90..93 {
        let (mut life, writer) = settled(seed);
        life.tap.record(false);
        let world = life.tap.disk();
        world.set_faults(Faults { eio_write: 1_000_000, ..Faults::default() });
        let failed = writer.submit(cuts::judge::payload("a", 5)).unwrap().wait();
        assert!(matches!(failed, Err(Error::Unknown { .. })), "{failed:?}");
        world.set_faults(Faults::default());
        life.model.get_mut("a").unwrap().staged = 6;
        life.tap.record(true);
        let shard = sapwood::ShardId(0);
        let driver = life.step(|life| life.engine.reopen_shard_driven(shard).unwrap());
        life.driving = vec![driver.bind().unwrap()];
        let kept = life.engine.log("a").unwrap().durable().unwrap().0;
        let known = life.model.get_mut("a").unwrap();
        (known.acked, known.staged) = (kept, kept);
        let writer = life.writer("a");
        life.append(&writer, "a", 3);
        life.close();
        life.demand(&[
            "sync segment",
            "create index",
            "write index",
            "sync index",
            "sync-dir",
            "write manifest",
            "sync manifest",
            "truncate segment",
        ]);
    }
}

/// Batches of the torn tail lie in the spare: it is retired, and its file goes.
#[test]
fn open_with_a_torn_tail_in_the_next_segment() {
    let mut retired = 0;
    for seed in 20..32 {
        let mut life = Life::open(&disk(seed), config(), Model::new(), false);
        let writer = life.writer("a");
        life.append(&writer, "a", 30);
        let mut staged = 30;
        while writer.submit(cuts::judge::payload("a", staged)).is_ok() {
            staged += 1;
        }
        for _ in 0..3 {
            life.turn();
        }
        let mut model = life.model.clone();
        model.get_mut("a").unwrap().staged = staged;
        let life = Life::open(&life.tap.crash(), config(), model, true);
        retired += usize::from(life.engine.recovery()[0].dropped > 0);
    }
    assert!(retired > 0, "no run left a torn tail");
}

/// Five records, each a batch of its own; idle turns afterwards write a mark.
fn five_batches(seed: u64, idle: usize) -> SimStorage {
    let mut life = Life::open(&disk(seed), config(), Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 1);
    life.idle(60);
    for _ in 1..5 {
        life.append(&writer, "a", 1);
    }
    life.idle(idle);
    life.tap.crash()
}

const SEGMENT: &str = "segment-000-0000000001";

/// The header of a batch rots, later batches claim it: told, by log and LSN, and not skipped.
#[test]
fn rot_under_a_claim_is_told() {
    let world = five_batches(70, 30);
    let found = batches(&world, SEGMENT);
    world.flip(SEGMENT, found[found.len() - 4].0 + 41, 0).unwrap();
    let (report, count, end) = look(&world).unwrap();
    assert_eq!((report.damages.len(), report.dropped), (1, 0), "{report:?}");
    let Err(Error::Corrupt(damage)) = end else { panic!("{count} records, then {end:?}") };
    assert_eq!((damage.first.0, damage.last.map(|lsn| lsn.0)), (count, Some(count)));
}

/// The last batch rots before anything claims it: nobody can tell it from a torn tail.
#[test]
fn the_one_ambiguity_is_the_last_batch_without_a_mark() {
    let world = five_batches(71, 0);
    let (_, all, _) = look(&world.crash()).unwrap();
    let last = batches(&world, SEGMENT).pop().unwrap();
    world.flip(SEGMENT, last.0 + 41, 0).unwrap();
    let (report, count, end) = look(&world).unwrap();
    assert!(end.is_ok() && report.damages.is_empty(), "{end:?} {report:?}");
    assert_eq!((all, count), (5, 4));
}

/// The same with a mark behind it: the mark is the witness.
#[test]
fn a_mark_is_the_witness_of_the_last_batch() {
    let world = five_batches(72, 30);
    let found = batches(&world, SEGMENT);
    world.flip(SEGMENT, found[found.len() - 2].0 + 41, 0).unwrap();
    let (report, count, end) = look(&world).unwrap();
    assert_eq!(report.damages.len(), 1, "{report:?}");
    assert!(matches!(end, Err(Error::Corrupt(_))), "{count} records, then {end:?}");
}

/// An idle shard writes its mark also when commits are delayed.
#[test]
fn a_commit_delay_does_not_keep_the_mark_away() {
    let config = Config { commit_delay_us: 500, ..config() };
    let mut life = Life::open(&disk(73), config, Model::new(), false);
    let writer = life.writer("a");
    life.append(&writer, "a", 1);
    life.idle(60);
    assert_eq!(life.engine.metrics()[0].marks, 1);
}

/// One copy of the manifest rots: the other mends it.
#[test]
fn a_copy_of_the_manifest_mends_the_other() {
    let world = five_batches(74, 30);
    let (slot, at) = last_frame(&world);
    world.flip(&format!("manifest-000-a{slot}"), at + 130, 3).unwrap();
    world.flip(&format!("manifest-000-b{slot}"), 130, 3).unwrap();
    let (report, count, end) = look(&world).unwrap();
    assert!(end.is_ok() && count == 5 && report.repaired.len() == 2, "{count} {end:?} {report:?}");
}

/// The last edit rots in both copies, batches were written after it: they convict the manifest.
#[test]
fn batches_convict_a_manifest_that_lost_its_end() {
    let world = five_batches(75, 30);
    let (slot, at) = last_frame(&world);
    for copy in ["a", "b"] {
        world.flip(&format!("manifest-000-{copy}{slot}"), at + 130, 3).unwrap();
    }
    let error = look(&world).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("last edits are lost"), "{error}");
}

/// A snapshot rots in both copies, edits stand behind it: the older slot does not stand in for it.
#[test]
fn edits_convict_a_manifest_that_lost_a_snapshot() {
    let world = five_batches(76, 30);
    let (slot, at) = last_frame(&world);
    assert!(at > 0, "an edit stands behind the snapshot");
    for copy in ["a", "b"] {
        world.flip(&format!("manifest-000-{copy}{slot}"), 130, 3).unwrap();
    }
    let error = look(&world).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("snapshot before edit"), "{error}");
}

/// The disk fills up with records staged and no segment for them: what was acked is safe, the rest
/// is unknown, and a close ends.
#[test]
fn a_close_on_a_full_disk_ends() {
    for fill in [false, true] {
        let (mut life, writer) = settled(80);
        life.tap.record(false);
        let world = life.tap.disk();
        world.set_capacity(Some(world.used()));
        let mut tickets = Vec::new();
        let full = loop {
            if !fill {
                break false;
            }
            match writer.submit(cuts::judge::payload("a", 5 + tickets.len() as u64)) {
                Ok(ticket) => tickets.push(ticket),
                Err(rejected) if matches!(rejected.error, Error::NoSpace(_)) => break true,
                Err(_) => {}
            }
            life.turn();
        };
        let result = life.engine.close();
        assert_eq!(full, matches!(result, Err(Error::Halted { .. })), "{result:?}");
        let staged = tickets.len();
        let ends: Vec<bool> = tickets.into_iter().map(|ticket| ticket.wait().is_ok()).collect();
        let acked = ends.iter().take_while(|acked| **acked).count();
        assert!(!ends[acked..].contains(&true), "acked behind one that was not");
        drop(life);
        world.set_capacity(None);
        let (report, count, end) = look(&world).unwrap();
        assert!(end.is_ok() && report.damages.is_empty(), "{end:?} {report:?}");
        assert!((5 + acked..=5 + staged).contains(&(count as usize)), "{count}, {acked} acked");
    }
}
