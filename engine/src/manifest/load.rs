//! Reading a manifest: both copies of both slots, folded to the state.
//!
//! Invariants: a frame counts when one copy has it whole; one that is missing in both, with a later
//! one there, convicts the manifest. Entries are decoded one by one, never all at once in memory:
//! there may be very many. What is read is in memory that goes back to the system, not to an
//! allocator that would keep it.
//!
//! Not here: writing it, what the state means (the module above).

use std::collections::BTreeMap;

use super::{Cursor, State};
use crate::error::{Error, Result};
use crate::format::manifest::{FrameHeader, FrameView};
use crate::format::{Flaw, UNIT_MIN};
use crate::io::buf::{AlignedBuf, Scratch};
use crate::io::{Mode, Storage};
use crate::lsn::ShardId;
use crate::names;

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// A manifest as it was read: the state, and how it got there.
pub(crate) struct Loaded {
    pub state: State,
    pub cursor: Cursor,
    /// The shard's durable batch sequence that the manifest itself claims.
    pub durable: u64,
    /// What was wrong in one copy and right in the other.
    pub repaired: Vec<String>,
}

/// A frame that is whole in one copy.
struct Whole {
    header: FrameHeader,
    bytes: Bytes,
}

/// Above this, a frame is kept in memory of its own.
const LARGE_BYTES: usize = 64 << 10;

enum Bytes {
    Small(Box<[u8]>),
    Large(Scratch),
}

