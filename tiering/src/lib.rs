//! # Sapwood's tier
//!
//! Sealed segments of a [`sapwood`] engine to object storage and back.
//!
//! What is here: the object format and the names of objects (`FORMAT.md`), stores, the tier that
//! uploads what an engine has sealed, and the archive through which its readers read what left,
//! with every checksum looked at on the way.
//!
//! Not here: the log itself, and what leaves its local disk (`sapwood`).

mod archive;
mod catalog;
pub mod gather;
pub mod layout;
pub mod object;
mod pace;
pub mod pack;
pub mod store;
mod tier;
pub mod upload;

pub use archive::StoreArchive;
pub use tier::{Damaged, Settings, Status, Tier};
