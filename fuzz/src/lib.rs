//! The judges of the fuzz targets: bytes in, a panic where a promise of the format is broken.
//!
//! Invariants:
//! - The first byte chooses: even, the bytes stand as they are; odd, their CRCs are mended first
//!   ([`mend`]), for behind a wrong CRC nothing is ever read.
//! - Whatever is accepted is written again and read again, and is the same.
//! - A judge says whether it accepted anything, so that a test can see that it is not blind.
//!
//! Not here: who makes up the bytes (libFuzzer; tests/tests/fuzz_regressions.rs).

mod directory;
pub mod examples;
mod inputs;
mod lives;
pub mod mend;
mod tier;

use sapwood::format::{
    BatchHeader, BatchView, EntryBlock, Fence, Flaw, Frame, FrameView, IndexData, IndexHeader,
    PropertyIter, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, UNIT_MIN, read_record,
    read_record_header_only,
};

/// The nonce that mended bytes are seeded with.
pub const NONCE: u64 = 0x0123_4567_89AB_CDEF;

/// A judge.
pub type Judge = fn(&[u8]) -> bool;

/// Every target, its judge, and how many of a hundred mutated seeds it takes in a plain test: those
/// that live a whole life take their time, and lives drawn at random are `tests/tests/sim.rs`.
pub const TARGETS: [(&str, Judge, u64); 10] = [
    ("record", record, 100),
    ("batch", batch, 100),
    ("segment_scan", segment_scan, 100),
    ("manifest", manifest, 100),
    ("index", index, 100),
    ("tier_footer", tier::footer, 100),
    ("tier_block", tier::block, 100),
    ("cli_inputs", inputs::cli_inputs, 100),
    ("follow_dir", directory::follow_dir, 3),
    ("operations", lives::operations, 0),
];

/// Judges an input of a target.
///
/// # Panics
/// When it breaks a promise, and for a target that is none.
pub fn judge(target: &str, data: &[u8]) -> bool {
    let found = TARGETS.iter().find(|(name, ..)| *name == target);
    let (_, judge, _) = found.expect("a target");
    judge(data)
}

/// The bytes to judge, mended when the first byte is odd.
fn prepare(data: &[u8], mend: impl Fn(&mut [u8])) -> Vec<u8> {
    let Some((mode, bytes)) = data.split_first() else {
        return Vec::new();
    };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        mend(&mut bytes);
    }
    bytes
}

/// What every refusal must keep to: it never claims to need no more than there is.
fn check_flaw(flaw: &Flaw) {
    if let Flaw::Short { need, have } = flaw {
        assert!(need > have, "short, and yet {need} of {have} bytes are there");
    }
    assert!(!flaw.to_string().is_empty());
}

/// One record.
pub fn record(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::record);
    let whole = read_record(&bytes);
    let header_only = read_record_header_only(&bytes);
    match (&whole, &header_only) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(flaw), Ok((record, _))) => {
            assert_eq!(*flaw, Flaw::Crc);
            assert!(!record.body_is_good());
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        (Ok(_), Err(_)) => panic!("whole, and yet its header is refused"),
    }
    let (found, framed) = match whole {
        Ok(found) => found,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    let header = found.header;
    assert!(framed <= bytes.len() && framed.is_multiple_of(8));
    assert_eq!(framed, header.framed_bytes());
    assert_eq!(found.payload.len(), header.payload_bytes as usize);
    let mut again = vec![0; header.header_bytes()];
    header.encode(&mut again);
    assert_eq!(again, bytes[..again.len()], "a record header has one spelling");
    assert_eq!(RecordHeader::decode(&again), Ok(header));
    properties(found.properties);
    true
}

/// The walk over properties ends, whatever they are.
fn properties(bytes: &[u8]) {
    let most = bytes.len() / 4 + 1;
    assert!(PropertyIter::new(bytes).take(most + 1).count() <= most);
}

/// One batch.
pub fn batch(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::batch);
    judge_batch(&bytes, NONCE).is_some()
}

