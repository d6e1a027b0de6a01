//! A log: taking its next epoch, reading it, telling about it.
//!
//! Invariants: an epoch is durable before its writer is handed out, so that (epoch, LSN) never
//! names two records, whatever a crash takes.
//!
//! Not here: appending (`writer`), the cursor (`reader`).

use std::fmt;
use std::sync::Arc;

use crate::catchup::Source;
use crate::cursor::{Cursor, gone};
use crate::cut;
use crate::damage;
use crate::driver;
use crate::error::{Damage, Error, Result};
use crate::format::manifest::{Edit, LogSettings};
use crate::inner::{Inner, LogInfo, change};
use crate::lsn::{LogId, Lsn, Position};
use crate::planted::{Bug, planted};
use crate::reader::{From, Reader};
use crate::writer::Writer;

/// A handle on one log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
    id: LogId,
    name: Arc<str>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({:?}, {})", self.name, self.id)
    }
}

impl Log {
    pub(crate) fn new(inner: Arc<Inner>, id: LogId, name: Arc<str>) -> Self {
        Self { inner, id, name }
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log's id.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Opens a writer: takes the log's next epoch and fences every older writer. Returns when the
    /// epoch is durable and all that was staged before is durable or failed.
    ///
    /// # Errors
    /// `Corrupt` when damage leaves the log's tail unknown (salvage first); `Halted`, `Closed`,
    /// `Undriven` as the shard is; `Invalid` in a read-only engine; `NoSuchLog` when the log was
    /// deleted; `NoSpace` when the disk is full, with appends staged before that have no room, or
    /// no room for the epoch: try again (an earlier writer may be fenced already).
    pub fn writer(&self) -> Result<Writer> {
        let port = self.inner.port(self.id.shard())?;
        let open_end = port.view.lock().log(self.id).and_then(|log| {
            log.damages().iter().find(|d| d.last_lsn.is_none()).map(damage::describe)
        });
        if let Some(damage) = open_end {
            return Err(Error::Corrupt(Box::new(damage)));
        }
        // Refused before anybody is fenced.
        if let Some(error) = port.intake.without_room_for_staged() {
            return Err(error);
        }
        let fence = port.intake.fence(self.id.counter() as usize);
        let (epoch, first_lsn, before) = fence.ok_or_else(|| gone(self.id))?;
        if !planted(Bug::TailBeforeDurable) {
            driver::drained(&port.intake, before).ok_or(Error::Undriven)??;
        }
        let first = Position { epoch, lsn: first_lsn };
        let naming = vec![cut::naming(&port.view, self.id, first)];
        if planted(Bug::EpochNotDurable) {
            port.force_request(crate::shard::Request::Edits(naming, crate::reply::Reply::new()));
        } else {
            change(&port, naming)?;
        }
        port.view.begin_epoch(self.id, epoch, first_lsn);
        if port.view.lock().log(self.id).is_none() {
            return Err(gone(self.id));
        }
        let record_bytes_max = self.inner.facts.record_bytes_max as usize;
        Ok(Writer::new(port, self.id, first, record_bytes_max))
    }

    /// Reads from anywhere; ends at the durable end unless it is made to
    /// [`follow`](Reader::follow).
    ///
    /// # Errors
    /// `Trimmed` and `Unwritten` when there is nothing at the place asked for, `Diverged` when the
    /// record of the position asked for was cut; `NoSuchLog` when the log was deleted.
    pub fn reader(&self, from: From) -> Result<Reader> {
        let source = self.inner.source(self.id.shard());
        let (start, next, epoch, dropped) = {
            let view = source.view.lock();
            let log = view.log(self.id).ok_or_else(|| gone(self.id))?;
            let position = match from {
                From::At(position) | From::After(position) => log.cuts().dropped(position),
                _ => None,
            };
            (log.start, log.next, log.epoch, position)
        };
        let mut not_before_us = 0;
        let mut expect = None;
        let at = match from {
            From::Start => start,
            From::Tail => next,
            From::Lsn(lsn) => lsn,
            From::At(position) => {
                expect = Some((position, false));
                position.lsn
            }
            // The record was read before it was truncated: nothing is missed.
            From::After(position) if position.lsn.next() == start => start,
            From::After(position) => {
                expect = Some((position, true));
                position.lsn
            }
            From::Time(time_us) => {
                not_before_us = time_us;
                self.before_time(&source, time_us)?.max(start)
            }
        };
        if at < start && !planted(Bug::TrimmedNotTold) {
            return Err(Error::Trimmed { start });
        }
        if let Some(Position { epoch, lsn }) = dropped {
            return Err(Error::Diverged { epoch, lsn });
        }
        if at > next || (expect.is_some() && at == next) {
            return Err(Error::Unwritten { tail: next });
        }
        let reads = Arc::clone(&self.inner.reads);
        let from = Position { epoch, lsn: at };
        Ok(Reader::new(source, reads, self.id, from, not_before_us, expect))
    }

    /// An LSN at or before the first record that is not older than `time_us`.
    fn before_time(&self, source: &Source, time_us: u64) -> Result<Lsn> {
        let (mut link, mut found) = {
            let view = source.view.lock();
            let log = view.log(self.id);
            let (start, next) = log.map_or((Lsn(0), Lsn(0)), |log| (log.start, log.next));
            let mut found = next;
            for seen in view.segments.values().rev() {
                let Some(live) = &seen.live else { continue };
                match live.lsn_before_time(self.id, time_us) {
                    // Not later than what was found: below a cut stands what it dropped.
                    Some(Some(lsn)) => found = found.min(lsn),
                    Some(None) => return Ok(found),
                    None => {}
                }
            }
            (log.and_then(|log| log.chain.last()), found.max(start))
        };
        while let Some(at) = link {
            // Its index is not here: from the start on, records are looked at one by one.
            let Some(which) = source.view.which(at.segment) else { return Ok(Lsn(0)) };
            let entry = match source.indexes.find(&source.view.files, &which, self.id) {
                Err(_) if !source.view.has(at.segment) => return Ok(Lsn(0)),
                // It moved into another file meanwhile: there again.
                Err(_) if source.view.which(at.segment).map(|now| now.file) != Some(which.file) => {
                    continue;
                }
                entry => entry?,
            };
            let Some(entry) = entry else { break };
            if entry.last_time_us < time_us {
                break;
            }
            let before = |p: &crate::format::index::Posting| p.time_us < time_us;
            let files = &source.view.files;
            let (postings, _) = source.indexes.postings(files, &which, &entry, before)?;
            let posting = postings.first().filter(|posting| before(posting));
            found = found.min(posting.map_or(entry.first_lsn, |posting| posting.lsn));
            if entry.first_time_us < time_us {
                break;
            }
            link = entry.prev;
        }
        Ok(found)
    }

    /// The log's facts as they are now.
    ///
    /// # Errors
    /// `NoSuchLog` when it is gone.
    pub fn info(&self) -> Result<LogInfo> {
        let catalog = self.inner.catalog.read();
        let entry = catalog.get(self.id);
        let info = entry.and_then(|entry| self.inner.info(entry));
        info.ok_or_else(|| gone(self.id))
    }

    /// The first LSN kept.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub fn start(&self) -> Result<Lsn> {
        Ok(self.info()?.start)
    }

