//! The tests are tested: what `tests/PLANTED.md` says of the bugs that were planted, and that
//! nothing but its own scripts turns them on.
//!
//! Not here: planting them (`tests/planted.sh`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may build with the cfg.
const BUILDERS: [&str; 2] = ["tests/planted.sh", "tests/lab/powercut.sh"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The bugs of the engine: name, and what each breaks.
fn bugs() -> BTreeMap<String, String> {
    let text = read("engine/src/planted.rs");
    let list = text.split_once("\nbugs! {\n").unwrap().1.split_once("\n}\n").unwrap().0;
    let bug = |line: &str| {
        let (name, rest) = line.trim().split_once(": \"")?;
        Some((name.to_owned(), rest.split('"').next()?.to_owned()))
    };
    list.lines().filter_map(bug).collect()
}

#[test]
fn whatever_was_planted_was_caught_and_most_by_the_simulator() {
    let (bugs, table) = (bugs(), read("tests/PLANTED.md"));
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| bug"));
    let rows: BTreeMap<&str, Vec<&str>> = rows
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .map(|cells: Vec<&str>| (cells[0], cells))
        .collect();
    assert!(bugs.len() >= 40, "{} bugs", bugs.len());
    let strange = rows.keys().find(|name| !bugs.contains_key(**name));
    assert!(strange.is_none(), "no such bug: {strange:?}; run tests/planted.sh");
    let caught = |suite: &str| !suite.is_empty() && !suite.contains("nobody");
    assert!(rows.values().all(|cells| caught(cells[3])), "not caught: {table}");
    let simulated = rows.values().filter(|cells| cells[3] == "simulator").count();
    assert!(simulated >= 25, "{simulated} caught by the simulator");
}

#[test]
fn every_promise_and_every_lesson_has_a_bug() {
    let of = |kind: &str, number: u32| {
        let number = number.to_string();
        let breaks = |text: &String| {
            text.split(kind).nth(1).is_some_and(|rest| {
                let rest = rest.split("lesson").next().unwrap();
                rest.split([' ', ',']).any(|word| word == number)
            })
        };
        bugs().values().any(breaks)
    };
    let missing: Vec<u32> = (1..=10).filter(|point| !of("contract", *point)).collect();
    assert!(missing.is_empty(), "contract {missing:?}");
    let missing: Vec<u32> = (1..=6).filter(|lesson| !of("lesson", *lesson)).collect();
    assert!(missing.is_empty(), "lessons {missing:?}");
}

/// A feature would be turned on for everybody by one who depends on the engine with it; flags in a
/// configuration of cargo would be turned on by standing in a folder.
#[test]
fn nothing_turns_them_on_but_their_scripts() {
    for manifest in ["Cargo.toml", "engine/Cargo.toml", "cli/Cargo.toml", "tests/Cargo.toml"] {
        let text = read(manifest);
        let lines = text.lines().filter(|line| line.contains("planted") && !line.starts_with('#'));
        let strange: Vec<&str> = lines.filter(|line| !line.contains("check-cfg")).collect();
        assert!(strange.is_empty(), "{manifest}: {strange:?}");
    }
    for config in [".cargo/config.toml", ".cargo/config", "engine/build.rs", "cli/build.rs"] {
        assert!(!root().join(config).exists(), "{config} may set flags: look at it here");
    }
    for script in ["tests/planted.sh", "tests/lab/powercut.sh", "tests/lab/kill.sh", ".ci/run"] {
        let sets = read(script).contains("--cfg sapwood_planted\"");
        assert_eq!(sets, BUILDERS.contains(&script), "{script}");
    }
    assert!(!read("justfile").contains("--cfg sapwood_planted"));
}
