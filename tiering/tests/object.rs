//! The object format: what is put in comes out, each flipped bit and each cut is seen, what a later
//! version writes is unsupported and not corrupt, hostile bytes take no memory.
//!
//! Golden files anew, after a change that FORMAT.md and its version history tell:
//! `SAPWOOD_GOLDEN=write cargo test -p sapwood-tiering --test object`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::PathBuf;

use common::{
    ByLog, Item, TIME_US, by_log, facts, item, log_id, read_from, sample, sample_facts, segment,
};
use proptest::collection::vec;
use proptest::prelude::*;
use sapwood::Lsn;
use sapwood::format::{Flaw, Fragment};
use sapwood_tiering::object::{
    Codec, FOOTER_HEAD_BYTES, Footer, HEADER_BYTES, ObjectHeader, Packing, TRAILER_BYTES, Trailer,
    Verified, verify,
};
use sapwood_tiering::pack::{Packed, pack};

fn packed(codec: Codec) -> Packed {
    let (bytes, extent) = segment(&sample());
    let packing = Packing { codec, block_bytes: 4096 };
    pack(&bytes, &extent, None, sample_facts(), packing).unwrap()
}

fn all_records(object: &[u8]) -> ByLog {
    let mut all = ByLog::new();
    verify(object, &mut |record, framed| {
        all.entry(record.header.log).or_default().push(framed.to_vec());
    })
    .unwrap();
    all
}

#[test]
fn a_segment_becomes_an_object_and_comes_back() {
    for codec in [Codec::Plain, Codec::Lz4, Codec::Zstd] {
        let packed = packed(codec);
        assert!(packed.damages.is_empty() && packed.left_out == 0);
        assert_eq!(all_records(&packed.bytes), by_log(sample().iter().flatten()));
        let Verified { footer, facts } = &packed.verified;
        assert_eq!(*facts, sample_facts());
        // The cut makes a second stretch, in which LSN 12 is the one that counts.
        let own = footer.stretches_of(log_id(1));
        let lsns: Vec<_> = own.iter().map(|own| (own.first_lsn.0, own.last_lsn.0)).collect();
        assert_eq!(lsns, [(10, 12), (12, 13)]);
        assert_eq!(footer.find(log_id(1), Lsn(12)), Some(&own[1]));
        assert_eq!(footer.find(log_id(1), Lsn(11)), Some(&own[0]));
        assert_eq!(footer.find(log_id(1), Lsn(14)), None);
        assert!(footer.stretches_of(log_id(99)).is_empty());
        let header = footer.header;
        assert_eq!((header.first_seq, header.last_seq, header.term), (100, 105, 3));
    }
}

#[test]
fn what_nobody_wants_is_left_out() {
    let (bytes, extent) = segment(&sample());
    // Log 1 begins at 12, log 2 is gone, log 3 is whole.
    let facts = facts(&[(1, 12), (3, 0), (4, 1), (5, 0), (6, 0), (7, 0)]);
    let packed = pack(&bytes, &extent, None, facts, Packing::default()).unwrap();
    let mut expected = by_log(sample().iter().flatten());
    expected.get_mut(&log_id(1)).unwrap().drain(..2);
    expected.remove(&log_id(2));
    expected.remove(&log_id(4));
    assert_eq!(all_records(&packed.bytes), expected);
    assert_eq!(packed.left_out, 2 + 4 + 1);
    let (bytes, extent) = segment(&[]);
    let empty = pack(&bytes, &extent, None, sample_facts(), Packing::default()).unwrap();
    assert!(all_records(&empty.bytes).is_empty());
}

#[test]
fn every_flipped_bit_is_seen() {
    for codec in [Codec::Plain, Codec::Lz4] {
        let good = packed(codec).bytes;
        for at in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let told = verify(&bytes, &mut |_, _| ());
            assert!(told.is_err(), "bit {at} of {} bytes", good.len());
        }
    }
}

#[test]
fn every_cut_is_seen_and_so_is_what_is_added() {
    let mut good = packed(Codec::Lz4).bytes;
    for len in 0..good.len() {
        assert!(verify(&good[..len], &mut |_, _| ()).is_err(), "cut to {len} bytes");
    }
    good.push(0);
    assert!(verify(&good, &mut |_, _| ()).is_err());
}

