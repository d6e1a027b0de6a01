//! Indexes that recovery reads, and those it makes: of predecessors, and again of damaged ones.
//!
//! Invariants: an index is derived; whatever happens to its file, the segment tells the same. Logs
//! are brought up to the segments that were sealed after the manifest's snapshot. An index that
//! finds no room is **owed**: it is kept in the view, also in that of a reader, and the manifest
//! says so by a length of 0, so that no file of its name is believed.
//!
//! Not here: what an index is built from (`seal`), its bytes (`format::index`).

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::{IndexData, IndexEntries};
use crate::format::manifest::Link;
use crate::format::{BatchHeader, BatchView, Run, UNIT_MIN};
use crate::io::buf::{AlignedBuf, Scratch};
use crate::io::{File, Mode};
use crate::lsn::{LogId, SegmentId};
use crate::manifest::{self, SealedFacts, SegmentFacts};
use crate::names;
use crate::scan::Window;
use crate::seal;
use crate::stream::open_segment;
use crate::view::{Durable, SegmentView, ViewState};
use crate::work::{Plan, Work};

/// Bytes of old indexes that are read whole when a directory is opened for writing, newest segments
/// first; of the others only the length is looked at, so that opening stays short.
const INDEX_SUM_BYTES_MAX: u64 = 4 << 20;

/// Segments whose indexes a recovery owes at most, each in memory until it is written: beyond it a
/// full disk is not opened. What a running shard may leave unsealed is less: its spares and its
/// active segment, as new ones take room themselves.
const OWED_MAX: usize = 64;

/// Brings tails and chains up to the segments that were sealed after the snapshot.
pub(crate) fn adopt_sealed(work: &mut Work<'_>) -> Result<()> {
    let sealed: Vec<_> = work
        .state
        .segments
        .iter()
        .filter_map(|(id, facts)| Some((*id, *facts, facts.sealed?)))
        .collect();
    let mut budget = INDEX_SUM_BYTES_MAX;
    if work.plan.write {
        let old = |id: SegmentId, sealed: &SealedFacts| {
            sealed.last_seq <= work.state.checkpoint && id <= work.state.chained
        };
        let old: Vec<_> = sealed.iter().rev().filter(|(id, _, s)| old(*id, s)).copied().collect();
        let missing = |(_, facts, sealed): &(SegmentId, SegmentFacts, SealedFacts)| {
            !index_is_there(work.plan, facts, sealed, &mut budget)
        };
        let mut missing: Vec<_> = old.into_iter().filter(missing).collect();
        // Oldest first: each leads back to one that is whole by then.
        missing.reverse();
        for (id, facts, _) in missing {
            rebuild_old(work, id, facts)?;
        }
    }
    for (id, facts, sealed) in sealed {
        if sealed.last_seq <= work.state.checkpoint && id <= work.state.chained {
            if !work.plan.write && sealed.index_bytes == 0 {
                look_again(work, id, facts);
            }
            continue;
        }
        let name = names::index(work.plan.shard, facts.file);
        let bytes = manifest::read_file(&**work.plan.storage, &name).unwrap_or_else(|error| {
            work.report.repaired.push(format!("{name}: {error}"));
            None
        });
        let told = |b: &Scratch| sealed.index_bytes != 0 && crc32c::crc32c(b) == sealed.index_crc;
        let good = bytes.filter(told);
        match good.as_deref().map(IndexEntries::decode) {
            Some(Ok(index)) if index.header.segment == id => seal::adopt(&mut work.view, &index),
            _ => rebuild_sealed(work, id, facts)?,
        }
    }
    Ok(())
}

/// As [`rebuild_old`], for who writes nothing: a writer may be taking the segment away meanwhile.
fn look_again(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) {
    if let Err(error) = rebuild_old(work, id, facts) {
        work.report.repaired.push(format!("index of segment {id}: {error}"));
    }
}

