//! The line of those who wait for room, in order of arrival.
//!
//! Invariants: only the first in line is woken, and only it may stage while others wait. Whoever
//! leaves the head of the line wakes the next, so that no wake ends with one who went away.
//!
//! Not here: what room is (`intake`), how an append waits (`writer`).

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::{Intake, Staging};
use crate::error::{Error, Result};
use crate::io::buf::StageGuard;
use crate::races::{Race, raced};
use crate::sync::atomic::Ordering;

/// An append that waits for room.
#[derive(Default)]
pub(crate) struct RoomWait {
    waker: Mutex<Option<Waker>>,
}

impl RoomWait {
    pub(crate) fn set(&self, waker: &Waker) {
        let old = self.waker.lock().replace(waker.clone());
        drop(old);
    }

    pub(super) fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Intake {
    /// In order of arrival: who comes later waits behind who waits already.
    pub(super) fn in_line(
        &self,
        guard: &StageGuard<'_, Staging>,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<()> {
        match guard.waiting.front() {
            Some(front) if !waiter.is_some_and(|w| Arc::ptr_eq(w, front)) => {
                Err(guard.refused(self).unwrap_or(Error::Busy))
            }
            _ => Ok(()),
        }
    }

    /// The first in the queue, if that is who staged, leaves it; gives who is next.
    pub(super) fn leave_line(
        &self,
        guard: &mut StageGuard<'_, Staging>,
        waiter: Option<&Arc<RoomWait>>,
    ) -> Option<Arc<RoomWait>> {
        waiter?;
        guard.waiting.pop_front();
        self.queued.fetch_sub(1, Ordering::SeqCst);
        guard.waiting.front().map(Arc::clone)
    }

    /// Joins the queue for room.
    pub(crate) fn join_queue(&self, wait: &Arc<RoomWait>) {
        self.ring.lock().waiting.push_back(Arc::clone(wait));
        self.queued.fetch_add(1, Ordering::SeqCst);
    }

    /// Leaves the queue; the next in line gets its chance.
    pub(crate) fn leave_queue(&self, wait: &Arc<RoomWait>) {
        let mut guard = self.ring.lock();
        let Some(at) = guard.waiting.iter().position(|w| Arc::ptr_eq(w, wait)) else { return };
        guard.waiting.remove(at);
        self.queued.fetch_sub(1, Ordering::SeqCst);
        let next = guard.waiting.front().map(Arc::clone);
        drop(guard);
        if let (0, Some(next), false) = (at, next, raced(Race::PlaceNotPassedOn)) {
            next.wake();
        }
    }

    /// There may be room: the first in line looks.
    pub(super) fn wake_first(&self) {
        if self.queued.load(Ordering::SeqCst) == 0 || raced(Race::RoomNotTold) {
            return;
        }
        let next = self.ring.lock().waiting.front().map(Arc::clone);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Whatever they wait for will not come: all look.
    pub(super) fn wake_queue(&self) {
        let waiting: Vec<_> = self.ring.lock().waiting.iter().map(Arc::clone).collect();
        waiting.iter().filter(|_| !raced(Race::LineNotWoken)).for_each(|w| w.wake());
    }
}
