//! Rot and surgery on a real directory: told, never skipped, never made worse; and what can be
//! mended is mended. A sweep of flips covers another share of the bytes in every run (by the
//! clock), or all of them with `SAPWOOD_FLIPS=all`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use common::{folder, payloads};
use sapwood::{Config, Engine, Error, From, Log, Lsn, Recovery};

fn config(dir: &Path) -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 64 << 10,
        record_bytes_max: 32 << 10,
        stage_bytes: 1 << 20,
        idle_mark_delay: std::time::Duration::from_secs(50),
        ..Config::new(dir)
    }
}

fn payload(log: u8, n: u64) -> Vec<u8> {
    vec![log ^ n as u8; 100 + (n * 37 % 900) as usize]
}

/// How the directory that is operated on came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Copied while it was open: as a power cut leaves it, all acked.
    Open,
    /// Closed in order.
    Closed,
}

/// Two logs of `count` records, every one acked by itself.
fn make(dir: &Path, count: u64, left: Left) -> PathBuf {
    let home = dir.join("home");
    let engine = Engine::open(config(&home)).unwrap();
    let (a, b) = (engine.log("a").unwrap(), engine.log("b").unwrap());
    let (a, b) = (a.writer().unwrap(), b.writer().unwrap());
    for n in 0..count {
        a.append(payload(1, n)).wait().unwrap();
        b.append(payload(2, n)).wait().unwrap();
    }
    let copy = dir.join("copy");
    if left == Left::Open {
        copy_dir(&home, &copy);
        engine.close().unwrap();
    } else {
        engine.close().unwrap();
        copy_dir(&home, &copy);
    }
    copy
}

fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, offset: u64, bit: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, offset).unwrap();
}

/// What reading a log came to: how many records from the start are as they were written, and what
/// ended it.
fn read(log: &Log, tag: u8) -> (u64, Option<Error>) {
    let mut reader = log.reader(From::Start).unwrap();
    let mut n = 0;
    loop {
        match reader.next().wait() {
            Ok(Some(record)) => {
                assert_eq!(record.lsn(), Lsn(n), "a record was skipped silently");
                assert_eq!(record.payload(), payload(tag, n), "a record was altered silently");
                n += 1;
            }
            Ok(None) => return (n, None),
            Err(error) => return (n, Some(error)),
        }
    }
}

