//! Garbage collection in a running shard: which sealed segments no log needs, retired in order.
//!
//! Invariants, in this order: the log's start is durable → the snapshot in force covers the
//! segment's last batch → nobody holds it and the view no longer leads to it, in one step → the
//! edit `Retired` is durable → its file is removed or recycled (`reclaim`). The segment in which
//! the stream ends stays.
//!
//! A segment's index is read once, from front to back, over its life: the first entry that pins it
//! is remembered, and reading goes on behind it only once that log needs the segment no more (its
//! horizon only rises). Then a look at a segment costs one comparison, and nothing is kept in
//! memory per log and segment.
//!
//! Crash story: a segment retires before a snapshot has the tails of its logs. The power goes;
//! recovery knows of those records by this segment alone, and their LSNs are given again.
//!
//! Not here: what is needed (`gc`), where starts move by settings (`retain`), files (`reclaim`).

mod moved;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::format::index::IndexEntry;
use crate::format::manifest::Edit;
use crate::gc::{self, Floors, GcReport, KeptSegment, PINS_MAX, Pin, SegmentState};
use crate::io::Done;
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::manifest::{Covered, LogState, Manifest, SealedFacts, State};
use crate::names;
use crate::planted::{Bug, planted};
use crate::quota::Usage;
use crate::reclaim::Reclaim;
use crate::relocate::{Moved, Relocator, SNAPSHOT_WORTH};
use crate::reply::Reply;
use crate::retain::{Retainer, Span, start_by};
use crate::segment::Segments;
use crate::view::{View, ViewState};
use crate::walk::{Next, Piece, Walk};
use crate::yard::{Yard, files_bytes};

/// Segments that one step looks at.
const LOOKS_MAX: usize = 64;

/// Segments that retire by one frame.
const RETIRED_MAX: usize = 64;

/// Logs that one step looks at for their retention.
const LOGS_MAX: usize = 256;

/// How often records are looked at for their age.
const AGE_EVERY_NS: u64 = 1_000_000_000;

/// What is known of a sealed segment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// The block of its index up to which nothing pins it.
    block: u32,
    /// The entry there that does: the log, and its last LSN in the segment.
    pin: Option<(LogId, Lsn)>,
    /// The whole index was read, and nothing does.
    free: bool,
    /// The survey in which its entries were gathered.
    survey: u32,
    /// Bytes of its index, as they are counted: none while it is owed.
    index_bytes: u64,
    unreadable: bool,
}

/// What the shard is doing for collection.
enum Job {
    None,
    /// Reads an index. `survey`: gathers entries for retention. `kept`: names who pins it.
    Walk {
        walk: Walk,
        survey: Option<u32>,
        kept: Option<Box<KeptSegment>>,
    },
    Retiring {
        edit: u64,
        segments: Vec<SegmentId>,
    },
}

/// Somebody waits for all of it to be done now.
#[derive(Default)]
struct Eager {
    replies: Vec<Arc<Reply>>,
    /// A snapshot was asked for.
    snapshot: bool,
    /// The retention of all logs was looked at.
    retained: bool,
    /// Rounds of relocation that were begun.
    rounds: u8,
    /// The segment that the report comes to next.
    next: Option<SegmentId>,
    freed_before: u64,
    retired_before: u64,
    moved_before: Moved,
    report: GcReport,
}

/// See the module.
pub(crate) struct Collector {
    shard: ShardId,
    usage: Arc<Usage>,
    /// There is an archive: what is tiered may leave the local disk.
    pub tier: bool,
    marks: BTreeMap<SegmentId, Mark>,
    job: Job,
    busy: bool,
    reclaim: Reclaim,
    reclaiming: bool,
    pub relocator: Relocator,
    relocating: bool,
    /// The pass has passed over a segment that was being weighed or moved.
    passed_over: bool,
    /// The segment that the pass comes to next; `None`: there is no pass.
    next: Option<SegmentId>,
    /// What had changed when the last pass began.
    seen: Option<Seen>,
    /// Segments that are free and not covered by a snapshot, in bytes; of the pass so far.
    uncovered: u64,
    /// Segments that holds alone keep, in bytes; of the pass so far.
    held: u64,
    /// A hold that keeps some is too old at this moment.
    held_until: Option<u64>,
    retainer: Retainer,
    /// The log whose retention comes next; `None`: not now.
    retain_next: Option<LogId>,
    /// The log whose settings come next.
    settings_next: Option<LogId>,
    /// Settings are looked at again when this edit is durable.
    settings_edit: Option<u64>,
    age_at: u64,
    /// Starts that are on their way to be durable.
    starts: VecDeque<(u64, LogId, Lsn)>,
    eager: Option<Box<Eager>>,
    /// Segments retired so far.
    retired: u64,
    /// The last report, for who asked.
    pub report: Option<GcReport>,
}

