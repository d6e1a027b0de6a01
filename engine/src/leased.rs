//! The disk of a shard whose directory is owned by a lease: nothing is handed over once it is over.
//!
//! Invariant: the lease is looked at before each operation, whoever in the shard asks for it. What
//! was handed over before may land late; names of files that no other term has, and the order of
//! what becomes true (`owner`), make that harmless.
//!
//! Crash story: an owner is suspended between two operations of one turn, its lease runs out, and a
//! successor begins. The first wakes in the middle of the turn, and would go on to remove what it
//! had retired, or to write a second copy over the successor's.
//!
//! Not here: what a shard makes of it (it halts at its next turn), recovery's own looks (`work`).

use std::io;
use std::sync::Arc;

use crate::io::{Bell, Clock, Disk, Done, Op, Wait};
use crate::owner::Lease;

struct Leased {
    disk: Box<dyn Disk>,
    lease: Arc<Lease>,
    clock: Arc<dyn Clock>,
}

/// The disk as it is without a lease, and behind a look at the lease with one.
pub(crate) fn leased(
    disk: Box<dyn Disk>,
    lease: Option<&Arc<Lease>>,
    clock: Arc<dyn Clock>,
) -> Box<dyn Disk> {
    match lease {
        Some(lease) => Box::new(Leased { disk, lease: Arc::clone(lease), clock }),
        None => disk,
    }
}

impl Disk for Leased {
    fn bind(&mut self) -> io::Result<()> {
        self.disk.bind()
    }

    /// Refused as by a full disk queue: the caller tries again, and the shard has halted by then.
    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        if !self.lease.holds(self.clock.boot_ns()) {
            return Err((token, op));
        }
        self.disk.submit(token, op)
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        self.disk.reap(done, wait)
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.disk.bell()
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight()
    }

    fn resubmits(&self) -> u64 {
        self.disk.resubmits()
    }

    fn backend(&self) -> &'static str {
        self.disk.backend()
    }
}
