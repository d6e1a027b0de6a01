//! The watch over a shard's disk: what is at the device, since when, and what took too long.
//!
//! Invariants: an operation is listed from before it is handed over until its completion was seen,
//! so that one which never ends can be told by anybody, with its age. A slow durable write is told
//! once it has ended, at most once per [`TOLD_EVERY_NS`]. The watch changes nothing about an
//! operation.
//!
//! Not here: what the operations mean (`shard`), what to do about a device that hangs (`health`).

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::buf::IoBuf;
use crate::io::{Bell, Clock, Disk, Done, File, Op, Storage, Wait};
use crate::lsn::ShardId;
use crate::metrics::Meters;

/// Slow writes are told at most this often per shard; those between are counted.
const TOLD_EVERY_NS: u64 = 1_000_000_000;

/// An operation at the disk.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    token: u64,
    /// What it does, in words.
    pub doing: &'static str,
    pub file: Option<File>,
    pub offset: u64,
    pub bytes: u64,
    pub since_ns: u64,
    /// The write of a batch.
    batch: bool,
    /// A write that must be durable when it ends.
    durable: bool,
}

impl Operation {
    fn of(token: u64, op: &Op, since_ns: u64) -> Self {
        let at = |doing, file: &File, offset, bytes: usize| Self {
            token,
            doing,
            file: Some(file.clone()),
            offset,
            bytes: bytes as u64,
            since_ns,
            batch: false,
            durable: false,
        };
        let nameless = |doing| Self {
            token,
            doing,
            file: None,
            offset: 0,
            bytes: 0,
            since_ns,
            batch: false,
            durable: false,
        };
        match op {
            Op::Write { file, offset, buf, persist } => Self {
                batch: matches!(buf, IoBuf::Staged(_)),
                durable: *persist,
                ..at("writing", file, *offset, buf.len())
            },
            Op::Read { file, offset, buf } => at("reading", file, *offset, buf.len()),
            Op::Sync { file } => at("syncing", file, 0, 0),
            Op::Truncate { file, .. } => at("truncating", file, 0, 0),
            Op::SyncDir => nameless("syncing the directory"),
            Op::Create { .. } => nameless("creating a file"),
            Op::Open { .. } => nameless("opening a file"),
            Op::Remove { .. } => nameless("removing a file"),
        }
    }

    /// The file's name; empty when the operation has none.
    pub(crate) fn name(&self) -> &str {
        self.file.as_ref().map_or("", File::name)
    }
}

/// What is at the disk of one shard. The lock is held for a look or a change of one entry.
pub(crate) struct UnderWay {
    list: Mutex<Vec<Operation>>,
    /// A durable write that takes longer is slow; 0 = none is.
    pub slow_ns: u64,
    /// What carries the operations.
    pub backend: &'static str,
}

impl UnderWay {
    /// For a disk that takes so many operations at once.
    pub(crate) fn new(disk: &dyn Disk, operations: usize, slow_write_ms: u32) -> Self {
        let slow_ns = u64::from(slow_write_ms) * 1_000_000;
        let list = Mutex::new(Vec::with_capacity(operations));
        Self { list, slow_ns, backend: disk.backend() }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// The operation that has been there longest.
    pub(crate) fn oldest(&self) -> Option<Operation> {
        self.list.lock().iter().min_by_key(|operation| operation.since_ns).cloned()
    }

    fn add(&self, operation: Operation) {
        self.list.lock().push(operation);
    }

    /// Takes the operation off the list; of several with one token, the oldest.
    fn take(&self, token: u64) -> Option<Operation> {
        let mut list = self.list.lock();
        let at = list.iter().position(|operation| operation.token == token)?;
        // Not `swap_remove`: the order of arrival tells operations of one token apart.
        Some(list.remove(at))
    }

    /// Takes the newest operation of a token off the list: it was refused.
    fn take_back(&self, token: u64) {
        let mut list = self.list.lock();
        if let Some(at) = list.iter().rposition(|operation| operation.token == token) {
            list.remove(at);
        }
    }
}

/// See the module.
pub(crate) struct Watched {
    disk: Box<dyn Disk>,
    clock: Arc<dyn Clock>,
    shard: ShardId,
    under_way: Arc<UnderWay>,
    meters: Arc<Meters>,
    /// What the device is called.
    device: String,
    /// When a slow write was told last, and how many were not told since.
    told: Option<u64>,
    untold: u64,
}

impl Watched {
    pub(crate) fn new(
        disk: Box<dyn Disk>,
        storage: &dyn Storage,
        shard: ShardId,
        under_way: Arc<UnderWay>,
        meters: Arc<Meters>,
    ) -> Self {
        let probe = storage.probe();
        let device = probe.device.clone().unwrap_or_else(|| probe.file_system.clone());
        let clock = storage.clock();
        Self { disk, clock, shard, under_way, meters, device, told: None, untold: 0 }
    }

    fn ended(&mut self, operation: &Operation, now: u64) {
        let took = now.saturating_sub(operation.since_ns);
        if operation.batch {
            self.meters.device_ns.record(took);
        }
        let slow_ns = self.under_way.slow_ns;
        if !operation.durable || slow_ns == 0 || took < slow_ns {
            return;
        }
        self.meters.slow_writes.add(1);
        if self.told.is_some_and(|told| now < told + TOLD_EVERY_NS) {
            self.untold += 1;
            return;
        }
        self.told = Some(now);
        let more = std::mem::take(&mut self.untold);
        tracing::warn!(
            shard = self.shard.0,
            device = %self.device,
            file = operation.name(),
            offset = operation.offset,
            bytes = operation.bytes,
            took_ms = took / 1_000_000,
            untold_before = more,
            "a durable write was slow"
        );
    }
}

impl Disk for Watched {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        let now = self.clock.mono_ns();
        let operation = Operation::of(token, &op, now);
        if operation.batch {
            self.meters.submitted_ns.set(now);
        }
        // Before, not after: without a ring the operation runs to its end in `submit`.
        self.under_way.add(operation);
        self.disk.submit(token, op).inspect_err(|_| self.under_way.take_back(token))
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        let before = done.len();
        let result = self.disk.reap(done, wait);
        if done.len() > before {
            let now = self.clock.mono_ns();
            for one in &done[before..] {
                if let Some(operation) = self.under_way.take(one.token) {
                    self.ended(&operation, now);
                }
            }
        }
        result
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.disk.bell()
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight()
    }

    fn resubmits(&self) -> u64 {
        self.disk.resubmits()
    }

    fn backend(&self) -> &'static str {
        self.disk.backend()
    }
}
