//! Folding edits, and snapshots of what they made.

use super::snapshot::LOGS_PER_STEP;
use super::*;
use crate::format::manifest::{LogFacts, LogSettings};
use crate::lsn::{Epoch, Lsn};

pub(super) fn some_state() -> State {
    let mut state = State::default();
    let shard = ShardId(3);
    for counter in 0..5 {
        let id = LogId::new(shard, counter);
        state.apply(&Edit::Log(LogFacts {
            id,
            name: format!("log-{counter}").into(),
            ..Default::default()
        }));
        let (epoch, first_lsn) = (Epoch(counter as u32 + 1), Lsn(counter * 10));
        state.apply(&Edit::Epoch { log: id, epoch, first_lsn });
    }
    let id = LogId::new(shard, 2);
    let settings = LogSettings { retention_secs: Some(5), ..Default::default() };
    state.apply(&Edit::Settings { log: id, settings });
    state.apply(&Edit::Start { log: id, start: Lsn(7) });
    for counter in [2, 4] {
        let (log, name) = (LogId::new(shard, counter), "outbox".to_owned());
        state.apply(&Edit::Cursor { log, name, lsn: Lsn(3) });
    }
    state.apply(&Edit::Deleted { log: LogId::new(shard, 4) });
    for n in 1..4 {
        let segment = SegmentId(n);
        state.apply(&Edit::Spare { segment, file: n + 10, nonce: n, bytes: 1 << 20, term: 1 });
    }
    state
        .apply(&SealedFacts { first_seq: 1, last_seq: 9, ..Default::default() }.edit(SegmentId(1)));
    state.apply(&Edit::Tiered { segment: SegmentId(1) });
    state.apply(&Edit::Relocated {
        segment: SegmentId(1),
        file: 20,
        nonce: 20,
        end_offset: 8192,
        records: 3,
        index_bytes: 8192,
        term: 1,
        index_crc: 5,
    });
    state.apply(&Edit::Tiered { segment: SegmentId(3) }); // not sealed: nothing to say
    state.apply(&Edit::Retired { segment: SegmentId(2) });
    state.apply(&Edit::Damage(DamageFacts {
        log: Some(id),
        first_lsn: Lsn(8),
        ..Default::default()
    }));
    let (cut, epoch) = (LogId::new(shard, 1), Epoch(3));
    state.apply(&Edit::Damage(DamageFacts {
        log: Some(cut),
        first_lsn: Lsn(2),
        last_lsn: Some(Lsn(8)),
        ..Default::default()
    }));
    state.apply(&Edit::Cut { log: cut, epoch, first_lsn: Lsn(5) });
    state.apply(&Edit::Term { term: 4, cut_seq: 9, cut_crc: 77 });
    state.apply(&Edit::Checkpoint { seq: 9 });
    state
}

/// The bytes of a snapshot of `state`, and the entries of its largest step.
fn snapshot_bytes(state: &State, edits: Vec<Edit>) -> (Vec<u8>, u32) {
    let mut state = state.clone();
    let mut building = Building::new(state.checkpoint, edits);
    while !building.step(&mut state, &|_: &_, _: &mut [_]| {}).unwrap() {}
    let most = building.most;
    let (pieces, _) = building.finish(&state, ShardId(3), 1, 9).unwrap();
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for (offset, piece) in pieces {
        offsets.push(offset);
        assert!(piece.len() <= PIECE_BYTES);
        bytes.resize(bytes.len().max(offset as usize + piece.len()), 0);
        bytes[offset as usize..][..piece.len()].copy_from_slice(&piece);
    }
    assert_eq!(offsets.last(), Some(&0), "the header comes last");
    (bytes, most)
}

fn snapshot(state: &State, edits: Vec<Edit>) -> Vec<Edit> {
    let (bytes, _) = snapshot_bytes(state, edits);
    let (frame, padded, _) = Frame::decode(&bytes).unwrap();
    assert_eq!((padded, frame.flags), (bytes.len(), crate::format::manifest::SNAPSHOT));
    frame.edits
}

#[test]
fn a_snapshot_rebuilds_the_state() {
    let state = some_state();
    let mut again = State::default();
    snapshot(&state, Vec::new()).iter().for_each(|edit| again.apply(edit));
    assert_eq!(state, again);
}

/// A segment that moved keeps its place and its mark; its first file is retired, and stays so when
/// the segment goes too.
#[test]
fn a_segment_lives_on_in_another_file() {
    let mut state = some_state();
    let moved = state.segments[&SegmentId(1)];
    let sealed = moved.sealed.unwrap();
    assert_eq!((moved.file, moved.nonce, moved.bytes, moved.tiered), (20, 20, 8192, true));
    assert_eq!((sealed.first_seq, sealed.last_seq, sealed.end_offset), (1, 9, 8192));
    assert_eq!((state.tiered_to, state.retired[&11].segment), (SegmentId(1), SegmentId(1)));
    state.apply(&Edit::Retired { segment: SegmentId(1) });
    assert!(state.retired.contains_key(&11) && state.retired.contains_key(&20));
}

