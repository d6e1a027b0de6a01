//! `bench rivals`: Sapwood beside other logs, in one caller shape, on the same disk, in turns.
//!
//! A rival counts only if an append is on the disk when it returns. That is not taken from its
//! documentation: the flushes that the device saw have to be enough for what was acked (`proof`).
//!
//! Invariants: as many blocked threads, one log and one writer that they share, the same payloads;
//! rows that do otherwise are named so, and no claim is about them.
//!
//! Not here: the obvious group commit (`baseline`); other products, none is built in yet.

mod guest;
mod plain;
mod proof;

use std::path::Path;

use anyhow::Result;

use crate::baseline;
use crate::cells::{Pace, Plan};
use crate::report::{Claim, Goal};
use crate::sample::Metric;
use crate::sapwood_rows::{Driven, Sapwood};
use crate::scenario::{self, Scenario, ScenarioArgs};
use crate::subject::{GroupCommit, RawWrite, Segments, Subject};
use guest::{Guest, Hosted};

/// Somebody else's log, opened in a folder of its own.
pub trait Rival: Send + Sync + Sized + 'static {
    /// Name of its row.
    const NAME: &'static str;
    /// Which option makes its appends durable, and what it does for it.
    const DURABLE_BY: &'static str;

    /// Opens it in `dir`, which is empty or holds what it left there.
    ///
    /// # Errors
    /// Its own.
    fn open(dir: &Path) -> Result<Self>;

    /// Appends one record; it is durable when this returns.
    ///
    /// # Errors
    /// Its own.
    fn append(&self, caller: &Caller, payload: &[u8]) -> Result<()>;

    /// Opens what was left in `dir`, and gives every record of it, in whatever order.
    ///
    /// # Errors
    /// Its own.
    fn records(dir: &Path) -> Result<Vec<Vec<u8>>>;
}

/// Who appends: a thread, and how many it has appended before.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Number of the thread, from 0.
    pub index: u32,
    /// Its appends before this one.
    pub count: u64,
}

/// Cells: name, blocked threads, payload bytes.
const CELLS: [(&str, usize, usize); 12] = [
    ("1x128B", 1, 128),
    ("8x128B", 8, 128),
    ("64x128B", 64, 128),
    ("256x128B", 256, 128),
    ("1x1KiB", 1, 1024),
    ("8x1KiB", 8, 1024),
    ("64x1KiB", 64, 1024),
    ("256x1KiB", 256, 1024),
    ("1x16KiB", 1, 16 << 10),
    ("8x16KiB", 8, 16 << 10),
    ("64x16KiB", 64, 16 << 10),
    ("256x16KiB", 256, 16 << 10),
];
/// How rivals are named in a table.
const RIVAL: &str = "rival: ";
/// Prewritten bytes of Sapwood's segments; those of the baseline wrap.
const SEGMENT_BYTES: u64 = 2 << 30;
/// Threads that hold all tickets in the row that has them.
const TICKET_THREADS: usize = 2;

/// Those that this build has: name, and what makes each durable.
#[must_use]
pub fn built_in() -> Vec<(&'static str, &'static str)> {
    vec![(plain::Plain::NAME, plain::Plain::DURABLE_BY)]
}

fn hosted() -> Vec<Box<dyn Subject>> {
    vec![Box::<Hosted<plain::Plain>>::default()]
}

/// `bench rivals`.
///
/// # Errors
/// As [`scenario::run`].
pub fn run(args: &ScenarioArgs) -> Result<()> {
    let mut pace = args.pace()?;
    pace.warm_up = pace.window.mul_f64(0.3);
    for (name, by) in built_in() {
        eprintln!("{name}: durable by {by}");
    }
    let plans = CELLS.iter().map(|cell| plan(*cell, pace, &args.common.baseline)).collect();
    let question = "Who makes an append durable sooner, and how many a second, when so many \
                    threads each wait for theirs?";
    scenario::run(Scenario { name: "rivals", question }, args, plans)
}

fn plan(
    (name, threads, bytes): (&'static str, usize, usize),
    pace: Pace,
    ways: &[baseline::Way],
) -> Plan {
    let sapwood = |segments| Box::new(Sapwood::new(segments));
    let mut subjects: Vec<Box<dyn Subject>> = vec![
        Box::new(RawWrite { name: "floor", depth: 1, method: None }),
        Guest::boxed("sapwood", sapwood(Segments::Prewritten)),
        Guest::boxed("sapwood-fresh", sapwood(Segments::Fresh)),
    ];
    for way in ways {
        let group = GroupCommit { way: *way, threads: None };
        subjects.push(Guest::boxed(&format!("{RIVAL}{}", group.name()), Box::new(group)));
    }
    for rival in hosted() {
        subjects.push(Guest::boxed(&format!("{RIVAL}{}", rival.name()), rival));
    }
    // Rows of their own: no thread blocks on each append.
    if threads == 1 {
        subjects.push(Box::<Driven>::default());
    } else {
        let shape = (TICKET_THREADS, threads / TICKET_THREADS);
        let inner = sapwood(Segments::Prewritten);
        subjects.push(Guest::shaped("tickets (sapwood)", inner, shape));
    }
    let first =
        |metric, goal| Claim { subject: "sapwood", metric, against: Some(RIVAL), goal, line: None };
    Plan {
        name,
        title: format!("{threads} blocked threads, {bytes} B each, one log, one shared writer"),
        load: pace.load(threads, 1, bytes),
        segment_bytes: SEGMENT_BYTES,
        subjects,
        claims: vec![
            first(Metric::P50, Goal::AtMost(1.0)),
            first(Metric::P99, Goal::AtMost(1.0)),
            first(Metric::Rate, Goal::AtLeast(1.0)),
        ],
    }
}

#[cfg(test)]
mod tests;
