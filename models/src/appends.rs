//! Models of appends: staging, acks, tickets, the line for room, fences and cuts.
//!
//! Each says what may not happen. Not here: how a shard ends (`ends`).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use shuttle::future::block_on;

use super::pump::{LOGS, Plan, Small, log, one_in};
use crate::error::Error;
use crate::lsn::{Epoch, Lsn, Position};
use crate::sync::thread;
use crate::writer::Writer;

pub(super) fn writer(small: &Small, counter: u64) -> Writer {
    let first = Position { epoch: Epoch(1), lsn: Lsn(0) };
    Writer::new(Arc::clone(&small.port), log(counter), first, 1 << 20)
}

/// A batch was acked: the device must have had it before.
pub(super) fn is_durable(small: &Small, seq: u64) {
    assert!(small.durable.load(Ordering::SeqCst) >= seq, "batch {seq} is acked and not durable");
    assert!(small.port.view.durable() >= seq, "batch {seq} is acked and not in the view");
}

/// Polls once, as an executor does that has other things to do.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn record(at: u64) -> Vec<u8> {
    vec![at as u8; 300]
}

/// Threads append to logs of their own and to one of all, and sleep for each.
pub(super) fn threads_wait() {
    let (small, shard) = Small::start(&Plan::default());
    let callers: Vec<_> = (1..LOGS)
        .map(|own| {
            let small = small.clone();
            thread::spawn(move || {
                let (own, shared) = (writer(&small, own), writer(&small, 0));
                for at in 0..2 {
                    let first = own.submit(record(at)).expect("room");
                    let second = shared.submit(record(at)).expect("room");
                    let ack = first.wait().expect("acked");
                    assert_eq!(ack.position.lsn, Lsn(at), "one order, without a hole");
                    second.wait().expect("acked");
                    is_durable(&small, small.port.intake.acked());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller");
    }
    let staged = small.port.intake.flush(0);
    assert_eq!(staged.first, Lsn(2 * (LOGS - 1)), "each record has an LSN of its own");
    small.close();
    shard.join().expect("the shard");
}

/// Tasks await tickets; some are polled once and dropped, and their records are written all the
/// same.
pub(super) fn tasks_await() {
    let (small, shard) = Small::start(&Plan::default());
    let callers: Vec<_> = (0..2)
        .map(|own| {
            let small = small.clone();
            thread::spawn(move || {
                let writer = writer(&small, own);
                for at in 0..3 {
                    let mut append = writer.append(record(at));
                    if one_in(3) {
                        drop(poll_once(&mut append));
                        continue;
                    }
                    let ack = block_on(append).expect("acked");
                    assert_eq!(ack.position.lsn, Lsn(at));
                    is_durable(&small, small.port.intake.acked());
                }
                let end = block_on(writer.flush()).expect("flushed");
                assert_eq!(end.position.lsn, Lsn(3), "a ticket that was dropped changes nothing");
                assert_eq!(small.port.view.lock().log(log(own)).map(|log| log.next), Some(Lsn(3)));
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller");
    }
    small.close();
    shard.join().expect("the shard");
}

/// More than there is room for: callers stand in line, asleep or polling, and some walk away from
/// their place. Nobody who stays is forgotten, nobody leaves a place behind.
pub(super) fn line_for_room() {
    let plan = Plan { stage_bytes: 16 << 10, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let callers: Vec<_> = (0..3)
        .map(|own| {
            let small = small.clone();
            thread::spawn(move || {
                let writer = writer(&small, own);
                let mut kept = 0;
                for _ in 0..2 {
                    let mut append = writer.append(vec![own as u8; 5000]);
                    match own {
                        0 => drop(append.wait().expect("acked")),
                        1 => drop(block_on(append).expect("acked")),
                        _ if one_in(2) => drop(append.wait().expect("acked")),
                        _ => {
                            poll_once(&mut append);
                            let staged = !format!("{append:?}").contains("waiting");
                            thread::yield_now();
                            drop(append);
                            kept += u64::from(staged);
                            continue;
                        }
                    }
                    kept += 1;
                }
                let tail = small.port.intake.flush(own as usize).first;
                assert_eq!(tail, Lsn(kept), "what was withdrawn is not written, what was not is");
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller");
    }
    // The line is empty: who comes now need not wait behind anybody.
    writer(&small, 0).flush().wait().expect("flushed");
    drop(writer(&small, 0).submit(record(0)).expect("a place was left behind"));
    small.close();
    shard.join().expect("the shard");
}

/// One waits for room, and what makes it is the last that is ever acked.
pub(super) fn last_room() {
    // A log has room for one record at a time.
    let plan = Plan { log_bytes_max: 1, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let writer = writer(&small, 0);
    drop(writer.submit(record(0)).expect("room"));
    let append = writer.append(record(1));
    let ack = if one_in(2) { block_on(append) } else { append.wait() };
    assert_eq!(ack.expect("acked").position.lsn, Lsn(1));
    small.close();
    shard.join().expect("the shard");
}

/// The first in line walks away, woken or not: the next has its place.
pub(super) fn walks_away() {
    let plan = Plan { log_bytes_max: 1, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let writer = writer(&small, 0);
    drop(writer.submit(record(0)).expect("room"));
    let mut first = writer.append(record(1));
    let next = thread::spawn(move || writer.append(record(2)).wait().map(drop));
    drop(poll_once(&mut first));
    thread::yield_now();
    drop(first);
    next.join().expect("a caller").expect("acked");
    small.close();
    shard.join().expect("the shard");
}

/// The memory that one waits for is a reader's, with nothing staged that could be acked.
pub(super) fn unpinned() {
    let plan = Plan { stage_bytes: 16 << 10, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let writer = writer(&small, 0);
    let large = || vec![1; 5000];
    writer.append(large()).wait().expect("acked");
    let pinned = small.port.intake.pin(1);
    let reader = thread::spawn(move || {
        thread::yield_now();
        drop(pinned);
    });
    for at in 1..4 {
        let append = writer.append(large());
        let ack = if one_in(2) { block_on(append) } else { append.wait() };
        assert_eq!(ack.expect("acked").position.lsn, Lsn(at));
    }
    reader.join().expect("the reader");
    small.close();
    shard.join().expect("the shard");
}

/// A fence goes through the middle of what others append: before it all is acked under the old
/// epoch, after it nothing is.
pub(super) fn fence() {
    let (small, shard) = Small::start(&Plan::default());
    let old: Vec<_> = (0..2)
        .map(|_| {
            let small = small.clone();
            thread::spawn(move || {
                let writer = writer(&small, 0);
                let mut last = None;
                for at in 0..3 {
                    match writer.submit(record(at)) {
                        Ok(ticket) => last = Some(ticket.wait().expect("acked").position.lsn),
                        Err(rejected) => {
                            let fenced = Error::Fenced { epoch: Epoch(2) };
                            assert_eq!(rejected.error.to_string(), fenced.to_string());
                            assert!(rejected.record.is_some(), "the record comes back");
                        }
                    }
                }
                last
            })
        })
        .collect();
    let intake = &small.port.intake;
    let (epoch, first, before) = intake.fence(0).expect("a log");
    intake.sleep(before, None).expect("no limit").expect("durable");
    is_durable(&small, before);
    let seen = small.port.view.lock().log(log(0)).map(|log| log.next);
    assert_eq!((epoch, seen), (Epoch(2), Some(first)), "the tail of a new writer is exact");
    for caller in old {
        let last = caller.join().expect("a caller");
        assert!(last.is_none_or(|last| last < first), "acked behind the fence");
    }
    small.close();
    shard.join().expect("the shard");
}

/// A log is cut while others append to it: who waits behind the cut goes on after it.
pub(super) fn cut() {
    let (small, shard) = Small::start(&Plan::default());
    let kept = writer(&small, 0);
    kept.append(record(0)).wait().expect("acked");
    let clone = kept.clone();
    let waiting = thread::spawn(move || {
        let ack = clone.append(record(1)).wait().expect("acked");
        let again = clone.append(record(2)).wait().expect("acked");
        assert!(again.position > ack.position, "(epoch, LSN) never names two records");
    });
    let intake = &small.port.intake;
    let (epoch, _, before) = intake.begin_cut(log(0), Epoch(1), Lsn(1)).expect("a cut");
    intake.sleep(before, None).expect("no limit").expect("durable");
    small.port.view.begin_epoch(log(0), epoch, Lsn(1));
    kept.core.go_on(epoch);
    intake.end_cut(0, epoch);
    waiting.join().expect("a caller");
    small.close();
    shard.join().expect("the shard");
}
