//! A model of the staging memory: who reads a batch from it, and who stages over it.
//!
//! Not here: the bytes of a batch (`pump` checks them as they are written).

use std::sync::Arc;

use crate::io::buf::{NoRoom, StageRing};
use crate::sync::thread;

/// A batch is filled with its own sequence.
const LEN: usize = 4096 - 64;

/// Readers pin batches while a writer stages round after round: nobody sees a byte of another one.
pub(super) fn pinned() {
    let ring = Arc::new(StageRing::new(16 << 10, 4096, 4096, 1, ()).expect("memory"));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                for seq in 1..=4 {
                    let Some(pinned) = ring.pin(seq) else { continue };
                    let whole = |bytes: &[u8]| bytes.iter().all(|byte| *byte == seq as u8);
                    assert!(whole(&pinned[64..]), "batch {seq} is another one");
                    thread::yield_now();
                    assert!(whole(&pinned[64..]), "batch {seq} was staged over while it was read");
                }
            })
        })
        .collect();
    let mut seq = 1;
    while seq <= 8 {
        let reserved = ring.lock().reserve(64, LEN, 0);
        let mut slot = match reserved {
            Ok(slot) => slot,
            // A reader holds what is oldest.
            Err(NoRoom::RingFull) => {
                thread::yield_now();
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        let batch = ring.lock().close(64, 0).expect("an open batch");
        assert!(!batch.filled(), "closed over a slot that is not filled");
        slot.bytes().fill(seq as u8);
        assert!(slot.finish() && batch.filled());
        batch.freeze();
        seq += 1;
    }
    for reader in readers {
        reader.join().expect("a reader");
    }
}
