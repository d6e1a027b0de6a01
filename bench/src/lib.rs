//! The latency harness: what the disk can do, what a rival does, and what Sapwood does, measured
//! side by side and reported with the place they were measured in.
//!
//! Reading order: `sample` (a run and its numbers) → `meter` (its cost) → `ring`, `device`,
//! `methods` (the floor) → `traffic` (what is appended), `load`, `tasks` (closed and open loop, by
//! a `clock`), `tally` → `baseline` (the rival) → `subject` (a row) → `bed`, `sapwood_rows`,
//! `verify`, `follow`, `recovery`, `mixed` (Sapwood's) → `rivals` → `cells` (what is claimed),
//! `scenarios` → `scenario` (runs them) → `report`, `page`, `plots`, `hgrm`, `compare`. By
//! themselves: `many`, `roll` (segments that come and go), `soak` (killed again and again).
//!
//! Invariants: refuses debug builds; every comparison is a ratio inside one interleaved run;
//! data goes into fresh folders that are removed.
//!
//! Not here: correctness. A benchmark that looks wrong is a reason for a test elsewhere.

#![deny(unsafe_code)]

pub mod baseline;
mod bed;
pub mod cells;
pub mod checkpoints;
pub mod clock;
mod compare;
pub mod device;
pub mod environment;
pub mod floor;
pub mod folder;
pub mod follow;
mod hgrm;
mod live;
pub mod load;
pub mod many;
pub mod meter;
pub mod methods;
pub mod mixed;
mod page;
mod plots;
pub mod recovery;
pub mod report;
#[allow(unsafe_code)] // Registered memory and submission entries: see the file.
pub mod ring;
pub mod rivals;
pub mod roll;
pub mod sample;
pub mod sapwood_rows;
pub mod scenario;
pub mod scenarios;
pub mod soak;
pub mod subject;
mod tally;
pub mod tasks;
pub mod traffic;
mod verify;

use anyhow::{Result, bail};

pub use floor::FloorArgs;
pub use many::ManyArgs;
pub use roll::RollArgs;
pub use scenario::ScenarioArgs;
pub use scenarios::{LatencyArgs, LoadArgs};
pub use soak::SoakArgs;

/// `sapwood bench NAME`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// How long one durable append takes, beside the floor of the disk and every other durable way
    ///
    /// One writer whose appends each wait, then an open loop (latency counts from the intended
    /// start), then every way to make a block durable, like pg_test_fsync. Ends within a minute.
    #[command(after_help = "Example:\n  sapwood bench latency --secs 5 --dir /mnt/nvme")]
    Latency(LatencyArgs),
    /// How many records and bytes become durable in a second when nobody waits for each
    ///
    /// Tickets of 128 B and 1 KiB, async tasks, sizes that differ over many logs, large records,
    /// batches; what was written is read back and compared.
    Throughput(ScenarioArgs),
    /// How long after it is durable a record is with its follower
    ///
    /// At 100, 1,000 and 4,000 records a second, small and large; once counted from the moment a
    /// record is durable, once from the call of its append.
    Tail(ScenarioArgs),
    /// How long opening takes after a crash, beside reading the same bytes raw
    Recovery(ScenarioArgs),
    /// What appends pay for followers, catch-up reads and truncation beside them
    ///
    /// 2,000 appends a second (Poisson) over 1,000 logs (Zipf), 128 B to 16 KiB (Pareto); latency
    /// from the intended start; each row has one more thing beside it, and takes turns.
    Mixed(ScenarioArgs),
    /// Who is first: Sapwood or what one would write oneself, in the same shape, on the same disk
    ///
    /// 1, 8, 64 and 256 blocked threads by 128 B, 1 KiB and 16 KiB, one log, one shared writer.
    /// Rows take turns: Sapwood, the obvious group commit, append and fdatasync under a lock.
    /// A row counts only when the flushes that the device saw can have covered what it acked.
    #[command(after_help = "\
