//! Models of ends and answers: a shard that fails or closes, readers that follow, requests.
//!
//! Each says what may not happen. Not here: appends where nothing ends (`appends`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::future::block_on;

use super::appends::{is_durable, poll_once, writer};
use super::pump::{Plan, Small, Ticks, log, one_in};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::reply::Reply;
use crate::shard::Request;
use crate::sync::thread;
use crate::view::Ended;

/// What may become of an append to a shard that ends.
fn judge(small: &Small, seq_before: u64, ended: Result<(), Error>) {
    match ended {
        Ok(()) => is_durable(small, seq_before),
        Err(Error::Unknown { .. } | Error::Halted { .. } | Error::Closed) => {}
        Err(error) => panic!("a shard that ends says {error}"),
    }
}

/// A shard fails or closes under threads that sleep for acks and for room, under tasks, and under
/// appends that were dropped: everybody is told, and no batch from the failed one on is acked.
pub(super) fn shard_ends() {
    let plan = Plan { stage_bytes: 16 << 10, fails_one_in: 3, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let callers: Vec<_> = (0..3)
        .map(|own| {
            let small = small.clone();
            thread::spawn(move || {
                let writer = writer(&small, own);
                for _ in 0..2 {
                    let mut append = writer.append(vec![own as u8; 5000]);
                    let before = small.port.intake.acked();
                    let end = match own {
                        0 => append.wait().map(drop),
                        1 => block_on(append).map(drop),
                        _ => {
                            poll_once(&mut append);
                            thread::yield_now();
                            continue;
                        }
                    };
                    judge(&small, before, end.map_err(|rejected| rejected.error));
                }
            })
        })
        .collect();
    if one_in(2) {
        small.close();
    }
    for caller in callers {
        caller.join().expect("a caller");
    }
    small.close();
    shard.join().expect("the shard");
    let intake = &small.port.intake;
    assert!(intake.acked() <= small.durable.load(Ordering::SeqCst), "acked, and not durable");
    let error = writer(&small, 0).submit(b"late").expect_err("a shard that has ended");
    assert!(matches!(error.error, Error::Closed | Error::Halted { .. }), "{}", error.error);
}

/// Followers sleep on the view until a log has grown or the shard has ended: they see all that is
/// acked, nothing before it is durable, and they end.
pub(super) fn followers() {
    let plan = Plan { fails_one_in: if one_in(3) { 3 } else { 0 }, ..Plan::default() };
    let (small, shard) = Small::start(&plan);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let small = small.clone();
            thread::spawn(move || follow(&small))
        })
        .collect();
    let appends = writer(&small, 0);
    let mut acked = Lsn(0);
    for _ in 0..3 {
        match appends.append(b"seen by all").wait() {
            Ok(ack) => {
                let seen = small.port.view.lock().log(log(0)).map(|log| log.next);
                assert!(seen > Some(ack.position.lsn), "acked, and readers do not see it");
                acked = ack.position.lsn.next();
            }
            Err(rejected) => judge(&small, 0, Err(rejected.error)),
        }
    }
    small.close();
    shard.join().expect("the shard");
    for reader in readers {
        assert!(reader.join().expect("a reader") >= acked, "a follower missed what was acked");
    }
}

fn follow(small: &Small) -> Lsn {
    let view = &small.port.view;
    let mut next = Lsn(0);
    loop {
        let look = || {
            let state = view.lock();
            let end = state.log(log(0)).map_or(Lsn(0), |log| log.next);
            if end > next { Some(Ok(end)) } else { state.ended.clone().map(Err) }
        };
        match view.wait.sleep(&Ticks::default(), None, look) {
            Some(Ok(end)) => {
                let durable = small.durable.load(Ordering::SeqCst);
                assert!(view.durable() <= durable, "readers see what is not durable");
                next = end;
            }
            Some(Err(Ended::Closed | Ended::Halted(_))) => return next,
            other => panic!("a sleep without a limit ended with {other:?}"),
        }
    }
}

/// An answer is waited for by a thread and by a task.
pub(super) fn answers() {
    let reply = Reply::after(Box::new(|| {}));
    let waits: Vec<_> = (0..2)
        .map(|at| {
            let reply = Arc::clone(&reply);
            thread::spawn(move || match at {
                0 => reply.wait(None).expect("no limit").expect("good"),
                _ => block_on(std::future::poll_fn(|cx| {
                    reply.register(cx.waker());
                    reply.get().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
                }))
                .expect("good"),
            })
        })
        .collect();
    reply.set(Ok(()));
    for wait in waits {
        wait.join().expect("who waited");
    }
    reply.set(Err(Error::Closed));
    assert!(reply.get().is_some_and(|answer| answer.is_ok()), "the first answer counts");
}

/// Requests meet the end of a shard: each is refused at once or answered.
pub(super) fn requests() {
    let (small, shard) = Small::start(&Plan::default());
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let small = small.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let reply = Reply::new();
                    match small.port.request(Request::Collect(Arc::clone(&reply))) {
                        Ok(()) => drop(reply.wait(None).expect("no limit")),
                        Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                    }
                }
            })
        })
        .collect();
    small.close();
    shard.join().expect("the shard");
    for caller in callers {
        caller.join().expect("a caller");
    }
}
