//! `--tier s3://…`, by the program itself: appended, killed, resumed, read back byte for byte,
//! while requests fail on the way; and what a user is told.

use std::io::{BufRead, BufReader};
use std::process::Command;

use super::common::{self, lines};
use super::place::{Place, impatient};
use super::proxy::{Fault, To};

const LINES: u64 = 300_000;

/// Of a thousand requests, those that meet a fault.
const FAULTS: u64 = 60;

/// A command with the environment that S3's tools know, and nothing of the machine's own.
fn command(logs: &common::Place, place: &Place, args: &[&str]) -> Command {
    let mut command = logs.command(args);
    command
        .env("AWS_ACCESS_KEY_ID", place.keys().id)
        .env("AWS_SECRET_ACCESS_KEY", place.keys().secret)
        .env("AWS_ENDPOINT_URL", format!("http://{}", place.proxy.address()))
        .env("AWS_REGION", "eu-x-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn run(logs: &common::Place, place: &Place, args: &[&str]) -> common::Ran {
    common::Ran::of(command(logs, place, args).output().unwrap())
}

/// Kills an append once so many lines are acked.
fn kill_after(logs: &common::Place, place: &Place, args: &[&str], acked: usize) {
    let mut child = command(logs, place, args).spawn().unwrap();
    let acks = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(acks.take(acked).filter(Result::is_ok).count(), acked, "it ended before");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_appended_comes_back_from_s3_after_kills_and_faults() {
    let (logs, place) = (common::Place::new(), Place::new());
    let text = lines(0..LINES);
    let input = logs.write("input.txt", &text);
    // As users write it: the environment says where the service is.
    let url = place.short_url();
    place.proxy.fail_by_chance(7, FAULTS);
    let append = ["append", "x", "--dir", "wal", "--segment-size", "1MiB", "--tier", &url];
    let append = [&append[..], &["--local-retention", "2MiB", "--resume"]].concat();
    for acked in [2_000, 60_000, 120_000] {
        kill_after(&logs, &place, &[&append[..], &["--acks", &input]].concat(), acked);
    }
    run(&logs, &place, &[&append[..], &[&input]].concat()).ok();
    let files = std::fs::read_dir(logs.path("wal")).unwrap();
    let kept: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(kept < text.len() as u64, "{kept} bytes of {} stay", text.len());
    let read = ["read", "x", "--dir", "wal", "--tier", &url];
    assert!(run(&logs, &place, &read).ok().out == text, "other bytes came back");
    let status = run(&logs, &place, &["tier", "status", "--dir", "wal", "--tier", &url, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.ok().text()).unwrap();
    assert_eq!(status["segments_behind"], 0, "{status}");
    assert!(status["objects"].as_u64().unwrap() > 5, "{status}");
}

/// The URL alone, without `AWS_ENDPOINT_URL`; a store that is down costs no append anything.
#[test]
fn a_store_that_is_down_keeps_nothing_from_being_appended() {
    let (logs, place) = (common::Place::new(), Place::new());
    let url = place.url().to_string();
    let text = lines(0..30_000);
    let input = logs.write("input.txt", &text);
    let append = ["append", "x", "--dir", "wal", "--segment-size", "1MiB", "--tier", &url];
    let first = [&append[..], &["--no-wait", &input]].concat();
    let ran = |args: &[&str]| {
        let output = command(&logs, &place, args).env_remove("AWS_ENDPOINT_URL").output();
        common::Ran::of(output.unwrap())
    };
    // It was there when it was probed, and then no more.
    place.proxy.fail_objects(Fault::LostRequest);
    ran(&first).ok().shows(&["appended 30000 records"]);
    place.proxy.forget();
    ran(&[&append[..], &["--resume", &input]].concat()).ok().shows(&["skipped 30000"]);
    assert!(ran(&["read", "x", "--dir", "wal", "--tier", &url]).ok().out == text);
    ran(&["tier", "status", "--dir", "wal", "--tier", &url]).ok().shows(&["0 of them not"]);
}

#[test]
fn a_user_is_told_what_to_do() {
    let (logs, place) = (common::Place::new(), Place::new());
    let input = logs.write("input.txt", b"a\n");
    let url = place.short_url();
    let append = ["append", "x", "--dir", "wal", "--tier", &url, &input];
    place.proxy.fail(To::Put, Fault::Answers(400, "ExpiredToken"), impatient().attempts * 4);
    run(&logs, &place, &append).code(1).says(&["renew them"]);
    place.proxy.forget();
    let without = command(&logs, &place, &append)
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .output();
    common::Ran::of(without.unwrap()).code(1).says(&["AWS_ACCESS_KEY_ID"]);
    assert!(!logs.path("wal").exists(), "something was done before it was refused");
}