    /// The durable end: every LSN below it is durable (from the start on).
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub fn durable(&self) -> Result<Lsn> {
        Ok(self.info()?.durable)
    }

    /// Moves the start of the log up to `lsn`, durably: everything below it is gone for readers,
    /// who are told `Trimmed`. `lsn` may be the durable end, which leaves nothing. The space comes
    /// back later, segment by segment, once no log needs one. Below the start there is nothing to
    /// do, which is no error. Durable cursors do not hold it: unlike retention, this is the owner's
    /// explicit choice, and a consumer that was further back is told `Trimmed`.
    ///
    /// A caller that stops waiting (an error) may find the start moved all the same.
    ///
    /// # Errors
    /// `Unwritten` beyond the durable end, and beyond a cut under way; `Invalid` in a read-only
    /// engine; else as the shard says.
    pub fn truncate(&self, lsn: Lsn) -> Result<()> {
        let port = self.inner.port(self.id.shard())?;
        {
            let view = port.view.lock();
            let log = view.log(self.id).ok_or_else(|| gone(self.id))?;
            if lsn > log.next {
                return Err(Error::Unwritten { tail: log.next });
            }
            if lsn <= log.start {
                return Ok(());
            }
        }
        let asked = port.intake.ask_start(self.id.counter() as usize, lsn);
        asked.map_err(|tail| Error::Unwritten { tail })?;
        change(&port, vec![Edit::Start { log: self.id, start: lsn }])?;
        port.view.raise_start(self.id, lsn);
        Ok(())
    }

    /// Goes on without what `damage` names, durably: every later reader is told `Lost`, once, and
    /// reads on behind it. The choice that [`Recovery::Salvage`](crate::Recovery) makes for what
    /// recovery finds, here for damage that a reader met. Damage of unknown extent costs one LSN.
    ///
    /// # Errors
    /// `Invalid` for damage of another log, for damage at the log's end (only `Recovery::Salvage`
    /// moves that), and in a read-only engine; else as the shard says.
    pub fn salvage(&self, damage: &Damage) -> Result<()> {
        if damage.log != Some(self.id) {
            return Err(Error::Invalid(format!("this is no damage of log {:?}", self.name)));
        }
        let port = self.inner.port(self.id.shard())?;
        if port.view.lock().log(self.id).is_none_or(|log| damage.first >= log.next) {
            return Err(Error::Invalid("damage at the log's end: open with Salvage".into()));
        }
        let facts = damage::give_up(self.id, damage);
        change(&port, vec![Edit::Damage(facts)])?;
        if let Some(log) = port.view.lock().log_mut(self.id) {
            log.change_damages(|damages| {
                damages.retain(|d| (d.first_lsn, d.segment) != (facts.first_lsn, facts.segment));
                damages.push(facts);
            });
        }
        Ok(())
    }

    /// Changes the log's settings, durably.
    ///
    /// # Errors
    /// As the shard says; `Invalid` in a read-only engine; `NoSuchLog` when the log was deleted.
    pub fn set(&self, settings: LogSettings) -> Result<()> {
        let port = self.inner.port(self.id.shard())?;
        self.info()?;
        change(&port, vec![Edit::Settings { log: self.id, settings }])?;
        self.inner.catalog.write().set(self.id, settings);
        Ok(())
    }

    /// The durable cursor of this name, set or not.
    ///
    /// # Errors
    /// `Invalid` for a name that no cursor can have.
    pub fn cursor(&self, name: &str) -> Result<Cursor> {
        Cursor::new(Arc::clone(&self.inner), self.id, name)
    }

    /// The log's durable cursors that are set, by name, each with the next LSN it wants.
    ///
    /// # Errors
    /// `NoSuchLog` when the log was deleted.
    pub fn cursors(&self) -> Result<Vec<(String, Lsn)>> {
        let view = self.inner.view(self.id.shard());
        let view = view.lock();
        view.log(self.id).ok_or_else(|| gone(self.id))?;
        let cursors = view.cursors.of(self.id).iter();
        Ok(cursors.map(|(name, lsn)| (String::from(&**name), *lsn)).collect())
    }
}
