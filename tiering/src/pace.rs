//! How fast the tier goes: bytes per second, and how long it waits after a failure.
//!
//! Invariants: time is what the caller says it is, and waiting is the caller's; a failure that goes
//! on is asked about at most every `WAIT_MAX`, however long it lasts.
//! Not here: who waits (`tier`).

use std::time::Duration;

/// The first wait after a failure is up to so long.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// And the longest.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A token bucket: a second's worth of bytes may be spent at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Bytes a second; `None`: as many as there are.
    rate: Option<u64>,
    /// What may be spent; below 0: what was spent in advance.
    tokens: f64,
    /// When they were counted.
    at: Duration,
}

impl Bucket {
    pub(crate) fn new(rate: Option<u64>, now: Duration) -> Self {
        Self { rate, tokens: 0.0, at: now }
    }

    pub(crate) fn set_rate(&mut self, rate: Option<u64>, now: Duration) {
        self.fill(now);
        self.rate = rate;
    }

    fn fill(&mut self, now: Duration) {
        let rate = self.rate.unwrap_or(0) as f64;
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.tokens, self.at) = ((self.tokens + passed * rate).min(rate), now);
    }

    /// Spends; gives how long to wait before going on.
    pub(crate) fn spend(&mut self, bytes: u64, now: Duration) -> Duration {
        self.fill(now);
        let Some(rate) = self.rate else { return Duration::ZERO };
        self.tokens -= bytes as f64;
        Duration::from_secs_f64((-self.tokens / rate.max(1) as f64).max(0.0))
    }
}

/// How long to wait after failures in a row: twice as long each time, by chance less ("full
/// jitter"), so that many tiers do not come back to a store at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn failed(&mut self) -> Duration {
        let most = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        most.mul_f64(0.25 + 0.75 * (self.seed >> 40) as f64 / (1u64 << 24) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_spent() {
        let mut now = Duration::ZERO;
        let mut bucket = Bucket::new(Some(1000), now);
        for _ in 0..50 {
            now += bucket.spend(400, now);
        }
        assert!((now.as_secs_f64() - 20.0).abs() < 0.5, "20,000 bytes took {now:?}");
        // What was not used is kept for a second, no longer.
        now += Duration::from_secs(3600);
        assert_eq!(bucket.spend(900, now), Duration::ZERO);
        assert!(bucket.spend(900, now) > Duration::from_millis(700));
        bucket.set_rate(None, now);
        assert_eq!(bucket.spend(u64::MAX, now), Duration::ZERO);
    }

    #[test]
    fn waits_grow_and_end_with_success() {
        let mut backoff = Backoff::new(3);
        let waits: Vec<_> = (0..40).map(|_| backoff.failed()).collect();
        assert!(waits[0] <= WAIT_MIN && waits[0] >= WAIT_MIN / 4);
        assert!(waits[20..].iter().all(|wait| *wait <= WAIT_MAX && *wait >= WAIT_MAX / 4));
        assert!(waits[20..].iter().any(|wait| *wait != waits[20]), "no jitter");
        backoff.succeeded();
        assert!(backoff.failed() <= WAIT_MIN);
    }
}
