//! Sapwood: a write-ahead-log engine.

mod lsn;
pub mod format;
pub mod io;

pub use lsn::{Epoch, LogId, Lsn, Position, SegmentId, ShardId};
