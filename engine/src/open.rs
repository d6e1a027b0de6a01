//! Opening a directory, step by step.
//!
//! The steps, and what a crash after each leaves (FORMAT.md has the tables):
//! 1. take ownership (a lock, a lease) → nothing; 2. create, shard 0's manifest last → a directory
//!    without it was never finished and is made anew; 3. load the manifests; 4. recover the shards
//!    in parallel, each ended by one snapshot; 5. remove files that the manifests do not name; 6.
//!    let shards, writers, readers in.
//!
//! Invariant: nothing is let in before step 4 is durable for every shard.
//!
//! Not here: what a shard's recovery does (`recover`), files of others (`names`).

mod nfs;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::catalog::Catalog;
use crate::collect::Collector;
use crate::components::Components;
use crate::config::{Config, DurableMethod};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::follow;
use crate::format::manifest::DirectoryFacts;
use crate::format::{BatchHeader, COMPACTED, HintPage, SegmentHeader, UNIT_MIN};
use crate::hint::Hint;
use crate::holds::Holds;
use crate::inner::{Opened, Ports, Shards};
use crate::intake::{Intake, IntakeSpec, LogStage};
use crate::io::buf::AlignedBuf;
use crate::io::{
    Backend, DiskSpec, Durable, HostInfo, Mode, OsOptions, OsStorage, Probe, Storage, hostinfo,
};
use crate::lsn::{SegmentId, ShardId};
use crate::manifest::{self, Cursor, Loaded, Manifest, SegmentFacts, State};
use crate::names::{self, Name};
use crate::owner::{DirectoryLock, Grant, Owner};
use crate::planted::{Bug, planted};
use crate::quota::Usage;
use crate::reclaim::Reclaim;
use crate::recover::{Recovered, recover};
use crate::relocate::Relocator;
use crate::reply::Reply;
use crate::segment::{Active, Segments};
use crate::shard::{Port, Request, Shard, ShardParts};
use crate::sync::{is_finished, thread::JoinHandle};
use crate::view::View;
use crate::watch::{UnderWay, Watched};
use crate::work::{Plan, Powers};

/// Operations of a shard in flight besides its batches: manifest copies, a fill, a seal.
const BACKGROUND_OPS: usize = 16;

/// Recovery tells how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// The directory, what stands behind its logs, and the drivers of driven shards.
pub(crate) type Outcome = (PathBuf, Opened, Vec<Driver>);

pub(crate) fn open(config: Config, parts: Components) -> Result<Outcome> {
    config.validate()?;
    let storage = match parts.storage.clone() {
        Some(storage) => storage,
        None => storage(&config)?,
    };
    open_on(storage, config, parts)
}

/// The directory of these settings, once it was seen to be one of ours, or one to be.
pub(crate) fn storage(config: &Config) -> Result<Arc<dyn Storage>> {
    look_first(config)?;
    let options = OsOptions {
        backend: config.backend,
        durable: match config.durable {
            DurableMethod::Probe => None,
            DurableMethod::Dsync => Some(Durable::Dsync),
            DurableMethod::Fdatasync => Some(Durable::Fdatasync),
        },
        create_dir: config.create && !config.read_only,
        read_only: config.read_only,
        direct: config.direct,
    };
    let storage = OsStorage::open(&config.dir, options)
        .map_err(|e| Error::io(format!("opening {}", config.dir.display()), e))?;
    Ok(Arc::new(storage))
}

/// Looks before anything is touched: probing writes a file, and the directory may be someone
/// else's.
fn look_first(config: &Config) -> Result<()> {
    let options = OsOptions {
        backend: Backend::Blocking,
        durable: Some(Durable::Fdatasync),
        create_dir: false,
        read_only: true,
        direct: false,
    };
    // What cannot be opened like this is missing, or refused with its reason below.
    let Ok(storage) = OsStorage::open(&config.dir, options) else { return Ok(()) };
    let files = list(&storage)?;
    refuse_unfinished(config, &files)?;
    if config.read_only || files.iter().any(|(_, name)| matches!(name, Name::Manifest { .. })) {
        return Ok(());
    }
    refuse_foreign(config, &files)
}