impl Bytes {
    fn of(bytes: &[u8]) -> std::io::Result<Self> {
        if bytes.len() <= LARGE_BYTES {
            return Ok(Self::Small(bytes.into()));
        }
        let mut large = Scratch::zeroed(bytes.len())?;
        large.copy_from_slice(bytes);
        Ok(Self::Large(large))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// By sequence. Two where the copies differ: a predecessor that had lost the directory wrote late.
type SlotFrames = BTreeMap<u64, Vec<Whole>>;

/// Reads both copies of both slots. `Ok(None)`: no slot holds a snapshot (never finished creating).
///
/// # Errors
/// `Unsupported` for a newer version, `NotOurs` for damage that the other copy does not mend.
pub(crate) fn load(storage: &dyn Storage, shard: ShardId) -> Result<Option<Loaded>> {
    let mut slots: [SlotFrames; names::MANIFEST_SLOTS] = Default::default();
    let mut repaired = Vec::new();
    for (slot, frames) in slots.iter_mut().enumerate() {
        let mut unread = None;
        for copy in 0..names::MANIFEST_COPIES {
            let name = names::manifest(shard, copy, slot);
            let bytes = match read_file(storage, &name) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                // The other copy has all that counts. Without it this may have been the slot in
                // force, and the older one must not stand in for it.
                Err(error) => {
                    repaired.push(format!("{name}: {error}"));
                    match unread.replace(error) {
                        None => continue,
                        Some(first) => return Err(first),
                    }
                }
            };
            read_slot(&name, &bytes, frames, &mut repaired)?;
        }
    }
    let newest = |frames: &SlotFrames| {
        let mut latest = frames.iter().rev();
        let is_snapshot = |twins: &&Vec<Whole>| twins.iter().any(|w| w.header.is_snapshot());
        latest.find(|(_, twins)| is_snapshot(twins)).map(|(seq, _)| *seq)
    };
    let Some((slot, base)) = (0..slots.len())
        .filter_map(|slot| Some((slot, newest(&slots[slot])?)))
        .max_by_key(|(_, seq)| *seq)
    else {
        return Ok(None);
    };
    let (state, cursor, durable) = newest_fold(shard, slot, base, &slots[slot], &mut repaired)?;
    let newest_frame = slots.iter().filter_map(|frames| frames.keys().next_back()).max();
    if newest_frame.is_some_and(|seq| *seq > cursor.seq) {
        // Edits that follow a snapshot which is gone in both copies.
        return Err(Error::NotOurs(format!(
            "manifest of shard {shard}: the snapshot before edit {} is damaged in both copies",
            newest_frame.copied().unwrap_or(0)
        )));
    }
    Ok(Some(Loaded { state, cursor, durable, repaired }))
}

/// The state that the frames of a slot come to. Where the copies hold two snapshots, it is the one
/// that leads on, and of two that lead nowhere the one of the later term.
///
/// Crash story: 1. an owner is suspended just before it writes its snapshot to the first copy; 2.
/// its lease runs out, a successor recovers, writes its own snapshot there, and edits behind it; 3.
/// the first wakes, its write lands, and the look at its lease keeps it from the second copy. The
/// first copy alone would tell of a snapshot that the edits behind it do not follow.
fn newest_fold(
    shard: ShardId,
    slot: usize,
    base: u64,
    frames: &SlotFrames,
    repaired: &mut Vec<String>,
) -> Result<(State, Cursor, u64)> {
    let twins = frames.get(&base).map_or(&[][..], |twins| twins);
    let folds = twins.iter().filter(|twin| twin.header.is_snapshot());
    let mut folds: Vec<_> = folds.map(|first| fold(shard, slot, base, first, frames)).collect();
    if folds.len() > 1 {
        repaired.push(format!(
            "manifest of shard {shard}: the copies hold two snapshots of edit {base}; one is a \
             late write of an owner that had lost the directory"
        ));
        let rank = |fold: &Result<(State, Cursor, u64)>| {
            fold.as_ref().ok().map(|(state, cursor, _)| (cursor.seq, state.term))
        };
        folds.sort_by_key(|fold| std::cmp::Reverse(rank(fold)));
    }
    folds.into_iter().next().unwrap_or_else(|| {
        Err(Error::NotOurs(format!("manifest of shard {shard}: it has no snapshot")))
    })
}

/// The state that the frames of a slot come to, from this snapshot on, which is edit `base`.
fn fold(
    shard: ShardId,
    slot: usize,
    base: u64,
    first: &Whole,
    frames: &SlotFrames,
) -> Result<(State, Cursor, u64)> {
    let mut state = State::default();
    let mut cursor = Cursor { slot, offset: 0, seq: base - 1, crc: 0 };
    let mut durable = 0;
    for (seq, twins) in frames.range(base..) {
        let follows = |twin: &&Whole| twin.header.prev_crc == cursor.crc;
        let next = twins.iter().find(follows).or(twins.first());
        let next = if *seq == base { Some(first) } else { next };
        let Some(Whole { header, bytes }) = next else { continue };
        let chained = *seq == base || header.prev_crc == cursor.crc;
        if *seq != cursor.seq + 1 || !chained {
            let what = format!(
                "manifest of shard {shard}: edit {} is missing in both copies, edit {seq} is there",
                cursor.seq + 1
            );
            return Err(Error::NotOurs(what));
        }
        let doing = |flaw| Error::flaw("a frame of the manifest", &flaw);
        let frame = FrameView::parse(bytes).map_err(doing)?;
        for edit in frame.edits() {
            state.apply(&edit.map_err(doing)?);
        }
        if *seq == base {
            state.chained = state.newest_sealed();
        }
        let offset = cursor.offset + bytes.len() as u64;
        cursor = Cursor { slot, offset, seq: *seq, crc: frame.crc };
        durable = durable.max(header.durable);
    }
    Ok((state, cursor, durable))
}

/// Collects the frames of one copy of a slot, walking from its front; behind a damaged frame it
/// goes on unit by unit, as the other copy may have what is damaged here.
fn read_slot(
    name: &str,
    bytes: &[u8],
    frames: &mut SlotFrames,
    repaired: &mut Vec<String>,
) -> Result<()> {
    let mut at = 0;
    let mut last = 0;
    while at + UNIT_MIN <= bytes.len() {
        match whole(&bytes[at..]) {
            Ok(header) => {
                if header.seq < last {
                    break; // left over from the slot's former life
                }
                last = header.seq;
                let end = at + header.padded_bytes();
                let twins = frames.entry(header.seq).or_default();
                if !twins.iter().any(|twin| twin.bytes[..] == bytes[at..end]) {
                    let bytes = Bytes::of(&bytes[at..end]).map_err(|e| Error::io(name, e))?;
                    twins.push(Whole { header, bytes });
                }
                at = end;
            }
            Err(flaw) if flaw.is_unsupported() => return Err(Error::flaw(name, &flaw)),
            Err(flaw) => {
                if flaw != Flaw::Magic {
                    repaired.push(format!("{name} at offset {at}: {flaw}"));
                }
                at += FrameHeader::decode(&bytes[at..])
                    .map_or(UNIT_MIN, |(header, _)| header.padded_bytes().max(UNIT_MIN));
            }
        }
    }
    Ok(())
}

/// Checks all of the frame at the front of `bytes`, its entries included.
fn whole(bytes: &[u8]) -> Result<FrameHeader, Flaw> {
    let frame = FrameView::parse(bytes)?;
    let mut entries = 0;
    for edit in frame.edits() {
        edit?;
        entries += 1;
    }
    if entries != frame.header.entries {
        return Err(Flaw::Field("number of entries"));
    }
    Ok(frame.header)
}

/// A whole file; `None` when there is no such file. Zeroes stand for what was cut off meanwhile.
pub(crate) fn read_file(storage: &dyn Storage, name: &str) -> Result<Option<Scratch>> {
    let doing = |e| Error::io(format!("reading {name}"), e);
    let (file, len) = match storage.open(name, Mode::Read) {
        Ok(opened) => opened,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(doing(e)),
    };
    let len = len as usize;
    let mut out = Scratch::zeroed(len).map_err(doing)?;
    let mut buf = AlignedBuf::zeroed(len.clamp(1, READ_BYTES)).map_err(doing)?;
    let mut at = 0;
    while at < len {
        let want = buf.len();
        let got = storage.read_at(&file, at as u64, &mut buf, want).map_err(doing)?;
        if got == 0 {
            break;
        }
        let got = got.min(len - at);
        out[at..at + got].copy_from_slice(&buf[..got]);
        at += got;
    }
    Ok(Some(out))
}
