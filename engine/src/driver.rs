//! Driving a shard from a thread of the caller's: no hand-off, the floor itself.
//!
//! Invariants: a driver moves between threads until it is bound, and never again; the shard's ring
//! is enabled by the thread that binds it. Waiting on the driving thread drives. Dropping the
//! driver ends the shard: what is not durable by then is unknown.
//!
//! Not here: what a turn does (`shard`).

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Cause, Result};
use crate::intake::Intake;
use crate::lsn::ShardId;
use crate::shard::Shard;
use crate::sync::thread;

/// How long one turn parks at most while its driver waits for an answer.
const DRIVE_LIMIT: Duration = Duration::from_millis(100);

/// How long a driver that is dropped drains for what is in flight.
const DRAIN_TURNS: usize = 1000;

thread_local! {
    /// The shards that this thread drives.
    static DRIVEN: RefCell<Vec<(usize, Weak<RefCell<Shard>>)>> = const { RefCell::new(Vec::new()) };
}

/// A shard that waits for a thread of the caller's. Send it there and [`bind`](Driver::bind) it.
pub struct Driver {
    shard: Box<Shard>,
    id: ShardId,
}

/// A shard bound to this thread. Turn it regularly: nothing of it happens in between.
pub struct Driving {
    shard: Rc<RefCell<Shard>>,
    key: usize,
    id: ShardId,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver(shard {})", self.id)
    }
}

impl fmt::Debug for Driving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driving(shard {})", self.id)
    }
}

impl Driver {
    pub(crate) fn new(id: ShardId, shard: Box<Shard>) -> Self {
        Self { shard, id }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.id
    }

    /// Binds the shard to the calling thread, for good.
    ///
    /// # Errors
    /// Of the kernel, when the ring cannot be enabled.
    pub fn bind(mut self) -> Result<Driving> {
        self.shard.bind()?;
        let key = key(&self.shard.port.intake);
        let shard = Rc::new(RefCell::new(*self.shard));
        DRIVEN.with_borrow_mut(|driven| driven.push((key, Rc::downgrade(&shard))));
        Ok(Driving { shard, key, id: self.id })
    }
}

impl Driving {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.id
    }

    /// Does what there is to do; parks for at most `wait` when there is nothing. False once the
    /// engine was closed and the shard has drained.
    pub fn turn(&mut self, wait: Duration) -> bool {
        self.shard.borrow_mut().turn(Some(wait))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let key = self.key;
        // The thread's list may be gone already when the thread ends.
        let _ = DRIVEN.try_with(|driven| {
            driven.borrow_mut().retain(|(k, shard)| *k != key && shard.strong_count() > 0);
        });
        let mut shard = self.shard.borrow_mut();
        for _ in 0..DRAIN_TURNS {
            if shard.is_done() || shard.is_idle() || !shard.turn(Some(Duration::from_millis(20))) {
                break;
            }
        }
    }
}

fn key(intake: &Arc<Intake>) -> usize {
    Arc::as_ptr(intake) as usize
}

fn here(intake: &Arc<Intake>) -> Option<Rc<RefCell<Shard>>> {
    let key = key(intake);
    DRIVEN.with_borrow(|driven| driven.iter().find(|(k, _)| *k == key)?.1.upgrade())
}

/// On the driving thread: turns the shard until `look` gives something. Elsewhere `None`.
pub(crate) fn drive_until<T>(
    intake: &Arc<Intake>,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let shard = here(intake)?;
    // Called from within a turn (a waker that waits): there is nobody left to drive.
    let mut shard = shard.try_borrow_mut().ok()?;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if !shard.turn(Some(DRIVE_LIMIT)) {
            return look();
        }
    }
}

/// Waits for the end of batch `seq`, driving the shard where that is this thread's business.
/// `None`: nobody drove it in time.
pub(crate) fn outcome(intake: &Arc<Intake>, seq: u64) -> Option<Result<(), Arc<Cause>>> {
    match intake.driven {
        None => intake.sleep(seq, None),
        Some(limit) => {
            drive_until(intake, || intake.outcome(seq)).or_else(|| intake.sleep(seq, Some(limit)))
        }
    }
}

/// As [`outcome`], for who asks for more than a place in the order: ends with `NoSpace` when the
/// disk is full and what was staged has no room, which may last.
pub(crate) fn drained(intake: &Arc<Intake>, seq: u64) -> Option<Result<()>> {
    match intake.driven {
        None => intake.sleep_drained(seq, None),
        Some(limit) => drive_until(intake, || intake.drained(seq))
            .or_else(|| intake.sleep_drained(seq, Some(limit))),
    }
}

/// Lets time pass for an append that waits for room: parks, or drives the shard.
pub(crate) fn wait_for_room(intake: &Arc<Intake>) {
    match intake.driven {
        None => thread::park(),
        // On the driving thread, drive; elsewhere look again now and then.
        Some(limit) if !drive_once(intake) => thread::park_timeout(limit),
        Some(_) => {}
    }
}

/// On the driving thread: one turn. False elsewhere.
fn drive_once(intake: &Arc<Intake>) -> bool {
    let Some(shard) = here(intake) else { return false };
    let Ok(mut shard) = shard.try_borrow_mut() else { return false };
    shard.turn(Some(DRIVE_LIMIT))
}