fn open_on(storage: Arc<dyn Storage>, config: Config, parts: Components) -> Result<Outcome> {
    let owner = parts.owner.clone().unwrap_or_else(|| Arc::new(DirectoryLock));
    if config.read_only {
        let opened = open_reader(storage, &config, &*owner)?;
        return Ok((config.dir, opened, Vec::new()));
    }
    nfs::refuse(&config, storage.probe())?;
    let files = list(&*storage)?;
    refuse_unfinished(&config, &files)?;
    if !files.iter().any(|(_, name)| matches!(name, Name::Manifest { .. })) {
        refuse_foreign(&config, &files)?;
    }
    let grant = owner.acquire(&*storage)?;
    // Once more: a predecessor may have made files while we waited for its end.
    let files = list(&*storage)?;
    let mut loaded = load_all(&*storage, &files)?;
    if loaded.is_empty() {
        create(&*storage, &config, &files, &Powers::of(&grant))?;
        loaded = load_all(&*storage, &list(&*storage)?)?;
    }
    let recovered = recover_all(&storage, &config, loaded, Some(&grant))?;
    let facts = recovered.first().map_or_else(DirectoryFacts::default, |shard| shard.state.facts);
    check_fits(&config, &facts)?;
    let state = |shard: ShardId| {
        recovered.get(usize::from(shard.0)).map(|shard| (&shard.state, shard.last_term))
    };
    let powers = Powers::of(&grant);
    remove_unnamed(&*storage, state, &files, &powers)?;
    let number = |(n, shard): (usize, &Recovered)| {
        next_number(ShardId(n as u16), &shard.state, &files, &powers)
    };
    let numbers: Vec<u64> = recovered.iter().enumerate().map(number).collect();
    powers.check(storage.clock().boot_ns())?;
    start(storage, &config, recovered, &numbers, grant, parts.archive.is_some())
}

pub(crate) fn list(storage: &dyn Storage) -> Result<Vec<(String, Name)>> {
    let names = storage.list().map_err(|e| Error::io("listing the directory", e))?;
    Ok(names.into_iter().map(|name| (name.clone(), names::parse(&name))).collect())
}

/// A backup or a restore that did not end, or has not yet: nobody knows what is missing.
fn refuse_unfinished(config: &Config, files: &[(String, Name)]) -> Result<()> {
    if files.iter().all(|(_, name)| *name != Name::Unfinished) {
        return Ok(());
    }
    Err(Error::NotOurs(format!(
        "{} is an unfinished backup or restore: wait for its end, or remove it and make it again",
        config.dir.display()
    )))
}

fn refuse_foreign(config: &Config, files: &[(String, Name)]) -> Result<()> {
    let dir = config.dir.display();
    if let Some((name, _)) = files.iter().find(|(_, name)| *name == Name::Foreign) {
        return Err(Error::NotOurs(format!(
            "{dir} is no Sapwood directory and not empty (it holds {name:?}); give an empty or a \
             missing one"
        )));
    }
    if let Some((name, _)) = files.iter().find(|(_, n)| matches!(n, Name::Segment { .. })) {
        return Err(Error::NotOurs(format!(
            "{dir} holds segments ({name}) and no manifest: its manifest files are missing"
        )));
    }
    Ok(())
}

fn me() -> Result<HostInfo> {
    hostinfo().map_err(|e| Error::io("asking who we are", e))
}

