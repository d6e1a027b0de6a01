//! Damage: telling a torn tail from rot, and naming what rot hit.
//!
//! Invariants:
//! - A batch that nobody claims was durable is a torn tail and leaves no trace; one that is claimed
//!   and not whole is damage, named by log and LSNs.
//! - What names it, best first: the headers of the records, the run table (of the batch itself, or
//!   met where the header is gone), the gap that later runs leave. A log that has no later run
//!   after a gap without a name may have been hit at its tail: it is quarantined from there on.
//! - Salvage turns damage into `lost`, durably; an unknown extent costs one LSN, so that (epoch,
//!   LSN) never names two records.
//!
//! Not here: finding batches (`recover`), telling readers (`view`, `reader`).

use std::collections::HashSet;

use crate::config::Recovery;
use crate::error::{Damage, Result};
use crate::format::manifest::DamageFacts;
use crate::format::{BATCH_HEADER_BYTES, BatchView, Run, RunTable};
use crate::io::Mode;
use crate::io::buf::AlignedBuf;
use crate::lsn::{LogId, Lsn, SegmentId};
use crate::stream::open_segment;
use crate::work::{BATCH, BODY, Found, GAP, MET, MISSING, PART, RECORDS, TAIL, Work};

/// What recovery has to say about a shard.
#[derive(Default)]
pub(crate) struct Findings {
    pub damages: Vec<DamageFacts>,
    /// Batches of the torn tail.
    pub dropped: u64,
}

/// The reason behind a code.
pub(crate) fn reason(code: u16) -> &'static str {
    match code {
        BODY => "the record's checksum does not fit its bytes",
        RECORDS => "records behind a damaged record header",
        BATCH => "the batch is damaged beyond its run table",
        GAP => "records are missing between batches that are there",
        MET => "a reader could not read it",
        MISSING => "it was not in the tier that the directory was restored from",
        PART => "a part of the record is missing",
        TAIL => "a durable batch is missing, and nothing tells what it held of this log",
        _ => "a reason that this version does not know",
    }
}

/// Facts as an error tells them.
pub(crate) fn describe(facts: &DamageFacts) -> Damage {
    Damage {
        log: facts.log,
        first: facts.first_lsn,
        last: facts.last_lsn,
        segment: facts.segment,
        offset: facts.offset,
        reason: reason(facts.reason).to_owned(),
    }
}

/// Damage that a reader met, as facts of what is given up.
pub(crate) fn give_up(log: LogId, damage: &Damage) -> DamageFacts {
    DamageFacts {
        log: Some(log),
        first_lsn: damage.first,
        last_lsn: damage.last.or(Some(damage.first)),
        segment: damage.segment,
        offset: damage.offset,
        bytes: 0,
        reason: MET,
        lost: true,
    }
}

/// Decides the fate of everything from the first trouble on.
pub(crate) fn settle(work: &mut Work<'_>) -> Result<Findings> {
    work.beyond.sort_by_key(|found| found.seq);
    let mut beyond = std::mem::take(&mut work.beyond).into_iter().peekable();
    // A claim never stands inside a span: one that covers its beginning covers all of it.
    work.keep_span_if_claimed();
    while work.claim >= work.expected {
        while beyond.next_if(|found| found.seq < work.expected).is_some() {}
        match beyond.next_if(|found| found.seq == work.expected) {
            Some(found) => take(work, &found)?,
            None => {
                let next = beyond.peek().copied();
                missing(work, next.as_ref())?;
            }
        }
    }
    work.keep_span_if_claimed();
    // Above the claim the ordinary rule holds again: up to the first batch that does not fit.
    while let Some(found) = beyond.next_if(|found| {
        found.whole && found.seq == work.expected && found.prev_crc == work.prev_crc
    }) {
        take(work, &found)?;
    }
    let parts = work.drop_span();
    work.end_joins();
    suspect_tails(work);
    let mut findings = Findings { damages: std::mem::take(&mut work.damages), dropped: 0 };
    let logs = &work.state.logs;
    findings.damages.retain(|damage| match damage.log.map(|id| logs.get(id)) {
        // What is below a log's start is nobody's loss, nor is anything of a log that was deleted.
        Some(Some(log)) => !damage.is_below(log.id, log.start),
        Some(None) => false,
        None => true,
    });
    findings.dropped = parts + beyond.count() as u64;
    if work.plan.mode == Recovery::Salvage {
        salvage(work, &mut findings);
    }
    Ok(findings)
}

