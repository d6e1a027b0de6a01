//! The judge: after a crash a log is every acked record, identical, in order, followed by zero or
//! more of those that were in flight; never anything else. And it goes on from there.

use std::path::Path;

use sapwood::{Batch, Config, Engine, From, Recovery};

use super::marks::{Marks, Promise};
use super::plan::{LOGS, config, payload};
use super::{Outcome, told};

/// Records appended to each log after the crash.
const MORE: u64 = 5;

/// Judges a directory, writes on in it, closes it, and judges it again.
pub(crate) fn run(dir: &Path, mut marks: Marks) -> Outcome {
    // Strict: the medium was honest, so nothing that was acked may look damaged.
    let strict = || Config { recovery: Recovery::Strict, ..config(dir) };
    let engine = Engine::open(strict()).map_err(told("open"))?;
    for (i, name) in LOGS.iter().enumerate() {
        let tail = judge(&engine, i, &marks.logs[i])?;
        let writer = engine.log(name).and_then(|log| log.writer()).map_err(told("writer"))?;
        if writer.first().lsn.0 != tail {
            return Err(format!("{name}: read up to {tail}, written from {}", writer.first()));
        }
        let mut batch = Batch::new();
        for lsn in tail..tail + MORE {
            batch.push(&payload(i, lsn));
        }
        marks.logs[i].sent = tail + MORE;
        marks.write().map_err(told("mark"))?;
        writer.append(&batch).wait().map_err(|r| format!("{name}: append: {r}"))?;
        marks.logs[i].acked = tail + MORE;
        marks.write().map_err(told("mark"))?;
        judge(&engine, i, &marks.logs[i])?;
    }
    engine.close().map_err(told("close"))?;
    let engine = Engine::open(strict()).map_err(told("open after a clean close"))?;
    for i in 0..LOGS.len() {
        judge(&engine, i, &marks.logs[i])?;
    }
    engine.close().map_err(told("second close"))
}

/// Reads a log from its start to its end; the tail found.
pub(crate) fn judge(engine: &Engine, i: usize, promise: &Promise) -> Outcome<u64> {
    let name = LOGS[i];
    let log = engine.log(name).map_err(told(name))?;
    let mut reader = log.reader(From::Start).map_err(told(name))?;
    let mut next = log.start().map_err(told(name))?.0;
    while let Some(record) = reader.next().wait().map_err(told(name))? {
        if record.lsn().0 != next {
            return Err(format!("{name}: found {}, expected LSN {next}", record.position()));
        }
        if record.payload() != payload(i, next) {
            return Err(format!("{name}: record {next} is not what was appended"));
        }
        next += 1;
    }
    if next < promise.acked {
        return Err(format!("{name}: ends at {next}, LOST ACKED RECORDS: {promise:?}"));
    }
    if next > promise.sent {
        return Err(format!("{name}: ends at {next}, more than was ever sent: {promise:?}"));
    }
    Ok(next)
}
