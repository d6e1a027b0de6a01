//! The chain of sealed segments that hold a log: how to get from the newest to any other in few
//! steps.
//!
//! Each index entry names the segment before it and one much further back: the entry with ordinal n
//! jumps to the one with ordinal n & (n - 1), the lowest bit cleared (as a Fenwick tree does), so a
//! walk from the newest to any other reads O(log² n) entries. The links that a new entry can jump
//! to are those of n with bits cleared one by one: at most 32, kept per log, newest first.
//!
//! Invariants:
//! - `links` is exactly that stack, and empty while no sealed segment holds the log.
//! - A segment holds the LSN sought if it is the newest whose first LSN is not beyond it. After a
//!   cut a later segment may begin below an earlier one, so a link that is jumped to carries the
//!   lowest first LSN from there on: who jumps passes over nothing that he looks for.
//!
//! Not here: reading entries (`index`).

use crate::format::manifest::{Chain, Link};
use crate::lsn::{Lsn, SegmentId};

/// Adds a segment to the chain; gives the ordinal and the two links that its entry has to name.
pub(crate) fn extend(
    chain: &mut Chain,
    segment: SegmentId,
    first_lsn: Lsn,
) -> (u32, Option<Link>, Option<Link>) {
    if let Some(last) = chain.last().filter(|last| last.segment == segment) {
        // Sealed before a crash whose naming edit was lost: the link is there already. What it was
        // linked to may have left the stack; the way back then goes by the jump.
        lower(chain, first_lsn);
        let jump = chain.links.get(1).copied();
        return (last.ordinal, jump, jump);
    }
    let prev = chain.last();
    let ordinal = prev.map_or(1, |link| link.ordinal + 1);
    let target = ordinal & (ordinal - 1);
    chain.links.retain(|link| link.ordinal <= target);
    let jump = chain.links.first().copied().filter(|link| link.ordinal == target);
    lower(chain, first_lsn);
    // There are very many chains: no room beyond what is in them.
    chain.links.reserve_exact(1);
    chain.links.insert(0, Link { segment, ordinal, first_lsn });
    (ordinal, prev, jump)
}

fn lower(chain: &mut Chain, first_lsn: Lsn) {
    chain.links.iter_mut().for_each(|link| link.first_lsn = link.first_lsn.min(first_lsn));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_segment_is_found_in_few_steps() {
        let mut chain = Chain::default();
        let mut entries = vec![None];
        for n in 1..=1000u64 {
            let (ordinal, prev, jump) = extend(&mut chain, SegmentId(n * 3), Lsn(n * 100));
            assert_eq!(u64::from(ordinal), n);
            entries.push(Some((prev, jump)));
            assert!(chain.links.len() <= 11, "the stack is as deep as the ordinal has bits");
        }
        for target in (0..100_000).step_by(77).map(|lsn| Lsn(lsn + 100)) {
            let mut link = chain.links[0];
            let mut steps = 0;
            while link.first_lsn > target {
                let (prev, jump) = entries[link.ordinal as usize].unwrap();
                link = jump.filter(|j| j.first_lsn > target).or(prev).unwrap();
                steps += 1;
            }
            assert_eq!(link.first_lsn.0, target.0 / 100 * 100);
            assert!(steps <= 60, "{steps} steps");
        }
    }

    /// A log that is cut now and then: its segments do not ascend, and yet the walk ends in the
    /// newest that begins at or below what is sought.
    #[test]
    fn a_walk_passes_over_no_segment_that_was_written_after_a_cut() {
        let mut seed = 3u64;
        for _ in 0..50 {
            let (mut chain, mut entries, mut firsts) = (Chain::default(), vec![None], vec![0]);
            let mut at = 0u64;
            for n in 1..=70u64 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                at = if seed >> 61 == 0 { at - (seed >> 30) % (at + 1) } else { at + 10 };
                let (_, prev, jump) = extend(&mut chain, SegmentId(n), Lsn(at));
                entries.push(Some((prev, jump)));
                firsts.push(at);
            }
            for target in 0..at + 10 {
                let found = (1..=70).rev().find(|n| firsts[*n] <= target);
                let mut link = Some(chain.links[0]);
                while let Some(here) = link.filter(|link| link.first_lsn.0 > target) {
                    let (prev, jump): (Option<Link>, Option<Link>) =
                        entries[here.ordinal as usize].unwrap();
                    link = jump.filter(|j| j.first_lsn.0 > target).or(prev);
                }
                assert_eq!(link.map(|link| link.ordinal as usize), found, "{target} in {firsts:?}");
            }
        }
    }
}
