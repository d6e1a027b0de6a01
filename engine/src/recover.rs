//! Recovery of a shard: from what is on the medium to what is true.
//!
//! Invariants:
//! - Only unsealed segments are scanned, all of them as one stream; a claim found anywhere (the
//!   durable sequence in a valid header, also of a batch whose body is torn) judges every earlier
//!   batch.
//! - The cut lies before the first batch that is not whole and that nobody claims was durable. What
//!   is not whole and claimed is damage: told, never skipped.
//! - Nothing is changed on disk before everything is decided; then what nobody claims is written
//!   once more (`renew`), indexes are written, and one snapshot makes the new term, the seals and
//!   the damage true at once. Files are trimmed and removed only after it.
//!
//! Crash story: the power goes anywhere in here. Before the snapshot the next recovery decides the
//! same from the same bytes; after it, it finds nothing unsealed, and trims and removes what is
//! left.
//!
//! Not here: the order between shards, the lock (`engine`); damage bookkeeping (`damage`).

use std::collections::{BTreeMap, VecDeque};

use crate::config::Recovery;
use crate::cuts::Cuts;
use crate::damage::{self, Findings};
use crate::error::{Error, Result};
use crate::format::manifest::{Edit, LogFacts};
use crate::io::Mode;
use crate::lsn::{LogId, SegmentId};
use crate::manifest::{self, Cursor, Loaded, SegmentFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::reindex::{adopt_sealed, take_index};
use crate::renew::renew;
use crate::seal;
use crate::stream::{scan_segment, sync_unsealed};
use crate::view::{StreamEnd, View, ViewState};
use crate::work::{Plan, ShardReport, Work};

/// A shard as recovery leaves it.
pub(crate) struct Recovered {
    pub state: State,
    pub cursor: Cursor,
    pub view: ViewState,
    pub durable: u64,
    pub prev_crc: u32,
    pub spares: VecDeque<(SegmentId, SegmentFacts)>,
    pub next_segment: SegmentId,
    /// The term before this recovery.
    pub last_term: u32,
    pub report: ShardReport,
}

/// Recovers one shard from what `load` gave.
pub(crate) fn recover(plan: &Plan<'_>, loaded: Loaded) -> Result<Recovered> {
    let Loaded { state, cursor, durable, repaired, .. } = loaded;
    let mut work = Work::begin(plan, state, cursor, durable, repaired);
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

/// What is durable by the manifest alone, nothing scanned: where a follower begins. Gives the
/// state, the view, the sequence that comes next and the CRC it must repeat.
pub(crate) fn look(plan: &Plan<'_>, loaded: Loaded) -> Result<(State, ViewState, u64, u32)> {
    let Loaded { state, cursor, durable, repaired, .. } = loaded;
    let mut work = Work::begin(plan, state, cursor, durable, repaired);
    adopt_sealed(&mut work)?;
    damage::into_view(&mut work);
    Ok((work.state, work.view, work.expected, work.prev_crc))
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
    // What does not decode in a recycled file may be all that is left of acked records.
    let rotten = work.unnamed_gap || !findings.damages.is_empty();
    let (last_term, powers) = (work.state.term, work.plan.powers);
    powers.check(work.plan.storage.clock().boot_ns())?;
    renew(&work)?;
    let mut spares = VecDeque::new();
    let mut gone = Vec::new();
    let mut trims = Vec::new();
    for (id, facts) in work.unsealed() {
        let used = work.view.segments.get(&id).is_some_and(|seen| seen.first_seq != 0);
        if used && !planted(Bug::AppendToPredecessor) {
            if work.plan.write {
                trims.push((facts, seal_blocking(&mut work, id, facts)?));
            }
        } else if is_spoilt(&work, id, rotten) {
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
        for (id, facts) in &gone {
            work.state.apply(&Edit::Retired { segment: *id });
            // It goes below, or is set aside: nobody is to use it again.
            work.state.retired.remove(&facts.file);
        }
        let term = (work.state.term + 1).max(powers.term_floor);
        let (cut_seq, cut_crc) = (durable, work.prev_crc);
        work.state.apply(&Edit::Term { term, cut_seq, cut_crc });
        work.state.apply(&Edit::Checkpoint { seq: durable });
        let view = View::new(work.plan.shard, std::mem::take(&mut work.view));
        let (storage, shard) = (&**work.plan.storage, work.plan.shard);
        let tails = |cuts: &BTreeMap<LogId, Cuts>, logs: &mut [LogFacts]| view.tails(cuts, logs);
        let still_ours = || powers.check(storage.clock().boot_ns());
        let (state, from) = (&mut work.state, cursor);
        recovered_cursor =
            manifest::write_snapshot(storage, shard, state, &tails, durable, from, &still_ours)?;
        work.view = view.into_state();
        clean_up(work.plan, &gone, &trims, rotten)?;
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
        last_term,
        report: work.report,
    })
}

/// Whether bytes of the torn tail lie in a segment without batches, or will: an earlier owner that
/// has no lock may write yet. They must never be met again.
fn is_spoilt(work: &Work<'_>, id: SegmentId, rotten: bool) -> bool {
    let murky = rotten && work.murky.contains(&id);
    murky || work.touched.contains(&id) || work.dirty.contains(&id) || !work.plan.powers.sole
}

/// Seals a predecessor: index file durable, or owed, as a full disk must open; state told. Returns
/// where its batches end.
fn seal_blocking(work: &mut Work<'_>, id: SegmentId, facts: SegmentFacts) -> Result<u64> {
    let last_crc = work.last_crcs.get(&id).copied().unwrap_or(0);
    let built = seal::build(&work.view, &work.state, work.plan.shard, id, last_crc);
    let Some(built) = built else { return Ok(facts.bytes) };
    let end = work.view.segments.get(&id).map_or(facts.bytes, |seen| seen.end);
    take_index(work, id, facts.file, built.sealed, built.index)?;
    seal::Built::link(built.chains, &mut work.view);
    if let Some(seen) = work.view.segments.get_mut(&id) {
        seen.live = None;
    }
    Ok(end)
}

/// Gives back what the snapshot says nobody needs. What fails is tried again by the next recovery.
/// An error: the directory is somebody else's by now, and nothing more is done.
///
/// A segment that holds no batch we keep is removed when it held the torn tail alone. Where damage
/// was found, it may be what is left of acked records: it is set aside, for people with better
/// tools.
fn clean_up(
    plan: &Plan<'_>,
    gone: &[(SegmentId, SegmentFacts)],
    trims: &[(SegmentFacts, u64)],
    rotten: bool,
) -> Result<()> {
    let still_ours = || plan.powers.check(plan.storage.clock().boot_ns());
    for (_, facts) in gone {
        still_ours()?;
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
        still_ours()?;
        let name = names::segment(plan.shard, facts.file);
        let trimmed = plan
            .storage
            .open(&name, Mode::Write)
            .and_then(|(file, _)| plan.storage.truncate(&file, *end));
        if let Err(error) = trimmed {
            tracing::warn!(%name, %error, "giving back the rest of a segment failed");
        }
    }
    still_ours()
}
