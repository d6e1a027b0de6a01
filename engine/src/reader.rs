//! Readers: one cursor over a log, from anywhere to its durable end, and beyond as it grows.
//!
//! Invariants: a record is delivered only when it is durable, in LSN order, each once. Followers
//! are woken by the durable watermark, never by polling.
//!
//! Cancellation: dropping a [`Next`] loses nothing; the record it would have given comes next. A
//! read from disk that is under way finishes on the engine's reading thread meanwhile.
//!
//! Not here: finding and checking batches (`catchup`), foreign directories (`follow`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::archive::Fetch;
use crate::catchup::{Cursor, Source, Step};
use crate::ephemeral::{Ear, Note};
use crate::error::{Error, Result};
use crate::format::{PropertyIter, RecordHeader};
use crate::lsn::{Epoch, LogId, Lsn, Position};
use crate::reads::Reads;
use crate::view::Ended;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first record kept.
    Start,
    /// The durable end: only what comes.
    Tail,
    /// This LSN.
    Lsn(Lsn),
    /// This very record: `Diverged` when another epoch has its LSN.
    At(Position),
    /// Behind this very record: how a follower goes on.
    After(Position),
    /// The first record that is not older than this, in microseconds since 1970.
    Time(u64),
}

/// Reads one log. Not tied to a runtime: `next().await`, or `next().wait()` on a thread.
pub struct Reader {
    cursor: Option<Box<Cursor>>,
    /// The cursor, while the reading thread has it.
    away: Arc<Mutex<Away>>,
    reads: Arc<Reads>,
    /// What the reading thread's step came to, not yet looked at.
    fetched: Option<Result<Step>>,
    /// What the archive was asked for and has not given yet.
    fetch: Option<Fetch>,
    log: LogId,
    follow: bool,
    /// The record that the position given at the start must name; passed over if `true`.
    expect: Option<(Position, bool)>,
    /// Where it is among ephemeral records, if it wants them.
    ear: Option<Ear>,
    /// The one at hand.
    note: Option<Arc<Note>>,
    /// The cursor's record is at hand and not given yet: ephemeral ones sit before it.
    held: bool,
}

#[derive(Default)]
struct Away {
    back: Option<(Box<Cursor>, Result<Step>)>,
    waker: Option<Waker>,
}

/// A record as it was read. Borrows from the reader until the next one is asked for.
#[derive(Clone, Copy)]
pub struct ReadRecord<'a> {
    header: &'a RecordHeader,
    properties: &'a [u8],
    payload: &'a [u8],
    ephemeral: bool,
}

impl fmt::Debug for ReadRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadRecord({}, {} bytes)", self.position(), self.payload.len())
    }
}

impl<'a> ReadRecord<'a> {
    /// Its position.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.header.epoch, lsn: self.header.lsn }
    }

    /// Its LSN.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// The epoch of its writer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// When it was appended, in microseconds since 1970.
    #[must_use]
    pub fn timestamp_us(&self) -> u64 {
        self.header.time_us
    }

    /// Whether it is on no disk: its LSN is that of the record behind it.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Its properties, in the order in which they were given.
    pub fn properties(&self) -> PropertyIter<'a> {
        PropertyIter::new(self.properties)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(log {}, follow {})", self.log, self.follow)
    }
}

impl Reader {
    pub(crate) fn new(
        source: Source,
        reads: Arc<Reads>,
        log: LogId,
        from: Position,
        not_before_us: u64,
        expect: Option<(Position, bool)>,
    ) -> Self {
        let cursor = Some(Box::new(Cursor::new(source, log, from, not_before_us)));
        Self {
            cursor,
            away: Arc::default(),
            reads,
            fetched: None,
            fetch: None,
            log,
            follow: false,
            expect,
            ear: None,
            note: None,
            held: false,
        }
    }

    /// Waits at the durable end for what comes, instead of ending there.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Also gives the ephemeral records that come from now on, each in its place among the others;
    /// at the durable end only if it follows. [`ReadRecord::is_ephemeral`] tells them. None come
    /// from other processes.
    #[must_use]
    pub fn with_ephemeral(mut self) -> Self {
        let view = self.cursor.as_ref().map(|cursor| Arc::clone(&cursor.source().view));
        self.ear = view.map(|view| view.ephemeral.listen(self.log));
        self
    }

