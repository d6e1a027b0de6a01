//! Relocation: what somebody may still read of a mostly dead sealed segment moves into a smaller
//! file, and the segment lives on there.
//!
//! Invariants, in this order: a header that says what the file is, durably → batches, synced →
//! index, synced → directory synced → segment, starts, damage and holds looked at once more → edit
//! `Relocated` durable → the view leads to the new file → the old one is retired (`reclaim`). Under
//! a hold that came meanwhile the view stays with the old file, which then stays too.
//!
//! One operation at a time, none while a batch waits for the disk, and beside appends not more than
//! [`NS_PER_BYTE`] allows. A damaged source is told and left alone; nothing of it is used.
//!
//! Crash story: the power goes before the edit is durable. The manifest names the old file alone,
//! and the header of the copy says what it was going to be: it is removed.
//!
//! Not here: the bytes (`compact`), what keeps records (`gc`), the old file (`collect`).

mod copying;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::copying::{Copying, Failure, Source};
use crate::compact::Live;
use crate::format::index::IndexEntry;
use crate::index::Which;
use crate::io::{Done, Op};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::manifest::{Covered, Manifest, SegmentFacts};
use crate::metrics::{Meters, Trouble};
use crate::names;
use crate::quota::Usage;
use crate::segment::{Pace, TOKEN_IGNORED};
use crate::view::{View, ViewState};
use crate::walk::{Next, Piece, Walk};
use crate::yard::{Yard, file_bytes};

/// A snapshot is taken for the sake of collection once it frees this many times its own bytes.
pub(crate) const SNAPSHOT_WORTH: u64 = 4;

/// What a relocation has to give back at least, in bytes of files.
const GAIN_MIN: u64 = 256 << 10;

/// Beside appends: 32 MiB/s.
const NS_PER_BYTE: u64 = 30;

/// Segments that one step looks at.
const LOOKS_MAX: usize = 64;

/// Between two looks at segments, and on top for each byte of an index that is looked through.
const LOOK_REST_NS: u64 = 200_000_000;
const LOOK_NS_PER_BYTE: u64 = 1_000;

/// How long it rests after a failure, and before it looks again whether a hold has let go.
const RETRY_NS: u64 = 1_000_000_000;

/// What was moved so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    pub segments: u64,
    /// File bytes that they take now, indexes among them.
    pub bytes: u64,
}

/// A segment has moved: its first file is retired, and the view leads to the new one.
pub(crate) struct Landed {
    pub segment: SegmentId,
    pub old: SegmentFacts,
}

/// What may make a segment worth a look.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    trims: u64,
    covered: Covered,
    holds: u64,
}

/// How much of a segment somebody may still read.
struct Weigh {
    source: Source,
    walk: Walk,
    live: BTreeMap<LogId, Live>,
    live_bytes: u64,
    all_bytes: u64,
}

impl Weigh {
    /// So much is alive that what is not read yet makes no difference.
    fn is_too_alive(&self, percent: u64) -> bool {
        self.live_bytes * 100 >= self.source.sealed.end_offset * percent
    }

    fn add(&mut self, view: &ViewState, entry: &IndexEntry) {
        self.all_bytes += entry.bytes;
        let Some(start) = view.log(entry.log).map(|log| log.start) else { return };
        if entry.last_lsn < start {
            return;
        }
        let from = start.max(entry.first_lsn);
        let (all, left) = (entry.last_lsn.0 - entry.first_lsn.0, entry.last_lsn.0 - from.0);
        let share = u128::from(entry.bytes) * (u128::from(left) + 1) / (u128::from(all) + 1);
        self.live_bytes += share as u64;
        self.live.insert(entry.log, Live { entry: *entry, start });
    }
}

enum Job {
    None,
    Weigh(Box<Weigh>),
    Copy(Box<Copying>),
    /// The edit is on its way, or waits for a hold to let go of the old file.
    Naming {
        edit: u64,
        source: Source,
        bytes: u64,
    },
}

/// See the module.
pub(crate) struct Relocator {
    shard: ShardId,
    usage: Arc<Usage>,
    /// A segment with less of its record bytes alive is relocated; 0: none is.
    percent: u64,
    job: Job,
    /// The segment that the round comes to next; `None`: there is no round.
    next: Option<SegmentId>,
    /// What had changed when the last round began.
    seen: Option<Seen>,
    /// What was weighed, at which count of the view's trims.
    weighed: BTreeMap<SegmentId, u64>,
    /// Whose bytes are not what they should be.
    damaged: BTreeSet<SegmentId>,
    /// Files of segments that would be worth it and are not covered; of the round so far.
    pub uncovered: u64,
    /// Rests until then; 0: does not.
    rest_until: u64,
    /// Somebody waits for the round: it does not rest.
    eager: bool,
    pub moved: Moved,
    /// What was met in a damaged source last, for who asks.
    trouble: Option<String>,
}

