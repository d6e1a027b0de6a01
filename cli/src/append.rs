//! `append`: lines or files to records, waiting for each to be durable.
//!
//! Invariants: tickets are waited for in order, on this thread, while another one reads the input;
//! a position is printed only once it is durable; the summary counts what is durable.
//! Not here: cutting the input (`feed`).

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use sapwood::{Ack, Epoch, Lsn, Ticket, Writer};
use serde_json::json;

use crate::directory::{Backend, WriteDir};
use crate::exit::{Exit, Failure};
use crate::feed::{Fate, Fed, Feeder, Input, Submitted, TICKETS_MAX};
use crate::output::{Output, StdoutClosed, tell};
use crate::progress::Progress;
use crate::remembered;
use crate::tier::{TierArgs, Tiering, retain};

/// How often it is looked why a ticket takes long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the disk may stay full before the append ends.
const FULL_MAX: Duration = Duration::from_secs(1);

/// Append lines to a log; each is durable before it is counted
///
/// A line is a record, without its newline; empty lines are records too, and so is a last line that
/// has no newline. `read` writes a newline behind each record: input that ends without one comes
/// back with one. On a new log, line i (from 0) is LSN i.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood append orders --dir wal orders.txt        each line of the file is a record
  tail -f app.log | sapwood append app --dir wal    lines as they come
  sapwood append orders --dir wal --resume big.txt  go on where a killed append ended
  sapwood append blobs --dir wal --whole *.png      each file is a record
  sapwood append app --dir wal --tier file:///mnt/tier --local-retention 256MiB big.txt")]
pub(crate) struct Args {
    /// The log; made when there is none
    log: String,
    /// What to append, in this order; stdin when none is given, `-` is stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    dir: WriteDir,
    #[command(flatten)]
    tier: TierArgs,
    /// Each file is one record, as it is
    #[arg(long)]
    whole: bool,
    /// Print each position (EPOCH:LSN) as it becomes durable; the summary then goes to stderr
    #[arg(long)]
    acks: bool,
    /// Skip as many lines as the log already has
    #[arg(long)]
    resume: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Tell how far it is, also where stderr is no terminal
    #[arg(long)]
    progress: bool,
}

/// What became durable.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    epoch: Epoch,
    lsns: Option<(Lsn, Lsn)>,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let inputs = Input::open(&args.files)?; // before the directory is made
    let total = inputs.iter().map(|input| input.bytes).sum::<Option<u64>>();
    let url = remembered::or(args.tier.tier.as_deref(), &args.dir.dir)?;
    let tiering = match url.as_deref().map(Tiering::probed).transpose() {
        // Nobody asked for it now: what is appended waits in the directory.
        Err(error) if args.tier.tier.is_none() => {
            tell(format_args!("sapwood: nothing is uploaded for now: {error:#}"));
            None
        }
        opened => opened?,
    };
    let open = || {
        let components = tiering.as_ref().map(Tiering::components).unwrap_or_default();
        args.dir.open(backend, components)
    };
    let engine = open()?;
    if let (Some(url), true) = (&url, tiering.is_some()) {
        remembered::remember(&args.dir.dir, url)?;
    }
    let log = engine.log(&args.log)?;
    retain(&engine, &log, args.tier.local_retention)?;
    let tier = tiering.as_ref().map(|tiering| tiering.start(&engine)).transpose()?;
    let writer = log.writer()?;
    let begun = Instant::now();
    let first = writer.first();
    let skip = if args.resume { first.lsn.0 } else { 0 };
    let mut tally = Tally { epoch: first.epoch, ..Tally::default() };

    let (out, submitted) = sync_channel(TICKETS_MAX - 1);
    let mut feeder = Feeder::new(writer.clone(), engine.facts(), out);
    (feeder.skip, feeder.whole) = (skip, args.whole);
    let feeding =
        thread::Builder::new().name("sapwood-feed".into()).spawn(move || feeder.run(inputs))?;
    let mut progress = Progress::new(args.progress, total, "appended");
    let collected = collect(args, &writer, &submitted, &mut tally, &mut progress);
    drop(submitted);
    let seconds = begun.elapsed().as_secs_f64();
    progress.finish();
    summary(args, &tally, skip, first.lsn, seconds)?;
    // A failure leaves the feeding thread behind, which may wait for input: the process ends.
    collected?;
    let fed = feeding.join().unwrap_or_else(|_| Err(anyhow!("reading the input failed")));
    drop(tier);
    engine.close()?;
    if let Some(tiering) = tiering.as_ref().filter(|_| !args.tier.no_wait) {
        // Closing has sealed what was left.
        drop((log, writer, engine));
        let engine = open()?;
        let finished = tiering.finish(&engine);
        engine.close()?;
        finished?;
    }
    check_resume(args, skip, fed?)?;
    Ok(Exit::Ok)
}

