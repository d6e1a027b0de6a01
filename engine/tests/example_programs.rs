//! Examples that are whole programs: each is run as one, and does what it says.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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

/// A store in `dir`, its commands and its answers.
fn store(dir: &Path) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(program("kv_wal"))
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, commands, BufReader::new(answers).lines())
}

/// What the store in `dir` holds, and how many changes it had to replay.
fn held(dir: &Path) -> (BTreeMap<String, String>, usize) {
    let (mut child, mut commands, mut answers) = store(dir);
    writeln!(commands, "list").unwrap();
    drop(commands);
    let said = answers.next().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    let entries = said.split(' ').filter_map(|entry| entry.split_once('='));
    let map = entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let replays = said.rsplit_once('(').unwrap().1.split(' ').next().unwrap();
    (map, replays.parse().unwrap())
}

/// Killed at any moment, with commands under way and snapshots among them: the map is as it was
/// after some command, not before the last one that was answered.
#[test]
fn kv_wal_is_killed_and_comes_back() {
    let dir = folder();
    let dir = dir.path().join("kv");
    let mut model = BTreeMap::new();
    for round in 0..4 {
        let told: Vec<String> = (0..900)
            .map(|n| match n % 90 {
                89 => "snapshot".to_owned(),
                n if n % 3 == 2 => format!("delete key{}", n % 8),
                _ => format!("put key{} {round}.{n}", n % 8),
            })
            .collect();
        let (mut child, mut commands, answers) = store(&dir);
        commands.write_all((told.join("\n") + "\n").as_bytes()).unwrap();
        let answered = 150 + 137 * round;
        for answer in answers.take(answered) {
            assert_eq!(answer.unwrap(), "ok");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (found, replays) = held(&dir);
        let mut possible = false;
        for (done, command) in told.iter().enumerate() {
            possible |= done >= answered && model == found;
            match command.split(' ').collect::<Vec<_>>()[..] {
                ["put", key, value] => drop(model.insert(key.to_owned(), value.to_owned())),
                ["delete", key] => drop(model.remove(key)),
                _ => {}
            }
        }
        assert!(possible || model == found, "round {round}: {found:?}");
        // One snapshot in ninety commands, and the one before if a crash came between.
        assert!(replays <= 2 * 90, "{replays} to replay: snapshots let nothing go");
        model = found;
    }
}
