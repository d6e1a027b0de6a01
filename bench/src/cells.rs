//! The cells of the figures: which load, which rows beside each other, what is claimed.
//!
//! Each goal comes from measurements of the rivals and of prototypes on one machine; ratios
//! travel to other machines, absolute numbers (CPU, tickets) less so.
//!
//! Not here: running them (`figures`), judging (`report`).

use std::time::Duration;

use crate::baseline::Way;
use crate::load::Load;
use crate::report::{Claim, Goal};
use crate::ring::Method;
use crate::sample::Metric;
use crate::subject::{RawRead, RawWrite, Rival, Subject};

/// Unsealed bytes that the recovery cell reads back.
pub const RECOVERY_BYTES: u64 = 1 << 30;

/// One cell before it runs.
pub struct Plan {
    /// For `--only`.
    pub name: &'static str,
    /// In words.
    pub title: &'static str,
    /// The load.
    pub load: Load,
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
        blocked(
            pace,
            ways,
            "blocked-64",
            "64 blocked threads, 1 KiB, one log",
            64,
        ),
        blocked(
            pace,
            ways,
            "blocked-256",
            "256 blocked threads, 1 KiB, one log",
            256,
        ),
        tickets_64(pace, ways),
        tickets(
            pace,
            "tickets-128",
            "2 threads x 1,024 tickets of 128 B",
            128,
            5_000_000.0,
        ),
        tickets(
            pace,
            "tickets-1k",
            "2 threads x 1,024 tickets of 1 KiB",
            1024,
            1_200_000.0,
        ),
        large(pace, ways),
        bulk(pace),
        follow(pace),
        recovery(pace),
    ]
}

fn load(pace: Pace, threads: usize, outstanding: usize, record_bytes: usize) -> Load {
    let Pace { warm_up, window } = pace;
    Load {
        threads,
        outstanding,
        record_bytes,
        records: 1,
        rate: None,
        warm_up,
        window,
    }
}

fn rivals(ways: &[Way], threads: Option<usize>) -> Vec<Box<dyn Subject>> {
    ways.iter()
        .map(|way| Box::new(Rival { way: *way, threads }) as Box<dyn Subject>)
        .collect()
}

fn claim(
    subject: &'static str,
    metric: Metric,
    against: Option<&'static str>,
    goal: Goal,
) -> Claim {
    Claim {
        subject,
        metric,
        against,
        goal,
    }
}

fn one_writer(pace: Pace, ways: &[Way]) -> Plan {
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(RawWrite {
        name: "floor",
        depth: 1,
        method: None,
    })];
    subjects.extend(rivals(ways, None));
    let floor = Some("floor");
    Plan {
        name: "one-writer",
        title: "one writer, 128 B, each append waits; the floor writes 4 KiB",
        load: load(pace, 1, 1, 128),
        subjects,
        claims: vec![
            claim("sapwood", Metric::P50, floor, Goal::AtMost(1.15)),
            claim("sapwood", Metric::P99, floor, Goal::AtMost(1.25)),
            claim("sapwood", Metric::Cpu, None, Goal::AtMost(30.0)),
            claim("sapwood-driven", Metric::P50, floor, Goal::AtMost(1.05)),
            claim("sapwood-driven", Metric::Cpu, None, Goal::AtMost(25.0)),
        ],
    }
}

fn blocked(
    pace: Pace,
    ways: &[Way],
    name: &'static str,
    title: &'static str,
    threads: usize,
) -> Plan {
    Plan {
        name,
        title,
        load: load(pace, threads, 1, 1024),
        subjects: rivals(ways, None),
        claims: vec![
            claim(
                "sapwood",
                Metric::Rate,
                Some("baseline"),
                Goal::AtLeast(1.25),
            ),
            claim("sapwood", Metric::P99, Some("baseline"), Goal::AtMost(1.0)),
        ],
    }
}

fn tickets_64(pace: Pace, ways: &[Way]) -> Plan {
    Plan {
        name: "tickets-64",
        title: "64 outstanding, 1 KiB: 2 threads x 32 tickets, the rival with 64 threads",
        load: load(pace, 2, 32, 1024),
        subjects: rivals(ways, Some(64)),
        claims: vec![claim(
            "sapwood",
            Metric::Rate,
            Some("baseline"),
            Goal::AtLeast(2.0),
        )],
    }
}

fn tickets(
    pace: Pace,
    name: &'static str,
    title: &'static str,
    record_bytes: usize,
    goal: f64,
) -> Plan {
    Plan {
        name,
        title,
        load: load(pace, 2, 1024, record_bytes),
        subjects: Vec::new(),
        claims: vec![claim("sapwood", Metric::Rate, None, Goal::AtLeast(goal))],
    }
}

fn large(pace: Pace, ways: &[Way]) -> Plan {
    Plan {
        name: "large",
        title: "4 writers x 64 KiB, each append waits",
        load: load(pace, 4, 1, 64 << 10),
        subjects: rivals(ways, None),
        claims: vec![claim(
            "sapwood",
            Metric::Bandwidth,
            Some("baseline"),
            Goal::AtLeast(1.4),
        )],
    }
}

fn bulk(pace: Pace) -> Plan {
    Plan {
        name: "bulk",
        title: "1 MiB batches of 1 KiB records from 4 threads, beside raw writes of that size",
        load: Load {
            records: 1024,
            ..load(pace, 4, 1, 1024)
        },
        subjects: vec![
            Box::new(RawWrite {
                name: "raw-4",
                depth: 4,
                method: None,
            }),
            Box::new(RawWrite {
                name: "unsynced-4",
                depth: 4,
                method: Some(Method::Unsynced),
            }),
        ],
        claims: vec![claim(
            "sapwood",
            Metric::Bandwidth,
            Some("raw-4"),
            Goal::AtLeast(0.9),
        )],
    }
}

fn follow(pace: Pace) -> Plan {
    Plan {
        name: "follow",
        title: "from durable at the writer to delivered at a follower; 1,000 records a second",
        load: Load {
            rate: Some(1000.0),
            ..load(pace, 1, 1, 1024)
        },
        subjects: Vec::new(),
        claims: vec![claim(
            "sapwood-follow",
            Metric::P50,
            None,
            Goal::AtMost(50.0),
        )],
    }
}

fn recovery(pace: Pace) -> Plan {
    let raw = |name, depth| RawRead {
        name,
        depth,
        bytes: RECOVERY_BYTES,
    };
    Plan {
        name: "recovery",
        title: "opening with 1 GiB of unsealed 1 KiB records, beside raw reads of as much",
        load: Load {
            records: 1024,
            ..load(pace, 1, 1, 1024)
        },
        subjects: vec![
            Box::new(raw("raw-read-1", 1)),
            Box::new(raw("raw-read-2", 2)),
            Box::new(raw("raw-read-4", 4)),
        ],
        claims: vec![
            claim(
                "sapwood-recovery",
                Metric::Bandwidth,
                Some("raw-read"),
                Goal::AtLeast(0.85),
            ),
            claim("sapwood-recovery", Metric::Rss, None, Goal::AtMost(128.0)),
        ],
    }
}
