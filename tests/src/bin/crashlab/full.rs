//! A disk filled to the last byte, by the engine and by others (tests/lab/fulldisk.sh): what goes
//! on with not a byte free, and what goes on by itself when there is some again.
//!
//! Invariant: of an append nothing is asked but that it succeeds, waits or is refused with
//! `NoSpace`; everything else has to work. Not here: making and unmounting the disk (the script).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use sapwood::{Config, Engine, Error, Lsn, Recovery, Ticket, Writer};

use super::check::judge;
use super::marks::Marks;
use super::plan::{LOGS, config, payload};
use super::{Outcome, told};

/// In this time all appends succeed again.
const RESUMES_IN: Duration = Duration::from_secs(1);
/// The disk is small: it fills in less.
const FILLS_IN: Duration = Duration::from_secs(60);
/// Tickets that wait at once, at most, of each log.
const WINDOW_MAX: usize = 8;
/// How long others are waited for who make and remove files.
const SETTLES_IN: Duration = Duration::from_millis(300);

/// Appends of one log under way.
struct Stream {
    log: usize,
    writer: Writer,
    waiting: Vec<(u64, Ticket)>,
}

impl Stream {
    fn open(engine: &Engine, log: usize, marks: &mut Marks) -> Outcome<Self> {
        let name = LOGS[log];
        let writer = engine.log(name).and_then(|log| log.writer()).map_err(told(name))?;
        let tail = writer.first().lsn.0;
        let promise = &mut marks.logs[log];
        if tail < promise.acked || tail > promise.sent {
            return Err(format!("{name}: tail {tail}, promised {promise:?}"));
        }
        (promise.sent, promise.acked) = (tail, tail);
        Ok(Self { log, writer, waiting: Vec::new() })
    }

    /// Takes note of what was acked. Nothing else may become of what was staged.
    fn settle(&mut self, marks: &mut Marks) -> Outcome {
        let done = self.waiting.iter().take_while(|(_, ticket)| ticket.is_done()).count();
        for (behind, ticket) in self.waiting.drain(..done) {
            ticket.wait().map_err(told(LOGS[self.log]))?;
            marks.logs[self.log].acked = behind;
        }
        if done > 0 { marks.write().map_err(told("mark")) } else { Ok(()) }
    }

    /// Appends a record, if there is room for another one. False: the disk is full.
    fn append(&mut self, marks: &mut Marks) -> Outcome<bool> {
        if self.waiting.len() >= WINDOW_MAX {
            return Ok(!matches!(self.writer.check(), Err(Error::NoSpace(_))));
        }
        let lsn = marks.logs[self.log].sent;
        marks.logs[self.log].sent = lsn + 1;
        marks.write().map_err(told("mark"))?;
        match self.writer.submit(payload(self.log, lsn)) {
            Ok(ticket) => {
                self.waiting.push((lsn + 1, ticket));
                Ok(true)
            }
            Err(rejected) if matches!(rejected.error, Error::Busy | Error::NoSpace(_)) => {
                marks.logs[self.log].sent = lsn;
                marks.write().map_err(told("mark"))?;
                Ok(matches!(rejected.error, Error::Busy))
            }
            Err(rejected) => Err(format!("{}: {rejected}", LOGS[self.log])),
        }
    }
}

fn streams(engine: &Engine, marks: &mut Marks) -> Outcome<Vec<Stream>> {
    let streams = (0..LOGS.len()).map(|log| Stream::open(engine, log, marks));
    let streams = streams.collect::<Outcome<_>>()?;
    marks.write().map_err(told("mark"))?;
    Ok(streams)
}

/// Appends until every log is told that there is no space. Then closes, or says `full` and waits
/// for its end.
pub(crate) fn fill(dir: &Path, mut marks: Marks, close: bool) -> Outcome {
    marks.write().map_err(told("mark"))?;
    let engine = Engine::open(config(dir)).map_err(told("open"))?;
    let mut streams = streams(&engine, &mut marks)?;
    let began = Instant::now();
    let mut full = false;
    while !full {
        full = true;
        for stream in &mut streams {
            stream.settle(&mut marks)?;
            full &= !stream.append(&mut marks)?;
        }
        if began.elapsed() > FILLS_IN {
            return Err("the disk does not fill".into());
        }
    }
    if close {
        // What is staged and has no room is unknown then, and the engine says so.
        return match engine.close() {
            Ok(()) | Err(Error::Halted { .. }) => Ok(()),
            Err(error) => Err(format!("close on a full disk: {error}")),
        };
    }
    println!("full");
    io::stdout().flush().map_err(told("saying so"))?;
    std::thread::sleep(FILLS_IN);
    Err("nobody killed it".into())
}

