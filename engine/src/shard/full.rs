//! What a shard does about a full disk besides trying on: refuses what needs more room in the
//! manifest than there is, and closes without what cannot be written.
//!
//! Invariant: nobody waits for space who did not ask to; what was staged is kept as long as the
//! shard runs. Not here: how much room there is (`manifest`), when no segment can be prepared
//! (`segment`).

use std::io;

use super::{Closing, Request, Shard};
use crate::manifest::Room;

impl Shard {
    /// The next request of a caller that can be admitted now.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        loop {
            let request = self.port.requests.lock().queue.pop_front()?;
            let Request::Edits(edits, reply) = &request else { return Some(request) };
            if self.halted || self.closing != Closing::No {
                return Some(request);
            }
            match self.manifest.room_for(edits) {
                Ok(Room::Is) => return Some(request),
                Ok(Room::Awaited) => {
                    self.port.requests.lock().queue.push_front(request);
                    return None;
                }
                Err(error) => reply.set(Err(error)),
            }
        }
    }

    /// On a full disk: a close that waited for a segment, or for the manifest, would never end.
    pub(super) fn is_stuck(&self) -> bool {
        let no_segment =
            self.commit.pending.is_some() && !self.fits_pending() && self.segments.is_starved();
        self.commit.in_flight.is_empty() && (no_segment || self.manifest.wake_at().is_some())
    }

    /// Closes without what cannot be written: nobody misses a mark, what was staged is unknown.
    pub(super) fn let_go(&mut self) {
        let mark = self.commit.pending.as_ref().is_some_and(|pending| pending.records == 0);
        if mark && !self.port.intake.has_work(false) {
            self.commit.pending = None;
            self.unmarked_since = None;
            return;
        }
        let error = io::Error::from(io::ErrorKind::StorageFull);
        self.halt("closing: what is staged has no room", error);
    }
}
