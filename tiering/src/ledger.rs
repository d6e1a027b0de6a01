//! What is known of the logs of a directory, from facts of many moments.
//!
//! Invariants: of two facts of a log the later count, by term and sequence of the manifest that
//! they were taken from, in whatever order they are met; a deleted log stays deleted, as ids are
//! never given again; damage that was told once stays told, and is lost once anybody gave it up.
//! Not here: where facts come from (`survey`), which records count (`weave`).

use std::collections::{BTreeMap, BTreeSet};

use sapwood::format::manifest::{DirectoryFacts, LogFacts};
use sapwood::format::{DamageFacts, Edit, Frame};
use sapwood::{Epoch, LogId, Lsn, ShardId};

/// Term and sequence of the manifest that something was read from.
type Moment = (u32, u64);

/// A log, as its latest facts tell it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    moment: Moment,
    pub facts: LogFacts,
    pub cuts: Vec<(Epoch, Lsn)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub facts: Option<DirectoryFacts>,
    facts_of: Moment,
    /// The highest term met.
    pub term: u32,
    pub logs: BTreeMap<LogId, Known>,
    deleted: BTreeSet<LogId>,
    damages: Vec<DamageFacts>,
    next_log: BTreeMap<ShardId, u64>,
}

impl Ledger {
    /// Learns facts of a shard.
    pub(crate) fn learn(&mut self, frame: &Frame) {
        let moment = (frame.term, frame.seq);
        self.term = self.term.max(frame.term);
        for edit in &frame.edits {
            match edit {
                Edit::Directory(facts) if self.facts.is_none() || moment >= self.facts_of => {
                    (self.facts, self.facts_of) = (Some(*facts), moment);
                }
                Edit::Log(facts) => self.learn_log(moment, facts),
                Edit::Cut { log, epoch, first_lsn } => {
                    let known = self.logs.get_mut(log).filter(|known| known.moment == moment);
                    let cut = (*epoch, *first_lsn);
                    if let Some(known) = known.filter(|known| !known.cuts.contains(&cut)) {
                        known.cuts.push(cut);
                    }
                }
                Edit::Damage(damage) => self.learn_damage(damage),
                Edit::Deleted { log } => {
                    self.logs.remove(log);
                    self.deleted.insert(*log);
                    self.reserve(*log);
                }
                Edit::NextLog { counter } => {
                    let next = self.next_log.entry(frame.shard).or_default();
                    *next = (*next).max(*counter);
                }
                _ => {}
            }
        }
    }

    fn learn_log(&mut self, moment: Moment, facts: &LogFacts) {
        self.reserve(facts.id);
        let newer = self.logs.get(&facts.id).is_none_or(|known| moment >= known.moment);
        if newer && !self.deleted.contains(&facts.id) {
            let known = Known { moment, facts: facts.clone(), cuts: Vec::new() };
            self.logs.insert(facts.id, known);
        }
    }

    fn reserve(&mut self, log: LogId) {
        let next = self.next_log.entry(log.shard()).or_default();
        *next = (*next).max(log.counter() + 1);
    }

    fn learn_damage(&mut self, damage: &DamageFacts) {
        let same = |known: &&mut DamageFacts| {
            (known.log, known.first_lsn, known.last_lsn)
                == (damage.log, damage.first_lsn, damage.last_lsn)
        };
        match self.damages.iter_mut().find(same) {
            Some(known) => known.lost |= damage.lost,
            None => self.damages.push(*damage),
        }
    }

    /// The first number that no log of a shard ever had, as far as is known.
    pub(crate) fn next_log(&self, shard: ShardId) -> u64 {
        self.next_log.get(&shard).copied().unwrap_or(0)
    }

    /// Deleted logs.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = LogId> {
        self.deleted.iter().copied()
    }

    /// Divides a range of LSNs into what somebody chose to lose and what nobody did.
    pub(crate) fn divide(&self, log: LogId, first: Lsn, last: Lsn) -> Vec<(Lsn, Lsn, bool)> {
        let mut parts: Vec<(Lsn, Lsn, bool)> = Vec::new();
        let lost = |lsn: Lsn| {
            let covers = |d: &&DamageFacts| {
                let log = d.log == Some(log);
                log && d.lost && d.first_lsn <= lsn && d.last_lsn.is_none_or(|last| lsn <= last)
            };
            self.damages.iter().find(covers)
        };
        let mut at = first;
        while at <= last {
            let (end, is_lost) = match lost(at) {
                Some(damage) => (damage.last_lsn.unwrap_or(last).min(last), true),
                None => {
                    let later = self.damages.iter().filter(|d| {
                        d.lost && d.log == Some(log) && d.first_lsn > at && d.first_lsn <= last
                    });
                    let next = later.map(|d| d.first_lsn).min();
                    (next.map_or(last, |next| Lsn(next.0 - 1)), false)
                }
            };
            parts.push((at, end, is_lost));
            at = end.next();
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId(7);

    fn frame(term: u32, seq: u64, edits: Vec<Edit>) -> Frame {
        Frame { term, seq, edits, ..Frame::default() }
    }

    fn log(start: u64) -> Edit {
        Edit::Log(LogFacts { id: LOG, start: Lsn(start), ..LogFacts::default() })
    }

    #[test]
    fn the_latest_facts_count_in_whatever_order_they_are_met() {
        let frames = [
            frame(1, 5, vec![log(1)]),
            frame(2, 3, vec![log(9), Edit::Cut { log: LOG, epoch: Epoch(2), first_lsn: Lsn(3) }]),
            frame(1, 8, vec![log(4)]),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let mut ledger = Ledger::default();
            order.iter().for_each(|n| ledger.learn(&frames[*n]));
            let known = &ledger.logs[&LOG];
            assert_eq!((known.facts.start, known.cuts.len()), (Lsn(9), 1), "{order:?}");
            assert_eq!((ledger.term, ledger.next_log(ShardId(0))), (2, 8));
            ledger.learn(&frame(1, 9, vec![Edit::Deleted { log: LOG }]));
            ledger.learn(&frames[1]);
            assert!(ledger.logs.is_empty() && ledger.deleted().eq([LOG]), "it stays deleted");
        }
    }

    #[test]
    fn what_was_given_up_is_told_apart() {
        let damage = |first: u64, last: u64, lost| {
            let (first_lsn, last_lsn) = (Lsn(first), Some(Lsn(last)));
            Edit::Damage(DamageFacts {
                log: Some(LOG),
                first_lsn,
                last_lsn,
                lost,
                ..Default::default()
            })
        };
        let mut ledger = Ledger::default();
        ledger.learn(&frame(1, 1, vec![damage(5, 6, false), damage(9, 20, true)]));
        ledger.learn(&frame(1, 2, vec![damage(5, 6, true)]));
        let parts = ledger.divide(LOG, Lsn(3), Lsn(12));
        let plain: Vec<_> = parts.iter().map(|(a, b, lost)| (a.0, b.0, *lost)).collect();
        assert_eq!(plain, [(3, 4, false), (5, 6, true), (7, 8, false), (9, 12, true)]);
        assert_eq!(ledger.divide(LogId(8), Lsn(1), Lsn(2)), [(Lsn(1), Lsn(2), false)]);
    }
}
