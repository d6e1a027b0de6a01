//! The cursor: finds the batches that hold a log, one after the other, and the records in them.
//!
//! Invariants:
//! - `next` is the LSN that is delivered next; it only moves forward, over delivered records and
//!   over ranges that were told `Lost`.
//! - Nothing beyond the view is looked at; a batch still in memory is read from there, any other
//!   from its segment, and both are checked alike.
//! - A record is delivered only if its CRCs are good and it follows its run; one in fragments only
//!   when all of them are there, and `next` stands at it until then.
//!
//! - What no local segment holds any more is asked of the archive, by a step that says so.
//!
//! Not here: waiting at the end and for the archive (`reader`), checking what it gave (`archive`).

mod beyond;

use std::sync::Arc;

use crate::archive::{Archive, Wanted};
use crate::assembly::Assembly;
use crate::bisect::Bisect;
use crate::cuts::Cuts;
use crate::damage;
use crate::error::{Damage, Error, Result};
use crate::files::What;
use crate::format::index::Posting;
use crate::format::manifest::Link;
use crate::format::{
    BATCH_COMPACTED, BatchHeader, BatchView, Fragment, RecordHeader, Run, SegmentHeader, UNIT_MIN,
};
use crate::hops::{Hop, Hops};
use crate::index::Indexes;
use crate::intake::Intake;
use crate::io::Storage;
use crate::io::buf::AlignedBuf;
use crate::items::{Item, collect, drop_cut};
use crate::live::Around;
use crate::lsn::{Epoch, LogId, Lsn, Position, SegmentId};
use crate::manifest;
use crate::part;
use crate::planted::{Bug, planted};
use crate::scan::{Origin, Window};
use crate::view::{Ended, LogView, Place, View};

/// Later than every epoch.
const NEWEST: Epoch = Epoch(u32::MAX);

/// What a reader takes of a segment at first; more with each further read.
const READ_BYTES: usize = 64 << 10;

/// What a cursor reads from.
#[derive(Clone)]
pub(crate) struct Source {
    pub storage: Arc<dyn Storage>,
    pub view: Arc<View>,
    /// The staging memory of the shard, where this process writes it.
    pub intake: Option<Arc<Intake>>,
    pub indexes: Arc<Indexes>,
    pub unit: usize,
    /// Another process writes, or may: what this one knows of the manifest may be old.
    pub foreign: bool,
    pub archive: Option<Arc<dyn Archive>>,
    /// The directory and its lineage, by which an archive knows it.
    pub directory: (u64, u64),
}

/// What a step of a cursor came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record is at hand.
    Ready,
    /// Everything durable was delivered.
    End,
    /// The next batch has to be read from disk, which was not allowed.
    Disk,
    /// What is next is in the archive: see [`Cursor::take_wanted`].
    Archive,
}

/// How a cursor goes on in its segment.
enum Way {
    /// The batch at the spot.
    Batch,
    /// A part of it.
    Part(Hop),
    /// What is next is not here.
    Elsewhere,
}

/// Where the record at hand is.
#[derive(Clone, Copy, Debug)]
enum Current {
    Item(usize),
    Assembled,
}

struct Spot {
    segment: SegmentId,
    number: u64,
    nonce: u64,
    offset: u64,
    /// Sequence of the batch at `offset`, once it is known.
    seq: Option<u64>,
}

/// See the module.
pub(crate) struct Cursor {
    source: Source,
    log: LogId,
    next: Lsn,
    /// Records older than this are passed over.
    not_before_us: u64,
    /// What was cut, as of the last look; up to epoch `known` the cursor stands beyond no cut.
    cuts: Cuts,
    known: Epoch,
    spot: Option<Spot>,
    /// Where the log is in the segment of `spot`, as far as that is known.
    hops: Hops,
    /// What the next read is about to need.
    expected: usize,
    /// The LSN for which `spot` was looked up: without progress since, a second look-up is damage.
    placed_for: Option<Lsn>,
    /// By the nonce of its life: a segment may live on in another file.
    window: Option<(u64, u64, Window)>,
    /// The batch at hand.
    batch: Vec<u8>,
    items: Vec<Item>,
    taken: usize,
    current: Option<Current>,
    /// What the archive is to be asked for.
    wanted: Option<Wanted>,
    /// Where a time is sought in the archive.
    bisect: Option<Bisect>,
    /// A record in fragments, as far as it was met.
    assembly: Assembly,
    /// The view's count when starts and cuts were last looked at; `None`: not yet.
    trims: Option<u64>,
    /// The view's count of segments that moved when the batch at hand was looked for.
    moves: u64,
}

