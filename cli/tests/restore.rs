//! The tier's main job, in small: appended with a tier, killed now and then, the directory stays
//! small, is deleted, and comes back from the store alone.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};

use common::{Place, first_lines, lines};

fn url(place: &Place) -> String {
    format!("file://{}", place.path("tier").display())
}

fn wal_bytes(place: &Place) -> u64 {
    let files = fs::read_dir(place.path("wal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Appends until so many lines are acked, and is killed.
fn kill_after(place: &Place, append: &[&str], acked: usize) {
    let mut child = place.spawn(append);
    let acks = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(acks.take(acked).filter(|ack| ack.is_ok()).count(), acked);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_killed_and_deleted_comes_back_from_the_store_alone() {
    let place = Place::new();
    let (url, text) = (url(&place), lines(0..400_000));
    let input = place.write("input", &text);
    let append = ["append", "demo", "--dir", "wal", "--segment-size", "1MiB", "--resume"];
    let append = [&append[..], &["--tier", &url, "--local-retention", "2MiB", &input]].concat();
    let with_acks = [&append[..], &["--acks"]].concat();
    for acked in [30_000, 90_000, 60_000] {
        kill_after(&place, &with_acks, acked);
        // The tier is known without being told.
        let read = place.run(&["read", "demo", "--dir", "wal"]).ok();
        let there = read.out.iter().filter(|byte| **byte == b'\n').count();
        assert!(there >= acked && read.out == first_lines(&text, there), "{there} lines");
    }
    place.run(&append).ok();
    let kept = wal_bytes(&place);
    assert!(kept < text.len() as u64 / 2, "{kept} bytes of {} stay", text.len());
    assert_eq!(place.run(&["read", "demo", "--dir", "wal"]).ok().out, text);
    place.feed(&["append", "small", "--dir", "wal"], b"one\ntwo\n").ok();
    place.run(&["logs", "delete", "small", "--dir", "wal"]).ok();
    place.feed(&["append", "little", "--dir", "wal"], b"one\ntwo\n").ok();

    // Without the directory.
    fs::remove_dir_all(place.path("wal")).unwrap();
    let logs = place.run(&["logs", "--tier", &url]).ok().shows(&["demo", "little", "400000"]);
    assert!(!logs.text().contains("small"), "{}", logs.text());
    assert_eq!(place.run(&["read", "demo", "--tier", &url]).ok().out, text);
    let some = ["read", "demo", "--tier", &url, "--from", "399990", "--count", "3"];
    assert_eq!(place.run(&some).ok().out, lines(399_990..399_993));
    place.run(&["read", "nothing", "--tier", &url]).code(8).says(&["nothing"]);
    assert!(!place.path("wal").exists());

    let restore = ["restore", "--from", &url, "--dir", "wal"];
    place.run(&restore).ok().shows(&["restored 2 logs, 400002 records"]);
    place.run(&["verify", "--dir", "wal"]).ok().shows(&["400002 records", "no damage"]);
    assert_eq!(place.run(&["read", "demo", "--dir", "wal"]).ok().out, text);
    place.run(&restore).code(2).says(&["empty"]);
    let more = lines(400_000..400_010);
    let input = place.write("more", &more);
    place.run(&["append", "demo", "--dir", "wal", &input]).ok().shows(&["LSN 400000 to 400009"]);
    assert_eq!(place.run(&["read", "demo", "--dir", "wal"]).ok().out, [text, more].concat());
}

#[test]
fn what_a_store_lacks_is_told() {
    let place = Place::new();
    let (url, text) = (url(&place), lines(0..60_000));
    let input = place.write("input", &text);
    let append = ["append", "x", "--dir", "wal", "--segment-size", "1MiB", "--tier", &url, &input];
    place.run(&append).ok();
    let owner = fs::read_dir(place.path("tier")).unwrap().map(|entry| entry.unwrap().path());
    let owner = owner.into_iter().find(|path| path.join("manifest").is_dir()).unwrap();
    let mut objects: Vec<_> =
        fs::read_dir(owner.join("00000")).unwrap().map(|entry| entry.unwrap().path()).collect();
    objects.sort();
    assert!(objects.len() > 2);
    fs::remove_file(&objects[1]).unwrap();
    let restore = ["restore", "--from", &url, "--dir", "back", "--json"];
    let ran = place.run(&restore).code(3).says(&["is listed in the manifest and is not there"]);
    let told: serde_json::Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!(told["logs"][0]["end"], 60_000, "{told}");
    assert_eq!(told["troubles"].as_array().unwrap().len(), 1, "{told}");
    let read = place.run(&["read", "x", "--dir", "back"]).code(3).says(&["tier"]);
    assert!(!read.out.is_empty() && text.starts_with(&read.out), "what is before it is read");
    // A store that is not there now keeps nobody from appending.
    let away = place.path("away");
    fs::rename(place.path("tier"), &away).unwrap();
    place.write("tier", b"no directory");
    place.feed(&["append", "x", "--dir", "wal"], b"one\n").ok().says(&["nothing is uploaded"]);
    fs::remove_file(place.path("tier")).unwrap();
    fs::rename(&away, place.path("tier")).unwrap();
    // Nothing there, several there, no store.
    let empty = format!("file://{}", place.path("empty").display());
    place.run(&["restore", "--from", &empty, "--dir", "none"]).code(8).says(&["nothing"]);
    place.run(&["restore", "--from", "nowhere", "--dir", "none"]).code(2).says(&["file://PATH"]);
    let other = ["append", "y", "--dir", "second", "--tier", &url];
    place.feed(&other, b"one\n").ok();
    let several = place.run(&["restore", "--from", &url, "--dir", "none"]).code(2);
    let id = owner.file_name().unwrap().to_str().unwrap();
    let several = several.says(&["--history", id]);
    assert!(!place.path("none").exists(), "{}", several.err);
    place.run(&["logs", "--tier", &url, "--history", id]).ok().shows(&["60000"]);
}
