//! Recovery of a shard: from what is on the medium to what is true.
//!
//! Invariants:
//! - Only unsealed segments are scanned, all of them as one stream; a claim found anywhere (the
//!   durable sequence in a valid header, also of a batch whose body is torn) judges every earlier batch.
//! - The cut lies before the first batch that is not whole and that nobody claims was durable. What
//!   is not whole and claimed is damage: told, never skipped.
//! - Nothing is changed on disk before everything is decided; then indexes are written, and one
//!   snapshot makes the new term, the seals and the damage true at once. Files are trimmed and
//!   removed only after it.
//!
//! Crash story: the power goes anywhere in here. Before the snapshot the next recovery decides the
//! same from the same bytes; after it, it finds nothing unsealed, and trims and removes what is left.
//!
//! Not here: the order between shards, the lock (`engine`); damage bookkeeping (`damage`).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Recovery;
use crate::damage::{self, Findings};
use crate::error::{Error, Result};
use crate::format::index::IndexData;
use crate::format::manifest::{DamageFacts, Edit, Link};
use crate::format::{BatchHeader, BatchView, Run, SegmentHeader, UNIT_MIN};
use crate::io::buf::AlignedBuf;
use crate::io::{File, Mode, Storage};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::manifest::{self, Cursor, Loaded, SealedFacts, SegmentFacts, State};
use crate::names;
use crate::scan::Window;
use crate::seal;
use crate::shard::take_tails;
use crate::view::{Durable, LogView, SegmentView, StreamEnd, View, ViewState};

/// A segment whose first bytes, as many as this, are zeros was never written: batches fill it from the
/// front, and what is in flight at once is less. The whole of a large spare need not be read.
const BLANK_FRONT_BYTES: u64 = 64 << 20;

/// Indexes of old segments up to this size are read whole when a directory is opened for writing; of
/// larger ones only the length is looked at, so that opening stays short.
const INDEX_SUM_MAX: u64 = 256 << 10;

/// Found a batch: where it stands and whether it is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: u64,
    pub seq: u64,
    pub crc: u32,
    pub prev_crc: u32,
    pub whole: bool,
}

/// A shard as recovery leaves it.
pub(crate) struct Recovered {
    pub state: State,
    pub cursor: Cursor,
    pub view: ViewState,
    pub durable: u64,
    pub prev_crc: u32,
    pub spares: VecDeque<(SegmentId, SegmentFacts)>,
    pub next_segment: SegmentId,
    pub report: ShardReport,
}

/// What recovery found in a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// The last directory use ended with a clean close.
    pub clean: bool,
    /// Bytes of segments that were scanned.
    pub scanned_bytes: u64,
    /// Batches found in unsealed segments and kept.
    pub batches: u64,
    /// Batches of the torn tail: in flight at the crash, acked to nobody, dropped.
    pub dropped: u64,
    /// Damage found now or known before, as text.
    pub damages: Vec<String>,
    /// Damage in one copy of the manifest that the other copy mended.
    pub repaired: Vec<String>,
}

/// How a recovery goes about it.
pub(crate) struct Plan<'a> {
    pub storage: &'a Arc<dyn Storage>,
    pub shard: ShardId,
    pub mode: Recovery,
    /// Make it true on disk; else only look.
    pub write: bool,
    /// Bytes scanned so far, for who watches.
    pub progress: &'a AtomicU64,
}

/// Everything that is being worked out.
pub(crate) struct Work<'a> {
    pub plan: &'a Plan<'a>,
    pub state: State,
    pub view: ViewState,
    pub expected: u64,
    pub prev_crc: u32,
    /// The highest durable sequence that anything claims.
    pub claim: u64,
    /// Everything valid from the first trouble on, in the order of the stream.
    pub beyond: Vec<Found>,
    pub troubled: bool,
    /// Unsealed segments in which any valid header of their life was seen.
    pub touched: Vec<SegmentId>,
    /// Unsealed segments in which anything stands that is no batch of this term: torn, rotten, stale.
    pub dirty: HashSet<SegmentId>,
    /// CRC of the last header accepted, per segment.
    pub last_crcs: BTreeMap<SegmentId, u32>,
    pub damages: Vec<DamageFacts>,
    /// Index files that found no room on the disk, by number: written once there is some. A crash
    /// before that leaves an index missing, which is built again.
    pub owed: Vec<(u64, Vec<u8>)>,
    /// Durable batches are missing that no run table names; logs with a later run are accounted for.
    pub unnamed_gap: bool,
    pub seen_since_gap: HashSet<LogId>,
    pub manifest_seq: u64,
    pub report: ShardReport,
}

