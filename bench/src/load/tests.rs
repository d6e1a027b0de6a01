//! The harness itself: what a closed and an open loop see, on a clock that stands still.

use super::*;
use crate::clock::tests::Virtual;
use crate::sample::Metric;
use crate::traffic;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

const MS: Duration = Duration::from_millis(1);

/// Durable a fixed time after it was submitted; one append in so many stalls.
struct Clockwork<C> {
    clock: C,
    takes: Duration,
    stall: Option<(u64, Duration)>,
    count: u64,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Pending<C>(C, Duration, Arc<AtomicUsize>);

impl<C: Clock> Clockwork<C> {
    fn new(clock: C, takes: Duration) -> Clockwork<C> {
        let (open, most) = Default::default();
        Clockwork { clock, takes, stall: None, count: 0, open, most }
    }
}

impl<C: Clock> Handle for Clockwork<C> {
    type Ticket = Pending<C>;
    fn submit(&mut self, payload: &[u8]) -> Result<Pending<C>> {
        assert!(traffic::check(payload).is_some());
        self.count += 1;
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        let long = self.stall.filter(|(at, _)| *at == self.count);
        let takes = self.takes + long.map_or(Duration::ZERO, |(_, long)| long);
        Ok(Pending(self.clock.clone(), self.clock.now() + takes, Arc::clone(&self.open)))
    }
    fn wait(Pending(clock, until, open): Pending<C>) -> Result<()> {
        open.fetch_sub(1, Ordering::Relaxed);
        clock.sleep_until(until);
        Ok(())
    }
}

fn load(outstanding: usize, rate: Option<f64>) -> Load {
    Load {
        outstanding,
        record_bytes: 100,
        rate,
        warm_up: 10 * MS,
        window: 200 * MS,
        ..Load::default()
    }
}

fn meter() -> Meter {
    Meter::new(Path::new("/"))
}

/// One append in 2 s stalls for 10 ms; each takes 100 us.
fn with_a_stall(rate: Option<f64>) -> Sample {
    let clock = Virtual::default();
    let mut handle = Clockwork::new(clock.clone(), MS / 10);
    handle.stall = Some((1500, 10 * MS));
    let load = Load { window: 2000 * MS, ..load(1, rate) };
    drive_by(clock, handle, &load, &meter()).unwrap().0
}

#[test]
fn a_stall_of_10_ms_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    let open = with_a_stall(Some(1000.0));
    // It held up itself and some ten more, of 2,000: that is half a percent of all.
    let p999 = open.get(Metric::P999).unwrap();
    assert!((7_000.0..10_200.0).contains(&p999), "open loop: p99.9 {p999} us");
    assert!((99.0..101.0).contains(&open.get(Metric::P50).unwrap()));

    // A closed loop waits it out and counts it once, of nearly 20,000.
    let closed = with_a_stall(None);
    let p999 = closed.get(Metric::P999).unwrap();
    assert!((99.0..101.0).contains(&p999), "closed loop: p99.9 {p999} us");
    assert!(closed.get(Metric::Max).unwrap() > 10_000.0, "it happened all the same");
}

#[test]
fn an_open_loop_keeps_its_rate_and_time_is_told_in_slices() {
    let sample = with_a_stall(Some(1000.0));
    assert!((1990..=2001).contains(&sample.operations), "{}", sample.operations);
    let slow: Vec<_> = sample.slices.iter().filter(|slice| slice.max_us > 5_000.0).collect();
    assert!((1..=2).contains(&slow.len()), "the stall is in one slice, or over a boundary");
    assert!((1.4..1.6).contains(&slow[0].seconds), "at {} s", slow[0].seconds);
}

#[test]
fn an_open_loop_with_several_outstanding_is_not_held_up_by_a_late_ack() {
    // Each takes 20 ms and one begins every 2 ms: ten are under way, and none is late.
    let handle = Clockwork::new(Wall::start(), 20 * MS);
    let most = Arc::clone(&handle.most);
    let sample = drive(vec![handle], &load(64, Some(500.0)), &meter()).unwrap();
    assert!((60..=110).contains(&sample.operations), "{}", sample.operations);
    assert!((6..=30).contains(&most.load(Ordering::Relaxed)));
    let p50 = sample.get(Metric::P50).unwrap();
    assert!((19_900.0..60_000.0).contains(&p50), "p50 {p50} us");
}

#[test]
fn a_closed_loop_keeps_so_many_outstanding_and_counts_its_window() {
    let handle = || Clockwork::new(Wall::start(), 2 * MS);
    let handles = vec![handle(), handle()];
    let most = Arc::clone(&handles[0].most);
    let (sample, written) = drive_counted(handles, &load(4, None), &meter()).unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 4);
    assert!(sample.operations > 20 && sample.operations < 1000, "{}", sample.operations);
    assert!(sample.get(Metric::P50).unwrap() >= 1990.0);
    assert_eq!(sample.bytes, sample.operations * 100);
    let all: u32 = written.0.iter().flatten().sum();
    assert!(u64::from(all) >= sample.operations, "the warm-up was written too");
    let (alone, _) = drive_here(handle(), &load(1, None), &meter()).unwrap();
    assert!(alone.operations > 5);
}

#[test]
fn logs_are_told_apart_and_counted() {
    struct Noting(Arc<Mutex<Vec<u32>>>);
    impl Handle for Noting {
        type Ticket = ();
        fn submit(&mut self, _: &[u8]) -> Result<()> {
            Err(anyhow!("there are several logs"))
        }
        fn submit_to(&mut self, log: usize, _: &[u8]) -> Result<()> {
            self.0.lock().unwrap()[log] += 1;
            Ok(())
        }
        fn wait((): ()) -> Result<()> {
            thread::sleep(MS / 10);
            Ok(())
        }
    }
    let seen = Arc::new(Mutex::new(vec![0; 7]));
    let load = Load { logs: 7, pick: Pick::Zipf, ..load(1, None) };
    let (_, written) = drive_counted(vec![Noting(Arc::clone(&seen))], &load, &meter()).unwrap();
    assert_eq!(written.0[0], *seen.lock().unwrap());
}

#[test]
fn an_error_ends_the_run() {
    struct Broken;
    impl Handle for Broken {
        type Ticket = ();
        fn submit(&mut self, _: &[u8]) -> Result<()> {
            Err(anyhow!("broken"))
        }
        fn wait((): ()) -> Result<()> {
            Ok(())
        }
    }
    for load in [load(1, None), load(8, Some(1000.0))] {
        let error = drive(vec![Broken], &load, &meter()).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
