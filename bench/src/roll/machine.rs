//! What others did on the machine during a round, so that a number taken beside them is known.
//!
//! Not here: what the measured process did (`meter`).

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Fields of the first line of `/proc/stat` that are no work: idle, waiting for a disk.
const IDLE: [usize; 2] = [3, 4];
/// Fields that count: those behind are contained in the first two.
const FIELDS: usize = 8;

/// Ticks of `/proc/stat` a second: the same on every machine that Linux calls by this interface.
const USER_HZ: f64 = 100.0;

/// The processors' time so far: all of it that was used, and this process's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    at: Instant,
    busy: Duration,
    own: Duration,
}

impl Machine {
    /// Now; `None` where the kernel does not tell.
    pub(super) fn now() -> Option<Machine> {
        let ticks = busy_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        let micros = |time: nix::sys::time::TimeVal| {
            Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)
        };
        Some(Machine {
            at: Instant::now(),
            busy: Duration::from_secs_f64(ticks as f64 / USER_HZ),
            own: micros(usage.user_time()) + micros(usage.system_time()),
        })
    }

    /// Processors that others kept busy since `earlier`, of one: 0.5 is half of a core.
    pub(super) fn others_since(&self, earlier: &Machine) -> f64 {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let busy = self.busy.saturating_sub(earlier.busy);
        let own = self.own.saturating_sub(earlier.own);
        if seconds > 0.0 { busy.saturating_sub(own).as_secs_f64() / seconds } else { 0.0 }
    }
}

fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields = line.split_whitespace().take(FIELDS).enumerate();
    let busy = fields.filter(|(at, _)| !IDLE.contains(at));
    busy.map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_no_work() {
        assert_eq!(busy_ticks("cpu  10 2 3 1000 500 4 5 6 7 8\ncpu0 1 1 1"), Some(30));
        assert_eq!(busy_ticks("intr 5"), None);
        let before = Machine::now().unwrap();
        assert!(Machine::now().unwrap().others_since(&before) >= 0.0);
    }
}
