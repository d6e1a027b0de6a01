//! `truncate`: moves the start of a log up.
//!
//! Not here: taking the space back (`gc`).

use anyhow::Result;
use sapwood::{Error, Lsn};
use serde_json::json;

use crate::directory::{Backend, ReadDir, open_to_change};
use crate::exit::Exit;
use crate::output::Output;

/// Drop every record of a log below an LSN, durably
///
/// Readers below it are told that the log starts there. The space comes back in whole segments,
/// once no log needs one: in the background while a program writes, or with `sapwood gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood truncate orders 120000 --dir wal     the log starts at LSN 120000
  sapwood gc --dir wal                         take the space back now")]
pub(crate) struct Args {
    /// The log
    log: String,
    /// The first LSN that is kept; at most the end of the log, which drops everything
    lsn: u64,
    #[command(flatten)]
    dir: ReadDir,
    /// An object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let engine = open_to_change(&args.dir.dir, backend)?;
    let log = engine.find(&args.log)?.ok_or_else(|| Error::NoSuchLog(args.log.clone()))?;
    log.truncate(Lsn(args.lsn))?;
    let info = log.info()?;
    engine.close()?;
    let mut out = Output::stdout()?;
    if args.json {
        out.line(json!({ "log": info.name, "start": info.start.0, "end": info.durable.0 }))?;
    } else {
        out.line(format_args!(
            "{:?} starts at LSN {} and ends at LSN {}",
            info.name, info.start, info.durable
        ))?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}
