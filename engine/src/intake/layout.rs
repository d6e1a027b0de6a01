//! What goes into which batch, when an append does not fit one: pure arithmetic, before any lock.
//!
//! Invariants:
//! - Pieces stand in the order of the records, and cover every byte of each once.
//! - A record is cut only at the end of a batch, and goes on at the front of the next: so a log's
//!   fragments are the last of a run and the first of the following one.
//! - A record that an empty batch holds with ease is not cut: it goes whole into the next.
//!
//! Not here: LSNs, memory, copying (`span`).

use std::ops::Range;

use super::{Member, RUNS_MAX, framed, trailer_bytes};
use crate::error::{Error, Result};
use crate::format::{BATCH_FRONT_BYTES, Fragment, RECORD_HEADER_BYTES, SPAN_BATCHES_MAX};
use crate::record::Records;

/// A record is cut rather than moved to the next batch when it takes this share of one.
const CUT_SHARE: usize = 8;

/// The least room at the end of a batch for which a record is cut.
const CUT_BYTES_MIN: usize = 4096;

/// A stretch of a record's body (properties, then payload) in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub member: u32,
    pub record: u32,
    pub body: Range<usize>,
    pub fragment: Fragment,
    /// Which fragment of its record.
    pub index: u32,
}

impl Piece {
    pub(super) fn framed(&self) -> usize {
        framed((0, self.body.len()))
    }
}

/// What one batch of the span holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Of the layout's pieces.
    pub pieces: Range<usize>,
    /// Of the records, framed.
    pub bytes: usize,
    /// Runs, at most: members in it.
    pub runs: usize,
}

