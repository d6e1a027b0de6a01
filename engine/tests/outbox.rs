//! The example `outbox`, run: every message is delivered, in order, across lives that end early.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

// Its `main` is for the terminal.
#[allow(dead_code, unreachable_pub, clippy::mixed_attributes_style)]
#[path = "../examples/outbox.rs"]
mod outbox;

#[test]
fn every_message_is_delivered_at_least_once_and_in_order() {
    let dir = common::folder();
    let wal = dir.path().join("wal");
    let texts: Vec<String> = (0..50).map(|n| format!("message {n}")).collect();
    let messages: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut got: Vec<(u64, String)> = Vec::new();
    let mut deliver = |left: &mut usize, lsn: sapwood::Lsn, message: &[u8]| {
        *left -= 1;
        got.push((lsn.0, String::from_utf8(message.to_vec()).unwrap()));
        *left > 0
    };
    // The relay fails at the 24th message, which was sent and is not noted.
    let mut left = 24;
    let first = outbox::live(&wal, &messages, |lsn, m| deliver(&mut left, lsn, m)).unwrap();
    let mut left = usize::MAX;
    let second = outbox::live(&wal, &[], |lsn, m| deliver(&mut left, lsn, m)).unwrap();
    let third = outbox::live(&wal, &["last"], |lsn, m| deliver(&mut left, lsn, m)).unwrap();
    assert_eq!((first, second, third), (23, 27, 1));
    assert_eq!(got[23].0, 23);
    got.remove(23); // the one that came twice
    let numbers: Vec<u64> = got.iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(numbers, (0..51).collect::<Vec<_>>());
    let said: Vec<&str> = got.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(said, [messages.as_slice(), &["last"]].concat());
}
