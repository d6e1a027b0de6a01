//! The other kinds of appends in a simulated life, and cuts, with readers that stand in the way.
//!
//! Not here: ordinary appends (`world`), what must hold (`model`, `check`).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use sapwood::{Error, From, Lsn, Reader, Rejected, Writer};

use super::{Pending, Session, World};
use crate::check;
use crate::ensure;
use crate::model::{Staged, Verdict};

/// A reader that stands in a log.
pub(super) struct Standing {
    reader: Reader,
    next: u64,
    /// The lowest place at which the log was cut below it since it was last asked.
    cut: Option<u64>,
}

impl World {
    /// The log's writer, opened if need be; `None` in a world without power.
    fn writer(&mut self, session: &mut Session, log: usize) -> Verdict<Option<Writer>> {
        if session.writers[log].is_none() {
            self.fence(session, log)?;
        }
        // A ghost stages what never was.
        Ok(if self.disk.is_cut() { None } else { session.writers[log].clone() })
    }

    fn record(&mut self, writer: &Writer) -> Staged {
        let len = self.rng.below(600) as usize;
        Staged { epoch: writer.epoch().0, nonce: self.rng.next_u64(), len }
    }

    pub(super) fn append_if(&mut self, session: &mut Session, log: usize, off: i64) -> Verdict {
        let Some(writer) = self.writer(session, log)? else { return Ok(()) };
        let one = self.record(&writer);
        let tail = self.truth(session, log).staged.len() as u64;
        let expected = tail.saturating_add_signed(off);
        let error = match writer.submit_if(Lsn(expected), one.payload()) {
            Ok(ticket) => {
                ensure!(expected == tail, "appended at {expected}, the tail is {tail}");
                let lsn = ticket.position().lsn.0;
                self.truth(session, log).stage(lsn, one)?;
                let log = session.names[log].clone();
                session.pending.push(Pending { log, end: lsn + 1, ticket, gone: false });
                return Ok(());
            }
            Err(Rejected { record, error }) => {
                ensure!(record == Some(one.payload()), "a rejected record came back changed");
                error
            }
        };
        match error {
            Error::Conflict { tail: told } => {
                let right = told == Lsn(tail) && expected != tail;
                ensure!(right, "expected {expected}, conflict with {told}, the tail is {tail}");
                Ok(())
            }
            Error::Busy => Ok(()),
            other => self.excuse(session, &other),
        }
    }

    pub(super) fn append_relaxed(&mut self, session: &mut Session, log: usize) -> Verdict {
        let Some(writer) = self.writer(session, log)? else { return Ok(()) };
        let one = self.record(&writer);
        let mut relaxed = writer.append_relaxed(one.payload());
        let poll = Pin::new(&mut relaxed).poll(&mut Context::from_waker(Waker::noop()));
        match poll {
            Poll::Ready(Ok(accepted)) => {
                ensure!(accepted.records == 1, "{} records accepted", accepted.records);
                let truth = self.truth(session, log);
                truth.stage(truth.staged.len() as u64, one)
            }
            Poll::Ready(Err(rejected)) => self.excuse(session, &rejected.error),
            // No room: dropped while it waits, it writes nothing.
            Poll::Pending => Ok(()),
        }
    }

    pub(super) fn flush(&mut self, session: &mut Session, log: usize) -> Verdict {
        let Some(writer) = self.writer(session, log)? else { return Ok(()) };
        let ticket = writer.flush();
        let end = self.truth(session, log).staged.len() as u64;
        ensure!(ticket.position().lsn == Lsn(end), "{:?}, staged {end}", ticket.position());
        let log = session.names[log].clone();
        session.pending.push(Pending { log, end, ticket, gone: false });
        Ok(())
    }

    pub(super) fn cut(&mut self, session: &mut Session, log: usize, share: u64) -> Verdict {
        let Some(writer) = self.writer(session, log)? else { return Ok(()) };
        let truth = self.truth(session, log);
        let (start, tail) = (truth.start, truth.staged.len() as u64);
        let lsn = start + (tail - start) * share / 100;
        let below = start.checked_sub(1).map(|lsn| writer.cut_to(Lsn(lsn)).wait());
        ensure!(!matches!(below, Some(Ok(_))), "cut below the start {start}");
        // Of what was staged as one a part may go now.
        let name = &session.names[log];
        let stays = |(log, _, end): &(String, u64, u64)| log != name || *end <= lsn;
        self.model.wholes.retain(|whole| whole.iter().all(stays));
        let cut = writer.cut_to(Lsn(lsn)).wait();
        if self.disk.is_cut() || cut.is_err() {
            self.truth(session, log).cut_asked = Some(lsn);
        }
        let first = match cut {
            Ok(first) => first,
            Err(error) => return self.excuse(session, &error),
        };
        ensure!(first.lsn == Lsn(lsn), "cut at {first}, asked for {lsn}");
        if self.disk.is_cut() {
            return Ok(());
        }
        ensure!(first.epoch == writer.epoch(), "cut at {first}, {:?} goes on", writer.epoch());
        // What was staged before is durable, and was acked as such; then it is gone.
        self.collect(session)?;
        self.truth(session, log).cut(lsn, first.epoch.0)?;
        session.cut = true;
        if let Some(Some(standing)) = session.standing.get_mut(log)
            && standing.next > lsn
        {
            standing.cut = Some(standing.cut.map_or(lsn, |cut| cut.min(lsn)));
        }
        Ok(())
    }

    pub(super) fn read_on(&mut self, session: &mut Session, log: usize, limit: u64) -> Verdict {
        if self.disk.is_cut() {
            return Ok(());
        }
        let handle = session.engine.log(&session.names[log]).map_err(|e| e.to_string())?;
        session.standing.resize_with(session.names.len(), || None);
        let start = self.truth(session, log).start;
        let old = session.standing[log].take().filter(|standing| standing.next >= start);
        let mut standing = match old {
            Some(standing) => standing,
            None => {
                let reader = handle.reader(From::Start).map_err(|e| e.to_string())?;
                Standing { reader, next: start, cut: None }
            }
        };
        if let Some(cut) = standing.cut.take() {
            let told = standing.reader.next().wait().map(|_| ());
            let right = matches!(told, Err(Error::Diverged { lsn, .. }) if lsn == Lsn(cut));
            ensure!(right, "cut at {cut} below {}: {told:?}", standing.next);
            standing.next = cut.max(start);
            standing.reader.seek(Lsn(standing.next));
        }
        let truth = self.truth(session, log);
        standing.next = check::read_on(&mut standing.reader, truth, standing.next, limit)?;
        truth.shown = truth.shown.max(standing.next);
        session.standing[log] = Some(standing);
        Ok(())
    }
}
