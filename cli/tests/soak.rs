//! A soak in small: killed a few times in a few seconds, also while it opens; what it says.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Place;

/// At 400 appends a second six seconds deleted a log or two, or, with other chance, none: this was
/// green by its seed. At ten times that a run without one is as likely as a failing disk.
#[test]
fn a_short_soak_agrees_after_every_kill() {
    let place = Place::new();
    let args = ["bench", "soak", "--mins", "0.1", "--logs", "20", "--restart-secs", "0.8"];
    let args = [&args[..], &["--rate", "4000"]].concat();
    let output = place.command(&args).env("SAPWOOD_BENCH_DEBUG", "1").output().unwrap();
    let (said, err) = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b)).into();
    assert!(output.status.success(), "{said}{err}");
    for words in [" 0 disagreements", "resident bytes: ", "plot: sapwood-bench/soak.svg"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let text = fs::read_to_string(place.path("sapwood-bench/soak.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| json[name].as_u64().unwrap();
    assert!(json["kills"].as_array().unwrap().len() >= 3, "killed more than once");
    assert!(number("compared") >= 4 && number("checked") > 1000 && number("acked") > 1000);
    assert!(number("followed") > 100, "followers saw nothing");
    for deed in ["truncations", "cuts", "deletions", "creations"] {
        assert!(json["deeds"][deed].as_u64().unwrap() > 0, "{deed}");
    }
    let left: Vec<_> = fs::read_dir(place.path(".")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "the data is gone: {left:?}");
}
