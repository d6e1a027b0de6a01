//! What memory the ring hands out, to whom, and when it takes it back.

use super::*;

fn ring(bytes: usize) -> StageRing<()> {
    StageRing::new(bytes, 16384, 4096, 1, ()).unwrap()
}

fn stage(ring: &StageRing<()>, fill: u8, len: usize) -> Result<usize, NoRoom> {
    let mut slot = ring.lock().reserve(64, len, 0)?;
    slot.bytes().fill(fill);
    let offset = slot.offset();
    assert!(!slot.finish());
    Ok(offset)
}

#[test]
fn a_batch_is_what_was_reserved_in_order() {
    let ring = ring(65536);
    assert_eq!(stage(&ring, 1, 100), Ok(64));
    assert_eq!(stage(&ring, 2, 50), Ok(164));
    let batch = ring.lock().close(64, 0).unwrap();
    assert_eq!((batch.seq(), batch.used(), batch.as_slice().len()), (1, 214, 4096));
    assert!(batch.as_slice()[64..164].iter().all(|b| *b == 1));
    assert!(ring.pin(1).is_none(), "not readable before it is frozen");
    batch.freeze();
    assert_eq!(ring.pin(1).unwrap()[164], 2);
}

#[test]
fn an_unfinished_slot_keeps_its_batch_from_being_touched() {
    let ring = ring(65536);
    let slot = ring.lock().reserve(64, 10, 0).unwrap();
    let mut batch = ring.lock().close(64, 0).unwrap();
    assert!(!batch.filled() && batch.bytes_mut().is_none());
    assert!(slot.finish(), "the last slot of a closed batch tells its owner");
    assert!(batch.bytes_mut().is_some());
}

#[test]
fn memory_that_somebody_owns_is_never_reclaimed() {
    let ring = ring(32768);
    let mut owned = Vec::new();
    while stage(&ring, 7, 4000).is_ok() {
        owned.push(ring.lock().close(64, 0).unwrap());
    }
    assert_eq!(owned.len(), 8);
    assert_eq!(stage(&ring, 7, 4000), Err(NoRoom::RingFull));
    owned.remove(0).freeze();
    assert!(stage(&ring, 8, 4000).is_ok());
    assert!(ring.pin(1).is_none(), "its memory has been taken");
    assert!(owned.iter().all(|b| b.as_slice()[64] == 7));
}

#[test]
fn what_is_given_up_is_not_written() {
    let ring = ring(65536);
    stage(&ring, 1, 5000).unwrap();
    let mut batch = ring.lock().close(64, 4000).unwrap();
    assert_eq!((batch.used(), batch.as_slice().len()), (9064, 12288));
    batch.give_up(3000, 4096);
    assert_eq!((batch.used(), batch.as_slice().len()), (6064, 8192));
    batch.freeze();
    assert_eq!(stage(&ring, 2, 100), Ok(64));
    assert_eq!(ring.pin(1).unwrap()[64], 1, "the next one stands behind what was reserved");
}

#[test]
fn usage_tells_staged_from_pinned() {
    let ring = ring(65536);
    stage(&ring, 1, 100).unwrap();
    let usage = || ring.lock().usage();
    assert_eq!(usage(), StageUsage { staged: 164, pinned: 0, bytes: 65536 });
    let batch = ring.lock().close(64, 0).unwrap();
    assert_eq!((usage().staged, usage().pinned), (4096, 0));
    batch.freeze();
    assert_eq!((usage().staged, usage().pinned), (0, 0));
    let held = ring.pin(1).unwrap();
    assert_eq!((usage().staged, usage().pinned), (0, 4096));
    drop(held);
    assert_eq!((usage().staged, usage().pinned), (0, 0));
}

#[test]
fn room_for_several_batches_counts_what_wrapping_skips() {
    let ring = ring(65536);
    // Closed batches that nobody owns any more are in nobody's way.
    for _ in 0..3 {
        stage(&ring, 1, 8000).unwrap();
        ring.lock().close(64, 0).unwrap().freeze();
    }
    assert!(!ring.lock().make_room_for([16384; 4].into_iter()), "24576 bytes in, 8192 skipped");
    let mut owned = Vec::new();
    assert!(ring.lock().make_room_for([12288, 8192, 16384].into_iter()));
    for len in [12288, 8192, 16384] {
        let mut guard = ring.lock();
        let slot = guard.reserve(64, len - 64, 0).unwrap();
        owned.push(guard.close(64, 0).unwrap());
        assert!(slot.finish());
    }
    assert!(!ring.lock().make_room_for([16384, 16384].into_iter()), "they are owned");
    drop(owned);
    assert!(ring.lock().make_room_for([16384, 16384].into_iter()));
}

#[test]
fn a_batch_never_wraps() {
    let ring = ring(32768);
    for round in 0..100u8 {
        let len = 3000 + usize::from(round) * 97;
        stage(&ring, round, len).unwrap();
        let batch = ring.lock().close(64, 0).unwrap();
        assert!(batch.as_slice()[64..64 + len].iter().all(|b| *b == round));
        batch.freeze();
    }
}

#[test]
fn full_batches_and_giants_are_told_apart() {
    let ring = ring(65536);
    assert_eq!(stage(&ring, 1, 20000), Err(NoRoom::TooLarge));
    stage(&ring, 1, 16000).unwrap();
    assert_eq!(stage(&ring, 1, 1000), Err(NoRoom::BatchFull));
}

#[test]
fn threads_fill_disjoint_slots() {
    let ring = Arc::new(StageRing::new(1 << 20, 1 << 18, 4096, 1, ()).unwrap());
    let threads: Vec<_> = (1..=4u8)
        .map(|id| {
            let ring = Arc::clone(&ring);
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let mut slot = ring.lock().reserve(64, 128, 0).unwrap();
                    slot.bytes().fill(id);
                    let _ = slot.finish();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let batch = ring.lock().close(64, 0).unwrap();
    let mut counts = [0usize; 5];
    for chunk in batch.as_slice()[64..64 + 800 * 128].chunks(128) {
        assert!(chunk.iter().all(|b| *b == chunk[0]), "two owners wrote one slot");
        counts[usize::from(chunk[0])] += 1;
    }
    assert_eq!(counts, [0, 200, 200, 200, 200]);
}
