//! Golden files: what version 1 wrote is what this code writes and reads; what a later version
//! writes is "unsupported", never "corrupt"; each flipped bit is seen or harmless.
//!
//! To write them anew, after a change that FORMAT.md and its version history tell:
//! `SAPWOOD_GOLDEN=write cargo test -p sapwood --test format_golden`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod samples;

use std::path::PathBuf;

use samples::{Sample, samples};
use sapwood::format::{
    BatchHeader, EntryBlock, Flaw, Frame, HintPage, IndexData, RecordHeader, RecordKind, RunTable,
    SegmentHeader, read_record,
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"))
}

#[allow(clippy::disallowed_methods, reason = "a test reads its own fixtures")]
fn golden(sample: &Sample) -> Vec<u8> {
    let path = path(sample.name);
    if std::env::var("SAPWOOD_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &sample.bytes).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn writes_what_version_1_wrote() {
    for sample in samples() {
        assert!(golden(&sample) == sample.bytes, "{}: other bytes than before", sample.name);
    }
}

#[test]
fn reads_what_version_1_wrote() {
    for sample in samples() {
        let (then, now) = ((sample.read)(&golden(&sample)), (sample.read)(&sample.bytes));
        assert!(now.is_ok(), "{}: {now:?}", sample.name);
        assert_eq!(then, now, "{}", sample.name);
    }
}

/// A famous log calls a newer version's file corrupt, and its users delete it.
#[test]
fn the_next_version_is_unsupported_and_never_corrupt() {
    for sample in samples() {
        let Some(at) = sample.version_at else {
            continue;
        };
        let mut bytes = golden(&sample);
        bytes[at] = 2;
        (sample.refit)(&mut bytes);
        assert_eq!((sample.read)(&bytes), Err(Flaw::Version { found: 2 }), "{}", sample.name);
        // All else in the header may mean something new by then: still the version, nothing else.
        let header = if sample.name == "segment" || sample.name == "index" { 4092 } else { 124 };
        for byte in &mut bytes[at + 2..header] {
            *byte = byte.wrapping_mul(31).wrapping_add(201);
        }
        (sample.refit)(&mut bytes);
        let flaw = (sample.read)(&bytes).unwrap_err();
        assert_eq!(flaw, Flaw::Version { found: 2 }, "{}", sample.name);
        assert!(flaw.is_unsupported());
    }
}

/// A record carries no version: what is new in it has a new kind or a new flag.
#[test]
fn a_record_of_a_newer_writer_is_unsupported() {
    for sample in samples().iter().filter(|sample| sample.version_at.is_none()) {
        for (at, value) in [(42, 6), (42, 255), (43, sample.bytes[43] | 0x10)] {
            let mut bytes = golden(sample);
            bytes[at] = value;
            (sample.refit)(&mut bytes);
            let flaw = (sample.read)(&bytes).unwrap_err();
            assert!(flaw.is_unsupported(), "{} at {at}: {flaw}", sample.name);
        }
    }
    assert_eq!(RecordKind::from_byte(0), Err(Flaw::Field("record kind 0")));
}

#[test]
fn incompat_bits_are_unsupported_and_compat_bits_are_not() {
    let bits = |name: &str| match name {
        "batch" => Some((104, 108)),
        "segment" | "index" => Some((8, 16)),
        "manifest" => Some((76, 84)),
        "hint" => Some((72, 76)),
        _ => None,
    };
    for sample in samples() {
        let Some((compat, incompat)) = bits(sample.name) else {
            continue;
        };
        let mut bytes = golden(&sample);
        bytes[compat] = 4;
        (sample.refit)(&mut bytes);
        assert!((sample.read)(&bytes).is_ok(), "{}", sample.name);
        bytes[incompat + 3] = 1;
        (sample.refit)(&mut bytes);
        let flaw = (sample.read)(&bytes).unwrap_err();
        assert_eq!(flaw, Flaw::Incompat { bits: 1 << 24 }, "{}", sample.name);
    }
}

/// Every bit of every sample: the flip is told, or all that is read is the same as before.
#[test]
fn each_flipped_bit_is_told_or_harmless() {
    for sample in samples() {
        let mut bytes = golden(&sample);
        let before = (sample.read)(&bytes).unwrap();
        let (mut told, mut harmless) = (0, 0);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match (sample.read)(&bytes) {
                Err(_) => told += 1,
                Ok(after) if after == before => harmless += 1,
                Ok(after) => panic!("{}: bit {bit} made it {after}", sample.name),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        println!("{}: {told} told, {harmless} in padding", sample.name);
        assert!(told >= 8 * 44, "{}", sample.name);
    }
}

#[test]
fn wrong_sizes_are_told() {
    for sample in samples() {
        let before = (sample.read)(&sample.bytes).unwrap();
        for len in 0..sample.bytes.len() {
            let read = (sample.read)(&sample.bytes[..len]);
            match &read {
                // What is cut off may be padding that nobody needs.
                Ok(read) => assert_eq!(*read, before, "{} cut to {len}", sample.name),
                Err(Flaw::Short { need, have }) => {
                    assert!(*have <= len && need > have, "{} cut to {len}", sample.name);
                }
                Err(flaw) => panic!("{} cut to {len}: {flaw}", sample.name),
            }
        }
        let mut longer = sample.bytes.clone();
        longer.extend([0xa5; 64]);
        assert_eq!((sample.read)(&longer), Ok(before), "{} and more", sample.name);
    }
}

#[test]
fn zeroes_are_nothing() {
    for len in [0, 8, 48, 64, 128, 4096, 16_384] {
        let zeroes = vec![0; len];
        for sample in samples() {
            assert!((sample.read)(&zeroes).is_err(), "{} of {len} zeroes", sample.name);
        }
        for nonce in 0..1000 {
            assert!(BatchHeader::decode(&zeroes, nonce).is_err());
            assert!(RunTable::decode_any(&zeroes, nonce).is_err());
        }
        assert!(RecordHeader::decode(&zeroes).is_err());
        assert!(read_record(&zeroes).is_err());
        assert!(EntryBlock::decode(&zeroes).is_err());
        assert!(HintPage::decode(&zeroes).is_err());
    }
}

/// No structure is taken for another, whatever stands in its place.
#[test]
fn magics_differ() {
    for sample in samples() {
        let bytes = golden(&sample);
        let name = sample.name;
        let is = |wanted: &str| name.starts_with(wanted);
        assert_eq!(SegmentHeader::decode(&bytes).is_ok(), is("segment"), "{name}");
        assert_eq!(Frame::decode(&bytes).is_ok(), is("manifest"), "{name}");
        assert_eq!(IndexData::decode(&bytes).is_ok(), is("index"), "{name}");
        assert_eq!(samples::read_batch(&bytes).is_ok(), is("batch"), "{name}");
        assert_eq!(read_record(&bytes).is_ok(), is("record"), "{name}");
        assert_eq!(HintPage::decode(&bytes).is_ok(), is("hint"), "{name}");
    }
}

/// The document's hexdumps are of the golden files, byte for byte.
#[test]
fn the_worked_example_is_the_golden_file() {
    let text = include_str!("../FORMAT.md");
    let mut lines = 0;
    let mut file: Option<Vec<u8>> = None;
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            let name = info.strip_prefix("text ").and_then(|info| info.strip_suffix(".bin"));
            let sample = name.map(|name| samples().into_iter().find(|s| s.name == name).unwrap());
            file = sample.as_ref().map(golden);
            continue;
        }
        let (Some(file), Some((offset, rest))) = (&file, line.split_once(": ")) else { continue };
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let wanted = &file[offset..file.len().min(offset + 16)];
        let hex = wanted.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        assert!(rest.starts_with(&hex), "at {offset:08x}: {hex}");
        lines += 1;
    }
    assert!(lines > 15, "{lines} lines of hexdump");
}
