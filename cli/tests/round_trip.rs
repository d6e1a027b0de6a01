//! What is appended comes back, whatever it is.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};

use common::{Place, lines};
use serde_json::Value;

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn odd_inputs_come_back() {
    let long = "x".repeat(200_000);
    let cases: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"\n", b"\n"),
        (b"\n\n\n", b"\n\n\n"),
        (b"one", b"one\n"),
        (b"one\n", b"one\n"),
        (b"a\n\nb\n", b"a\n\nb\n"),
        (b"\r\n\0\xff\xfe\n tab\t\n", b"\r\n\0\xff\xfe\n tab\t\n"),
        (long.as_bytes(), &[long.as_bytes(), b"\n"].concat()),
    ];
    for (input, expected) in cases {
        let place = Place::new();
        place.append(input);
        let read = place.read().ok();
        assert!(read.out == *expected, "{:?}", &input[..input.len().min(20)]);
    }
}

#[test]
fn many_lines_over_many_segments_come_back_from_files_in_order() {
    let place = Place::new();
    let (a, b) = (lines(0..30_000), lines(30_000..60_000));
    let (a_name, b_name) = (place.write("a", &a), place.write("b", &b));
    let args =
        ["append", "x", "--dir", "wal", "--segment-size", "1MiB", a_name.as_str(), b_name.as_str()];
    place.run(&args).ok().shows(&["appended 60000 records", "LSN 0 to 59999", "epoch 1"]);
    assert!(place.files("segment-").len() > 2);
    assert!(place.read().ok().out == [a, b].concat());
}

#[test]
fn every_backend_reads_what_the_others_wrote() {
    let place = Place::new();
    let text = lines(0..1000);
    for log in ["auto", "blocking"] {
        place.feed(&["append", log, "--dir", "wal", "--backend", log], &text).ok();
    }
    for backend in ["auto", "blocking"] {
        for log in ["auto", "blocking"] {
            let read = place.run(&["read", log, "--dir", "wal", "--backend", backend]).ok();
            assert!(read.out == text, "{log} by {backend}");
        }
    }
}

#[test]
fn whole_files_are_records() {
    let place = Place::new();
    let (a, b) = (place.write("a", b"one\ntwo\n"), place.write("b", b""));
    place.run(&["append", "x", "--dir", "wal", "--whole", &a, &b, &a]).ok();
    let raw = place.run(&["read", "x", "--dir", "wal", "--raw"]).ok();
    assert_eq!(raw.out, b"one\ntwo\none\ntwo\n");
    assert_eq!(place.read().out, b"one\ntwo\n\n\none\ntwo\n\n");
}

#[test]
fn acks_are_positions_and_the_summary_stands_apart() {
    let place = Place::new();
    place.append(b"first\n");
    let ran = place.feed(&["append", "x", "--dir", "wal", "--acks"], b"a\nb\nc\n").ok();
    assert_eq!(ran.text(), "2:1\n2:2\n2:3\n");
    ran.says(&["appended 3 records"]);
    let json = place.feed(&["append", "x", "--dir", "wal", "--json"], b"d\n").ok();
    let summary = &objects(&json.text())[0];
    assert_eq!((&summary["records"], &summary["first_lsn"]), (&1.into(), &4.into()));
}

