//! The scenarios by name: what each asks, and the cells that answer it.
//!
//! Not here: cells with claims (`cells`), running them (`scenario`), scenarios of another shape
//! (`many`, `roll`, `soak`).

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cells::{self, Pace, Plan};
use crate::follow::{Follow, Since};
use crate::load::Load;
use crate::methods::{self, MethodRow, Way};
use crate::ring::Method;
use crate::sapwood_rows::{Driven, Sapwood};
use crate::scenario::{self, CommonArgs, Scenario, ScenarioArgs};
use crate::subject::{RawWrite, Segments, Subject};
use crate::traffic::{Arrivals, Pick, Sizes};

/// Seconds of windows at most, so that the whole of `latency` ends within a minute.
const LATENCY_SECONDS_MAX: f64 = 12.0;
/// Rounds of its rows.
const LATENCY_ROUNDS: usize = 3;
/// Prewritten MiB under its floor: some seconds of small writes.
const LATENCY_FLOOR_MIB: u64 = 64;
/// More single appends a second than any disk makes durable, for the size of its segments.
const APPENDS_MAX: f64 = 20_000.0;
/// What an append of its own takes in a segment, at least.
const UNIT_BYTES: u64 = 4096;
/// Appends that an open loop lets be outstanding: far more than a disk that keeps up has.
const OPEN_OUTSTANDING: usize = 1024;
const GIB: u64 = 1 << 30;

/// What `bench latency` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct LatencyArgs {
    /// Data goes into a fresh folder under this one, removed after
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: std::path::PathBuf,
    /// Seconds measured for each row, over three rounds (12 at most)
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Payload bytes of a record
    #[arg(long, default_value_t = 128)]
    pub bytes: usize,
    /// Appends a second of the open loop
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// The rest
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What `bench load` can be told: every knob of the generator.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// Threads that append
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Appends that each has outstanding: one blocks, more are tickets
    #[arg(long, default_value_t = 1)]
    pub outstanding: usize,
    /// What is outstanding are async tasks, one executor per thread
    #[arg(long)]
    pub tasks: bool,
    /// Payload bytes of a record, the greatest where lengths differ
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// The least, where lengths differ
    #[arg(long, default_value_t = 64)]
    pub least_bytes: usize,
    /// How lengths differ
    #[arg(long, value_enum, default_value_t)]
    pub sizes: Sizes,
    /// Records of an append: more than one is a batch
    #[arg(long, default_value_t = 1)]
    pub records: usize,
    /// Logs
    #[arg(long, default_value_t = 1)]
    pub logs: usize,
    /// Which of them an append goes to
    #[arg(long, value_enum, default_value_t)]
    pub pick: Pick,
    /// Appends a second over all threads (open loop); as fast as they are acked if not given
    #[arg(long)]
    pub rate: Option<f64>,
    /// When they begin, at a rate
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// The rest
    #[command(flatten)]
    pub scenario: ScenarioArgs,
}

/// `bench latency`.
///
/// # Errors
/// As [`scenario::run`].
pub fn latency(args: &LatencyArgs) -> Result<()> {
    ensure!(args.secs > 0.0 && args.bytes > 0, "secs and bytes must be above zero");
    let secs = args.secs.min(LATENCY_SECONDS_MAX);
    let mut common = args.common.clone();
    common.file_mib = common.file_mib.min(LATENCY_FLOOR_MIB);
    let per_round = secs / LATENCY_ROUNDS as f64;
    let scenario_args =
        ScenarioArgs { dir: args.dir.clone(), rounds: LATENCY_ROUNDS, secs: per_round, common };
    let window = Duration::from_secs_f64(per_round);
    let pace = Pace { warm_up: window.mul_f64(0.2), window };
    let each = (args.bytes as u64).next_multiple_of(UNIT_BYTES) + UNIT_BYTES;
    let segment_bytes = ((secs * 1.5 * APPENDS_MAX) as u64 * each).next_multiple_of(64 << 20);
    let mut closed = one_writer(pace, args.bytes);
    closed.segment_bytes = segment_bytes;
    let mut open = open_loop(pace, args.bytes, args.rate);
    open.segment_bytes = segment_bytes;
    let question = "How long does one durable append take, how far is that above what the disk \
                    itself takes, and what else could make it durable?";
    let scenario = Scenario { name: "latency", question };
    scenario::run(scenario, &scenario_args, vec![closed, open, ways(pace, args.bytes)])
}

