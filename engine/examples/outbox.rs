//! An outbox: what a program has to tell others is appended with its own work, and a relay delivers
//! it, at least once, going on after a crash where its durable cursor is.
//!
//! `cargo run -p sapwood --example outbox` delivers to the terminal.

// The program around it may touch files; the engine may not.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use sapwood::{Config, Cursor, Engine, From, Log, Lsn};

/// Deliveries after which the relay moves its cursor: so many may come twice after a crash.
const MOVE_EVERY: u64 = 10;

/// Delivers what is in the outbox, in order, until nothing durable is left or `deliver` fails; what
/// was delivered and not yet noted comes again next time. Returns how many were delivered.
fn relay(
    outbox: &Log,
    place: &Cursor,
    mut deliver: impl FnMut(Lsn, &[u8]) -> bool,
) -> sapwood::Result<u64> {
    let from = match place.get()? {
        Some(next) => From::Lsn(next),
        None => From::Start,
    };
    let mut reader = outbox.reader(from)?;
    let mut delivered = 0;
    let mut next = None;
    while let Some(record) = reader.next().wait()? {
        if !deliver(record.lsn(), record.payload()) {
            break;
        }
        delivered += 1;
        let behind = Lsn(record.lsn().0 + 1);
        next = Some(behind);
        if delivered % MOVE_EVERY == 0 {
            place.set(behind)?; // durable: these are not delivered again
        }
    }
    if let Some(next) = next {
        place.set(next)?;
    }
    // Nobody needs them any more; the space is free to go.
    if let Some(done) = place.get()? {
        outbox.truncate(done)?;
    }
    Ok(delivered)
}

/// One life of a program with an outbox in `dir`: says `messages`, then relays.
pub(crate) fn live(
    dir: &Path,
    messages: &[&str],
    deliver: impl FnMut(Lsn, &[u8]) -> bool,
) -> sapwood::Result<u64> {
    let engine = Engine::open(Config::new(dir))?;
    let outbox = engine.log("outbox")?;
    let writer = outbox.writer()?;
    for message in messages {
        writer.append(message.as_bytes()).wait()?;
    }
    let delivered = relay(&outbox, &outbox.cursor("relay")?, deliver)?;
    engine.close()?;
    Ok(delivered)
}

fn main() -> sapwood::Result<()> {
    let dir = std::env::temp_dir().join(format!("sapwood-outbox-{}", std::process::id()));
    live(&dir, &["hello", "world"], |lsn, message| {
        println!("{lsn}: {}", String::from_utf8_lossy(message));
        true
    })?;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        eprintln!("{}: {error}", dir.display());
    }
    Ok(())
}
