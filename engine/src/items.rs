//! The records of one log that a cursor has at hand, good and damaged.
//!
//! Invariants: ranges are those of the bytes that were read; what a cut dropped is not among them.
//!
//! Not here: which of them is next (`catchup`), how a batch is walked (`format::view`).

use std::ops::Range;

use crate::archive::Archived;
use crate::cuts::Cuts;
use crate::format::{BatchView, RecordHeader};
use crate::lsn::{Epoch, LogId, Lsn};

/// A record of the batch at hand, or what is damaged instead.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Good { header: RecordHeader, properties: Range<usize>, payload: Range<usize> },
    Bad { epoch: Epoch, first: Lsn, last: Lsn, offset: u64, reason: String },
}

impl From<Archived> for Item {
    fn from(record: Archived) -> Self {
        let Archived { header, properties, payload } = record;
        Self::Good { header, properties, payload }
    }
}

/// The records of `log` in a batch, and what of them is damaged.
pub(crate) fn collect(
    batch: &BatchView<'_>,
    log: LogId,
    at: u64,
    bytes: &[u8],
    items: &mut Vec<Item>,
) {
    let base = bytes.as_ptr() as usize;
    let range = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        start..start + part.len()
    };
    let mut records = batch.records_of(log);
    while let Some(record) = records.next() {
        match record {
            Ok((_, record)) => items.push(Item::Good {
                header: record.header,
                properties: range(record.properties),
                payload: range(record.payload),
            }),
            Err(flaw) => {
                let offset = at + records.offset() as u64;
                let Some(header) = records.header() else { break };
                let (first, last) = (header.lsn, header.lsn);
                let (epoch, reason) = (header.epoch, flaw.to_string());
                items.push(Item::Bad { epoch, first, last, offset, reason });
            }
        }
    }
    let offset = at + records.offset() as u64;
    for run in records.unread().filter(|run| run.log == log) {
        let reason = "a record header is damaged".to_owned();
        let (epoch, first, last) = (run.epoch, run.first_lsn, run.last_lsn());
        items.push(Item::Bad { epoch, first, last, offset, reason });
    }
}

/// Takes out what a cut dropped.
pub(crate) fn drop_cut(items: &mut Vec<Item>, cuts: &Cuts) {
    if cuts.is_empty() {
        return;
    }
    items.retain_mut(|item| match item {
        Item::Good { header, .. } => cuts.dropped(header.position()).is_none(),
        Item::Bad { epoch, first, last, .. } => {
            let end = cuts.clip(*epoch, last.next());
            *last = Lsn(end.0.max(1) - 1);
            *first < end
        }
    });
}
