//! The remote manifest: its crash table enacted, and writers that race.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/engine.rs"]
mod common;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::{append, folder, open, payload, segment_keys, settled, wait_for_seals};
use sapwood::{Config, Engine, From, Lsn, SegmentId, ShardId};
use sapwood_tiering::layout::{self, Named};
use sapwood_tiering::remote::{Author, Contents, Entry, NotListed, Remote, newest};
use sapwood_tiering::store::{Fault, Key, Listed, ObjectStore, Result, SimStore, StoreError};
use sapwood_tiering::{Settings, Survey, Tier, histories, restore};

const LONG: Duration = Duration::from_secs(120);

/// A store whose client dies at a request: that one is done or not, all later ones fail.
struct Dying {
    store: Arc<SimStore>,
    left: AtomicI64,
    last_is_done: bool,
}

impl fmt::Debug for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dying")
    }
}

impl Dying {
    /// Whether this request is made, and whether its answer arrives.
    fn ask<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let lost = || StoreError::Denied("the client is dead, simulated".into());
        if left > 0 {
            return call();
        }
        if left == 0 && self.last_is_done {
            let _ = call();
        }
        Err(lost())
    }
}

impl ObjectStore for Dying {
    fn url(&self) -> String {
        "dying://".into()
    }
    fn put_new(&self, key: &Key, bytes: &[u8], crc: u32) -> Result<()> {
        self.ask(|| self.store.put_new(key, bytes, crc))
    }
    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>> {
        self.ask(|| self.store.get(key, range))
    }
    fn len(&self, key: &Key) -> Result<u64> {
        self.ask(|| self.store.len(key))
    }
    fn checksum(&self, key: &Key) -> Result<u32> {
        self.ask(|| self.store.checksum(key))
    }
    fn list(&self, prefix: &str, after: Option<&Key>, max: usize) -> Result<Vec<Listed>> {
        self.ask(|| self.store.list(prefix, after, max))
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.ask(|| self.store.delete(key))
    }
    fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.ask(|| self.store.sweep(older_than))
    }
}

fn tier(engine: &Engine, store: Arc<dyn ObjectStore>) -> Tier {
    let settings = Settings {
        bytes_per_second: None,
        look_every: Duration::from_millis(5),
        ..Settings::default()
    };
    Tier::start(engine.clone(), store, settings).unwrap()
}

fn drain(engine: &Engine, store: &Arc<SimStore>) {
    let tier = tier(engine, Arc::clone(store) as Arc<dyn ObjectStore>);
    assert!(tier.drain(engine, LONG), "{:?}", tier.status());
}

fn listed(store: &SimStore, engine: &Engine) -> Contents {
    let facts = engine.facts();
    newest(store, facts.directory, facts.lineage).unwrap().contents
}

/// What is marked is listed, and what is listed is there as it is listed.
fn assert_listed(store: &SimStore, engine: &Engine, what: &str) {
    let contents = listed(store, engine);
    for sealed in engine.sealed_segments().iter().filter(|sealed| sealed.tiered) {
        let own = |name: &&Named| (name.shard, name.segment) == (sealed.shard, sealed.segment);
        let name = contents.objects.keys().find(own);
        assert!(name.is_some(), "{what}: segment {} is marked and not listed", sealed.segment);
    }
    for (name, entry) in &contents.objects {
        let bytes = store.peek(&layout::key_of(name).unwrap()).unwrap();
        assert_eq!(
            (bytes.len() as u64, crc32c::crc32c(&bytes)),
            (entry.bytes, entry.crc),
            "{what}"
        );
    }
}

/// The tier dies at each of its requests in turn, the last one done or not; the next one takes up,
/// everything is listed then, and comes back.
#[test]
fn a_tier_that_dies_at_every_request_leaves_a_whole_bucket() {
    let mut died = 0;
    for request in 0.. {
        let dir = folder();
        let engine = open(dir.path());
        let log = engine.log("a").unwrap();
        append(&log, "a", 0..1200);
        wait_for_seals(&engine, 1);
        let store = Arc::new(SimStore::new(request, 0));
        let dying = Arc::new(Dying {
            store: Arc::clone(&store),
            left: AtomicI64::new(request as i64 / 2),
            last_is_done: request % 2 == 1,
        });
        let first = tier(&engine, Arc::clone(&dying) as Arc<dyn ObjectStore>);
        let ended = loop {
            if first.drain(&engine, Duration::from_millis(10)) {
                break true;
            }
            if first.status().failures > 0 {
                break false;
            }
        };
        drop(first);
        let what = format!("request {request}");
        assert_listed(&store, &engine, &what);
        log.truncate(Lsn(request + 1)).unwrap();
        drain(&engine, &store);
        assert_listed(&store, &engine, &what);
        let names: Vec<_> = listed(&store, &engine).objects.into_keys().collect();
        assert_eq!(names.len(), segment_keys(&store).len(), "{what}: none twice, all listed");
        let end = engine.sealed_segments().len();
        assert!(names.len() >= end, "{what}");
        let history = histories(&*store).unwrap()[0];
        let survey = Survey::of(&*store, history, &mut |_, _| ()).unwrap();
        let config = Config::new(dir.path().join("restored"));
        let restored = restore(&*store, &survey, &config, &mut |_, _| ()).unwrap();
        assert!(restored.is_whole(), "{what}: {restored:?}");
        assert_eq!(restored.logs[0].start, Lsn(request + 1), "{what}");
        let copy = Engine::open(config).unwrap();
        let mut reader = copy.log("a").unwrap().reader(From::Start).unwrap();
        let mut next = request + 1;
        while let Some(record) = reader.next().wait().unwrap() {
            assert!(record.payload() == payload("a", next), "{what}");
            next += 1;
        }
        assert!(next > 300, "{what}");
        died += u64::from(!ended);
        if ended {
            break;
        }
    }
    assert!(died >= 12, "{died} requests");
}

