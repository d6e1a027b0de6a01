//! A life of a directory on the simulated disk: sessions of an engine on one thread, each ended by
//! a close, a drop or a power cut, each begun by a recovery that may itself be cut, several times.
//!
//! Invariants: everything is decided by the seed, so that a life can be lived again; what an engine
//! says after its power has failed counts for nothing.
//!
//! Not here: what is chosen (`ops`), what must hold (`model`, `check`).

mod appends;
mod atomic;
mod ends;
mod space;

use std::sync::Arc;
use std::time::Duration;

use sapwood::io::Storage;
use sapwood::io::sim::{Faults, Rng, SimStorage};
use sapwood::{
    AtomicTicket, Batch, Components, Config, Driving, Engine, Error, From, LogOptions, LogSettings,
    Lsn, Record, Recovery, Rejected, Ticket, Writer,
};

use crate::check;
use crate::cut::CutStorage;
use crate::ensure;
use crate::model::{CURSOR, LogTruth, Model, Staged, Verdict};
use crate::ops::{self, End, Op};
use crate::script::Script;
use crate::store::Store;
use crate::summary::Summary;
use appends::Standing;
use space::Kept;

/// Steps and logs of a session that is more than a beginning.
const FULL_STEPS: u64 = 20;
const FULL_LOGS: usize = 3;

/// Recoveries in a row that may be cut.
const RECOVERY_CUTS_MAX: u64 = 4;

/// What kind of disk a life is lived on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Interrupted operations, short writes and stalls, which nobody may notice.
    pub rough: bool,
    /// Writes and syncs that fail, which halt a shard.
    pub failing: bool,
}

struct Pending {
    log: String,
    end: u64,
    ticket: Ticket,
    /// Its log was deleted: it resolves as ever, and means nothing any more.
    gone: bool,
}

/// A group that is not decided yet: its logs, and the LSN behind the last record in each.
struct PendingGroup {
    ends: Vec<(String, u64)>,
    ticket: AtomicTicket,
}

/// One session.
struct Session {
    engine: Engine,
    drivers: Vec<Driving>,
    writers: Vec<Option<Writer>>,
    fenced: Vec<Option<Writer>>,
    names: Vec<String>,
    pending: Vec<Pending>,
    groups: Vec<PendingGroup>,
    standing: Vec<Option<Standing>>,
    /// Holds, oldest first, each with what it keeps.
    holds: Vec<Kept>,
    halted: bool,
    /// What happened in it so far, for the summary.
    collected: bool,
    cut: bool,
    fencings: u64,
}

/// See the module.
pub struct World {
    seed: u64,
    /// Begins anew with each session and with each step, so that a step does the same whether or
    /// not those before it are left out.
    rng: Rng,
    /// What of the life is left out, and what was lived.
    script: Script,
    lived: Script,
    story: Vec<String>,
    config: Config,
    weather: Weather,
    disk: CutStorage,
    /// Where sealed segments are copied to. No power cut reaches it.
    store: Store,
    model: Model,
    summary: Summary,
    fresh_name: u64,
    /// A shard has halted, and the power was not cut since.
    tainted: bool,
}

/// Lives one life of so many sessions.
///
/// # Errors
/// When the engine breaks its contract.
pub fn live(seed: u64, cycles: u64, weather: Weather) -> Verdict<Summary> {
    let mut world = World::new(seed, weather);
    world.live(cycles)?;
    Ok(world.summary())
}

fn config(rng: &mut Rng) -> Config {
    let batch_bytes_max = 64 << 10;
    let config = Config {
        shards: 1 + rng.below(2) as u16,
        segment_bytes: 1 << 20,
        batch_bytes_max,
        stage_bytes: u64::from(batch_bytes_max) * (4 + rng.below(5)),
        batches_in_flight: 1 + rng.below(8) as u32,
        pipeline_bytes_min: if rng.below(2) == 0 { 1 } else { 16 << 10 },
        idle_mark_delay: Duration::from_millis(1 + rng.below(10)),
        // As little as there may be: readers share files and indexes, and lose them.
        read_files_max: 8,
        index_cache_bytes: 64 << 10,
        ..Config::new("simulated")
    };
    Config { record_bytes_max: config.record_bytes_limit() as u32, ..config }
}