fn share() -> (u64, u64) {
    if std::env::var("SAPWOOD_FLIPS").is_ok_and(|v| v == "all") {
        return (0, 1);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (u64::from(now.subsec_micros()) % 997, 997)
}

/// A flip anywhere in the used part of a segment: each log is whole, or says where it is damaged.
fn sweep(left: Left) {
    const COUNT: u64 = 40;
    let dir = folder();
    let copy = make(dir.path(), COUNT, left);
    let segment = files(&copy, "segment").remove(0);
    let name = segment.file_name().unwrap().to_owned();
    let used = 4096 * (2 * COUNT + 2);
    let (first, step) = share();
    println!("{left:?}: bytes {first}, {first} + {step}, …");
    let work = dir.path().join("work");
    for (round, offset) in
        (first..used.min(fs::metadata(&segment).unwrap().len())).step_by(step as usize).enumerate()
    {
        copy_dir(&copy, &work);
        flip(&work.join(&name), offset, (offset % 8) as u8);
        let engine = Engine::open(config(&work)).unwrap();
        let mut hit = 0;
        for (tag, name) in [(1, "a"), (2, "b")] {
            let Some(log) = engine.find(name).unwrap() else { panic!("log {name} is gone") };
            match read(&log, tag) {
                (COUNT, None) => {}
                (n, Some(Error::Corrupt(damage))) => {
                    hit += 1;
                    assert!(damage.first <= Lsn(n) && n < COUNT, "at {offset}: {damage}, read {n}");
                    assert_eq!(damage.log, Some(log.id()), "at {offset}: {damage}");
                }
                // The one ambiguity: the last batches of a crash before the next batch or mark.
                (n, None) if left == Left::Open && n + 1 >= COUNT => hit += 1,
                (n, error) => panic!("flip at {offset}: log {name} has {n} records, {error:?}"),
            }
        }
        assert!(hit <= 1, "a flip at {offset} hit two logs");
        engine.close().unwrap();
        if round % 8 == 0 && hit == 1 && left == Left::Open {
            strict_and_salvage(&copy, &work, &name, offset, COUNT);
        }
    }
}

/// The same damage, with the other two choices.
fn strict_and_salvage(copy: &Path, work: &Path, name: &std::ffi::OsStr, offset: u64, count: u64) {
    copy_dir(copy, work);
    flip(&work.join(name), offset, (offset % 8) as u8);
    match Engine::open(Config { recovery: Recovery::Strict, ..config(work) }) {
        Err(Error::Corrupt(_)) => {}
        Ok(engine) => {
            let ends =
                [(1, "a"), (2, "b")].map(|(tag, name)| read(&engine.log(name).unwrap(), tag).0);
            assert!(ends.iter().all(|n| n + 1 >= count), "strict opened with damage at {offset}");
            engine.close().unwrap();
            return;
        }
        Err(other) => panic!("{other}"),
    }
    let engine = Engine::open(Config { recovery: Recovery::Salvage, ..config(work) }).unwrap();
    let mut lost = 0;
    for (tag, name) in [(1u8, "a"), (2, "b")] {
        lost += past_losses(&engine.log(name).unwrap(), tag, count);
        engine.log(name).unwrap().writer().unwrap().append(b"on").wait().unwrap();
    }
    assert_eq!(lost, 1, "salvage of a flip at {offset}");
    engine.close().unwrap();
    let engine = Engine::open(config(work)).unwrap();
    let again: u64 = [(1, "a"), (2, "b")]
        .map(|(tag, n)| past_losses(&engine.log(n).unwrap(), tag, count))
        .iter()
        .sum();
    assert_eq!(again, 1, "a loss is told to every later reader");
    engine.close().unwrap();
}

/// Reads to the end over losses, which are told once each; how many there were.
fn past_losses(log: &Log, tag: u8, count: u64) -> u64 {
    let mut reader = log.reader(From::Start).unwrap();
    let mut losses = 0;
    let mut next = 0;
    loop {
        match reader.next().wait() {
            Ok(Some(record)) => {
                assert_eq!(record.lsn(), Lsn(next));
                let want = if next < count { payload(tag, next) } else { b"on".to_vec() };
                assert_eq!(record.payload(), want);
                next += 1;
            }
            Ok(None) => return losses,
            Err(Error::Lost(damage)) => {
                assert_eq!(damage.first, Lsn(next));
                losses += 1;
                next = damage.last.unwrap().0 + 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_flip_anywhere_in_an_open_segment_is_told() {
    sweep(Left::Open);
}

#[test]
fn a_flip_anywhere_in_a_closed_segment_is_told() {
    sweep(Left::Closed);
}

#[test]
fn a_flip_anywhere_in_one_copy_of_the_manifest_is_mended() {
    for left in [Left::Open, Left::Closed] {
        let dir = folder();
        let copy = make(dir.path(), 10, left);
        let work = dir.path().join("work");
        let (first, _) = share();
        for manifest in files(&copy, "manifest-000") {
            let name = manifest.file_name().unwrap();
            // Headers and entries stand at the fronts of the first frames.
            for offset in (first % 61..40_000).step_by(1999) {
                copy_dir(&copy, &work);
                flip(&work.join(name), offset, (offset % 8) as u8);
                let engine = Engine::open(config(&work))
                    .unwrap_or_else(|e| panic!("{name:?} at {offset}, {left:?}: {e}"));
                for (tag, log) in [(1, "a"), (2, "b")] {
                    let (n, error) = read(&engine.find(log).unwrap().unwrap(), tag);
                    assert!(n == 10 && error.is_none(), "{name:?} at {offset}: {n}, {error:?}");
                }
                engine.close().unwrap();
            }
        }
    }
}

#[test]
fn damage_in_both_copies_of_the_manifest_is_an_error_and_changes_nothing() {
    let dir = folder();
    let copy = make(dir.path(), 10, Left::Open);
    let work = dir.path().join("work");
    // The frame that stands first in each slot, and one behind it.
    for offset in [0, 8, 40, 130, 200] {
        copy_dir(&copy, &work);
        for manifest in files(&work, "manifest-000") {
            flip(&manifest, offset, 3);
        }
        let before: Vec<_> =
            files(&work, "").into_iter().map(|f| fs::metadata(f).unwrap().len()).collect();
        match Engine::open(config(&work)) {
            Err(Error::NotOurs(_) | Error::Corrupt(_) | Error::Unsupported(_)) => {}
            Err(other) => panic!("at {offset}: {other}"),
            Ok(_) => panic!("opened with both manifests damaged at {offset}"),
        }
        let after: Vec<_> =
            files(&work, "").into_iter().map(|f| fs::metadata(f).unwrap().len()).collect();
        assert_eq!(before, after, "a refused open changed the directory");
    }
}

// An index that was old to the last snapshot stayed damaged for ever: the reader was told that a
// write-open builds it again, and no open looked at it.
#[test]
fn a_damaged_or_missing_index_is_built_again() {
    let dir = folder();
    let copy = make(dir.path(), 300, Left::Closed);
    // Once more: then the first segments are old to the snapshot that recovery starts from.
    let engine = Engine::open(config(&copy)).unwrap();
    engine.close().unwrap();
    let work = dir.path().join("work");
    let indexes = files(&copy, "index");
    assert!(indexes.len() > 1, "more than one segment is wanted");
    let name = |n: usize| indexes[n].file_name().unwrap();
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("flipped", |path| flip(path, 4096 + 140, 2)),
        ("cut", |path| fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
    ];
    for which in 0..indexes.len() {
        for (what, harm) in harms {
            copy_dir(&copy, &work);
            harm(&work.join(name(which)));
            for round in 0..2 {
                let engine = Engine::open(config(&work)).unwrap();
                for (tag, log) in [(1, "a"), (2, "b")] {
                    let (n, error) = read(&engine.log(log).unwrap(), tag);
                    assert!(n == 300 && error.is_none(), "{what} {which} {round}: {n}, {error:?}");
                }
                engine.close().unwrap();
            }
        }
    }
}

// Old indexes that were missing together were built newest first: none led back to the one before,
// which was not there yet, and the log seemed to begin in its last segment.
#[test]
fn indexes_that_are_missing_together_are_built_again() {
    let dir = folder();
    let copy = make(dir.path(), 600, Left::Closed);
    Engine::open(config(&copy)).unwrap().close().unwrap();
    let indexes = files(&copy, "index");
    assert!(indexes.len() > 3);
    indexes.iter().for_each(|path| fs::remove_file(path).unwrap());
    for _ in 0..2 {
        let engine = Engine::open(config(&copy)).unwrap();
        for (tag, log) in [(1, "a"), (2, "b")] {
            let (n, error) = read(&engine.log(log).unwrap(), tag);
            assert!(n == 600 && error.is_none(), "{n}, {error:?}");
        }
        engine.close().unwrap();
    }
}

// A segment cut in the middle took the acked records behind the cut with it, and all that told of
// them: the log simply ended there.
#[test]
fn missing_swapped_and_foreign_files_are_told_with_their_names() {
    let dir = folder();
    let copy = make(dir.path(), 300, Left::Open);
    let work = dir.path().join("work");
    let segments = files(&copy, "segment");
    assert!(segments.len() > 1);
    let names: Vec<_> = segments.iter().map(|s| s.file_name().unwrap().to_owned()).collect();
    let open = || Engine::open(config(&work));
    let told = |what: &str, opened: Result<Engine, Error>| match opened {
        Err(error @ (Error::NotOurs(_) | Error::Corrupt(_))) => {
            assert!(error.to_string().contains("segment"), "{what}: {error}");
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(engine) => {
            let found = [(1, "a"), (2, "b")].map(|(tag, log)| read(&engine.log(log).unwrap(), tag));
            let told = |(n, error): &(u64, Option<Error>)| *n == 300 || error.is_some();
            assert!(found.iter().all(told), "{what}: {found:?}");
            assert!(found.iter().any(|(_, e)| e.is_some()), "{what}: not told");
        }
    };
    let last_used = names.len() - 2;
    for (n, name) in names.iter().enumerate().take(last_used + 1) {
        copy_dir(&copy, &work);
        fs::remove_file(work.join(name)).unwrap();
        told(&format!("segment {n} missing"), open());
    }
    copy_dir(&copy, &work);
    fs::rename(work.join(&names[0]), dir.path().join("x")).unwrap();
    fs::rename(work.join(&names[1]), work.join(&names[0])).unwrap();
    fs::rename(dir.path().join("x"), work.join(&names[1])).unwrap();
    told("segments swapped", open());
    copy_dir(&copy, &work);
    let cut = fs::File::options().write(true).open(work.join(&names[last_used])).unwrap();
    cut.set_len(5 * 4096).unwrap();
    told("segment cut", open());
    // Files of others are left alone, and said nothing about.
    copy_dir(&copy, &work);
    fs::write(work.join("notes.txt"), b"mine").unwrap();
    let engine = open().unwrap();
    assert_eq!(read(&engine.log("a").unwrap(), 1).0, 300);
    engine.close().unwrap();
    assert_eq!(fs::read(work.join("notes.txt")).unwrap(), b"mine");
}

// A foreign directory was refused, but only after a probe file had been written into it.
#[test]
fn a_directory_of_others_is_refused_and_left_alone() {
    let dir = folder();
    fs::write(dir.path().join("holiday.jpg"), b"sea").unwrap();
    assert!(matches!(Engine::open(config(dir.path())), Err(Error::NotOurs(_))));
    let left: Vec<_> = files(dir.path(), "");
    assert_eq!(left.len(), 1, "{left:?}");
    // Segments without a manifest: a directory of ours that lost its manifests is not new.
    let copy = make(dir.path(), 5, Left::Closed);
    for manifest in files(&copy, "manifest") {
        fs::remove_file(manifest).unwrap();
    }
    let segments = files(&copy, "segment").len();
    assert!(matches!(Engine::open(config(&copy)), Err(Error::NotOurs(_))));
    assert_eq!(files(&copy, "segment").len(), segments);
    // A file where a directory should be.
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert!(Engine::open(config(&file)).is_err());
}

#[test]
fn a_newer_version_is_unsupported_never_corrupt() {
    for prefix in ["manifest", "segment"] {
        let dir = folder();
        let copy = make(dir.path(), 10, Left::Open);
        for path in files(&copy, prefix) {
            let mut bytes = fs::read(&path).unwrap();
            newer(&mut bytes, prefix);
            fs::write(&path, bytes).unwrap();
        }
        let opened = Engine::open(config(&copy)).map(|_| ());
        assert!(matches!(opened, Err(Error::Unsupported(_))), "{prefix}: {opened:?}");
    }
}

/// Raises the version in a header and sums it anew.
fn newer(bytes: &mut [u8], kind: &str) {
    if bytes[..4].iter().all(|b| *b == 0) {
        return;
    }
    bytes[4..6].copy_from_slice(&2u16.to_le_bytes());
    let (end, seed) = match kind {
        "manifest" => (124, 0),
        _ => (4092, sapwood::format::seed(nonce(bytes))),
    };
    let crc = crc32c::crc32c_append(seed, &bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
}

fn nonce(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[64..72].try_into().unwrap())
}

#[test]
fn a_read_only_directory_can_be_read_and_not_written() {
    let dir = folder();
    let copy = make(dir.path(), 10, Left::Closed);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o500)).unwrap();
    let engine = Engine::open(Config { read_only: true, ..config(&copy) }).unwrap();
    assert_eq!(payloads(&engine.log("a").unwrap()).len(), 10);
    assert!(matches!(engine.log("a").unwrap().writer(), Err(Error::Invalid(_))));
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).unwrap();
}

/// What tells that the last acked batch was durable.
#[derive(Clone, Copy, Debug)]
enum Witness {
    LaterBatch,
    Mark,
    Close,
}

fn with_witness(home: &Path, copy: &Path, witness: Witness, last: &[u8]) {
    let idle_mark_delay = match witness {
        Witness::Mark => std::time::Duration::from_millis(5),
        _ => std::time::Duration::from_secs(50),
    };
    let _ = fs::remove_dir_all(home);
    let engine = Engine::open(Config { idle_mark_delay, ..config(home) }).unwrap();
    let (a, b) = (engine.log("a").unwrap(), engine.log("b").unwrap());
    let (a, b) = (a.writer().unwrap(), b.writer().unwrap());
    for n in 0..9 {
        a.append(payload(1, n)).wait().unwrap();
    }
    a.append(last).wait().unwrap();
    match witness {
        Witness::LaterBatch => assert_eq!(b.append(payload(2, 0)).wait().unwrap().records, 1),
        Witness::Mark => std::thread::sleep(std::time::Duration::from_millis(300)),
        Witness::Close => engine.close().unwrap(),
    }
    copy_dir(home, copy);
    let _ = engine.close();
}

#[test]
fn the_last_acked_batch_has_a_witness() {
    let dir = folder();
    let [home, copy, work] = ["home", "copy", "work"].map(|name| dir.path().join(name));
    let last = b"the very last record that was acked, found by its bytes".repeat(5);
    for witness in [Witness::LaterBatch, Witness::Mark, Witness::Close] {
        with_witness(&home, &copy, witness, &last);
        let segment = files(&copy, "segment").remove(0);
        let bytes = fs::read(&segment).unwrap();
        let at = bytes.windows(last.len()).position(|w| w == last).unwrap() as u64 / 4096 * 4096;
        let end = 272 + 48 + last.len() as u64;
        let (first, _) = share();
        for offset in (first % 13..end).step_by(13) {
            copy_dir(&copy, &work);
            flip(&work.join(segment.file_name().unwrap()), at + offset, (offset % 8) as u8);
            let engine = Engine::open(config(&work)).unwrap();
            let (n, error) = read_until(&engine.log("a").unwrap(), 1, 9, &last);
            let told = matches!(&error, Some(Error::Corrupt(_)));
            // Bytes that nothing reads (reserved for more runs) may turn without harm.
            let whole = n == 10 && error.is_none();
            assert!(told && n == 9 || whole, "{witness:?}, byte {offset}: {n} records, {error:?}");
            let (n, error) = read_until(&engine.log("b").unwrap(), 2, 1, &last);
            let quiet = error.is_none() || matches!(error, Some(Error::Corrupt(_)));
            assert!(quiet && n <= 1, "{witness:?}, byte {offset}: {n}, {error:?}");
            engine.close().unwrap();
        }
    }
}

/// As [`read`], for a log whose record number `known` is `last`.
fn read_until(log: &Log, tag: u8, known: u64, last: &[u8]) -> (u64, Option<Error>) {
    let mut reader = log.reader(From::Start).unwrap();
    let mut n = 0;
    loop {
        match reader.next().wait() {
            Ok(Some(record)) => {
                let want = if n == known { last.to_vec() } else { payload(tag, n) };
                assert_eq!(record.payload(), want, "a record was altered silently");
                n += 1;
            }
            Ok(None) => return (n, None),
            Err(error) => return (n, Some(error)),
        }
    }
}