impl Part {
    /// Bytes on disk and in memory, at most.
    pub(super) fn padded(&self, unit: usize) -> usize {
        let used = BATCH_FRONT_BYTES + self.bytes + trailer_bytes(self.runs);
        used.next_multiple_of(unit)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layout {
    pub pieces: Vec<Piece>,
    pub parts: Vec<Part>,
    batch_max: usize,
    /// The member of the last piece in the last part.
    last: Option<u32>,
}

impl Layout {
    /// # Errors
    /// `Invalid` when a span would have more than [`SPAN_BATCHES_MAX`] batches.
    pub(super) fn of<R: Records>(members: &[Member<R>], batch_max: usize) -> Result<Self> {
        let parts = vec![Part::default()];
        let mut layout = Self { pieces: Vec::new(), parts, batch_max, last: None };
        for (member, append) in members.iter().enumerate() {
            for record in 0..append.records.count() {
                let (properties, payload) = append.records.part_lens(record);
                layout.add(member as u32, record as u32, properties + payload)?;
            }
        }
        Ok(layout)
    }

    fn add(&mut self, member: u32, record: u32, body: usize) -> Result<()> {
        let (mut from, mut index) = (0, 0);
        loop {
            let room = self.room(member);
            let need = framed((0, body - from));
            if need <= room {
                let fragment = if index == 0 { Fragment::Whole } else { Fragment::Last };
                self.push(Piece { member, record, body: from..body, fragment, index });
                return Ok(());
            }
            let empty = self.parts.last().is_none_or(|part| part.bytes == 0);
            let cut = need > self.batch_max / CUT_SHARE && room >= CUT_BYTES_MIN;
            if empty || cut {
                // A multiple of 8, so that a fragment ends with its batch.
                let until = from + (room - RECORD_HEADER_BYTES) / 8 * 8;
                let fragment = if index == 0 { Fragment::First } else { Fragment::Middle };
                self.push(Piece { member, record, body: from..until, fragment, index });
                (from, index) = (until, index + 1);
            }
            self.next_part()?;
        }
    }

    /// Bytes that the last part still takes, with a record of this member in it.
    fn room(&self, member: u32) -> usize {
        let Some(part) = self.parts.last() else { return 0 };
        let runs = part.runs + usize::from(self.last != Some(member));
        let taken = BATCH_FRONT_BYTES + part.bytes + trailer_bytes(runs);
        if runs > RUNS_MAX { 0 } else { self.batch_max.saturating_sub(taken) }
    }

    fn push(&mut self, piece: Piece) {
        if let Some(part) = self.parts.last_mut() {
            part.runs += usize::from(self.last != Some(piece.member));
            part.bytes += piece.framed();
            part.pieces.end += 1;
        }
        self.last = Some(piece.member);
        self.pieces.push(piece);
    }

    fn next_part(&mut self) -> Result<()> {
        if self.parts.len() == SPAN_BATCHES_MAX as usize {
            return Err(Error::Invalid(format!(
                "an append of more than {SPAN_BATCHES_MAX} batches of {} bytes",
                self.batch_max
            )));
        }
        let at = self.pieces.len();
        self.parts.push(Part { pieces: at..at, ..Part::default() });
        self.last = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::{Epoch, LogId};
    use crate::record::Batch;

    const BATCH: usize = 65536;

    fn of(members: &[&[usize]]) -> Result<Layout> {
        let member = |lens: &&[usize]| {
            let mut records = Batch::new();
            lens.iter().for_each(|len| {
                records.push(&vec![0; *len]);
            });
            Member { id: LogId(0), epoch: Epoch(1), records }
        };
        let members: Vec<_> = members.iter().map(member).collect();
        Layout::of(&members, BATCH)
    }

    /// Every byte once, in order; parts within their size; fragments numbered, cut at the ends.
    fn check(members: &[&[usize]]) -> Layout {
        let layout = of(members).unwrap();
        let mut pieces = layout.pieces.iter();
        for (member, lens) in members.iter().enumerate() {
            for (record, len) in lens.iter().enumerate() {
                let (mut from, mut index) = (0, 0);
                loop {
                    let piece = pieces.next().unwrap();
                    let place = (piece.member as usize, piece.record as usize, piece.index);
                    assert_eq!(place, (member, record, index));
                    assert_eq!(piece.body.start, from);
                    from = piece.body.end;
                    let ends = matches!(piece.fragment, Fragment::Whole | Fragment::Last);
                    assert_eq!(ends, from == *len, "{piece:?} of {len}");
                    if ends {
                        break;
                    }
                    index += 1;
                }
            }
        }
        assert!(pieces.next().is_none());
        for part in &layout.parts {
            assert!(part.padded(4096) <= BATCH && !part.pieces.is_empty(), "{part:?}");
            let inner = &layout.pieces[part.pieces.clone()];
            let bytes: usize = inner.iter().map(Piece::framed).sum();
            assert_eq!(bytes, part.bytes);
            let (last, front) = inner.split_last().unwrap();
            let cut = |p: &Piece| matches!(p.fragment, Fragment::First | Fragment::Middle);
            assert!(!front.iter().any(cut), "cut before the end of a batch");
            assert!(inner[1..].iter().all(|p| p.index == 0), "goes on behind another: {last:?}");
        }
        layout
    }

    #[test]
    fn a_record_larger_than_a_batch_is_cut_at_their_ends() {
        let layout = check(&[&[200_000]]);
        assert_eq!(layout.parts.len(), 4);
        assert!(layout.parts[..3].iter().all(|part| part.padded(4096) == BATCH));
        let kinds: Vec<_> = layout.pieces.iter().map(|piece| piece.fragment).collect();
        use Fragment::{First, Last, Middle};
        assert_eq!(kinds, [First, Middle, Middle, Last]);
        // One byte more than a batch holds.
        let most = BATCH - BATCH_FRONT_BYTES - RECORD_HEADER_BYTES;
        assert_eq!(check(&[&[most]]).parts.len(), 1);
        assert_eq!(check(&[&[most + 1]]).parts.len(), 2);
    }

    #[test]
    fn small_records_are_not_cut() {
        let small = [5000; 40];
        let layout = check(&[&small, &small]);
        assert!(layout.pieces.iter().all(|piece| piece.fragment == Fragment::Whole));
        check(&[&[0; 3000], &[], &[0, 100_000, 0], &[60_000, 60_000, 60_000]]);
    }

    #[test]
    fn a_part_of_many_members_has_room_for_its_run_table() {
        let one: &[usize] = &[100];
        let many = vec![one; 3000];
        check(&many);
    }

    #[test]
    fn a_span_has_a_limit() {
        assert!(of(&[&[33 * BATCH]]).is_err());
        check(&[&[31 * BATCH]]);
    }

    #[test]
    fn any_sizes_are_laid_out() {
        proptest::proptest!(|(lens: Vec<Vec<u16>>, big in 0..300_000usize)| {
            let mut lens: Vec<Vec<usize>> =
                lens.iter().map(|l| l.iter().map(|n| usize::from(*n)).collect()).collect();
            lens.truncate(6);
            lens.iter_mut().for_each(|l| l.truncate(3));
            lens.push(vec![big]);
            let slices: Vec<&[usize]> = lens.iter().map(Vec::as_slice).collect();
            check(&slices);
        });
    }
}
