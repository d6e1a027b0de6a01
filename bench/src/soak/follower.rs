//! One who follows a log and believes nothing: order, no gap, no record twice, every one whole.
//!
//! Invariants: LSNs are consecutive but where it is told why (`Trimmed`, `Diverged`, the log is
//! gone); sequence numbers only grow, as whatever comes behind a cut was appended later. A record
//! that breaks this ends the process, which ends the soak.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sapwood::{Engine, Error, From};

use super::child::name;
use super::event::Event;
use super::payload;

/// Between two looks for a log that is not there.
const AGAIN: Duration = Duration::from_millis(20);
/// Between two words about how many came.
const TELL: Duration = Duration::from_millis(200);

/// Follows this log until the engine is closed.
pub(crate) fn follow(engine: &Engine, log: u32) {
    let mut follower = Follower { log, seq: None, seen: 0, told: Instant::now() };
    loop {
        match follower.one_life(engine) {
            Ok(true) => thread::sleep(AGAIN),
            Ok(false) => return,
            Err(error) => {
                eprintln!("soak: a follower of log {log}: {error:#}");
                process::exit(1);
            }
        }
    }
}

struct Follower {
    log: u32,
    /// The sequence number of the last record.
    seq: Option<u64>,
    seen: u64,
    told: Instant,
}

impl Follower {
    /// From the log's start until it is deleted; false when the engine is closed.
    fn one_life(&mut self, engine: &Engine) -> Result<bool> {
        let Some(log) = engine.find(&name(self.log))? else { return Ok(true) };
        // What it read in the life before may come again.
        self.seq = None;
        let mut reader = match log.reader(From::Start) {
            Ok(reader) => reader.follow(),
            Err(Error::NoSuchLog(_) | Error::Trimmed { .. }) => return Ok(true),
            Err(error) => return Err(error).context("begin"),
        };
        let mut expected = None;
        loop {
            let back_at = match reader.next().wait() {
                Ok(Some(record)) => {
                    let (lsn, payload) = (record.lsn().0, record.payload());
                    let seq = payload::check(self.log, payload).context("not a whole record")?;
                    self.see(expected, lsn, seq)?;
                    expected = Some(lsn + 1);
                    continue;
                }
                Ok(None) | Err(Error::Closed) => return Ok(false),
                Err(Error::NoSuchLog(_)) => return Ok(true),
                Err(Error::Trimmed { start }) => {
                    let idle = expected.is_some_and(|expected| start.0 <= expected);
                    ensure!(!idle, "trimmed at {start}, it was at {expected:?}");
                    start
                }
                Err(Error::Diverged { lsn, .. }) => {
                    let ahead = expected.is_some_and(|expected| lsn.0 > expected);
                    ensure!(!ahead, "diverged at {lsn}, it was at {expected:?}");
                    lsn
                }
                Err(error) => bail!("at {expected:?}: {error}"),
            };
            reader.seek(back_at);
            expected = Some(back_at.0);
        }
    }

    fn see(&mut self, expected: Option<u64>, lsn: u64, seq: u64) -> Result<()> {
        ensure!(expected.is_none_or(|expected| expected == lsn), "{lsn} behind {expected:?}");
        ensure!(self.seq < Some(seq), "at {lsn} is record {seq}, behind {:?}", self.seq);
        self.seq = Some(seq);
        self.seen += 1;
        if self.told.elapsed() >= TELL {
            Event::Followed { count: self.seen }.say()?;
            (self.seen, self.told) = (0, Instant::now());
        }
        Ok(())
    }
}
