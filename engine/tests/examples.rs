//! The examples run, and come to what they say.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../examples/raft_log.rs"]
mod raft_log;

#[test]
fn a_raft_log_keeps_what_the_last_leader_said() {
    let dir = common::folder();
    let found = raft_log::run(&dir.path().join("wal")).unwrap();
    let found: Vec<_> = found.iter().map(|e| (e.term, e.command.as_str())).collect();
    assert_eq!(found, [(1, "x=1"), (1, "x=2"), (2, "y=1"), (3, "z=1"), (3, "z=2"), (3, "z=3")]);
}
