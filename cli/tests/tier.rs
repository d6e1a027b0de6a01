//! `--tier`: what is appended goes to a store, leaves the directory, and comes back byte for byte.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, lines};

fn url(place: &Place) -> String {
    format!("file://{}", place.path("tier").display())
}

fn file_bytes(dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_was_appended_leaves_and_comes_back() {
    let place = Place::new();
    let (url, text) = (url(&place), lines(0..400_000));
    let file = place.write("input.txt", &text);
    let append = ["append", "x", "--dir", "wal", "--segment-size", "1MiB", "--tier", &url];
    let append = [&append[..], &["--local-retention", "2MiB"]].concat();
    place.run(&[&append[..], &[&file]].concat()).ok().shows(&["appended 400000 records"]);
    let kept = file_bytes(&place.path("wal"));
    assert!(kept < text.len() as u64 / 2, "{kept} bytes of {} stay", text.len());
    assert_eq!(place.run(&["read", "x", "--dir", "wal", "--tier", &url]).ok().out, text);
    // The directory remembers its tier; without it, it is told where the rest is.
    assert_eq!(place.run(&["read", "x", "--dir", "wal"]).ok().out, text);
    let file = place.wal("tier-url");
    let remembered = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    place.run(&["read", "x", "--dir", "wal"]).code(2).says(&["archive"]);
    std::fs::write(&file, remembered).unwrap();
    let status = place.run(&["tier", "status", "--dir", "wal", "--tier", &url, "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status.text()).unwrap();
    assert_eq!(status["segments_behind"], 0, "{status}");
    assert!(status["objects"].as_u64().unwrap() > 8, "{status}");
    // It goes on, by line numbers too.
    let more = lines(400_000..420_000);
    let both = [text, more].concat();
    let file = place.write("input.txt", &both);
    place.run(&[&append[..], &["--resume", &file]].concat()).ok().shows(&["skipped 400000"]);
    assert_eq!(place.run(&["read", "x", "--dir", "wal", "--tier", &url]).ok().out, both);
    place.run(&["tier", "status", "--dir", "wal", "--tier", &url]).ok().shows(&["0 of them not"]);
}

#[test]
fn what_is_no_store_is_refused_before_anything_is_done() {
    let place = Place::new();
    let append = ["append", "x", "--dir", "wal", "--tier"];
    place.feed(&[&append[..], &["s3://bucket"]].concat(), b"a\n").code(2).says(&["s3://"]);
    place.feed(&[&append[..], &["nowhere"]].concat(), b"a\n").code(2).says(&["file://PATH"]);
    assert!(!place.path("wal").exists());
    place.write("taken", b"a file");
    let taken = format!("file://{}", place.path("taken").display());
    place.feed(&[&append[..], &[&taken]].concat(), b"a\n").says(&["taken"]);
    assert!(!place.path("wal").exists());
    place.feed(&["append", "x", "--dir", "wal", "--no-wait"], b"a\n").code(2).says(&["--tier"]);
}