fn floor() -> Box<dyn Subject> {
    Box::new(RawWrite { name: "floor", depth: 1, method: None })
}

fn one_writer(pace: Pace, bytes: usize) -> Plan {
    let sapwood = Sapwood::new(Segments::Prewritten);
    Plan {
        name: "one-writer",
        title: format!("one writer, {bytes} B, each append waits; the floor writes 4 KiB blocks"),
        load: pace.load(1, 1, bytes),
        segment_bytes: GIB,
        subjects: vec![floor(), Box::new(sapwood), Box::<Driven>::default()],
        claims: Vec::new(),
    }
}

fn open_loop(pace: Pace, bytes: usize, rate: f64) -> Plan {
    let sapwood = Sapwood::new(Segments::Prewritten);
    let load = Load {
        rate: Some(rate),
        arrivals: Arrivals::Poisson,
        ..pace.load(1, OPEN_OUTSTANDING, bytes)
    };
    Plan {
        name: "open-loop",
        title: format!(
            "{rate} appends of {bytes} B a second, each begun on its own (Poisson), latency from \
             the intended start; the floor one at a time"
        ),
        load,
        segment_bytes: GIB,
        subjects: vec![floor(), Box::new(sapwood)],
        claims: Vec::new(),
    }
}

fn ways(pace: Pace, bytes: usize) -> Plan {
    let raw = |name, method| RawWrite { name, depth: 1, method: Some(method) };
    let mut subjects: Vec<Box<dyn Subject>> = vec![floor()];
    subjects.push(Box::new(raw("io_uring write, RWF_DSYNC", Method::Dsync)));
    subjects.push(Box::new(raw("io_uring write -> fdatasync", Method::Fdatasync)));
    for way in Way::ALL {
        subjects.push(Box::new(MethodRow(way)));
    }
    Plan {
        name: "methods",
        title: "every way to make a 4 KiB block of a prewritten file durable, one at a time"
            .to_owned(),
        load: methods::short(&pace.load(1, 1, bytes)),
        segment_bytes: GIB,
        subjects,
        claims: Vec::new(),
    }
}

/// `bench load`.
///
/// # Errors
/// As [`scenario::run`]; when the knobs contradict each other.
pub fn load(args: &LoadArgs) -> Result<()> {
    let pace = args.scenario.pace()?;
    ensure!(args.threads > 0 && args.outstanding > 0 && args.bytes > 0, "a load has an append");
    ensure!(args.records > 0 && args.logs > 0, "an append has a record and a log");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0), "a rate is above zero");
    ensure!(args.records == 1 || args.sizes == Sizes::Fixed, "records of a batch are of one size");
    ensure!(!(args.tasks && args.rate.is_some()), "async tasks are a closed loop: without --rate");
    ensure!(!(args.tasks && args.records > 1), "async tasks append single records");
    let load = Load {
        threads: args.threads,
        outstanding: args.outstanding,
        tasks: args.tasks,
        record_bytes: args.bytes,
        least_bytes: args.least_bytes,
        sizes: args.sizes,
        records: args.records,
        logs: args.logs,
        pick: args.pick,
        rate: args.rate,
        arrivals: args.arrivals,
        warm_up: pace.warm_up,
        window: pace.window,
    };
    let how = match (args.tasks, args.outstanding) {
        (true, tasks) => format!("{tasks} async tasks"),
        (false, 1) => "one append".to_owned(),
        (false, tickets) => format!("{tickets} tickets"),
    };
    let sapwood = Sapwood::new(Segments::Fresh);
    let plan = Plan {
        name: "load",
        title: format!(
            "{} threads with {how} outstanding, records of up to {} B, {} logs",
            args.threads, args.bytes, args.logs
        ),
        load,
        segment_bytes: GIB,
        subjects: vec![floor(), Box::new(sapwood)],
        claims: Vec::new(),
    };
    let question = "What does this very load cost?";
    scenario::run(Scenario { name: "load", question }, &args.scenario, vec![plan])
}

