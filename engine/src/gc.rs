//! What must stay on the local disk, and who says so: a pure function with reasons.
//!
//! Invariant: every floor has a name and somebody who needs it; whatever is removed, [`horizon`]
//! has let it go. It only rises, so an entry of an index that was let go once stays so.
//!
//! Not here: reading indexes and removing files (`collect`), moving starts by size and age
//! (`retain`).

use crate::lsn::{LogId, Lsn, SegmentId, ShardId};

/// Pins of one segment that a report names; of more, those with the most bytes.
pub(crate) const PINS_MAX: usize = 16;

/// What holds the records of a log on the local disk. All are the first LSN that somebody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floors {
    /// The log's start. Its owner wants everything from here on; below it, nobody can read.
    pub truncated: Lsn,
    /// What is not in the tier yet. 0 without an archive: nothing is read from anywhere else.
    pub tiered: Lsn,
    /// What the settings keep locally although the tier has it.
    pub local_retention: Lsn,
    /// Recovery begins here: the log's tail in the snapshot in force. What lies behind it is known
    /// by its segments alone.
    pub checkpoint: Lsn,
    /// A reader or an upload is on it, and would miss the bytes.
    pub hold: Option<Lsn>,
    /// A named durable cursor will come back for it, and expects it nearby.
    pub cursor: Option<Lsn>,
    /// Where the log's retention would put its start, if no cursor were in the way: no floor, it
    /// says who is the reason for the start.
    pub wanted: Option<Lsn>,
}

/// Why records stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// The log keeps them, and keeps them here: they lie at or above its start, and are not tiered,
    /// or its settings keep them locally.
    Kept,
    /// A durable cursor has not come by yet.
    Cursor,
    /// Somebody holds them.
    Hold,
    /// The next checkpoint has to cover them first.
    Checkpoint,
}

/// The first LSN that must stay on the local disk; a segment whose records of the log all lie below
/// is not needed by it.
pub(crate) fn horizon(f: &Floors) -> Lsn {
    // The owner no longer wants it anywhere.
    let dropped = f.truncated;
    // The tier has it, it is old enough to be read from there, and no cursor comes for it.
    let elsewhere = f.tiered.min(f.local_retention).min(f.cursor.unwrap_or(Lsn(u64::MAX)));
    // But recovery begins here, and somebody is reading there.
    dropped.max(elsewhere).min(f.checkpoint).min(f.hold.unwrap_or(Lsn(u64::MAX)))
}

/// Who needs a segment whose last record of the log is `last`; `None`: nobody.
pub(crate) fn why(f: &Floors, last: Lsn) -> Option<Why> {
    let open = Floors { checkpoint: Lsn(u64::MAX), hold: None, cursor: None, ..*f };
    if last < horizon(f) {
        None
    } else if last >= horizon(&open) {
        // Retention would have moved the start beyond it, had the cursor come by.
        let waits = f.wanted.is_some_and(|wanted| last < wanted)
            && f.cursor.is_some_and(|cursor| last >= cursor);
        Some(if waits { Why::Cursor } else { Why::Kept })
    } else if last >= horizon(&Floors { cursor: f.cursor, ..open }) {
        Some(Why::Cursor)
    } else if f.hold.is_some_and(|hold| last >= hold) {
        Some(Why::Hold)
    } else {
        Some(Why::Checkpoint)
    }
}

/// What a collection came to; see [`Engine::gc`](crate::Engine::gc).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GcReport {
    /// Segments that no log needed any more, removed or made another segment.
    pub freed_segments: u64,
    /// File bytes given back to the file system, indexes among them.
    pub freed_bytes: u64,
    /// Mostly dead segments of which what is kept moved into a smaller file.
    pub relocated_segments: u64,
    /// Bytes of those files, indexes among them. What the files before took is among the bytes
    /// given back.
    pub relocated_bytes: u64,
    /// Segments that stay, and why.
    pub kept: Vec<KeptSegment>,
}

/// A segment that stays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeptSegment {
    /// Its shard.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The name of its file.
    pub file: String,
    /// Bytes of the file that hold batches.
    pub bytes: u64,
    /// What keeps it besides the logs.
    pub state: SegmentState,
    /// The logs that pin it, those with the most bytes first; at most 16.
    pub pins: Vec<Pin>,
    /// Logs that pin it and are not named.
    pub more_pins: u64,
}

