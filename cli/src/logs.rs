//! `logs`: what logs there are, making some, deleting some.

use anyhow::Result;
use sapwood::{Error, LogInfo, LogOptions};
use serde_json::{Value, json};

use crate::directory::{Backend, ReadDir, WriteDir, open_read_only, open_to_change};
use crate::exit::Exit;
use crate::output::Output;
use crate::place::time_text;

/// List the logs of a directory, create some, delete some
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood logs --dir wal
  sapwood logs --dir wal --json
  sapwood logs create orders payments --group shop --dir wal
  sapwood logs delete payments --dir wal")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    dir: Option<ReadDir>,
    /// An object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create logs, durably, all together; those that exist are left as they are
    #[command(
        after_help = "Example:\n  sapwood logs create orders payments --group shop --dir wal"
    )]
    Create {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        dir: WriteDir,
        /// Put them on one shard, so that they can be appended to atomically
        #[arg(long)]
        group: Option<String>,
        /// An object a line
        #[arg(long)]
        json: bool,
    },
    /// Delete logs, durably, with all their records; nothing is asked
    ///
    /// The names are free from then on; a log that gets one of them is a new log, and empty.
    #[command(after_help = "Example:\n  sapwood logs delete payments --dir wal")]
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        dir: ReadDir,
        /// An object a line
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    match (&args.command, &args.list.dir) {
        (Some(Command::Create { names, dir, group, json }), _) => {
            create(names, dir, group.as_ref(), *json, backend)?;
        }
        (Some(Command::Delete { names, dir, json }), _) => delete(names, dir, *json, backend)?,
        (None, Some(dir)) => {
            let engine = open_read_only(&dir.dir, backend)?;
            print(&engine.logs(), args.list.json)?;
        }
        (None, None) => {
            return Err(crate::exit::Failure::new(Exit::Usage, "give --dir DIR").into());
        }
    }
    Ok(Exit::Ok)
}

fn create(
    names: &[String],
    dir: &WriteDir,
    group: Option<&String>,
    json: bool,
    backend: Backend,
) -> Result<()> {
    let engine = dir.open(backend)?;
    let options = LogOptions { group: group.cloned(), ..LogOptions::default() };
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    let logs = engine.create_many(&wanted)?;
    let infos = logs.iter().map(sapwood::Log::info).collect::<sapwood::Result<Vec<_>>>()?;
    engine.close()?;
    print(&infos, json)
}

/// Deletes all of them or, when one is not there, none.
fn delete(names: &[String], dir: &ReadDir, json: bool, backend: Backend) -> Result<()> {
    let engine = open_to_change(&dir.dir, backend)?;
    let mut infos = Vec::new();
    for name in names {
        let log = engine.find(name)?.ok_or_else(|| Error::NoSuchLog(name.clone()))?;
        infos.push(log.info()?);
    }
    for (n, name) in names.iter().enumerate() {
        if !names[..n].contains(name) {
            engine.delete_log(name)?;
        }
    }
    engine.close()?;
    print(&infos, json)
}

fn print(logs: &[LogInfo], json: bool) -> Result<()> {
    let mut out = Output::stdout()?;
    if json {
        for log in logs {
            out.line(object(log))?;
        }
        return out.flush();
    }
    let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    out.line(format_args!(
        "{:width$}  {:>12}  {:>12}  {:>6}  {:>5}  {:27}  GROUP",
        "NAME", "START", "END", "EPOCH", "SHARD", "LAST RECORD"
    ))?;
    for log in logs {
        let last = if log.last_time_us == 0 { "-".into() } else { time_text(log.last_time_us) };
        let line = format!(
            "{:width$}  {:>12}  {:>12}  {:>6}  {:>5}  {:27}  {}",
            log.name,
            log.start.0,
            log.durable.0,
            log.epoch.0,
            log.shard.0,
            last,
            log.group.as_deref().unwrap_or("-")
        );
        out.line(line.trim_end())?;
    }
    out.flush()
}

fn object(log: &LogInfo) -> Value {
    json!({
        "name": log.name,
        "id": log.id.0,
        "group": log.group,
        "shard": log.shard.0,
        "epoch": log.epoch.0,
        "start": log.start.0,
        "end": log.durable.0,
        "created": time_text(log.created_us),
        "last_record": (log.last_time_us != 0).then(|| time_text(log.last_time_us)),
    })
}
