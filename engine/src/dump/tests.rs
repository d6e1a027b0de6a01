//! The walk over whole and damaged files.

use super::*;
use crate::format::{
    BATCH_FRONT_BYTES, BatchKind, Edit, Frame, IndexEntry, RecordHeader, Run, body_crc,
    encode_runs, write_record,
};
use crate::lsn::{LogId, Lsn, SegmentId};

const NONCE: u64 = 77;

fn lines(bytes: &[u8], options: &DumpOptions) -> (Vec<String>, Summary) {
    let mut lines = Vec::new();
    let summary = dump(bytes, options, &mut |item| {
        lines.push(item.to_string());
        Ok(())
    });
    (lines, summary.unwrap())
}

/// A batch of two records of log 1, LSNs from `2 * seq`; its CRC.
fn batch(seq: u64, prev_crc: u32, out: &mut [u8]) -> u32 {
    let mut at = BATCH_FRONT_BYTES;
    let mut run = Run { log: LogId(1), first_lsn: Lsn(2 * seq), ..Run::default() };
    for lsn in 2 * seq..2 * seq + 2 {
        let payload = b"payload";
        let header = RecordHeader {
            log: run.log,
            lsn: Lsn(lsn),
            payload_bytes: payload.len() as u32,
            body_crc: body_crc(b"", payload),
            ..RecordHeader::default()
        };
        let framed = write_record(&header, b"", payload, &mut out[at..]);
        at += framed;
        run.count += 1;
        run.bytes += framed as u32;
    }
    encode_runs(&[run], seq, NONCE, &mut out[BATCH_HEADER_BYTES..]);
    let header = BatchHeader {
        kind: BatchKind::Data,
        segment: SegmentId(9),
        seq,
        durable: seq - 1,
        bytes: at as u32,
        records: 2,
        runs: 1,
        runs_offset: BATCH_HEADER_BYTES as u32,
        prev_crc,
        ..BatchHeader::default()
    };
    header.encode(NONCE, out)
}

/// A header, batches 1 to 3, and a unit of zeroes.
fn segment() -> Vec<u8> {
    let mut bytes = vec![0; 5 * UNIT_MIN];
    let (segment, nonce, unit) = (SegmentId(9), NONCE, UNIT_MIN as u32);
    SegmentHeader { segment, nonce, unit, ..SegmentHeader::default() }.encode(&mut bytes);
    let mut crc = 0;
    for seq in 1..=3 {
        crc = batch(seq, crc, &mut bytes[seq as usize * UNIT_MIN..]);
    }
    bytes
}

#[test]
fn a_hint_page_is_told_and_a_torn_one_is_a_flaw() {
    let page = HintPage { term: 3, durable: 41, pid: 7, ..HintPage::default() };
    let mut bytes = vec![0; UNIT_MIN];
    page.encode(&mut bytes);
    let (told, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.kind, summary.parts, summary.flaws), (FileKind::Hint, 1, 0));
    assert!(told[0].starts_with("hint ") && told[0].contains("durable=41"), "{told:?}");
    bytes[30] ^= 1;
    let (told, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.parts, summary.flaws), (0, 1), "{told:?}");
}

fn words(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn a_whole_segment_is_told_without_a_flaw() {
    let (lines, summary) = lines(&segment(), &DumpOptions::default());
    assert_eq!((summary.kind, summary.parts, summary.records), (FileKind::Segment, 3, 6));
    assert_eq!((summary.flaws, summary.unsupported), (0, false));
    let batch = ["batch", "run", "record", "record"];
    let wanted = [&["segment"][..], &batch, &batch, &batch, &["gap"]].concat();
    assert_eq!(words(&lines), wanted);
    assert!(lines[3].contains("lsn=2") && lines[3].ends_with("payload=payload"), "{}", lines[3]);
    assert!(lines[13].contains("offset=16384") && lines[13].contains("zeroes=true"));
}

#[test]
fn the_walk_goes_past_a_rotten_batch_and_names_it() {
    let mut bytes = segment();
    bytes[2 * UNIT_MIN + 40] ^= 1;
    let (lines, summary) = lines(&bytes, &DumpOptions { brief: true, ..DumpOptions::default() });
    assert_eq!((summary.parts, summary.records, summary.flaws), (2, 4, 2));
    let wanted = ["segment", "batch", "run", "torn-run", "gap", "batch", "flaw", "run", "gap"];
    assert_eq!(words(&lines), wanted);
    assert!(lines[3].contains("seq=2") && lines[3].contains("first_lsn=4 last_lsn=5"));
    assert!(lines[4].contains("offset=8192 bytes=4096"), "{}", lines[4]);
    assert!(lines[6].contains("sequence does not follow"), "{}", lines[6]);
}

#[test]
fn a_rotten_record_is_named_and_the_next_is_read() {
    let mut bytes = segment();
    bytes[UNIT_MIN + BATCH_FRONT_BYTES + 50] ^= 1;
    let (lines, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.parts, summary.records, summary.flaws), (3, 5, 1));
    assert_eq!(words(&lines)[2..6], ["run", "flaw", "torn-record", "record"]);
    assert!(lines[4].contains("lsn=2"), "{}", lines[4]);
}