/// What may set segments free.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    trims: u64,
    newest: SegmentId,
    covered: Covered,
    holds: u64,
    tiered_to: SegmentId,
}

/// What holds a log's records, as things stand. `None`: there is no such log any more. Checkpoint
/// and holds are the same for all logs of a segment: `covered` and `held` say whether they have it.
/// `tier`: what stays local although the segment is tiered, as all before it are; `None`: it is
/// not.
fn floors(
    view: &ViewState,
    state: &State,
    log: LogId,
    (covered, held): (bool, bool),
    tier: Option<&Retainer>,
) -> Option<Floors> {
    let seen = view.log(log)?;
    let facts = state.logs.get(log)?;
    let mut floors = Floors {
        truncated: seen.start,
        tiered: Lsn(0),
        local_retention: Lsn(u64::MAX),
        checkpoint: if covered { Lsn(u64::MAX) } else { facts.tail },
        hold: held.then_some(Lsn(0)),
        cursor: view.cursors.lowest(log),
        wanted: view.wanted.get(&log).copied(),
    };
    if let Some(retainer) = tier {
        // All that the segment has of the log, and all before it.
        floors.tiered = Lsn(u64::MAX);
        let live: Vec<Span> = view.live_entries(log).map(|entry| Span::of(&entry)).collect();
        floors.local_retention = retainer.local_from(log, &facts.settings(), seen.start, &live);
    }
    Some(floors)
}

fn pins(
    view: &ViewState,
    state: &State,
    (log, last): (LogId, Lsn),
    tier: Option<&Retainer>,
) -> bool {
    // Whether the segment is covered, or held, is asked once, when nothing else keeps it.
    let floors = floors(view, state, log, (true, false), tier);
    floors.is_some_and(|floors| last >= gc::horizon(&floors))
}

/// Whether the stream ends in this segment: it tells the next recovery where to go on.
fn is_end(state: &State, id: SegmentId, sealed: &SealedFacts) -> bool {
    id == state.newest_sealed() && sealed.last_seq > state.cut_seq
}

/// Whether it holds damage that nobody has chosen to go on without.
fn is_damaged(state: &State, id: SegmentId) -> bool {
    state.damages.iter().any(|damage| damage.segment == id && !damage.lost)
}

impl Collector {
    pub(crate) fn new(
        shard: ShardId,
        usage: Arc<Usage>,
        reclaim: Reclaim,
        relocator: Relocator,
    ) -> Self {
        Self {
            shard,
            usage,
            tier: false,
            marks: BTreeMap::new(),
            job: Job::None,
            busy: false,
            reclaim,
            reclaiming: false,
            relocator,
            relocating: false,
            passed_over: false,
            next: None,
            seen: None,
            uncovered: 0,
            held: 0,
            held_until: None,
            retainer: Retainer::default(),
            retain_next: None,
            settings_next: Some(LogId(0)),
            settings_edit: None,
            age_at: 0,
            starts: VecDeque::new(),
            eager: None,
            retired: 0,
            report: None,
        }
    }

    /// Does all that can be done, then answers.
    pub(crate) fn collect(&mut self, reply: Arc<Reply>) {
        let (freed_before, retired_before) = (self.reclaim.freed_bytes, self.retired);
        let moved_before = self.relocator.moved;
        let eager = self.eager.get_or_insert_with(|| {
            Box::new(Eager { freed_before, retired_before, moved_before, ..Eager::default() })
        });
        eager.replies.push(reply);
        // Whoever came while the report was written may have made room since.
        (eager.next, eager.snapshot, eager.retained, eager.rounds) = (None, false, false, 0);
        eager.report.kept.clear();
        self.seen = None;
        self.settings_next = Some(LogId(0));
    }

