//! A follower beside a writer on the simulated disk, look by look.

use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::driver::Driving;
use crate::engine::Engine;
use crate::format::{HINT_BYTES, HintPage};
use crate::io::buf::AlignedBuf;
use crate::io::sim::{Faults, SimStorage};
use crate::lsn::{LogId, Lsn};
use crate::writer::Writer;

const PAGE: &str = "hint-000";

/// A writer that leaves its last batch without a mark for as long as a test takes.
struct Author {
    disk: SimStorage,
    engine: Engine,
    driving: Driving,
}

impl Author {
    fn new(seed: u64) -> Self {
        let disk = SimStorage::new(seed, Faults::default());
        let config = Config {
            segment_bytes: 1 << 20,
            batch_bytes_max: 128 << 10,
            record_bytes_max: 64 << 10,
            stage_bytes: 1 << 20,
            idle_mark_delay: Duration::from_secs(60),
            ..Config::new("simulated")
        };
        let (engine, drivers) = Engine::open_on(Arc::new(disk.clone()), config).unwrap();
        let driving = drivers.into_iter().next().unwrap().bind().unwrap();
        Self { disk, engine, driving }
    }

    fn writer(&self, log: &str) -> Writer {
        self.engine.log(log).unwrap().writer().unwrap()
    }

    /// Appends records of 30 KiB, each a batch of its own.
    fn append(&mut self, writer: &Writer, count: u64) {
        for _ in 0..count {
            writer.submit(vec![7; 30_000]).unwrap().wait().unwrap();
        }
    }

    /// Time for what a shard does behind the acks.
    fn rest(&mut self) {
        for _ in 0..20 {
            self.driving.turn(Duration::from_millis(1));
        }
    }

    fn follower(&self) -> Stream {
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        let loaded = manifest::load(&*storage, ShardId(0)).unwrap().unwrap();
        let mut catalog = Catalog::new(1);
        loaded.state.logs.iter().for_each(|log| catalog.add(log.entry()));
        let catalog = Arc::new(RwLock::new(catalog));
        Stream::new(&storage, ShardId(0), loaded, &catalog).unwrap()
    }

    /// The writer's own watermark.
    fn durable(&self) -> u64 {
        self.engine.inner.view(ShardId(0)).durable()
    }

    fn page(&self) -> Option<HintPage> {
        HintPage::decode(&self.disk.image(PAGE).unwrap()).ok()
    }

    fn put(&self, bytes: &[u8]) {
        let (file, _) = self.disk.open_cached(PAGE, Mode::Write).unwrap();
        let mut buf = AlignedBuf::zeroed(4096).unwrap();
        buf[..bytes.len()].copy_from_slice(bytes);
        self.disk.write_at(&file, 0, &buf, 4096, false).unwrap();
    }
}

fn encoded(page: HintPage) -> Vec<u8> {
    let mut bytes = vec![0; HINT_BYTES];
    page.encode(&mut bytes);
    bytes
}

/// Looks until nothing new can come.
fn look_on(stream: &mut Stream) {
    for _ in 0..10 {
        stream.poll().unwrap();
        stream.storage.clock().sleep(MANIFEST_EVERY);
    }
}

/// How many records of the log the follower shows.
fn shown(stream: &Stream, log: u64) -> u64 {
    let id = LogId::new(ShardId(0), log);
    stream.view.lock().log(id).map_or(0, |log| log.next.0)
}

/// Nothing but the page claims the last record; without the page, nothing does.
#[test]
fn the_last_record_shows_by_the_page_alone() {
    for with_page in [true, false] {
        let mut author = Author::new(1);
        let writer = author.writer("a");
        let mut stream = author.follower();
        author.append(&writer, 2);
        // The next spare's edit claims too: let it come before the last record.
        author.rest();
        author.append(&writer, 1);
        author.rest();
        if !with_page {
            author.put(&[0; HINT_BYTES]);
        }
        if with_page {
            stream.poll().unwrap();
        } else {
            look_on(&mut stream);
        }
        assert_eq!(shown(&stream, 0), if with_page { 3 } else { 2 });
    }
}

/// The page is behind what was acked by a millisecond at most, and never ahead of it.
#[test]
fn the_page_follows_what_is_durable() {
    let mut author = Author::new(2);
    let writer = author.writer("a");
    for _ in 0..30 {
        author.append(&writer, 1);
        let durable = author.durable();
        assert!(author.page().unwrap().durable <= durable);
    }
    author.rest();
    assert_eq!(author.page().unwrap().durable, author.durable());
}

