//! The engine: one directory, open; the front door.
//!
//! Invariants: a directory is written by one engine at a time (the lock); shards are let in only
//! after every shard's recovery is durable; `close` drains, marks, seals and unlocks, dropping the
//! last handle asks for the same without waiting.
//!
//! Not here: opening step by step (`open`), what a log can do (`log`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::{self, AppendAtomic, AtomicTicket};
use crate::catalog::{Entry, check_name};
use crate::components::Components;
use crate::config::Config;
use crate::driver::Driver;
use crate::error::{Error, Rejected, Result};
use crate::format::manifest::{DirectoryFacts, Edit, LogFacts, LogSettings};
use crate::gc::GcReport;
use crate::health::{self, Health};
use crate::inner::{Creation, Inner, LogInfo, Ports, ReadLimits, Shards, change, wait};
use crate::intake::LogStage;
use crate::io::Probe;
#[cfg(any(test, feature = "sim"))]
use crate::io::Storage;
use crate::log::Log;
use crate::lsn::{Epoch, Lsn, ShardId};
use crate::metrics::ShardMetrics;
use crate::open;
use crate::record::Records;
use crate::reply::Reply;
use crate::shard::{Port, Request};
use crate::view::LogView;
use crate::work::ShardReport;
use crate::writer::Writer;

/// Edits in one request: a creation of many logs is sent in parts.
const EDITS_PER_REQUEST: usize = 1024;

/// An open directory. Cheap to clone; the last clone that is dropped asks the shards to close.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// How a log is created.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Logs of a group live on one shard.
    pub group: Option<String>,
    /// Settings.
    pub settings: LogSettings,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.inner.dir.display())
    }
}

impl Engine {
    /// Opens the directory, creating and recovering it as needed, and starts its shards.
    ///
    /// # Errors
    /// `Invalid` for settings out of range, `Locked` when another process writes it, `NotOurs` and
    /// `Unsupported` for what is no directory of this version, `Corrupt` in `Strict` mode,
    /// `NoSpace` and `Io` as the system says.
    pub fn open(config: Config) -> Result<Self> {
        if config.driven {
            return Err(Error::Invalid("driven shards are opened with Engine::open_driven".into()));
        }
        Ok(Self::open_with(config, Components::default())?.0)
    }

