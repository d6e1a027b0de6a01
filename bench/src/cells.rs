//! The cells of the figures: which load, which rows beside each other, what is claimed.
//!
//! Each goal comes from measurements of the rivals and of prototypes on one machine; ratios
//! travel to other machines, absolute numbers (CPU, tickets) less so.
//!
//! Not here: running them (`scenario`), judging (`report`), cells without a claim (`scenarios`).

use std::time::Duration;

use crate::baseline::Way;
use crate::follow::{Follow, Since};
use crate::load::Load;
use crate::recovery::Recovery;
use crate::report::{Claim, Goal};
use crate::ring::Method;
use crate::sample::Metric;
use crate::sapwood_rows::{Driven, Sapwood};
use crate::subject::{GroupCommit, RawRead, RawWrite, Segments, Subject};

/// Unsealed bytes that the recovery cell reads back.
pub const RECOVERY_BYTES: u64 = 1 << 30;

/// Window of a cell that writes gigabytes a second: prewritten segments have an end.
const WINDOW_MAX: Duration = Duration::from_millis(1200);
/// Prewritten bytes of a cell that writes little, and the most that a segment can have.
const SEGMENT_SMALL: u64 = 1 << 30;
const SEGMENT_LARGE: u64 = 4 << 30;
/// Memory that recovery may take, MB, however much there is to recover: the staging ring of the
/// engine that it opens is most of it.
const RECOVERY_MB: f64 = 96.0;

/// One cell before it runs.
pub struct Plan {
    /// For `--only`.
    pub name: &'static str,
    /// In words.
    pub title: String,
    /// The load.
    pub load: Load,
    /// Size of Sapwood's prewritten segments.
    pub segment_bytes: u64,
    /// The rows, in the order they take turns.
    pub subjects: Vec<Box<dyn Subject>>,
    /// What is claimed.
    pub claims: Vec<Claim>,
}

/// How long each run takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before the window.
    pub warm_up: Duration,
    /// The window.
    pub window: Duration,
}

/// Every cell, with the rivals by the given ways.
#[must_use]
pub fn all(pace: Pace, ways: &[Way]) -> Vec<Plan> {
    vec![
        one_writer(pace, ways),
        blocked(pace, ways, 64),
        blocked(pace, ways, 256),
        tickets_64(pace, ways),
        tickets(pace, 128),
        tickets(pace, 1024),
        large(pace, ways),
        bulk(pace),
        follow(pace),
        recovery(pace),
    ]
}

impl Pace {
    pub(crate) fn load(self, threads: usize, outstanding: usize, record_bytes: usize) -> Load {
        let Pace { warm_up, window } = self;
        Load { threads, outstanding, record_bytes, warm_up, window, ..Load::default() }
    }

    /// No longer than prewritten segments last.
    pub(crate) fn short(self) -> Pace {
        let window = self.window.min(WINDOW_MAX);
        Pace { warm_up: self.warm_up.min(window.mul_f64(0.2)), window }
    }
}

/// Sapwood on prewritten segments, on fresh ones, and the rivals.
pub(crate) fn rows(ways: &[Way], threads: Option<usize>) -> Vec<Box<dyn Subject>> {
    let mut rows: Vec<Box<dyn Subject>> =
        vec![Box::new(Sapwood::new(Segments::Prewritten)), Box::new(Sapwood::new(Segments::Fresh))];
    for way in ways {
        rows.push(Box::new(GroupCommit { way: *way, threads }));
    }
    rows
}

fn claim(metric: Metric, against: Option<&'static str>, goal: Goal) -> Claim {
    Claim { subject: "sapwood", metric, against, goal, line: None }
}

impl Claim {
    fn of(self, subject: &'static str) -> Claim {
        Claim { subject, ..self }
    }

    fn line(self, line: Goal) -> Claim {
        Claim { line: Some(line), ..self }
    }
}

fn one_writer(pace: Pace, ways: &[Way]) -> Plan {
    let floor = RawWrite { name: "floor", depth: 1, method: None };
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(floor)];
    subjects.extend(rows(ways, None));
    subjects.push(Box::new(Driven::default()));
    let floor = Some("floor");
    Plan {
        name: "one-writer",
        title: "one writer, 128 B, each append waits; the floor writes 4 KiB".to_owned(),
        load: pace.load(1, 1, 128),
        segment_bytes: SEGMENT_SMALL,
        subjects,
        claims: vec![
            claim(Metric::P50, floor, Goal::AtMost(1.15)).line(Goal::AtMost(1.25)),
            claim(Metric::P99, floor, Goal::AtMost(1.5)),
            claim(Metric::Cpu, None, Goal::AtMost(30.0)),
            claim(Metric::P50, floor, Goal::AtMost(1.05)).of("sapwood-driven"),
        ],
    }
}