/// What was in the page cache when another boot, another process, another term or another directory
/// wrote it, and what tore, claims nothing. The same page, true in all of this, does.
#[test]
fn a_page_that_is_not_of_this_life_counts_for_nothing() {
    let mut author = Author::new(3);
    let writer = author.writer("a");
    author.append(&writer, 3);
    author.rest();
    let page = author.page().unwrap();
    let durable = page.durable + 40;
    let lie = HintPage { durable, ..page };
    let mut flipped = encoded(lie);
    flipped[30] ^= 1;
    let believed = |bytes: &[u8]| {
        author.put(bytes);
        let mut stream = author.follower();
        stream.poll().unwrap();
        stream.claim == durable
    };
    assert!(believed(&encoded(lie)), "the test's own page is good");
    for other in [
        HintPage { boot: lie.boot ^ 1, ..lie },
        HintPage { boot: 0, ..lie },
        HintPage { term: lie.term - 1, ..lie },
        HintPage { term: lie.term + 1, ..lie },
        HintPage { directory: lie.directory ^ 1, ..lie },
        HintPage { shard: ShardId(1), ..lie },
        HintPage { pid: lie.pid + 1, ..lie },
        HintPage { start_time: lie.start_time + 1, ..lie },
    ] {
        assert!(!believed(&encoded(other)), "{other:?}");
    }
    for (what, bytes) in [
        ("a flipped bit", flipped),
        ("torn", encoded(lie)[..64].to_vec()),
        ("old in front, new behind", [&encoded(page)[..26], &encoded(lie)[26..]].concat()),
        ("zeroes", vec![0; HINT_BYTES]),
    ] {
        assert!(!believed(&bytes), "{what}");
    }
}

/// The directory's logs were read when the follower began. A log was made afterwards, and batches
/// that held it were published into a view that did not know it: its records were never shown.
#[test]
fn a_log_made_between_two_looks_shows_all_its_records() {
    for with_page in [true, false] {
        let mut author = Author::new(6);
        let first = author.writer("a");
        author.append(&first, 2);
        author.rest();
        let mut stream = author.follower();
        look_on(&mut stream);
        let second = author.writer("b");
        author.append(&second, 3);
        author.append(&first, 1);
        author.rest();
        if !with_page {
            author.put(&[0; HINT_BYTES]);
        }
        look_on(&mut stream);
        assert_eq!((shown(&stream, 0), shown(&stream, 1)), (if with_page { 3 } else { 2 }, 3));
        assert!(stream.catalog.read().find("b").is_some());
    }
}

/// Between two looks a segment was filled, sealed, and the next one begun. The follower looked for
/// what is next in unsealed segments alone, so the stream stood still for good.
#[test]
fn a_segment_filled_and_sealed_between_two_looks_is_read() {
    for with_page in [true, false] {
        let mut author = Author::new(7);
        let writer = author.writer("a");
        author.append(&writer, 2);
        author.rest();
        let mut stream = author.follower();
        look_on(&mut stream);
        // A segment holds 31 of these; three are filled.
        author.append(&writer, 100);
        author.rest();
        let sealed = author.engine.inner.view(ShardId(0));
        let sealed = sealed.lock().segments.values().filter(|seen| seen.live.is_none()).count();
        assert!(sealed >= 2, "{sealed}");
        if !with_page {
            author.put(&[0; HINT_BYTES]);
        }
        look_on(&mut stream);
        assert!(shown(&stream, 0) >= 101, "{} of 102", shown(&stream, 0));
    }
}

/// The process that wrote the page no longer holds the lock: whoever asks now believes nothing.
#[test]
fn a_page_without_a_living_writer_counts_for_nothing() {
    let mut author = Author::new(4);
    let writer = author.writer("a");
    author.append(&writer, 3);
    author.rest();
    let (page, disk) = (author.page().unwrap(), author.disk.clone());
    author.engine.close().unwrap();
    drop((writer, author));
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut hints = Hints::new(&storage, page.directory, ShardId(0)).unwrap();
    assert_eq!(hints.look(), None);
    assert!(HintPage::decode(&disk.image(PAGE).unwrap()).is_ok(), "there is a page");
}

/// A write of the page that fails ends the hints and nothing else.
#[test]
fn a_page_that_cannot_be_written_is_missed_by_nobody() {
    let mut author = Author::new(5);
    let writer = author.writer("a");
    author.append(&writer, 2);
    author.rest();
    let before = author.page().unwrap().durable;
    author.append(&writer, 1);
    // Only the page is written from here on: the batch and the spare are durable.
    author.disk.set_faults(Faults { eio_write: 1_000_000, ..Faults::default() });
    author.rest();
    author.disk.set_faults(Faults::default());
    author.append(&writer, 2);
    author.rest();
    let mut stream = author.follower();
    look_on(&mut stream);
    assert!(shown(&stream, 0) >= 4, "headers claim all but the last");
    assert!(author.page().is_none_or(|page| page.durable <= before + 1));
    author.engine.close().unwrap();
}

/// A slow follower had not read all of a segment when the rest of it moved into another file, in
/// batches that do not follow what it had read: it waited for them for ever.
#[test]
fn a_follower_goes_on_behind_a_segment_that_moved() {
    let mut author = Author::new(12);
    let (a, b) = (author.writer("a"), author.writer("b"));
    author.append(&a, 1);
    author.append(&b, 1);
    let mut stream = author.follower();
    stream.poll().unwrap();
    for _ in 0..4 {
        author.append(&a, 30);
        author.append(&b, 1);
    }
    author.rest();
    author.engine.log("a").unwrap().truncate(Lsn(118)).unwrap();
    let report = author.engine.gc().unwrap();
    assert!(report.relocated_segments >= 2, "{report:?}");
    look_on(&mut stream);
    assert_eq!((shown(&stream, 0), shown(&stream, 1)), (121, 5));
}
