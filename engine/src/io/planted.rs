//! Bugs on purpose: a lab that does not catch them sees nothing.
//!
//! Invariant: without the feature `planted`, which no release has, there is only `false` here.
//! Not here: who must catch them (tests/lab/powercut.sh).

/// Whether writes that must be durable are to be acked without: `SAPWOOD_PLANTED=skip-sync`.
#[cfg(feature = "planted")]
pub(super) fn skips_sync() -> bool {
    static ASKED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        std::env::var_os("SAPWOOD_PLANTED").is_some_and(|bug| bug == "skip-sync")
    });
    *ASKED
}

/// As it is built for everyone: never.
#[cfg(not(feature = "planted"))]
pub(super) const fn skips_sync() -> bool {
    false
}
