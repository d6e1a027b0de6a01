//! A batch that takes no more records, on its way to the shard.
//!
//! Invariants: room for its run table is reserved as if every entry had its full length; how much
//! it takes is known once the batch was taken, and what is left over is not written.
//!
//! Not here: closing it (`intake`), writing the table (`commit`).

use crate::format::{
    RUN_BYTES, RUN_TABLE_HEADER_BYTES, RUNS_INLINE_MAX, Run, packed_run_table_bytes,
};
use crate::io::buf::StagedBatch;

/// See the module.
pub(crate) struct Closed {
    pub staged: StagedBatch,
    pub runs: Vec<Run>,
    pub records: u32,
    pub time_us: u64,
    /// When its first record was staged, and when the shard took it.
    pub staged_ns: u64,
    pub taken_ns: u64,
    pub span: SpanPlace,
    pub table: Table,
}

/// Where a batch stands in its span. A batch of its own is a span of one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpanPlace {
    /// Batches of the span before it.
    pub part: u32,
    /// Others follow.
    pub continues: bool,
    /// Bytes on disk of those that follow, at most.
    pub rest_bytes: u64,
}

/// The run table behind the records; one that fits behind the header takes nothing there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Table {
    pub bytes: usize,
    pub packed: bool,
}

impl Closed {
    /// Packs the run table where that makes it smaller. On the shard's own time: it looks at every
    /// run.
    pub(super) fn pack(&mut self, unit: usize) {
        if self.table.bytes == 0 {
            return;
        }
        let packed = packed_run_table_bytes(&self.runs);
        if packed < self.table.bytes {
            self.staged.give_up(self.table.bytes - packed, unit);
            self.table = Table { bytes: packed, packed: true };
        }
    }
}

/// Bytes that the run table takes behind the records, at most; none while it fits behind the
/// header.
pub(crate) fn trailer_bytes(runs: usize) -> usize {
    if runs <= RUNS_INLINE_MAX { 0 } else { RUN_TABLE_HEADER_BYTES + runs * RUN_BYTES }
}
