//! The latency harness: what the disk can do, what a rival does, and what Sapwood does, measured
//! side by side and reported with the place they were measured in.
//!
//! Reading order: `sample` (a run and its numbers) → `meter` (its cost) → `ring`, `device` (the
//! floor) → `load` (closed and open loop) → `baseline` (the rival) → `subject` (a row) → `bed`,
//! `sapwood_rows`, `follow`, `recovery` (Sapwood's) → `cells` (what is claimed) → `figures` →
//! `report`. By themselves: `roll` (segments that come and go), `soak` (killed again and again).
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
pub mod device;
pub mod environment;
pub mod figures;
pub mod floor;
pub mod folder;
pub mod follow;
pub mod latency;
pub mod load;
pub mod many;
pub mod meter;
pub mod page;
pub mod recovery;
pub mod report;
#[allow(unsafe_code)] // Registered memory and submission entries: see the file.
pub mod ring;
pub mod roll;
pub mod sample;
pub mod sapwood_rows;
pub mod soak;
pub mod subject;

use anyhow::{Result, bail};

pub use figures::FiguresArgs;
pub use floor::FloorArgs;
pub use latency::LatencyArgs;
pub use many::ManyArgs;
pub use roll::RollArgs;
pub use soak::SoakArgs;

/// `sapwood bench NAME`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Latency of one writer beside the floor of the device; a page in sapwood-bench/
    Latency(LatencyArgs),
    /// Every claim about speed, beside the floor and the obvious rival
    Figures(FiguresArgs),
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
        Command::Latency(args) => latency::run(args),
        Command::Figures(args) => figures::run(args),
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
