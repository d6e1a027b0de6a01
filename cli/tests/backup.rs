//! `backup`: what is in the copy, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, lines};

#[test]
fn a_copy_has_every_record_and_is_verified() {
    let place = Place::new();
    let text = lines(0..30_000);
    place.append(&text);
    place.run(&["backup", "--dir", "wal", "--to", "copy"]).ok().shows(&["copied "]);
    assert_eq!(place.run(&["read", "x", "--dir", "copy"]).ok().out, text);
    place.run(&["verify", "--dir", "copy"]).ok();
    place.run(&["verify", "--dir", "wal"]).ok();
    let again = place.run(&["backup", "--dir", "wal", "--to", "copy"]);
    again.code(2).says(&["empty or a missing directory"]);
    let json = place.run(&["backup", "--dir", "copy", "--to", "second", "--json"]).ok().text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["segments"].as_u64().unwrap() >= 2, "{json}");
    assert_eq!(json["damages"], serde_json::json!([]));
    assert_eq!(place.run(&["read", "x", "--dir", "second"]).ok().out, text);
    place.run(&["backup", "--dir", "new", "--to", "third"]).code(8);
}

#[test]
fn an_unfinished_copy_is_refused() {
    let place = Place::new();
    place.append(b"one\n");
    place.run(&["backup", "--dir", "wal", "--to", "copy"]).ok();
    place.write("copy/unfinished", b"");
    place.run(&["read", "x", "--dir", "copy"]).code(6).says(&["unfinished backup"]);
    let append = ["append", "x", "--dir", "copy"];
    place.feed(&append, b"two\n").code(6).says(&["unfinished backup"]);
}
