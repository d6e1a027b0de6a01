//! Two processes, one directory, a real etcd: the primary is killed, or stopped for longer than its
//! lease and resumed; the standby takes over by itself, and whatever anybody was acked is there.
#![cfg(feature = "etcd")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::Place;

const LEASE: Duration = Duration::from_secs(2);

/// An etcd on loopback, gone with the test.
struct Etcd {
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Option<Self> {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (at, peer, folder) = (port(), url(port()), tempfile::tempdir().unwrap());
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.path()).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &url(at), "--advertise-client-urls", &url(at)]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            println!("SKIPPED: real-etcd: no etcd in the path");
            return None;
        };
        let etcd = Self { url: url(at), child, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", at)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "etcd does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An appending process: its input, and what it says on stdout and on stderr.
struct Node {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
    warned: Receiver<String>,
    /// Acked positions so far.
    acks: Vec<(u64, u64)>,
    sent: Vec<String>,
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    told
}

impl Node {
    fn start(place: &Place, command: &str, etcd: &Etcd) -> Self {
        let lease = LEASE.as_secs().to_string();
        let args = [command, "x", "--dir", "wal", "--acks", "--etcd", &etcd.url, "--lease", &lease];
        let mut child = place.spawn(&args);
        let said = lines(child.stdout.take().unwrap());
        let warned = lines(child.stderr.take().unwrap());
        let input = child.stdin.take();
        Self { child, input, said, warned, acks: Vec::new(), sent: Vec::new() }
    }

    fn send(&mut self, line: String) {
        let _ = writeln!(self.input.as_mut().unwrap(), "{line}");
        self.sent.push(line);
    }

    /// Sends a line and waits for its ack.
    fn append(&mut self, line: String) {
        self.send(line);
        let ack = self.said.recv_timeout(Duration::from_secs(20)).expect("no ack");
        self.acked(&ack);
    }

    fn acked(&mut self, line: &str) {
        let (epoch, lsn) = line.split_once(':').unwrap();
        self.acks.push((epoch.parse().unwrap(), lsn.parse().unwrap()));
    }

    /// Waits until stderr says this.
    fn says(&self, words: &str, limit: Duration) {
        let give_up = Instant::now() + limit;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let line = self.warned.recv_timeout(left).unwrap_or_else(|_| panic!("no {words:?}"));
            if line.contains(words) {
                return;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Ends the input; its exit code, with all that was acked.
    fn end(mut self) -> (i32, Vec<(u64, u64)>, Vec<String>) {
        self.input = None;
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        while let Ok(line) = self.said.recv_timeout(Duration::from_secs(5)) {
            self.acked(&line);
        }
        (code, self.acks, self.sent)
    }
}

/// The log, by position.
fn log(place: &Place) -> BTreeMap<(u64, u64), String> {
    let ran = place.run(&["read", "x", "--dir", "wal", "--json"]).ok();
    let records = ran.text();
    let records = records.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| record[key].as_u64().unwrap();
        ((number("epoch"), number("lsn")), record["payload"].as_str().unwrap().to_owned())
    });
    records.collect()
}

/// Each ack is a record of the log, in the order in which the lines were sent.
#[track_caller]
fn is_there(who: &str, acks: &[(u64, u64)], sent: &[String], log: &BTreeMap<(u64, u64), String>) {
    for (ack, line) in acks.iter().zip(sent) {
        assert_eq!(log.get(ack), Some(line), "{who}: acked {ack:?}");
    }
}

#[test]
fn a_standby_takes_over_from_a_primary_that_was_killed() {
    let Some(etcd) = Etcd::start() else { return };
    let place = Place::new();
    let mut primary = Node::start(&place, "append", &etcd);
    for n in 0..50 {
        primary.append(format!("first {n}"));
    }
    let mut standby = Node::start(&place, "standby", &etcd);
    standby.says("standing by", Duration::from_secs(10));
    std::thread::sleep(LEASE + Duration::from_millis(500));
    for n in 50..60 {
        primary.append(format!("first {n}"));
    }
    primary.signal("-KILL");
    let killed = Instant::now();
    standby.append("second 0".to_owned());
    let took = killed.elapsed();
    println!("writable again {took:?} after the kill, with a lease of {LEASE:?}");
    assert!(took <= LEASE + Duration::from_secs(1), "{took:?}");
    let (_, acks, sent) = primary.end();
    let (code, theirs, lines) = standby.end();
    assert_eq!((code, acks.len(), theirs.len()), (0, 60, 1));
    let log = log(&place);
    is_there("primary", &acks, &sent, &log);
    is_there("standby", &theirs, &lines, &log);
    assert_eq!(log.len(), 61);
}

#[test]
fn a_primary_that_was_stopped_past_its_lease_acks_nothing_more() {
    let Some(etcd) = Etcd::start() else { return };
    let place = Place::new();
    let mut primary = Node::start(&place, "append", &etcd);
    for n in 0..20 {
        primary.append(format!("first {n}"));
    }
    let mut standby = Node::start(&place, "standby", &etcd);
    standby.says("standing by", Duration::from_secs(10));
    primary.signal("-STOP");
    for n in 20..40 {
        primary.send(format!("first {n}"));
    }
    standby.append("second 0".to_owned());
    primary.signal("-CONT");
    primary.says("lease", Duration::from_secs(10));
    standby.append("second 1".to_owned());
    let (code, acks, sent) = primary.end();
    assert_ne!(code, 0, "it has to say that it lost the directory");
    let (code, theirs, lines) = standby.end();
    assert_eq!((code, theirs.len()), (0, 2));
    let log = log(&place);
    is_there("primary", &acks, &sent, &log);
    is_there("standby", &theirs, &lines, &log);
    println!("{} acks of the primary, {} records", acks.len(), log.len());
}

/// A second writer is refused for as long as the first lives, with who that is.
#[test]
fn a_living_owner_is_told_to_who_comes_second() {
    let Some(etcd) = Etcd::start() else { return };
    let place = Place::new();
    let mut primary = Node::start(&place, "append", &etcd);
    primary.append("first".to_owned());
    let pid = primary.child.id().to_string();
    let args = ["append", "x", "--dir", "wal", "--etcd", &etcd.url, "--lease", "2"];
    let ran = place.feed(&args, b"second\n");
    assert_ne!(ran.code, 0);
    ran.says(&[&pid]);
    assert_eq!(primary.end().0, 0);
    // Given back: nobody waits.
    let begun = Instant::now();
    place.feed(&args, b"second\n").ok();
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    assert_eq!(log(&place).len(), 2);
}