/// The padded length of the batch at the front, if it is one.
fn judge_batch(bytes: &[u8], nonce: u64) -> Option<usize> {
    match BatchHeader::decode(bytes, nonce) {
        Ok((header, crc)) => {
            let mut again = [0; 128];
            let same = header.encode(nonce, &mut again);
            assert_eq!(BatchHeader::decode(&again, nonce), Ok((header, same)));
            let reserved = bytes[112..124].iter().any(|b| *b != 0);
            assert!(same == crc || reserved, "a batch header has one spelling");
            assert!(header.durable < header.seq);
        }
        Err(flaw) => check_flaw(&flaw),
    }
    let view = match BatchView::parse(bytes, nonce) {
        Ok(view) => view,
        Err(flaw) => {
            check_flaw(&flaw);
            return None;
        }
    };
    let promised = u64::from(view.header.records);
    let (mut given, mut bad) = (0_u64, 0_u64);
    let mut walk = view.records();
    while let Some(item) = walk.next() {
        given += u64::from(item.is_ok());
        bad += u64::from(item.is_err());
        assert!(walk.offset() <= bytes.len());
        // Rot is told once where it stands, and may stand for no record at all.
        assert!(given <= promised && bad <= promised + 1, "more than the header has");
        if let Ok((_, record)) = item {
            properties(record.properties);
        }
    }
    assert!(bad > 0 || given == promised, "records are missing, and nobody says so");
    let verified = view.verify();
    assert!(verified.is_err() || bad == 0, "verified, and yet a record is bad");
    for run in view.runs.iter().take(8) {
        let same: u64 = view.records_of(run.log).filter(Result::is_ok).map(|_| 1).sum();
        let promised: u64 =
            view.runs.iter().filter(|r| r.log == run.log).map(|r| u64::from(r.count)).sum();
        assert!(same <= promised);
        assert!(verified.is_err() || same == promised, "a record of a good batch is not found");
    }
    Some(view.header.padded_bytes(UNIT_MIN))
}

/// A segment file: its header, then batches one behind the other.
pub fn segment_scan(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::segment);
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    let mut again = vec![0; SEGMENT_HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(SegmentHeader::decode(&again), Ok(header));
    let mut at = header.unit as usize;
    let mut batches = 0;
    while let Some(padded) = bytes.get(at..).and_then(|rest| judge_batch(rest, header.nonce)) {
        assert!(padded > 0, "a scan that does not move");
        at += padded;
        batches += 1;
    }
    batches > 0
}

/// A manifest slot: frames one behind the other.
pub fn manifest(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::manifest);
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let (frame, padded, crc) = match Frame::decode(rest) {
            Ok(found) => found,
            Err(flaw) => {
                check_flaw(&flaw);
                break;
            }
        };
        assert!(padded > 0 && padded <= rest.len());
        let view = FrameView::parse(rest).expect("decoded whole, and yet refused in part");
        assert_eq!(view.edits().count(), frame.edits.len());
        let (again, _) =
            frame.encode(view.header.unit as usize).expect("what was read is writable");
        let (same, _, _) = Frame::decode(&again).expect("what was written is readable");
        assert_eq!(same, frame);
        assert_eq!(view.crc, crc);
        at += padded;
    }
    at > 0
}

/// An index file: piece by piece as a lookup reads it, and whole.
pub fn index(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::index);
    if let Ok(header) = IndexHeader::decode(&bytes) {
        index_by_parts(&bytes, &header);
    }
    let found = match IndexData::decode(&bytes) {
        Ok(found) => found,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    assert_eq!(IndexData::decode(&found.encode()).as_ref(), Ok(&found));
    for entry in &found.entries {
        assert_eq!(found.find(entry.log), Some(entry));
        assert!(found.postings_of(entry).len() <= found.postings.len());
    }
    true
}

fn index_by_parts(bytes: &[u8], header: &IndexHeader) {
    let fence = bytes.get(header.fence_range()).map(|part| Fence::decode(part, header));
    let Some(Ok(fence)) = fence else { return };
    for block in 0..header.entry_blocks as usize {
        let Some(part) = bytes.get(header.block_offset(block)..) else {
            return;
        };
        if let Ok(entries) = EntryBlock::decode_at(part, header.segment, block) {
            for entry in entries.iter() {
                assert!(entries.find(entry.log).is_some());
                let _ = fence.find_block(entry.log);
            }
        }
    }
}
