//! The workload: appends with several in flight, segment rolls, reopens, new writers.
//!
//! Invariant: a mark says `sent` before a record is submitted, and `acked` only after its ack.

use std::collections::VecDeque;
use std::path::Path;

use sapwood::{Batch, Engine, Error, Ticket, Writer};

use super::marks::Marks;
use super::plan::{LOGS, config, mix, payload};
use super::{Outcome, told};

/// Tickets that wait at once, at most.
const WINDOW_MAX: usize = 8;
/// Rounds between a clean close and the reopen, and until a log gets a new writer.
const REOPEN_EVERY: u64 = 150;
const FENCE_EVERY: u64 = 37;

struct Load {
    marks: Marks,
    writers: Vec<Writer>,
    /// In order of submission: log, the LSN behind its last record, ticket.
    waiting: VecDeque<(usize, u64, Ticket)>,
}

/// Runs so many rounds.
pub(crate) fn run(dir: &Path, mut marks: Marks, rounds: u64) -> Outcome {
    marks.write().map_err(told("mark"))?; // the first: nothing is promised, and nothing there yet
    let mut load = Load { marks, writers: Vec::new(), waiting: VecDeque::new() };
    let mut round = 0;
    while round < rounds {
        let engine = Engine::open(config(dir)).map_err(told("open"))?;
        load.take_writers(&engine)?;
        let end = rounds.min(round + REOPEN_EVERY);
        while round < end {
            load.round(&engine, round)?;
            round += 1;
        }
        while !load.waiting.is_empty() {
            load.settle()?;
        }
        load.writers.clear();
        engine.close().map_err(told("close"))?;
    }
    Ok(())
}

impl Load {
    fn take_writers(&mut self, engine: &Engine) -> Outcome {
        self.writers.clear();
        for (i, name) in LOGS.iter().enumerate() {
            let log = engine.log(name).map_err(told("log"))?;
            let writer = log.writer().map_err(told("writer"))?;
            let tail = writer.first().lsn.0;
            let promise = &mut self.marks.logs[i];
            if tail < promise.acked || tail > promise.sent {
                return Err(format!("{name}: tail {tail}, promised {promise:?}"));
            }
            (promise.sent, promise.acked) = (tail, tail);
            self.writers.push(writer);
        }
        self.marks.write().map_err(told("mark"))
    }

    fn round(&mut self, engine: &Engine, round: u64) -> Outcome {
        let chance = mix(round ^ self.marks.logs[0].sent);
        let i = chance as usize % LOGS.len();
        let first = self.marks.logs[i].sent;
        let mut batch = Batch::new();
        for lsn in first..first + 1 + (chance >> 8) % 6 {
            batch.push(&payload(i, lsn));
        }
        let behind = first + batch.len() as u64;
        self.marks.logs[i].sent = behind;
        self.marks.write().map_err(told("mark"))?;
        let ticket = loop {
            match self.writers[i].submit(&batch) {
                Ok(ticket) => break ticket,
                Err(rejected) if matches!(rejected.error, Error::Busy) => self.settle()?,
                Err(rejected) => return Err(format!("submit: {rejected}")),
            }
        };
        self.waiting.push_back((i, behind, ticket));
        while self.waiting.len() > (chance >> 16) as usize % WINDOW_MAX {
            self.settle()?;
        }
        if round % FENCE_EVERY == FENCE_EVERY - 1 {
            let log = engine.log(LOGS[i]).map_err(told("log"))?;
            self.writers[i] = log.writer().map_err(told("writer"))?;
        }
        Ok(())
    }

    /// Waits for the oldest ticket, and says so.
    fn settle(&mut self) -> Outcome {
        let Some((i, behind, ticket)) = self.waiting.pop_front() else { return Ok(()) };
        let ack = ticket.wait().map_err(told("append"))?;
        if ack.position.lsn.0 + u64::from(ack.records) != behind {
            return Err(format!("{}: acked {ack:?}, expected up to {behind}", LOGS[i]));
        }
        self.marks.logs[i].acked = self.marks.logs[i].acked.max(behind);
        self.marks.write().map_err(told("mark"))
    }
}