    /// Settings of a log change with this edit.
    pub(crate) fn settings_change(&mut self, edit: u64) {
        self.settings_edit = Some(edit);
    }

    /// Whoever waits is told how it ended instead.
    pub(crate) fn fail(&mut self, error: &crate::error::Error) {
        for reply in self.eager.take().into_iter().flat_map(|eager| eager.replies) {
            reply.set(Err(error.clone()));
        }
    }

    fn look_around(&self, manifest: &Manifest, view: &View) -> Seen {
        let (trims, newest) = (view.trims(), manifest.state.newest_sealed());
        let (holds, tiered_to) = (view.holds.changes(), self.tiered_to(&manifest.state));
        Seen { trims, newest, covered: manifest.covered(), holds, tiered_to }
    }

    /// Up to here segments are tiered and may be read from the archive.
    fn tiered_to(&self, state: &State) -> SegmentId {
        match self.tier {
            true if planted(Bug::TieredTooSoon) => state.newest_sealed(),
            true => state.tiered_to,
            false => SegmentId(0),
        }
    }

    /// Whether `step` would start something.
    pub(crate) fn wants_step(
        &self,
        manifest: &Manifest,
        segments: &Segments,
        view: &View,
        waits: bool,
    ) -> bool {
        if self.busy {
            return false;
        }
        let settings = self.settings_edit.is_some_and(|edit| manifest.is_durable(edit));
        let landed = self.starts.front().is_some_and(|(edit, _, _)| manifest.is_durable(*edit));
        let job = match &self.job {
            Job::None => {
                self.next.is_some()
                    || self.retain_next.is_some()
                    || self.settings_next.is_some()
                    || self.seen != Some(self.look_around(manifest, view))
                    || self.eager_goes_on(manifest, segments)
            }
            Job::Walk { .. } => true,
            Job::Retiring { edit, .. } => manifest.is_durable(*edit),
        };
        let turn = matches!(self.job, Job::None) || self.relocator.spared().is_some();
        let relocates = turn && self.relocator.wants_step(manifest, view, waits);
        landed || settings || job || relocates || self.reclaim.wants_step(manifest, segments)
    }

