//! The crash table of FORMAT.md about snapshots, for one that is made over several turns and
//! written in several pieces, while appends go on.
#![cfg(feature = "sim")]
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // its helpers for rot, and for other tables
mod cuts;

use cuts::judge::{Life, Model, config, payload};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{LogOptions, Ticket, Writer};

/// Logs that are created at once.
const PART: usize = 100;

fn create(life: &Life, part: usize) {
    let names: Vec<String> = (0..PART).map(|n| format!("{:0>240}", part * PART + n)).collect();
    let options = LogOptions::default();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), &options)).collect();
    life.engine.create_many(&wanted).unwrap();
}

/// Stages a record without waiting for it.
fn stage(life: &mut Life, writer: &Writer, log: &str) -> Ticket {
    let known = life.model.get_mut(log).unwrap();
    known.staged += 1;
    writer.submit(payload(log, known.staged - 1)).unwrap()
}

/// A slot overflows with so many logs that the snapshot takes several turns, and several writes.
/// What is staged before becomes durable meanwhile: of a log that is taken in early the snapshot
/// knows less than of one that is taken in late.
#[test]
fn snapshot_in_pieces() {
    let disk = SimStorage::new(31, Faults::default());
    let mut life = Life::open(&disk, config(), Model::new(), false);
    let first = life.writer("a");
    life.append(&first, "a", 9);
    life.cut(&first, "a", 1, 5);
    (0..13).for_each(|part| life.step(|life| create(life, part)));
    let last = life.writer("z");
    life.append(&last, "z", 3);
    life.tap.record(true);
    for part in 13..16 {
        let tickets = [("a", &first), ("z", &last), ("a", &first)]
            .map(|(log, writer)| stage(&mut life, writer, log));
        life.step(|life| create(life, part));
        while !tickets.iter().all(Ticket::is_done) {
            life.step(Life::turn);
        }
        for log in ["a", "z"] {
            let known = life.model.get_mut(log).unwrap();
            known.acked = known.staged;
        }
        life.idle(3);
    }
    life.demand(&["manifest write under way", "manifest write", "manifest sync"]);
    let slots = ["a0", "a1"].map(|name| disk.image(&format!("manifest-000-{name}")).unwrap().len());
    assert!(slots.iter().any(|len| *len > 512 << 10), "larger than a piece, twice: {slots:?}");
    life.close();
}