/// Waits for what was submitted, in order.
fn collect(
    args: &Args,
    writer: &Writer,
    submitted: &Receiver<Submitted>,
    tally: &mut Tally,
    progress: &mut Progress,
) -> Result<()> {
    let mut out = Output::stdout()?;
    for Submitted { fate, bytes } in submitted {
        let ack = match fate {
            Fate::Staged(ticket) => wait(ticket, writer)?,
            Fate::Durable(ack) => ack,
        };
        let Ack { position, records, .. } = ack;
        tally.records += u64::from(records);
        tally.bytes += bytes;
        let last = Lsn(position.lsn.0 + u64::from(records) - 1);
        tally.lsns = Some((tally.lsns.map_or(position.lsn, |(first, _)| first), last));
        progress.add(bytes + u64::from(records));
        if args.acks {
            print_acks(&mut out, &ack).map_err(not_quiet)?;
        }
    }
    Ok(())
}

/// Waits for a ticket, unless the disk stays full: then nobody knows for how long.
fn wait(ticket: Ticket, writer: &Writer) -> Result<Ack> {
    if ticket.is_done() {
        return Ok(ticket.wait()?);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut ticket = pin!(ticket);
    let mut full_since = None;
    loop {
        match ticket.as_mut().poll(&mut context) {
            Poll::Ready(ack) => return Ok(ack?),
            Poll::Pending => thread::park_timeout(LOOK_EVERY),
        }
        let Err(error) = writer.check() else {
            full_since = None;
            continue;
        };
        if full_since.get_or_insert_with(Instant::now).elapsed() > FULL_MAX {
            return Err(error.into());
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn print_acks(out: &mut Output, ack: &Ack) -> Result<()> {
    let mut position = ack.position;
    for _ in 0..ack.records {
        out.line(position)?;
        position.lsn = position.lsn.next();
    }
    out.flush()
}

/// Who asked for acks and stops reading them is told that the append ended early.
fn not_quiet(error: anyhow::Error) -> anyhow::Error {
    if error.is::<StdoutClosed>() {
        anyhow!("stdout was closed before all was appended")
    } else {
        error
    }
}

fn summary(args: &Args, tally: &Tally, skip: u64, tail: Lsn, seconds: f64) -> Result<()> {
    let rate = tally.bytes as f64 / 1e6 / seconds.max(1e-9);
    let text = if args.json {
        json!({
            "log": args.log,
            "records": tally.records,
            "bytes": tally.bytes,
            "skipped": skip,
            "seconds": seconds,
            "mb_per_second": rate,
            "epoch": tally.epoch.0,
            "first_lsn": tally.lsns.map(|(first, _)| first.0),
            "last_lsn": tally.lsns.map(|(_, last)| last.0),
        })
        .to_string()
    } else {
        let lsns = match tally.lsns {
            Some((first, last)) => format!("LSN {first} to {last}"),
            None => format!("the log ends at LSN {tail}"),
        };
        let skipped = if skip > 0 { format!("skipped {skip} records, ") } else { String::new() };
        format!(
            "{skipped}appended {} records, {} bytes in {seconds:.3} s ({rate:.1} MB/s), {lsns}, \
             epoch {}",
            tally.records, tally.bytes, tally.epoch
        )
    };
    if args.acks {
        tell(text);
        return Ok(());
    }
    let mut out = Output::stdout()?;
    out.line(text)?;
    out.flush()
}

/// An input that is shorter than the log is not what the log was made from.
fn check_resume(args: &Args, skip: u64, fed: Fed) -> Result<()> {
    if fed.records >= skip {
        return Ok(());
    }
    let message = format!(
        "log {:?} has {skip} records and the input only {}: it is not the input that the log began \
         with; nothing was appended",
        args.log, fed.records
    );
    Err(Failure::new(Exit::Other, message).into())
}
