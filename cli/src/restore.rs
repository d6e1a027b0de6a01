//! `restore`: a directory from a bucket alone.
//!
//! Not here: what is restored, and in which order (`sapwood_tiering`).

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use sapwood::Config;
use sapwood_tiering::{NotRestored, Restored, Survey, restore};
use serde_json::json;

use crate::bucket::{Which, survey};
use crate::directory::Backend;
use crate::exit::{Exit, Failure};
use crate::output::{Output, tell};
use crate::progress::Progress;
use crate::tier::Tiering;

/// Make a directory of what a store holds: every log, with names, settings and positions
///
/// Every byte that is read is checked, and all of the new directory is read back. It goes into a
/// directory that is missing or empty. Until it is finished every command refuses it; after a
/// failure run it again. What was appended and not uploaded is gone; the new directory goes on
/// under higher epochs, and its uploads go beside the old ones. Records that are missing in the
/// store, or damaged, are told, and damaged in the new directory (exit code 3).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood restore --from file:///mnt/tier --dir wal
  sapwood restore --from file:///mnt/tier --dir wal --json | jq .records
  sapwood verify --dir wal")]
pub(crate) struct Args {
    /// The store (file://PATH)
    #[arg(long, value_name = "URL")]
    from: String,
    /// The directory that is made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Say how far it is on stderr, also where that is no terminal
    #[arg(long)]
    progress: bool,
    /// An object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let tiering = Tiering::open(&args.from)?;
    let store = tiering.store();
    let survey = survey(store, args.which.choose(store)?, &mut |_, _| ())?;
    let total = survey.objects.iter().map(|object| object.bytes).sum();
    let mut bar = Progress::new(args.progress, Some(total), "restored");
    let mut last = 0;
    let config = Config { backend: backend.into(), ..Config::new(&args.dir) };
    let restored = restore(store, &survey, &config, &mut |done, _| {
        bar.add(done - last);
        last = done;
    });
    bar.finish();
    let restored = restored.map_err(|error| match error {
        NotRestored::Engine(error) => anyhow::Error::from(error),
        other => Failure::new(Exit::Other, format!("{}: {other}", store.url())).into(),
    })?;
    tell_troubles(&restored);
    summary(args, &survey, &restored)?;
    Ok(if restored.is_whole() { Exit::Ok } else { Exit::Damage })
}

fn tell_troubles(restored: &Restored) {
    for trouble in &restored.troubles {
        tell(format_args!("sapwood: {trouble}"));
    }
    for damage in &restored.damages {
        tell(format_args!("sapwood: {damage}"));
    }
    for log in &restored.logs {
        if let Some(known) = log.known_to {
            tell(format_args!(
                "sapwood: log {:?} ends at LSN {}; it was known to reach {known}, and what lies \
                 between was not uploaded",
                log.name, log.tail
            ));
        }
    }
}

fn summary(args: &Args, survey: &Survey, restored: &Restored) -> Result<()> {
    let mut out = Output::stdout()?;
    let logs = restored.logs.len();
    let Restored { records, bytes, objects, .. } = restored;
    if args.json {
        let of = |log: &sapwood_tiering::RestoredLog| {
            json!({
                "name": log.name,
                "start": log.start.0,
                "end": log.tail.0,
                "known_to": log.known_to.map(|lsn| lsn.0),
            })
        };
        out.line(json!({
            "directory": format!("{:016x}", survey.facts.directory),
            "logs": restored.logs.iter().map(of).collect::<Vec<_>>(),
            "records": records,
            "bytes": bytes,
            "objects": objects,
            "manifest": survey.manifest,
            "troubles": restored.troubles.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "damages": restored.damages,
        }))?;
    } else {
        out.line(format_args!(
            "restored {logs} logs, {records} records, {}, from {objects} objects",
            ByteSize(*bytes)
        ))?;
    }
    out.flush()
}
