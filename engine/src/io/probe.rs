//! What a directory's file system and device are like, found out when it is opened.
//!
//! Invariants: every finding says why it is what it is; nothing is believed that the kernel did not
//! report or a measurement did not show ("not reported" means 4096).
//!
//! Not here: what the directory recorded at creation (`manifest`), which overrules a new measurement.

use super::Durable;

/// A finding and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<T> {
    /// What was found.
    pub value: T,
    /// Why, in words for a person.
    pub why: String,
}

impl<T> Finding<T> {
    /// A finding with its reason.
    pub fn new(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into() }
    }
}

/// All that was found out about one directory.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Alignment of every transfer: max(4096, physical block, reported alignment of direct I/O).
    pub unit: Finding<u32>,
    /// How a write is made durable.
    pub durable: Finding<Durable>,
    /// Whether O_DIRECT is accepted.
    pub direct: Finding<bool>,
    /// What carries the operations of shards: `io_uring`, `pread/pwrite`, `simulated`.
    pub backend: Finding<&'static str>,
    /// The kind of file system.
    pub file_system: String,
    /// Whether it is NFS (batches ≤ wsize, slower idle marks).
    pub nfs: bool,
    /// The block device behind it, when there is one that the kernel names.
    pub device: Option<String>,
    /// The device's `queue/write_cache`: `write back` (flushes cost) or `write through`.
    pub write_cache: Option<String>,
    /// The kernel's release.
    pub kernel: String,
}