/// `bench throughput`.
///
/// # Errors
/// As [`scenario::run`].
pub fn throughput(args: &ScenarioArgs) -> Result<()> {
    let pace = args.pace()?;
    let mut plans = vec![
        cells::tickets(pace, 128),
        cells::tickets(pace, 1024),
        tasks(pace),
        mixed_sizes(pace),
        cells::large(pace, &args.common.baseline),
        cells::bulk(pace),
    ];
    for plan in &mut plans {
        plan.claims.clear();
    }
    let question = "How many records, and how many bytes, become durable in a second when nobody \
                    waits for each?";
    scenario::run(Scenario { name: "throughput", question }, args, plans)
}

fn tasks(pace: Pace) -> Plan {
    Plan {
        name: "tasks-1k",
        title: "2 threads x 256 async tasks that await 1 KiB each".to_owned(),
        load: Load { tasks: true, ..pace.short().load(2, 256, 1024) },
        segment_bytes: 4 * GIB,
        subjects: cells::rows(&[], None),
        claims: Vec::new(),
    }
}

fn mixed_sizes(pace: Pace) -> Plan {
    let load = Load {
        sizes: Sizes::Pareto,
        least_bytes: 128,
        logs: 100,
        pick: Pick::Zipf,
        ..pace.short().load(2, 256, 64 << 10)
    };
    Plan {
        name: "mixed-sizes",
        title: "2 threads x 256 tickets over 100 logs (Zipf), 128 B to 64 KiB (Pareto)".to_owned(),
        load,
        segment_bytes: 4 * GIB,
        subjects: cells::rows(&[], None),
        claims: Vec::new(),
    }
}

/// `bench tail`.
///
/// # Errors
/// As [`scenario::run`].
pub fn tail(args: &ScenarioArgs) -> Result<()> {
    let pace = args.pace()?;
    let at = |name: &'static str, rate: f64, bytes: usize| Plan {
        name,
        title: format!("{rate} records of {bytes} B a second to one follower in process"),
        load: Load { rate: Some(rate), ..pace.load(1, 1, bytes) },
        segment_bytes: GIB,
        subjects: vec![Box::new(Follow::new(Since::Durable)), Box::new(Follow::new(Since::Append))],
        claims: Vec::new(),
    };
    let plans = vec![
        at("slow", 100.0, 1024),
        at("steady", 1000.0, 1024),
        at("fast", 4000.0, 128),
        at("large", 1000.0, 16 << 10),
    ];
    let question = "How long after a record is durable does a follower have it, and how long after \
                    its append was called?";
    scenario::run(Scenario { name: "tail", question }, args, plans)
}

/// `bench recovery`.
///
/// # Errors
/// As [`scenario::run`].
pub fn recovery(args: &ScenarioArgs) -> Result<()> {
    let question = "How long does opening take after a crash, beside reading the same bytes raw, \
                    and how much memory?";
    let plans = vec![cells::recovery(args.pace()?)];
    scenario::run(Scenario { name: "recovery", question }, args, plans)
}

/// `bench figures`.
///
/// # Errors
/// As [`scenario::run`].
pub fn figures(args: &ScenarioArgs) -> Result<()> {
    let question = "Does every claim about speed hold, each as a ratio inside one interleaved run?";
    let plans = cells::all(args.pace()?, &args.common.baseline);
    scenario::run(Scenario { name: "figures", question }, args, plans)
}