/// Loads every shard's manifest; empty when the directory was never finished creating.
fn load_all(storage: &dyn Storage, files: &[(String, Name)]) -> Result<Vec<Loaded>> {
    let Some(first) = manifest::load(storage, ShardId(0))? else {
        let used = files.iter().any(|(_, name)| matches!(name, Name::Segment { .. }));
        if used {
            let what =
                "the manifest of shard 0 is missing or damaged in both copies, and segments exist";
            return Err(Error::NotOurs(what.into()));
        }
        return Ok(Vec::new());
    };
    let facts = first.state.facts;
    let mut loaded = vec![first];
    for shard in 1..facts.shards {
        let shard = ShardId(shard);
        let next = manifest::load(storage, shard)?.ok_or_else(|| {
            Error::NotOurs(format!("the manifest of shard {shard} is missing or damaged"))
        })?;
        if next.state.facts.directory != facts.directory {
            return Err(Error::NotOurs(format!(
                "the manifest of shard {shard} belongs to another directory"
            )));
        }
        loaded.push(next);
    }
    Ok(loaded)
}

/// Makes a new directory: every shard's first snapshot, shard 0's last.
fn create(
    storage: &dyn Storage,
    config: &Config,
    files: &[(String, Name)],
    powers: &Powers,
) -> Result<()> {
    for (name, _) in files.iter().filter(|(_, name)| matches!(name, Name::Manifest { .. })) {
        // Left by a creation that did not finish: shard 0's came last and is not there.
        powers.check(storage.clock().boot_ns())?;
        storage.remove(name).map_err(|e| Error::io(format!("removing {name}"), e))?;
    }
    let unit = storage.probe().unit.value;
    let facts = DirectoryFacts {
        directory: storage.random_u64(),
        lineage: storage.random_u64(),
        shards: config.shards,
        unit,
        segment_bytes: config.segment_bytes,
        record_bytes_max: config.record_bytes_max,
        batch_bytes_max: config.batch_bytes_max,
        created_us: storage.clock().wall_us(),
    };
    let fit = config.segment_bytes.is_multiple_of(u64::from(unit));
    if !fit || !config.batch_bytes_max.is_multiple_of(unit) {
        return Err(Error::Invalid(format!(
            "this file system needs units of {unit} bytes; segment_bytes and batch_bytes_max must \
             be multiples of it"
        )));
    }
    let mut state = State { facts, ..State::default() };
    for shard in (0..config.shards).rev() {
        let shard = ShardId(shard);
        let (state, from, tails) = (&mut state, Cursor::default(), &manifest::no_tails);
        let still_ours = || powers.check(storage.clock().boot_ns());
        manifest::write_snapshot(storage, shard, state, tails, 0, from, &still_ours)?;
    }
    Ok(())
}

/// A device that needs more than the directory's unit would put acked bytes under its own
/// read-modify-write.
fn check_fits(config: &Config, facts: &DirectoryFacts) -> Result<()> {
    let stage_min = 4 * u64::from(facts.batch_bytes_max);
    if config.stage_bytes < stage_min {
        return Err(Error::Invalid(format!(
            "stage_bytes is {}; this directory's batches need at least {stage_min}",
            config.stage_bytes
        )));
    }
    Ok(())
}

fn recover_all(
    storage: &Arc<dyn Storage>,
    config: &Config,
    loaded: Vec<Loaded>,
    grant: Option<&Grant>,
) -> Result<Vec<Recovered>> {
    let unit = storage.probe().unit.value;
    if let Some(first) = loaded.first()
        && unit > first.state.facts.unit
        && grant.is_some()
    {
        return Err(Error::Unsupported(format!(
            "the device needs units of {unit} bytes, the directory was made with {}: copy its logs \
             into a new directory",
            first.state.facts.unit
        )));
    }
    let progress = Arc::new(AtomicU64::new(0));
    let results: Vec<_> = loaded.iter().map(|_| Arc::new(Mutex::new(None))).collect();
    let mut threads = Vec::new();
    for (shard, (loaded, result)) in loaded.into_iter().zip(&results).enumerate() {
        let (storage, progress, result) =
            (Arc::clone(storage), Arc::clone(&progress), Arc::clone(result));
        let (mode, shard) = (config.recovery, ShardId(shard as u16));
        let (write, powers) = (grant.is_some(), grant.map(Powers::of).unwrap_or_default());
        let input = Arc::new(Mutex::new(Some(loaded)));
        let theirs = Arc::clone(&input);
        let work = {
            let storage = Arc::clone(&storage);
            move || {
                let Some(loaded) = theirs.lock().take() else { return };
                let (storage, progress, keep_to) = (&storage, &*progress, u64::MAX);
                let powers = &powers;
                let plan = Plan { storage, shard, mode, write, keep_to, powers, progress };
                *result.lock() = Some(recover(&plan, loaded));
            }
        };
        // The simulator has no threads: there the shards take turns.
        let run = Arc::new(Mutex::new(Some(work)));
        let on_thread = Arc::clone(&run);
        let start = move || {
            let work = on_thread.lock().take();
            if let Some(work) = work {
                work();
            }
        };
        match storage.spawn("sapwood-recover".into(), Box::new(start), None) {
            Ok(thread) => threads.push(thread),
            Err(_) => {
                let work = run.lock().take();
                if let Some(work) = work {
                    work();
                }
            }
        }
    }
    watch(&**storage, &threads, &progress);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    let results = results.into_iter().map(|result| result.lock().take());
    results.map(|result| result.unwrap_or(Err(Error::Closed))).collect()
}