#[test]
fn behind_a_rotten_record_header_the_walk_goes_on() {
    let mut bytes = segment();
    bytes[UNIT_MIN + BATCH_FRONT_BYTES + 20] ^= 1;
    let (lines, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.parts, summary.records, summary.flaws), (3, 5, 1));
    assert_eq!(words(&lines)[2..7], ["run", "flaw", "record", "torn-run", "batch"]);
    assert!(lines[5].contains("first_lsn=2 last_lsn=2"), "{}", lines[5]);
}

#[test]
fn with_the_nonce_a_rotten_segment_header_hides_nothing() {
    let mut bytes = segment();
    bytes[64] ^= 1;
    let (_, without) = lines(&bytes, &DumpOptions::default());
    assert_eq!((without.kind, without.parts, without.flaws), (FileKind::Segment, 0, 1));
    bytes[..UNIT_MIN].fill(0);
    let options = DumpOptions { nonce: Some(NONCE), ..DumpOptions::default() };
    let (_, with) = lines(&bytes, &options);
    assert_eq!((with.kind, with.parts, with.flaws), (FileKind::Segment, 3, 1));
}

#[test]
fn a_manifest_is_told_frame_by_frame_and_older_ones_are_marked() {
    let edits = vec![Edit::Deleted { log: LogId(3) }, Edit::NextLog { counter: 4 }];
    let first = Frame { seq: 7, edits, ..Frame::default() };
    let (mut bytes, crc) = first.encode(UNIT_MIN).unwrap();
    let second = Frame { seq: 8, prev_crc: crc, ..Frame::default() };
    bytes.extend(second.encode(UNIT_MIN).unwrap().0);
    bytes.extend(Frame { seq: 2, ..Frame::default() }.encode(UNIT_MIN).unwrap().0);
    let (lines, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.kind, summary.parts, summary.records), (FileKind::Manifest, 3, 2));
    assert_eq!(words(&lines), ["frame", "edit", "edit", "frame", "frame"]);
    assert!(lines[3].contains("follows=true") && lines[4].contains("follows=false"));
}

#[test]
fn an_index_is_told_and_its_parts_fail_one_by_one() {
    let entry = IndexEntry { log: LogId(5), records: 1, ..IndexEntry::default() };
    let index = IndexData {
        entries: vec![entry],
        postings: vec![Posting::default()],
        names: vec![(LogId(5), "a \"name\"\n".into())],
        ..IndexData::default()
    };
    let mut bytes = index.encode();
    let (whole, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.kind, summary.parts, summary.flaws), (FileKind::Index, 1, 0));
    assert_eq!(words(&whole), ["index", "entry", "posting", "name"]);
    bytes[4096 + 200] ^= 1;
    let (damaged, summary) = lines(&bytes, &DumpOptions::default());
    assert_eq!((summary.parts, summary.flaws), (0, 1));
    assert_eq!(words(&damaged), ["index", "flaw", "posting", "name"]);
}

#[test]
fn other_files_are_recognised() {
    let lock = b"host here\nboot 1-2\npid 3\nstart 4\n\0\0\0";
    let (told, summary) = lines(lock, &DumpOptions::default());
    assert_eq!(summary.kind, FileKind::Lock);
    assert_eq!(told[0], "lock key=host value=here");
    assert_eq!(told.len(), 4);
    assert_eq!(lines(&[0; 100], &DumpOptions::default()).1.kind, FileKind::Empty);
    let (_, foreign) = lines(b"#!/bin/sh", &DumpOptions::default());
    assert_eq!((foreign.kind, foreign.flaws), (FileKind::Foreign, 1));
    assert_eq!(lines(b"", &DumpOptions::default()).1.kind, FileKind::Empty);
}

#[test]
fn json_says_what_text_says() {
    let name = DumpItem::Name { log: LogId(5), name: "a \"b\"\n\\" };
    assert_eq!(name.to_json(), r#"{"item":"name","log":5,"name":"a \"b\"\u000a\\"}"#);
    let mut json = Vec::new();
    dump(&segment(), &DumpOptions::default(), &mut |item| {
        json.push(item.to_json());
        Ok(())
    })
    .unwrap();
    assert!(json[3].starts_with(r#"{"item":"record","offset":4368,"log":1,"#), "{}", json[3]);
    assert!(json[3].contains(r#""producer":null"#));
}

#[test]
fn an_error_of_the_sink_ends_the_walk() {
    let mut met = 0;
    let result = dump(&segment(), &DumpOptions::default(), &mut |_| {
        met += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    });
    assert_eq!((result.unwrap_err().kind(), met), (io::ErrorKind::BrokenPipe, 1));
}

/// Bytes of no origin: the walk ends, tells each part of the file at most once, and does not panic.
#[test]
fn any_damage_is_walked_past() {
    let mut state = 1u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for kind in [FileKind::Segment, FileKind::Manifest, FileKind::Index, FileKind::Lock] {
        for _ in 0..300 {
            let mut bytes = segment();
            bytes.truncate(random() % (bytes.len() + 1));
            for _ in 0..random() % 20 {
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(random() % len) {
                    *byte = random() as u8;
                }
            }
            let options =
                DumpOptions { kind: Some(kind), nonce: Some(NONCE), ..DumpOptions::default() };
            let (told, summary) = lines(&bytes, &options);
            assert!(told.len() < 100 && summary.parts <= 3, "{kind:?}: {} items", told.len());
        }
    }
}
