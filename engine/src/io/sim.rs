//! The simulated disk.

/// Holds the simulated lock.
#[derive(Debug)]
pub(crate) struct Hold {}

impl Hold {
    /// Gives the lock up.
    pub(crate) fn release(&self) {}
}