/// Takes every byte that is free, until nobody gives one back any more.
fn take_all(ballast: &Path) -> Outcome {
    let mut file =
        OpenOptions::new().create(true).append(true).open(ballast).map_err(told("ballast"))?;
    let mut taken = Instant::now();
    let mut piece = 1 << 20;
    while taken.elapsed() < SETTLES_IN {
        match write_durably(&mut file, piece) {
            Ok(()) => taken = Instant::now(),
            Err(error) if is_full(&error) && piece > 512 => piece /= 2,
            Err(error) if is_full(&error) => std::thread::sleep(SETTLES_IN / 20),
            Err(error) => return Err(format!("ballast: {error}")),
        }
    }
    // It is full: not even a file of one block.
    let witness = ballast.with_extension("witness");
    let made = File::create(&witness).and_then(|mut file| write_durably(&mut file, 4096));
    let _ = std::fs::remove_file(&witness);
    match made {
        Err(error) if is_full(&error) => Ok(()),
        other => Err(format!("the disk is not full: {other:?}")),
    }
}

fn write_durably(file: &mut File, bytes: usize) -> io::Result<()> {
    file.write_all(&vec![b'x'; bytes])?;
    file.sync_data()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn judge_all(engine: &Engine, marks: &Marks) -> Outcome<[u64; LOGS.len()]> {
    let mut tails = [0; LOGS.len()];
    for (log, tail) in tails.iter_mut().enumerate() {
        *tail = judge(engine, log, &marks.logs[log])?;
    }
    Ok(tails)
}

/// Opens with not a byte free, reads, truncates, collects, closes, opens, and goes on when the
/// ballast is gone.
pub(crate) fn survive(dir: &Path, mut marks: Marks, ballast: &Path) -> Outcome {
    take_all(ballast)?;
    let look = Config { read_only: true, ..config(dir) };
    let reader = Engine::open(look).map_err(told("open for reading"))?;
    let shown = judge_all(&reader, &marks)?;
    drop(reader);
    // Strict: nothing that was acked may look damaged.
    let strict = || Config { recovery: Recovery::Strict, ..config(dir) };
    let engine = Engine::open(strict()).map_err(told("open"))?;
    let kept = judge_all(&engine, &marks)?;
    if shown != kept {
        return Err(format!("a reader was shown {shown:?}, a writer keeps {kept:?}"));
    }
    for (promise, tail) in marks.logs.iter_mut().zip(kept) {
        (promise.sent, promise.acked) = (tail, tail);
    }
    marks.write().map_err(told("mark"))?;
    for name in LOGS {
        let log = engine.log(name).map_err(told(name))?;
        let info = log.info().map_err(told(name))?;
        let middle = info.start.0.midpoint(info.durable.0);
        log.truncate(Lsn(middle)).map_err(told("truncate"))?;
    }
    engine.gc().map_err(told("gc"))?;
    judge_all(&engine, &marks)?;
    take_all(ballast)?;
    judge_all(&engine, &marks)?;
    engine.close().map_err(told("close"))?;

    let engine = Engine::open(strict()).map_err(told("open again"))?;
    let mut streams = streams(&engine, &mut marks)?;
    for stream in &mut streams {
        stream.append(&mut marks)?;
    }
    std::thread::sleep(SETTLES_IN);
    std::fs::remove_file(ballast).map_err(told("ballast"))?;
    resume(&mut streams, &mut marks)?;
    judge_all(&engine, &marks)?;
    engine.close().map_err(told("close"))?;
    let engine = Engine::open(strict()).map_err(told("last open"))?;
    judge_all(&engine, &marks)?;
    engine.close().map_err(told("last close"))
}

/// Space has returned: every log takes an append and acks it, soon.
fn resume(streams: &mut [Stream], marks: &mut Marks) -> Outcome {
    let began = Instant::now();
    for stream in streams {
        let goal = marks.logs[stream.log].sent + 1;
        while marks.logs[stream.log].acked < goal {
            if marks.logs[stream.log].sent < goal {
                stream.append(marks)?;
            }
            stream.settle(marks)?;
            if began.elapsed() > RESUMES_IN {
                return Err(format!("{}: appends do not resume", LOGS[stream.log]));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("appends were back after {} ms", began.elapsed().as_millis());
    Ok(())
}
