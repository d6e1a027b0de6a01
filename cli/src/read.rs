//! `read`: a log's records to stdout.
//!
//! Invariants: a record is written only if it is durable and whole; on damage the intact prefix is
//! out before the message; `--follow` never holds back what it has.
//! Not here: finding and checking records (the engine).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use sapwood::{Engine, Error, From, Log, Lsn, ReadRecord, Reader};

use crate::bucket::{Bucket, Which};
use crate::directory::{Backend, open_read_only_with};
use crate::exit::Exit;
use crate::json;
use crate::output::{Output, tell};
use crate::place::Place;
use crate::remembered;
use crate::tier::Tiering;

/// How often a follower looks whether a writer has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Write a log's records to stdout, each and a newline
///
/// Reads up to the durable end, also while another process appends. Records that have newlines in
/// them (append --whole) are told apart only by --json. On damage, everything before it is written,
/// the damage is told, and the exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood read orders --dir wal > orders.txt
  sapwood read orders --dir wal --from 2026-01-31T12:00:00Z --count 100
  sapwood read orders --dir wal --from tail --follow
  sapwood read orders --dir wal --json | jq .payload
  sapwood read orders --tier file:///mnt/tier       what a store holds, without the directory")]
pub(crate) struct Args {
    /// The log
    log: String,
    /// The directory; without one, the store of --tier is read as it is
    #[arg(long, value_name = "DIR", required_unless_present = "tier")]
    dir: Option<PathBuf>,
    /// The store (file://PATH, s3://BUCKET/PREFIX) that records of the directory went to [default:
    /// the one it was given once]
    #[arg(long, value_name = "URL")]
    tier: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Where to begin: start, tail, LSN, EPOCH:LSN, or a time (RFC 3339)
    #[arg(long, value_name = "PLACE", default_value = "start")]
    from: Place,
    /// At most so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for what comes, until it is stopped
    #[arg(long, requires = "dir")]
    follow: bool,
    /// Payloads as they are, nothing between them
    #[arg(long)]
    raw: bool,
    /// An object a line: epoch, lsn, time, payload, properties; bytes that are no text as
    /// {"base64": …}
    #[arg(long, conflicts_with = "raw")]
    json: bool,
}

/// Where the records go.
struct Sink<'a> {
    args: &'a Args,
    out: Output,
    left: u64,
    /// Someone chose to go on without some records.
    lost: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let left = args.count.unwrap_or(u64::MAX);
    let mut sink = Sink { args, out: Output::stdout()?, left, lost: false };
    let mut from = args.from.0;
    let Some(dir) = &args.dir else { return read_bucket(args, sink, backend) };
    let url = remembered::or(args.tier.as_deref(), dir)?;
    let tiering = url.as_deref().map(Tiering::open).transpose()?;
    loop {
        let seen = written(dir);
        let components = tiering.as_ref().map(Tiering::components).unwrap_or_default();
        let engine = open_read_only_with(dir, backend, components)?;
        let log = engine.log(&args.log)?;
        let next = sink.copy(&engine, &log, from);
        sink.out.flush()?;
        let next = next?;
        if !args.follow || sink.left == 0 {
            return Ok(if sink.lost { Exit::Lost } else { Exit::Ok });
        }
        // Nobody writes: what is there is all there is until someone does.
        from = next.map_or(From::Tail, From::Lsn);
        drop(engine);
        while written(dir) == seen {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Reads what a store holds of a log.
fn read_bucket(args: &Args, mut sink: Sink<'_>, backend: Backend) -> Result<Exit> {
    let url = args.tier.as_deref().unwrap_or_default();
    let bucket = Bucket::open(url, &args.which, backend)?;
    let log = bucket.engine.log(&args.log)?;
    let copied = sink.copy(&bucket.engine, &log, args.from.0);
    sink.out.flush()?;
    copied?;
    Ok(if sink.lost { Exit::Lost } else { Exit::Ok })
}

/// When a manifest was last written: whoever opens for writing does so first.
fn written(dir: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let manifests =
        files.filter(|file| file.file_name().to_string_lossy().starts_with("manifest-"));
    manifests.filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}

impl Sink<'_> {
    /// Writes what there is, or, behind a living writer, what comes. Tells which LSN comes next.
    fn copy(&mut self, engine: &Engine, log: &Log, from: From) -> Result<Option<Lsn>> {
        let follow = self.args.follow && engine.follows();
        let mut reader = log.reader(from)?;
        if follow {
            reader = reader.follow();
        }
        let mut durable = Lsn(0);
        while self.left > 0 {
            if follow && reader.next_lsn().is_none_or(|next| next >= durable) {
                durable = log.durable()?;
                if reader.next_lsn().is_none_or(|next| next >= durable) {
                    self.out.flush()?; // it will wait
                }
            }
            if !self.step(&mut reader)? {
                break;
            }
        }
        Ok(reader.next_lsn())
    }

    fn step(&mut self, reader: &mut Reader) -> Result<bool> {
        match reader.next().wait() {
            Ok(Some(record)) => {
                self.write(&record)?;
                self.left -= 1;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(Error::Lost(damage)) => {
                self.out.flush()?;
                tell(format_args!("sapwood: {}", Error::Lost(damage)));
                self.lost = true;
                Ok(true)
            }
            Err(error) => {
                self.out.flush()?;
                Err(error.into())
            }
        }
    }

    fn write(&mut self, record: &ReadRecord<'_>) -> Result<()> {
        if self.args.json {
            return self.out.line(json::record(record)?);
        }
        self.out.bytes(record.payload())?;
        if self.args.raw { Ok(()) } else { self.out.bytes(b"\n") }
    }
}