/// Whether an old index is as the manifest says: its sum where that is cheap, else its length.
fn index_is_there(
    plan: &Plan<'_>,
    facts: &SegmentFacts,
    sealed: &SealedFacts,
    budget: &mut u64,
) -> bool {
    let name = names::index(plan.shard, facts.file);
    if sealed.index_bytes == 0 {
        return false; // owed
    }
    if sealed.index_bytes > *budget {
        let opened = plan.storage.open(&name, Mode::Read);
        return opened.is_ok_and(|(_, len)| len == sealed.index_bytes);
    }
    *budget -= sealed.index_bytes;
    let bytes = manifest::read_file(&**plan.storage, &name);
    matches!(bytes, Ok(Some(bytes)) if crc32c::crc32c(&bytes) == sealed.index_crc)
}

/// An index is derived: when it is damaged or missing, the segment tells the same.
fn rebuild_sealed(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<()> {
    let Some(built) = build_again(work, id, facts)? else { return Ok(()) };
    if let Ok(index) = IndexEntries::decode(&built.index) {
        seal::adopt(&mut work.view, &index);
    }
    take_index(work, id, facts.file, built.sealed, built.index)
}

/// The index of a sealed segment is made: it becomes a file, or is owed, and the state says which.
pub(crate) fn take_index(
    work: &mut Work<'_>,
    id: SegmentId,
    number: u64,
    sealed: SealedFacts,
    index: Vec<u8>,
) -> Result<()> {
    let (index_bytes, index_crc) = (index.len() as u64, crc32c::crc32c(&index));
    if !work.plan.write {
        let told = work.state.segments.get(&id).and_then(|facts| facts.sealed);
        if told.is_some_and(|sealed| sealed.index_bytes == 0) {
            owe(work, id, sealed, index)?;
        }
        return Ok(());
    }
    match write_index(work.plan, number, &index) {
        Err(Error::NoSpace(_)) => owe(work, id, sealed, index),
        Err(error) => Err(error),
        Ok(()) => {
            work.state.apply(&SealedFacts { index_bytes, index_crc, ..sealed }.edit(id));
            Ok(())
        }
    }
}

fn owe(work: &mut Work<'_>, id: SegmentId, sealed: SealedFacts, index: Vec<u8>) -> Result<()> {
    let owed = work.view.segments.values().filter(|seen| seen.owed.is_some()).count();
    if owed >= OWED_MAX {
        return Err(Error::NoSpace(format!("the indexes of {owed} segments found no room")));
    }
    if let Some(seen) = work.view.segments.get_mut(&id) {
        seen.owed = Some(Arc::new(index));
    }
    work.state.apply(&SealedFacts { index_bytes: 0, index_crc: 0, ..sealed }.edit(id));
    Ok(())
}

/// As [`rebuild_sealed`], for a segment that the chains passed long ago: its entries lead back to
/// the nearest older segment that holds the log. Older indexes are whole by now: oldest come first.
fn rebuild_old(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<()> {
    let Some(built) = build_again(work, id, facts)? else { return Ok(()) };
    let Ok(mut data) = IndexData::decode(&built.index) else { return Ok(()) };
    for entry in &mut data.entries {
        (entry.ordinal, entry.prev, entry.jump) = (1, None, None);
    }
    let mut open: Vec<usize> = (0..data.entries.len()).collect();
    for (older, theirs) in work.state.segments.range(..id).rev() {
        if open.is_empty() {
            break;
        }
        let Some(theirs) = read_index(work, *older, theirs) else { continue };
        open.retain(|at| {
            let entry = &mut data.entries[*at];
            let Ok(found) = theirs.entries.binary_search_by_key(&entry.log, |e| e.log) else {
                return true;
            };
            let (ordinal, first_lsn) =
                (theirs.entries[found].ordinal, theirs.entries[found].first_lsn);
            entry.prev = Some(Link { segment: *older, ordinal, first_lsn });
            entry.ordinal = ordinal + 1;
            false
        });
    }
    let Some(sealed) = facts.sealed else { return Ok(()) };
    take_index(work, id, facts.file, sealed, data.encode())
}

/// The index of an older segment, in memory if it is owed.
fn read_index(work: &Work<'_>, id: SegmentId, facts: &SegmentFacts) -> Option<IndexData> {
    if let Some(owed) = work.view.segments.get(&id).and_then(|seen| seen.owed.as_deref()) {
        return IndexData::decode(owed).ok();
    }
    let name = names::index(work.plan.shard, facts.file);
    let bytes = manifest::read_file(&**work.plan.storage, &name).ok()??;
    IndexData::decode(&bytes).ok()
}

/// Builds the index of a sealed segment from its batches.
fn build_again(
    work: &mut Work<'_>,
    id: SegmentId,
    facts: SegmentFacts,
) -> Result<Option<seal::Built>> {
    let Some(sealed) = facts.sealed else { return Ok(None) };
    if sealed.index_bytes != 0 {
        work.report.repaired.push(format!("index of segment {id}, rebuilt from the segment"));
    }
    let mut blank = ViewState::default();
    for (counter, log) in work.view.logs() {
        blank.put_log(LogId::new(work.plan.shard, counter), log.clone());
    }
    blank.segments.insert(id, SegmentView::unsealed(facts.file, facts.nonce));
    let file = open_segment(work.plan, &facts, Mode::Read)?;
    let mut window = Window::open(work.plan.storage, &file, 0, sealed.end_offset)?;
    let unit = work.state.facts.unit as usize;
    let mut offset = unit as u64;
    while offset < sealed.end_offset {
        let bytes = window.at(offset, UNIT_MIN)?;
        let step = match BatchHeader::decode(bytes, facts.nonce) {
            Ok((header, _)) => header.padded_bytes(unit),
            Err(_) => unit,
        };
        let bytes = window.at(offset, step)?;
        if let Ok(batch) = BatchView::parse(bytes, facts.nonce) {
            let runs: Vec<Run> = batch.runs.iter().collect();
            let (seq, time_us) = (batch.header.seq, batch.header.time_us);
            let bytes = step as u64;
            blank.add(&Durable { segment: id, offset, bytes, seq, time_us, runs: &runs });
        }
        offset += step as u64;
    }
    if let Some(seen) = blank.segments.get_mut(&id) {
        seen.end = sealed.end_offset;
        (seen.first_seq, seen.last_seq) = (sealed.first_seq, sealed.last_seq);
    }
    Ok(seal::build(&blank, &work.state, work.plan.shard, id, sealed.last_crc))
}

fn write_index(plan: &Plan<'_>, number: u64, bytes: &[u8]) -> Result<()> {
    let name = names::index(plan.shard, number);
    let doing = |e| Error::io(format!("writing {name}"), e);
    let storage = &**plan.storage;
    let still_ours = || plan.powers.check(storage.clock().boot_ns());
    still_ours()?;
    let file = blank_index(plan, &name).map_err(doing)?;
    let mut buf = AlignedBuf::zeroed(bytes.len()).map_err(doing)?;
    buf[..bytes.len()].copy_from_slice(bytes);
    still_ours()?;
    storage.write_at(&file, 0, &buf, bytes.len(), false).map_err(doing)?;
    if !plan.powers.sole {
        still_ours()?;
        storage.truncate(&file, bytes.len() as u64).map_err(doing)?;
    }
    storage.sync(&file).map_err(doing)?;
    storage.sync_dir().map_err(doing)
}

/// The file that an index is to be written to: a new one, where nobody else can act any more.
///
/// Crash story: an owner in recovery is suspended just before it removes what stands under this
/// name; its lease runs out; the successor writes the index and lives on it; the first wakes, and
/// removes it. So where that can be, the file is written over in place, and cut to its length: who
/// comes late writes the same bytes.
fn blank_index(plan: &Plan<'_>, name: &str) -> io::Result<File> {
    let storage = &**plan.storage;
    if plan.powers.sole {
        return match storage.remove(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => storage.create(name),
        };
    }
    match storage.open(name, Mode::Write) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(|(file, _)| file),
    }
    match storage.create(name) {
        // The late one was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            storage.open(name, Mode::Write).map(|(file, _)| file)
        }
        created => created,
    }
}