impl Relocator {
    pub(crate) fn new(shard: ShardId, usage: Arc<Usage>, percent: u8) -> Self {
        Self {
            shard,
            usage,
            percent: u64::from(percent),
            job: Job::None,
            next: None,
            seen: None,
            weighed: BTreeMap::new(),
            damaged: BTreeSet::new(),
            uncovered: 0,
            rest_until: 0,
            eager: false,
            moved: Moved::default(),
            trouble: None,
        }
    }

    /// How things stand, for who asks.
    pub(crate) fn gauge(&mut self, meters: &Meters, now: u64) {
        meters.relocations.set(self.moved.segments);
        meters.relocated_bytes.set(self.moved.bytes);
        if let Some(why) = self.trouble.take() {
            *meters.rot.lock() = Some(Trouble { since_ns: now, why, full: false });
        }
    }

    /// Looks at all of them, whatever is known of them.
    pub(crate) fn begin(&mut self, manifest: &Manifest, view: &View) {
        self.weighed.clear();
        (self.eager, self.rest_until) = (true, 0);
        self.begin_round(look_around(manifest, view));
    }

    fn begin_round(&mut self, seen: Seen) {
        (self.seen, self.uncovered, self.next) = (Some(seen), 0, Some(SegmentId(0)));
    }

    fn rest(&mut self, until: u64) {
        if !self.eager {
            self.rest_until = until;
        }
    }

    /// Nothing is left to do, or nothing that can be done now.
    pub(crate) fn is_idle(&self, manifest: &Manifest) -> bool {
        let held = match &self.job {
            Job::None => self.next.is_none(),
            // Only a hold keeps it.
            Job::Naming { edit, .. } => manifest.is_durable(*edit) && self.rest_until != 0,
            _ => false,
        };
        self.percent == 0 || held
    }

