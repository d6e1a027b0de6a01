//! Comparing an engine with the model.
//!
//! Not here: what led to the state that is compared (`world`).

use sapwood::{Engine, Error, From, Log, Lsn, Reader};

use crate::ensure;
use crate::model::{CURSOR, LogTruth, Model, Staged, Verdict};

/// Reads from `reader`, whose next LSN is `from`, up to `limit` records, and compares each with
/// what was staged. Returns where it stopped.
///
/// # Errors
/// When a record is not what was staged there, or the engine reports an error.
pub fn read_on(reader: &mut Reader, truth: &LogTruth, from: u64, limit: u64) -> Verdict<u64> {
    let mut next = from;
    while next < from + limit {
        let record = match reader.next().wait() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => return Err(format!("reading LSN {next}: {error}")),
        };
        ensure!(record.lsn() == Lsn(next), "LSN {} where {next} was due", record.lsn());
        let Some(staged) = truth.staged.get(next as usize) else {
            return Err(format!("LSN {next} was never staged"));
        };
        same(staged, record.epoch().0, record.payload())
            .map_err(|what| format!("LSN {next}: {what}"))?;
        next += 1;
    }
    Ok(next)
}

fn same(staged: &Staged, epoch: u32, payload: &[u8]) -> Verdict {
    ensure!(epoch == staged.epoch, "epoch {epoch}, staged under {}", staged.epoch);
    let (len, want) = (payload.len(), staged.len);
    ensure!(len == want, "{len} bytes, staged {want}");
    ensure!(payload == staged.payload(), "the payload differs");
    Ok(())
}

/// Reads a whole log and returns where it ends.
///
/// # Errors
/// As [`read_on`].
pub fn read_all(log: &Log, truth: &LogTruth) -> Verdict<u64> {
    let start = log.start().map_err(|e| e.to_string())?.0;
    if let Some(below) = start.checked_sub(1) {
        let answer = log.reader(From::Lsn(Lsn(below))).map(|_| ());
        let told = matches!(answer, Err(Error::Trimmed { start: Lsn(at) }) if at == start);
        ensure!(told, "below the start {start}: {answer:?}");
    }
    let mut reader = log.reader(From::Start).map_err(|e| e.to_string())?;
    read_on(&mut reader, truth, start, u64::MAX / 2)
}

/// The log's durable cursor is where it was told to be, or asked.
fn cursor(log: &Log, truth: &LogTruth, count: u64) -> Verdict {
    let cursor = log.cursor(CURSOR).and_then(|cursor| cursor.get()).map_err(|e| e.to_string())?;
    let at = cursor.map(|lsn| lsn.0);
    let cut = truth.cut_asked.map(|cut| truth.cursor.map(|cursor| cursor.min(cut)));
    let fits = at == truth.cursor || truth.cursor_asked == Some(at) || cut == Some(at);
    ensure!(fits, "cursor at {at:?}, told {:?}, asked {:?}", truth.cursor, truth.cursor_asked);
    ensure!(at.is_none_or(|at| at <= count), "cursor at {at:?} of {count} records");
    Ok(())
}

/// Where each log of an engine that was just opened ends, each record checked; the logs are
/// those of the model, give or take those whose creation was under way.
///
/// # Errors
/// When the engine has another set of logs, or a log another content.
pub fn survey(engine: &Engine, model: &Model) -> Verdict<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let blank = LogTruth::default();
    for info in engine.logs() {
        let truth = match model.logs.get(&info.name) {
            Some(truth) => truth,
            None if model.maybe.contains(&info.name) => &blank,
            None => return Err(format!("log {:?} was never created", info.name)),
        };
        let told = |what: String| format!("log {:?}: {what}", info.name);
        let log = engine.find(&info.name).map_err(|e| told(e.to_string()))?;
        let log = log.ok_or_else(|| told("listed and not found".into()))?;
        let count = read_all(&log, truth).map_err(told)?;
        if info.durable != Lsn(count) {
            return Err(told(format!("durable end {}, read up to {count}", info.durable)));
        }
        let starts = truth.start..=truth.start_asked;
        if !starts.contains(&info.start.0) {
            return Err(told(format!("starts at {}, not in {starts:?}", info.start)));
        }
        if info.epoch.0 < truth.epoch {
            return Err(told(format!("epoch {}, {} was taken", info.epoch, truth.epoch)));
        }
        cursor(&log, truth, count).map_err(told)?;
        ensure!(!model.gone.contains(&info.id), "{} was deleted, its id is used again", info.id);
        ensure!(truth.id.is_none_or(|id| id == info.id), "log {:?} has another id", info.name);
        found.push((info.name, count));
    }
    for (name, truth) in &model.logs {
        let there = found.iter().any(|(n, _)| n == name);
        ensure!(there || truth.doomed, "log {name:?} is gone");
    }
    Ok(found)
}

/// How many records a survey found in a log.
#[must_use]
pub fn count_of(found: &[(String, u64)], log: &str) -> u64 {
    found.iter().find(|(name, _)| name == log).map_or(0, |(_, count)| *count)
}

/// Whatever was staged as one is there as one, or not at all; `count` tells how many records a log
/// has.
///
/// # Errors
/// When a part of it is there.
pub fn all_or_nothing(model: &Model, count: impl Fn(&str) -> u64) -> Verdict {
    let doomed = |log: &str| model.logs.get(log).is_some_and(|truth| truth.doomed);
    for whole in &model.wholes {
        let mut there = whole.iter().filter(|(log, ..)| !doomed(log));
        let all = there.clone().all(|(log, _, end)| count(log) >= *end);
        let nothing = there.all(|(log, first, _)| count(log) <= *first);
        ensure!(all || nothing, "a part of what was staged as one: {whole:?}");
    }
    Ok(())
}

/// After an open: the contract's points 1, 2, 3 and 5. The model then goes on from what was found.
///
/// # Errors
/// When the contract is broken.
pub fn after_open(engine: &Engine, model: &mut Model) -> Verdict {
    let found = survey(engine, model)?;
    let names: Vec<String> = model.logs.keys().cloned().collect();
    for name in names.into_iter().filter(|name| !found.iter().any(|(n, _)| n == name)) {
        model.delete(&name);
    }
    all_or_nothing(model, |log| count_of(&found, log))?;
    model.wholes.clear();
    for (name, count) in found {
        let truth = model.logs.entry(name.clone()).or_default();
        let log = engine.find(&name).map_err(|e| e.to_string())?.ok_or("listed and not found")?;
        truth.settle_start(log.start().map_err(|e| e.to_string())?.0)?;
        truth.settle_cut(count);
        let (kept, taken) = truth.settle(count).map_err(|e| format!("log {name:?}: {e}"))?;
        let cursor =
            log.cursor(CURSOR).and_then(|cursor| cursor.get()).map_err(|e| e.to_string())?;
        truth.id = Some(log.id());
        (truth.cursor, truth.cursor_asked) = (cursor.map(|lsn| lsn.0), None);
        truth.doomed = false;
        model.kept += kept;
        model.taken += taken;
    }
    model.maybe.clear();
    let logs = &model.logs;
    model.freed.retain(|name| !logs.contains_key(name));
    Ok(())
}