/// Says how far recovery is, while it takes long.
fn watch(storage: &dyn Storage, threads: &[JoinHandle<()>], progress: &AtomicU64) {
    let clock = storage.clock();
    let mut told = clock.mono_ns();
    let mut nap = Duration::from_micros(200);
    while threads.iter().any(|thread| !is_finished(thread)) {
        clock.sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(5));
        if clock.mono_ns() - told > PROGRESS_EVERY.as_nanos() as u64 {
            told = clock.mono_ns();
            let scanned = progress.load(Ordering::Relaxed);
            tracing::info!(scanned_mib = scanned >> 20, "recovering");
        }
    }
}

/// Removes files of ours that no manifest names, when they provably never held a batch; sets the
/// others aside. `state` gives a shard's state and the last term before this recovery.
///
/// Crash story: an owner is suspended in here, having removed the file with the highest number; its
/// lease runs out, a successor makes a segment; the first wakes, and finds the name in its list. So
/// the lease is looked at before each, and numbers are not given twice ([`next_number`]).
pub(crate) fn remove_unnamed<'a>(
    storage: &dyn Storage,
    state: impl Fn(ShardId) -> Option<(&'a State, u32)>,
    files: &[(String, Name)],
    powers: &Powers,
) -> Result<()> {
    let mut changed = false;
    for (name, kind) in files {
        let (shard, file, is_index) = match *kind {
            Name::Segment { shard, file } => (shard, file, false),
            Name::Index { shard, file } => (shard, file, true),
            _ => continue,
        };
        let state = state(shard);
        let facts = state.and_then(|(s, _)| s.segments.values().find(|facts| facts.file == file));
        // A retired one waits for the shard to remove it or to use it again.
        let retired = !is_index && state.is_some_and(|(s, _)| s.retired.contains_key(&file));
        let named = retired || facts.is_some_and(|facts| !is_index || facts.sealed.is_some());
        if named || storage.open(name, Mode::Read).is_err() {
            continue;
        }
        changed = true;
        let useless = match state {
            Some((state, before)) if !is_index => never_used(storage, name, state, before)?,
            _ => is_index,
        };
        powers.check(storage.clock().boot_ns())?;
        if useless {
            storage.remove(name).map_err(|e| Error::io(format!("removing {name}"), e))?;
        } else {
            let aside = names::aside(name, storage.clock().wall_us());
            tracing::warn!(%name, %aside, "a file that the manifest does not name is set aside");
            storage.rename(name, &aside).map_err(|e| Error::io(format!("renaming {name}"), e))?;
        }
    }
    if changed {
        storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))?;
    }
    Ok(())
}