    /// Whether any segment is being looked at or moved.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.job, Job::None)
    }

    /// Whether this segment is being looked at or moved: nothing else is to be done with it.
    pub(crate) fn has(&self, segment: SegmentId) -> bool {
        match &self.job {
            Job::None => false,
            Job::Weigh(weigh) => weigh.source.segment == segment,
            Job::Copy(copying) => copying.source.segment == segment,
            Job::Naming { source, .. } => source.segment == segment,
        }
    }

    /// The file that the view still leads to although its retirement is on its way.
    pub(crate) fn spared(&self) -> Option<u64> {
        match &self.job {
            Job::Naming { source, .. } => Some(source.facts.file),
            _ => None,
        }
    }

    /// Whether bytes of this segment were found not to be what they should be.
    pub(crate) fn is_damaged(&self, segment: SegmentId) -> bool {
        self.damaged.contains(&segment)
    }

    /// Whether `step` or `land` would do something.
    pub(crate) fn wants_step(&self, manifest: &Manifest, view: &View, waits: bool) -> bool {
        if self.percent == 0 || self.rest_until != 0 {
            return false;
        }
        match &self.job {
            Job::Naming { edit, .. } => manifest.is_durable(*edit),
            _ if waits => false,
            Job::Weigh(_) | Job::Copy(_) => true,
            Job::None => self.next.is_some() || self.seen != Some(look_around(manifest, view)),
        }
    }

    /// When to look again although nothing happens.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        (self.rest_until != 0).then_some(self.rest_until)
    }

    /// One bounded step. Returns whether an operation was submitted.
    pub(crate) fn step(&mut self, yard: &mut Yard<'_>) -> bool {
        if self.percent == 0 || yard.waits || yard.now < self.rest_until {
            return false;
        }
        self.rest_until = 0;
        if let Job::None = self.job {
            self.choose(yard);
        }
        let op = match &mut self.job {
            Job::None | Job::Naming { .. } => return false,
            Job::Weigh(weigh) => weigh.walk.next().and_then(|next| match next {
                Next::Op(op) => Ok(op),
                // An owed index: `choose` takes none.
                Next::Here(_) => Err(std::io::ErrorKind::InvalidInput.into()),
            }),
            Job::Copy(copying) => copying.op(self.shard, yard.manifest),
        };
        match op {
            Ok(op) => yard.disk.submit(yard.token, op).is_ok(),
            Err(error) => {
                self.give_up(yard, Failure::Io(error));
                false
            }
        }
    }

    /// The operation has ended.
    pub(crate) fn complete(&mut self, yard: &mut Yard<'_>, done: Done) {
        let bytes = done.result.as_ref().map_or(0, |bytes| *bytes as u64);
        match std::mem::replace(&mut self.job, Job::None) {
            Job::Weigh(weigh) => self.weigh(yard, weigh, done),
            Job::Copy(mut copying) => {
                let went = copying.complete(yard, done, &self.usage);
                self.job = Job::Copy(copying);
                match went {
                    Ok(true) => self.name(yard),
                    Ok(_) if yard.pace == Pace::Haste => {}
                    Ok(_) => self.rest(yard.now + bytes * NS_PER_BYTE),
                    Err(failure) => self.give_up(yard, failure),
                }
            }
            other => self.job = other,
        }
    }

    // ── which ──

    /// Chooses the next segment that is worth a look, or ends the round.
    fn choose(&mut self, yard: &mut Yard<'_>) {
        let seen = look_around(yard.manifest, yard.view);
        if self.next.is_none() && self.seen != Some(seen) {
            let state = &yard.manifest.state;
            self.weighed.retain(|id, _| state.segments.contains_key(id));
            self.begin_round(seen);
        }
        for _ in 0..LOOKS_MAX {
            let Some(from) = self.next else { return };
            let state = &yard.manifest.state;
            let Some((id, facts)) = state.segments.range(from..).next().map(|(i, f)| (*i, *f))
            else {
                self.end_round(yard);
                return;
            };
            self.next = Some(SegmentId(id.0 + 1));
            // Without an index file there is nothing to weigh it by.
            let Some(sealed) = facts.sealed.filter(|sealed| sealed.index_bytes != 0) else {
                continue;
            };
            let source = Source { segment: id, facts, sealed };
            let known = self.weighed.get(&id) == Some(&seen.trims);
            if known
                || file_bytes(state, &source.facts, &source.sealed) < GAIN_MIN
                || !self.may(yard, id)
            {
                continue;
            }
            let which = Which { shard: self.shard, segment: id, file: facts.file, owed: None };
            let walk = Walk::new(which, 0);
            let live = BTreeMap::new();
            self.job =
                Job::Weigh(Box::new(Weigh { source, walk, live, live_bytes: 0, all_bytes: 0 }));
            return;
        }
    }

    fn end_round(&mut self, yard: &mut Yard<'_>) {
        self.next = None;
        self.rest_until = yard.now + LOOK_REST_NS;
        let worth = self.uncovered >= SNAPSHOT_WORTH * yard.manifest.snapshot_bytes();
        // Whoever waits asks for one in its turn.
        if self.uncovered > 0 && !self.eager && (worth || yard.segments.is_starved()) {
            yard.manifest.want_snapshot();
        }
        self.eager = false;
    }

    /// Whether nothing forbids to relocate this segment.
    fn may(&self, yard: &Yard<'_>, id: SegmentId) -> bool {
        let state = &yard.manifest.state;
        // The newest tells where the stream goes on, as long as no term has begun behind it.
        id != state.newest_sealed()
            && !state.damages.iter().any(|damage| damage.segment == id)
            && !self.damaged.contains(&id)
            && !yard.view.holds.pins(id, yard.now)
    }

    fn weigh(&mut self, yard: &mut Yard<'_>, mut weigh: Box<Weigh>, done: Done) {
        let mut entries = Vec::new();
        let piece = weigh.walk.complete(done, |_, entry| {
            entries.push(*entry);
            true
        });
        let view = yard.view.lock();
        entries.iter().for_each(|entry| weigh.add(&view, entry));
        drop(view);
        match piece {
            Ok(Piece::More) if !weigh.is_too_alive(self.percent) => self.job = Job::Weigh(weigh),
            // Unreadable: the collector tells.
            Err(_) => drop(self.weighed.insert(weigh.source.segment, yard.view.trims())),
            Ok(_) => {
                let rest = LOOK_REST_NS + weigh.source.sealed.index_bytes * LOOK_NS_PER_BYTE;
                self.rest(yard.now + rest);
                self.judge(yard, *weigh);
            }
        }
    }

    /// It was weighed: goes on with it, or not.
    fn judge(&mut self, yard: &mut Yard<'_>, weigh: Weigh) {
        let Weigh { source, live, live_bytes, all_bytes, .. } = weigh;
        self.weighed.insert(source.segment, yard.view.trims());
        let state = &yard.manifest.state;
        let file = file_bytes(state, &source.facts, &source.sealed);
        let unit = u64::from(state.facts.unit);
        let gains = file.saturating_sub(live_bytes + 2 * unit) >= GAIN_MIN;
        // Without anything alive it is free, and retires.
        if live.is_empty() || !gains || live_bytes * 100 >= all_bytes * self.percent {
            return;
        }
        if !yard.manifest.covers(source.segment, &source.sealed) {
            self.weighed.remove(&source.segment);
            self.uncovered += file;
            return;
        }
        self.rest_until = 0;
        let file = (yard.segments.take_number(), (yard.random)());
        let copying = Copying::new(self.shard, source, live, &yard.manifest.state, file);
        self.job = Job::Copy(Box::new(copying));
    }

    // ── the swap ──

    /// The copy is durable: looks once more, then names it.
    fn name(&mut self, yard: &mut Yard<'_>) {
        let Job::Copy(copying) = &self.job else { return };
        let source = copying.source;
        let now = yard.manifest.state.segments.get(&source.segment);
        let life = (source.facts.file, source.facts.nonce);
        let same = now.is_some_and(|now| (now.file, now.nonce) == life);
        if !same || !self.may(yard, source.segment) || !copying.covers_starts(yard.view) {
            self.give_up(yard, Failure::Moot);
            return;
        }
        let (edit, bytes) = (copying.edit(&yard.manifest.state), copying.taken);
        let edit = yard.manifest.push(edit);
        self.job = Job::Naming { edit, source, bytes };
    }

    /// The edit is durable: readers are led to the new file, unless a hold was taken meanwhile.
    pub(crate) fn land(&mut self, yard: &mut Yard<'_>) -> Option<Landed> {
        let Job::Naming { edit, source, bytes } = self.job else { return None };
        if !yard.manifest.is_durable(edit) {
            return None;
        }
        let segment = source.segment;
        let now = yard.manifest.state.segments.get(&segment).copied();
        let mut view = yard.view.lock();
        // Under the view's lock: whoever took a hold and then looked which files there are has
        // either been seen here, or sees the new one.
        if yard.view.holds.pins(segment, yard.now) {
            self.rest_until = yard.now + RETRY_NS;
            return None;
        }
        if let (Some(seen), Some(facts)) = (view.segments.get_mut(&segment), now) {
            (seen.file, seen.nonce, seen.end) = (facts.file, facts.nonce, facts.bytes);
            yard.view.note_move();
        }
        drop(view);
        yard.view.files.forget_segment(source.facts.file);
        self.job = Job::None;
        self.weighed.insert(segment, yard.view.trims());
        self.moved.segments += 1;
        self.moved.bytes += bytes;
        Some(Landed { segment, old: source.facts })
    }

    /// Closing: lets go of what has no name yet. False while an edit is on its way.
    pub(crate) fn drain(&mut self, yard: &mut Yard<'_>) -> bool {
        if let Job::Weigh(_) | Job::Copy(_) = self.job {
            self.give_up(yard, Failure::Moot);
        }
        match &self.job {
            Job::Naming { edit, .. } => yard.manifest.is_durable(*edit),
            _ => true,
        }
    }

    /// The copy is removed, as far as that goes; the next open removes the rest.
    fn give_up(&mut self, yard: &mut Yard<'_>, failure: Failure) {
        let Job::Copy(copying) = std::mem::replace(&mut self.job, Job::None) else { return };
        let (shard, segment) = (self.shard, copying.source.segment);
        if copying.is_begun() {
            for name in [names::index(shard, copying.number), names::segment(shard, copying.number)]
            {
                let _ = yard.disk.submit(TOKEN_IGNORED, Op::Remove { name });
            }
        }
        self.usage.give_back(copying.taken);
        match failure {
            Failure::Moot => {}
            Failure::Io(error) => {
                let (shard, segment) = (shard.0, segment.0);
                tracing::warn!(shard, segment, %error, "relocating a segment fails");
                self.rest(yard.now + RETRY_NS);
            }
            Failure::Damaged(why) => {
                let (shard, number) = (shard.0, segment.0);
                tracing::error!(shard, segment = number, why, "damage met: the segment stays");
                self.damaged.insert(segment);
                self.trouble = Some(format!("segment {segment}: {why}"));
            }
        }
    }
}

fn look_around(manifest: &Manifest, view: &View) -> Seen {
    let (trims, holds) = (view.trims(), view.holds.changes());
    Seen { trims, covered: manifest.covered(), holds }
}
