//! What threads meet by: atomics, threads and channels of the system, or those of the models.
//!
//! Invariants: in every build but that of the package `models` these are the names of `std`, so
//! that the seam costs nothing. There the same engine runs on threads whose every step is chosen
//! by a seed. (Locks need no seam: `models` has a `parking_lot` of its own.)
//!
//! Not here: parking on a word (`io/futex`), what the models demand (`models/`).

#[cfg(not(sapwood_models))]
pub(crate) use std::{
    sync::{atomic, mpsc},
    thread,
};

#[cfg(sapwood_models)]
pub(crate) use shuttle::{
    sync::{atomic, mpsc},
    thread,
};

/// Whether a thread has ended, for who only asks now and then. Models do not ask: they join.
pub(crate) fn is_finished(thread: &thread::JoinHandle<()>) -> bool {
    #[cfg(not(sapwood_models))]
    let over = thread.is_finished();
    #[cfg(sapwood_models)]
    let (over, _) = (true, thread);
    over
}

#[cfg(sapwood_models)]
#[path = "../../models/src/parker.rs"]
pub(crate) mod parker;