fn blocked(pace: Pace, ways: &[Way], threads: usize) -> Plan {
    let (name, title) = match threads {
        64 => ("blocked-64", "64 blocked threads, 1 KiB, one log, one shared writer"),
        _ => ("blocked-256", "256 blocked threads, 1 KiB, one log, one shared writer"),
    };
    let baseline = Some("baseline");
    Plan {
        name,
        title: title.to_owned(),
        load: pace.load(threads, 1, 1024),
        segment_bytes: SEGMENT_LARGE,
        subjects: rows(ways, None),
        claims: vec![
            claim(Metric::Rate, baseline, Goal::AtLeast(1.25)).line(Goal::AtLeast(1.0)),
            claim(Metric::P99, baseline, Goal::AtMost(1.0)).line(Goal::AtMost(1.0)),
        ],
    }
}

fn tickets_64(pace: Pace, ways: &[Way]) -> Plan {
    Plan {
        name: "tickets-64",
        title: "64 outstanding, 1 KiB: 2 threads x 32 tickets, the rival with 64 threads"
            .to_owned(),
        load: pace.short().load(2, 32, 1024),
        segment_bytes: SEGMENT_LARGE,
        subjects: rows(ways, Some(64)),
        claims: vec![claim(Metric::Rate, Some("baseline"), Goal::AtLeast(2.5))],
    }
}

pub(crate) fn tickets(pace: Pace, record_bytes: usize) -> Plan {
    let (name, title, goal) = match record_bytes {
        128 => ("tickets-128", "2 threads x 1,024 tickets of 128 B", 3_000_000.0),
        _ => ("tickets-1k", "2 threads x 1,024 tickets of 1 KiB", 1_000_000.0),
    };
    Plan {
        name,
        title: title.to_owned(),
        load: pace.short().load(2, 1024, record_bytes),
        segment_bytes: SEGMENT_LARGE,
        subjects: rows(&[], None),
        claims: vec![claim(Metric::Rate, None, Goal::AtLeast(goal))],
    }
}

pub(crate) fn large(pace: Pace, ways: &[Way]) -> Plan {
    Plan {
        name: "large",
        title: "4 writers x 64 KiB, each append waits".to_owned(),
        load: pace.short().load(4, 1, 64 << 10),
        segment_bytes: SEGMENT_LARGE,
        subjects: rows(ways, None),
        claims: vec![claim(Metric::Bandwidth, Some("baseline"), Goal::AtLeast(1.4))],
    }
}

pub(crate) fn bulk(pace: Pace) -> Plan {
    let raw = |name, method| RawWrite { name, depth: 4, method };
    let mut subjects = rows(&[], None);
    subjects.push(Box::new(raw("raw-4", None)));
    subjects.push(Box::new(raw("unsynced-4", Some(Method::Unsynced))));
    Plan {
        name: "bulk",
        title: "1 MiB batches of 1 KiB records from 4 threads, beside raw writes of that size"
            .to_owned(),
        load: Load { records: 1024, ..pace.short().load(4, 1, 1024) },
        segment_bytes: SEGMENT_LARGE,
        subjects,
        claims: vec![claim(Metric::Bandwidth, Some("raw-4"), Goal::AtLeast(0.85))],
    }
}

fn follow(pace: Pace) -> Plan {
    Plan {
        name: "follow",
        title: "from durable to delivered to a follower in process; 1,000 records a second"
            .to_owned(),
        load: Load { rate: Some(1000.0), ..pace.load(1, 1, 1024) },
        segment_bytes: SEGMENT_SMALL,
        subjects: vec![Box::new(Follow::new(Since::Durable)), Box::new(Follow::new(Since::Append))],
        claims: vec![claim(Metric::P50, None, Goal::AtMost(50.0)).of("sapwood-follow")],
    }
}

pub(crate) fn recovery(pace: Pace) -> Plan {
    let raw = |name, depth| RawRead { name, depth, bytes: RECOVERY_BYTES, recovered: true };
    let memory = claim(Metric::Rss, None, Goal::AtMost(RECOVERY_MB));
    let bandwidth = claim(Metric::Bandwidth, Some("raw-read"), Goal::AtLeast(0.8));
    Plan {
        name: "recovery",
        title: "opening with 1 GiB of unsealed 1 KiB records, beside raw reads of the same file"
            .to_owned(),
        load: Load { records: 1024, ..pace.load(1, 1, 1024) },
        segment_bytes: SEGMENT_SMALL,
        subjects: vec![
            Box::new(Recovery),
            Box::new(raw("raw-read-1", 1)),
            Box::new(raw("raw-read-2", 2)),
            Box::new(raw("raw-read-4", 4)),
        ],
        claims: vec![
            bandwidth.of("sapwood-recovery"),
            memory.of("sapwood-recovery").line(Goal::AtMost(RECOVERY_MB)),
        ],
    }
}
