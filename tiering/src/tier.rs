//! The tier at work: what is sealed is uploaded, proven and marked, by a thread of its own.
//!
//! Invariants:
//! - A segment is marked only once its object is proven, holds every record of it that is kept, and
//!   is listed in the remote manifest.
//!   One with damage that nobody gave up is uploaded around, told, and stays: so the local copy of
//!   what is left of it is not collected.
//! - Segments of a shard go oldest first; one that cannot be uploaded keeps none of another shard
//!   waiting.
//! - A failure is never final: the thread waits (`pace`) and asks again. No append, no shard and no
//!   reader ever waits for it.
//! - It can be stopped at any moment, and takes up where its marks end.
//!
//! Not here: one upload (`upload`), the remote manifest (`remote`), what leaves the local disk then
//! (the engine's `gc`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use sapwood::format::DamageFacts;
use sapwood::{Engine, SealedSegment, SegmentId, ShardId};

use crate::archive::StoreArchive;
use crate::layout;
use crate::object::Packing;
use crate::pace::{Backoff, Bucket};
use crate::remote::{Entry, Keeper};
use crate::store::ObjectStore;
use crate::upload::{NotUploaded, Proven, upload};

/// Objects that one manifest lists more than the one before: a manifest for each would be a request
/// for each.
const LISTED_AT_ONCE: usize = 4;

/// How a tier works. Plain numbers; all of it can be changed while it runs, but for `packing`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes read from the local disk and sent to the store, a second, together; `None`: as many as
    /// there are. The default, 64 MiB, leaves a disk to the appends.
    pub bytes_per_second: Option<u64>,
    /// How often the engine is asked for what was sealed. Default 1 s.
    pub look_every: Duration,
    /// A segment with damage is looked at again after this: somebody may have given up what is
    /// damaged (`salvage`). Default 10 min.
    pub damaged_again_after: Duration,
    /// How often the store is told what changed about logs (settings, starts, deletions, epochs),
    /// beside what objects tell by themselves. Default 10 s.
    pub facts_every: Duration,
    /// How records are packed.
    pub packing: Packing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bytes_per_second: Some(64 << 20),
            look_every: Duration::from_secs(1),
            damaged_again_after: Duration::from_secs(600),
            facts_every: Duration::from_secs(10),
            packing: Packing::default(),
        }
    }
}

/// A segment of which records are damaged: an alarm.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Its shard.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// What is in no object.
    pub damages: Vec<DamageFacts>,
}

/// How far a tier is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Sealed segments that are not tiered.
    pub segments_behind: u64,
    /// Their bytes: the lag.
    pub bytes_behind: u64,
    /// How long ago this tier first saw the oldest of them: the lag in time, from when it was
    /// sealed or the tier was started, whichever is later.
    pub behind_for: Duration,
    /// Objects written since the start.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Objects that were there already.
    pub found: u64,
    /// Failures in a row; 0: the last thing it did went well.
    pub failures: u32,
    /// The last failure, until something goes well again.
    pub last_failure: Option<String>,
    /// Segments that stay because of damage in them.
    pub damaged: Vec<Damaged>,
    /// It was paused.
    pub paused: bool,
}

#[derive(Debug, Default)]
struct Shared {
    status: Status,
    rate: Option<u64>,
    look_every: Duration,
    paused: bool,
    stopping: bool,
    /// Somebody wants it to look now.
    hurry: bool,
    /// Somebody waits for the store to be told of the logs.
    facts_wanted: bool,
}

#[derive(Debug, Default)]
struct Common {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Common {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false when it is time to stop. While it is paused, for as long as that lasts. Who
    /// wants it to look now ends it, unless it is a wait of the budget.
    fn wait(&self, time: Duration, budget: bool) -> bool {
        let until = Instant::now() + time;
        let mut shared = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if shared.stopping {
                return false;
            }
            let hurry = !budget && !shared.paused && std::mem::take(&mut shared.hurry);
            if !shared.paused && (left.is_zero() || hurry) {
                return true;
            }
            let left = if shared.paused { Duration::from_secs(3600) } else { left };
            let woken = self.changed.wait_timeout(shared, left);
            shared = woken.map_or_else(|e| e.into_inner().0, |(shared, _)| shared);
        }
    }
}

/// A tier of one engine. Dropped, it stops: what is at the store ends first, nothing else.
#[derive(Debug)]
pub struct Tier {
    common: Arc<Common>,
    thread: Option<JoinHandle<()>>,
}