/// Recovers one shard from what `load` gave.
pub(crate) fn recover(plan: &Plan<'_>, loaded: Loaded) -> Result<Recovered> {
    let Loaded { state, cursor, durable, repaired, .. } = loaded;
    let mut work = begin(plan, state, cursor, durable, repaired);
    adopt_sealed(&mut work)?;
    let unsealed = work.unsealed();
    if plan.write {
        sync_unsealed(plan, &unsealed)?;
    }
    let closed = work.state.closed.is_some_and(|seq| seq + 1 == work.expected);
    work.report.clean = closed;
    if !closed {
        for (id, facts) in &unsealed {
            scan_segment(&mut work, *id, *facts)?;
        }
    }
    let findings = damage::settle(&mut work)?;
    let known = work.state.damages.iter().filter(|damage| !damage.lost);
    let first = findings.damages.iter().chain(known).next();
    if let (Recovery::Strict, Some(first)) = (plan.mode, first) {
        return Err(Error::Corrupt(Box::new(damage::describe(first))));
    }
    finish(work, cursor, findings)
}

/// What is durable by the manifest alone, nothing scanned: where a follower begins. Gives the state,
/// the view, the sequence that comes next and the CRC it must repeat.
pub(crate) fn look(plan: &Plan<'_>, loaded: Loaded) -> Result<(State, ViewState, u64, u32)> {
    let Loaded { state, cursor, durable, repaired, .. } = loaded;
    let mut work = begin(plan, state, cursor, durable, repaired);
    adopt_sealed(&mut work)?;
    damage::into_view(&mut work);
    Ok((work.state, work.view, work.expected, work.prev_crc))
}

fn begin<'a>(
    plan: &'a Plan<'a>,
    state: State,
    cursor: Cursor,
    durable: u64,
    repaired: Vec<String>,
) -> Work<'a> {
    let mut view = ViewState::default();
    for (id, facts) in &state.logs {
        let mut log = LogView::new(facts.start, facts.tail);
        log.epoch = facts.tail_epoch;
        log.last_time_us = facts.tail_time_us;
        log.chain.clone_from(&facts.chain);
        view.put_log(*id, log);
    }
    let (mut last_seq, mut last_crc) = (state.cut_seq, state.cut_crc);
    for (id, facts) in &state.segments {
        let mut seen = SegmentView::unsealed(facts.file, facts.nonce);
        if let Some(sealed) = facts.sealed {
            seen.live = None;
            seen.end = sealed.end_offset;
            (seen.first_seq, seen.last_seq) = (sealed.first_seq, sealed.last_seq);
            if sealed.last_seq >= last_seq {
                (last_seq, last_crc) = (sealed.last_seq, sealed.last_crc);
            }
        }
        view.segments.insert(*id, seen);
    }
    view.durable = last_seq;
    let report = ShardReport { repaired, ..ShardReport::default() };
    Work {
        plan,
        view,
        expected: last_seq + 1,
        prev_crc: last_crc,
        claim: durable.max(state.closed.unwrap_or(0)),
        beyond: Vec::new(),
        troubled: false,
        touched: Vec::new(),
        dirty: HashSet::new(),
        last_crcs: BTreeMap::new(),
        damages: Vec::new(),
        owed: Vec::new(),
        unnamed_gap: false,
        seen_since_gap: HashSet::new(),
        manifest_seq: cursor.seq,
        report,
        state,
    }
}

impl Work<'_> {
    fn unsealed(&self) -> Vec<(SegmentId, SegmentFacts)> {
        let open = self.state.segments.iter().filter(|(_, facts)| facts.sealed.is_none());
        open.map(|(id, facts)| (*id, *facts)).collect()
    }

    /// Takes a whole batch into the view.
    pub(crate) fn accept(&mut self, found: &Found, time_us: u64, runs: &[Run]) {
        damage::note_gaps(self, found, runs);
        self.view.add(&Durable {
            segment: found.segment,
            offset: found.offset,
            bytes: found.bytes,
            seq: found.seq,
            time_us,
            runs,
        });
        self.expected = found.seq + 1;
        self.prev_crc = found.crc;
        self.last_crcs.insert(found.segment, found.crc);
        self.report.batches += 1;
    }
}

