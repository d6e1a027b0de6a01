//! The stream of batches in unsealed segments, as recovery reads it.
//!
//! Invariants: a valid header's claim counts, whatever its body; a batch is accepted only when it
//! is the next, whole, and repeats the CRC of the header before it. Everything else is left to
//! `damage`.
//!
//! Not here: judging (`damage`), reading ahead (`scan`).

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{BatchHeader, BatchView, RECYCLED, Run, SegmentHeader, UNIT_MIN};
use crate::io::buf::AlignedBuf;
use crate::io::{File, Mode};
use crate::lsn::SegmentId;
use crate::manifest::SegmentFacts;
use crate::names;
use crate::planted::{Bug, planted};
use crate::scan::Window;
use crate::work::{Found, Plan, Work};

/// A segment whose first bytes, as many as this, are zeros was never written: batches fill it from
/// the front, and what is in flight at once is less. The whole of a large spare need not be read.
const BLANK_FRONT_BYTES: u64 = 64 << 20;

pub(crate) fn open_segment(plan: &Plan<'_>, facts: &SegmentFacts, mode: Mode) -> Result<File> {
    let name = names::segment(plan.shard, facts.file);
    match plan.storage.open(&name, mode) {
        Ok((file, _)) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NotOurs(format!(
            "{name} is named in the manifest and missing from the directory"
        ))),
        Err(e) => Err(Error::io(format!("opening {name}"), e)),
    }
}

/// What is decided on must be on the medium: the page cache may hold what a power cut would take.
pub(crate) fn sync_unsealed(plan: &Plan<'_>, unsealed: &[(SegmentId, SegmentFacts)]) -> Result<()> {
    for (_, facts) in unsealed {
        let file = open_segment(plan, facts, Mode::Write)?;
        plan.storage
            .sync(&file)
            .map_err(|e| Error::io("syncing a segment before reading it", e))?;
    }
    plan.storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))
}

