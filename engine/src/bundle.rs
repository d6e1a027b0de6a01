//! A bundle: records of several logs on their way into one batch that no shard stages: of a
//! compacted segment, or of an import.
//!
//! Invariants: the records of a log and epoch stay dense and in order, one run for each. A run has
//! fragments at its ends alone. The run table is not packed, whatever batch the records come from.
//!
//! Not here: what is checked of a record before it comes here, where the batch goes.

use std::collections::HashMap;

use crate::format::{
    BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, BATCH_PACKED_RUNS, BatchHeader, BatchKind,
    RUNS_INLINE_MAX, RecordHeader, Run, encode_runs, run_table_bytes,
};
use crate::lsn::{Epoch, LogId};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    runs: Vec<Run>,
    places: HashMap<(LogId, Epoch), usize>,
    records: Vec<u8>,
}

impl Bundle {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of the batch with so many more of records, in so many more runs at most.
    pub(crate) fn bytes_with(&self, more: usize, runs: usize) -> usize {
        BATCH_FRONT_BYTES + self.records.len() + more + table_behind(self.runs.len() + runs)
    }

    /// Whether the record can go on its run here, or begin one.
    pub(crate) fn takes(&self, record: &RecordHeader) -> bool {
        let at = self.places.get(&(record.log, record.epoch));
        at.and_then(|at| self.runs.get(*at)).is_none_or(|run| {
            !record.is_continued() && !run.continues && record.lsn == run.last_lsn().next()
        })
    }

    /// Adds a record that it takes; `body` is its bytes, the zeroes behind it may be left out.
    pub(crate) fn add(&mut self, record: &RecordHeader, body: &[u8]) {
        let Self { runs, places, records } = self;
        let at = *places.entry((record.log, record.epoch)).or_insert_with(|| {
            let (log, epoch, first_lsn) = (record.log, record.epoch, record.lsn);
            let continued = record.is_continued();
            runs.push(Run { log, epoch, first_lsn, continued, ..Run::default() });
            runs.len() - 1
        });
        let run = &mut runs[at];
        run.count += 1;
        run.bytes += record.framed_bytes() as u32;
        run.continues = record.continues();
        let end = records.len() + record.framed_bytes();
        records.extend_from_slice(body);
        records.resize(end, 0);
    }

    /// The header of its batch: `of`, with what the bundle decides.
    pub(crate) fn header(&self, of: BatchHeader) -> BatchHeader {
        let bytes = self.bytes_with(0, 0);
        BatchHeader {
            kind: BatchKind::Data,
            bytes: bytes as u32,
            records: self.runs.iter().map(|run| run.count).sum(),
            runs: self.runs.len() as u32,
            runs_offset: match table_behind(self.runs.len()) {
                0 => BATCH_HEADER_BYTES as u32,
                table => (bytes - table) as u32,
            },
            incompat: of.incompat & !BATCH_PACKED_RUNS,
            part: 0,
            continues: false,
            ..of
        }
    }

    /// Writes the batch to `out`, zeroes of its padded length; gives the CRC of the header.
    pub(crate) fn encode(&self, header: &BatchHeader, nonce: u64, out: &mut [u8]) -> u32 {
        let records_end = BATCH_FRONT_BYTES + self.records.len();
        out[BATCH_FRONT_BYTES..records_end].copy_from_slice(&self.records);
        encode_runs(&self.runs, header.seq, nonce, &mut out[header.runs_offset as usize..]);
        header.encode(nonce, out)
    }
}

/// Bytes of the run table behind the records; a few runs have their place in the front.
fn table_behind(runs: usize) -> usize {
    if runs > RUNS_INLINE_MAX { run_table_bytes(runs) } else { 0 }
}
