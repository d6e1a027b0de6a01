//! After a run: everything that was written is read back, and has to be whole, in order, complete.
//!
//! Not here: what a record carries to prove itself (`traffic`).

use anyhow::{Context, Result, bail, ensure};
use sapwood::{From, Log, Lsn};

use crate::tally::Written;
use crate::traffic;

/// Where each log ended before a run.
///
/// # Errors
/// Those of the engine.
pub(crate) fn ends(logs: &[Log]) -> Result<Vec<Lsn>> {
    Ok(logs.iter().map(Log::durable).collect::<Result<_, _>>()?)
}

/// Reads each log from where it ended before the run, and compares with what was submitted since.
/// How many records that were.
///
/// # Errors
/// When a record is not what was written, is missing, or is one too many.
pub(crate) fn read_back(logs: &[Log], since: &[Lsn], written: &Written) -> Result<u64> {
    let mut total = 0;
    for (at, (log, since)) in logs.iter().zip(since).enumerate() {
        let of_log = |sequences: &Vec<u32>| sequences.get(at).copied().unwrap_or(0);
        let wanted: Vec<u64> = written.0.iter().map(|each| u64::from(of_log(each))).collect();
        let count: u64 = wanted.iter().sum();
        if count > 0 {
            one_log(log, *since, &wanted).with_context(|| format!("verify {}", log.name()))?;
        }
        total += count;
    }
    Ok(total)
}

fn one_log(log: &Log, since: Lsn, wanted: &[u64]) -> Result<()> {
    let mut reader = log.reader(From::Lsn(since))?;
    let mut next = vec![0; wanted.len()];
    while let Some(record) = reader.next().wait()? {
        let lsn = record.lsn();
        let Some((worker, sequence)) = traffic::check(record.payload()) else {
            bail!("the record at {lsn} is not as it was written");
        };
        let expected = next.get_mut(worker as usize);
        let expected = expected.with_context(|| format!("{lsn} is of no worker"))?;
        ensure!(
            sequence == *expected,
            "{lsn} is record {sequence} of worker {worker}, not {expected}"
        );
        *expected += 1;
    }
    ensure!(next == wanted, "{next:?} records by worker were found, {wanted:?} were acked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Load;
    use crate::traffic::{Shared, Traffic};
    use sapwood::{Config, Engine};
    use std::time::Duration;

    #[test]
    fn what_is_missing_foreign_or_out_of_order_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(Config::new(dir.path().join("wal"))).unwrap();
        let logs = [engine.log("verified").unwrap()];
        let writer = logs[0].writer().unwrap();
        writer.append(b"of a run before").wait().unwrap();
        let since = ends(&logs).unwrap();
        let mut traffic = Traffic::new(&Shared::of(&Load::default()), 0, 1, Duration::ZERO);
        for _ in 0..10 {
            writer.append(traffic.next().1).wait().unwrap();
        }
        let check = |count| read_back(&logs, &since, &Written(vec![vec![count]]));
        assert_eq!(check(10).unwrap(), 10);
        assert!(format!("{:#}", check(11).unwrap_err()).contains("were acked"));
        assert!(check(9).is_err(), "one too many");
        traffic.next();
        writer.append(traffic.next().1).wait().unwrap();
        assert!(format!("{:#}", check(12).unwrap_err()).contains("not 10"), "a gap");
        let since = ends(&logs).unwrap();
        writer.append(b"foreign").wait().unwrap();
        let foreign = read_back(&logs, &since, &Written(vec![vec![1]])).unwrap_err();
        assert!(format!("{foreign:#}").contains("not as it was written"));
        engine.close().unwrap();
    }
}
