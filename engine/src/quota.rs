//! The quota: how many file bytes the segments, indexes and spares of a directory take, over all
//! its shards.
//!
//! Invariant: a file counts from before it is created until after its removal is durable, so the
//! disk never holds more than is counted; an index counts once its segment is sealed.
//!
//! Not here: what is done when there is no room (`segment`), what makes room (`collect`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::planted::{Bug, planted};

/// What all shards of an engine share.
#[derive(Debug, Default)]
struct Total {
    used: AtomicU64,
    /// 0: there is none.
    quota: u64,
}

/// See the module. One per shard: which part of it is the shard's is known, so that it can be
/// counted anew when the shard is reopened.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    total: Arc<Total>,
    own: AtomicU64,
}

impl Usage {
    /// The first shard of an engine, whose files take `used` bytes.
    pub(crate) fn new(quota: u64, used: u64) -> Self {
        let total = Arc::new(Total { used: AtomicU64::new(used), quota });
        Self { total, own: AtomicU64::new(used) }
    }

    /// Another shard of the same engine.
    pub(crate) fn beside(&self, used: u64) -> Self {
        let other = Self { total: Arc::clone(&self.total), own: AtomicU64::new(0) };
        other.add(used);
        other
    }

    /// The shard was reopened: its files take `used` bytes, whatever was counted before.
    pub(crate) fn recount(&self, used: u64) {
        self.give_back(self.own.load(Ordering::Relaxed));
        self.add(used);
    }

    /// Whether anybody has to count.
    pub(crate) fn is_bounded(&self) -> bool {
        self.total.quota != 0
    }

    /// Counts `bytes` in if the quota allows them.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let add = |used: u64| {
            let after = used.saturating_add(bytes);
            let fits = self.total.quota == 0 || after <= self.total.quota;
            (fits || planted(Bug::QuotaIgnored)).then_some(after)
        };
        let taken = self.total.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if taken {
            self.own.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Counts `bytes` in, whatever the quota.
    pub(crate) fn add(&self, bytes: u64) {
        self.total.used.fetch_add(bytes, Ordering::Relaxed);
        self.own.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let sub = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.total.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
        let _ = self.own.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
    }

    /// More is used than the quota allows: what is kept for later has to go.
    pub(crate) fn is_over(&self) -> bool {
        self.is_bounded() && self.total.used.load(Ordering::Relaxed) > self.total.quota
    }

    /// Bytes in use, and the quota; `None`: there is none.
    pub(crate) fn of_quota(&self) -> Option<(u64, u64)> {
        self.is_bounded().then(|| (self.total.used.load(Ordering::Relaxed), self.total.quota))
    }

    /// The quota in words.
    pub(crate) fn refusal(&self) -> String {
        let used = self.total.used.load(Ordering::Relaxed);
        format!("the directory's files take {used} bytes of a quota of {}", self.total.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_never_passed_by_taking() {
        let usage = Usage::new(100, 60);
        assert!(usage.take(40) && !usage.take(1));
        usage.give_back(30);
        assert!(usage.take(30) && !usage.is_over());
        usage.add(1);
        assert!(usage.is_over());
        assert!(Usage::new(0, 0).take(u64::MAX), "none is no limit");
    }

    #[test]
    fn a_shard_is_counted_anew_and_the_others_stay() {
        let first = Usage::new(100, 30);
        let second = first.beside(40);
        assert!(first.take(20) && !second.take(11), "they share it");
        first.recount(10);
        assert!(!second.take(51) && second.take(50), "10 of the first, 40 of the second");
        first.recount(11);
        assert!(second.is_over());
    }
}