pub(crate) fn scan_segment(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<()> {
    let file = open_segment(work.plan, &facts, Mode::Read)?;
    let len = work.plan.storage.len(&file).map_err(|e| Error::io("measuring a segment", e))?;
    let recycled = check_identity(work, id, &facts, &file)?;
    let unit = work.state.facts.unit as usize;
    let mut window = Window::open(work.plan.storage, &file, unit as u64, len)?;
    let mut offset = unit as u64;
    let mut told = offset;
    while offset + (unit as u64) <= len {
        let bytes = window.at(offset, unit)?;
        let blank = !work.touched.contains(&id) && !work.dirty.contains(&id);
        if bytes.len() < unit || (blank && offset > BLANK_FRONT_BYTES) {
            break;
        }
        let header = BatchHeader::decode(bytes, facts.nonce);
        let step = match header {
            Ok((header, crc)) if is_ours(work, id, &header) => {
                let padded = header.padded_bytes(unit);
                let bytes = window.at(offset, padded)?;
                take_batch(work, id, offset, facts.nonce, bytes, &header, crc)?;
                padded
            }
            Ok((header, _)) if header.term > work.state.term => {
                return Err(Error::NotOurs(format!(
                    "the manifest of shard {} knows term {}, but batch {} was written in term {}: \
                     its last edits are lost",
                    work.plan.shard, work.state.term, header.seq, header.term
                )));
            }
            Ok(_) => {
                work.dirty.insert(id);
                unit
            }
            Err(flaw) if flaw.is_unsupported() => {
                return Err(Error::flaw(&format!("segment {id} at offset {offset}"), &flaw));
            }
            Err(_) => {
                if bytes[..unit].chunks_exact(8).any(|chunk| chunk != [0; 8]) {
                    // Of an earlier life of the file, or torn: the nonce keeps both from passing.
                    let strange = if recycled { &mut work.murky } else { &mut work.dirty };
                    strange.insert(id);
                }
                work.troubled = work.troubled || work.claim >= work.expected;
                unit
            }
        };
        offset += step as u64;
        if offset - told >= 1 << 20 {
            work.plan.progress.fetch_add(offset - told, Ordering::Relaxed);
            told = offset;
        }
    }
    work.report.scanned_bytes += len;
    if len < facts.bytes {
        // Prewritten and synced before it was named, trimmed only once sealed: someone cut it, and
        // what it held beyond is gone without a trace.
        let name = names::segment(work.plan.shard, facts.file);
        tracing::error!(%name, len, bytes = facts.bytes, "an unsealed segment was cut short");
        work.unnamed_gap = true;
        work.seen_since_gap.clear();
    }
    work.plan.progress.fetch_add(offset.saturating_sub(told), Ordering::Relaxed);
    Ok(())
}

/// A file under a name of ours that holds another segment was swapped or renamed. True: the file
/// was another segment in an earlier life.
fn check_identity(
    work: &Work<'_>,
    id: SegmentId,
    facts: &SegmentFacts,
    file: &File,
) -> Result<bool> {
    let doing = |e| Error::io("reading a segment's header", e);
    let mut buf = AlignedBuf::zeroed(UNIT_MIN).map_err(doing)?;
    let got = work.plan.storage.read_at(file, 0, &mut buf, UNIT_MIN).map_err(doing)?;
    let name = names::segment(work.plan.shard, facts.file);
    match SegmentHeader::decode(&buf[..got]) {
        Ok(header) => {
            let same = header.directory == work.state.facts.directory
                && header.segment == id
                && header.nonce == facts.nonce;
            if same {
                return Ok(header.compat & RECYCLED != 0);
            }
            let what = format!(
                "{name} holds segment {} of directory {:x}; the manifest expects segment {id} of \
                 {:x}",
                header.segment, header.directory, work.state.facts.directory
            );
            Err(Error::NotOurs(what))
        }
        Err(flaw) if flaw.is_unsupported() => Err(Error::flaw(&name, &flaw)),
        // The manifest is the second copy of the header: its loss alone loses nothing.
        Err(flaw) => {
            tracing::warn!(%name, %flaw, "segment header damaged; the manifest has what it said");
            Ok(false)
        }
    }
}

fn is_ours(work: &Work<'_>, id: SegmentId, header: &BatchHeader) -> bool {
    header.directory == work.state.facts.directory
        && header.segment == id
        && header.shard == work.plan.shard
        && header.term == work.state.term
        && header.seq >= work.expected
}

/// A valid header of this stream: its claim counts; its batch is kept when it is next and whole.
fn take_batch(
    work: &mut Work<'_>,
    id: SegmentId,
    offset: u64,
    nonce: u64,
    bytes: &[u8],
    header: &BatchHeader,
    crc: u32,
) -> Result<()> {
    if header.manifest_seq > work.manifest_seq && !planted(Bug::LastEditLost) {
        return Err(Error::NotOurs(format!(
            "the manifest of shard {} ends at edit {}, but batch {} was written after edit {}: its \
             last edits are lost",
            work.plan.shard, work.manifest_seq, header.seq, header.manifest_seq
        )));
    }
    if work.touched.last() != Some(&id) {
        work.touched.push(id);
    }
    let parsed = BatchView::parse(bytes, nonce).and_then(|b| b.verify().map(|()| b));
    if let Err(flaw) = &parsed
        && flaw.is_unsupported()
    {
        return Err(Error::flaw(&format!("segment {id}, batch {}", header.seq), flaw));
    }
    let deaf = planted(Bug::ClaimsIgnored) || planted(Bug::TornClaimIgnored) && parsed.is_err();
    work.claim = if deaf { work.claim } else { work.claim.max(header.durable) };
    let found = Found {
        segment: id,
        offset,
        bytes: header.padded_bytes(work.state.facts.unit as usize) as u64,
        seq: header.seq,
        crc,
        prev_crc: header.prev_crc,
        whole: parsed.is_ok() && header.seq <= work.plan.keep_to,
        continues: header.continues,
    };
    let next = header.seq == work.expected && header.prev_crc == work.prev_crc;
    match parsed {
        Ok(batch) if next && found.whole && !work.troubled => {
            let runs: Vec<Run> = batch.runs.iter().collect();
            work.accept(&found, header.time_us, &runs);
        }
        _ => {
            work.troubled = true;
            work.beyond.push(found);
        }
    }
    Ok(())
}