/// A batch under the claim whose header is good: all of it, or what is whole of it.
fn take(work: &mut Work<'_>, found: &Found) -> Result<()> {
    let facts = work.state.segments[&found.segment];
    let file = open_segment(work.plan, &facts, Mode::Read)?;
    let doing = |e| crate::error::Error::io("reading a batch again", e);
    let mut buf = AlignedBuf::zeroed(found.bytes as usize).map_err(doing)?;
    let len = found.bytes as usize;
    let got = work.plan.storage.read_at(&file, found.offset, &mut buf, len).map_err(doing)?;
    let Ok(batch) = BatchView::parse(&buf[..got], facts.nonce) else {
        work.keep_span();
        work.unnamed_gap = true;
        work.expected = found.seq + 1;
        work.prev_crc = found.crc;
        work.seen_since_gap.clear();
        return Ok(());
    };
    let runs: Vec<Run> = batch.runs.iter().collect();
    work.accept(found, batch.header.time_us, &runs);
    let mut records = batch.records();
    while let Some(record) = records.next() {
        if record.is_ok() {
            continue;
        }
        let offset = found.offset + records.offset() as u64;
        if let Some(header) = records.header() {
            let (log, epoch, first_lsn) = (header.log, header.epoch, header.lsn);
            let run = Run { log, epoch, first_lsn, count: 1, ..Run::default() };
            work.damaged_run(&run, found.segment, offset, BODY);
        }
    }
    let at = found.offset + records.offset() as u64;
    let unread: Vec<Run> = records.unread().collect();
    for run in unread {
        work.damaged_run(&run, found.segment, at, RECORDS);
    }
    Ok(())
}

/// Batches from `expected` up to the next that was found are gone. Their run tables may be there
/// yet.
fn missing(work: &mut Work<'_>, next: Option<&Found>) -> Result<()> {
    work.keep_span();
    let until = next.map_or(work.claim + 1, |found| found.seq.min(work.claim + 1));
    let mut named = HashSet::new();
    for (segment, runs, seq, offset) in tables_between(work, next)? {
        if (work.expected..until).contains(&seq) && named.insert(seq) {
            for run in runs {
                work.note_gap(segment, offset, &run, BATCH);
                work.damaged_run(&run, segment, offset, BATCH);
                if let Some(log) = work.view.log_mut(run.log) {
                    log.next = log.next.max(log.cuts().clip(run.epoch, run.last_lsn().next()));
                    log.epoch = log.epoch.max(run.epoch);
                }
            }
        }
    }
    if (named.len() as u64) < until - work.expected {
        work.unnamed_gap = true;
        work.seen_since_gap.clear();
    }
    work.expected = until;
    // Whatever follows cannot repeat the CRC of a header that is gone.
    work.prev_crc = next.map_or(work.prev_crc, |found| found.prev_crc);
    Ok(())
}

type Table = (SegmentId, Vec<Run>, u64, u64);

/// Run tables that stand where batches of the gap must have been.
fn tables_between(work: &Work<'_>, next: Option<&Found>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    let unit = u64::from(work.state.facts.unit);
    let from = work.view.stream_end;
    for (id, facts) in &work.state.segments {
        if facts.sealed.is_some() || *id < from.segment || next.is_some_and(|n| *id > n.segment) {
            continue;
        }
        let file = open_segment(work.plan, facts, Mode::Read)?;
        let mut offset = if *id == from.segment { from.offset } else { unit };
        let end = match next {
            Some(next) if next.segment == *id => next.offset,
            _ => facts.bytes,
        };
        let mut window = crate::scan::Window::open(work.plan.storage, &file, offset, end)?;
        while offset < end {
            let bytes = window.at(offset, unit as usize)?;
            let behind = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
            if let Ok(table) = RunTable::decode_any(behind, facts.nonce) {
                tables.push((*id, table.iter().collect(), table.seq(), offset));
            }
            offset += unit;
        }
    }
    Ok(tables)
}

/// After a gap that nothing names, a log without a later run may have lost its tail.
fn suspect_tails(work: &mut Work<'_>) {
    if !work.unnamed_gap {
        return;
    }
    let end = work.view.stream_end;
    let shard = work.plan.shard;
    let suspects: Vec<(LogId, Lsn)> = work
        .view
        .logs()
        .map(|(counter, log)| (LogId::new(shard, counter), log.next))
        .filter(|(id, _)| !work.seen_since_gap.contains(id))
        .collect();
    for (log, first_lsn) in suspects {
        work.damages.push(DamageFacts {
            log: Some(log),
            first_lsn,
            last_lsn: None,
            segment: end.segment,
            offset: end.offset,
            bytes: 0,
            reason: TAIL,
            lost: false,
        });
    }
}

/// The choice by name: what is damaged, found now or known before, is lost.
fn salvage(work: &mut Work<'_>, findings: &mut Findings) {
    let known = work.state.damages.iter().filter(|d| !d.lost).copied();
    let mut all: Vec<DamageFacts> = known.collect();
    all.append(&mut findings.damages);
    for facts in &mut all {
        facts.lost = true;
        facts.last_lsn = facts.last_lsn.or(Some(facts.first_lsn));
    }
    findings.damages = all;
}

/// Hands the damage that the state knows to the readers' view, and moves tails behind it.
pub(crate) fn into_view(work: &mut Work<'_>) {
    for facts in &work.state.damages {
        let Some(log) = facts.log.and_then(|id| work.view.log_mut(id)) else { continue };
        log.change_damages(|damages| damages.push(*facts));
        if let Some(last) = facts.last_lsn {
            log.next = log.next.max(last.next());
        }
    }
}
