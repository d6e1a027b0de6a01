//! How a shard stands between two steps: for who asks, and for background work that has to know.
//!
//! Not here: doing anything about it (`shard`).

use super::Shard;
use crate::metrics::{Trouble, since};
use crate::segment::Pace;

impl Shard {
    /// How things stand, for who asks.
    pub(super) fn gauge(&mut self, now: u64) {
        let meters = &*self.port.meters;
        meters.batches_in_flight.set(self.commit.in_flight.len() as u64);
        meters.spares.set(self.segments.spares.len() as u64);
        meters.sealing.set(self.sealer.behind());
        meters.seals.set(self.sealer.sealed);
        self.collector.relocator.gauge(meters, now);
        meters.resubmits.set(self.disk.resubmits());
        since(&meters.seal_fails_ns, self.sealer.failed(), now);
        since(&meters.manifest_waits_ns, self.manifest.wake_at().is_some(), now);
        let trouble = self.segments.trouble.as_ref();
        if trouble.is_some() != self.in_trouble {
            self.in_trouble = trouble.is_some();
            *meters.trouble.lock() = trouble.map(|error| Trouble::new(now, error));
        }
    }

    /// A batch waits for the disk, and for no space.
    pub(super) fn waits(&self) -> bool {
        self.commit.pending.is_some() && !self.segments.is_starved()
    }

    /// How eagerly bytes are moved that no append waits for.
    pub(super) fn pace(&self) -> Pace {
        let idle = self.commit.in_flight.is_empty() && self.unmarked_since.is_none();
        match self.commit.pending {
            None if idle => Pace::Haste,
            None => Pace::Even,
            Some(_) if !self.fits_pending() => Pace::Haste,
            Some(_) => Pace::Yield,
        }
    }
}
