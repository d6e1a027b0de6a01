//! Damage is told where it is, never skipped, and gone past only by name.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, first_lines, lines, name};

const LINES: u64 = 60_000;

/// A directory with a log over several segments, closed in order.
fn full() -> (Place, Vec<u8>) {
    let place = Place::new();
    let text = lines(0..LINES);
    place.append(&text);
    (place, text)
}

/// Reads log x: it ends in damage, with an intact prefix before it.
#[track_caller]
fn read_prefix(place: &Place, text: &[u8]) -> usize {
    let read = place.read().code(3).says(&["corrupt", "sapwood salvage"]);
    let there = read.out.iter().filter(|byte| **byte == b'\n').count();
    assert!(read.out == first_lines(text, there), "not a prefix");
    there
}

#[track_caller]
fn salvage(place: &Place) {
    place.run(&["salvage", "--dir", "wal", "--yes"]).ok().shows(&["lost", "salvaged"]);
    let after = place.read().code(9).says(&["lost"]);
    assert!(!after.out.is_empty());
    place.append(b"after\n");
    let again = place.read().code(9);
    assert!(again.out.ends_with(b"after\n"));
    place.run(&["verify", "--dir", "wal"]).ok().shows(&["lost", "no damage"]);
    place.run(&["salvage", "--dir", "wal", "--yes"]).code(1).says(&["nothing was changed"]);
}

#[test]
fn a_flipped_bit_in_a_record_costs_that_record() {
    let (place, text) = full();
    let (segment, at) = place.find(b"line 00031000");
    place.flip(&segment, at + 7);
    assert_eq!(read_prefix(&place, &text), 31_000);
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&[
        &name(&segment),
        "LSN 31000",
        &format!("offset {}", at - 48),
        "DAMAGED",
    ]);
    let json = place.run(&["verify", "--dir", "wal", "--json"]).code(3);
    json.shows(&["\"first_lsn\":31000", "\"item\":\"summary\""]);

    // Without the word nothing is given up.
    let before = fs::read(place.wal("manifest-000-a0")).unwrap().len();
    place.run(&["salvage", "--dir", "wal"]).code(1).says(&["not confirmed"]);
    place.feed(&["salvage", "--dir", "wal"], b"yes\n").code(1).says(&["not confirmed"]);
    assert_eq!(fs::read(place.wal("manifest-000-a0")).unwrap().len(), before);
    assert_eq!(read_prefix(&place, &text), 31_000);
    place.feed(&["salvage", "--dir", "wal"], b"salvage\n").ok();
    let read = place.read().code(9).says(&["LSN 31000"]);
    let lost = lines(31_000..31_001).len();
    assert_eq!(read.out.len(), text.len() - lost);
}

#[test]
fn flipped_bits_anywhere_in_a_segment_are_told_or_do_no_harm() {
    let (place, text) = full();
    let segment = place.files("segment-")[1].clone();
    let whole = fs::read(&segment).unwrap();
    // Header of the file, batch header, run table, first record's header, some bytes further on.
    for at in [20, 4096 + 20, 4096 + 130, 4096 + 300, 200_000, whole.len() - 5000] {
        place.flip(&segment, at);
        let read = place.read();
        let there = read.out.iter().filter(|byte| **byte == b'\n').count();
        assert!(read.out == first_lines(&text, there), "flipped {at}: not a prefix");
        assert!(read.code == 3 || there as u64 == LINES, "flipped {at}: {}", read.err);
        let verify = place.run(&["verify", "--dir", "wal"]);
        assert!(verify.code == 3 || read.code == 0, "flipped {at}: {}", verify.text());
        fs::write(&segment, &whole).unwrap();
    }
    place.run(&["verify", "--dir", "wal"]).ok();
}

#[test]
fn a_lost_batch_is_salvaged() {
    let (place, text) = full();
    let segment = place.files("segment-")[0].clone();
    place.flip(&segment, 4096 + 20);
    assert_eq!(read_prefix(&place, &text), 0);
    salvage(&place);
}

#[test]
fn a_missing_segment_is_named() {
    let (place, text) = full();
    let segment = place.files("segment-")[1].clone();
    fs::remove_file(&segment).unwrap();
    assert!(read_prefix(&place, &text) > 0);
    place.read().says(&[&name(&segment), "is missing"]);
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&[&name(&segment), "missing"]);
    salvage(&place);
}

#[test]
fn swapped_segments_are_named_and_no_record_is_out_of_place() {
    let (place, text) = full();
    let files = place.files("segment-");
    let aside = place.path("aside");
    fs::rename(&files[1], &aside).unwrap();
    fs::rename(&files[2], &files[1]).unwrap();
    fs::rename(&aside, &files[2]).unwrap();
    assert!(read_prefix(&place, &text) > 0);
    place.read().says(&["was it renamed?"]);
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&["holds segment 3, not segment 2"]);
    // Put back, all is as it was.
    fs::rename(&files[1], &aside).unwrap();
    fs::rename(&files[2], &files[1]).unwrap();
    fs::rename(&aside, &files[2]).unwrap();
    assert!(place.read().ok().out == text);
}

#[test]
fn a_cut_segment_ends_in_damage() {
    let (place, text) = full();
    let segment = place.files("segment-")[1].clone();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(500_000).unwrap();
    assert!(read_prefix(&place, &text) > 0);
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&["the file ends here"]);
    salvage(&place);
}

#[test]
fn an_index_is_mended() {
    let (place, text) = full();
    let indexes = place.files("index-");
    place.flip(&indexes[0], 4096 + 40);
    fs::remove_file(&indexes[1]).unwrap();
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&[&name(&indexes[0]), &name(&indexes[1])]);
    place.run(&["salvage", "--dir", "wal", "--yes"]).ok().shows(&["mended"]);
    assert!(place.read().ok().out == text);
    place.run(&["verify", "--dir", "wal"]).ok();
}

#[test]
fn one_copy_of_the_manifest_is_enough_and_verify_misses_the_other() {
    let (place, text) = full();
    for copy in place.files("manifest-000-a") {
        for at in (140..40_000).step_by(4096) {
            place.flip(&copy, at);
        }
    }
    assert!(place.read().ok().out == text);
    place.run(&["verify", "--dir", "wal"]).code(3).shows(&["whole in the other copy"]);
    place.append(b"more\n"); // opening for writing mends it
    place.run(&["verify", "--dir", "wal"]).ok();

    for copy in place.files("manifest-") {
        fs::remove_file(copy).unwrap();
    }
    place.read().code(6).says(&["missing or damaged in both copies"]);
    place.run(&["verify", "--dir", "wal"]).code(6);
    place.feed(&["append", "x", "--dir", "wal"], b"more\n").code(6);
}