    /// When to look again although nothing happens.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        let age = (!self.retainer.is_empty()).then_some(self.age_at);
        let files = self.reclaim.wake_at().into_iter().chain(self.relocator.wake_at());
        age.into_iter().chain(files).chain(self.held_until).min()
    }

    /// One bounded step.
    pub(crate) fn step(&mut self, yard: &mut Yard<'_>) {
        if self.busy {
            return;
        }
        self.land_starts(yard);
        self.finish_retiring(yard);
        self.land_moved(yard);
        if self.settings_edit.is_some_and(|edit| yard.manifest.is_durable(edit)) {
            (self.settings_edit, self.settings_next) = (None, Some(LogId(0)));
        }
        let reuse = self.eager.is_none() || yard.segments.is_starved();
        self.reclaiming =
            self.reclaim.step(yard.disk, yard.manifest, yard.segments, reuse, yard.token, yard.now);
        if self.reclaiming {
            self.busy = true;
            return;
        }
        if let Job::None = self.job {
            self.choose(yard);
        }
        if let Job::Walk { walk, .. } = &self.job {
            match walk.next() {
                Ok(Next::Op(op)) => self.busy = yard.disk.submit(yard.token, op).is_ok(),
                Ok(Next::Here(done)) => self.complete(yard, done),
                Err(error) => self.unreadable(&error.to_string()),
            }
        } else if let Job::None = self.job {
            self.relocating = self.relocator.step(yard);
            self.busy = self.relocating;
            self.look_again();
        }
    }

    /// Closing: ends what has begun and removes what is retired. True once that is so.
    pub(crate) fn drain(&mut self, yard: &mut Yard<'_>) -> bool {
        if self.busy {
            return false;
        }
        self.land_starts(yard);
        self.finish_retiring(yard);
        if matches!(self.job, Job::Walk { .. }) {
            self.job = Job::None;
        }
        let let_go = self.relocator.drain(yard);
        self.land_moved(yard);
        if !let_go || !matches!(self.job, Job::None) {
            return false;
        }
        let (disk, manifest) = (&mut *yard.disk, &*yard.manifest);
        yard.segments.give_back();
        self.reclaiming =
            self.reclaim.step(disk, manifest, yard.segments, false, yard.token, yard.now);
        self.busy = self.reclaiming;
        !self.busy && (self.reclaim.failed() || self.reclaim.is_idle(manifest, yard.segments))
    }

    /// Chooses what comes next, if anything.
    fn choose(&mut self, yard: &mut Yard<'_>) {
        if let Some(from) = self.settings_next {
            self.read_settings(yard, from);
            return;
        }
        if self.next.is_none() && self.retain_next.is_none() {
            let seen = self.look_around(yard.manifest, yard.view);
            let over = self.held_until.is_some_and(|at| yard.now >= at);
            if self.seen != Some(seen) || over {
                self.seen = Some(seen);
                (self.uncovered, self.held, self.held_until) = (0, 0, None);
                self.next = Some(SegmentId(0));
            } else if yard.now >= self.age_at && !self.retainer.is_empty() {
                self.begin_retention(yard.now);
            }
        }
        if self.next.is_some() {
            self.look(yard);
        } else if let Some(from) = self.retain_next {
            self.retain(yard, from);
        } else if self.eager_goes_on(yard.manifest, yard.segments) {
            self.go_on_eagerly(yard);
        }
    }

    // ── the pass ──

    /// Looks at some segments; ends with a job, with the pass, or for now.
    fn look(&mut self, yard: &mut Yard<'_>) {
        let mut free = Vec::new();
        let tiered_to = self.tiered_to(&yard.manifest.state);
        for _ in 0..LOOKS_MAX {
            let Some(from) = self.next else { break };
            let state = &yard.manifest.state;
            let Some((id, facts)) = state.segments.range(from..).next().map(|(i, f)| (*i, *f))
            else {
                self.next = None;
                self.end_pass(yard);
                break;
            };
            self.next = Some(SegmentId(id.0 + 1));
            let Some(sealed) = facts.sealed else { continue };
            if self.relocator.has(id) {
                self.passed_over = true;
                continue;
            }
            let known = self.marks.contains_key(&id);
            let mark = self.marks.entry(id).or_default();
            // Those of older terms were counted at the open, but for what is owed.
            if known || facts.term == state.term {
                self.usage.add(sealed.index_bytes.saturating_sub(mark.index_bytes));
            }
            mark.index_bytes = sealed.index_bytes;
            if mark.unreadable {
                continue;
            }
            let survey = (mark.survey != self.retainer.survey).then_some(self.retainer.survey);
            let still = {
                let view = yard.view.lock();
                let tier = (id <= tiered_to).then_some(&self.retainer);
                mark.pin.is_some_and(|pin| pins(&view, state, pin, tier))
            };
            if survey.is_some() || !(mark.free || still) {
                let block = if survey.is_some() { 0 } else { mark.block };
                (mark.block, mark.pin, mark.free) = (block, None, false);
                // What is in the manifest is in the view until it has retired.
                let Some(which) = yard.view.which(id) else { continue };
                let walk = Walk::new(which, block);
                self.job = Job::Walk { walk, survey, kept: None };
                break;
            }
            if still || is_end(state, id, &sealed) || is_damaged(state, id) {
                continue;
            }
            if yard.view.holds.pins(id, yard.now) {
                self.held += files_bytes(state, &facts, &sealed);
                continue;
            }
            if !yard.manifest.covers(id, &sealed) {
                self.uncovered += files_bytes(state, &facts, &sealed);
                continue;
            }
            self.reclaim.size(facts.file, files_bytes(state, &facts, &sealed));
            free.push(id);
            if free.len() == RETIRED_MAX {
                break;
            }
        }
        if !free.is_empty() {
            self.retire(yard, free);
        }
    }

    /// Lets these go, but for what was held meanwhile. Under the view's lock: whoever took a hold
    /// and then looked which segments there are has either been seen here, or sees them no more.
    fn retire(&mut self, yard: &mut Yard<'_>, mut segments: Vec<SegmentId>) {
        let mut view = yard.view.lock();
        segments.retain(|id| !yard.view.holds.pins(*id, yard.now));
        let gone: Vec<_> = segments.iter().filter_map(|id| view.segments.remove(id)).collect();
        drop(view);
        gone.iter().for_each(|seen| yard.view.files.forget_segment(seen.file));
        let mut edit = None;
        for segment in &segments {
            edit = Some(yard.manifest.push(Edit::Retired { segment: *segment }));
        }
        let Some(edit) = edit else { return };
        // A walk that was chosen meanwhile begins again later.
        if let Job::Walk { walk, .. } = &self.job {
            self.next = Some(walk.segment());
        }
        self.job = Job::Retiring { edit, segments };
    }

    fn finish_retiring(&mut self, yard: &mut Yard<'_>) {
        let Job::Retiring { edit, segments } = &self.job else { return };
        if !yard.manifest.is_durable(*edit) {
            return;
        }
        for segment in segments {
            self.marks.remove(segment);
        }
        self.retired += segments.len() as u64;
        self.job = Job::None;
    }

    fn end_pass(&mut self, yard: &mut Yard<'_>) {
        if !self.retainer.is_empty() {
            self.begin_retention(yard.now);
        }
        self.held_until = yard.view.holds.weigh(self.held);
        let worth = self.uncovered >= SNAPSHOT_WORTH * yard.manifest.snapshot_bytes();
        if self.uncovered > 0 && (worth || yard.segments.is_starved()) {
            yard.manifest.want_snapshot();
        }
    }

    /// An operation has ended.
    pub(crate) fn complete(&mut self, yard: &mut Yard<'_>, done: Done) {
        self.busy = false;
        if std::mem::take(&mut self.relocating) {
            self.relocator.complete(yard, done);
            self.reclaim.spared = self.relocator.spared();
            self.look_again();
            return;
        }
        if std::mem::take(&mut self.reclaiming) {
            self.reclaim.complete(yard.manifest, &done, yard.now);
            return;
        }
        let tiered_to = self.tiered_to(&yard.manifest.state);
        let Job::Walk { walk, survey, kept } = &mut self.job else { return };
        let state = &yard.manifest.state;
        let tiered = walk.segment() <= tiered_to;
        let mark = self.marks.entry(walk.segment()).or_default();
        let view = yard.view.lock();
        let sealed = state.segments.get(&walk.segment()).and_then(|facts| facts.sealed);
        let covered = kept.is_none()
            || sealed.is_some_and(|sealed| yard.manifest.covers(walk.segment(), &sealed));
        let held = kept.is_some() && yard.view.holds.pins(walk.segment(), yard.now);
        let gathers = *survey == Some(self.retainer.survey);
        let mut found = mark.pin;
        let mut at = mark.block;
        let piece = walk.complete(done, |block, entry| {
            if gathers {
                self.retainer.gather(entry);
            }
            let tier = tiered.then_some(&self.retainer);
            let floors = floors(&view, state, entry.log, (covered, held), tier);
            if let Some(why) = floors.and_then(|floors| gc::why(&floors, entry.last_lsn)) {
                match kept {
                    Some(kept) => note_pin(kept, pin(state, entry, why)),
                    None if found.is_none() => {
                        (found, at) = (Some((entry.log, entry.last_lsn)), block);
                    }
                    None => {}
                }
            }
            found.is_none() || gathers || kept.is_some()
        });
        drop(view);
        (mark.pin, mark.block) = (found, at);
        match piece {
            Ok(Piece::More) => {}
            Ok(Piece::End) => self.walked(),
            Err(why) => self.unreadable(&why),
        }
    }

    fn walked(&mut self) {
        let Job::Walk { walk, survey, kept } = std::mem::replace(&mut self.job, Job::None) else {
            return;
        };
        if let Some(kept) = kept {
            if let Some(eager) = &mut self.eager {
                eager.report.kept.push(*kept);
            }
            return;
        }
        let mark = self.marks.entry(walk.segment()).or_default();
        mark.free = mark.pin.is_none();
        mark.survey = survey.unwrap_or(mark.survey);
        // The pass looks at it again, with what is known of it now; unless it began anew meanwhile.
        self.next = self.next.map(|next| next.min(walk.segment()));
    }

    fn unreadable(&mut self, why: &str) {
        let Job::Walk { walk, kept, .. } = std::mem::replace(&mut self.job, Job::None) else {
            return;
        };
        let (shard, segment) = (self.shard.0, walk.segment().0);
        tracing::warn!(shard, segment, why, "an index cannot be read: its segment stays");
        self.marks.entry(walk.segment()).or_default().unreadable = true;
        if let (Some(mut kept), Some(eager)) = (kept, &mut self.eager) {
            kept.state = SegmentState::Unreadable;
            eager.report.kept.push(*kept);
        }
    }

    // ── retention ──

    /// Looks through the settings of some logs.
    fn read_settings(&mut self, yard: &mut Yard<'_>, from: LogId) {
        let before = self.retainer.survey;
        let logs = &yard.manifest.state.logs;
        let mut last = None;
        for log in logs.from(from.counter()).take(LOGS_MAX) {
            self.retainer.note(log.id, &log.settings(), self.tier);
            last = Some(log.id);
        }
        self.settings_next = last.map(|id| LogId(id.0 + 1));
        if self.retainer.survey != before {
            // Entries are gathered oldest first: from the front again.
            self.next = Some(SegmentId(0));
        }
    }

    fn begin_retention(&mut self, now: u64) {
        self.retain_next = Some(LogId(0));
        self.age_at = now + AGE_EVERY_NS;
    }

    /// Moves the starts of some logs.
    fn retain(&mut self, yard: &mut Yard<'_>, from: LogId) {
        let now_us = yard.clock.wall_us();
        let mut view = yard.view.lock();
        let (mut next, mut moves) = (Some(from), Vec::new());
        for _ in 0..LOGS_MAX {
            next = next.and_then(|from| self.retainer.next(from));
            let Some(log) = next else { break };
            next = Some(LogId(log.0 + 1));
            let settings = yard.manifest.state.logs.get(log).map(LogState::settings);
            let (Some(seen), Some(settings)) = (view.log(log), settings) else { continue };
            if self.starts.iter().any(|(_, moving, _)| *moving == log) {
                continue;
            }
            let Some(sketch) = self.retainer.sketch(log, seen.start) else { continue };
            let live: Vec<Span> = view.live_entries(log).map(|entry| Span::of(&entry)).collect();
            let to = start_by(&settings, seen.start, sketch, &live, now_us).min(seen.next);
            // Settings do not take from a consumer what it has not come by for; its owner may.
            let (start, wanted) = (seen.start, to);
            let cursor = view.cursors.lowest(log).filter(|_| !planted(Bug::CursorPassed));
            let to = cursor.map_or(to, |cursor| to.min(cursor));
            if to < wanted {
                view.wanted.insert(log, wanted);
            } else {
                view.wanted.remove(&log);
            }
            if to > start {
                moves.push((log, to));
            }
        }
        drop(view);
        for (log, start) in moves {
            // A log that is being cut below moves its start later.
            if yard.intake.ask_start(log.counter() as usize, start).is_ok() {
                let edit = yard.manifest.push(Edit::Start { log, start });
                self.starts.push_back((edit, log, start));
            }
        }
        self.retain_next = next;
        if let (None, Some(eager)) = (next, &mut self.eager) {
            eager.retained = true;
        }
    }

    fn land_starts(&mut self, yard: &mut Yard<'_>) {
        while let Some((edit, log, start)) = self.starts.front().copied() {
            if !yard.manifest.is_durable(edit) {
                return;
            }
            yard.view.raise_start(log, start);
            self.starts.pop_front();
        }
    }

    // ── on request ──

    /// Everything else is done that somebody waits for.
    fn eager_goes_on(&self, manifest: &Manifest, segments: &Segments) -> bool {
        self.eager.is_some()
            && self.relocator.is_idle(manifest)
            && self.starts.is_empty()
            && manifest.idle()
            && (self.reclaim.failed() || self.reclaim.is_idle(manifest, segments))
            && !segments.is_recycling()
            && !segments.wants_step()
    }

    fn go_on_eagerly(&mut self, yard: &mut Yard<'_>) {
        let Some(eager) = &mut self.eager else { return };
        if !eager.retained && !self.retainer.is_empty() {
            self.begin_retention(yard.now);
            return;
        }
        if self.uncovered > 0 && !eager.snapshot {
            eager.snapshot = true;
            yard.manifest.want_snapshot();
            return;
        }
        // A round of relocation; what was worth it and not covered is looked at again behind a
        // snapshot.
        eager.rounds = eager.rounds.saturating_add(1).min(4);
        match eager.rounds {
            1 | 3 => return self.relocator.begin(yard.manifest, yard.view),
            2 if self.relocator.uncovered > 0 => return yard.manifest.want_snapshot(),
            _ => eager.rounds = 4,
        }
        if eager.next.is_none() {
            yard.segments.review(yard.manifest, yard.now, true);
            if !yard.manifest.idle() {
                return; // a spare was given up: its file goes first
            }
        }
        let from = eager.next.unwrap_or(SegmentId(0));
        let state = &yard.manifest.state;
        let Some((id, facts)) = state.segments.range(from..).next().map(|(i, f)| (*i, *f)) else {
            self.end_report();
            return;
        };
        eager.next = Some(SegmentId(id.0 + 1));
        let mut kept = Box::new(KeptSegment {
            shard: self.shard,
            segment: id,
            file: names::segment(self.shard, facts.file),
            bytes: facts.sealed.map_or(0, |sealed| sealed.end_offset),
            state: SegmentState::Sealed,
            pins: Vec::new(),
            more_pins: 0,
        });
        let Some(sealed) = facts.sealed else {
            let view = yard.view.lock();
            if let Some(seen) = view.segments.get(&id).filter(|seen| seen.first_seq != 0) {
                (kept.state, kept.bytes) = (SegmentState::Open, seen.end);
                eager.report.kept.push(*kept);
            }
            return;
        };
        if is_end(state, id, &sealed) {
            kept.state = SegmentState::End;
        } else if is_damaged(state, id) || self.relocator.is_damaged(id) {
            kept.state = SegmentState::Damaged;
        } else if yard.view.holds.pins(id, yard.now) {
            kept.state = SegmentState::Held;
        }
        let Some(which) = yard.view.which(id) else { return };
        let walk = Walk::new(which, 0);
        self.job = Job::Walk { walk, survey: None, kept: Some(kept) };
    }

    fn end_report(&mut self) {
        let Some(eager) = &mut self.eager else { return };
        let mut report = std::mem::take(&mut eager.report);
        report.freed_segments = self.retired - eager.retired_before;
        report.freed_bytes = self.reclaim.freed_bytes - eager.freed_before;
        let (moved, before) = (self.relocator.moved, eager.moved_before);
        report.relocated_segments = moved.segments - before.segments;
        report.relocated_bytes = moved.bytes - before.bytes;
        self.report = Some(report);
    }

    /// The report is where whoever waits for it finds it.
    pub(crate) fn answer(&mut self) {
        let Some(eager) = self.eager.take() else { return };
        eager.replies.iter().for_each(|reply| reply.set(Ok(())));
    }
}

fn pin(state: &State, entry: &IndexEntry, why: gc::Why) -> Pin {
    Pin {
        log: entry.log,
        name: state.logs.get(entry.log).map(|log| log.name.to_string()).unwrap_or_default(),
        why,
        first: entry.first_lsn,
        last: entry.last_lsn,
        records: entry.records,
        bytes: entry.bytes,
    }
}

/// Names a log in the report, while there is room or it holds more than another.
fn note_pin(kept: &mut KeptSegment, pin: Pin) {
    let at = kept.pins.partition_point(|other| other.bytes >= pin.bytes);
    kept.pins.insert(at, pin);
    if kept.pins.len() > PINS_MAX {
        kept.pins.pop();
        kept.more_pins += 1;
    }
}