impl World {
    /// A world that has seen nothing yet.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        let disk = CutStorage::new(SimStorage::new(rng.next_u64(), Faults::default()));
        Self {
            seed,
            rng,
            script: Script::default(),
            lived: Script::default(),
            story: Vec::new(),
            config,
            weather,
            disk,
            store: Store::default(),
            model: Model::default(),
            summary: Summary::default(),
            fresh_name: 0,
            tainted: false,
        }
    }

    /// The same, but only what this script keeps will be lived.
    #[must_use]
    pub fn scripted(seed: u64, weather: Weather, script: &Script) -> Self {
        Self { script: script.clone(), ..Self::new(seed, weather) }
    }

    /// What was lived so far, and its story: a line for each step.
    #[must_use]
    pub fn told(&self) -> (&Script, &[String]) {
        (&self.lived, &self.story)
    }

    /// Lives so many sessions, those left out that the script leaves out.
    ///
    /// # Errors
    /// When the engine breaks its contract.
    pub fn live(&mut self, cycles: u64) -> Verdict {
        for number in 0..cycles {
            if self.script.has_session(number) {
                self.cycle(number).map_err(|what| format!("session {number}: {what}"))?;
            }
        }
        Ok(())
    }

    /// What the life came to so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            acks: self.model.acks,
            kept: self.model.kept,
            taken: self.model.taken,
            ..self.summary
        }
    }

    /// One session: opens, checks, does things, ends.
    fn cycle(&mut self, number: u64) -> Verdict {
        self.summary.cycles += 1;
        self.rng = self.script.chance(self.seed, number, None);
        self.lived.note_session(number);
        self.story.push(format!("session {number} opens"));
        self.disk.world().set_faults(Faults::default());
        let mut session = self.open()?;
        self.set_weather();
        let end = ops::end(&mut self.rng);
        // Now and then a session long enough to fill segments.
        let long = self.rng.below(5) == 0;
        let steps = FULL_STEPS + self.rng.below(if long { 800 } else { 40 });
        // Mostly behind the first steps.
        let early = if self.rng.below(6) == 0 { 0 } else { FULL_STEPS };
        let cut_at = early + self.rng.below(steps + 1 - early);
        let mut lived = 0;
        for step in 0..steps {
            if let (End::Cut(operations), true) = (end, step == cut_at) {
                self.disk.cut_after(operations);
            }
            if !self.script.has(number, step) {
                continue;
            }
            self.rng = self.script.chance(self.seed, number, Some(step));
            let op = ops::next(&mut self.rng, session.names.len());
            self.lived.note(number, step);
            self.story.push(format!("  step {step}: {op:?}"));
            self.step(&mut session, &op).map_err(|what| format!("step {step}, {op:?}: {what}"))?;
            lived += 1;
            self.note(self.disk.world().fingerprint());
            if self.disk.is_cut() || session.halted {
                break;
            }
        }
        if matches!(end, End::Crash | End::Cut(_)) && !self.disk.is_cut() && !session.halted {
            self.rng = self.script.chance(self.seed, number, Some(steps));
            self.in_flight(&mut session).map_err(|what| format!("before the end: {what}"))?;
        }
        self.count(&session, end, lived);
        self.rng = self.script.chance(self.seed, number, Some(steps + 1));
        let cut = if self.disk.is_cut() { ", the power was cut" } else { "" };
        self.story.push(format!("  ends: {end:?}{cut}"));
        self.end(session, end)
    }

    /// What a session of so many steps was.
    fn count(&mut self, session: &Session, end: End, steps: u64) {
        let crashed = self.disk.is_cut() || matches!(end, End::Crash | End::Cut(_));
        let open = session.pending.iter().any(|pending| !pending.ticket.is_done());
        let unsynced = self.disk.is_cut() || open;
        let summary = &mut self.summary;
        summary.steps += steps;
        summary.halts += u64::from(session.halted);
        let full = steps >= FULL_STEPS && session.names.len() >= FULL_LOGS;
        summary.full += u64::from(full && crashed && unsynced);
        summary.collected += u64::from(session.collected);
        summary.cut_logs += u64::from(session.cut);
        summary.fenced += u64::from(session.fencings > 0);
        let shards = session.engine.metrics();
        summary.rolled += u64::from(shards.iter().any(|shard| shard.rolls > 0));
        summary.relocations += shards.iter().map(|shard| shard.relocations).sum::<u64>();
    }

    /// The truth.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Opens the directory in this mode.
    ///
    /// # Errors
    /// As the engine.
    pub fn open_as(&self, recovery: Recovery) -> Result<(Engine, Vec<Driving>), Error> {
        self.open_with(Config { recovery, ..self.config.clone() })
    }

    fn note(&mut self, event: u64) {
        self.summary.trace = Rng::new(self.summary.trace ^ event).next_u64();
    }

    fn set_weather(&mut self) {
        let mut faults = Faults::default();
        if self.weather.rough && self.rng.below(2) == 0 {
            faults.eintr = 20_000;
            faults.short_write = 20_000;
            faults.stall = 2_000;
        }
        if self.weather.failing && self.rng.below(2) == 0 {
            let chance = 1_000 + self.rng.below(20_000) as u32;
            if self.rng.below(2) == 0 {
                faults.eio_write = chance
            } else {
                faults.eio_sync = chance
            }
        }
        self.disk.world().set_faults(faults);
    }

    /// Cuts the power: what is left is the world from now on.
    fn crash(&mut self) {
        let image = self.disk.image();
        image.set_faults(Faults::default());
        self.disk = CutStorage::new(image);
        self.tainted = false;
        self.summary.cuts += 1;
    }

    /// Opens the directory; some recoveries are cut before they are through.
    fn open(&mut self) -> Verdict<Session> {
        let cuts = self.summary.recovery_cuts;
        for _ in 0..RECOVERY_CUTS_MAX {
            if self.rng.below(3) != 0 {
                break;
            }
            let operations = 1 + self.rng.below(40);
            self.story.push(format!("  the power fails in operation {operations} of the open"));
            self.disk.cut_after(operations);
            drop(self.open_once());
            if !self.disk.is_cut() {
                self.disk.cut_after(0);
                break;
            }
            self.crash();
            self.summary.recovery_cuts += 1;
        }
        self.summary.reopenings_cut += u64::from(self.summary.recovery_cuts > cuts);
        self.look()?;
        let (engine, drivers) = self.open_once().map_err(|e| format!("opening: {e}"))?;
        self.tainted = false;
        check::after_open(&engine, &mut self.model)?;
        let repaired: Vec<_> = engine.recovery().iter().flat_map(|r| r.damages.clone()).collect();
        ensure!(repaired.is_empty(), "damage on a disk without any: {repaired:?}");
        self.note(self.disk.world().fingerprint());
        let names: Vec<String> = self.model.logs.keys().cloned().collect();
        let blank = |_: &String| None;
        Ok(Session {
            writers: names.iter().map(blank).collect(),
            fenced: names.iter().map(blank).collect(),
            names,
            engine,
            drivers,
            pending: Vec::new(),
            groups: Vec::new(),
            standing: Vec::new(),
            holds: Vec::new(),
            halted: false,
            collected: false,
            cut: false,
            fencings: 0,
        })
    }

    fn open_once(&self) -> Result<(Engine, Vec<Driving>), Error> {
        self.open_with(self.config.clone())
    }

    /// The directory on this storage, with the archive.
    fn components(&self, storage: Arc<dyn Storage>) -> Components {
        let archive = Some(Arc::new(self.store.clone()) as _);
        Components { storage: Some(storage), archive, ..Components::default() }
    }

    fn open_with(&self, config: Config) -> Result<(Engine, Vec<Driving>), Error> {
        self.open_at(Arc::new(self.disk.clone()), config)
    }

    fn open_at(
        &self,
        storage: Arc<dyn Storage>,
        config: Config,
    ) -> Result<(Engine, Vec<Driving>), Error> {
        let config = Config { driven: true, ..config };
        let (engine, drivers) = Engine::open_with(config, self.components(storage))?;
        let drivers = drivers.into_iter().map(|driver| driver.bind());
        Ok((engine, drivers.collect::<Result<_, _>>()?))
    }

    /// A read-only open without an owner shows exactly what the next write-open will keep.
    fn look(&mut self) -> Verdict {
        // Looking writes nothing: what it shows of a write that failed, a power cut may take.
        if self.tainted || self.model.logs.is_empty() || self.rng.below(4) != 0 {
            return Ok(());
        }
        let config = Config { read_only: true, ..self.config.clone() };
        let opened = Engine::open_with(config, self.components(Arc::new(self.disk.clone())));
        let (engine, _) = opened.map_err(|e| format!("opening for reading: {e}"))?;
        let shown = check::survey(&engine, &self.model).map_err(|e| format!("read-only: {e}"))?;
        check::all_or_nothing(&self.model, |log| check::count_of(&shown, log))
            .map_err(|e| format!("read-only: {e}"))?;
        for (name, count) in shown {
            let truth = self.model.logs.entry(name).or_default();
            truth.settle_cut(count);
            ensure!(count >= truth.acked, "read-only: {count} records, {} acked", truth.acked);
            truth.shown = truth.shown.max(count);
        }
        Ok(())
    }

    fn end(&mut self, mut session: Session, end: End) -> Verdict {
        if self.disk.is_cut() {
            self.crash();
            return Ok(());
        }
        self.disk.cut_after(0);
        self.collect(&mut session)?;
        if session.halted && self.rng.below(3) == 0 {
            self.reopen(&mut session)?;
            self.crash();
            return Ok(());
        }
        if session.halted {
            // Or it is opened again on the same disk, where what failed may be read.
            self.tainted = self.rng.below(2) == 0;
            if !self.tainted {
                self.crash();
            }
            return Ok(());
        }
        match end {
            End::Crash | End::Cut(_) => {
                self.crash();
                Ok(())
            }
            End::Close => self.close(session),
            End::Drop => {
                // What was staged is drained or not: nobody is told. But acks count.
                drop(session);
                Ok(())
            }
        }
    }

    fn close(&mut self, mut session: Session) -> Verdict {
        let closed = session.engine.close();
        self.collect(&mut session)?;
        match closed {
            Ok(()) => {
                let open = session.pending.len() + session.groups.len();
                ensure!(open == 0, "closed with appends unresolved");
                // A close drains what nobody waits for: relaxed appends are durable.
                for log in 0..session.names.len() {
                    if session.writers[log].is_some() {
                        self.flush(&mut session, log)?;
                    }
                }
                self.collect(&mut session)?;
                ensure!(session.pending.is_empty(), "closed with a flush unresolved");
                for (name, truth) in &self.model.logs {
                    let staged = truth.staged.len() as u64;
                    ensure!(truth.acked == staged, "{name}: closed, {} of {staged}", truth.acked);
                }
                // Half the time the power fails right after: a clean close needs no luck.
                if self.rng.below(2) == 0 {
                    self.crash();
                }
                Ok(())
            }
            Err(Error::Halted { .. }) if self.weather.failing => {
                self.crash();
                Ok(())
            }
            Err(error) => Err(format!("closing: {error}")),
        }
    }

    fn step(&mut self, session: &mut Session, op: &Op) -> Verdict {
        match *op {
            Op::Append { log, records, bytes } => self.append(session, log, records, bytes),
            Op::Atomic { members, bytes } => self.atomic(session, members, bytes),
            Op::Fence { log } => self.fence(session, log),
            Op::AppendFenced { log } => self.append_fenced(session, log),
            Op::Turn { times, wait_us } => {
                for _ in 0..times {
                    for driver in &mut session.drivers {
                        driver.turn(Duration::from_micros(wait_us));
                    }
                }
                Ok(())
            }
            Op::Collect => self.collect(session),
            Op::Read { log, from, limit } => self.read(session, log, from, limit),
            Op::Truncate { log, share } => self.truncate(session, log, share),
            Op::TruncateAll => {
                (0..session.names.len()).try_for_each(|log| self.truncate(session, log, 100))
            }
            Op::Gc => self.gc(session),
            Op::Thin { log } => self.thin(session, log),
            Op::Hold => self.hold(session),
            Op::Release => self.release(session),
            Op::Tier => self.tier(session),
            Op::Backup => self.backup(session),
            Op::Create { count } => self.create(session, count),
            Op::Delete { log } => self.delete(session, log),
            Op::MoveCursor { log, to } => self.move_cursor(session, log, to),
            Op::AppendIf { log, off } => self.append_if(session, log, off),
            Op::AppendRelaxed { log } => self.append_relaxed(session, log),
            Op::Flush { log } => self.flush(session, log),
            Op::Cut { log, share } => self.cut(session, log, share),
            Op::ReadOn { log, limit } => self.read_on(session, log, limit),
        }
    }

    /// Errors that the weather explains end the session; others break the contract.
    fn excuse(&self, session: &mut Session, error: &Error) -> Verdict {
        if self.weather.failing && matches!(error, Error::NoSpace(_)) {
            return Ok(()); // no segment could be prepared; another will be
        }
        let failing =
            self.weather.failing && matches!(error, Error::Halted { .. } | Error::Unknown { .. });
        session.halted |= failing;
        ensure!(failing || self.disk.is_cut(), "{error}");
        Ok(())
    }

    fn append(
        &mut self,
        session: &mut Session,
        log: usize,
        records: usize,
        bytes: usize,
    ) -> Verdict {
        if session.writers[log].is_none() {
            self.fence(session, log)?;
        }
        if self.disk.is_cut() {
            return Ok(()); // a ghost stages what never was
        }
        let Some(writer) = session.writers[log].clone() else { return Ok(()) };
        let epoch = writer.epoch().0;
        let mut batch = Batch::new();
        let mut staged = Vec::new();
        for _ in 0..records {
            let len = self.rng.below(bytes as u64 + 1) as usize;
            let one = Staged { epoch, nonce: self.rng.next_u64(), len };
            push(&mut batch, &one, &mut self.rng)?;
            staged.push(one);
        }
        let sent = batch.bytes();
        match writer.submit(batch) {
            Ok(ticket) => {
                let first = ticket.position().lsn.0;
                let truth = self.truth(session, log);
                for (lsn, one) in (first..).zip(&staged) {
                    truth.stage(lsn, *one)?;
                }
                let end = first + staged.len() as u64;
                let log = session.names[log].clone();
                self.model.wholes.push(vec![(log.clone(), first, end)]);
                session.pending.push(Pending { log, end, ticket, gone: false });
                Ok(())
            }
            Err(Rejected { record: Some(batch), error: Error::Busy }) => {
                ensure!(batch.bytes() == sent, "a rejected batch came back changed");
                Ok(())
            }
            Err(Rejected { record: Some(_), error }) => self.excuse(session, &error),
            Err(Rejected { record: None, error }) => Err(format!("no record came back: {error}")),
        }
    }

    fn truth(&mut self, session: &Session, log: usize) -> &mut LogTruth {
        self.model.logs.entry(session.names[log].clone()).or_default()
    }

    fn fence(&mut self, session: &mut Session, log: usize) -> Verdict {
        let name = session.names[log].clone();
        let handle = session.engine.log(&name).map_err(|e| e.to_string())?;
        let writer = match handle.writer() {
            Ok(writer) => writer,
            Err(error) => return self.excuse(session, &error),
        };
        let cut = self.disk.is_cut();
        let truth = self.truth(session, log);
        let (epoch, first) = (writer.epoch().0, writer.first().lsn);
        ensure!(epoch > truth.epoch, "epoch {epoch} after {}", truth.epoch);
        let tail = truth.staged.len() as u64;
        ensure!(first == Lsn(tail), "the writer begins at {first}, staged {tail}");
        if !cut {
            truth.epoch = epoch;
            // All that was staged before is durable: its tail is exact.
            let fresh = truth.ack(tail)?;
            self.model.acks += fresh;
        }
        let old = session.writers[log].replace(writer);
        session.fencings += u64::from(old.is_some());
        session.fenced[log] = old.or(session.fenced[log].take());
        Ok(())
    }

    fn append_fenced(&mut self, session: &mut Session, log: usize) -> Verdict {
        let Some(writer) = &session.fenced[log] else { return Ok(()) };
        let record = self.rng.next_u64().to_le_bytes().to_vec();
        match writer.submit(record.clone()) {
            Ok(_) => Err("a fenced writer appended".into()),
            Err(Rejected { record: Some(back), error }) => {
                ensure!(back == record, "a rejected record came back changed");
                match error {
                    Error::Fenced { epoch } => {
                        ensure!(epoch > writer.epoch(), "fenced by {epoch}");
                        Ok(())
                    }
                    Error::Busy => Ok(()),
                    other => self.excuse(session, &other),
                }
            }
            Err(Rejected { record: None, error }) => Err(format!("no record came back: {error}")),
        }
    }

    /// Looks at the tickets that are decided.
    fn collect(&mut self, session: &mut Session) -> Verdict {
        self.collect_groups(session)?;
        let (done, open) =
            std::mem::take(&mut session.pending).into_iter().partition(|p| p.ticket.is_done());
        session.pending = open;
        let done: Vec<Pending> = done;
        for Pending { log, end, ticket, gone } in done {
            let first = ticket.position();
            match ticket.wait() {
                // What a ghost acks counts for nothing.
                Ok(_) if self.disk.is_cut() => {}
                Ok(ack) => {
                    ensure!(ack.position == first, "acked at {}, staged {first}", ack.position);
                    ensure!(first.lsn.0 + u64::from(ack.records) == end, "acked another count");
                    if gone {
                        continue;
                    }
                    let truth = self.model.logs.entry(log).or_default();
                    let fresh = truth.ack(end)?;
                    self.model.acks += fresh;
                }
                Err(error) => {
                    // A flush, which stages nothing, may end before there is space.
                    let full = first.lsn.0 == end && matches!(error, Error::NoSpace(_));
                    let unknown = full || matches!(error, Error::Unknown { .. });
                    ensure!(unknown, "staged, and told as not appended: {error}");
                    self.excuse(session, &error)?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, session: &Session, log: usize, percent: u64, limit: u64) -> Verdict {
        let name = &session.names[log];
        let handle = session.engine.log(name).map_err(|e| e.to_string())?;
        let durable = handle.durable().map_err(|e| e.to_string())?.0;
        let start = handle.start().map_err(|e| e.to_string())?.0;
        let from = start + (durable - start) * percent / 100;
        let mut reader = handle.reader(From::Lsn(Lsn(from))).map_err(|e| e.to_string())?;
        let cut = self.disk.is_cut();
        let truth = self.model.logs.entry(name.clone()).or_default();
        ensure!(cut || durable >= truth.acked, "{} acked, {durable} visible", truth.acked);
        let end = check::read_on(&mut reader, truth, from, limit)?;
        ensure!(end >= durable.min(from + limit), "{end} read of {durable}");
        if !cut {
            truth.shown = truth.shown.max(end);
        }
        Ok(())
    }

    fn truncate(&mut self, session: &mut Session, log: usize, share: u64) -> Verdict {
        let handle = session.engine.log(&session.names[log]).map_err(|e| e.to_string())?;
        let info = handle.info().map_err(|e| e.to_string())?;
        let to = info.start.0 + (info.durable.0 - info.start.0) * share / 100;
        let (ghost, truth) = (self.disk.is_cut(), self.truth(session, log));
        if !ghost {
            // What is truncated was durable: it can never be missing again.
            truth.shown = truth.shown.max(to);
            truth.start_asked = truth.start_asked.max(to);
        }
        if let Err(error) = handle.truncate(Lsn(to)) {
            return self.excuse(session, &error);
        }
        let start = handle.start().map_err(|e| e.to_string())?;
        ensure!(start == Lsn(to), "truncated at {to}, the start is {start}");
        if !self.disk.is_cut() {
            self.truth(session, log).start = to;
        }
        Ok(())
    }

    fn create(&mut self, session: &mut Session, count: usize) -> Verdict {
        let mut names = Vec::new();
        for _ in 0..count {
            // The name of a log that was deleted, or a new one.
            let freed = self.model.freed.iter().find(|name| !names.contains(*name)).cloned();
            names.push(freed.unwrap_or_else(|| {
                self.fresh_name += 1;
                format!("log-{}", self.fresh_name)
            }));
        }
        let group = (self.rng.below(2) == 0).then(|| "group".to_owned());
        // What is in the archive need not stay here.
        let local = (self.rng.below(2) == 0).then(|| self.rng.below(200_000));
        let settings = LogSettings { local_retention_bytes: local, ..LogSettings::default() };
        let options = LogOptions { group, settings };
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
        let created = match session.engine.create_many(&wanted) {
            Ok(created) => created,
            Err(error) => {
                self.model.maybe.extend(names);
                return self.excuse(session, &error);
            }
        };
        ensure!(created.len() == count, "{} logs of {count}", created.len());
        if self.disk.is_cut() {
            self.model.maybe.extend(names);
            return Ok(());
        }
        for (name, log) in names.into_iter().zip(created) {
            ensure!(!self.model.gone.contains(&log.id()), "{} is given again", log.id());
            self.model.freed.remove(&name);
            let mut truth = LogTruth::default();
            truth.id = Some(log.id());
            self.model.logs.insert(name.clone(), truth);
            session.names.push(name);
            session.writers.push(None);
            session.fenced.push(None);
        }
        Ok(())
    }
}

impl World {
    fn delete(&mut self, session: &mut Session, log: usize) -> Verdict {
        let name = session.names[log].clone();
        let deleted = session.engine.delete_log(&name);
        if self.disk.is_cut() || deleted.is_err() {
            self.truth(session, log).doomed = true;
            return deleted.or_else(|error| self.excuse(session, &error));
        }
        session.names.swap_remove(log);
        session.standing.clear();
        let writer = session.writers.swap_remove(log);
        session.fenced.swap_remove(log);
        session.pending.iter_mut().filter(|p| p.log == name).for_each(|p| p.gone = true);
        let ends = session.groups.iter_mut().flat_map(|group| &mut group.ends);
        ends.filter(|(log, _)| *log == name).for_each(|(log, _)| log.clear());
        let late = writer.map(|writer| writer.submit(b"late").map(|_| ()).map_err(|r| r.error));
        let told = matches!(late, None | Some(Err(Error::NoSuchLog(_) | Error::Busy)));
        ensure!(told, "an append to a log that was deleted: {late:?}");
        ensure!(matches!(session.engine.find(&name), Ok(None)), "deleted, and found");
        self.model.delete(&name);
        Ok(())
    }

    fn move_cursor(&mut self, session: &mut Session, log: usize, percent: u64) -> Verdict {
        let handle = session.engine.log(&session.names[log]).map_err(|e| e.to_string())?;
        let cursor = handle.cursor(CURSOR).map_err(|e| e.to_string())?;
        let info = handle.info().map_err(|e| e.to_string())?;
        let to = (percent <= 100).then_some(info.durable.0 * percent / 100);
        let moved = match to {
            Some(lsn) => cursor.set(Lsn(lsn)),
            None => cursor.delete(),
        };
        match (moved, to) {
            (Err(Error::Trimmed { start }), Some(lsn)) if lsn < start.0 => Ok(()),
            (Ok(()), _) if !self.disk.is_cut() => {
                let at = cursor.get().map_err(|e| e.to_string())?.map(|lsn| lsn.0);
                ensure!(at == to, "the cursor is at {at:?}, moved to {to:?}");
                self.truth(session, log).cursor = to;
                Ok(())
            }
            (moved, _) => {
                self.truth(session, log).cursor_asked = Some(to);
                moved.or_else(|error| self.excuse(session, &error))
            }
        }
    }
}

fn push(batch: &mut Batch, one: &Staged, rng: &mut Rng) -> Verdict {
    let payload = one.payload();
    if rng.below(4) == 0 {
        let nonce = one.nonce.to_le_bytes();
        let record = Record::new(payload).with_properties(&[("nonce", nonce.as_slice())]);
        batch.push_record(&record.map_err(|e| e.to_string())?);
    } else {
        batch.push(&payload);
    }
    Ok(())
}