Examples:
  sapwood bench rivals --secs 0.5
  sapwood bench rivals --only 64x1KiB --row sapwood --row 'rival: baseline'")]
    Rivals(ScenarioArgs),
    /// What any load you like costs: threads, tickets or tasks, sizes, logs, rate
    ///
    /// Closed loop unless --rate is given; what was written is read back and compared.
    #[command(after_help = "\
Examples:
  sapwood bench load --threads 64 --bytes 1024
  sapwood bench load --outstanding 256 --rate 20000 --arrivals poisson
  sapwood bench load --threads 2 --outstanding 256 --logs 100000 --pick zipf --bytes 512
  sapwood bench load --threads 2 --outstanding 512 --tasks --compare sapwood-bench/load.json")]
    Load(LoadArgs),
    /// Whether every claim about speed holds, beside the floor and the obvious rival
    Figures(ScenarioArgs),
    /// What the device can do: durable writes and raw bandwidth, without Sapwood
    Floor(FloorArgs),
    /// What a log costs when there are very many: rate, time to open, memory, open files
    ManyLogs(ManyArgs),
    /// What rolls, collection and an idle engine cost: p99.9 with and without, files made, CPU
    ///
    /// Appends at a rate below the maximum, in rows that take turns: one large segment (still);
    /// segments so small that ten rolls happen in a window, truncated and used again (rolls); the
    /// smallest segments and several logs, truncated all the time (collection); the same with some
    /// records in every segment that last (relocation). Each p99.9 is compared with that of still,
    /// round by round. In the steady state no file is made and nothing is filled: both are counted.
    /// Before that, two idle engines are looked at, alone: processor time, writes after the mark.
    #[command(after_help = "\
Examples:
  sapwood bench roll --dir /mnt/nvme
  sapwood bench roll --secs 2 --only still --only rolls
  sapwood bench roll --only idle --json")]
    Roll(RollArgs),
    /// Whether anything is lost, or grows, while everything happens at once and is killed
    ///
    /// A process appends to many logs, truncates, cuts, deletes, creates and follows them; it is
    /// killed and started again every minute. After each start every record of every log is
    /// compared with what was acked. Disk, memory and open files are sampled: a series is flat when
    /// the median of its last quarter is at most 1.1 x that of its second one, plus a slack (8
    /// segments, 16 MiB, 8 files). A plot and JSON go to sapwood-bench/.
    #[command(after_help = "Example:\n  sapwood bench soak --mins 60 --dir data")]
    Soak(SoakArgs),
}

/// The variable that lets a debug build run.
const OVERRIDE: &str = "SAPWOOD_BENCH_DEBUG";

/// Runs one benchmark; results to stdout, progress to stderr.
///
/// # Errors
/// In a debug build, unless overridden; otherwise what the benchmark met.
pub fn run(command: &Command) -> Result<()> {
    refuse_debug()?;
    match command {
        Command::Latency(args) => scenarios::latency(args),
        Command::Throughput(args) => scenarios::throughput(args),
        Command::Tail(args) => scenarios::tail(args),
        Command::Recovery(args) => scenarios::recovery(args),
        Command::Mixed(args) => mixed::run(args),
        Command::Rivals(args) => rivals::run(args),
        Command::Load(args) => scenarios::load(args),
        Command::Figures(args) => scenarios::figures(args),
        Command::Floor(args) => floor::run(args),
        Command::ManyLogs(args) => many::run(args),
        Command::Roll(args) => roll::run(args),
        Command::Soak(args) => soak::run(args),
    }
}

fn refuse_debug() -> Result<()> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    if std::env::var_os(OVERRIDE).is_none() {
        bail!("this is a debug build: its numbers mean nothing ({OVERRIDE}=1 to run it anyway)");
    }
    eprintln!("warning: a debug build; its numbers mean nothing");
    Ok(())
}
