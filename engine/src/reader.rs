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

use crate::catchup::{Cursor, Source, Step};
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
    log: LogId,
    follow: bool,
    /// The record that the position given at the start must name; passed over if `true`.
    expect: Option<(Position, bool)>,
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
        Self { cursor, away: Arc::default(), reads, fetched: None, log, follow: false, expect }
    }

    /// Waits at the durable end for what comes, instead of ending there.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
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
        self.fetched = None;
        if let Some(cursor) = &mut self.cursor {
            cursor.seek(lsn);
        }
    }

    /// The LSN that comes next.
    #[must_use]
    pub fn next_lsn(&self) -> Option<Lsn> {
        self.cursor.as_ref().map(|cursor| cursor.next_lsn())
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

    fn record(&self) -> Option<ReadRecord<'_>> {
        let (header, properties, payload) = self.cursor.as_ref()?.record()?;
        Some(ReadRecord { header, properties, payload })
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
        view.ended.as_ref().map(|ended| match ended {
            Ended::Closed => Ok(false),
            Ended::Halted(cause) => Err(Error::Halted { cause: Arc::clone(cause) }),
        })
    }

    fn wait_blocking(&mut self) -> Result<bool> {
        loop {
            if self.cursor.is_none() {
                self.take_back_blocking();
            }
            let Some(cursor) = &mut self.cursor else { return Err(Error::Closed) };
            let step = self.fetched.take().unwrap_or_else(|| cursor.step(true));
            match step? {
                Step::Ready => {
                    if self.judge()? {
                        return Ok(true);
                    }
                }
                Step::Disk => {}
                Step::End => {
                    if !self.follow {
                        return Ok(false);
                    }
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

    /// Waits for the reading thread, which takes one read from disk.
    fn take_back_blocking(&mut self) {
        let waker = Waker::from(Arc::new(crate::writer::Unpark(std::thread::current())));
        while self.cursor.is_none() {
            if !self.fetch_back(&waker) {
                std::thread::park();
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
                Step::Ready => {
                    if self.judge()? {
                        return Poll::Ready(Ok(true));
                    }
                }
                Step::Disk => {}
                Step::End if !self.follow => return Poll::Ready(Ok(false)),
                Step::End => {
                    let view = self.cursor.as_ref().map(|c| Arc::clone(&c.source().view));
                    let Some(view) = view else { return Poll::Ready(Err(Error::Closed)) };
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
/// `Halted` when a followed shard has failed and everything durable was delivered.
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
