//! # Sapwood's tier
//!
//! Sealed segments of a [`sapwood`] engine to object storage and back.
//!
//! What is here: the object format (`FORMAT.md`), from a segment's bytes to an object's and back,
//! with every checksum looked at on the way.
//!
//! Not here: the log itself, and what leaves its local disk (`sapwood`).

pub mod gather;
pub mod object;
pub mod pack;