#[test]
fn a_line_on_a_slow_pipe_is_acked_before_the_next_one_comes() {
    let place = Place::new();
    let mut child = place.spawn(&["append", "x", "--dir", "wal", "--acks"]);
    let mut pipe = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 0..5 {
        writeln!(pipe, "line {n}").unwrap();
        assert_eq!(acks.next().unwrap().unwrap(), format!("1:{n}"));
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
}

#[test]
fn json_tells_all_and_keeps_bytes_apart_from_text() {
    let place = Place::new();
    place.append("plain \"quoted\" \u{1F332}\n".as_bytes());
    place.append(b"\xff\x00\n");
    let read = place.run(&["read", "x", "--dir", "wal", "--json"]).ok();
    let records = objects(&read.text());
    assert_eq!(records[0]["payload"], "plain \"quoted\" \u{1F332}");
    assert_eq!(records[1]["payload"]["base64"], "/wA=");
    for (n, record) in records.iter().enumerate() {
        assert_eq!((&record["lsn"], &record["epoch"]), (&n.into(), &(n + 1).into()));
    }
}

#[test]
fn from_anywhere() {
    let place = Place::new();
    place.append(b"a\nb\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    place.append(b"c\nd\n");
    let read = |from: &str| place.run(&["read", "x", "--dir", "wal", "--from", from]);
    assert_eq!(read("start").ok().text(), "a\nb\nc\nd\n");
    assert_eq!(read("tail").ok().text(), "");
    assert_eq!(read("1").ok().text(), "b\nc\nd\n");
    assert_eq!(read("4").ok().text(), "");
    assert_eq!(read("2:3").ok().text(), "d\n");
    assert_eq!(read("2020-01-01T00:00:00Z").ok().text(), "a\nb\nc\nd\n");
    assert_eq!(read("2120-01-01T00:00:00+01:00").ok().text(), "");
    read("5").code(8).says(&["tail is 4"]);
    read("1:3").code(8).says(&["diverged"]);
    read("yesterday").code(2).says(&["EPOCH:LSN"]);

    let json = place.run(&["read", "x", "--dir", "wal", "--json"]).ok();
    let time = objects(&json.text())[2]["time"].as_str().unwrap().to_owned();
    assert_eq!(read(&time).ok().text(), "c\nd\n");

    let counted = place.run(&["read", "x", "--dir", "wal", "--from", "1", "--count", "2"]).ok();
    assert_eq!(counted.text(), "b\nc\n");
}

#[test]
fn following_sees_writers_come_and_go() {
    let place = Place::new();
    place.append(b"before\n");
    let mut child = place.spawn(&["read", "x", "--dir", "wal", "--follow", "--count", "4"]);
    let mut seen = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || seen.next().unwrap().unwrap();
    assert_eq!(next(), "before");
    place.append(b"one\n");
    assert_eq!(next(), "one");
    let mut writer = place.spawn(&["append", "x", "--dir", "wal"]);
    let mut pipe = writer.stdin.take().unwrap();
    for line in ["two", "three"] {
        writeln!(pipe, "{line}").unwrap();
        assert_eq!(next(), line);
    }
    drop(pipe);
    assert!(writer.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.append(&lines(0..50_000));
    let mut child = place.spawn(&["read", "x", "--dir", "wal"]);
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_line_too_long_is_named_and_what_came_before_stays() {
    let place = Place::new();
    let name = place.write("input", format!("a\nb\n{}\nc\n", "x".repeat(1_200_000)).as_bytes());
    let small = ["append", "x", "--dir", "wal", "--segment-size", "1MiB", name.as_str()];
    place
        .run(&small)
        .code(2)
        .says(&["input, line 3", "--record-max"])
        .shows(&["appended 2 records"]);
    assert_eq!(place.read().ok().text(), "a\nb\n");
    // Longer than what is read at once: told without reading it all.
    let name = place.write("input", "y".repeat(5_000_000).as_bytes());
    place.run(&["append", "x", "--dir", "wal", &name]).code(2).says(&["input, line 1"]);
    place.run(&["append", "x", "--dir", "wal", "--whole", &name]).code(2).says(&["longer than"]);

    let large = ["append", "x", "--dir", "large", "--record-max", "6MB", "--whole", &name];
    place.run(&large).ok();
    let read = place.run(&["read", "x", "--dir", "large", "--raw"]).ok();
    assert!(read.out == fs::read(name).unwrap());
}

#[test]
fn resume_skips_what_is_there() {
    let place = Place::new();
    let text = lines(0..5000);
    let name = place.write("input", &text);
    place.append(common::first_lines(&text, 1234));
    place
        .run(&["append", "x", "--dir", "wal", "--resume", &name])
        .ok()
        .shows(&["skipped 1234 records", "appended 3766 records"]);
    assert!(place.read().ok().out == text);
    place.run(&["append", "x", "--dir", "wal", "--resume", &name]).ok().shows(&["appended 0"]);
    let short = place.write("short", b"a\nb\n");
    place.run(&["append", "x", "--dir", "wal", "--resume", &short]).code(1).says(&["only 2"]);
}
