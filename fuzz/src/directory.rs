//! The judge of a hostile directory: files of a good one, changed; followed, opened for reading,
//! recovered.
//!
//! Invariants: nothing panics, hangs or asks for memory without bound; a record that is shown is
//! the one that was appended at its place, whatever was done to the files. (Only single bytes are
//! set: a CRC that fits four bytes of nonsense is not to be hit.)
//!
//! Not here: structures one by one (the crate's root), a disk that fails (`operations`).

use std::sync::{Arc, OnceLock};

use sapwood::io::buf::AlignedBuf;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::io::{LockOutcome, Mode, Storage};
use sapwood::{Config, Engine, Error, From, Recovery};
use sapwood_tests::small;

/// Bytes of an edit in the input.
const EDIT_BYTES: usize = 6;

/// Edits that one input makes at most.
const EDITS_MAX: usize = 24;

/// A file is changed by blocks of this.
const BLOCK: u64 = 4096;

/// Blocks from the front of a file that edits reach directly; the rest is reached by `end`.
const FRONT: u64 = 128;

/// Logs, and records of each.
const LOGS: usize = 3;
const RECORDS: u64 = 60;

fn payload(log: usize, lsn: u64) -> Vec<u8> {
    let len = if lsn % 20 == 7 { 30_000 } else { 100 + lsn as usize * 7 };
    (0..len).map(|at| (at as u64 * 31 + lsn * 7 + log as u64 * 3) as u8).collect()
}

/// A directory with sealed and unsealed segments, a cut, a start that moved, a batch nobody claims.
fn build() -> (SimStorage, Vec<String>) {
    let disk = SimStorage::new(7, Faults::default());
    let (engine, mut drivers) = small::open(disk.clone(), small::config()).expect("a directory");
    for log in 0..LOGS {
        let made = engine.log(&format!("log-{log}")).expect("a log");
        let writer = made.writer().expect("a writer");
        for lsn in 0..RECORDS {
            writer.submit(payload(log, lsn)).expect("room").wait().expect("durable");
        }
        if log == 1 {
            made.truncate(sapwood::Lsn(5)).expect("truncated");
        }
    }
    for driver in &mut drivers {
        for _ in 0..50 {
            driver.turn(std::time::Duration::from_millis(1));
        }
    }
    let left = disk.crash();
    let names = left.list().expect("names");
    (left, names)
}

fn base() -> &'static (SimStorage, Vec<String>) {
    static BASE: OnceLock<(SimStorage, Vec<String>)> = OnceLock::new();
    BASE.get_or_init(build)
}

/// The first byte says how it is opened; then one edit behind the other.
pub fn follow_dir(data: &[u8]) -> bool {
    let Some((mode, edits)) = data.split_first() else { return false };
    let (base, names) = base();
    let disk = base.crash();
    for edit in edits.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let _ = apply(&disk, names, edit);
    }
    let lock = match mode & 1 {
        // Somebody lives there: followed instead of recovered.
        1 => match disk.lock("lock", b"host") {
            Ok(LockOutcome::Taken(guard)) => Some(guard),
            _ => return false,
        },
        _ => None,
    };
    let look = Config { read_only: true, ..small::config() };
    let shown = Engine::open_on(Arc::new(disk.clone()), look).map(|(engine, _)| read_all(&engine));
    drop(lock);
    let recovery = match mode >> 1 & 3 {
        0 => Recovery::TolerateTail,
        1 => Recovery::Strict,
        2 => Recovery::Salvage,
        _ => return shown.is_ok_and(|records| records > 0),
    };
    let config = Config { recovery, create: false, ..small::config() };
    let Ok((engine, mut drivers)) = small::open(disk, config) else { return false };
    let kept = read_all(&engine);
    for driver in &mut drivers {
        for _ in 0..4 {
            driver.turn(std::time::Duration::from_millis(1));
        }
    }
    kept > 0
}

/// Changes a file: which, which block, where in it, how, with what.
fn apply(disk: &SimStorage, names: &[String], edit: &[u8]) -> std::io::Result<()> {
    let name = &names[usize::from(edit[0]) % names.len()];
    let (file, len) = disk.open(name, Mode::Write)?;
    let blocks = len.div_ceil(BLOCK).max(1);
    let from_end = edit[1] >= 0x80;
    let block = u64::from(edit[1] & 0x7F) % blocks.min(FRONT);
    let block = if from_end { blocks - 1 - block } else { block };
    let at = usize::from(u16::from_le_bytes([edit[2], edit[3]])) % BLOCK as usize;
    let mut buf = AlignedBuf::zeroed(BLOCK as usize)?;
    let got = disk.read_at(&file, block * BLOCK, &mut buf, BLOCK as usize)?;
    match edit[4] % 8 {
        0 | 1 => buf[at] = edit[5],
        2 | 3 => buf[at] ^= 1 << (edit[5] % 8),
        4 => buf.fill(0),
        5 => {
            let other = u64::from(edit[5]) % blocks;
            disk.read_at(&file, other * BLOCK, &mut buf, BLOCK as usize)?;
        }
        6 => return disk.truncate(&file, (block * BLOCK + at as u64).min(len)),
        _ => return disk.remove(name),
    }
    disk.write_at(&file, block * BLOCK, &buf, got.max(1), true)
}

/// Reads every log from its start; how many records were shown.
fn read_all(engine: &Engine) -> u64 {
    let mut shown = 0;
    for info in engine.logs() {
        let number = info.name.strip_prefix("log-").and_then(|number| number.parse().ok());
        let Ok(Some(log)) = engine.find(&info.name) else { continue };
        let Ok(mut reader) = log.reader(From::Start) else { continue };
        let mut last = None;
        for _ in 0..2 * RECORDS {
            match reader.next().wait() {
                Ok(Some(record)) => {
                    let lsn = record.lsn().0;
                    assert!(last.is_none_or(|last| lsn > last), "LSN {lsn} behind {last:?}");
                    last = Some(lsn);
                    let truth = number.filter(|log| *log < LOGS).map(|log| payload(log, lsn));
                    let same = truth.is_none_or(|truth| truth == record.payload());
                    assert!(same && lsn < RECORDS, "{}: LSN {lsn} is another record", info.name);
                    shown += 1;
                }
                Ok(None) => break,
                Err(Error::Lost { .. } | Error::Corrupt(_)) => {}
                Err(_) => break,
            }
        }
    }
    shown
}