    /// How many ephemeral records were dropped, as there were too many, before this reader came to
    /// them.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.ear.as_ref().map_or(0, |ear| ear.missed)
    }

    /// The next record: `None` at the durable end, unless it follows. See [`Next`].
    #[allow(clippy::should_implement_trait)] // it lends: no `Iterator` can
    pub fn next(&mut self) -> Next<'_> {
        Next { reader: Some(self) }
    }

    /// Continues at `lsn`: past a range that is damaged, or back.
    pub fn seek(&mut self, lsn: Lsn) {
        self.expect = None;
        self.take_back_blocking();
        (self.fetched, self.fetch) = (None, None);
        self.held = false;
        if let Some(cursor) = &mut self.cursor {
            cursor.seek(lsn);
        }
    }

    /// The LSN that comes next.
    #[must_use]
    pub fn next_lsn(&self) -> Option<Lsn> {
        let cursor = self.cursor.as_ref()?;
        let held = cursor.record().filter(|_| self.held);
        Some(held.map_or(cursor.next_lsn(), |(header, _, _)| header.lsn))
    }

    /// Checks the record at hand against the position that the reader began with.
    fn judge(&mut self) -> Result<bool> {
        let Some((expected, pass)) = self.expect.take() else { return Ok(true) };
        let Some(cursor) = &self.cursor else { return Ok(true) };
        let Some((header, _, _)) = cursor.record() else { return Ok(true) };
        if header.epoch != expected.epoch {
            return Err(Error::Diverged { epoch: header.epoch, lsn: header.lsn });
        }
        Ok(!pass)
    }

    /// Takes the ephemeral record that sits before `lsn`, if there is one.
    fn hear(&mut self, lsn: Lsn) -> bool {
        let (Some(cursor), Some(ear)) = (&self.cursor, &mut self.ear) else { return false };
        let view = &cursor.source().view;
        let cut = |header: &RecordHeader| cursor.is_cut_before(header);
        self.note = view.ephemeral.hear(ear, lsn, view.durable(), cut);
        self.note.is_some()
    }

    /// The record at hand, after the ephemeral ones before it. False: it was cut meanwhile.
    fn give_held(&mut self) -> bool {
        let held = self.cursor.as_ref().and_then(|cursor| cursor.record());
        if held.map(|(header, _, _)| header.lsn).is_some_and(|lsn| self.hear(lsn)) {
            return true;
        }
        self.held = false;
        self.ear.is_none()
            || self.cursor.as_ref().is_some_and(|cursor| {
                let view = cursor.source().view.lock();
                view.log(self.log).is_some_and(|log| !cursor.is_cut_off(log))
            })
    }

    fn record(&self) -> Option<ReadRecord<'_>> {
        if let Some(Note { header, properties, payload, .. }) = self.note.as_deref() {
            return Some(ReadRecord { header, properties, payload, ephemeral: true });
        }
        let (header, properties, payload) = self.cursor.as_ref()?.record()?;
        Some(ReadRecord { header, properties, payload, ephemeral: false })
    }

    /// Whether the log has more than was delivered or was cut, or nothing more can come.
    /// `Some(Ok(false))`: the engine was closed.
    fn more(&self) -> Option<Result<bool>> {
        let cursor = self.cursor.as_ref()?;
        let view = cursor.source().view.lock();
        match view.log(self.log) {
            None => return Some(Err(cursor.gone())),
            Some(log) if log.next > cursor.next_lsn() || cursor.is_cut_off(log) => {
                return Some(Ok(true));
            }
            Some(_) => {}
        }
        if let Some(mut ear) = self.ear {
            let (all, durable) = (&cursor.source().view.ephemeral, cursor.source().view.durable());
            let cut = |header: &RecordHeader| cursor.is_cut_before(header);
            if all.hear(&mut ear, cursor.next_lsn(), durable, cut).is_some() {
                return Some(Ok(true));
            }
        }
        view.ended.as_ref().map(|ended| match ended {
            Ended::Closed => Ok(false),
            Ended::Halted(cause) | Ended::Replaced(cause) => {
                Err(Error::Halted { cause: Arc::clone(cause) })
            }
        })
    }

    fn wait_blocking(&mut self) -> Result<bool> {
        loop {
            if self.cursor.is_none() {
                self.take_back_blocking();
            }
            self.note = None;
            if self.held && self.give_held() {
                return Ok(true);
            }
            self.wait_for_archive()?;
            let Some(cursor) = &mut self.cursor else { return Err(Error::Closed) };
            let step = self.fetched.take().unwrap_or_else(|| cursor.step(true));
            match step? {
                Step::Ready => {
                    self.held = self.judge()?;
                }
                Step::Disk => {}
                Step::Archive => self.begin_fetch(),
                Step::End => {
                    if !self.follow {
                        return Ok(false);
                    }
                    let next = cursor.next_lsn();
                    if self.hear(next) {
                        return Ok(true);
                    }
                    let Some(cursor) = &self.cursor else { return Err(Error::Closed) };
                    let view = Arc::clone(&cursor.source().view);
                    let clock = cursor.source().storage.clock();
                    let more = view.wait.sleep(&*clock, None, || self.more());
                    if !more.unwrap_or(Ok(false))? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Asks the archive for what the cursor wants.
    fn begin_fetch(&mut self) {
        let Some(cursor) = &mut self.cursor else { return };
        let wanted = cursor.take_wanted();
        let archive = cursor.source().archive.as_ref();
        self.fetch = archive.zip(wanted).map(|(archive, wanted)| Fetch::begin(&**archive, wanted));
    }

    /// Hands the cursor what the archive gave; false while it is still at it.
    fn take_archived(&mut self, waker: &Waker) -> Result<bool> {
        let Some(fetch) = &self.fetch else { return Ok(true) };
        let Some(given) = fetch.poll(waker) else { return Ok(false) };
        let wanted = fetch.wanted;
        self.fetch = None;
        if let Some(cursor) = &mut self.cursor {
            cursor.supply(&wanted, given)?;
        }
        Ok(true)
    }

    fn wait_for_archive(&mut self) -> Result<()> {
        if self.fetch.is_some() {
            let waker =
                Waker::from(Arc::new(crate::writer::Unpark(crate::sync::thread::current())));
            while !self.take_archived(&waker)? {
                crate::sync::thread::park();
            }
        }
        Ok(())
    }

    /// Waits for the reading thread, which takes one read from disk.
    fn take_back_blocking(&mut self) {
        let waker = Waker::from(Arc::new(crate::writer::Unpark(crate::sync::thread::current())));
        while self.cursor.is_none() {
            if !self.fetch_back(&waker) {
                crate::sync::thread::park();
            }
        }
    }

    /// Takes the cursor back from the reading thread, if it is done; else leaves a waker.
    fn fetch_back(&mut self, waker: &Waker) -> bool {
        let mut away = self.away.lock();
        match away.back.take() {
            Some((cursor, step)) => {
                drop(away);
                self.cursor = Some(cursor);
                self.fetched = Some(step);
                true
            }
            None => {
                away.waker = Some(waker.clone());
                false
            }
        }
    }

    /// Hands the cursor to the reading thread for one step.
    fn send_away(&mut self, mut cursor: Box<Cursor>, waker: &Waker) -> Result<()> {
        if let Err(error) = self.reads.start() {
            self.cursor = Some(cursor);
            return Err(error);
        }
        self.away.lock().waker = Some(waker.clone());
        let away = Arc::clone(&self.away);
        self.reads.run(Box::new(move || {
            let step = cursor.step(true);
            let mut away = away.lock();
            away.back = Some((cursor, step));
            let waker = away.waker.take();
            drop(away);
            if let Some(waker) = waker {
                waker.wake();
            }
        }))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        loop {
            if self.cursor.is_none() && !self.fetch_back(cx.waker()) {
                return Poll::Pending;
            }
            self.note = None;
            if self.held && self.give_held() {
                return Poll::Ready(Ok(true));
            }
            if !self.take_archived(cx.waker())? {
                return Poll::Pending;
            }
            let step = match (self.fetched.take(), self.cursor.take()) {
                (Some(step), cursor) => {
                    self.cursor = cursor;
                    step?
                }
                (None, None) => return Poll::Ready(Err(Error::Closed)),
                (None, Some(mut cursor)) => match cursor.step(false) {
                    Ok(Step::Disk) => {
                        self.send_away(cursor, cx.waker())?;
                        continue;
                    }
                    step => {
                        self.cursor = Some(cursor);
                        step?
                    }
                },
            };
            match step {
                Step::Ready => self.held = self.judge()?,
                Step::Disk => {}
                Step::Archive => self.begin_fetch(),
                Step::End if !self.follow => return Poll::Ready(Ok(false)),
                Step::End => {
                    let view = self.cursor.as_ref().map(|c| Arc::clone(&c.source().view));
                    let Some(view) = view else { return Poll::Ready(Err(Error::Closed)) };
                    if self.next_lsn().is_some_and(|lsn| self.hear(lsn)) {
                        return Poll::Ready(Ok(true));
                    }
                    view.wait.register(cx.waker());
                    match self.more() {
                        None => return Poll::Pending,
                        Some(Ok(true)) => {}
                        Some(other) => return Poll::Ready(other),
                    }
                }
            }
        }
    }
}

/// The next record under way; see [`Reader::next`].
///
/// # Errors
/// As the output: `Trimmed` (seek to its start), `Corrupt` (nothing moves: seek past it by choice),
/// `Lost` (told once, the next call goes on behind it), `Diverged`, `Unwritten`, `NoSuchLog`,
/// `Halted` when a followed shard has failed and everything durable was delivered; `Invalid` for
/// what is in the tier alone, in an engine without an archive; what the archive says (the next call
/// asks it again).
#[must_use = "nothing is read until it is awaited"]
pub struct Next<'a> {
    reader: Option<&'a mut Reader>,
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

impl<'a> Next<'a> {
    /// Blocks until there is a record, or the end.
    ///
    /// # Errors
    /// See [`Next`].
    pub fn wait(mut self) -> Result<Option<ReadRecord<'a>>> {
        let Some(reader) = self.reader.take() else { return Ok(None) };
        let ready = reader.wait_blocking()?;
        Ok(if ready { reader.record() } else { None })
    }
}

impl<'a> Future for Next<'a> {
    type Output = Result<Option<ReadRecord<'a>>>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(reader) = self.reader.as_mut() else { return Poll::Ready(Ok(None)) };
        match reader.poll_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(ready)) => {
                let reader = self.reader.take();
                Poll::Ready(Ok(reader.filter(|_| ready).and_then(|reader| (*reader).record())))
            }
        }
    }
}
