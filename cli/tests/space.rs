//! `truncate` and `logs delete`: what is gone, and what is said.

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
