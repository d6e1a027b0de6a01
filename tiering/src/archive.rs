//! The engine's archive over a store: what a reader wants is fetched by log and LSN from objects.
//!
//! Invariants:
//! - Nothing is given that did not pass: block by block under the footer's checksums, and each
//!   record is checked once more by the engine. Bytes that do not pass are fetched again, a few
//!   times; what never does is `Corrupt`.
//! - A reader's call returns at once; the work is done by [`THREADS`] threads, one request of a
//!   reader at a time. What nobody waits for any more is not fetched.
//! - Blocks that follow each other are fetched by one get, and the next ones are fetched ahead.
//!   What is kept of them is bounded by the cache, what is under way by the threads.
//!
//! Not here: which object holds what (`catalog`), when a reader asks (the engine).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sapwood::archive::{Answer, Archive, Wanted};
use sapwood::format::{Flaw, Frame, read_record_header_only};
use sapwood::{Damage, Error, Lsn, Result, ShardId};

use crate::catalog::{Catalog, Place, named};
use crate::layout::{self, Named};
use crate::object::{Footer, ObjectHeader, TRAILER_BYTES, Trailer, open_block};
use crate::pace::Backoff;
use crate::store::{Key, ObjectStore, StoreError};

/// Threads that fetch.
const THREADS: usize = 4;

/// Bytes of the end of an object that are fetched to begin with: most footers are smaller.
const TAIL_BYTES: u64 = 64 << 10;

/// A footer larger than this is refused: a segment has no room for so many records.
const FOOTER_BYTES_MAX: u64 = 1 << 30;

/// Bytes of one get, give or take a block.
const GET_BYTES: u64 = 1 << 20;

/// So many bytes behind what was asked for are fetched ahead.
const AHEAD_BYTES: u64 = 2 << 20;

/// A call to the store is made so often before a reader is told; a reader that asks again begins
/// anew.
const TRIES: u32 = 4;

/// Names of one page of a list.
const PAGE: usize = 1000;

/// Footers in the cache at most.
const FOOTERS_MAX: usize = 1024;

/// A block of an object.
type BlockName = (Named, u32);

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockName, Arc<Vec<u8>>> for ByBytes {
    fn weight(&self, _: &BlockName, block: &Arc<Vec<u8>>) -> u64 {
        block.len() as u64 + 64
    }
}

/// Stretches that wait to be fetched ahead at most; more are not.
const AHEAD_MAX: usize = 16;

enum Job {
    Fetch(Wanted, Answer),
    Ahead(Place, Lsn),
}

#[derive(Default)]
struct Queue {
    fetches: VecDeque<(Wanted, Answer)>,
    ahead: VecDeque<(Place, Lsn)>,
    stopping: bool,
}

/// What the threads share.
struct Shared {
    store: Arc<dyn ObjectStore>,
    queue: Mutex<Queue>,
    work: Condvar,
    catalog: Mutex<Catalog>,
    /// Up to which name the objects of each shard were looked for.
    looked: Mutex<HashMap<Shard, Key>>,
    /// Counts what was said to be uploaded, and what of it was looked for, by shard.
    uploaded: AtomicU64,
    seen: Mutex<HashMap<Shard, u64>>,
    /// Objects of which nobody can tell what they hold, and why.
    bad: Mutex<BTreeMap<Named, Error>>,
    footers: Cache<Named, Arc<Footer>>,
    blocks: Cache<BlockName, Arc<Vec<u8>>, ByBytes>,
}

/// Directory, lineage, shard.
type Shard = (u64, u64, ShardId);

/// See the module. Dropped, it ends its threads; fetches under way are answered first.
pub struct StoreArchive {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for StoreArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreArchive({})", self.shared.store.url())
    }
}

impl StoreArchive {
    /// An archive over a store, with so many bytes of unpacked blocks in memory: a few MiB for each
    /// reader that reads on are useful.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(store: Arc<dyn ObjectStore>, cache_bytes: u64) -> io::Result<Self> {
        let blocks = (cache_bytes / (64 << 10)).max(16) as usize;
        let shared = Arc::new(Shared {
            store,
            queue: Mutex::default(),
            work: Condvar::new(),
            catalog: Mutex::default(),
            looked: Mutex::default(),
            uploaded: AtomicU64::new(1),
            seen: Mutex::default(),
            bad: Mutex::default(),
            footers: Cache::new(FOOTERS_MAX),
            blocks: Cache::with_weighter(blocks, cache_bytes, ByBytes),
        });
        let mut archive = Self { shared, threads: Vec::new() };
        for n in 0..THREADS {
            let shared = Arc::clone(&archive.shared);
            let thread = std::thread::Builder::new().name(format!("sapwood-fetch-{n}"));
            archive.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(archive)
    }

