//! How long a lease is, and what follows from it.
//!
//! Invariant: an owner stops [`margin`](Terms::margin) before its lease, measured on its own clock
//! from before it asked; a successor waits the whole lease, on its own clock, from after it saw. So
//! two clocks may differ in rate by margin / ttl.
//!
//! Not here: who has it (`claim`, `tenure`).

use std::time::Duration;

use sapwood::{Error, Result};

/// The shortest lease: below it a slow etcd would end ownership all the time.
const TTL_MIN: Duration = Duration::from_millis(300);

/// The longest lease that is believed of another owner, too: an hour.
pub const TTL_MAX: Duration = Duration::from_secs(3600);

/// A lease's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease counts after its renewal was asked for.
    pub ttl: Duration,
    /// How far before its end an owner stops.
    pub margin: Duration,
}

impl Default for Terms {
    /// Ten seconds, one of them the margin.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), margin: Duration::from_secs(1) }
    }
}

impl Terms {
    /// A lease of this length, a tenth of it the margin.
    ///
    /// # Errors
    /// `Invalid` below 300 ms and above an hour.
    pub fn of(ttl: Duration) -> Result<Self> {
        if (TTL_MIN..=TTL_MAX).contains(&ttl) {
            return Ok(Self { ttl, margin: ttl / 10 });
        }
        Err(Error::Invalid(format!("a lease takes from {TTL_MIN:?} to {TTL_MAX:?}, not {ttl:?}")))
    }

    /// When a lease ends for its owner that asked for it then.
    pub(crate) fn until(&self, asked_ns: u64) -> u64 {
        asked_ns.saturating_add(ns(self.ttl.saturating_sub(self.margin)))
    }

    /// When it is renewed next.
    pub(crate) fn due(&self, asked_ns: u64) -> u64 {
        asked_ns.saturating_add(ns(self.ttl) / 3)
    }

    /// How often somebody looks whether an owner still renews; a failed question rests as long.
    pub(crate) fn look_ns(&self) -> u64 {
        (ns(self.ttl) / 15).clamp(10_000_000, 200_000_000)
    }

    /// How long one question may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.ttl / 4
    }
}

/// In nanoseconds.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_neither_too_short_nor_too_long() {
        assert!(Terms::of(Duration::from_millis(299)).is_err());
        assert!(Terms::of(Duration::from_secs(3601)).is_err());
        let terms = Terms::of(Duration::from_secs(10)).unwrap();
        assert_eq!(terms, Terms::default());
        assert_eq!(terms.until(5), 9_000_000_005);
        assert_eq!(terms.due(5), 3_333_333_338);
    }
}