/// Brings tails and chains up to the segments that were sealed after the snapshot.
fn adopt_sealed(work: &mut Work<'_>) -> Result<()> {
    let sealed: Vec<_> = work
        .state
        .segments
        .iter()
        .filter_map(|(id, facts)| Some((*id, *facts, facts.sealed?)))
        .collect();
    for (id, facts, sealed) in sealed {
        if sealed.last_seq <= work.state.checkpoint && id <= work.state.chained {
            if work.plan.write && !index_is_there(work.plan, &facts, &sealed) {
                rebuild_old(work, id, facts)?;
            }
            continue;
        }
        let name = names::index(work.plan.shard, facts.file);
        let bytes = manifest::read_file(&**work.plan.storage, &name).unwrap_or_else(|error| {
            work.report.repaired.push(format!("{name}: {error}"));
            None
        });
        let good = bytes.filter(|b| crc32c::crc32c(b) == sealed.index_crc);
        match good.as_deref().map(IndexData::decode) {
            Some(Ok(data)) if data.segment == id => seal::adopt(&mut work.view, &data),
            _ => rebuild_sealed(work, id, facts)?,
        }
    }
    Ok(())
}

/// Whether an old index is as the manifest says: its sum where that is cheap, else its length.
fn index_is_there(plan: &Plan<'_>, facts: &SegmentFacts, sealed: &SealedFacts) -> bool {
    let name = names::index(plan.shard, facts.file);
    let opened = plan.storage.open(&name, Mode::Read);
    if opened.is_ok_and(|(_, len)| len == sealed.index_bytes) && sealed.index_bytes > INDEX_SUM_MAX
    {
        return true;
    }
    let bytes = manifest::read_file(&**plan.storage, &name);
    matches!(bytes, Ok(Some(bytes)) if crc32c::crc32c(&bytes) == sealed.index_crc)
}

/// An index is derived: when it is damaged or missing, the segment tells the same.
fn rebuild_sealed(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<()> {
    let Some(built) = build_again(work, id, facts)? else { return Ok(()) };
    if let Ok(data) = IndexData::decode(&built.index) {
        seal::adopt(&mut work.view, &data);
    }
    if work.plan.write {
        write_index(work.plan, facts.file, &built.index)?;
        work.state.apply(&built.edit);
    }
    Ok(())
}

/// As [`rebuild_sealed`], for a segment that the chains passed long ago: its entries lead back to the
/// nearest older segment that holds the log. Older indexes are whole by now: oldest come first.
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
        let name = names::index(work.plan.shard, theirs.file);
        let Ok(Some(bytes)) = manifest::read_file(&**work.plan.storage, &name) else { continue };
        let Ok(theirs) = IndexData::decode(&bytes) else { continue };
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
    let index = data.encode();
    write_index(work.plan, facts.file, &index)?;
    if let Some(sealed) = facts.sealed {
        let (index_bytes, index_crc) = (index.len() as u64, crc32c::crc32c(&index));
        work.state.apply(&SealedFacts { index_bytes, index_crc, ..sealed }.edit(id));
    }
    Ok(())
}