#[test]
fn log_numbers_are_not_reused_after_a_delete() {
    assert_eq!(some_state().next_log, 5);
    let mut again = State::default();
    snapshot(&some_state(), Vec::new()).iter().for_each(|edit| again.apply(edit));
    assert_eq!(again.next_log, 5);
}

/// A directory without a segment counted them from 1 again: a segment's number named two.
#[test]
fn segment_numbers_are_not_reused_when_all_are_gone() {
    let mut state = some_state();
    for n in 1..4 {
        state.apply(&Edit::Retired { segment: SegmentId(n) });
    }
    (11..14).chain([20]).for_each(|file| state.forget(file));
    let mut again = State::default();
    snapshot(&state, Vec::new()).iter().for_each(|edit| again.apply(edit));
    assert_eq!((again.segments.len(), again.retired.len()), (0, 1));
    assert_eq!(again.next_segment(), SegmentId(4));
}

#[test]
fn a_retired_file_that_is_another_segment_is_not_retired() {
    let mut state = some_state();
    let segment = SegmentId(9);
    state.apply(&Edit::Spare { segment, file: 12, nonce: 5, bytes: 1 << 20, term: 1 });
    assert!(!state.retired.contains_key(&12));
}

/// All logs were encoded in one turn, and written in one go: 100,000 of them held back every append
/// of the shard for tens of milliseconds.
#[test]
fn a_snapshot_of_many_logs_is_made_in_small_steps_and_pieces() {
    let mut state = some_state();
    for counter in 5..20_000 {
        let name = format!("tenant/{counter:06}/events").into();
        let id = LogId::new(ShardId(3), counter);
        state.apply(&Edit::Log(LogFacts { id, name, ..Default::default() }));
    }
    let (bytes, most) = snapshot_bytes(&state, Vec::new());
    assert!(bytes.len() > 4 * PIECE_BYTES, "several pieces: {}", bytes.len());
    // A log here has a cut, another a cursor.
    assert!(most as usize <= LOGS_PER_STEP + 2, "{most} entries in one step");
    let mut again = State::default();
    snapshot(&state, Vec::new()).iter().for_each(|edit| again.apply(edit));
    assert_eq!(state, again);
}

/// What waits is part of the snapshot: behind the state, as if it had come after it.
#[test]
fn edits_that_wait_follow_the_state_in_its_snapshot() {
    let mut state = some_state();
    let log = LogId::new(ShardId(3), 1);
    let edits = vec![
        Edit::Deleted { log: LogId::new(ShardId(3), 2) },
        Edit::Cut { log, epoch: Epoch(9), first_lsn: Lsn(1) },
        Edit::NextLog { counter: 77 },
    ];
    let mut again = State::default();
    snapshot(&state, edits.clone()).iter().for_each(|edit| again.apply(edit));
    edits.iter().for_each(|edit| state.apply(edit));
    assert_eq!(state, again);
}

/// An owner was suspended just before it wrote its snapshot to the first copy; its lease ran out, a
/// successor recovered into the same slot; then that one write landed. (Found by suspending an
/// engine at each of its operations: the directory was `NotOurs`, "edit 8 is missing in both
/// copies, edit 8 is there".) The successor's is what counts.
#[test]
fn a_predecessors_late_snapshot_in_one_copy_is_passed_over() {
    use std::cell::Cell;

    use crate::io::sim::{Faults, SimStorage};

    let (storage, shard) = (SimStorage::new(1, Faults::default()), ShardId(0));
    let with_term = |term| {
        let mut state = some_state();
        state.apply(&Edit::Term { term, cut_seq: 9, cut_crc: 0 });
        state
    };
    let write = |term, from, still: &dyn Fn() -> Result<()>| {
        write_snapshot(&storage, shard, &mut with_term(term), &no_tails, 9, from, still)
    };
    let ours = || Ok(());
    let first = write(3, Cursor::default(), &ours).unwrap();
    let second = write(5, first, &ours).unwrap();
    // It may open both copies and write once more; then it looks, and its lease is over.
    let looks = Cell::new(0);
    let late = || {
        looks.set(looks.get() + 1);
        if looks.get() > 3 { Err(Error::Closed) } else { Ok(()) }
    };
    assert!(matches!(write(4, first, &late), Err(Error::Closed)));
    let loaded = load(&storage, shard).unwrap().unwrap();
    assert_eq!((loaded.state.term, loaded.cursor.seq, loaded.cursor.slot), (5, second.seq, 1));
    assert!(loaded.repaired.iter().any(|what| what.contains("two snapshots")));
    let third = write(6, loaded.cursor, &ours).unwrap();
    assert_eq!(third.seq, second.seq + 1);
    assert_eq!(load(&storage, shard).unwrap().unwrap().state.term, 6);
}
