//! A killed append: every acked line is there, nothing is out of order, `--resume` completes it.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};

use common::{Place, first_lines, lines};

/// Kills an append once so many lines are acked; tells how many were acked by then.
fn kill_after(place: &Place, input: &str, acked: usize) -> usize {
    let args =
        ["append", "x", "--dir", "wal", "--segment-size", "4MiB", "--resume", "--acks", input];
    let mut child = place.spawn(&args);
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = None;
    for _ in 0..acked {
        last = acks.next();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was printed before the kill is still in the pipe; its last line may be cut.
    let rest: Vec<String> = acks.map_while(Result::ok).collect();
    let whole = rest.iter().rev().nth(1).cloned().or(last.transpose().unwrap());
    let lsn = whole.as_deref().and_then(|ack| ack.split_once(':')).unwrap().1;
    lsn.parse::<usize>().unwrap() + 1
}

#[test]
fn a_killed_append_resumes() {
    let place = Place::new();
    let text = lines(0..400_000);
    let input = place.write("input", &text);
    for acked in [1, 20_000, 100_000] {
        let acked = kill_after(&place, &input, acked);
        let read = place.read().ok();
        let there = read.out.iter().filter(|byte| **byte == b'\n').count();
        assert!(there >= acked, "{acked} lines were acked, {there} are there");
        assert!(read.out == first_lines(&text, there), "not a prefix");
        place.run(&["verify", "--dir", "wal"]).ok();
    }
    place.run(&["append", "x", "--dir", "wal", "--resume", &input]).ok();
    assert!(place.read().ok().out == text);
    place.run(&["verify", "--dir", "wal"]).ok().shows(&["400000 records", "no damage"]);
}
