//! The archive of a simulated life: what was copied out of sealed segments, by log and LSN.
//!
//! Invariants: it knows a segment only as a tier does, by the bytes of its file, each record as it
//! stands there; of one LSN it gives the record of the highest epoch. It answers at once, so that a
//! life stays the same life.
//!
//! Not here: when something is copied (`world`), an archive that fails (`engine/tests/archive.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sapwood::archive::{Answer, Archive, Wanted};
use sapwood::format::{
    BatchHeader, BatchView, Fragment, RecordHeader, SegmentHeader, write_record,
};
use sapwood::{Epoch, Error, LogId, Lsn, SealedSegment};

use crate::ensure;
use crate::model::Verdict;

/// Where the first batch of a segment stands, and what batches are padded to.
const UNIT: usize = 4096;

/// The framed records of one log, those in fragments with all of them.
type Records = BTreeMap<Lsn, (Epoch, Vec<u8>)>;

/// See the module. Clones are the same archive.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<BTreeMap<LogId, Records>>>);

impl Store {
    /// Copies a sealed segment, whose file this is.
    ///
    /// # Errors
    /// When it is not what its seal says.
    pub fn copy(&self, sealed: &SealedSegment, file: &[u8]) -> Verdict {
        let told = |what: &dyn std::fmt::Display| format!("{}: {what}", sealed.file);
        let bytes = file.get(..sealed.bytes as usize).ok_or_else(|| told(&"is short"))?;
        let nonce = SegmentHeader::decode(bytes).map_err(|flaw| told(&flaw))?.nonce;
        ensure!(nonce == sealed.nonce, "{}: another segment stands there", sealed.file);
        let mut logs = self.0.lock();
        let mut at = UNIT;
        while at < bytes.len() {
            let (header, _) =
                BatchHeader::decode(&bytes[at..], nonce).map_err(|flaw| told(&flaw))?;
            let batch = BatchView::parse(&bytes[at..], nonce).map_err(|flaw| told(&flaw))?;
            for record in batch.records() {
                let (_, record) = record.map_err(|flaw| told(&flaw))?;
                let records = logs.entry(record.header.log).or_default();
                keep(records, &record.header, record.properties, record.payload);
            }
            at += header.padded_bytes(UNIT);
        }
        Ok(())
    }
}

/// Keeps a record, unless a later epoch has written another one in its place.
fn keep(records: &mut Records, header: &RecordHeader, properties: &[u8], payload: &[u8]) {
    let mut framed = vec![0; header.framed_bytes()];
    write_record(header, properties, payload, &mut framed);
    let newer = records.get(&header.lsn).is_some_and(|(epoch, _)| *epoch > header.epoch);
    if newer {
        return;
    }
    if matches!(header.fragment(), Fragment::Whole | Fragment::First) {
        records.insert(header.lsn, (header.epoch, framed));
    } else if let Some((_, first)) = records.get_mut(&header.lsn) {
        first.extend(framed);
    }
}

impl Archive for Store {
    fn fetch(&self, wanted: Wanted, answer: Answer) {
        let logs = self.0.lock();
        let mut given = Vec::new();
        let records = logs.get(&wanted.log).into_iter();
        for (_, (_, framed)) in records.flat_map(|log| log.range(wanted.from..wanted.below)) {
            if !given.is_empty() && given.len() >= wanted.bytes_max {
                break;
            }
            given.extend_from_slice(framed);
        }
        drop(logs);
        let missing = || Error::Invalid(format!("{wanted:?} was never copied"));
        answer.give(if given.is_empty() { Err(missing()) } else { Ok(given) });
    }
}
