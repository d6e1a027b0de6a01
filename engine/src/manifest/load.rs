//! Reading a manifest: both copies of both slots, folded to the state.
//!
//! Invariant: a frame counts when one copy has it whole; one that is missing in both, with a later
//! one there, convicts the manifest.
//!
//! Not here: writing it, what the state means (the module above).

use std::collections::BTreeMap;

use super::{Cursor, State};
use crate::error::{Error, Result};
use crate::format::manifest::{Frame, FrameHeader, SNAPSHOT};
use crate::format::{Flaw, UNIT_MIN};
use crate::io::buf::AlignedBuf;
use crate::io::{Mode, Storage};
use crate::lsn::ShardId;
use crate::names;

/// A manifest as it was read: the state, and how it got there.
pub(crate) struct Loaded {
    pub state: State,
    pub cursor: Cursor,
    /// The shard's durable batch sequence that the manifest itself claims.
    pub durable: u64,
    /// What was wrong in one copy and right in the other.
    pub repaired: Vec<String>,
}

type SlotFrames = BTreeMap<u64, (Frame, u64, u32)>;

/// Reads both copies of both slots. `Ok(None)`: no slot holds a snapshot (never finished creating).
///
/// # Errors
/// `Unsupported` for a newer version, `NotOurs` for damage that the other copy does not mend.
pub(crate) fn load(storage: &dyn Storage, shard: ShardId) -> Result<Option<Loaded>> {
    let mut slots: Vec<SlotFrames> = vec![SlotFrames::new(); names::MANIFEST_SLOTS];
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
        frames.values().rev().find(|(f, _, _)| f.flags & SNAPSHOT != 0).map(|(f, _, _)| f.seq)
    };
    let Some((slot, base)) = (0..slots.len())
        .filter_map(|slot| Some((slot, newest(&slots[slot])?)))
        .max_by_key(|(_, seq)| *seq)
    else {
        return Ok(None);
    };
    let frames = &slots[slot];
    let mut state = State::default();
    let mut cursor = Cursor { slot, offset: 0, seq: base - 1, crc: 0 };
    let mut durable = 0;
    for (seq, (frame, bytes, crc)) in frames.range(base..) {
        let chained = *seq == base || frame.prev_crc == cursor.crc;
        if *seq != cursor.seq + 1 || !chained {
            let what = format!(
                "manifest of shard {shard}: edit {} is missing in both copies, edit {seq} is there",
                cursor.seq + 1
            );
            return Err(Error::NotOurs(what));
        }
        frame.edits.iter().for_each(|edit| state.apply(edit));
        if *seq == base {
            state.chained = state.newest_sealed();
        }
        cursor = Cursor { slot, offset: cursor.offset + bytes, seq: *seq, crc: *crc };
        durable = durable.max(frame.durable);
    }
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
        match Frame::decode(&bytes[at..]) {
            Ok((frame, padded, crc)) => {
                if frame.seq < last {
                    break; // left over from the slot's former life
                }
                last = frame.seq;
                frames.entry(frame.seq).or_insert((frame, padded as u64, crc));
                at += padded;
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

pub(crate) fn read_file(storage: &dyn Storage, name: &str) -> Result<Option<Vec<u8>>> {
    let doing = || format!("reading {name}");
    let (file, len) = match storage.open(name, Mode::Read) {
        Ok(opened) => opened,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(doing(), e)),
    };
    let mut out = Vec::with_capacity(len as usize);
    let mut buf =
        AlignedBuf::zeroed((len as usize).clamp(1, 1 << 20)).map_err(|e| Error::io(doing(), e))?;
    while (out.len() as u64) < len {
        let want = buf.len();
        let got = storage
            .read_at(&file, out.len() as u64, &mut buf, want)
            .map_err(|e| Error::io(doing(), e))?;
        if got == 0 {
            break;
        }
        out.extend_from_slice(&buf[..got]);
    }
    Ok(Some(out))
}