/// Whether a segment that no manifest names holds nothing that was ever kept: it was being prepared
/// when the power went (its header is durable before its first batch is written), or what is in it
/// is of an older term than the last, and everything kept of those stands in named segments.
fn never_used(storage: &dyn Storage, name: &str, state: &State, before: u32) -> Result<bool> {
    let doing = |e| Error::io(format!("reading {name}"), e);
    let (file, _) = storage.open(name, Mode::Read).map_err(doing)?;
    let unit = (state.facts.unit as usize).max(UNIT_MIN);
    let mut buf = AlignedBuf::zeroed(2 * unit).map_err(doing)?;
    let got = storage.read_at(&file, 0, &mut buf, 2 * unit).map_err(doing)?;
    let front = buf[..got].get(unit..).unwrap_or_default();
    let header = match SegmentHeader::decode(&buf[..got]) {
        Ok(header) => header,
        Err(flaw) => return Ok(!flaw.is_unsupported() && front.iter().all(|byte| *byte == 0)),
    };
    if header.compat & COMPACTED != 0 && header.directory == state.facts.directory {
        return Ok(is_copy(storage, &header, state));
    }
    let left_over = match BatchHeader::decode(front, header.nonce) {
        Ok((batch, _)) => batch.term < before,
        Err(flaw) => !flaw.is_unsupported(),
    };
    Ok(header.directory == state.facts.directory && left_over)
}

/// Whether a file with such a header, which no manifest names, was to be the next life of a segment
/// that is there, or gone: nobody was ever led to it.
fn is_copy(storage: &dyn Storage, copy: &SegmentHeader, state: &State) -> bool {
    let Some(facts) = state.segments.get(&copy.segment) else { return true };
    let name = names::segment(copy.shard, facts.file);
    let Ok((file, _)) = storage.open(&name, Mode::Read) else { return false };
    let Ok(mut buf) = AlignedBuf::zeroed(UNIT_MIN) else { return false };
    let got = storage.read_at(&file, 0, &mut buf, UNIT_MIN).unwrap_or(0);
    SegmentHeader::decode(&buf[..got]).is_ok_and(|header| header.nonce == facts.nonce)
}

/// Numbers of files that a term has for itself, where an earlier owner may act late.
const NUMBERS_PER_TERM: u64 = 1_000_000_000;

/// The first number that no file of the shard has, named or not. Where an earlier owner may still
/// act, also one that none ever had: what it does late then means no file of this term.
pub(crate) fn next_number(
    shard: ShardId,
    state: &State,
    files: &[(String, Name)],
    powers: &Powers,
) -> u64 {
    let named = state.segments.values().map(|facts| facts.file);
    let named = named.chain(state.retired.keys().copied());
    let listed = files.iter().filter_map(|(_, name)| match name {
        Name::Segment { shard: of, file } | Name::Index { shard: of, file } => {
            (*of == shard).then_some(*file)
        }
        _ => None,
    });
    let own = if powers.sole { 0 } else { u64::from(state.term) * NUMBERS_PER_TERM };
    named.chain(listed).max().map_or(1, |last| last + 1).max(own + 1)
}

fn start(
    storage: Arc<dyn Storage>,
    config: &Config,
    recovered: Vec<Recovered>,
    next_numbers: &[u64],
    grant: Grant,
    tier: bool,
) -> Result<Outcome> {
    let facts = recovered.first().map_or_else(DirectoryFacts::default, |shard| shard.state.facts);
    let all = Usage::new(config.quota_bytes, 0);
    let mut catalog = Catalog::new(facts.shards);
    let mut ports = Vec::new();
    let mut shards = Vec::new();
    let mut reports = Vec::new();
    for (index, mut recovered) in recovered.into_iter().enumerate() {
        let id = ShardId(index as u16);
        catalog.reserve(id, recovered.state.next_log);
        catalog.expect(recovered.state.logs.len());
        recovered.state.logs.iter().for_each(|log| catalog.add(log.entry()));
        reports.push(std::mem::take(&mut recovered.report));
        let number = next_numbers.get(index).copied().unwrap_or(1);
        let usage = Arc::new(all.beside(0));
        let mut shard = make_shard(&storage, config, id, recovered, number, &grant, &usage)?;
        shard.collector.tier = tier;
        ports.push(Arc::clone(&shard.port));
        shards.push(shard);
    }
    let mut threads = Vec::new();
    let mut drivers = Vec::new();
    for (index, shard) in shards.into_iter().enumerate() {
        let id = ShardId(index as u16);
        if config.driven {
            drivers.push(Driver::new(id, Box::new(shard)));
        } else {
            match run_shard(&*storage, config, index, shard) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // Those that run already must not keep the lock.
                    for port in &ports {
                        port.force_request(Request::Close(Reply::new()));
                    }
                    return Err(error);
                }
            }
        }
    }
    let opened = Opened {
        storage,
        facts,
        catalog: Arc::new(RwLock::new(catalog)),
        config: Some(config.clone()),
        shards: Shards::Ports(Ports::new(ports)),
        threads,
        grant: Some(grant),
        reports,
    };
    Ok((config.dir.clone(), opened, drivers))
}