fn name(segment: u64) -> Named {
    Named {
        directory: 1,
        lineage: 2,
        shard: ShardId(0),
        segment: SegmentId(segment),
        last_seq: segment,
        last_crc: 7,
        again: 0,
    }
}

fn remote(store: &Arc<SimStore>, term: u32) -> std::result::Result<Remote, NotListed> {
    let author = Author { directory: 1, lineage: 2, term, writer: u64::from(term) };
    Remote::open(Arc::clone(store) as Arc<dyn ObjectStore>, author)
}

fn add(remote: &mut Remote, segment: u64) -> std::result::Result<(), NotListed> {
    remote.commit(5, &|_| Ok(()), &|contents| {
        contents.objects.insert(name(segment), Entry { bytes: segment, crc: 1 });
    })
}

#[test]
fn of_two_terms_the_newer_goes_on() {
    let store = Arc::new(SimStore::default());
    let (mut old, mut new) = (remote(&store, 1).unwrap(), remote(&store, 2).unwrap());
    add(&mut old, 1).unwrap();
    // It did not know of that, and loses nothing of it.
    add(&mut new, 2).unwrap();
    assert_eq!(new.number(), 2);
    let fenced = add(&mut old, 3);
    assert!(matches!(fenced, Err(NotListed::Fenced { term: 2 })), "{fenced:?}");
    assert!(matches!(remote(&store, 1), Err(NotListed::Fenced { term: 2 })));
    let found = newest(&*store, 1, 2).unwrap();
    assert_eq!(found.contents.objects.keys().copied().collect::<Vec<_>>(), [name(1), name(2)]);
    assert_eq!((found.header.term, found.header.number), (2, 2));
    // Two of one term, by turns: both changes are there.
    let mut other = remote(&store, 2).unwrap();
    for segment in 3..9 {
        add(if segment % 2 == 0 { &mut other } else { &mut new }, segment).unwrap();
    }
    assert_eq!(newest(&*store, 1, 2).unwrap().contents.objects.len(), 8);
}

#[test]
fn a_lost_reply_is_found_as_the_own_manifest() {
    let store = Arc::new(SimStore::default());
    let mut own = remote(&store, 1).unwrap();
    for (segment, fault) in
        [Fault::LostReply, Fault::LostRequest, Fault::Refused].iter().enumerate()
    {
        store.fail(&[*fault]);
        add(&mut own, segment as u64).unwrap();
        assert_eq!(own.number(), segment as u64 + 1, "{fault:?}");
    }
    assert_eq!(store.keys().len(), 3);
    // A list that lags: the newest is found all the same.
    store.fail(&[Fault::StaleList]);
    assert_eq!(newest(&*store, 1, 2).unwrap().header.number, 3);
    // Nothing to change is nothing to write.
    add(&mut own, 2).unwrap();
    assert_eq!(own.number(), 3);
}

fn copy_of(engine: &Engine, to: &Path) -> Engine {
    engine.checkpoint_to(to).unwrap();
    Engine::open(Config::new(to)).unwrap()
}

/// The story: a directory is copied, both copies go on and upload to one place under one name.
/// Whoever came second would have taken the objects of the first for its own.
#[test]
fn a_copy_of_a_directory_is_refused_by_its_twins_tier() {
    let dir = folder();
    let (engine, logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    drain(&engine, &store);
    let older = copy_of(&engine, &dir.path().join("older"));
    let ahead = copy_of(&engine, &dir.path().join("ahead"));
    append(&logs[0], "a", 1500..2600);
    wait_for_seals(&engine, 5);
    drain(&engine, &store);
    let before = segment_keys(&store);
    // One that stayed behind, and one that went on by itself, and farther.
    append(&ahead.log("b").unwrap(), "b", 1500..4500);
    for (copy, why) in [(&older, "older than its tier"), (&ahead, "goes on elsewhere")] {
        let tier = tier(copy, Arc::clone(&store) as Arc<dyn ObjectStore>);
        while tier.status().failures < 2 {
            tier.hurry();
            std::thread::sleep(Duration::from_millis(5));
        }
        let told = tier.status().last_failure.unwrap();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(segment_keys(&store), before, "nothing was sent");
    drain(&engine, &store);
}

#[test]
fn of_two_objects_of_a_segment_the_listed_one_counts() {
    let dir = folder();
    let (engine, _logs) = settled(dir.path());
    let store = Arc::new(SimStore::default());
    drain(&engine, &store);
    let key = segment_keys(&store)[1].clone();
    let own = layout::parse(&key).unwrap();
    let other = Named { again: 1, ..own };
    let bytes = store.peek(&key).unwrap();
    let other_key = layout::key_of(&other).unwrap();
    store.put_new(&other_key, &bytes, crc32c::crc32c(&bytes)).unwrap();
    let history = histories(&*store).unwrap()[0];
    let survey = Survey::of(&*store, history, &mut |_, _| ()).unwrap();
    assert_eq!(survey.others, [other]);
    assert!(survey.objects.iter().any(|object| object.name == own) && survey.troubles.is_empty());
}