impl Cursor {
    /// A cursor that stands at `from`: before this LSN of the log as this epoch knows it.
    pub(crate) fn new(source: Source, log: LogId, from: Position, not_before_us: u64) -> Self {
        Self {
            source,
            log,
            next: from.lsn,
            not_before_us,
            trims: None,
            moves: 0,
            cuts: Cuts::default(),
            known: from.epoch,
            spot: None,
            hops: Hops::new(),
            expected: READ_BYTES,
            placed_for: None,
            window: None,
            batch: Vec::new(),
            items: Vec::new(),
            taken: 0,
            current: None,
            wanted: None,
            bisect: None,
            assembly: Assembly::default(),
        }
    }

    pub(crate) fn next_lsn(&self) -> Lsn {
        self.next
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn seek(&mut self, next: Lsn) {
        self.next = next;
        (self.not_before_us, self.bisect) = (0, None);
        // Whoever chooses a place knows the log as it is.
        (self.trims, self.known) = (None, NEWEST);
        self.forget();
    }

    pub(crate) fn gone(&self) -> Error {
        Error::NoSuchLog(format!("{} (deleted)", self.log))
    }

    /// Whether the log was cut before where this cursor stands.
    pub(crate) fn is_cut_off(&self, log: &LogView) -> bool {
        log.cuts().since(self.known, self.next).is_some()
    }

    /// Whether a cut took what an ephemeral record sat between.
    pub(crate) fn is_cut_before(&self, header: &RecordHeader) -> bool {
        self.cuts.since(header.epoch, header.lsn).is_some()
    }

    /// Looks at what was trimmed and cut since the last look.
    fn heed(&mut self) -> Result<()> {
        let trims = self.source.view.trims();
        if self.trims == Some(trims) {
            return Ok(());
        }
        let view = Arc::clone(&self.source.view);
        let view = view.lock();
        if let Some(Ended::Replaced(cause)) = &view.ended {
            return Err(Error::Halted { cause: Arc::clone(cause) });
        }
        let Some(log) = view.log(self.log) else { return Err(self.gone()) };
        if self.next < log.start {
            self.forget();
            return Err(Error::Trimmed { start: log.start });
        }
        if let Some(Position { epoch, lsn }) = log.cuts().since(self.known, self.next)
            && !planted(Bug::DivergedNotTold)
        {
            return Err(Error::Diverged { epoch, lsn });
        }
        if *log.cuts() != self.cuts {
            self.cuts.clone_from(log.cuts());
            self.forget();
        }
        (self.trims, self.known) = (Some(trims), log.epoch);
        Ok(())
    }

    fn forget(&mut self) {
        self.spot = None;
        self.hops.forget();
        self.items.clear();
        self.taken = 0;
        self.current = None;
    }

    /// The record at hand: header, properties, payload.
    pub(crate) fn record(&self) -> Option<(&RecordHeader, &[u8], &[u8])> {
        let Current::Item(index) = self.current? else { return self.assembly.record() };
        match self.items.get(index)? {
            Item::Good { header, properties, payload } => {
                Some((header, &self.batch[properties.clone()], &self.batch[payload.clone()]))
            }
            Item::Bad { .. } => None,
        }
    }

    /// Moves to the next record. `disk`: reading from disk is allowed here.
    pub(crate) fn step(&mut self, disk: bool) -> Result<Step> {
        loop {
            match self.advance(disk) {
                // Its segment moved into another file while it was read: look again.
                Err(Error::Corrupt(_)) if self.source.view.moves() != self.moves => self.unplace(),
                // It left the disk, and the record is kept: the same, once.
                Err(Error::Corrupt(damage)) if !self.source.view.has(damage.segment) => {
                    self.unplace();
                    return self.advance(disk);
                }
                step => return step,
            }
        }
    }

    /// Forgets where it stands in which file.
    fn unplace(&mut self) {
        self.forget();
        (self.placed_for, self.window) = (None, None);
    }

    fn advance(&mut self, disk: bool) -> Result<Step> {
        self.current = None;
        self.heed()?;
        loop {
            while self.taken < self.items.len() {
                if self.take_item()? {
                    return Ok(Step::Ready);
                }
            }
            match self.load(disk)? {
                Step::Ready => {}
                other => return Ok(other),
            }
        }
    }

    /// Looks at the next item of the batch at hand; true when it is delivered.
    fn take_item(&mut self) -> Result<bool> {
        let index = self.taken;
        let (first, last) = match &self.items[index] {
            Item::Good { header, .. } => (header.lsn, header.lsn),
            Item::Bad { first, last, .. } => (*first, *last),
        };
        if last < self.next {
            self.taken += 1;
            return Ok(false);
        }
        if first > self.next {
            let reason = format!("the next record that is there is {first}");
            return Err(self.damaged(Lsn(first.0 - 1), 0, reason));
        }
        if let Item::Bad { offset, reason, .. } = &self.items[index] {
            if planted(Bug::RotSkipped) {
                (self.taken, self.next) = (index + 1, last.next());
                return Ok(false);
            }
            let (offset, reason) = (*offset, reason.clone());
            return Err(self.damaged(last, offset, reason));
        }
        let mut current = Current::Item(index);
        let mut old = false;
        if let Item::Good { header, properties, payload } = &self.items[index] {
            old = header.time_us < self.not_before_us;
            if header.fragment() != Fragment::Whole {
                let parts = (&self.batch[properties.clone()], &self.batch[payload.clone()]);
                let continues = header.continues();
                if !self.assembly.take(header, parts.0, parts.1) {
                    return Err(self.damaged(last, 0, "a part of the record is missing".into()));
                }
                if continues {
                    self.taken += 1;
                    return Ok(false);
                }
                current = Current::Assembled;
            }
        }
        self.taken += 1;
        self.next = first.next();
        if old {
            return Ok(false);
        }
        self.not_before_us = 0;
        self.current = Some(current);
        Ok(true)
    }

    /// `next..=last` cannot be read. If someone chose to go on without, that is told once and
    /// passed.
    fn damaged(&mut self, last: Lsn, offset: u64, reason: String) -> Error {
        if let Some(trimmed) = self.overtaken() {
            return trimmed;
        }
        let known =
            self.source.view.lock().log(self.log).and_then(|log| log.damage_at(self.next).cloned());
        if let Some(facts) = known {
            return self.known_damage(&facts);
        }
        Error::Corrupt(Box::new(Damage {
            log: Some(self.log),
            first: self.next,
            last: Some(last),
            segment: self.spot.as_ref().map_or(SegmentId(0), |spot| spot.segment),
            offset,
            reason,
        }))
    }

    /// Before anything is called damaged: collection may have come by, and what is read is another
    /// segment in the same file, or nothing. Then the log starts later.
    fn overtaken(&mut self) -> Option<Error> {
        let source = &self.source;
        if source.foreign
            && let Ok(Some(loaded)) = manifest::load(&*source.storage, source.view.shard)
        {
            source.view.catch_up(&loaded.state);
        }
        let start = source.view.lock().log(self.log)?.start;
        if self.next >= start {
            return None;
        }
        self.forget();
        Some(Error::Trimmed { start })
    }

    /// An index that cannot be read may be one that was removed.
    fn unless_overtaken<T>(&mut self, found: Result<T>) -> Result<T> {
        match found {
            Err(error @ Error::Corrupt(_)) => Err(self.overtaken().unwrap_or(error)),
            other => other,
        }
    }

    fn known_damage(&mut self, facts: &crate::format::manifest::DamageFacts) -> Error {
        let mut damage = damage::describe(facts);
        damage.first = self.next;
        if !facts.lost {
            return Error::Corrupt(Box::new(damage));
        }
        if let Some(last) = facts.last_lsn {
            self.next = last.next();
            self.spot = None;
            self.window = None;
        }
        Error::Lost(Box::new(damage))
    }

    /// Loads the next batch that holds records of the log.
    fn load(&mut self, disk: bool) -> Result<Step> {
        loop {
            let end = {
                let view = self.source.view.lock();
                let Some(log) = view.log(self.log) else {
                    return Err(self.gone());
                };
                if self.next < log.start {
                    return Err(Error::Trimmed { start: log.start });
                }
                if log.epoch != self.known {
                    // What it wrote may stand where something else was.
                    drop(view);
                    self.trims = None;
                    self.heed()?;
                    continue;
                }
                if self.next > log.next {
                    return Err(Error::Unwritten { tail: log.next });
                }
                if self.next == log.next {
                    // What may follow here is damaged, and nobody knows how much of it there is.
                    let open_end =
                        log.damage_at(self.next).filter(|d| d.last_lsn.is_none()).copied();
                    let Some(facts) = open_end else {
                        self.window = None; // a reader at rest holds no memory for reading
                        return Ok(Step::End);
                    };
                    drop(view);
                    return Err(self.known_damage(&facts));
                }
                self.moves = self.source.view.moves();
                let spot = self.spot.as_ref();
                let seen = spot.and_then(|spot| Some((spot, view.segments.get(&spot.segment)?)));
                seen.filter(|(spot, seen)| spot.nonce == seen.nonce).map(|(_, seen)| seen.end)
            };
            let way = match (&self.spot, end) {
                (Some(spot), Some(end)) if spot.offset < end => {
                    if self.in_memory() {
                        Way::Batch
                    } else if disk {
                        self.way()
                    } else {
                        return Ok(Step::Disk);
                    }
                }
                (_, end) => {
                    if !disk && self.place_needs_disk() {
                        return Ok(Step::Disk);
                    }
                    if end.is_none()
                        && let Some(spot) = self.spot.take()
                    {
                        // Its segment has left the disk, or moved: nobody keeps its file.
                        self.source.view.files.forget_segment(spot.number);
                        self.unplace();
                    }
                    Way::Elsewhere
                }
            };
            if self.go(&way, end.unwrap_or_default())? {
                return Ok(Step::Ready);
            }
            if self.wanted.is_some() {
                return Ok(Step::Archive);
            }
        }
    }

    fn go(&mut self, way: &Way, end: u64) -> Result<bool> {
        match way {
            Way::Part(hop) => self.take_part(hop),
            Way::Batch => self.take_batch(end),
            Way::Elsewhere => self.place().map(|()| false),
        }
    }

    /// How to go on in the segment at hand, from disk: over all that is not of this log.
    fn way(&mut self) -> Way {
        let Some(spot) = &mut self.spot else { return Way::Elsewhere };
        let Some(hop) = self.hops.at(spot.segment, self.next) else {
            // Looked up for this very LSN: then there is nothing but to read on.
            let sought = self.placed_for == Some(self.next);
            return if sought { Way::Batch } else { Way::Elsewhere };
        };
        let to = u64::from(hop.place.offset);
        if spot.offset < to {
            (spot.offset, spot.seq) = (to, None);
        }
        self.expected = hop.bytes_from(self.next);
        // What another process does with the file is not known in time: there each batch is read
        // whole, its nonce tells.
        let whole = self.source.foreign || spot.offset != to || self.hops.is_whole(hop.place);
        if whole { Way::Batch } else { Way::Part(hop) }
    }

    fn in_memory(&self) -> bool {
        let Some(spot) = &self.spot else { return false };
        let intake = self.source.intake.as_ref();
        intake.zip(spot.seq).is_some_and(|(intake, seq)| intake.pin(seq).is_some())
    }

    fn place_needs_disk(&self) -> bool {
        matches!(self.source.view.place(self.log, self.next), Place::Chain(_))
    }

    /// Looks up where `next` is.
    fn place(&mut self) -> Result<()> {
        if self.placed_for == Some(self.next) && self.spot.is_some() {
            let reason = self
                .stranger()
                .unwrap_or_else(|| "its segment does not hold it where its index says".to_owned());
            let last = self.last_in_segment().unwrap_or(self.next);
            return Err(self.damaged(last, 0, reason));
        }
        self.placed_for = Some(self.next);
        let (segment, offset, seq) = match self.source.view.place(self.log, self.next) {
            Place::At(segment, offset) => {
                let (view, what) = (Arc::clone(&self.source.view), (self.log, self.next));
                self.hops.fill(segment, |places| view.around(segment, what, places));
                (segment, offset, None)
            }
            Place::End(end) => {
                // Whoever falls behind from here is to look again.
                self.placed_for = None;
                self.hops.forget();
                (end.segment, end.offset, Some(end.seq))
            }
            Place::Chain(link) => {
                let found = self.walk(link);
                let Some((segment, offset)) = self.unless_overtaken(found)? else { return Ok(()) };
                (segment, offset, None)
            }
            Place::Trimmed(start) => return Err(Error::Trimmed { start }),
            Place::Beyond(tail) => return Err(Error::Unwritten { tail }),
            Place::Damaged(facts) => return Err(self.known_damage(&facts)),
            Place::Gone => return Err(self.gone()),
        };
        let Some((number, nonce)) = self.local(segment) else { return Ok(()) };
        if self.source.view.moves() != self.moves && !planted(Bug::MoveUnseen) {
            self.unplace(); // what was looked up may be where it stood before
            return Ok(());
        }
        self.spot = Some(Spot { segment, number, nonce, offset, seq });
        Ok(())
    }

    /// Whether the file at hand is another segment's: it was renamed, or one was put in its place.
    fn stranger(&self) -> Option<String> {
        let spot = self.spot.as_ref()?;
        let (view, storage) = (&self.source.view, &self.source.storage);
        let what = What::Segment(spot.number);
        let file = view.files.get(&**storage, view.shard, what).ok()?;
        let mut block = AlignedBuf::zeroed(UNIT_MIN).ok()?;
        let got = storage.read_at(&file, 0, &mut block, UNIT_MIN).ok()?;
        let header = SegmentHeader::decode(&block[..got]).ok()?;
        let name = what.name(view.shard);
        (header.nonce != spot.nonce).then(|| {
            format!(
                "{name} holds segment {} of directory {:x}: was it renamed?",
                header.segment, header.directory
            )
        })
    }

    /// The log's last LSN in the segment at hand, if that is sealed and holds `next`.
    fn last_in_segment(&self) -> Option<Lsn> {
        let spot = self.spot.as_ref()?;
        let which = self.source.view.which(spot.segment)?;
        let files = &self.source.view.files;
        let entry = self.source.indexes.find(files, &which, self.log).ok().flatten()?;
        (entry.first_lsn..=entry.last_lsn).contains(&self.next).then_some(entry.last_lsn)
    }

    /// File number and nonce of a segment that is on the local disk.
    fn local(&self, id: SegmentId) -> Option<(u64, u64)> {
        let view = self.source.view.lock();
        view.segments.get(&id).map(|seen| (seen.file, seen.nonce))
    }

    /// Walks back through the chain to the segment that holds `next`. `None`: it is not here, the
    /// archive is to be asked.
    fn walk(&mut self, newest: Link) -> Result<Option<(SegmentId, u64)>> {
        let mut link = newest;
        let mut below = self.source.view.unsealed_from(self.log);
        loop {
            let Some(which) = self.source.view.which(link.segment) else {
                return self.want(below).map(|()| None);
            };
            let files = &self.source.view.files;
            let Some(entry) = self.source.indexes.find(files, &which, self.log)? else {
                return Err(Error::Corrupt(Box::new(Damage {
                    log: Some(self.log),
                    first: self.next,
                    last: None,
                    segment: link.segment,
                    offset: 0,
                    reason: "the segment's index does not know the log".into(),
                })));
            };
            if link.first_lsn <= self.next {
                let before = |posting: &Posting| posting.lsn <= self.next;
                let (postings, all) =
                    self.source.indexes.postings(files, &which, &entry, before)?;
                let posting = postings.first().filter(|posting| before(posting));
                let offset = posting.map_or(entry.first_offset, |p| u64::from(p.offset));
                self.hops.fill(link.segment, |places| {
                    places.extend_from_slice(&postings);
                    Some(Around::of(&entry, all))
                });
                return Ok(Some((link.segment, offset)));
            }
            below = below.min(link.first_lsn);
            // A segment far back may have left before one that stands nearer.
            let far =
                |jump: &Link| jump.first_lsn > self.next && self.local(jump.segment).is_some();
            let Some(back) = entry.jump.filter(far).or(entry.prev) else {
                return self.want(below).map(|()| None);
            };
            link = back;
        }
    }

    /// Loads the batch at the spot and moves behind it. True when it holds records that are wanted.
    fn take_batch(&mut self, end: u64) -> Result<bool> {
        self.items.clear();
        self.taken = 0;
        let Some(spot) = &self.spot else { return Ok(false) };
        let from_memory =
            self.source.intake.as_ref().zip(spot.seq).and_then(|(intake, seq)| intake.pin(seq));
        let over = from_memory.as_ref().and_then(|bytes| self.passes_over(bytes, spot));
        if let (Some(header), Some(spot)) = (over, &mut self.spot) {
            spot.offset += header.padded_bytes(self.source.unit) as u64;
            spot.seq = Some(header.seq + 1);
            return Ok(false);
        }
        self.batch.clear();
        match from_memory {
            Some(pinned) => self.batch.extend_from_slice(&pinned),
            None => self.read_batch(end)?,
        }
        let Some(spot) = &mut self.spot else { return Ok(false) };
        let at = spot.offset;
        let unit = self.source.unit;
        let (header, whole) = match BatchHeader::decode(&self.batch, spot.nonce) {
            Ok((header, _)) if header.segment == spot.segment => {
                (header, BatchView::parse(&self.batch, spot.nonce))
            }
            Err(flaw) if flaw.is_unsupported() => {
                return Err(Error::flaw(&format!("segment {} at {at}", spot.segment), &flaw));
            }
            // Damage: the next header tells whether it was ours that it hit.
            _ => {
                spot.offset += unit as u64;
                spot.seq = None;
                return Ok(false);
            }
        };
        spot.offset += header.padded_bytes(unit) as u64;
        // In a compacted segment another batch comes next than the one that came then.
        let dense = header.compat & BATCH_COMPACTED == 0;
        spot.seq = dense.then_some(header.seq + 1);
        let Ok(batch) = whole else { return Ok(false) };
        if !self.is_in(&batch) {
            return Ok(false);
        }
        collect(&batch, self.log, at, &self.batch, &mut self.items);
        drop_cut(&mut self.items, &self.cuts);
        Ok(!self.items.is_empty())
    }

    /// The header of a batch in memory that holds nothing wanted: it is not even copied.
    fn passes_over(&self, bytes: &[u8], spot: &Spot) -> Option<BatchHeader> {
        let batch = BatchView::parse(bytes, spot.nonce).ok()?;
        let over = batch.header.segment == spot.segment && !self.is_in(&batch);
        over.then_some(batch.header)
    }

    fn is_in(&self, batch: &BatchView<'_>) -> bool {
        let wanted = |run: Run| run.log == self.log && run.last_lsn() >= self.next;
        batch.runs.iter().any(wanted)
    }

    /// Loads the records at a place, without the batch around them. False: nothing is wanted there,
    /// or it is not as it should be, and the batch is to be read whole.
    fn take_part(&mut self, hop: &Hop) -> Result<bool> {
        self.items.clear();
        self.taken = 0;
        let Some(spot) = &self.spot else { return Ok(false) };
        let (storage, view) = (&*self.source.storage, &self.source.view);
        let what = What::Segment(spot.number);
        let file = view.files.get(storage, view.shard, what);
        let wanted = (self.log, self.next);
        let read = file.and_then(|file| part::read(storage, &file, wanted, hop, &mut self.batch));
        // Only what was read while the segment was there is surely of it, and durable.
        let there = self.local(spot.segment) == Some((spot.number, spot.nonce));
        match read {
            Ok(Some(found)) if there => {
                self.items = found.into_iter().map(Item::from).collect();
                drop_cut(&mut self.items, &self.cuts);
            }
            _ => {}
        }
        if self.items.is_empty() {
            self.hops.read_whole(hop.place);
        }
        Ok(!self.items.is_empty())
    }

    fn read_batch(&mut self, end: u64) -> Result<()> {
        let Some(spot) = &self.spot else { return Ok(()) };
        let (at, unit) = (spot.offset, self.source.unit);
        let (number, nonce) = (spot.number, spot.nonce);
        let fits = self.window.as_ref().is_some_and(|(life, until, window)| {
            *life == nonce && *until > at && window.is_near(at)
        });
        if !fits {
            let (files, shard) = (Arc::clone(&self.source.view.files), self.source.view.shard);
            let origin = Origin::Shared { files, shard, number };
            let window = Window::slow(&self.source.storage, origin, at, end, self.expected);
            self.expected = READ_BYTES;
            self.window = Some((nonce, end, window));
        }
        let Some((_, _, window)) = &mut self.window else { return Ok(()) };
        let mut read = || -> Result<()> {
            let bytes = window.at(at, unit.max(UNIT_MIN))?;
            let len = BatchHeader::decode(bytes, nonce)
                .map_or(unit, |(header, _)| header.padded_bytes(unit));
            let bytes = window.at(at, len)?;
            self.batch.extend_from_slice(&bytes[..len.min(bytes.len())]);
            Ok(())
        };
        match read() {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let name = What::Segment(number).name(self.source.view.shard);
                let last = self.last_in_segment().unwrap_or(self.next);
                Err(self.damaged(last, at, format!("{name} is missing")))
            }
            read => read,
        }
    }
}