/// Makes the checksums good again that stand at the end of each structure.
fn refit(bytes: &mut [u8]) {
    let len = bytes.len();
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    let at = len - TRAILER_BYTES;
    let footer = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize;
    let copy = footer + FOOTER_HEAD_BYTES - HEADER_BYTES;
    let own = crc32c::crc32c(&bytes[copy..copy + 124]);
    bytes[copy + 124..copy + 128].copy_from_slice(&own.to_le_bytes());
    bytes[at + 44..at + 48].copy_from_slice(&own.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[footer..at]);
    bytes[at + 40..at + 44].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[at..len - 4]);
    bytes[len - 4..].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn the_next_version_is_unsupported_and_never_corrupt() {
    let good = packed(Codec::Lz4).bytes;
    let (len, trailer) = (good.len(), good.len() - TRAILER_BYTES);
    let footer = Trailer::decode(&good, len as u64).unwrap().footer_offset as usize;
    let copy = footer + FOOTER_HEAD_BYTES - HEADER_BYTES;
    // (where, what stands there): versions, incompat bits, an object kind, a codec.
    let newer = [
        (4, 2),
        (12, 1),
        (6, 2),
        (footer + 4, 2),
        (copy + 4, 2),
        (copy + 12, 1),
        (trailer + 4, 2),
        (trailer + 52, 1),
        (footer + FOOTER_HEAD_BYTES + 28, 9),
        (footer + FOOTER_HEAD_BYTES + 29, 2),
    ];
    for (at, value) in newer {
        let mut bytes = good.clone();
        bytes[at] = value;
        refit(&mut bytes);
        let wrong = verify(&bytes, &mut |_, _| ()).unwrap_err();
        assert!(wrong.flaw.is_unsupported(), "byte {at}: {wrong}");
    }
    // All else of a newer trailer may mean something new.
    let mut bytes = good.clone();
    bytes[trailer + 4] = 2;
    bytes[trailer + 6..len - 4].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x55);
    let sum = crc32c::crc32c(&bytes[trailer..len - 4]);
    bytes[len - 4..].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(Trailer::decode(&bytes, len as u64), Err(Flaw::Version { found: 2 }));
    // Compat bits change nothing.
    let mut bytes = good;
    bytes[8] = 1;
    bytes[copy + 8] = 1;
    refit(&mut bytes);
    assert!(verify(&bytes, &mut |_, _| ()).is_ok());
}

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("SAPWOOD_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compressed bytes may differ with the library's version; what they hold may not.
#[test]
fn reads_and_writes_what_version_1_wrote() {
    for (name, codec) in [
        ("object.bin", Codec::Plain),
        ("object-lz4.bin", Codec::Lz4),
        ("object-zstd.bin", Codec::Zstd),
    ] {
        let now = packed(codec);
        let then = golden(name, &now.bytes);
        assert_eq!(all_records(&then), by_log(sample().iter().flatten()), "{name}");
        let seen = verify(&then, &mut |_, _| ()).unwrap();
        assert_eq!((seen.facts, seen.footer.header), (sample_facts(), now.verified.footer.header));
        assert!(codec != Codec::Plain || then == now.bytes, "{name}: other bytes than before");
    }
}

/// Batches of records in the order in which engines write them: per log dense, cuts now and then,
/// records in fragments over consecutive batches.
fn a_segment() -> impl Strategy<Value = Vec<Vec<Item>>> {
    let step = (0..6u64, 0..16u8, 0..3000usize, any::<u8>());
    vec(vec(step, 1..6), 1..12).prop_map(|batches| {
        let mut logs = [(1u32, 50u64); 6];
        let mut out: Vec<Vec<Item>> = Vec::new();
        for steps in batches {
            let mut items = Vec::new();
            for (log, what, bytes, fill) in steps {
                let (epoch, next) = &mut logs[log as usize];
                let payload = vec![fill; bytes];
                match what {
                    0 if *next > 10 => (*epoch, *next) = (*epoch + 1, *next - 7),
                    1 => *epoch += 1,
                    2 => {
                        let part = |n, fragment| Item {
                            fragment: (fragment, n),
                            ..item(log, *epoch, *next, payload.clone())
                        };
                        items.push(part(0, Fragment::First));
                        out.push(std::mem::take(&mut items));
                        out.push(vec![part(1, Fragment::Middle)]);
                        items.push(part(2, Fragment::Last));
                        *next += 1;
                    }
                    _ => {
                        items.push(item(log, *epoch, *next, payload));
                        *next += 1;
                    }
                }
            }
            out.push(items);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_segment_becomes_an_object_and_comes_back(
        batches in a_segment(),
        codec in proptest::sample::select(vec![Codec::Plain, Codec::Lz4, Codec::Zstd]),
        block_bytes in 4096..20_000usize,
    ) {
        let (bytes, extent) = segment(&batches);
        let packing = Packing { codec, block_bytes };
        let logs: Vec<_> = (0..6).map(|log| (log, 0)).collect();
        let packed = pack(&bytes, &extent, None, facts(&logs), packing);
        let packed = packed.unwrap();
        prop_assert!(packed.damages.is_empty(), "{:?}", packed.damages);
        prop_assert_eq!(all_records(&packed.bytes), by_log(batches.iter().flatten()));
        // Each LSN is found through the footer, with all that follows in its stretch, and no more
        // than one block in front.
        let footer = &packed.verified.footer;
        for stretch in &footer.stretches {
            let whole = read_from(&packed.bytes, footer, stretch.log, stretch.first_lsn);
            for lsn in stretch.first_lsn.0..=stretch.last_lsn.0 {
                let lsn = Lsn(lsn);
                if footer.find(stretch.log, lsn) != Some(stretch) {
                    continue; // cut: a later stretch has it
                }
                let found = read_from(&packed.bytes, footer, stretch.log, lsn);
                if footer.find(stretch.log, stretch.first_lsn) == Some(stretch) {
                    let expected: Vec<_> = whole.iter().filter(|(at, _)| *at >= lsn).collect();
                    prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
                }
                prop_assert_eq!(found[0].0, lsn);
                let blocks = footer.blocks_from(stretch, lsn);
                let second = blocks.clone().nth(1).map(|number| footer.blocks[number]);
                prop_assert!(second.is_none_or(|b| (b.lsn, b.continued) > (lsn, false)));
            }
            // In these segments a record's time follows from its LSN, so a cut turns time back.
            if footer.stretches_of(stretch.log).len() == 1 {
                let (from, to) = (stretch.first_lsn.0, stretch.last_lsn.0);
                for lsn in from..=to {
                    let found = footer.from_time(stretch.log, TIME_US + 1000 * lsn);
                    prop_assert!(found.is_some_and(|found| from <= found.0 && found.0 <= lsn));
                }
            }
            prop_assert_eq!(footer.from_time(stretch.log, u64::MAX), None);
        }
    }

    /// Bytes behind good checksums that say what cannot be: refused or read, never a panic, and no
    /// more memory than the object's own size suggests.
    #[test]
    fn a_lying_object_is_refused(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_tail in any::<bool>(),
    ) {
        let mut bytes = packed(Codec::Lz4).bytes;
        let len = bytes.len();
        let footer = Trailer::decode(&bytes, len as u64).unwrap().footer_offset as usize;
        for (at, value) in changes {
            let from = if in_tail { len - TRAILER_BYTES } else { footer };
            let at = from + at.index(len - from);
            bytes[at] = value;
        }
        let at = len - TRAILER_BYTES;
        let place = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
        if place == footer as u64 {
            refit(&mut bytes);
        }
        let _ = verify(&bytes, &mut |_, _| ());
    }

    #[test]
    fn noise_is_refused(noise in vec(any::<u8>(), 0..2000)) {
        prop_assert!(verify(&noise, &mut |_, _| ()).is_err());
        prop_assert!(ObjectHeader::decode(&noise).is_err());
        let trailer = Trailer { footer_bytes: noise.len() as u64, ..Trailer::default() };
        prop_assert!(Footer::decode(&noise, &trailer).is_err());
    }
}
