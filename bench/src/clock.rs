//! The clock of a load: the wall's, or one that a test moves.
//!
//! Invariant: it never goes back.

use std::thread;
use std::time::{Duration, Instant};

/// What a load reads the time from, and waits by.
pub trait Clock: Clone + Send {
    /// Time since some moment that is the same for all clones.
    fn now(&self) -> Duration;
    /// Returns at that moment, or at once when it is past.
    fn sleep_until(&self, at: Duration);
}

/// The real one.
#[derive(Clone, Copy, Debug)]
pub struct Wall(Instant);

impl Wall {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Wall {
        Wall(Instant::now())
    }
}

impl Clock for Wall {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, at: Duration) {
        if let Some(early) = at.checked_sub(self.0.elapsed()) {
            thread::sleep(early);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Stands still unless somebody sleeps: a run on it is the same every time.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Virtual(Arc<AtomicU64>);

    impl Clock for Virtual {
        fn now(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::Relaxed))
        }

        fn sleep_until(&self, at: Duration) {
            self.0.fetch_max(at.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_wall_clock_sleeps_until_and_not_for() {
        let clock = Wall::start();
        let at = clock.now() + Duration::from_millis(5);
        clock.sleep_until(at);
        assert!(clock.now() >= at);
        let before = clock.now();
        clock.sleep_until(Duration::ZERO);
        assert!(clock.now() - before < Duration::from_secs(1));
    }
}
