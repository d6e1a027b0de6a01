//! What the manifest files of a shard say, both copies held against each other.
//!
//! Invariants: only frames from the newest snapshot on count; what stands behind them is left over
//! from the slot's former life. A frame that one copy lacks is damage, unless it is the very last
//! one: a crash may have come between the two writes, and nobody was told of it yet.
//! Not here: the bytes (`sapwood::dump`), what opening makes of it (the engine).

use std::collections::BTreeMap;
use std::io;

use anyhow::Result;
use sapwood::SegmentId;
use sapwood::dump::{DumpItem, DumpOptions, FileKind, dump};
use sapwood::format::{Edit, SNAPSHOT};

/// A segment as the manifest names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub segment: SegmentId,
    pub nonce: u64,
    /// Where its batches end, once it is sealed.
    pub end: Option<u64>,
    /// Its index had no room on the disk yet.
    pub owed: bool,
}

/// What exists in a shard, by file number.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub segments: BTreeMap<u64, Named>,
    pub unit: u32,
    /// Segments of which someone chose to go on without something.
    pub lost: Vec<SegmentId>,
}

/// One copy of one slot.
#[derive(Debug)]
pub(super) struct Copy {
    pub name: String,
    slot: u8,
    frames: BTreeMap<u64, Vec<Edit>>,
    snapshot: Option<u64>,
    /// What is wrong with it: where, whether in a frame, what.
    flaws: Vec<(u64, Option<u64>, String)>,
}

/// Something wrong in a copy.
pub(super) struct Wrong {
    pub name: String,
    pub offset: u64,
    pub what: String,
}

impl Copy {
    /// Reads a copy; `name` ends in its letter and its slot.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let slot = name.bytes().last().unwrap_or_default();
        let (frames, flaws) = (BTreeMap::new(), Vec::new());
        let mut copy = Self { name: name.to_owned(), slot, frames, snapshot: None, flaws };
        let options = DumpOptions { kind: Some(FileKind::Manifest), ..DumpOptions::default() };
        let mut last = 0;
        let mut former_life = false;
        dump(bytes, &options, &mut |item| {
            match item {
                DumpItem::Frame { header, .. } => {
                    former_life |= header.seq < last;
                    if !former_life {
                        last = header.seq;
                        copy.frames.insert(header.seq, Vec::new());
                        if header.flags & SNAPSHOT != 0 {
                            copy.snapshot = Some(header.seq);
                        }
                    }
                }
                DumpItem::Edit { edit, .. } if !former_life => {
                    if let Some(edits) = copy.frames.get_mut(&last) {
                        edits.push((*edit).clone());
                    }
                }
                DumpItem::Flaw { offset, what, flaw } if !former_life => {
                    copy.flaws.push((*offset, Some(last), format!("{what}: {flaw}")));
                }
                DumpItem::Gap { offset, zeroes: false, flaw, .. } if !former_life => {
                    copy.flaws.push((*offset, None, flaw.to_string()));
                }
                _ => {}
            }
            io::Result::Ok(())
        })?;
        Ok(copy)
    }

    /// How many frames of the life in force it holds.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }
}

/// Holds the copies of a shard against each other.
pub(super) fn compare(copies: &[Copy]) -> (Known, Vec<Wrong>) {
    let mut wrong = Vec::new();
    let Some(base) = copies.iter().filter_map(|copy| copy.snapshot).max() else {
        for copy in copies {
            let what = "no copy of the manifest holds a whole snapshot".to_owned();
            wrong.push(Wrong { name: copy.name.clone(), offset: 0, what });
        }
        return (Known::default(), wrong);
    };
    let slot = copies.iter().find(|copy| copy.snapshot == Some(base)).map_or(0, |copy| copy.slot);
    let in_force: Vec<&Copy> = copies.iter().filter(|copy| copy.slot == slot).collect();
    let mut frames: BTreeMap<u64, &Vec<Edit>> = BTreeMap::new();
    for copy in &in_force {
        frames.extend(copy.frames.range(base..).map(|(seq, edits)| (*seq, edits)));
    }
    let last = frames.last_key_value().map_or(base, |(seq, _)| *seq);
    for copy in &in_force {
        compare_one(copy, base, last, &frames, &mut wrong);
    }
    (fold(frames.into_values()), wrong)
}

fn compare_one(
    copy: &Copy,
    base: u64,
    last: u64,
    frames: &BTreeMap<u64, &Vec<Edit>>,
    wrong: &mut Vec<Wrong>,
) {
    let mut say = |offset, what| wrong.push(Wrong { name: copy.name.clone(), offset, what });
    for (offset, seq, what) in &copy.flaws {
        if seq.is_some_and(|seq| seq >= base) {
            say(*offset, what.clone());
        }
    }
    let closed = frames
        .get(&last)
        .is_some_and(|edits| edits.iter().any(|edit| matches!(edit, Edit::Closed { .. })));
    let missing: Vec<u64> = frames
        .keys()
        .copied()
        .filter(|seq| !copy.frames.contains_key(seq) && (*seq != last || closed))
        .collect();
    if let (Some(first), Some(until)) = (missing.first(), missing.last()) {
        let offset = copy.flaws.first().map_or(0, |(offset, _, _)| *offset);
        say(
            offset,
            format!("edits {first} to {until} are damaged here and whole in the other copy"),
        );
    }
}

fn fold<'a>(frames: impl Iterator<Item = &'a Vec<Edit>>) -> Known {
    let mut known = Known { unit: 4096, ..Known::default() };
    for edit in frames.flatten() {
        match *edit {
            Edit::Directory(facts) => known.unit = facts.unit,
            Edit::Spare { segment, file, nonce, .. } => {
                known.segments.insert(file, Named { segment, nonce, end: None, owed: false });
            }
            Edit::Sealed { segment, end_offset, index_bytes, .. } => {
                let named = known.segments.values_mut().find(|named| named.segment == segment);
                if let Some(named) = named {
                    (named.end, named.owed) = (Some(end_offset), index_bytes == 0);
                }
            }
            Edit::Relocated { segment, file, nonce, end_offset, .. } => {
                known.segments.retain(|_, named| named.segment != segment);
                let end = Some(end_offset);
                known.segments.insert(file, Named { segment, nonce, end, owed: false });
            }
            Edit::Retired { segment } => known.segments.retain(|_, named| named.segment != segment),
            Edit::Damage(facts) if facts.lost => known.lost.push(facts.segment),
            _ => {}
        }
    }
    known
}
