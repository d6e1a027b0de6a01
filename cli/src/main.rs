//! The `sapwood` command line: parses, runs one command, gives its exit code.
//!
//! Invariants: results go to stdout, progress and logs to stderr; every failure ends in one message
//! with what to do next, and in an exit code of `exit`.
//! Not here: anything a library could do; commands are thin.

#![deny(unsafe_code)]

mod about;
mod append;
mod backup;
mod bucket;
mod directory;
mod doctor;
mod exit;
mod feed;
mod gc;
mod inspect;
mod json;
mod logs;
mod output;
mod place;
mod progress;
mod read;
mod remembered;
mod restore;
mod salvage;
mod survey;
mod tier;
mod truncate;
mod verify;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::directory::Backend;
use crate::exit::Exit;

/// The variable that filters what the engine tells on stderr.
const LOG_VARIABLE: &str = "SAPWOOD_LOG";

/// Durable, ordered logs in a directory
///
/// A program appends records to named logs; an append is acknowledged when it is durable. All logs
/// of a directory share a few files.
#[derive(Debug, Parser)]
#[command(name = "sapwood", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// What carries the I/O
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "BACKEND")]
    backend: Backend,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Append(append::Args),
    Read(read::Args),
    Logs(logs::Args),
    Truncate(truncate::Args),
    Gc(gc::Args),
    Backup(backup::Args),
    Tier(tier::Args),
    Restore(restore::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Salvage(salvage::Args),
    Doctor(doctor::Args),
    /// Measure latency and throughput beside the floor of the device
    ///
    /// Data goes into a fresh folder under --dir (default: the current one) and is removed after; a
    /// page and JSON go to sapwood-bench/ in the current folder.
    #[command(after_help = "Example:\n  sapwood bench latency --secs 5 --dir /mnt/nvme")]
    Bench {
        #[command(subcommand)]
        bench: sapwood_bench::Command,
    },
    Completions(about::CompletionsArgs),
    Man(about::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) if exit::is_quiet(&error) => Exit::Ok.into(),
        Err(error) => exit::tell(&error).into(),
    }
}

fn run(cli: Cli) -> Result<Exit> {
    let backend = cli.backend;
    match cli.command {
        Command::Append(args) => append::run(&args, backend),
        Command::Read(args) => read::run(&args, backend),
        Command::Logs(args) => logs::run(&args, backend),
        Command::Truncate(args) => truncate::run(&args, backend),
        Command::Gc(args) => gc::run(&args, backend),
        Command::Backup(args) => backup::run(&args, backend),
        Command::Tier(args) => tier::run(&args, backend),
        Command::Restore(args) => restore::run(&args, backend),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args, backend),
        Command::Salvage(args) => salvage::run(&args, backend),
        Command::Doctor(args) => doctor::run(&args, backend),
        Command::Bench { bench } => sapwood_bench::run(&bench).map(|()| Exit::Ok),
        Command::Completions(args) => about::completions(&args),
        Command::Man(args) => about::man(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        for command in Cli::command().get_subcommands().filter(|c| c.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
        }
    }
}
