//! Epochs and cuts of a log in the state of a shard.
//!
//! Invariants: an epoch begins at the tail, or below it with a cut; the history ascends in epoch
//! and in LSN, and is bounded. What was dropped is told by the cuts alone, so that the history may
//! forget.
//!
//! Not here: what a cut drops (`cuts`), taking an epoch (`log`, `cut`).

use super::LogState;
use super::State;
use crate::cuts::cut_damages;
use crate::lsn::{Epoch, LogId, Lsn};

/// Epochs of a log that are remembered; the older half is dropped beyond it.
const EPOCHS_MAX: usize = 16;

impl State {
    /// A new epoch below the tail: what older ones wrote beyond is gone, and damage to it too.
    pub(super) fn apply_cut(&mut self, log: LogId, epoch: Epoch, first: Lsn) {
        let Some(facts) = self.logs.get_mut(log) else { return };
        note_epoch(facts, epoch, first);
        if self.cuts.entry(log).or_default().note(epoch, first) {
            self.cursors.cut(log, first);
            cut_damages(&mut self.damages, |d| d.log == Some(log), first);
        }
    }
}

pub(super) fn note_epoch(facts: &mut LogState, epoch: Epoch, first_lsn: Lsn) {
    if epoch <= facts.tail_epoch && !facts.epochs.is_empty() {
        return;
    }
    facts.tail_epoch = facts.tail_epoch.max(epoch);
    // Only a cut begins below the tail.
    (facts.tail, facts.start) = (facts.tail.min(first_lsn), facts.start.min(first_lsn));
    // An epoch that wrote nothing, or of which nothing is left, is forgotten.
    let mut epochs = std::mem::take(&mut facts.epochs).into_vec();
    while epochs.last().is_some_and(|(_, lsn)| *lsn >= first_lsn) {
        epochs.pop();
    }
    if epochs.len() == EPOCHS_MAX {
        epochs.drain(..EPOCHS_MAX / 2);
    }
    epochs.push((epoch, first_lsn));
    facts.epochs = epochs.into_boxed_slice();
}

#[cfg(test)]
mod tests {
    use super::super::tests::some_state;
    use super::*;
    use crate::format::manifest::{Edit, LogFacts};
    use crate::lsn::ShardId;

    #[test]
    fn a_cut_takes_back_the_tail_the_epochs_and_the_damage() {
        let mut state = some_state();
        let log = LogId::new(ShardId(3), 1);
        let facts = |state: &State| {
            let facts = state.logs.get(log).unwrap().facts();
            (facts.tail, facts.epochs)
        };
        assert_eq!(facts(&state).1, [(Epoch(3), Lsn(5))], "of epoch 2 nothing is left");
        assert_eq!(state.damages[1].last_lsn, Some(Lsn(4)));
        state.logs.get_mut(log).unwrap().tail = Lsn(30);
        state.apply(&Edit::Cut { log, epoch: Epoch(4), first_lsn: Lsn(20) });
        assert_eq!(facts(&state), (Lsn(20), vec![(Epoch(3), Lsn(5)), (Epoch(4), Lsn(20))]));
        state.apply(&Edit::Cut { log, epoch: Epoch(5), first_lsn: Lsn(1) });
        assert_eq!(facts(&state), (Lsn(1), vec![(Epoch(5), Lsn(1))]));
        assert_eq!(state.damages.len(), 1, "what was damaged there is gone");
        assert_eq!(state.cuts[&log].len(), 1);
    }

    #[test]
    fn the_history_of_epochs_is_bounded() {
        let mut facts = LogState::new(LogFacts::default());
        for n in 1..1000 {
            note_epoch(&mut facts, Epoch(n), Lsn(u64::from(n)));
        }
        assert!(facts.epochs.len() <= EPOCHS_MAX);
        assert_eq!(facts.epochs.last(), Some(&(Epoch(999), Lsn(999))));
    }
}
