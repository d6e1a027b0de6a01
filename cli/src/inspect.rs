//! `inspect`: any file of a directory as text.
//!
//! Not here: the walk and its words (`sapwood::dump`), verdicts (`verify`).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sapwood::dump::{DumpOptions, FileKind, Summary, dump};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Output, tell};

/// Show what stands in files of a directory, as text
///
/// Segments, manifests, indexes and the lock file, a line for each thing in them. What does not
/// decode is shown as a gap or a flaw; whether that is damage is for `verify` to say.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood inspect wal/segment-000-0000000001 --brief
  sapwood inspect wal/manifest-000-a0 wal/manifest-000-b0
  sapwood inspect wal/segment-000-* --json | jq 'select(.item == \"record\") | .lsn'")]
pub(crate) struct Args {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// An object a line
    #[arg(long)]
    json: bool,
    /// Headers only: leave out records and postings
    #[arg(long)]
    brief: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let mut out = Output::stdout()?;
    let mut exit = Exit::Ok;
    for path in &args.files {
        let summary = one(args, path, &mut out)?;
        exit = match (exit, summary.kind) {
            (Exit::Ok, FileKind::Foreign) => Exit::NotOurs,
            (Exit::Ok, _) if summary.unsupported => Exit::NotOurs,
            (exit, _) => exit,
        };
        if summary.kind == FileKind::Foreign {
            tell(format_args!("sapwood: {}: nothing in it is Sapwood's", path.display()));
        }
    }
    out.flush()?;
    Ok(exit)
}

fn one(args: &Args, path: &Path, out: &mut Output) -> Result<Summary> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::Missing, format!("there is no file {name}")).into()
        }
        _ => anyhow::Error::new(error).context(format!("reading {name}")),
    })?;
    if !args.json && args.files.len() > 1 {
        out.line(format_args!("== {name}"))?;
    }
    let options = DumpOptions { brief: args.brief, ..DumpOptions::default() };
    let mut failed = None;
    let walked = dump(&bytes, &options, &mut |item| {
        let line = if args.json { out.line(item.to_json()) } else { out.line(item) };
        line.map_err(|error| {
            failed = Some(error);
            io::Error::other("stdout")
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let summary = walked.with_context(|| format!("showing {name}"))?;
    let Summary { kind, parts, records, flaws, .. } = summary;
    if args.json {
        out.line(json!({
            "item": "file", "name": name, "kind": kind.word(), "bytes": bytes.len(),
            "parts": parts, "records": records, "flaws": flaws,
        }))?;
    } else {
        out.line(format_args!(
            "file kind={} bytes={} parts={parts} records={records} flaws={flaws}",
            kind.word(),
            bytes.len()
        ))?;
    }
    Ok(summary)
}
