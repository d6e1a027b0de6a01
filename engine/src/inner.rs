//! What the handles of one engine share: its shards, its catalog, its ownership of the directory.
//!
//! Invariants: it lives as long as any handle on the engine or one of its logs; when it goes,
//! shards are asked to close and drain by themselves.
//!
//! Not here: what the handles do (`engine`, `log`), how it comes about (`open`, `follow`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::archive::Archive;
use crate::catalog::{Catalog, Entry};
use crate::catchup::Source;
use crate::config::Config;
use crate::driver;
use crate::error::{Error, Result};
use crate::format::manifest::{DirectoryFacts, Edit, LogFacts, LogSettings};
use crate::index::Indexes;
use crate::io::Storage;
use crate::lsn::{Epoch, LogId, Lsn, ShardId};
use crate::owner::Grant;
use crate::reads::Reads;
use crate::reply::Reply;
use crate::shard::{Port, Request};
use crate::sync::thread::JoinHandle;
use crate::view::View;
use crate::work::ShardReport;

/// See the module.
pub(crate) struct Inner {
    pub dir: PathBuf,
    pub storage: Arc<dyn Storage>,
    /// What it was opened with; `None` when it only reads.
    pub config: Option<Config>,
    pub facts: DirectoryFacts,
    pub catalog: Arc<RwLock<Catalog>>,
    /// Creations that are not known to be durable yet. One at a time goes on, so that a name is
    /// given once. What a caller stopped waiting for (`Undriven`), and what a shard that failed has
    /// not answered, stays here: it was handed over, its name is taken, until the shard is
    /// reopened. Bounded by the requests that a shard takes.
    pub creating: Mutex<Vec<Creation>>,
    pub shards: Shards,
    pub indexes: Arc<Indexes>,
    pub reads: Arc<Reads>,
    pub threads: Mutex<Vec<JoinHandle<()>>>,
    pub grant: Mutex<Option<Grant>>,
    pub reports: Vec<ShardReport>,
    /// Where records are that the directory no longer holds.
    pub archive: Option<Arc<dyn Archive>>,
}

/// Logs whose creation was handed to a shard.
pub(crate) struct Creation {
    pub shard: ShardId,
    pub reply: Arc<Reply>,
    pub facts: Vec<LogFacts>,
}

/// What stands behind the logs.
pub(crate) enum Shards {
    /// This process writes.
    Ports(Ports),
    /// Read only: the views, and what keeps them up with a foreign writer.
    Views(Vec<Arc<View>>, Option<StopOnDrop>),
}

/// The shards that this process writes. Each is replaced when it is reopened.
pub(crate) struct Ports(Vec<RwLock<Arc<Port>>>);

impl Ports {
    pub(crate) fn new(ports: Vec<Arc<Port>>) -> Self {
        Self(ports.into_iter().map(RwLock::new).collect())
    }

