//! The bytes of what stands in a bucket beside the objects of segments: manifests and control
//! objects. `FORMAT.md` draws them.
//!
//! Invariants: pure bytes; a decoder never panics, believes no length before it is under a
//! checksum, and wants every byte to be there; a good checksum with another version is
//! "unsupported".
//! Not here: names and the store (`remote`), what facts mean together (`ledger`).

use sapwood::format::{Flaw, Frame};
use sapwood::{SegmentId, ShardId};

use crate::layout::Named;

/// "SWR1".
const MAGIC: [u8; 4] = *b"SWR1";

/// The version that this code writes.
const VERSION: u16 = 1;

/// Bytes of the header.
pub const REMOTE_HEADER_BYTES: usize = 128;

/// Bytes of one entry of a manifest.
const ENTRY_BYTES: usize = 64;

const CRC_AT: usize = REMOTE_HEADER_BYTES - 4;

/// Frames are padded to this.
const FRAME_UNIT: usize = 4096;

const OBJECT: u16 = 1;
const CONTROL: u16 = 2;

/// What a remote object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The list of what counts.
    #[default]
    Manifest = 1,
    /// Facts of all logs.
    Base = 2,
    /// Facts of logs that changed.
    Delta = 3,
}

/// The header of a manifest or a control object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteHeader {
    /// Which of the three.
    pub kind: Kind,
    /// The directory.
    pub directory: u64,
    /// Its lineage.
    pub lineage: u64,
    /// The number in its name.
    pub number: u64,
    /// The write-open that wrote it.
    pub term: u32,
    /// Microseconds since 1970, by the writer's clock.
    pub time_us: u64,
    /// Drawn by the tier that wrote it, when it started.
    pub writer: u64,
}

/// An object of a segment, as a manifest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its length.
    pub bytes: u64,
    /// CRC32C of all of it.
    pub crc: u32,
}

/// A control object, as a manifest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlEntry {
    /// Its number.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// CRC32C of all of it.
    pub crc: u32,
}

