//! One log of the view, as far as it is durable.
//!
//! Invariants: it takes one cache line, as every batch touches those of its logs; what few logs
//! have (cuts, damage) stands behind a pointer.
//!
//! Not here: the logs of a shard together, its segments (the module above).

use crate::cuts::{Cuts, cut_damages};
use crate::format::manifest::{Chain, DamageFacts};
use crate::lsn::{Epoch, LogId, Lsn};

/// See the module.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct LogView {
    pub start: Lsn,
    /// The durable end: the LSN after the last durable record.
    pub next: Lsn,
    pub last_time_us: u64,
    /// The sealed segments that hold this log, from the newest back.
    pub chain: Chain,
    special: Option<Box<Special>>,
    pub epoch: Epoch,
    /// Its place in the index of the segment that it was last appended to. A hint.
    pub(super) extent: u32,
}

/// Holes in what a log's segments say.
#[derive(Clone, Debug, Default)]
struct Special {
    cuts: Cuts,
    damages: Vec<DamageFacts>,
}

static NO_CUTS: Cuts = Cuts::NONE;

impl LogView {
    pub(crate) fn new(start: Lsn, next: Lsn) -> Self {
        let (epoch, chain) = (Epoch(0), Chain::default());
        Self { start, next, epoch, last_time_us: 0, chain, special: None, extent: 0 }
    }

    /// Which of the records that stand somewhere were dropped.
    pub(crate) fn cuts(&self) -> &Cuts {
        self.special.as_ref().map_or(&NO_CUTS, |special| &special.cuts)
    }

    pub(crate) fn set_cuts(&mut self, cuts: &Cuts) {
        self.change(|special| special.cuts.clone_from(cuts));
    }

    pub(crate) fn damages(&self) -> &[DamageFacts] {
        self.special.as_ref().map_or(&[], |special| &special.damages)
    }

    pub(crate) fn change_damages(&mut self, change: impl FnOnce(&mut Vec<DamageFacts>)) {
        self.change(|special| change(&mut special.damages));
    }

    fn change(&mut self, change: impl FnOnce(&mut Special)) {
        let special = self.special.get_or_insert_default();
        change(special);
        if special.cuts.is_empty() && special.damages.is_empty() {
            self.special = None;
        }
    }

    /// Moves the start up; everything below it is durable, or was once.
    pub(crate) fn raise_start(&mut self, log: LogId, start: Lsn) {
        self.start = self.start.max(start);
        self.next = self.next.max(start);
        if self.special.is_some() {
            self.change_damages(|damages| damages.retain(|damage| !damage.is_below(log, start)));
        }
    }

    /// A durable epoch begins at `first`; below what is there, it cuts. True if it does.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch, first: Lsn) -> bool {
        if epoch <= self.epoch {
            return false; // a newer one has said where the log goes on
        }
        self.epoch = epoch;
        if first >= self.next {
            return false;
        }
        self.cut(epoch, first);
        true
    }

    /// Drops what older epochs wrote from `first` on, whether it is here already or comes yet.
    fn cut(&mut self, epoch: Epoch, first: Lsn) {
        self.change(|special| {
            special.cuts.note(epoch, first);
            cut_damages(&mut special.damages, |_| true, first);
        });
        self.next = self.next.min(first);
        self.start = self.start.min(first);
    }

    /// Takes over the cuts that a foreign writer made. True if there is a new one.
    pub(crate) fn learn_cuts(&mut self, cuts: &Cuts) -> bool {
        let known = self.epoch;
        let fresh = cuts.iter().filter(|(epoch, _)| *epoch > known);
        let count = fresh.map(|(epoch, first)| self.cut(epoch, first)).count();
        count > 0
    }

    /// The damage that covers `lsn`, if any.
    pub(crate) fn damage_at(&self, lsn: Lsn) -> Option<&DamageFacts> {
        let covers =
            |d: &&DamageFacts| d.first_lsn <= lsn && d.last_lsn.is_none_or(|last| lsn <= last);
        self.damages().iter().find(covers)
    }
}

const _: () = assert!(size_of::<Option<LogView>>() == 64);