    /// As [`open`](Self::open), with one driver per shard instead of threads: send each to the
    /// thread that will drive it, and bind it there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_driven(mut config: Config) -> Result<(Self, Vec<Driver>)> {
        config.driven = true;
        Self::open_with(config, Components::default())
    }

    /// As [`open`](Self::open), with parts that others implement. Gives one driver per shard when
    /// the shards are to be driven, else none.
    ///
    /// # Errors
    /// As [`open`](Self::open), and those of the owner.
    pub fn open_with(config: Config, components: Components) -> Result<(Self, Vec<Driver>)> {
        let archive = components.archive.clone();
        let (files_max, index_cache_bytes) = (config.read_files_max, config.index_cache_bytes);
        let limits = ReadLimits { files_max, index_cache_bytes };
        let (dir, opened, drivers) = open::open(config, components)?;
        Ok((Self { inner: Arc::new(Inner::new(dir, opened, archive, limits)) }, drivers))
    }

    /// As [`open_driven`](Self::open_driven), over any storage: how the simulator opens an engine.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "sim"))]
    pub fn open_on(storage: Arc<dyn Storage>, mut config: Config) -> Result<(Self, Vec<Driver>)> {
        config.driven = !config.read_only;
        Self::open_with(config, Components { storage: Some(storage), ..Components::default() })
    }

    /// Opens a log, creating it when it does not exist (not in a read-only engine).
    ///
    /// # Errors
    /// `Invalid` for a bad name, `NoSuchLog` in a read-only engine, else as the shard says.
    pub fn log(&self, name: &str) -> Result<Log> {
        match self.find(name)? {
            Some(log) => Ok(log),
            None if matches!(self.inner.shards, Shards::Views(..)) => {
                Err(Error::NoSuchLog(name.into()))
            }
            None => self.create(name, &LogOptions::default()),
        }
    }

    /// The log of this name, if it exists.
    ///
    /// # Errors
    /// `Invalid` for a name that no log can have.
    pub fn find(&self, name: &str) -> Result<Option<Log>> {
        check_name("log", name)?;
        let catalog = self.inner.catalog.read();
        Ok(catalog.find(name).map(|entry| self.handle(entry)))
    }

    /// The log of this name, created with these options if it does not exist; the options of one
    /// that does are left alone.
    ///
    /// # Errors
    /// As [`log`](Self::log).
    pub fn create(&self, name: &str, options: &LogOptions) -> Result<Log> {
        let mut logs = self.create_many(&[(name, options)])?;
        logs.pop().ok_or(Error::Closed)
    }

    /// Creates many logs at once: durable together in a few writes. Those that exist are opened.
    ///
    /// # Errors
    /// As [`log`](Self::log); after an error some may have been created. After `Undriven` they are
    /// under way: the next creation of the same name waits for that one.
    pub fn create_many(&self, wanted: &[(&str, &LogOptions)]) -> Result<Vec<Log>> {
        for (name, options) in wanted {
            check_name("log", name)?;
            if let Some(group) = &options.group {
                check_name("group", group)?;
            }
        }
        let Shards::Ports(ports) = &self.inner.shards else {
            return Err(Error::Invalid("the engine is open for reading only".into()));
        };
        let mut under_way = self.inner.creating.lock();
        let is_wanted = |name: &str| wanted.iter().any(|(wanted, _)| *wanted == name);
        self.settle(ports, &mut under_way, is_wanted)?;
        let created_us = self.inner.storage.clock().wall_us();
        let mut fresh: BTreeMap<ShardId, Vec<LogFacts>> = BTreeMap::new();
        let mut given: BTreeMap<&str, ()> = BTreeMap::new();
        let mut catalog = self.inner.catalog.write();
        for (name, options) in wanted {
            if catalog.find(name).is_some() || given.insert(name, ()).is_some() {
                continue;
            }
            let id = catalog.assign(options.group.as_deref());
            fresh.entry(id.shard()).or_default().push(LogFacts {
                id,
                name: Arc::from(*name),
                group: options.group.as_deref().map(Into::into),
                settings: options.settings,
                created_us,
                ..LogFacts::default()
            });
        }
        drop(catalog);
        for (shard, facts) in fresh {
            let port = ports.get(shard);
            for part in facts.chunks(EDITS_PER_REQUEST) {
                let edits = part.iter().cloned().map(Edit::Log).collect();
                let reply = Reply::new();
                port.request(Request::Edits(edits, Arc::clone(&reply)))?;
                under_way.push(Creation { shard, reply, facts: part.to_vec() });
                self.settle(ports, &mut under_way, is_wanted)?;
            }
        }
        drop(under_way);
        let catalog = self.inner.catalog.read();
        let logs = wanted.iter().map(|(name, _)| {
            let entry = catalog.find(name).ok_or_else(|| Error::NoSuchLog((*name).to_owned()))?;
            Ok(self.handle(entry))
        });
        logs.collect()
    }

    /// Lets in what has become durable of the creations under way; waits for those whose names are
    /// wanted, and for no others.
    fn settle(
        &self,
        ports: &Ports,
        under_way: &mut Vec<Creation>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut at = 0;
        while let Some(creation) = under_way.get(at) {
            let port = &ports.get(creation.shard);
            let needed = creation.facts.iter().any(|facts| is_wanted(&facts.name));
            let answer = if needed { wait(port, &creation.reply) } else { Err(Error::Undriven) };
            match creation.reply.get().unwrap_or(answer) {
                Err(error @ (Error::Undriven | Error::Halted { .. })) if needed => {
                    return Err(error);
                }
                // A shard that failed: only its reopening tells whether they are durable.
                Err(Error::Undriven | Error::Halted { .. }) => at += 1,
                answer => {
                    let creation = under_way.remove(at);
                    if answer.is_ok() {
                        self.admit(port, &creation.facts);
                    }
                    if needed {
                        answer?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets durable creations in: to the shard's tables first, to the catalog last.
    fn admit(&self, port: &Port, facts: &[LogFacts]) {
        for facts in facts {
            port.view.lock().put_log(facts.id, LogView::new(Lsn(0), Lsn(0)));
            let stage = LogStage::new(Epoch(0), Lsn(0), 0);
            port.intake.put_log(facts.id.counter() as usize, stage);
        }
        let mut catalog = self.inner.catalog.write();
        facts.iter().for_each(|facts| catalog.add(Entry::of(facts)));
    }

    /// Deletes a log: when this returns it is gone, durably, with its records and its cursors. Its
    /// name may be given to a new log, which has another id and nothing of the old one. Handles,
    /// readers and writers of the old one get `NoSuchLog` from then on (drop them; open the log
    /// anew if it was created again); appends that were staged before resolve as ever.
    ///
    /// # Errors
    /// `NoSuchLog` when there is none; `Invalid` in a read-only engine; else as the shard says, and
    /// then the log may be gone or not: delete it again.
    pub fn delete_log(&self, name: &str) -> Result<()> {
        check_name("log", name)?;
        let _one_at_a_time = self.inner.creating.lock();
        let id = self.inner.catalog.read().find(name).map(|entry| entry.id);
        let id = id.ok_or_else(|| Error::NoSuchLog(name.to_owned()))?;
        change(&self.inner.port(id.shard())?, vec![Edit::Deleted { log: id }])?;
        self.inner.catalog.write().remove(id);
        Ok(())
    }

    fn handle(&self, entry: &Entry) -> Log {
        Log::new(Arc::clone(&self.inner), entry.id, Arc::clone(&entry.name))
    }

    /// Appends to several logs of one group, all or nothing: after a crash every member is there or
    /// none, and readers never see a part. Staged at the call; without room it waits in order of
    /// arrival. The members are staged in the order given; a log may come twice.
    ///
    /// ```
    /// # use sapwood::{Config, Engine, LogOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = Engine::open(Config::new(dir.path().join("wal")))?;
    /// let group = LogOptions { group: Some("bank".into()), ..LogOptions::default() };
    /// let debits = engine.create("debits", &group)?.writer()?;
    /// let credits = engine.create("credits", &group)?.writer()?;
    /// let acks = engine.append_atomic([(&debits, "-5"), (&credits, "+5")]).wait()?;
    /// assert_eq!(acks.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As the output: rejected with all records (`Invalid` for no members, writers of different
    /// shards and records that are too large; `Fenced` when one of the writers is; `NoSpace`,
    /// `Halted`, `Closed`), or, staged and not acked, `Unknown`.
    #[must_use = "an append that is not awaited is not known to be durable"]
    pub fn append_atomic<'w, R: Records>(
        &self,
        members: impl IntoIterator<Item = (&'w Writer, R)>,
    ) -> AppendAtomic<R> {
        atomic::append(members)
    }

    /// As [`append_atomic`](Self::append_atomic), without waiting: the ticket resolves when the
    /// group is durable.
    ///
    /// # Errors
    /// `Busy` when there is no room, and as `append_atomic`; the records come back.
    pub fn submit_atomic<'w, R: Records>(
        &self,
        members: impl IntoIterator<Item = (&'w Writer, R)>,
    ) -> Result<AtomicTicket, Rejected<Vec<R>>> {
        atomic::submit(members)
    }

    /// All logs, by id.
    #[must_use]
    pub fn logs(&self) -> Vec<LogInfo> {
        let catalog = self.inner.catalog.read();
        catalog.iter().filter_map(|entry| self.inner.info(entry)).collect()
    }

    /// What was found out about the directory's file system and device.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        self.inner.storage.probe()
    }

    /// What recovery found, per shard.
    #[must_use]
    pub fn recovery(&self) -> &[ShardReport] {
        &self.inner.reports
    }

    /// What each shard has done since it was opened, and how it is now; empty for a read-only
    /// engine. Costs the shards nothing and the caller microseconds.
    #[must_use]
    pub fn metrics(&self) -> Vec<ShardMetrics> {
        health::metrics(&self.inner)
    }

    /// Bytes of batches and marks that all shards have written since they were opened: a quick
    /// look, for who paces by it.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        match &self.inner.shards {
            Shards::Ports(ports) => {
                ports.all().iter().map(|port| port.meters.batch_bytes.get()).sum()
            }
            Shards::Views(..) => 0,
        }
    }

    /// What is wrong, since when, and what to do about it. Blocks on nothing, also when a shard or
    /// its device hangs. With very many logs it takes milliseconds: damaged ones are looked for.
    #[must_use]
    pub fn health(&self) -> Health {
        health::of(&self.inner)
    }

    /// Whether another process was writing the directory when this read-only engine was opened.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(&self.inner.shards, Shards::Views(_, Some(_)))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What the directory was made with.
    #[must_use]
    pub fn facts(&self) -> &DirectoryFacts {
        &self.inner.facts
    }

    /// Collects now what the shards would collect by and by: moves starts by the logs' retention,
    /// removes every segment that no log needs, moves what is kept of mostly dead ones into smaller
    /// files ([`relocate_below_percent`](Config::relocate_below_percent)), gives spares back that
    /// nobody needs now, and says what pins the rest. Blocks until done; appends and readers go on
    /// meanwhile.
    ///
    /// # Errors
    /// `Invalid` in a read-only engine; else as the shards say: what one has done stays done.
    pub fn gc(&self) -> Result<GcReport> {
        let Shards::Ports(ports) = &self.inner.shards else {
            return Err(Error::Invalid("the engine is open for reading only".into()));
        };
        let mut all = GcReport::default();
        for port in ports.all() {
            let reply = Reply::new();
            port.request(Request::Collect(Arc::clone(&reply)))?;
            wait(&port, &reply)?;
            let report = port.collected.lock().clone().unwrap_or_default();
            all.freed_segments += report.freed_segments;
            all.freed_bytes += report.freed_bytes;
            all.relocated_segments += report.relocated_segments;
            all.relocated_bytes += report.relocated_bytes;
            all.kept.extend(report.kept);
        }
        Ok(all)
    }

    /// Closes: drains what is staged, marks and seals, records the end, unlocks. Blocks until done;
    /// appends are refused with `Closed` from here on, readers end.
    ///
    /// # Errors
    /// `Halted` when a shard had failed: its end could not be recorded, the next open recovers.
    pub fn close(&self) -> Result<()> {
        let Shards::Ports(ports) = &self.inner.shards else { return Ok(()) };
        let replies: Vec<_> = ports
            .all()
            .into_iter()
            .map(|port| {
                let reply = Reply::new();
                let sent = port.force_request(Request::Close(Arc::clone(&reply)));
                (port, reply, sent)
            })
            .collect();
        let mut result = Ok(());
        for (port, reply, sent) in replies {
            let answer = if sent { wait(&port, &reply) } else { Ok(()) };
            let halted = port.intake.halted().map(|cause| Error::Halted { cause });
            result = result.and(answer).and(halted.map_or(Ok(()), Err));
        }
        for thread in self.inner.threads.lock().drain(..) {
            let _ = thread.join();
        }
        let grant = self.inner.grant.lock().take();
        if let (Some(grant), Ok(())) = (grant, &result) {
            grant.release()?;
        }
        result
    }
}
