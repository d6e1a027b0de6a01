//! The test world: a simulated directory with a power switch, a model of the truth, and checkers.
//!
//! Not here: suites on real disks (`engine/tests`), on real power cuts (`lab`).

pub mod campaign;
pub mod check;
pub mod count;
pub mod cut;
pub mod fail;
pub mod model;
pub mod ops;
pub mod rot;
pub mod script;
pub mod shrink;
pub mod small;
pub mod store;
pub mod summary;
pub mod world;
