//! What recovery keeps beyond every claim is written once more, in place, durably.
//!
//! Invariants: the bytes are those that were decided on, checked again; it is over before the
//! snapshot that makes them true. What somebody claims is durable is left alone, and so is all
//! that is dropped.
//!
//! Crash story: the write of a batch fails although all of it can be read (the device, or the page
//! cache, has it and will not keep it: the sync that follows succeeds and covers nothing). The
//! process ends, the directory is opened again, nobody remembers the failure; the batch is kept,
//! read, built upon, and gone after the next power cut. A write of our own that has succeeded does
//! not depend on what became of the one before.
//!
//! Crash story: the power goes while it writes. The same bytes stood there before, so each sector
//! is what it was; the next recovery decides anew.
//!
//! Not here: what is kept (`stream`, `damage`).

use crate::error::{Error, Result};
use crate::format::BatchView;
use crate::io::buf::AlignedBuf;
use crate::io::{File, Mode};
use crate::lsn::SegmentId;
use crate::planted::{Bug, planted};
use crate::stream::open_segment;
use crate::work::{Found, Work};

/// Writes the unclaimed end of what is kept again; bounded, as a header lies at most so many
/// batches in flight beyond its claim.
pub(crate) fn renew(work: &Work<'_>) -> Result<()> {
    if !work.plan.write || planted(Bug::ReadIsBelieved) {
        return Ok(());
    }
    let mut open: Option<(SegmentId, File)> = None;
    for found in work.unclaimed.iter().filter(|found| found.seq > work.claim) {
        let file = match &open {
            Some((id, file)) if *id == found.segment => file,
            _ => {
                let facts = work.state.segments[&found.segment];
                let file = open_segment(work.plan, &facts, Mode::Write)?;
                &open.insert((found.segment, file)).1
            }
        };
        work.plan.powers.check(work.plan.storage.clock().boot_ns())?;
        renew_one(work, file, found)?;
    }
    Ok(())
}

fn renew_one(work: &Work<'_>, file: &File, found: &Found) -> Result<()> {
    let doing = |e| Error::io("writing a batch again that nobody claims", e);
    let len = found.bytes as usize;
    let mut buf = AlignedBuf::zeroed(len).map_err(doing)?;
    let storage = work.plan.storage;
    let got = storage.read_at(file, found.offset, &mut buf, len).map_err(doing)?;
    let nonce = work.state.segments[&found.segment].nonce;
    // What reads otherwise than a moment ago must not be made durable, nor be kept.
    let is_same = |batch: BatchView<'_>| batch.crc == found.crc && batch.verify().is_ok();
    if got < len || !BatchView::parse(&buf[..len], nonce).is_ok_and(is_same) {
        let changed = std::io::Error::other("it reads otherwise than a moment ago");
        return Err(doing(changed));
    }
    storage.write_at(file, found.offset, &buf, len, true).map_err(doing)
}