/// Writes a header before a body.
fn seal(header: &RemoteHeader, entries: usize, body: &[u8]) -> Result<Vec<u8>, Flaw> {
    let entries = u32::try_from(entries).map_err(|_| Flaw::Field("number of entries"))?;
    let mut out = vec![0; REMOTE_HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &VERSION.to_le_bytes());
    put(6, &(header.kind as u16).to_le_bytes());
    put(8, &header.directory.to_le_bytes());
    put(16, &header.lineage.to_le_bytes());
    put(24, &header.number.to_le_bytes());
    put(32, &header.term.to_le_bytes());
    put(36, &entries.to_le_bytes());
    put(40, &header.time_us.to_le_bytes());
    put(48, &(body.len() as u64).to_le_bytes());
    put(56, &header.writer.to_le_bytes());
    put(64, &crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c(&out[..CRC_AT]);
    out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    Ok(out)
}

fn u16_at(buf: &[u8], at: usize) -> u16 {
    buf[at..].first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(buf: &[u8], at: usize) -> u32 {
    buf[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(buf: &[u8], at: usize) -> u64 {
    buf[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Header, number of entries, body.
fn open(bytes: &[u8]) -> Result<(RemoteHeader, u32, &[u8]), Flaw> {
    if bytes.len() < REMOTE_HEADER_BYTES {
        return Err(Flaw::Short { need: REMOTE_HEADER_BYTES, have: bytes.len() });
    }
    if bytes[..4] != MAGIC {
        return Err(Flaw::Magic);
    }
    if crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
        return Err(Flaw::Crc);
    }
    let version = u16_at(bytes, 4);
    if version != VERSION {
        return Err(Flaw::Version { found: version });
    }
    let incompat = u32_at(bytes, 76);
    if incompat != 0 {
        return Err(Flaw::Incompat { bits: incompat });
    }
    let kind = match u16_at(bytes, 6) {
        1 => Kind::Manifest,
        2 => Kind::Base,
        3 => Kind::Delta,
        other => {
            return Err(Flaw::Unknown { what: "kind of a control object", found: other.into() });
        }
    };
    let body = &bytes[REMOTE_HEADER_BYTES..];
    if u64_at(bytes, 48) != body.len() as u64 {
        return Err(Flaw::Field("length of a remote object"));
    }
    if crc32c::crc32c(body) != u32_at(bytes, 64) {
        return Err(Flaw::Crc);
    }
    let header = RemoteHeader {
        kind,
        directory: u64_at(bytes, 8),
        lineage: u64_at(bytes, 16),
        number: u64_at(bytes, 24),
        term: u32_at(bytes, 32),
        time_us: u64_at(bytes, 40),
        writer: u64_at(bytes, 56),
    };
    Ok((header, u32_at(bytes, 36), body))
}

/// What a manifest lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Objects of segments.
    pub objects: std::collections::BTreeMap<Named, Entry>,
    /// Control objects that count: a base, and what changed since, in this order.
    pub controls: Vec<ControlEntry>,
}

/// A manifest's bytes.
///
/// # Errors
/// More entries than can be counted.
pub fn encode_manifest(header: &RemoteHeader, contents: &Contents) -> Result<Vec<u8>, Flaw> {
    let count = contents.objects.len() + contents.controls.len();
    let mut body = Vec::with_capacity(count * ENTRY_BYTES);
    for (name, entry) in &contents.objects {
        let again = u16::try_from(name.again).map_err(|_| Flaw::Field("name of an object"))?;
        body.extend_from_slice(&OBJECT.to_le_bytes());
        body.extend_from_slice(&name.shard.0.to_le_bytes());
        body.extend_from_slice(&again.to_le_bytes());
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(&name.segment.0.to_le_bytes());
        body.extend_from_slice(&name.last_seq.to_le_bytes());
        body.extend_from_slice(&entry.bytes.to_le_bytes());
        body.extend_from_slice(&name.last_crc.to_le_bytes());
        body.extend_from_slice(&entry.crc.to_le_bytes());
        body.extend_from_slice(&[0; 24]);
    }
    for control in &contents.controls {
        body.extend_from_slice(&CONTROL.to_le_bytes());
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&control.number.to_le_bytes());
        body.extend_from_slice(&control.bytes.to_le_bytes());
        body.extend_from_slice(&control.crc.to_le_bytes());
        body.extend_from_slice(&[0; 36]);
    }
    seal(header, count, &body)
}

/// Reads a manifest.
///
/// # Errors
/// Anything that is not as it was written.
pub fn decode_manifest(bytes: &[u8]) -> Result<(RemoteHeader, Contents), Flaw> {
    let (header, count, body) = open(bytes)?;
    if header.kind != Kind::Manifest || body.len() != count as usize * ENTRY_BYTES {
        return Err(Flaw::Field("entries of a manifest"));
    }
    let mut contents = Contents::default();
    for entry in body.chunks_exact(ENTRY_BYTES) {
        match u16_at(entry, 0) {
            OBJECT => {
                let name = Named {
                    directory: header.directory,
                    lineage: header.lineage,
                    shard: ShardId(u16_at(entry, 2)),
                    segment: SegmentId(u64_at(entry, 8)),
                    last_seq: u64_at(entry, 16),
                    last_crc: u32_at(entry, 32),
                    again: u16_at(entry, 4).into(),
                };
                let known = Entry { bytes: u64_at(entry, 24), crc: u32_at(entry, 36) };
                contents.objects.insert(name, known);
            }
            CONTROL => {
                let (number, bytes) = (u64_at(entry, 8), u64_at(entry, 16));
                contents.controls.push(ControlEntry { number, bytes, crc: u32_at(entry, 24) });
            }
            other => {
                return Err(Flaw::Unknown { what: "entry of a manifest", found: other.into() });
            }
        }
    }
    Ok((header, contents))
}

/// A control object's bytes.
///
/// # Errors
/// Frames that cannot be encoded.
pub fn encode_control(header: &RemoteHeader, frames: &[Frame]) -> Result<Vec<u8>, Flaw> {
    let mut body = Vec::new();
    for frame in frames {
        body.extend_from_slice(&frame.encode(FRAME_UNIT)?.0);
    }
    seal(header, frames.len(), &body)
}

/// Reads a control object.
///
/// # Errors
/// Anything that is not as it was written.
pub fn decode_control(bytes: &[u8]) -> Result<(RemoteHeader, Vec<Frame>), Flaw> {
    let (header, count, mut body) = open(bytes)?;
    if header.kind == Kind::Manifest {
        return Err(Flaw::Field("a manifest under the name of a control object"));
    }
    let mut frames = Vec::new();
    while !body.is_empty() {
        let (frame, bytes, _) = Frame::decode(body)?;
        if (frame.directory, frame.lineage) != (header.directory, header.lineage) {
            return Err(Flaw::Field("facts of another directory"));
        }
        frames.push(frame);
        body = &body[bytes.min(body.len())..];
    }
    if frames.len() == count as usize {
        Ok((header, frames))
    } else {
        Err(Flaw::Field("number of frames"))
    }
}

/// The kind and the header of either, for who only wants to know what it is.
///
/// # Errors
/// Anything that is not as it was written.
pub fn decode_header(bytes: &[u8]) -> Result<RemoteHeader, Flaw> {
    open(bytes).map(|(header, ..)| header)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn manifest() -> Vec<u8> {
        let name = |segment| Named {
            directory: 1,
            lineage: 2,
            shard: ShardId(3),
            segment: SegmentId(segment),
            last_seq: 9,
            last_crc: 10,
            again: 1,
        };
        let entry = |bytes| Entry { bytes, crc: 77 };
        let contents = Contents {
            objects: [(name(4), entry(5)), (name(6), entry(7))].into(),
            controls: vec![ControlEntry { number: 3, bytes: 4, crc: 5 }],
        };
        let header = RemoteHeader {
            directory: 1,
            lineage: 2,
            number: 8,
            term: 4,
            ..RemoteHeader::default()
        };
        let bytes = encode_manifest(&header, &contents).unwrap();
        assert_eq!(decode_manifest(&bytes).unwrap(), (header, contents));
        bytes
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = manifest();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_manifest(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode_manifest(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(decode_manifest(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
    }

    #[test]
    fn the_next_version_is_unsupported_and_never_corrupt() {
        let mut bytes = manifest();
        bytes[4] = 2;
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..REMOTE_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_manifest(&bytes), Err(Flaw::Version { found: 2 }));
    }

    #[test]
    fn control_objects_are_read_back() {
        let header =
            RemoteHeader { kind: Kind::Delta, directory: 1, lineage: 2, ..Default::default() };
        let frame = |seq| Frame { directory: 1, lineage: 2, seq, ..Frame::default() };
        let frames = vec![frame(1), frame(2)];
        let bytes = encode_control(&header, &frames).unwrap();
        assert_eq!(decode_control(&bytes).unwrap(), (header, frames));
        assert!(decode_manifest(&bytes).is_err(), "it is no manifest");
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_control(&bytes).is_err(), "bit {bit}");
        }
        let strange = Frame { directory: 5, ..frame(3) };
        let bytes = encode_control(&header, &[strange]).unwrap();
        assert!(decode_control(&bytes).is_err());
    }
}