pub(crate) fn run_shard(
    storage: &dyn Storage,
    config: &Config,
    index: usize,
    mut shard: Shard,
) -> Result<JoinHandle<()>> {
    let (ready, bound) = crate::sync::mpsc::sync_channel(1);
    let run = move || {
        let result = shard.bind();
        let go = result.is_ok();
        let _ = ready.send(result);
        if go {
            shard.run();
        }
    };
    let pin = config.pin_cores.get(index).copied();
    let thread = storage
        .spawn(format!("sapwood-{index}"), Box::new(run), pin)
        .map_err(|e| Error::io("starting a shard's thread", e))?;
    bound.recv().map_err(|_| Error::Closed)??;
    Ok(thread)
}

pub(crate) fn make_shard(
    storage: &Arc<dyn Storage>,
    config: &Config,
    id: ShardId,
    recovered: Recovered,
    next_number: u64,
    grant: &Grant,
    usage: &Arc<Usage>,
) -> Result<Shard> {
    let Recovered { state, cursor, view, durable, prev_crc, spares, next_segment, .. } = recovered;
    let facts = state.facts;
    let spec = intake_spec(config, &facts, durable, storage.probe());
    let intake = Arc::new(Intake::new(&spec, storage.clock())?);
    for (known, log) in state.logs.iter().filter_map(|known| Some((known, view.log(known.id)?))) {
        let epoch = log.epoch.max(known.tail_epoch);
        let stage = LogStage::new(epoch, log.next, log.last_time_us);
        intake.put_log(known.id.counter() as usize, stage);
    }
    let depth = config.batches_in_flight as usize;
    let operations = depth + BACKGROUND_OPS;
    let disk = storage
        .disk(&DiskSpec {
            in_flight: operations,
            arena: Some(intake.arena()),
            lock: match &grant.lock {
                Some(lock) if !planted(Bug::LockNotInRing) => Some(lock.file().clone()),
                _ => None,
            },
        })
        .map_err(|e| Error::io("making the shard's ring", e))?;
    let ready = open_spares(&**storage, id, u64::from(facts.unit), &spares)?;
    let (term, count) = (state.term, Arc::clone(usage));
    let segments = Segments::new(id, facts, term, ready, next_segment, next_number, count);
    let reclaim = Reclaim::begin(&**storage, id, &state, Arc::clone(usage));
    let relocator = Relocator::new(id, Arc::clone(usage), config.relocate_below_percent);
    let collector = Collector::new(id, Arc::clone(usage), reclaim, relocator);
    let manifest = Manifest::new(&**storage, id, state, cursor)?;
    let hint = begin_hint(&**storage, id, &manifest, durable)?;
    let mut view = View::new(id, view);
    view.holds = Holds::new(config.hold_bytes_max, config.hold_age_max);
    view.files = Arc::new(Files::new(config.read_files_max));
    let port = Arc::new(Port {
        intake,
        view: Arc::new(view),
        requests: Mutex::default(),
        collected: Mutex::default(),
        meters: Arc::default(),
        usage: Arc::clone(usage),
        under_way: Arc::new(UnderWay::new(&*disk, operations, config.slow_write_ms)),
    });
    port.meters.turned_ns.set(storage.clock().mono_ns());
    let (under_way, meters) = (Arc::clone(&port.under_way), Arc::clone(&port.meters));
    let disk = Box::new(Watched::new(disk, &**storage, id, under_way, meters));
    Ok(Shard::new(ShardParts {
        id,
        port,
        storage: Arc::clone(storage),
        disk,
        manifest,
        segments,
        collector,
        hint,
        lease: grant.lease.clone(),
        durable,
        prev_crc,
        depth,
        mark_delay: nfs::mark_delay(storage.probe(), config.idle_mark_delay),
        commit_delay: Duration::from_micros(config.commit_delay_us),
    }))
}

