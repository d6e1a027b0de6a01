//! What is wrong with an open directory, since when, and what to do about it.
//!
//! Invariants: asking blocks on nothing that a shard or a device could hold up; each finding says
//! what to do next; what only limits, and was chosen, is a note and leaves the state well.
//!
//! Not here: what is counted (`metrics`), what the machine is like (`doctor` of the command line).

mod pins;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::inner::{Inner, Shards};
use crate::io::Clock;
use crate::lsn::{LogId, ShardId};
use crate::metrics::ShardMetrics;
use crate::shard::Port;
use crate::view::View;

/// An operation that has been at the device this long is stuck, not slow.
const STUCK_NS: u64 = 5_000_000_000;

/// Full segments that may wait for their seal before that is a finding.
const SEALING_MAX: u64 = 2;

/// Damaged logs that a finding names; more are only counted.
const NAMES_MAX: usize = 10;

/// Logs that are looked at under one short lock.
const LOGS_AT_ONCE: u64 = 512;

/// How an engine is, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// Everything works; there may be notes.
    #[default]
    Well,
    /// Everything works for now; somebody should look.
    Ailing,
    /// Something does not work: some appends or reads end in errors, or do not end.
    Failing,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, and should be looked at.
    Warning,
    /// Does not work.
    Bad,
}

/// What kind of thing a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthKind {
    /// A shard stopped after a failed write or sync.
    Halted,
    /// A shard has ended although nobody closed the engine.
    Ended,
    /// There is no room on the disk for what has to be written next.
    NoSpace,
    /// The next segment cannot be made, for another reason.
    Preparing,
    /// A driven shard has work, and nobody turns it.
    Undriven,
    /// The device takes long over an operation.
    SlowDevice,
    /// The device does not end an operation.
    StuckDevice,
    /// Full segments wait for their seal.
    SealingBehind,
    /// A hold keeps segments, or was broken.
    Hold,
    /// A cursor keeps what its log's retention would drop.
    CursorBehind,
    /// The quota is nearly used up.
    QuotaNearlyFull,
    /// Records that were acked cannot be read.
    Damaged,
    /// I/O goes without io_uring.
    Fallback,
    /// I/O goes through the page cache.
    Buffered,
}

impl HealthKind {
    /// In one word, as machines read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Ended => "ended",
            Self::NoSpace => "no_space",
            Self::Preparing => "preparing",
            Self::Undriven => "undriven",
            Self::SlowDevice => "slow_device",
            Self::StuckDevice => "stuck_device",
            Self::SealingBehind => "sealing_behind",
            Self::Hold => "hold",
            Self::CursorBehind => "cursor_behind",
            Self::QuotaNearlyFull => "quota_nearly_full",
            Self::Damaged => "damaged",
            Self::Fallback => "fallback",
            Self::Buffered => "buffered",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthFinding {
    /// What it is about.
    pub kind: HealthKind,
    /// How much it matters.
    pub severity: Severity,
    /// The shard it concerns; `None`: all of them.
    pub shard: Option<ShardId>,
    /// The logs it concerns, where it concerns some and not others.
    pub logs: Vec<LogId>,
    /// What is wrong, in words.
    pub what: String,
    /// Since when, in microseconds since 1970, where that is known.
    pub since_us: Option<u64>,
    /// For how long, where that is known.
    pub age: Option<Duration>,
    /// What to do about it.
    pub advice: String,
}

/// How an engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// In a word: as the worst finding.
    pub state: HealthState,
    /// What was found, worst first.
    pub findings: Vec<HealthFinding>,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Ailing => "ailing",
            Self::Failing => "failing",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Bad => "bad",
        })
    }
}

impl fmt::Display for HealthFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(shard) = self.shard {
            write!(f, "shard {shard}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(age) = self.age {
            write!(f, ", for {:.1} s", age.as_secs_f64())?;
        }
        write!(f, "; {}", self.advice)
    }
}

impl fmt::Display for Health {
    /// The state, then a line for each finding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

/// The metrics of every shard.
pub(crate) fn metrics(inner: &Inner) -> Vec<ShardMetrics> {
    let Shards::Ports(ports) = &inner.shards else { return Vec::new() };
    let now = inner.storage.clock().mono_ns();
    let of = |port: &Arc<Port>| {
        let usage = port.intake.usage();
        let oldest = port.under_way.oldest();
        ShardMetrics {
            backend: port.under_way.backend,
            operations_in_flight: port.under_way.len() as u64,
            oldest_operation: oldest.map(|oldest| age(oldest.since_ns, now)),
            staged_bytes: usage.staged,
            pinned_bytes: usage.pinned,
            stage_bytes: usage.bytes,
            ..port.meters.snapshot(port.view.shard)
        }
    };
    ports.all().iter().map(of).collect()
}

/// How the engine is.
pub(crate) fn of(inner: &Inner) -> Health {
    let mut ward = Ward::new(inner);
    ward.surroundings(inner);
    if let Shards::Ports(ports) = &inner.shards {
        for port in ports.all() {
            ward.shard(&port);
            ward.holds(&port);
            ward.cursors(inner, &port);
        }
        ward.quota(&ports.get(ShardId(0)));
    }
    let views: Vec<Arc<View>> = match &inner.shards {
        Shards::Ports(ports) => ports.all().iter().map(|port| Arc::clone(&port.view)).collect(),
        Shards::Views(views, _) => views.clone(),
    };
    for view in views {
        ward.damage(inner, &view);
    }
    let mut findings = ward.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let state = match findings.first().map(|worst| worst.severity) {
        None | Some(Severity::Note) => HealthState::Well,
        Some(Severity::Warning) => HealthState::Ailing,
        Some(Severity::Bad) => HealthState::Failing,
    };
    Health { state, findings }
}

fn age(since_ns: u64, now_ns: u64) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(since_ns))
}

