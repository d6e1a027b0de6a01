//! A disk that others fill: from some change of it on, not a byte is free.
//!
//! Invariant: overwriting what is allocated always succeeds, and so does giving bytes back; only
//! what would grow the disk is refused.
//!
//! Not here: who counts bytes and changes (`state`).

/// When a disk is full, and how: see [`SimStorage::fill`](super::SimStorage::fill).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// Full once this many changes have completed.
    pub from_change: u64,
    /// What is said then: ENOSPC, EDQUOT.
    pub errno: i32,
    /// Others take at once whatever is given back.
    pub greedy: bool,
}

/// A filling, and the bytes that the disk turned out to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub filling: Filling,
    pub limit: Option<u64>,
}

impl Filled {
    /// Bytes by which a disk that holds `used` may grow; `None`: it is not full yet.
    pub(super) fn room(&mut self, changes: u64, used: impl FnOnce() -> u64) -> Option<u64> {
        if changes < self.filling.from_change {
            return None;
        }
        let used = used();
        let limit = self.limit.get_or_insert(used);
        if self.filling.greedy {
            *limit = used.min(*limit);
        }
        Some(limit.saturating_sub(used))
    }
}
