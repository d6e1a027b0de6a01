//! The quota: how many file bytes the segments, indexes and spares of a directory take, over all
//! its shards.
//!
//! Invariant: a file counts from before it is created until after its removal is durable, so the
//! disk never holds more than is counted; an index counts once its segment is sealed.
//!
//! Not here: what is done when there is no room (`segment`), what makes room (`collect`).

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. One per engine.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    used: AtomicU64,
    /// 0: there is none.
    quota: u64,
}

impl Usage {
    pub(crate) fn new(quota: u64, used: u64) -> Self {
        Self { used: AtomicU64::new(used), quota }
    }

    /// Counts `bytes` in if the quota allows them.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let add = |used: u64| {
            let after = used.saturating_add(bytes);
            (self.quota == 0 || after <= self.quota).then_some(after)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Counts `bytes` in, whatever the quota.
    pub(crate) fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let sub = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
    }

    /// More is used than the quota allows: what is kept for later has to go.
    pub(crate) fn is_over(&self) -> bool {
        self.quota != 0 && self.used.load(Ordering::Relaxed) > self.quota
    }

    /// The quota in words.
    pub(crate) fn refusal(&self) -> String {
        let used = self.used.load(Ordering::Relaxed);
        format!("the directory's files take {used} bytes of a quota of {}", self.quota)
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
}