fn intake_spec(config: &Config, facts: &DirectoryFacts, durable: u64, probe: &Probe) -> IntakeSpec {
    IntakeSpec {
        stage_bytes: config.stage_bytes as usize,
        batch_bytes_max: nfs::batch_bytes_max(probe, facts),
        unit: facts.unit as usize,
        first_seq: durable + 1,
        pipeline_min: config.pipeline_bytes_min as usize,
        log_bytes_max: config.log_stage_bytes_max,
        span_bytes_max: facts.segment_bytes - u64::from(facts.unit),
        driven: config.driven.then_some(config.undriven_after),
    }
}

fn open_spares(
    storage: &dyn Storage,
    shard: ShardId,
    unit: u64,
    spares: &VecDeque<(SegmentId, SegmentFacts)>,
) -> Result<VecDeque<Active>> {
    let open = |(id, facts): &(SegmentId, SegmentFacts)| {
        let name = names::segment(shard, facts.file);
        let opened = storage.open(&name, Mode::Write);
        let (file, bytes) = opened.map_err(|e| Error::io(format!("opening {name}"), e))?;
        let (number, nonce) = (facts.file, facts.nonce);
        // The index of a former life was removed when the directory was opened.
        let recycled = false;
        Ok(Active { id: *id, file, number, nonce, bytes, offset: unit, recycled })
    };
    spares.iter().map(open).collect()
}

fn begin_hint(
    storage: &dyn Storage,
    shard: ShardId,
    manifest: &Manifest,
    durable: u64,
) -> Result<Hint> {
    let (directory, term) = (manifest.state.facts.directory, manifest.state.term);
    let manifest_seq = manifest.seq();
    let page = HintPage { directory, shard, term, durable, manifest_seq, ..HintPage::default() };
    Ok(Hint::open(storage, &me()?, page))
}

/// Opens for reading: exactly what the next write-open would keep, or, while another process
/// writes, what it has made durable, and on.
fn open_reader(storage: Arc<dyn Storage>, config: &Config, owner: &dyn Owner) -> Result<Opened> {
    let files = list(&*storage)?;
    refuse_unfinished(config, &files)?;
    let loaded = load_all(&*storage, &files)?;
    let Some(facts) = loaded.first().map(|first| first.state.facts) else {
        let dir = config.dir.display();
        return Err(Error::NotOurs(format!("{dir} holds no Sapwood directory")));
    };
    let owned = owner.is_owned(&*storage)?;
    let mut catalog = Catalog::new(facts.shards);
    for (shard, loaded) in loaded.iter().enumerate() {
        catalog.reserve(ShardId(shard as u16), loaded.state.next_log);
        loaded.state.logs.iter().for_each(|log| catalog.add(log.entry()));
    }
    if owned {
        return follow::open(storage, facts, catalog, loaded);
    }
    let mut recovered = recover_all(&storage, config, loaded, None)?;
    let reports = recovered.iter_mut().map(|r| std::mem::take(&mut r.report)).collect();
    let views = recovered
        .into_iter()
        .enumerate()
        .map(|(shard, recovered)| Arc::new(View::new(ShardId(shard as u16), recovered.view)));
    let shards = Shards::Views(views.collect(), None);
    let (threads, grant) = (Vec::new(), None);
    let catalog = Arc::new(RwLock::new(catalog));
    let config = None;
    let opened = Opened { storage, config, facts, catalog, shards, threads, grant, reports };
    Ok(opened)
}