/// What a segment is, as far as it keeps it from being collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// Sealed: logs alone decide.
    Sealed,
    /// Batches are written to it, or it is not sealed yet.
    Open,
    /// A hold keeps it, whoever else may.
    Held,
    /// The last batch of the stream is in it: the next one to be sealed relieves it.
    End,
    /// It holds damage that nobody has chosen to go on without.
    Damaged,
    /// Its index cannot be read now; opening the directory builds it again.
    Unreadable,
}

/// A log that pins a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pin {
    /// The log.
    pub log: LogId,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Why,
    /// Its first record in the segment.
    pub first: Lsn,
    /// Its last record there: from its start on behind it, the segment is free of this log.
    pub last: Lsn,
    /// Its records there.
    pub records: u64,
    /// Their bytes, headers among them.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Floors = Floors {
        truncated: Lsn(0),
        tiered: Lsn(0),
        local_retention: Lsn(u64::MAX),
        checkpoint: Lsn(u64::MAX),
        hold: None,
        cursor: None,
        wanted: None,
    };

    #[test]
    fn each_floor_holds_what_it_is_for() {
        let lsn = |n| Some(Lsn(n));
        let table = [
            ("nothing was dropped", FREE, 0),
            ("truncated", Floors { truncated: Lsn(10), ..FREE }, 10),
            ("tiered, all may go", Floors { tiered: Lsn(8), ..FREE }, 8),
            ("tiered, some stay", Floors { tiered: Lsn(8), local_retention: Lsn(3), ..FREE }, 3),
            ("to stay, not tiered", Floors { local_retention: Lsn(3), ..FREE }, 0),
            ("truncated beyond", Floors { truncated: Lsn(9), tiered: Lsn(4), ..FREE }, 9),
            ("tiered beyond", Floors { truncated: Lsn(4), tiered: Lsn(9), ..FREE }, 9),
            ("cursor", Floors { tiered: Lsn(8), cursor: lsn(5), ..FREE }, 5),
            ("cursor below the start", Floors { truncated: Lsn(8), cursor: lsn(5), ..FREE }, 8),
            ("checkpoint", Floors { truncated: Lsn(8), checkpoint: Lsn(6), ..FREE }, 6),
            ("hold", Floors { truncated: Lsn(8), hold: lsn(7), ..FREE }, 7),
            ("hold above", Floors { truncated: Lsn(8), hold: lsn(9), ..FREE }, 8),
            (
                "the lowest counts",
                Floors { truncated: Lsn(8), checkpoint: Lsn(2), hold: lsn(5), ..FREE },
                2,
            ),
        ];
        for (what, floors, first) in table {
            assert_eq!(horizon(&floors), Lsn(first), "{what}");
            assert_eq!(
                first.checked_sub(1).and_then(|last| why(&floors, Lsn(last))),
                None,
                "{what}"
            );
            assert!(why(&floors, Lsn(first)).is_some(), "{what}");
        }
    }

    #[test]
    fn the_reason_is_the_floor_that_holds() {
        let floors = Floors {
            truncated: Lsn(10),
            checkpoint: Lsn(8),
            hold: Some(Lsn(6)),
            tiered: Lsn(20),
            local_retention: Lsn(15),
            cursor: Some(Lsn(12)),
            wanted: None,
        };
        let whys: Vec<_> = [20, 14, 11, 7, 5].map(|last| why(&floors, Lsn(last))).into();
        let hold = Some(Why::Hold);
        assert_eq!(whys, [Some(Why::Kept), Some(Why::Cursor), hold, hold, None]);
        let floors = Floors { hold: None, ..floors };
        assert_eq!(why(&floors, Lsn(9)), Some(Why::Checkpoint));
        // Without a tier a cursor holds by keeping retention from moving the start.
        let cursor = Some(Lsn(10));
        let floors = Floors { truncated: Lsn(10), cursor, wanted: Some(Lsn(14)), ..FREE };
        let whys: Vec<_> = [14, 13, 10, 9].map(|last| why(&floors, Lsn(last))).into();
        assert_eq!(whys, [Some(Why::Kept), Some(Why::Cursor), Some(Why::Cursor), None]);
    }
}
