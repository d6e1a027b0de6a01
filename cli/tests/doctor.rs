//! `doctor`, on whatever stands at the place it is given: it tells, and leaves it as it was.
//!
//! What the machine is like is not for a test to say: only that the code fits what was told.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;

use common::{Place, lines, until};
use serde_json::Value;

/// What it tells, by row.
fn doctor(place: &Place, dir: &str) -> BTreeMap<String, Value> {
    let ran = place.run(&["doctor", "--dir", dir, "--json"]);
    let rows: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad = rows.iter().any(|row| row["verdict"] == "bad");
    assert_eq!(ran.code, if bad { 10 } else { 0 }, "{} {}", ran.text(), ran.err);
    for row in &rows {
        assert!(["ok", "note", "warning", "bad"].contains(&row["verdict"].as_str().unwrap()));
        assert!(!row["advice"].as_str().unwrap().is_empty(), "{row}");
        assert!(!row["value"].as_str().unwrap().is_empty(), "{row}");
    }
    let count = rows.len();
    let rows: BTreeMap<String, Value> =
        rows.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row)).collect();
    assert_eq!(rows.len(), count, "a row stands twice");
    rows
}

/// Names and bytes of a directory.
fn contents(place: &Place, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(place.path(dir)).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_place_where_nothing_is_yet_is_measured_and_stays_so() {
    let place = Place::new();
    let rows = doctor(&place, "not/there/yet");
    assert!(!place.path("not").exists());
    assert_eq!(rows["place"]["verdict"], "note");
    assert_eq!(rows["directory"]["value"], "not there yet");
    for name in [
        "kernel",
        "io_uring",
        "unit",
        "direct I/O",
        "write cache",
        "file system",
        "durable write",
        "locked memory",
        "open files",
        "space",
        "inodes",
        "clock",
        "cores",
        "swap",
    ] {
        assert!(rows.contains_key(name), "no row {name:?} in {:?}", rows.keys());
    }
    let figures = rows["durable write"]["measured"].as_array().unwrap();
    assert!(figures.len() >= 2, "{figures:?}");
    for figure in figures.iter().chain(rows["clock"]["measured"].as_array().unwrap()) {
        assert!(figure["value"].as_f64().unwrap() > 0.0 && figure["unit"] == "us", "{figure}");
    }
    fs::create_dir(place.path("wal")).unwrap();
    assert_eq!(doctor(&place, "wal")["directory"]["value"], "empty");
    assert!(contents(&place, "wal").is_empty());
}

#[test]
fn what_is_not_ours_is_told_and_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("wal")).unwrap();
    fs::write(place.wal("notes.txt"), b"mine").unwrap();
    let rows = doctor(&place, "wal");
    assert_eq!(rows["directory"]["verdict"], "bad");
    assert!(rows["directory"]["advice"].as_str().unwrap().contains("another one"));
    assert_eq!(contents(&place, "wal"), [("notes.txt".into(), b"mine".to_vec())].into());
    place.write("file", b"x");
    assert_eq!(doctor(&place, "file")["place"]["verdict"], "bad");
    assert_eq!(fs::read(place.path("file")).unwrap(), b"x");
}

#[test]
fn a_directory_of_logs_shows_what_it_is_and_stays_as_it_was() {
    let place = Place::new();
    place.append(&lines(0..500));
    let before = contents(&place, "wal");
    let rows = doctor(&place, "wal");
    assert_eq!(contents(&place, "wal"), before);
    let facts = rows["directory"]["value"].as_str().unwrap();
    for word in ["1 log,", "1 shard,", "unit 4096", "segments of 1.0 MiB"] {
        assert!(facts.contains(word), "no {word:?} in {facts}");
    }
    assert!(rows["use"]["value"].as_str().unwrap().contains("term 1, closed in order"));
    let text = place.run(&["doctor", "--dir", "wal"]);
    text.shows(&["VERDICT", "durable write", "median of", "1 log, 1 shard"]);
}

#[test]
fn a_directory_that_may_not_be_written_is_told() {
    let place = Place::new();
    place.append(b"a\n");
    let before = contents(&place, "wal");
    fs::set_permissions(place.path("wal"), fs::Permissions::from_mode(0o555)).unwrap();
    let rows = doctor(&place, "wal");
    assert!(rows["directory"]["value"].as_str().unwrap().contains("1 log"));
    fs::set_permissions(place.path("wal"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(contents(&place, "wal"), before);
    // Nobody writes here, not even root.
    let rows = doctor(&place, "/proc");
    assert_eq!(rows["durable write"]["verdict"], "bad");
    assert!(rows["durable write"]["value"].as_str().unwrap().contains("not measured"));
}

#[test]
fn damage_and_a_writer_are_told() {
    let place = Place::new();
    let mut writer = place.spawn(&["append", "x", "--dir", "wal", "--acks"]);
    let mut pipe = writer.stdin.take().unwrap();
    writeln!(pipe, "held {}", "~".repeat(5000)).unwrap();
    let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert_eq!(acks.next().unwrap().unwrap(), "1:0");
    let rows = doctor(&place, "wal");
    assert!(rows["use"]["value"].as_str().unwrap().contains("another process"));
    // A killed writer leaves no seal: what is damaged is found by the next open.
    until("a mark stands behind the record", || {
        let segment = place.files("segment-")[0].to_str().unwrap().to_owned();
        place.run(&["inspect", &segment, "--brief"]).text().contains("kind=mark")
    });
    writer.kill().unwrap();
    writer.wait().unwrap();
    let (file, at) = place.find(b"held ~~~");
    place.flip(&file, at + 1000);
    let before = contents(&place, "wal");
    let rows = doctor(&place, "wal");
    assert_eq!(rows["damaged"]["verdict"], "bad");
    assert!(rows["damaged"]["value"].as_str().unwrap().contains("\"x\""));
    assert!(rows["use"]["value"].as_str().unwrap().contains("not closed"));
    assert_eq!(contents(&place, "wal"), before);
}
