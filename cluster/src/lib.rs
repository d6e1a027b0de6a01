//! Who may write a Sapwood directory, agreed on over etcd: one owner at a time, under terms that
//! only grow.
//!
//! What it promises:
//! - At most one owner counts at any moment, however processes, hosts, clocks (within
//!   [`Terms::margin`]) and the network to etcd behave, as long as etcd's transactions are
//!   linearizable and its data is not set back behind living owners.
//! - A successor has the directory at most one lease after the last renewal of one that is gone,
//!   and at once after one that gave it back.
//! - Whoever cannot reach etcd keeps what it has until its lease is over, and then nothing.
//!
//! What it relies on: nothing of etcd but a linearizable read and a conditional put of one key. No
//! etcd lease, no watch, no clock of another host: a successor measures the predecessor's lease on
//! its own clock, from the moment at which it saw the last renewal. So a compaction, a restart, a
//! change of leader or a leader that does not know it is one no longer change nothing but time.
//!
//! In reading order: [`record`] (what stands in etcd), [`claim`] (taking a directory), [`tenure`]
//! (keeping it, giving it back), [`owner`] (the engine's `Owner` over both), [`transport`] and its
//! implementations.
//!
//! Not here: what fences bytes (terms, in the engine), logs, epochs and starts (the manifest).

#![deny(unsafe_code)]

pub mod claim;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod owner;
pub mod record;
#[cfg(feature = "sim")]
pub mod sim;
pub mod tenure;
pub mod terms;
pub mod transport;

pub use owner::LeaseOwner;
pub use terms::Terms;

/// The owner over a real etcd.
#[cfg(feature = "etcd")]
pub type EtcdOwner = LeaseOwner<etcd::Etcd>;
