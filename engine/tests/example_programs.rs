//! Examples that are whole programs: each is run as one, and does what it says.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::folder;

/// The program of an example. `cargo test` has built it; a test of this file alone has not.
fn program(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let built = deps.ancestors().nth(2).unwrap().join("examples").join(name);
    if !built.exists() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let target = built.ancestors().nth(3).unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", name, "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(target)
            .status();
        assert!(built.unwrap().success());
    }
    built
}

#[track_caller]
fn run(name: &str) -> String {
    let dir = folder();
    // Twice: what is there already is gone on with.
    let mut said = String::new();
    for _ in 0..2 {
        let output = Command::new(program(name)).arg(dir.path().join("wal")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {error}");
        said = String::from_utf8(output.stdout).unwrap();
    }
    said
}

#[test]
fn thread_per_core() {
    assert_eq!(run("thread_per_core"), "2 cores appended 8000 records\n");
}

#[test]
fn follower() {
    let said = run("follower");
    assert_eq!(said, "the follower saw all 502 records; the last: 1003: good night\n");
}
