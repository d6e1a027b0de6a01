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
mod ledger;
pub mod object;
mod pace;
pub mod pack;
pub mod remote;
mod restore;
pub mod store;
mod survey;
mod tier;
pub mod upload;
mod weave;
mod whole;

pub use archive::StoreArchive;
pub use restore::{NotRestored, Restored, RestoredLog, look_into, restore, restore_into};
pub use survey::{History, NotSurveyed, Survey, Surveyed, Trouble, histories};
pub use tier::{Damaged, Settings, Status, Tier};
