//! `truncate`, `logs delete` and `gc`: what is gone, and what is said.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, first_lines, lines};

#[test]
fn a_log_is_truncated_and_stays_so() {
    let place = Place::new();
    let text = lines(0..100);
    place.append(&text);
    let truncate = |lsn: &str, more: &[&str]| {
        place.run(&[&["truncate", "x", lsn, "--dir", "wal"], more].concat())
    };
    truncate("40", &[]).ok().shows(&["starts at LSN 40", "ends at LSN 100"]);
    assert_eq!(place.read().ok().out, text[first_lines(&text, 40).len()..]);
    place.run(&["read", "x", "--dir", "wal", "--from", "39"]).code(8).says(&["starts at 40"]);
    let json: serde_json::Value =
        serde_json::from_str(&truncate("30", &["--json"]).ok().text()).unwrap();
    assert_eq!(json, serde_json::json!({ "log": "x", "start": 40, "end": 100 }));
    truncate("101", &[]).code(8).says(&["the log's tail is 100"]);
    truncate("100", &[]).ok();
    assert_eq!(place.read().ok().out, b"");
    place.append(b"more\n");
    assert_eq!(place.read().ok().out, b"more\n");
    place.run(&["verify", "--dir", "wal"]).ok();
    place.run(&["truncate", "y", "1", "--dir", "wal"]).code(8).says(&["sapwood logs"]);
    place.run(&["truncate", "x", "1", "--dir", "new"]).code(8).says(&["there is no directory"]);
}

#[test]
fn a_log_is_deleted_and_its_name_is_free() {
    let place = Place::new();
    place.append(b"one\n");
    place.run(&["logs", "create", "y", "z", "--dir", "wal"]).ok();
    let delete = |names: &[&str]| {
        place.run(&[&["logs", "delete"], names, &["--dir", "wal", "--json"]].concat())
    };
    delete(&["x", "none"]).code(8).says(&["no log named \"none\"", "sapwood logs"]);
    assert_eq!(place.read().ok().out, b"one\n", "all of them or none");
    let told = delete(&["x", "y", "x"]).ok().text();
    assert!(told.lines().count() == 3 && told.contains("\"y\""), "{told}");
    place.run(&["read", "x", "--dir", "wal"]).code(8).says(&["no log named"]);
    let left = place.run(&["logs", "--dir", "wal", "--json"]).ok().text();
    assert!(left.lines().count() == 1 && left.contains("\"z\""), "{left}");
    place.append(b"two\n");
    assert_eq!(place.read().ok().out, b"two\n");
    place.run(&["verify", "--dir", "wal"]).ok();
    place.run(&["logs", "delete", "x", "--dir", "new"]).code(8).says(&["there is no directory"]);
}

#[test]
fn space_comes_back_and_pins_are_named() {
    let place = Place::new();
    place.append(&lines(0..40_000));
    let append = ["append", "pin", "--dir", "wal"];
    place.feed(&append, b"one\n").ok();
    let files = place.files("segment-").len();
    assert!(files >= 4, "{files} segments");
    let gc = || -> serde_json::Value {
        let out = place.run(&["gc", "--dir", "wal", "--json"]).ok().text();
        serde_json::from_str(&out).unwrap()
    };
    let all = gc();
    assert_eq!(all["freed_segments"], 0, "{all}");
    assert_eq!(all["kept"][0]["pins"][0]["log"], "x", "{all}");
    place.run(&["truncate", "x", "40000", "--dir", "wal"]).ok();
    let some = gc();
    assert!(some["freed_bytes"].as_u64().unwrap() > 2 << 20, "{some}");
    let kept = some["kept"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "{some}");
    assert_eq!(kept[0]["pins"][0]["log"], "pin", "{some}");
    assert!(place.files("segment-").len() + 3 <= files);
    place.run(&["verify", "--dir", "wal"]).ok();
    place.run(&["gc", "--dir", "wal"]).ok().shows(&["freed 0 segments", "\"pin\": LSN 0 to 0"]);
    place.run(&["truncate", "pin", "1", "--dir", "wal"]).ok();
    place.run(&["gc", "--dir", "wal"]).ok().shows(&["freed 1 segments"]);
    place.append(b"more\n");
    assert_eq!(place.read().ok().out, b"more\n");
}

/// The start moves through the segments: what is left of one moves into a smaller file, and the
/// directory stays sound.
#[test]
fn what_is_kept_of_a_mostly_dead_segment_moves() {
    let place = Place::new();
    place.append(&lines(0..40_000));
    let mut moved = 0;
    for lsn in (2_000..38_000).step_by(2_000) {
        place.run(&["truncate", "x", &lsn.to_string(), "--dir", "wal"]).ok();
        let out = place.run(&["gc", "--dir", "wal", "--json"]).ok().text();
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        let relocated = out["relocated_segments"].as_u64().unwrap();
        assert_eq!(relocated > 0, out["relocated_bytes"].as_u64().unwrap() > 0, "{out}");
        if relocated > 0 {
            place.run(&["verify", "--dir", "wal"]).ok();
        }
        moved += relocated;
    }
    assert!(moved > 0);
    assert_eq!(place.read().ok().out, lines(36_000..40_000));
}
