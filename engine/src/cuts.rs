//! The cuts of a log: which of its records were dropped by a writer that cut its suffix.
//!
//! Invariants:
//! - A cut (epoch, LSN) drops every record of an older epoch at that LSN or beyond, wherever it
//!   still stands, and nothing else. So (epoch, LSN) names one record, and a record is told live
//!   or dropped by its own position.
//! - Kept ascending in both: a newer cut at a lower or the same LSN says all that an older one
//!   said.
//!
//! Not here: making a cut (`cut`), its durable home (`manifest`), what readers are told
//! (`catchup`).

use crate::format::manifest::DamageFacts;
use crate::lsn::{Epoch, Lsn, Position};

/// Cuts that a log remembers; one more is refused until the log's start moves beyond older ones.
pub(crate) const CUTS_MAX: usize = 1024;

/// See the module. Empty, and without memory, for most logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts {
    cuts: Vec<(Epoch, Lsn)>,
}

impl Cuts {
    pub(crate) const NONE: Self = Self { cuts: Vec::new() };

    /// Notes a cut. False when a newer one says all of it already.
    pub(crate) fn note(&mut self, epoch: Epoch, first: Lsn) -> bool {
        if self.cuts.iter().any(|(e, l)| *e >= epoch && *l <= first) {
            return false;
        }
        self.cuts.retain(|(e, l)| *e > epoch || *l < first);
        let at = self.cuts.partition_point(|(e, _)| *e < epoch);
        self.cuts.insert(at, (epoch, first));
        true
    }

    /// Forgets what the log's start makes needless: the last cut at or below it says enough.
    pub(crate) fn trim(&mut self, start: Lsn) {
        let below = self.cuts.partition_point(|(_, l)| *l <= start);
        self.cuts.drain(..below.saturating_sub(1));
    }

    /// The LSN from which records of `epoch` are dropped; `None`: they are all there.
    pub(crate) fn end_of(&self, epoch: Epoch) -> Option<Lsn> {
        self.cuts.iter().find(|(e, _)| *e > epoch).map(|(_, l)| *l)
    }

    /// `lsn`, or where records of `epoch` end, if that is below it.
    pub(crate) fn clip(&self, epoch: Epoch, lsn: Lsn) -> Lsn {
        self.end_of(epoch).map_or(lsn, |end| end.min(lsn))
    }

    /// The cut by which somebody who knew the log up to `known` lost what he stood on: his next
    /// LSN is `next`. Told by its lowest LSN: from there on the log is another one.
    pub(crate) fn since(&self, known: Epoch, next: Lsn) -> Option<Position> {
        let first = self.cuts.iter().find(|(e, _)| *e > known);
        first.filter(|(_, l)| *l < next).map(|&(epoch, lsn)| Position { epoch, lsn })
    }

    /// The cut that dropped this record.
    pub(crate) fn dropped(&self, position: Position) -> Option<Position> {
        self.since(position.epoch, position.lsn.next())
    }

    pub(crate) fn len(&self) -> usize {
        self.cuts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// From the oldest to the newest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Epoch, Lsn)> + '_ {
        self.cuts.iter().copied()
    }
}

/// Damage to records that a cut dropped is nobody's any more.
pub(crate) fn cut_damages(
    damages: &mut Vec<DamageFacts>,
    of_the_log: impl Fn(&DamageFacts) -> bool,
    first: Lsn,
) {
    damages.retain(|d| !of_the_log(d) || d.first_lsn < first);
    for damage in damages.iter_mut().filter(|d| of_the_log(d)) {
        if damage.last_lsn.is_none_or(|last| last >= first) {
            damage.last_lsn = Some(Lsn(first.0 - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All cuts ever made, none forgotten: a record is dropped if any of them drops it.
    fn dropped(all: &[(u32, u64)], epoch: u32, lsn: u64) -> bool {
        all.iter().any(|(e, l)| epoch < *e && lsn >= *l)
    }

    #[test]
    fn what_is_remembered_says_the_same_as_everything() {
        let mut seed = 7u64;
        for _ in 0..200 {
            let (mut cuts, mut all) = (Cuts::default(), Vec::new());
            for epoch in 2..12u32 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let lsn = (seed >> 33) % 20;
                assert!(cuts.note(Epoch(epoch), Lsn(lsn)));
                all.push((epoch, lsn));
                assert!(!cuts.note(Epoch(epoch), Lsn(lsn + 1)), "said already");
            }
            // The order in which they come to be known does not matter.
            let mut backwards = Cuts::default();
            for (epoch, lsn) in all.iter().rev() {
                backwards.note(Epoch(*epoch), Lsn(*lsn));
            }
            assert_eq!(cuts, backwards, "{all:?}");
            let start = (seed >> 40) % 20;
            let whole = cuts.clone();
            cuts.trim(Lsn(start));
            for (epoch, lsn) in (1..13).flat_map(|e| (0..20).map(move |l| (e, l))) {
                let at = Position { epoch: Epoch(epoch), lsn: Lsn(lsn) };
                let told = dropped(&all, epoch, lsn);
                assert_eq!(whole.dropped(at).is_some(), told, "{at} {all:?}");
                assert!(lsn < start || cuts.dropped(at).is_some() == told, "{at} {start} {all:?}");
            }
        }
    }
}
