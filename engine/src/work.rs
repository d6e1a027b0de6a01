//! The work of a recovery: what is known so far of one shard, and the judgements still open.
//!
//! Invariants: `expected` is the sequence after the last batch that is settled; everything accepted
//! is in `view`, in batch sequence; LSNs that are missed on the way are noted as damage at once.
//!
//! Not here: finding batches (`stream`), judging them (`damage`), making it true (`recover`).

mod span;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::Recovery;
use crate::error::Result;
use crate::format::Run;
use crate::format::manifest::DamageFacts;
use crate::io::Storage;
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::manifest::{Cursor, SegmentFacts, State};
use crate::owner::{Grant, Lease};
use crate::view::{Durable, LogView, SegmentView, ViewState};

use self::span::{Cut, Held};

/// Why a range is damaged, as the manifest keeps it.
pub(crate) const BODY: u16 = 1;
pub(crate) const RECORDS: u16 = 2;
pub(crate) const BATCH: u16 = 3;
pub(crate) const GAP: u16 = 4;
pub(crate) const TAIL: u16 = 5;
pub(crate) const MET: u16 = 6;
pub(crate) const PART: u16 = 7;
pub(crate) const MISSING: u16 = 8;

/// Damages noted last among which the same one is looked for.
const SAME_MAX: usize = 64;

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
    /// Its span goes on in the next batch.
    pub continues: bool,
}

/// What recovery found in a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// The last term found: how often the directory was opened for writing before this open.
    pub term: u32,
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

/// What ownership of the directory gives a recovery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Powers {
    /// The new term is at least this.
    pub term_floor: u32,
    /// No write of an earlier owner can land any more: its spares may be taken over.
    pub sole: bool,
    pub lease: Option<Arc<Lease>>,
}

impl Powers {
    pub(crate) fn of(grant: &Grant) -> Self {
        let Grant { term_floor, lease, lock, .. } = grant;
        Self { term_floor: *term_floor, sole: lock.is_some(), lease: lease.clone() }
    }

    /// Refuses to go on once the lease is over.
    pub(crate) fn check(&self, now_ns: u64) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check(now_ns))
    }
}

/// How a recovery goes about it.
pub(crate) struct Plan<'a> {
    pub storage: &'a Arc<dyn Storage>,
    pub shard: ShardId,
    pub mode: Recovery,
    /// Make it true on disk; else only look.
    pub write: bool,
    /// Batches beyond this one are torn, however they look: one whose write has failed may be read
    /// and not be on the medium. `u64::MAX` when nobody remembers a failure.
    pub keep_to: u64,
    pub powers: &'a Powers,
    /// Bytes scanned so far, for who watches.
    pub progress: &'a AtomicU64,
}

impl Plan<'_> {
    /// Where whoever remembers a failure knows the durable end to be: a claim.
    fn remembered(&self) -> Option<u64> {
        (self.keep_to != u64::MAX).then_some(self.keep_to)
    }
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
    /// The last batches kept, among them all that nobody claims.
    pub unclaimed: VecDeque<Found>,
    /// Unsealed segments in which any valid header of their life was seen.
    pub touched: Vec<SegmentId>,
    /// Unsealed segments in which anything stands that is no batch of this term: torn, rotten,
    /// stale.
    pub dirty: HashSet<SegmentId>,
    /// Recycled segments in which something stands that does not decode: bytes of an earlier life,
    /// most likely, and no batch of this one.
    pub murky: HashSet<SegmentId>,
    /// CRC of the last header accepted, per segment.
    pub last_crcs: BTreeMap<SegmentId, u32>,
    pub damages: Vec<DamageFacts>,
    /// Accepted batches of a span whose last is not there yet.
    pub span: Vec<Held>,
    /// Records that the last batch kept leaves in the middle.
    pub cut: Cut,
    /// Durable batches are missing that no run table names; logs with a later run are accounted
    /// for.
    pub unnamed_gap: bool,
    pub seen_since_gap: HashSet<LogId>,
    pub manifest_seq: u64,
    pub report: ShardReport,
}