    /// Something was uploaded: the next fetch looks for it. A [`Tier`](crate::Tier) says it by
    /// itself. Otherwise: a log is cut, and goes on; the new records are uploaded, and leave the
    /// disk; who does not look again finds the old ones under their LSNs.
    pub fn uploaded(&self) {
        self.shared.uploaded.fetch_add(1, Ordering::Release);
    }
}

impl Archive for StoreArchive {
    fn fetch(&self, wanted: Wanted, answer: Answer) {
        lock(&self.shared.queue).fetches.push_back((wanted, answer));
        self.shared.work.notify_one();
    }
}

impl Drop for StoreArchive {
    fn drop(&mut self) {
        lock(&self.shared.queue).stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What did not work, as a reader is told.
fn told(doing: &str, error: &StoreError) -> Error {
    let source = Arc::new(io::Error::other(error.to_string()));
    Error::Io { doing: doing.to_owned(), source }
}

impl Shared {
    fn run(&self) {
        while let Some(job) = self.next() {
            match job {
                Job::Fetch(wanted, answer) if answer.is_wanted() => {
                    let (given, next) = self.fetch(&wanted, &answer);
                    answer.give(given);
                    if let Some(next) = next {
                        self.go_ahead(next);
                    }
                }
                Job::Fetch(..) => {}
                // What does not work is found out again by who wants it.
                Job::Ahead(place, lsn) => {
                    let _ = self.read_ahead(&place, lsn);
                }
            }
        }
    }

    /// The next thing to do; readers that wait come first.
    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some((wanted, answer)) = queue.fetches.pop_front() {
                return Some(Job::Fetch(wanted, answer));
            }
            if queue.stopping {
                return None;
            }
            if let Some((place, lsn)) = queue.ahead.pop_front() {
                return Some(Job::Ahead(place, lsn));
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn go_ahead(&self, next: (Place, Lsn)) {
        let mut queue = lock(&self.queue);
        if queue.ahead.len() < AHEAD_MAX {
            queue.ahead.push_back(next);
            self.work.notify_one();
        }
    }

    /// Records from where they are wanted on; also where the next ones are.
    fn fetch(&self, wanted: &Wanted, answer: &Answer) -> (Result<Vec<u8>>, Option<(Place, Lsn)>) {
        let (mut out, mut at, mut last) = (Vec::new(), wanted.from, None);
        while at < wanted.below && out.len() < wanted.bytes_max && answer.is_wanted() {
            let taken = self.find(wanted, at).and_then(|place| {
                last = Some(place);
                let to = place.last.next().min(wanted.below);
                self.take(&place, at..to, wanted.bytes_max, &mut out)
            });
            match taken {
                Ok(next) => at = next,
                Err(error) if out.is_empty() => return (Err(error), None),
                // What is there is given; the rest is asked for again, and told then.
                Err(_) => break,
            }
        }
        (Ok(out), last.filter(|_| at < wanted.below).map(|place| (place, at)))
    }

    fn find(&self, wanted: &Wanted, lsn: Lsn) -> Result<Place> {
        let shard = (wanted.directory, wanted.lineage, wanted.log.shard());
        let uploaded = self.uploaded.load(Ordering::Acquire);
        let known = lock(&self.seen).get(&shard) == Some(&uploaded);
        if !known {
            self.look(shard, false)?;
            lock(&self.seen).insert(shard, uploaded);
        }
        let find = || lock(&self.catalog).find(wanted.log, lsn);
        if let Some(place) = find() {
            return Ok(place);
        }
        // Another process uploads, or a list lagged behind.
        self.look(shard, true)?;
        find().ok_or_else(|| self.missing(wanted, lsn))
    }

    /// Why an LSN is in no object.
    fn missing(&self, wanted: &Wanted, lsn: Lsn) -> Error {
        if let Some(damage) = lock(&self.catalog).damage(wanted.log, lsn) {
            return Error::Corrupt(Box::new(Damage {
                log: damage.log,
                first: damage.first_lsn,
                last: damage.last_lsn,
                segment: damage.segment,
                offset: damage.offset,
                reason: "it was damaged when its segment was uploaded".into(),
            }));
        }
        // It may be in an object that nobody can read.
        let own = |object: &&Named| object.shard == wanted.log.shard();
        if let Some((_, error)) = lock(&self.bad).iter().find(|(object, _)| own(object)) {
            return error.clone();
        }
        let what = format!("{} has no object with LSN {lsn} of it", self.store.url());
        let source = Arc::new(io::Error::new(io::ErrorKind::NotFound, what));
        Error::Io { doing: format!("fetching log {}", wanted.log), source }
    }

    /// Learns of objects that are not known yet: those behind the last one, or all.
    fn look(&self, shard: Shard, all: bool) -> Result<()> {
        let (directory, lineage, number) = shard;
        let prefix = layout::shard_prefix(directory, lineage, number);
        let mut after = lock(&self.looked).get(&shard).filter(|_| !all).cloned();
        loop {
            let list = || self.store.list(&prefix, after.as_ref(), PAGE);
            let page = self.ask("listing objects", list)?;
            for listed in &page {
                let Some(object) = named(&listed.key, directory, lineage) else { continue };
                if !lock(&self.catalog).knows(&object) {
                    self.learn(object, listed.bytes)?;
                }
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            lock(&self.looked).insert(shard, last.key.clone());
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Learns of one object. One that is damaged hides no other.
    fn learn(&self, object: Named, bytes: u64) -> Result<()> {
        match self.footer_of(&object, bytes) {
            Ok((footer, facts)) => {
                lock(&self.catalog).learn(object, &footer, &facts);
                lock(&self.bad).remove(&object);
                self.footers.insert(object, footer);
            }
            Err(error @ (Error::Corrupt(_) | Error::Unsupported(_))) => {
                lock(&self.bad).insert(object, error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Calls the store, a few times if it has to be.
    fn ask<T>(&self, doing: &str, call: impl Fn() -> Result<T, StoreError>) -> Result<T> {
        let mut backoff = Backoff::new(lock(&self.queue).fetches.len() as u64);
        let mut tries = 1;
        loop {
            match call() {
                Ok(done) => return Ok(done),
                Err(error) if error.may_pass() && tries < TRIES => {
                    std::thread::sleep(backoff.failed());
                    tries += 1;
                }
                Err(error) => return Err(told(doing, &error)),
            }
        }
    }

    /// A range of an object that passes `check`; what does not is asked for again.
    fn checked<T>(
        &self,
        object: &Named,
        range: Range<u64>,
        check: impl Fn(&[u8]) -> Result<T, Flaw>,
    ) -> Result<T> {
        let key = key_of(object)?;
        let mut tries = 1;
        loop {
            let bytes = self.ask("reading an object", || self.store.get(&key, range.clone()))?;
            let whole = bytes.len() as u64 == range.end - range.start;
            let checked = if whole { check(&bytes) } else { Err(Flaw::Field("length of a range")) };
            match checked {
                Ok(good) => return Ok(good),
                Err(flaw) if flaw.is_unsupported() => {
                    return Err(Error::Unsupported(format!("{key}: {flaw}")));
                }
                Err(_) if tries < TRIES => tries += 1,
                Err(flaw) => return Err(corrupt(object, range.start, &flaw)),
            }
        }
    }

    fn footer(&self, object: &Named) -> Result<Arc<Footer>> {
        if let Some(footer) = self.footers.get(object) {
            return Ok(footer);
        }
        let key = key_of(object)?;
        let bytes = self.ask("looking at an object", || self.store.len(&key))?;
        let (footer, _) = self.footer_of(object, bytes)?;
        self.footers.insert(*object, Arc::clone(&footer));
        Ok(footer)
    }

    /// Reads the end of an object of so many bytes.
    fn footer_of(&self, object: &Named, bytes: u64) -> Result<(Arc<Footer>, Frame)> {
        let tail = bytes.saturating_sub(TAIL_BYTES)..bytes;
        let (trailer, got) = self.checked(object, tail.clone(), |tail| {
            Ok((Trailer::decode(tail, bytes)?, tail.to_vec()))
        })?;
        let range = trailer.footer_range();
        if trailer.footer_bytes > FOOTER_BYTES_MAX {
            let flaw = Flaw::Field("bytes of a footer");
            return Err(corrupt(object, range.start, &flaw));
        }
        let decode = |bytes: &[u8]| {
            let footer = Footer::decode(bytes, &trailer)?;
            Ok((Arc::new(footer), Footer::facts(bytes, &trailer)?))
        };
        let inside = range.start.checked_sub(tail.start);
        let end = got.len() - TRAILER_BYTES;
        let found = match inside.and_then(|start| got.get(start as usize..end)) {
            // A good trailer over a footer that is not: perhaps only this time.
            Some(footer) => decode(footer).or_else(|_| self.checked(object, range, decode))?,
            None => self.checked(object, range, decode)?,
        };
        let header = &found.0.header;
        let own = layout::segment(header, object.again).ok();
        if own == Some(key_of(object)?) {
            Ok(found)
        } else {
            Err(corrupt(object, 0, &Flaw::Field("another object under this name")))
        }
    }

    /// Takes records of a stretch, up to an LSN, until there are enough bytes; gives the LSN that
    /// follows them. Of a record in fragments all or none.
    fn take(
        &self,
        place: &Place,
        lsns: Range<Lsn>,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Lsn> {
        let footer = self.footer(&place.object)?;
        let lost = || corrupt(&place.object, 0, &Flaw::Field("a stretch that was there before"));
        let stretch = footer.stretches.get(place.stretch as usize).ok_or_else(lost)?;
        let mut next = lsns.start;
        for number in footer.blocks_from(stretch, lsns.start) {
            let block = self.block(&place.object, &footer, number, stretch.raw_end())?;
            let entry = &footer.blocks[number];
            let mut at = stretch.raw_offset.saturating_sub(entry.raw_offset) as usize;
            let end = block.len().min((stretch.raw_end() - entry.raw_offset) as usize);
            while at < end {
                let read = read_record_header_only(&block[at..end]);
                let (record, framed) =
                    read.map_err(|flaw| corrupt(&place.object, entry.offset, &flaw))?;
                let lsn = record.header.lsn;
                let begins = !record.header.is_continued();
                if lsn >= lsns.end || (begins && out.len() >= bytes_max && lsn > lsns.start) {
                    return Ok(next);
                }
                if lsn >= lsns.start {
                    out.extend_from_slice(&block[at..at + framed]);
                    next = lsn.next();
                }
                at += framed;
            }
        }
        if next == lsns.start { Err(lost()) } else { Ok(next) }
    }

    /// A block; those behind it, up to an end, are fetched with it.
    fn block(
        &self,
        object: &Named,
        footer: &Footer,
        number: usize,
        raw_end: u64,
    ) -> Result<Arc<Vec<u8>>> {
        let name = |number: usize| (*object, number as u32);
        if let Some(block) = self.blocks.get(&name(number)) {
            return Ok(block);
        }
        let first = &footer.blocks[number];
        let rest = footer.blocks[number..].iter().enumerate().skip(1);
        let more = rest.take_while(|(n, block)| {
            block.raw_offset < raw_end
                && block.end() - first.offset <= GET_BYTES
                && self.blocks.peek(&name(number + n)).is_none()
        });
        let to = number + 1 + more.count();
        let range = first.offset..footer.blocks[to - 1].end();
        let blocks = self.checked(object, range, |bytes| {
            let open = |n: usize| {
                let block = &footer.blocks[n];
                let at = (block.offset - first.offset) as usize;
                open_block(&bytes[at..], n, block, footer.header.nonce).map(Arc::new)
            };
            (number..to).map(open).collect::<Result<Vec<_>, Flaw>>()
        })?;
        for (n, block) in blocks.iter().enumerate() {
            self.blocks.insert(name(number + n), Arc::clone(block));
        }
        blocks.into_iter().next().ok_or(Error::Closed)
    }

    /// Brings what stands behind an LSN into the cache.
    fn read_ahead(&self, place: &Place, lsn: Lsn) -> Result<()> {
        if lsn > place.last {
            return Ok(());
        }
        let footer = self.footer(&place.object)?;
        let Some(stretch) = footer.stretches.get(place.stretch as usize) else { return Ok(()) };
        let mut left = AHEAD_BYTES;
        for number in footer.blocks_from(stretch, lsn) {
            let block = self.block(&place.object, &footer, number, stretch.raw_end())?;
            left = left.saturating_sub(block.len() as u64);
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

fn key_of(object: &Named) -> Result<Key> {
    let header = ObjectHeader {
        directory: object.directory,
        lineage: object.lineage,
        shard: object.shard,
        segment: object.segment,
        last_seq: object.last_seq,
        last_crc: object.last_crc,
        ..ObjectHeader::default()
    };
    layout::segment(&header, object.again).map_err(|error| told("naming an object", &error))
}

fn corrupt(object: &Named, offset: u64, flaw: &Flaw) -> Error {
    let (log, segment) = (None, object.segment);
    let reason = format!("in its object: {flaw}");
    Error::Corrupt(Box::new(Damage { log, first: Lsn(0), last: None, segment, offset, reason }))
}