impl Tier {
    /// Starts the thread. It keeps the engine open until the tier is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        engine: Engine,
        store: Arc<dyn ObjectStore>,
        settings: Settings,
    ) -> std::io::Result<Self> {
        Self::start_with(engine, store, settings, None)
    }

    /// As [`start`](Self::start), with the archive that the engine was opened with: it is told of
    /// what is uploaded, before that is marked and may leave the local disk.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        engine: Engine,
        store: Arc<dyn ObjectStore>,
        settings: Settings,
        archive: Option<Arc<StoreArchive>>,
    ) -> std::io::Result<Self> {
        let shared = Shared {
            rate: settings.bytes_per_second,
            look_every: settings.look_every,
            ..Shared::default()
        };
        let common = Arc::new(Common { shared: Mutex::new(shared), changed: Condvar::new() });
        let theirs = Arc::clone(&common);
        let run = move || Work::new(engine, (store, archive), settings, theirs).run();
        let thread = std::thread::Builder::new().name("sapwood-tier".into()).spawn(run)?;
        Ok(Self { common, thread: Some(thread) })
    }

    /// How far it is, as of its last look.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = self.common.lock();
        Status { paused: shared.paused, ..shared.status.clone() }
    }

    /// Begins nothing more until it is resumed; an upload under way stops before its next piece.
    pub fn pause(&self) {
        self.common.lock().paused = true;
    }

    /// Goes on.
    pub fn resume(&self) {
        self.common.lock().paused = false;
        self.common.changed.notify_all();
    }

    /// Sets the budget, see [`Settings::bytes_per_second`]; from the next piece on.
    pub fn set_bytes_per_second(&self, rate: Option<u64>) {
        self.common.lock().rate = rate;
    }

    /// Looks now, and does not wait out a failure.
    pub fn hurry(&self) {
        self.common.lock().hurry = true;
        self.common.changed.notify_all();
    }

    /// Waits until all that is sealed now is tiered, or is damaged, and the store was told what is
    /// the case with the logs; false when that takes longer. Blocks.
    #[must_use]
    pub fn drain(&self, engine: &Engine, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.common.lock().facts_wanted = true;
        let all = engine.sealed_segments();
        let wanted: BTreeSet<_> = all.iter().map(|one| (one.shard, one.segment)).collect();
        loop {
            let damaged: BTreeSet<_> =
                self.common.lock().status.damaged.iter().map(|d| (d.shard, d.segment)).collect();
            let sealed = engine.sealed_segments();
            let open = sealed.iter().any(|one| {
                let name = (one.shard, one.segment);
                !one.tiered && wanted.contains(&name) && !damaged.contains(&name)
            });
            // Marked is not told yet: the status is to say so, too.
            let behind = sealed.iter().filter(|one| !one.tiered).count() as u64;
            let told =
                |shared: &Shared| !shared.facts_wanted && shared.status.segments_behind <= behind;
            if !open && told(&self.common.lock()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            self.hurry();
            let shared = self.common.lock();
            let _ = self.common.changed.wait_timeout(shared, Duration::from_millis(20));
        }
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        self.common.lock().stopping = true;
        self.common.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Name = (ShardId, SegmentId);

/// Microseconds since 1970.
fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

/// What the thread owns.
struct Work {
    engine: Engine,
    store: Arc<dyn ObjectStore>,
    archive: Option<Arc<StoreArchive>>,
    settings: Settings,
    common: Arc<Common>,
    began: Instant,
    bucket: Bucket,
    backoff: Backoff,
    /// When each segment that is behind was first seen.
    seen: BTreeMap<Name, Instant>,
    /// Those with damage, and when that was found.
    damaged: BTreeMap<Name, (Instant, Vec<DamageFacts>)>,
    keeper: Keeper,
    /// Proven and not listed yet.
    proven: Vec<(SealedSegment, Proven)>,
    /// When the store was told of the logs.
    facts_told: Option<Instant>,
}

impl Work {
    fn new(
        engine: Engine,
        (store, archive): (Arc<dyn ObjectStore>, Option<Arc<StoreArchive>>),
        settings: Settings,
        common: Arc<Common>,
    ) -> Self {
        let seed = engine.facts().directory;
        // Whoever it was, a later start is another writer.
        let writer = wall_us() ^ u64::from(std::process::id()) << 48;
        let keeper = Keeper::new(engine.clone(), Arc::clone(&store), writer);
        Self {
            keeper,
            proven: Vec::new(),
            facts_told: None,
            engine,
            store,
            archive,
            settings,
            common,
            began: Instant::now(),
            bucket: Bucket::new(settings.bytes_per_second, Duration::ZERO),
            backoff: Backoff::new(seed),
            seen: BTreeMap::new(),
            damaged: BTreeMap::new(),
        }
    }

    fn run(mut self) {
        let mut wait = Duration::ZERO;
        while self.common.wait(wait, false) {
            let failed = self.round();
            self.tell();
            wait = if failed { self.backoff.failed() } else { self.common.lock().look_every };
        }
    }

    /// Uploads all that is sealed now; true when something did not go well.
    fn round(&mut self) -> bool {
        let mut stuck = BTreeSet::new();
        self.tell();
        // Before anything is sent: it may be another's by now.
        let mut failed = self.list();
        for sealed in self.behind() {
            let name = (sealed.shard, sealed.segment);
            let again = self.settings.damaged_again_after;
            if failed && stuck.is_empty() {
                break;
            }
            if self.damaged.get(&name).is_some_and(|(at, _)| at.elapsed() < again) {
                continue;
            }
            if stuck.contains(&sealed.shard) || !self.common.wait(Duration::ZERO, true) {
                continue;
            }
            match self.upload(&sealed) {
                Ok(proven) => self.proven.push((sealed, proven)),
                Err(NotUploaded::Gone) => {}
                Err(error) => {
                    stuck.insert(sealed.shard);
                    failed = true;
                    self.failed(&error);
                }
            }
            if self.proven.len() >= LISTED_AT_ONCE {
                failed |= self.list();
            }
            self.tell();
        }
        failed |= !self.proven.is_empty() && self.list();
        self.tell();
        failed
    }

    fn failed(&self, error: &NotUploaded) {
        let mut shared = self.common.lock();
        shared.status.failures = shared.status.failures.saturating_add(1);
        shared.status.last_failure = Some(error.to_string());
    }

    /// Lists what is proven, with what is to be told of the logs, and marks it then. True when that
    /// did not go well: it is listed later.
    fn list(&mut self) -> bool {
        let due = self.facts_told.is_none_or(|at| at.elapsed() >= self.settings.facts_every);
        let wanted = self.common.lock().facts_wanted;
        let facts = due || wanted;
        if self.proven.is_empty() && !facts {
            return false;
        }
        let entry = |(_, one): &(SealedSegment, Proven)| {
            let name = layout::parse(&one.key)?;
            Some((name, Entry { bytes: one.bytes, crc: one.crc }))
        };
        let entries: Vec<_> = self.proven.iter().filter_map(entry).collect();
        let listed = self.keeper.list(&entries, facts, wall_us()).map_err(NotUploaded::Listing);
        let marked = listed.and_then(|()| {
            let proven = std::mem::take(&mut self.proven);
            proven.into_iter().try_for_each(|(sealed, proven)| self.mark(&sealed, proven))
        });
        if let Err(error) = marked {
            self.failed(&error);
            return true;
        }
        self.backoff.succeeded();
        let mut shared = self.common.lock();
        (shared.status.failures, shared.status.last_failure) = (0, None);
        if facts {
            self.facts_told = Some(Instant::now());
            // Who asked meanwhile asked for what is the case now.
            shared.facts_wanted &= !wanted;
        }
        false
    }

    /// What is sealed and not tiered, oldest first.
    fn behind(&self) -> Vec<SealedSegment> {
        let mut behind = self.engine.sealed_segments();
        let proven = |sealed: &SealedSegment| {
            let same = |(one, _): &(SealedSegment, Proven)| {
                (one.shard, one.segment) == (sealed.shard, sealed.segment)
            };
            self.proven.iter().any(same)
        };
        behind.retain(|sealed| !sealed.tiered && !proven(sealed));
        behind
    }

    fn upload(&mut self, sealed: &SealedSegment) -> Result<Proven, NotUploaded> {
        let Self { engine, store, settings, common, began, bucket, .. } = self;
        let mut spent = |bytes| {
            let rate = common.lock().rate;
            bucket.set_rate(rate, began.elapsed());
            // Stopping: the rest of this upload goes without a wait.
            common.wait(bucket.spend(bytes, began.elapsed()), true);
        };
        upload(engine, &**store, sealed, settings.packing, &mut spent)
    }

    fn mark(&mut self, sealed: &SealedSegment, proven: Proven) -> Result<(), NotUploaded> {
        let name = (sealed.shard, sealed.segment);
        {
            let mut shared = self.common.lock();
            let status = &mut shared.status;
            status.found += u64::from(proven.found);
            status.uploaded += u64::from(!proven.found);
            status.uploaded_bytes += if proven.found { 0 } else { proven.bytes };
        }
        if let Some(archive) = &self.archive {
            archive.uploaded();
        }
        if proven.damages.is_empty() {
            self.damaged.remove(&name);
            return self.engine.set_tiered(name.0, name.1).map_err(NotUploaded::Engine);
        }
        self.damaged.insert(name, (Instant::now(), proven.damages));
        Ok(())
    }

    /// Brings the status up to what is the case.
    fn tell(&mut self) {
        let mut behind = self.engine.sealed_segments();
        behind.retain(|sealed| !sealed.tiered);
        let names: BTreeSet<Name> = behind.iter().map(|one| (one.shard, one.segment)).collect();
        self.seen.retain(|name, _| names.contains(name));
        self.damaged.retain(|name, _| names.contains(name));
        for name in &names {
            self.seen.entry(*name).or_insert_with(Instant::now);
        }
        let damaged = |((shard, segment), (_, damages)): (&Name, &(Instant, Vec<DamageFacts>))| {
            Damaged { shard: *shard, segment: *segment, damages: damages.clone() }
        };
        let mut shared = self.common.lock();
        let status = &mut shared.status;
        status.segments_behind = behind.len() as u64;
        status.bytes_behind = behind.iter().map(|one| one.bytes).sum();
        let oldest = self.seen.values().min();
        status.behind_for = oldest.map_or(Duration::ZERO, Instant::elapsed);
        status.damaged = self.damaged.iter().map(damaged).collect();
        drop(shared);
        self.common.changed.notify_all();
    }
}