    pub(crate) fn get(&self, shard: ShardId) -> Arc<Port> {
        Arc::clone(&self.0[usize::from(shard.0)].read())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Port>> {
        self.0.iter().map(|port| Arc::clone(&port.read())).collect()
    }
}

/// Stops a thread of the engine's when the engine goes.
pub(crate) struct StopOnDrop(pub Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What readers may take, as the settings say.
pub(crate) struct ReadLimits {
    pub files_max: u32,
    pub index_cache_bytes: u64,
}

/// What `open` puts together.
pub(crate) struct Opened {
    pub storage: Arc<dyn Storage>,
    pub config: Option<Config>,
    pub facts: DirectoryFacts,
    pub catalog: Arc<RwLock<Catalog>>,
    pub shards: Shards,
    pub threads: Vec<JoinHandle<()>>,
    pub grant: Option<Grant>,
    pub reports: Vec<ShardReport>,
}

/// A log, as a list shows it.
#[derive(Clone, Debug)]
pub struct LogInfo {
    /// Its id.
    pub id: LogId,
    /// Its name.
    pub name: String,
    /// Its group: logs of a group live on one shard.
    pub group: Option<String>,
    /// Its shard.
    pub shard: ShardId,
    /// The epoch of its last writer.
    pub epoch: Epoch,
    /// The first LSN kept.
    pub start: Lsn,
    /// The durable end: the LSN that the next durable record will have.
    pub durable: Lsn,
    /// Its settings.
    pub settings: LogSettings,
    /// When it was created, in microseconds since 1970.
    pub created_us: u64,
    /// The time of its last durable record; 0 when there was none.
    pub last_time_us: u64,
}

impl Inner {
    pub(crate) fn new(
        dir: PathBuf,
        opened: Opened,
        archive: Option<Arc<dyn Archive>>,
        limits: ReadLimits,
    ) -> Self {
        let Opened { storage, config, facts, catalog, shards, threads, grant, reports } = opened;
        if let Shards::Views(views, _) = &shards {
            views.iter().for_each(|view| view.files.set_max(limits.files_max));
        }
        Self {
            dir,
            indexes: Arc::new(Indexes::new(Arc::clone(&storage), limits.index_cache_bytes)),
            reads: Arc::new(Reads::new(Arc::clone(&storage))),
            storage,
            config,
            facts,
            catalog,
            creating: Mutex::default(),
            shards,
            threads: Mutex::new(threads),
            grant: Mutex::new(grant),
            reports,
            archive,
        }
    }

    pub(crate) fn view(&self, shard: ShardId) -> Arc<View> {
        match &self.shards {
            Shards::Ports(ports) => Arc::clone(&ports.get(shard).view),
            Shards::Views(views, _) => Arc::clone(&views[usize::from(shard.0)]),
        }
    }

    pub(crate) fn port(&self, shard: ShardId) -> Result<Arc<Port>> {
        match &self.shards {
            Shards::Ports(ports) => Ok(ports.get(shard)),
            Shards::Views(..) => Err(Error::Invalid("the engine is open for reading only".into())),
        }
    }

    /// The shard was reopened: its old readers are told.
    pub(crate) fn replace(&self, shard: ShardId, port: Arc<Port>) {
        let Shards::Ports(ports) = &self.shards else { return };
        let old = std::mem::replace(&mut *ports.0[usize::from(shard.0)].write(), port);
        if let Some(cause) = old.intake.halted() {
            old.view.supersede(cause);
        }
    }

    pub(crate) fn source(&self, shard: ShardId) -> Source {
        let intake = match &self.shards {
            Shards::Ports(ports) => Some(Arc::clone(&ports.get(shard).intake)),
            Shards::Views(..) => None,
        };
        Source {
            storage: Arc::clone(&self.storage),
            view: self.view(shard),
            intake,
            indexes: Arc::clone(&self.indexes),
            unit: self.facts.unit as usize,
            archive: self.archive.clone(),
            directory: (self.facts.directory, self.facts.lineage),
            foreign: matches!(self.shards, Shards::Views(..)),
        }
    }

    pub(crate) fn info(&self, entry: &Entry) -> Option<LogInfo> {
        let view = self.view(entry.id.shard());
        let view = view.lock();
        let log = view.log(entry.id)?;
        Some(LogInfo {
            id: entry.id,
            name: entry.name.to_string(),
            group: entry.group().map(|group| group.to_string()),
            shard: entry.id.shard(),
            epoch: log.epoch,
            start: log.start,
            durable: log.next,
            settings: entry.settings(),
            created_us: entry.created_us,
            last_time_us: log.last_time_us,
        })
    }
}

impl Drop for Inner {
    /// Asks the shards to close and does not wait: their threads drain and end by themselves.
    fn drop(&mut self) {
        let Shards::Ports(ports) = &self.shards else { return };
        for port in ports.all() {
            port.force_request(Request::Close(Reply::new()));
        }
    }
}

/// Makes edits durable in a shard's manifest.
pub(crate) fn change(port: &Arc<Port>, edits: Vec<Edit>) -> Result<()> {
    let reply = Reply::new();
    port.request(Request::Edits(edits, Arc::clone(&reply)))?;
    wait(port, &reply)
}

/// Waits for a shard's answer, driving the shard if this thread is the one that does.
pub(crate) fn wait(port: &Arc<Port>, reply: &Reply) -> Result<()> {
    let limit: Option<Duration> = port.intake.driven;
    let driven = limit.and_then(|_| driver::drive_until(&port.intake, || reply.get()));
    driven.or_else(|| reply.wait(limit)).unwrap_or(Err(Error::Undriven))
}
