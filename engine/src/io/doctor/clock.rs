//! The clocks: where time comes from, what a look costs, whether it makes sense.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Measured, Row, Verdict, told};

/// Looks over which the cost of one is taken.
const LOOKS: u32 = 5000;

/// Seconds since 1970 before which a wall clock was never set: 2024.
const SET_AFTER_SECS: u64 = 1_704_067_200;

/// A look that takes longer goes through the kernel.
const LONG_US: f64 = 0.25;

pub(super) fn row(rows: &mut Vec<Row>) {
    let began = Instant::now();
    let mut last = began;
    let mut went_back = false;
    for _ in 0..LOOKS {
        let now = Instant::now();
        went_back |= now < last;
        last = now;
    }
    let look = Measured::time("a look takes", last.duration_since(began) / LOOKS);
    let source = told("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    rows.push(judge(source.as_deref().unwrap_or("not known"), look, wall, went_back));
}

fn judge(source: &str, look: Measured, wall_secs: u64, went_back: bool) -> Row {
    let mut row = Row::new("clock", source, Verdict::Ok, "nothing to do");
    if look.value > LONG_US {
        let advice = "slow: each batch looks a few times; tsc or kvm-clock is faster";
        row.at_least(Verdict::Note, advice);
    }
    if wall_secs < SET_AFTER_SECS {
        let advice = "the wall clock was never set: records carry its time; run an NTP client";
        row.at_least(Verdict::Warning, advice);
    }
    if went_back {
        row.at_least(Verdict::Bad, "the monotonic clock goes backwards: see the kernel's log");
    }
    row.with([look])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_is_judged_by_what_it_costs_and_shows() {
        let judge = |ns, wall, back| {
            judge("tsc", Measured::time("", Duration::from_nanos(ns)), wall, back).verdict
        };
        let now = SET_AFTER_SECS + 1;
        assert_eq!(judge(25, now, false), Verdict::Ok);
        assert_eq!(judge(900, now, false), Verdict::Note);
        assert_eq!(judge(25, 12, false), Verdict::Warning);
        assert_eq!(judge(25, now, true), Verdict::Bad);
    }
}
