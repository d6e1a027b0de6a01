//! `backup`: a copy of a directory, whole or refused.
//!
//! Not here: what is copied, and in which order (the engine).

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use serde_json::json;

use crate::directory::{Backend, ReadDir, open_to_change};
use crate::exit::Exit;
use crate::output::{Output, tell};
use crate::progress::Progress;

/// Copy a directory into a new one, which opens with every record
///
/// The directory is opened as by a writer, so no other process may be writing it (exit code 4):
/// stop that one, or have it call `Engine::checkpoint_to`, which copies while appends go on. The
/// copy goes into a directory that is missing or empty. Until it is finished it is refused by every
/// command; after a failure, remove it and begin again. It is a twin of its source: let one of the
/// two go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood backup --dir wal --to backups/wal-monday
  sapwood verify --dir backups/wal-monday")]
pub(crate) struct Args {
    #[command(flatten)]
    dir: ReadDir,
    /// The directory that the copy goes to; made when it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Say how far it is on stderr, also where that is no terminal
    #[arg(long)]
    progress: bool,
    /// An object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let engine = open_to_change(&args.dir.dir, backend)?;
    let mut bar = None;
    let mut done = 0;
    let copied = engine.checkpoint_to_with(&args.to, &mut |at| {
        let bar = bar.get_or_insert_with(|| Progress::new(args.progress, Some(at.total), "copied"));
        bar.add(at.done - done);
        done = at.done;
    });
    if let Some(bar) = bar {
        bar.finish();
    }
    let closed = engine.close();
    let report = copied?;
    closed?;
    let mut out = Output::stdout()?;
    if args.json {
        let (segments, bytes, damages) = (report.segments, report.bytes, &report.damages);
        out.line(json!({ "segments": segments, "bytes": bytes, "damages": damages }))?;
    } else {
        let (segments, bytes) = (report.segments, ByteSize(report.bytes));
        out.line(format_args!("copied {segments} segments, {bytes}"))?;
    }
    out.flush()?;
    for damage in &report.damages {
        tell(format_args!("damaged in the copy as in the source: {damage}"));
    }
    Ok(if report.damages.is_empty() { Exit::Ok } else { Exit::Damage })
}