/// Builds the index of a sealed segment from its batches.
fn build_again(
    work: &mut Work<'_>,
    id: SegmentId,
    facts: SegmentFacts,
) -> Result<Option<seal::Built>> {
    work.report.repaired.push(format!("index of segment {id}, rebuilt from the segment"));
    let Some(sealed) = facts.sealed else { return Ok(None) };
    let mut blank = ViewState::default();
    for (counter, log) in work.view.logs() {
        blank.put_log(LogId::new(work.plan.shard, counter), log.clone());
    }
    blank.segments.insert(id, SegmentView::unsealed(facts.file, facts.nonce));
    let file = open_segment(work.plan, &facts, Mode::Read)?;
    let show = work.state.facts.batch_bytes_max as usize;
    let mut window = Window::open(work.plan.storage, &file, 0, sealed.end_offset, show)?;
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
fn sync_unsealed(plan: &Plan<'_>, unsealed: &[(SegmentId, SegmentFacts)]) -> Result<()> {
    for (_, facts) in unsealed {
        let file = open_segment(plan, facts, Mode::Write)?;
        plan.storage
            .sync(&file)
            .map_err(|e| Error::io("syncing a segment before reading it", e))?;
    }
    plan.storage.sync_dir().map_err(|e| Error::io("syncing the directory", e))
}

fn scan_segment(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<()> {
    let file = open_segment(work.plan, &facts, Mode::Read)?;
    let len = work.plan.storage.len(&file).map_err(|e| Error::io("measuring a segment", e))?;
    check_identity(work, id, &facts, &file)?;
    let unit = work.state.facts.unit as usize;
    let show = work.state.facts.batch_bytes_max as usize;
    let mut window = Window::open(work.plan.storage, &file, unit as u64, len, show)?;
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
                if bytes[..unit].iter().any(|byte| *byte != 0) {
                    work.dirty.insert(id);
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

/// A file under a name of ours that holds another segment was swapped or renamed.
fn check_identity(work: &Work<'_>, id: SegmentId, facts: &SegmentFacts, file: &File) -> Result<()> {
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
                return Ok(());
            }
            let what = format!(
                "{name} holds segment {} of directory {:x}; the manifest expects segment {id} of {:x}",
                header.segment, header.directory, work.state.facts.directory
            );
            Err(Error::NotOurs(what))
        }
        Err(flaw) if flaw.is_unsupported() => Err(Error::flaw(&name, &flaw)),
        // The manifest is the second copy of the header: its loss alone loses nothing.
        Err(flaw) => {
            tracing::warn!(%name, %flaw, "segment header damaged; the manifest has what it said");
            Ok(())
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
    if header.manifest_seq > work.manifest_seq {
        return Err(Error::NotOurs(format!(
            "the manifest of shard {} ends at edit {}, but batch {} was written after edit {}: its \
             last edits are lost",
            work.plan.shard, work.manifest_seq, header.seq, header.manifest_seq
        )));
    }
    if work.touched.last() != Some(&id) {
        work.touched.push(id);
    }
    work.claim = work.claim.max(header.durable);
    let parsed = BatchView::parse(bytes, nonce).and_then(|b| b.verify().map(|()| b));
    if let Err(flaw) = &parsed
        && flaw.is_unsupported()
    {
        return Err(Error::flaw(&format!("segment {id}, batch {}", header.seq), flaw));
    }
    let found = Found {
        segment: id,
        offset,
        bytes: header.padded_bytes(work.state.facts.unit as usize) as u64,
        seq: header.seq,
        crc,
        prev_crc: header.prev_crc,
        whole: parsed.is_ok(),
    };
    let next = header.seq == work.expected && header.prev_crc == work.prev_crc;
    match parsed {
        Ok(batch) if next && !work.troubled => {
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

/// Makes it true: indexes, the snapshot, then the files that nobody needs.
fn finish(mut work: Work<'_>, cursor: Cursor, findings: Findings) -> Result<Recovered> {
    let durable = work.expected - 1;
    work.report.dropped = findings.dropped;
    for damage in &findings.damages {
        work.state.apply(&Edit::Damage(*damage));
    }
    damage::into_view(&mut work);
    let known = work.state.damages.iter();
    work.report.damages = known.map(|d| damage::describe(d).to_string()).collect();
    let mut spares = VecDeque::new();
    let mut gone = Vec::new();
    let mut trims = Vec::new();
    for (id, facts) in work.unsealed() {
        let used = work.view.segments.get(&id).is_some_and(|seen| seen.first_seq != 0);
        if used {
            if work.plan.write {
                trims.push((facts, seal_blocking(&mut work, id, facts)?));
            }
        } else if work.touched.contains(&id) || work.dirty.contains(&id) {
            // Bytes of the torn tail lie in it: they must never be met again.
            gone.push((id, facts));
            work.view.segments.remove(&id);
        } else {
            spares.push_back((id, facts));
            work.view.segments.remove(&id);
        }
    }
    let next_segment = work.state.next_segment();
    let mut recovered_cursor = cursor;
    if work.plan.write {
        gone.iter().for_each(|(id, _)| work.state.apply(&Edit::Retired { segment: *id }));
        let term = work.state.term + 1;
        let (cut_seq, cut_crc) = (durable, work.prev_crc);
        work.state.apply(&Edit::Term { term, cut_seq, cut_crc });
        work.state.apply(&Edit::Checkpoint { seq: durable });
        let view = View::new(work.plan.shard, std::mem::take(&mut work.view));
        take_tails(&mut work.state, &view);
        let (storage, shard) = (&**work.plan.storage, work.plan.shard);
        recovered_cursor = manifest::write_snapshot(storage, shard, &work.state, durable, cursor)?;
        work.view = view.into_state();
        let rotten = work.unnamed_gap || !findings.damages.is_empty();
        clean_up(work.plan, &gone, &trims, rotten);
        for (number, index) in std::mem::take(&mut work.owed) {
            write_index(work.plan, number, &index)?;
        }
    }
    work.view.durable = durable;
    let end = work.view.segments.iter().next_back();
    let (segment, offset) = end.map_or((SegmentId(0), 0), |(id, seen)| (*id, seen.end));
    work.view.stream_end = StreamEnd { segment, offset, seq: durable + 1 };
    Ok(Recovered {
        state: work.state,
        cursor: recovered_cursor,
        view: work.view,
        durable,
        prev_crc: work.prev_crc,
        spares,
        next_segment,
        report: work.report,
    })
}

/// Seals a predecessor: index file durable, state told. Returns where its batches end.
fn seal_blocking(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<u64> {
    let last_crc = work.last_crcs.get(&id).copied().unwrap_or(0);
    let built = seal::build(&work.view, &work.state, work.plan.shard, id, last_crc);
    let Some(built) = built else { return Ok(facts.bytes) };
    let end = work.view.segments.get(&id).map_or(facts.bytes, |seen| seen.end);
    match write_index(work.plan, facts.file, &built.index) {
        // A full disk must open: what the snapshot lets us give back makes room.
        Err(Error::NoSpace(_)) => work.owed.push((facts.file, built.index)),
        other => other?,
    }
    seal::Built::link(built.chains, &mut work.view);
    work.state.apply(&built.edit);
    if let Some(seen) = work.view.segments.get_mut(&id) {
        seen.live = None;
    }
    Ok(end)
}

fn write_index(plan: &Plan<'_>, number: u64, bytes: &[u8]) -> Result<()> {
    let name = names::index(plan.shard, number);
    let doing = |e| Error::io(format!("writing {name}"), e);
    let storage = &**plan.storage;
    match storage.remove(&name) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(doing(e)),
        _ => {}
    }
    let file = storage.create(&name).map_err(doing)?;
    let mut buf = AlignedBuf::zeroed(bytes.len()).map_err(doing)?;
    buf[..bytes.len()].copy_from_slice(bytes);
    storage.write_at(&file, 0, &buf, bytes.len(), false).map_err(doing)?;
    storage.sync(&file).map_err(doing)?;
    storage.sync_dir().map_err(doing)
}

/// Gives back what the snapshot says nobody needs. What fails is tried again by the next recovery.
///
/// A segment that holds no batch we keep is removed when it held the torn tail alone. Where damage was
/// found, it may be what is left of acked records: it is set aside, for people with better tools.
fn clean_up(
    plan: &Plan<'_>,
    gone: &[(SegmentId, SegmentFacts)],
    trims: &[(SegmentFacts, u64)],
    rotten: bool,
) {
    for (_, facts) in gone {
        let name = names::segment(plan.shard, facts.file);
        let done = if rotten {
            plan.storage.rename(&name, &names::aside(&name, plan.storage.clock().wall_us()))
        } else {
            plan.storage.remove(&name)
        };
        if let Err(error) = done {
            tracing::warn!(%name, %error, "clearing away a segment without batches failed");
        }
    }
    for (facts, end) in trims {
        let name = names::segment(plan.shard, facts.file);
        let trimmed = plan
            .storage
            .open(&name, Mode::Write)
            .and_then(|(file, _)| plan.storage.truncate(&file, *end));
        if let Err(error) = trimmed {
            tracing::warn!(%name, %error, "giving back the rest of a segment failed");
        }
    }
}
