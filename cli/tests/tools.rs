//! Looking at logs and files, and what the command line says about itself.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, name};
use serde_json::Value;

#[test]
fn logs_are_created_together_and_listed() {
    let place = Place::new();
    let create = ["logs", "create", "a", "b", "c", "--group", "g", "--dir", "wal", "--shards", "2"];
    place.run(&create).ok();
    place.feed(&["append", "d", "--dir", "wal"], b"1\n2\n").ok();
    place.run(&create).ok();
    let list = place.run(&["logs", "--dir", "wal", "--json"]).ok().text();
    let logs: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(logs.len(), 4);
    let of_group: Vec<&Value> = logs.iter().filter(|log| log["group"] == "g").collect();
    assert!(of_group.iter().all(|log| log["shard"] == of_group[0]["shard"]));
    let d = logs.iter().find(|log| log["name"] == "d").unwrap();
    assert_eq!((&d["start"], &d["end"], &d["epoch"]), (&0.into(), &2.into(), &1.into()));
    place.run(&["logs", "--dir", "wal"]).ok().shows(&["NAME", "GROUP", "d "]);
}

#[test]
fn settings_are_given_shown_and_changed() {
    let place = Place::new();
    let create = ["logs", "create", "a", "b", "--group", "g", "--retention-age", "7d"];
    place.run(&[&create[..], &["--dir", "wal"]].concat()).ok().shows(&["retention-age=1w"]);
    place.run(&["logs", "create", "c", "--dir", "wal"]).ok();
    let of = |name: &str| -> Value {
        let list = place.run(&["logs", "--dir", "wal", "--json"]).ok().text();
        let mut logs = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        logs.find(|log| log["name"] == name).unwrap()
    };
    assert_eq!(of("a")["settings"]["retention_secs"], 604_800);
    assert!(of("c")["settings"]["retention_secs"].is_null());
    let set = ["logs", "set", "a", "c", "--retention-bytes", "1GiB", "--dir", "wal"];
    place.run(&set).ok().shows(&["retention-bytes=1.0GiB"]);
    let log = of("a");
    assert_eq!(log["settings"]["retention_bytes"], 1 << 30);
    assert_eq!(log["settings"]["retention_secs"], 604_800, "what is not given stays");
    assert_eq!(log["group"], "g");
    let none = ["logs", "set", "a", "--retention-age", "none", "--dir", "wal"];
    place.run(&none).ok();
    assert!(of("a")["settings"]["retention_secs"].is_null());
    assert_eq!(of("b")["settings"]["retention_secs"], 604_800);
    // A name that is wrong changes nothing; neither does a value.
    let wrong = ["logs", "set", "b", "nobody", "--retention-age", "1s", "--dir", "wal"];
    place.run(&wrong).code(8).says(&["nobody"]);
    let wrong = ["logs", "set", "b", "--retention-age", "soon", "--dir", "wal"];
    place.run(&wrong).code(2).says(&["an age is"]);
    assert_eq!(of("b")["settings"]["retention_secs"], 604_800);
    place.run(&["logs", "set", "b", "--dir", "nowhere"]).code(8);
    assert!(!place.path("nowhere").exists());
}

#[test]
fn every_kind_of_file_can_be_inspected() {
    let place = Place::new();
    place.append(b"hello\nworld\n");
    let show = |path: &std::path::Path, more: &[&str]| {
        let path = path.to_str().unwrap();
        place.run(&[&["inspect", path], more].concat()).ok()
    };
    let segment = place.files("segment-")[0].clone();
    show(&segment, &[]).shows(&["segment ", "batch ", "run ", "payload=hello", "kind=segment"]);
    let brief = show(&segment, &["--brief"]);
    assert!(!brief.text().contains("payload"));
    show(&place.files("manifest-000-a")[0], &[]).shows(&["frame ", "edit=directory"]);
    show(&place.files("index-")[0], &[]).shows(&["entry ", "name=x", "kind=index"]);
    show(&place.wal("lock"), &[]).shows(&["key=pid", "kind=lock"]);
    for file in place.files("") {
        for line in show(&file, &["--json"]).text().lines() {
            let item: Value = serde_json::from_str(line).unwrap();
            assert!(item["item"].is_string(), "{}: {line}", name(&file));
        }
    }
    let foreign = place.write("foreign", b"just text");
    place.run(&["inspect", &foreign]).code(6).says(&["nothing in it is Sapwood's"]);
    place.run(&["inspect", "no-such-file"]).code(8);
}

#[test]
fn completions_and_pages_are_made() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        place.run(&["completions", shell]).ok().shows(&["salvage"]);
    }
    place.run(&["man"]).ok().shows(&[".TH sapwood 1", "Exit codes"]);
    place.run(&["man", "append"]).ok().shows(&["sapwood\\-append", "resume"]);
    place.run(&["man", "nothing"]).code(8);
    place.run(&["man", "--out", "pages"]).ok();
    let pages = fs::read_dir(place.path("pages")).unwrap().count();
    assert!(pages >= 10, "{pages} pages");
}

#[test]
fn the_example_of_the_readme_is_the_one_that_is_tested() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let library = fs::read_to_string(format!("{root}/engine/src/lib.rs")).unwrap();
    let tested: Vec<&str> = library
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .skip_while(|line| *line != "```")
        .skip(1)
        .take_while(|line| *line != "```")
        .filter(|line| !line.starts_with("# "))
        .collect();
    let readme = fs::read_to_string(format!("{root}/README.md")).unwrap();
    let shown: Vec<&str> = readme
        .lines()
        .skip_while(|line| *line != "```rust")
        .skip(1)
        .take_while(|line| *line != "```")
        .map(str::trim)
        .collect();
    let body = |lines: &[&str]| -> Vec<String> {
        lines.iter().filter(|line| !line.is_empty()).map(ToString::to_string).collect()
    };
    assert!(tested.len() > 5);
    assert_eq!(body(&shown), body(&tested));
}