impl<'a> Work<'a> {
    /// Begins with what the manifest says.
    pub(crate) fn begin(
        plan: &'a Plan<'a>,
        mut state: State,
        cursor: Cursor,
        durable: u64,
        repaired: Vec<String>,
    ) -> Self {
        let mut view = ViewState::default();
        for facts in state.logs.iter_mut() {
            // The start may have moved after the snapshot that told the tail; it was durable then.
            let mut log = LogView::new(facts.start, facts.tail.max(facts.start));
            log.epoch = facts.tail_epoch;
            log.last_time_us = facts.tail_time_us;
            // The view alone has it from here on.
            log.chain = std::mem::take(&mut facts.chain);
            if let Some(cuts) = state.cuts.get(&facts.id) {
                log.set_cuts(cuts);
            }
            view.put_log(facts.id, log);
        }
        view.cursors = state.cursors.clone();
        let (mut last_seq, mut last_crc) = (state.cut_seq, state.cut_crc);
        for (id, facts) in &state.segments {
            let mut seen = SegmentView::unsealed(facts.file, facts.nonce);
            if let Some(sealed) = facts.sealed {
                (seen.live, seen.tiered) = (None, facts.tiered);
                seen.end = sealed.end_offset;
                (seen.first_seq, seen.last_seq) = (sealed.first_seq, sealed.last_seq);
                if sealed.last_seq >= last_seq {
                    (last_seq, last_crc) = (sealed.last_seq, sealed.last_crc);
                }
            }
            view.segments.insert(*id, seen);
        }
        view.durable = last_seq;
        let report = ShardReport { term: state.term, repaired, ..ShardReport::default() };
        Self {
            plan,
            view,
            expected: last_seq + 1,
            prev_crc: last_crc,
            claim: durable.max(state.closed.unwrap_or(0)).max(plan.remembered().unwrap_or(0)),
            beyond: Vec::new(),
            troubled: false,
            unclaimed: VecDeque::new(),
            touched: Vec::new(),
            dirty: HashSet::new(),
            murky: HashSet::new(),
            last_crcs: BTreeMap::new(),
            damages: Vec::new(),
            span: Vec::new(),
            cut: Cut::default(),
            unnamed_gap: false,
            seen_since_gap: HashSet::new(),
            manifest_seq: cursor.seq,
            report,
            state,
        }
    }

    /// Segments that are not sealed, by id.
    pub(crate) fn unsealed(&self) -> Vec<(SegmentId, SegmentFacts)> {
        let open = self.state.segments.iter().filter(|(_, facts)| facts.sealed.is_none());
        open.map(|(id, facts)| (*id, *facts)).collect()
    }

    /// Takes a batch into the view.
    pub(crate) fn keep(&mut self, found: &Found, time_us: u64, runs: &[Run]) {
        if !self.cut.is_empty() || runs.iter().any(|run| run.continued || run.continues) {
            self.join(found, runs);
        }
        for run in runs {
            self.note_gap(found.segment, found.offset, run, GAP);
            // Another run of the log may follow in this very batch.
            if let Some(log) = self.view.log_mut(run.log) {
                log.next = log.next.max(log.cuts().clip(run.epoch, run.last_lsn().next()));
            }
        }
        self.view.add(&Durable {
            segment: found.segment,
            offset: found.offset,
            bytes: found.bytes,
            seq: found.seq,
            time_us,
            runs,
        });
        while self.unclaimed.pop_front_if(|found| found.seq <= self.claim).is_some() {}
        self.unclaimed.push_back(*found);
        self.expected = found.seq + 1;
        self.prev_crc = found.crc;
        self.last_crcs.insert(found.segment, found.crc);
        self.report.batches += 1;
    }

    /// A run that begins later than its log ended: what lies between is gone.
    pub(crate) fn note_gap(&mut self, segment: SegmentId, offset: u64, run: &Run, why: u16) {
        if self.unnamed_gap {
            self.seen_since_gap.insert(run.log);
        }
        let Some(log) = self.view.log_mut(run.log) else { return };
        // Records that a cut dropped are missed by nobody.
        let due = log.cuts().clip(run.epoch, run.first_lsn);
        if due <= log.next {
            return;
        }
        let (first, last) = (log.next, Lsn(due.0 - 1));
        log.next = due;
        self.damaged(run.log, first, last, segment, offset, why);
    }

    /// Notes that the records of a run are damaged, those that a cut dropped excepted.
    pub(crate) fn damaged_run(&mut self, run: &Run, segment: SegmentId, offset: u64, why: u16) {
        let Some(log) = self.view.log(run.log) else { return };
        let end = log.cuts().clip(run.epoch, run.last_lsn().next());
        if run.first_lsn < end {
            let last = Lsn(end.0 - 1);
            self.damaged(run.log, run.first_lsn, last, segment, offset, why);
        }
    }

    /// Notes damage; neighbours with the same reason become one range.
    pub(crate) fn damaged(
        &mut self,
        log: LogId,
        first: Lsn,
        last: Lsn,
        segment: SegmentId,
        offset: u64,
        why: u16,
    ) {
        // A record in fragments may be hit in several of them.
        let told =
            |d: &DamageFacts| (d.log, d.first_lsn, d.last_lsn) == (Some(log), first, Some(last));
        if self.damages.iter().rev().take(SAME_MAX).any(told) {
            return;
        }
        if let Some(before) = self.damages.last_mut()
            && before.log == Some(log)
            && before.reason == why
            && before.segment == segment
            && before.last_lsn.is_some_and(|l| l.next() == first)
        {
            before.last_lsn = Some(last);
            return;
        }
        self.damages.push(DamageFacts {
            log: Some(log),
            first_lsn: first,
            last_lsn: Some(last),
            segment,
            offset,
            bytes: 0,
            reason: why,
            lost: false,
        });
    }
}