/// Findings on their way.
struct Ward {
    clock: Arc<dyn Clock>,
    now_ns: u64,
    findings: Vec<HealthFinding>,
}

impl Ward {
    fn new(inner: &Inner) -> Self {
        let clock = inner.storage.clock();
        Self { now_ns: clock.mono_ns(), clock, findings: Vec::new() }
    }

    fn find(
        &mut self,
        kind: HealthKind,
        severity: Severity,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> &mut HealthFinding {
        let at = self.findings.len();
        self.findings.push(HealthFinding {
            kind,
            severity,
            shard: None,
            logs: Vec::new(),
            what: what.into(),
            since_us: None,
            age: None,
            advice: advice.into(),
        });
        &mut self.findings[at]
    }

    /// As `find`, for a shard, and since a moment of its clock (0: not known).
    fn of_shard(
        &mut self,
        kind: HealthKind,
        severity: Severity,
        (shard, since_ns): (ShardId, u64),
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let age = (since_ns != 0).then(|| age(since_ns, self.now_ns));
        let now_us = self.clock.wall_us();
        let finding = self.find(kind, severity, what, advice);
        finding.shard = Some(shard);
        finding.age = age;
        finding.since_us = age.map(|age| now_us.saturating_sub(age.as_micros() as u64));
    }

    /// What the directory's file system and the kernel do not give.
    fn surroundings(&mut self, inner: &Inner) {
        let probe = inner.storage.probe();
        if !probe.direct.value {
            let what = format!("I/O goes through the page cache: {}", probe.direct.why);
            let advice = "acks are as durable, and cost more; a local ext4 or xfs takes O_DIRECT";
            self.find(HealthKind::Buffered, Severity::Note, what, advice);
        }
        let Shards::Ports(ports) = &inner.shards else { return };
        let ports = ports.all();
        let used = ports.iter().map(|port| port.under_way.backend);
        let Some(plain) = used.into_iter().find(|used| !["io_uring", "simulated"].contains(used))
        else {
            return;
        };
        let what = format!("I/O goes by {plain} instead of io_uring: {}", probe.backend.why);
        let advice = "one write at a time: see kernel.io_uring_disabled, seccomp (containers) and \
                      the memlock limit, or ask `sapwood doctor`";
        self.find(HealthKind::Fallback, Severity::Note, what, advice);
    }

    /// What relocation met: it is told although nobody has read it yet, or wants to.
    fn rot(&mut self, port: &Port) {
        let rot = port.meters.rot.lock().as_ref().map(|rot| (rot.since_ns, rot.why.clone()));
        let Some((since_ns, why)) = rot else { return };
        let what = format!("damage was met on relocating, and left where it is: {why}");
        let advice = "ask `sapwood verify` whether it hits records that are kept";
        let at = (port.view.shard, since_ns);
        self.of_shard(HealthKind::Damaged, Severity::Warning, at, what, advice);
    }

    fn shard(&mut self, port: &Port) {
        let (meters, shard) = (&port.meters, port.view.shard);
        if let Some(cause) = port.intake.halted() {
            let what = format!("halted by its first failure: {cause}");
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            let advice = if full.contains(&cause.error.kind()) {
                "what was acked is safe and readable; make space on the disk, then reopen the shard"
            } else {
                "what was acked is safe and readable; see to the disk, then open anew"
            };
            let at = (shard, meters.halted_ns.get());
            return self.of_shard(HealthKind::Halted, Severity::Bad, at, what, advice);
        }
        if matches!(port.intake.refusal(), Some(Error::Closed)) {
            let what = "ended: the engine was closed, or the shard's driver was dropped";
            let advice = "open the directory anew to append";
            return self.of_shard(HealthKind::Ended, Severity::Bad, (shard, 0), what, advice);
        }
        self.space(port);
        self.rot(port);
        if !self.driving(port) {
            return; // what nobody looks at says nothing about the device
        }
        self.device(port);
        let (behind, fails) = (meters.sealing.get(), meters.seal_fails_ns.get());
        if behind > SEALING_MAX || fails != 0 {
            let what = format!("{behind} full segments wait for their seal");
            let advice = if fails == 0 {
                "the device cannot keep up with appends and seals: see its load"
            } else {
                "sealing fails and is tried again: see the log, and the space on the disk"
            };
            let at = (shard, fails);
            self.of_shard(HealthKind::SealingBehind, Severity::Warning, at, what, advice);
        }
    }

    /// Whether the next segment, and the manifest, find room.
    fn space(&mut self, port: &Port) {
        let (meters, shard) = (&port.meters, port.view.shard);
        let refused = matches!(port.intake.refusal(), Some(Error::NoSpace(_)));
        let severity = if refused { Severity::Bad } else { Severity::Warning };
        let trouble = meters.trouble.lock().clone();
        if let Some(trouble) = trouble {
            let so = if refused { "appends are refused" } else { "appends go on until it is due" };
            let what = format!("the next segment cannot be made: {}; {so}", trouble.why);
            let (kind, advice) = if trouble.full {
                (HealthKind::NoSpace, "make space on the disk: appends then go on by themselves")
            } else {
                (HealthKind::Preparing, "see to the file system: it is tried again by itself")
            };
            self.of_shard(kind, severity, (shard, trouble.since_ns), what, advice);
        }
        let waits = meters.manifest_waits_ns.get();
        if waits != 0 {
            let what = "the manifest finds no room to grow: changes of logs wait";
            let advice = "make space on the disk: they then go on by themselves";
            self.of_shard(HealthKind::NoSpace, Severity::Bad, (shard, waits), what, advice);
        }
    }

    /// Whether somebody turns the shard, if it needs somebody.
    fn driving(&mut self, port: &Port) -> bool {
        let Some(limit) = port.intake.driven else { return true };
        let turned_ns = port.meters.turned_ns.get();
        let waits = port.intake.has_work(false)
            || !port.requests.lock().is_empty()
            || port.under_way.len() != 0;
        if !waits || age(turned_ns, self.now_ns) <= limit {
            return true;
        }
        let what = "it has work, and its driver does not turn it";
        let advice = "call `Driving::turn` regularly, or open without `driven`";
        let at = (port.view.shard, turned_ns);
        self.of_shard(HealthKind::Undriven, Severity::Bad, at, what, advice);
        false
    }

    /// Whether the device ends what it is given.
    fn device(&mut self, port: &Port) {
        let Some(oldest) = port.under_way.oldest() else { return };
        // A driven shard may have completions that nobody has fetched: it is judged by its last
        // turn.
        let seen_ns = match port.intake.driven {
            Some(_) => port.meters.turned_ns.get(),
            None => self.now_ns,
        };
        let took = seen_ns.saturating_sub(oldest.since_ns);
        let slow = port.under_way.slow_ns;
        let stuck = took >= STUCK_NS;
        if !stuck && (slow == 0 || took < slow) {
            return;
        }
        let mut what = oldest.doing.to_owned();
        if oldest.bytes != 0 {
            what += &format!(" {} bytes at {} of", oldest.bytes, oldest.offset);
        }
        if !oldest.name().is_empty() {
            what += &format!(" {}", oldest.name());
        }
        what += " has not ended";
        let at = (port.view.shard, oldest.since_ns);
        if stuck {
            let advice = "the device hangs: see the kernel's log; nothing behind this operation is \
                          acked, readers go on";
            self.of_shard(HealthKind::StuckDevice, Severity::Bad, at, what, advice);
        } else {
            let advice = "the device is slow now: see who else writes to it";
            self.of_shard(HealthKind::SlowDevice, Severity::Warning, at, what, advice);
        }
    }

    /// Which logs have records that were acked and cannot be read.
    fn damage(&mut self, inner: &Inner, view: &View) {
        let mut logs = Vec::new();
        let mut from = 0;
        loop {
            // The lock goes between two looks: the shard needs it for every batch.
            let found = view.lock().damaged(from, LOGS_AT_ONCE);
            let Some(found) = found else { break };
            logs.extend(found.into_iter().map(|counter| LogId::new(view.shard, counter)));
            from += LOGS_AT_ONCE;
        }
        if logs.is_empty() {
            return;
        }
        let catalog = inner.catalog.read();
        let name = |id: &LogId| catalog.get(*id).map(|entry| format!("{:?}", entry.name));
        let mut names: Vec<String> = logs.iter().take(NAMES_MAX).filter_map(name).collect();
        drop(catalog);
        if logs.len() > names.len() {
            names.push(format!("{} more", logs.len() - names.len()));
        }
        let what = format!("acked records are damaged in {}", names.join(", "));
        let advice = "they are never skipped: `sapwood verify` says which, restore them from a \
                      copy, or go on without them (`sapwood salvage`)";
        let finding = self.find(HealthKind::Damaged, Severity::Bad, what, advice);
        finding.shard = Some(view.shard);
        finding.logs = logs;
    }
}
