//! A hold on what a directory has now: the handle of who copies it.
//!
//! Invariants: what was there when the hold was taken stays until it is dropped, or is broken, and
//! then every check says so. Dropping it wakes the shards, which collect what it kept.
//!
//! Not here: the books and the limits (`holds`), what is copied (`backup`).

use std::fmt;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inner::Shards;
use crate::io::Clock;
use crate::lsn::{SegmentId, ShardId};
use crate::shard::Port;

/// Keeps garbage collection from taking segments; see [`Engine::hold`].
pub struct Hold {
    /// Per shard, and the hold's number there.
    ports: Vec<(Arc<Port>, u64)>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({} shards)", self.ports.len())
    }
}

impl Engine {
    /// Holds everything there is, and what comes: no segment is removed or used again until the
    /// hold is dropped, so that files can be copied meanwhile. Logs may be truncated and deleted
    /// all the same; what they let go is taken back afterwards. `name` is for reports.
    ///
    /// A hold is in memory: it ends with the engine. It is broken when holds alone keep more than
    /// [`hold_bytes_max`](crate::Config::hold_bytes_max) in a shard (the oldest first), and when it
    /// is older than [`hold_age_max`](crate::Config::hold_age_max): ask [`Hold::check`].
    ///
    /// # Errors
    /// `Invalid` in a read-only engine and for more than 64 holds at once; `Halted`.
    pub fn hold(&self, name: &str) -> Result<Hold> {
        let Shards::Ports(ports) = &self.inner.shards else {
            return Err(Error::Invalid("the engine is open for reading only".into()));
        };
        let clock = self.inner.storage.clock();
        let now = clock.mono_ns();
        let mut hold = Hold { ports: Vec::new(), clock };
        for port in ports.all() {
            let id = port.view.holds.take(name, SegmentId(0), now)?;
            hold.ports.push((port, id));
        }
        hold.check()?;
        Ok(hold)
    }
}

impl Hold {
    /// Whether all that was held is still there. Ask after each piece of work: what was read before
    /// an `Ok` was whole.
    ///
    /// # Errors
    /// `HoldBroken` once a limit was passed: what was copied meanwhile is not to be used; `Halted`
    /// when a shard has halted.
    pub fn check(&self) -> Result<()> {
        let now = self.clock.mono_ns();
        for (port, id) in &self.ports {
            if let Some(cause) = port.intake.halted() {
                return Err(Error::Halted { cause });
            }
            port.view.holds.check(*id, now)?;
        }
        Ok(())
    }
}

impl Hold {
    /// Holds only these of a shard from now on.
    pub(crate) fn narrow(&self, shard: ShardId, from: SegmentId, to: SegmentId) {
        for (port, id) in self.ports.iter().filter(|(port, _)| port.view.shard == shard) {
            port.view.holds.narrow(*id, from, to);
            port.intake.ring_bell();
        }
    }

    /// The shards that it holds.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.ports.iter().map(|(port, _)| port)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for (port, id) in &self.ports {
            port.view.holds.release(*id);
            port.intake.ring_bell();
        }
    }
}
