//! The models: what crosses threads in the engine, under every order of steps that a seed makes up.
//!
//! Invariants: a model runs the engine's own code; what it makes up itself is only the device, the
//! clock and what callers do. It ends by itself, with nobody left asleep, or shuttle calls it a
//! deadlock. It takes no time and no chance but shuttle's, so that a seed is one run.
//!
//! Not here: how many runs, and with which seeds (`models/tests/models.rs`).

mod appends;
mod ends;
mod list;
mod memory;
mod pump;
mod threaded;
mod whole;

pub use crate::races::{RACES, Race, choose};
pub use crate::sync::parker::reset;
pub use list::{MODELS, Model};
