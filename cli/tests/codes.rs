//! Exit codes and what is said with them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};

use common::{Place, until};

#[test]
fn a_directory_that_is_written_is_locked_and_can_be_read() {
    let place = Place::new();
    let mut writer = place.spawn(&["append", "x", "--dir", "wal", "--acks"]);
    let mut pipe = writer.stdin.take().unwrap();
    writeln!(pipe, "held").unwrap();
    let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert_eq!(acks.next().unwrap().unwrap(), "1:0");

    let pid = writer.id().to_string();
    place.feed(&["append", "x", "--dir", "wal"], b"other\n").code(4).says(&[&pid, "sapwood read"]);
    place.run(&["salvage", "--dir", "wal", "--yes"]).code(4);
    until("the record is seen", || place.read().ok().out == b"held\n");
    place.run(&["verify", "--dir", "wal"]).ok();
    place.run(&["logs", "--dir", "wal"]).ok().shows(&["x"]);

    drop(pipe);
    assert!(writer.wait().unwrap().success());
    place.append(b"other\n");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("wal")).unwrap();
    fs::write(place.wal("notes.txt"), b"mine").unwrap();
    let append = place.feed(&["append", "x", "--dir", "wal"], b"a\n");
    append.code(6).says(&["notes.txt", "empty"]);
    place.read().code(6);
    place.run(&["verify", "--dir", "wal"]).code(6);
    assert_eq!(fs::read_dir(place.path("wal")).unwrap().count(), 1);
    assert_eq!(fs::read(place.wal("notes.txt")).unwrap(), b"mine");
}

#[test]
fn what_is_not_there_is_said() {
    let place = Place::new();
    for args in [
        ["read", "x", "--dir", "wal"].as_slice(),
        &["verify", "--dir", "wal"],
        &["logs", "--dir", "wal"],
        &["salvage", "--dir", "wal", "--yes"],
    ] {
        place.run(args).code(8).says(&["there is no directory wal"]);
        assert!(!place.path("wal").exists(), "{args:?} made it");
    }
    place.append(b"a\n");
    place.run(&["read", "y", "--dir", "wal"]).code(8).says(&["no log named \"y\"", "sapwood logs"]);
    // A missing input is found before a directory is made.
    place.run(&["append", "x", "--dir", "new", "no-such-file"]).code(1).says(&["no-such-file"]);
    assert!(!place.path("new").exists());
    let file = place.write("file", b"");
    place.run(&["read", "x", "--dir", &file]).code(8).says(&["is a file"]);
}

#[test]
fn wrong_settings_are_refused() {
    let place = Place::new();
    let append = |more: &[&str]| {
        let args = [&["append", "x", "--dir", "wal"], more].concat();
        place.feed(&args, b"a\n").code(2)
    };
    append(&["--segment-size", "1KiB"]).says(&["segment"]);
    append(&["--record-max", "1GiB"]).says(&["--segment-size"]);
    append(&["--shards", "0"]).says(&["shards"]);
    append(&["--segment-size", "much"]);
    place.feed(&["append", "bad\nname", "--dir", "wal"], b"a\n").code(2).says(&["name"]);
    place.run(&["no-such-command"]).code(2);
    place.run(&["read", "x"]).code(2).says(&["--dir"]);
}

#[test]
fn the_codes_are_the_same_everywhere() {
    let help = Place::new().run(&["--help"]).ok().text();
    let table: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Exit codes:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    assert_eq!(table.len(), 11);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for line in table {
        let (code, meaning) = line.split_once("  ").unwrap();
        assert!(readme.contains(&format!("| {code} | {meaning} |")), "README lacks {line:?}");
    }
}
