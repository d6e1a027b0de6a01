//! Load by async tasks: so many futures on one executor per thread, each of which awaits an append.
//!
//! Invariants: as many are outstanding as the load says; an append that is done is followed by the
//! next at once, whichever it was.
//!
//! Not here: threads and tickets (`load`).

use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::clock::{Clock as _, Wall};
use crate::load::{Load, Phase, on_threads};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::tally::{Tally, Written};
use crate::traffic::Traffic;

/// One thread's way to append without blocking.
pub trait AsyncHandle: Send {
    /// Ends when the record is durable.
    fn append(
        &self,
        log: usize,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<()>> + Send + 'static;
}

/// Runs `load` over `handles`, one executor each.
///
/// # Errors
/// The first error of an append.
pub fn drive<H: AsyncHandle>(
    handles: Vec<H>,
    load: &Load,
    meter: &Meter,
) -> Result<(Sample, Written)> {
    let wall = Wall::start();
    on_threads(wall, handles, load, meter, |handle, traffic, phase| {
        pollster::block_on(run(&handle, wall, load, traffic, phase))
    })
}

async fn run<H: AsyncHandle>(
    handle: &H,
    clock: Wall,
    load: &Load,
    mut traffic: Traffic,
    phase: &Phase,
) -> Result<(Tally, Vec<u32>)> {
    if traffic.is_open() {
        return Err(anyhow!("async tasks are a closed loop: a rate wants threads or tickets"));
    }
    let mut tally = Tally::new(load.window);
    let mut outstanding = FuturesUnordered::new();
    let mut begin = |outstanding: &FuturesUnordered<_>| {
        let (log, payload) = traffic.next();
        let (bytes, start) = (payload.len() as u64, clock.now());
        let append = handle.append(log, payload.to_vec());
        outstanding.push(async move {
            append.await?;
            Ok::<(Duration, u64), anyhow::Error>((start, bytes))
        });
    };
    for _ in 0..load.outstanding {
        begin(&outstanding);
    }
    while let Some(done) = outstanding.next().await {
        let (start, bytes) = done?;
        if phase.is_timed() {
            tally.count(Some(start), bytes, || clock.now());
        }
        if !phase.is_over() {
            begin(&outstanding);
        }
    }
    Ok((tally, traffic.into_sequences()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Yields(Arc<AtomicUsize>, Arc<AtomicUsize>);

    impl AsyncHandle for Yields {
        fn append(
            &self,
            _: usize,
            _: Vec<u8>,
        ) -> impl Future<Output = Result<()>> + Send + 'static {
            let (open, most) = (Arc::clone(&self.0), Arc::clone(&self.1));
            async move {
                most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let mut yielded = false;
                std::future::poll_fn(|context| {
                    if std::mem::replace(&mut yielded, true) {
                        return std::task::Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
                open.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    #[test]
    fn so_many_tasks_are_outstanding_and_all_end() {
        let (open, most) = (Arc::default(), Arc::default());
        let load = Load {
            outstanding: 8,
            warm_up: Duration::from_millis(1),
            window: Duration::from_millis(20),
            ..Load::default()
        };
        let handle = Yields(Arc::clone(&open), Arc::clone(&most));
        let (sample, written) = drive(vec![handle], &load, &Meter::new(Path::new("/"))).unwrap();
        assert_eq!((open.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (0, 8));
        assert!(sample.operations > 0 && u64::from(written.0[0][0]) >= sample.operations);
    }
}
