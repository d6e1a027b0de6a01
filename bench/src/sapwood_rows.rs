//! Sapwood's rows: threads that block, threads with tickets, async tasks, batches, and a shard that
//! the caller drives.
//!
//! Invariants: one writer per log, which all threads share; an error of any append ends the run;
//! what a run wrote is read back after it; a run on prewritten segments that outgrew them is
//! refused, not printed.
//!
//! Not here: the directory (`bed`), following (`follow`), opening (`recovery`).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sapwood::{Batch, Driving, Error, Ticket, Writer};

use crate::bed::Bed;
use crate::load::{self, Handle, Load};
use crate::meter::Meter;
use crate::sample::{Sample, Stages};
use crate::subject::{Cell, Segments, Subject};
use crate::tally::Written;
use crate::tasks::{self, AsyncHandle};
use crate::verify;

/// How long a thread without room waits before it asks again.
const BUSY_PAUSE: Duration = Duration::from_micros(50);

/// Appends through an engine with a shard thread of its own. What a thread does follows from the
/// load: one outstanding blocks, more are tickets or tasks, several records are a batch.
pub struct Sapwood {
    /// State of its segments.
    pub segments: Segments,
    bed: Option<Bed>,
    /// What the last run wrote: the next will write about as much.
    last_bytes: u64,
}

impl Sapwood {
    /// The row for these segments.
    #[must_use]
    pub fn new(segments: Segments) -> Sapwood {
        Sapwood { segments, bed: None, last_bytes: 0 }
    }

    /// The bed of the run before, or a new one when that has no room left.
    fn bed(&mut self, cell: &Cell) -> Result<&Bed> {
        let expected = self.last_bytes + self.last_bytes / 4;
        if self.bed.as_ref().is_none_or(|bed| !bed.has_room(expected)) {
            self.bed = None;
            let dir = cell.dir.join(self.name());
            self.bed = Some(Bed::make(cell, dir, self.segments)?);
        }
        self.bed.as_ref().context("just made")
    }
}

impl Subject for Sapwood {
    fn name(&self) -> &str {
        match self.segments {
            Segments::Prewritten => "sapwood",
            Segments::Fresh => "sapwood-fresh",
        }
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        self.bed(cell).map(drop)
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let bed = self.bed(cell)?;
        let before = bed.used();
        let sample = measured(bed, || run(&bed.writers, &cell.load, &Meter::new(&cell.dir)))?;
        bed.check()?;
        self.last_bytes = bed.used() - before;
        Ok(sample)
    }
}

/// A run with the stages of its batches; everything it wrote is read back.
pub(crate) fn measured(
    bed: &Bed,
    run: impl FnOnce() -> Result<(Sample, Written)>,
) -> Result<Sample> {
    let (ends, before) = (verify::ends(&bed.logs)?, bed.counted());
    let (sample, written) = run()?;
    let stages = Some(Stages::between(&before, &bed.counted()));
    let verified = Some(verify::read_back(&bed.logs, &ends, &written)?);
    Ok(Sample { stages, verified, ..sample })
}

/// The load over these writers, one per log.
pub(crate) fn run(
    writers: &Arc<[Writer]>,
    load: &Load,
    meter: &Meter,
) -> Result<(Sample, Written)> {
    let each = || (0..load.threads).map(|_| Arc::clone(writers));
    if load.records > 1 {
        let record_bytes = load.record_bytes;
        let batch = Batch::new();
        let handle = |writers| Batches { writers, batch: batch.clone(), record_bytes };
        return load::drive_counted(each().map(handle).collect(), load, meter);
    }
    if load.tasks {
        return tasks::drive(each().map(Tasks).collect(), load, meter);
    }
    if load.outstanding > 1 {
        return load::drive_counted(each().map(Tickets).collect(), load, meter);
    }
    load::drive_counted(each().map(Blocked).collect(), load, meter)
}

/// The same load on a shard that the measuring thread itself drives.
#[derive(Default)]
pub struct Driven {
    bed: Option<(Bed, Driving)>,
}

impl Subject for Driven {
    fn name(&self) -> &str {
        "sapwood-driven"
    }

    fn prepare(&mut self, cell: &Cell) -> Result<()> {
        let dir = cell.dir.join(self.name());
        self.bed = Some(Bed::make_driven(cell, dir)?);
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Sample> {
        let (bed, _) = self.bed.as_ref().context("was not prepared")?;
        let handle = Blocked(Arc::clone(&bed.writers));
        let meter = Meter::new(&cell.dir);
        let sample = measured(bed, || load::drive_here(handle, &cell.load, &meter))?;
        bed.check()?;
        Ok(sample)
    }
}

/// A thread that blocks on each append.
struct Blocked(Arc<[Writer]>);

impl Handle for Blocked {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.submit_to(0, payload)
    }

    fn submit_to(&mut self, log: usize, payload: &[u8]) -> Result<()> {
        self.0[log].append(payload).wait().map_err(|rejected| rejected.error)?;
        Ok(())
    }

    fn wait((): ()) -> Result<()> {
        Ok(())
    }
}

/// A thread with tickets.
struct Tickets(Arc<[Writer]>);

impl Handle for Tickets {
    type Ticket = Ticket;

    fn submit(&mut self, payload: &[u8]) -> Result<Ticket> {
        self.submit_to(0, payload)
    }

    fn submit_to(&mut self, log: usize, payload: &[u8]) -> Result<Ticket> {
        loop {
            match self.0[log].submit(payload).map_err(|rejected| rejected.error) {
                Ok(ticket) => return Ok(ticket),
                Err(Error::Busy) => thread::sleep(BUSY_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(ticket: Ticket) -> Result<()> {
        ticket.wait()?;
        Ok(())
    }
}

/// An executor with tasks.
struct Tasks(Arc<[Writer]>);

impl AsyncHandle for Tasks {
    fn append(
        &self,
        log: usize,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let append = self.0[log].append(payload);
        async move {
            append.await.map_err(|rejected| rejected.error)?;
            Ok(())
        }
    }
}

/// A thread that appends batches; putting one together is part of the operation.
struct Batches {
    writers: Arc<[Writer]>,
    batch: Batch,
    record_bytes: usize,
}

impl Handle for Batches {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.submit_to(0, payload)
    }

    fn submit_to(&mut self, log: usize, payload: &[u8]) -> Result<()> {
        self.batch.clear();
        for record in payload.chunks(self.record_bytes) {
            self.batch.push(record);
        }
        let appended = self.writers[log].append(&self.batch).wait();
        let ack = appended.map_err(|rejected| rejected.error)?;
        let wanted = self.batch.len();
        if ack.records as usize == wanted {
            return Ok(());
        }
        Err(anyhow!("{} of {wanted} records were acked", ack.records))
    }

    fn wait((): ()) -> Result<()> {
        Ok(())
    }
}
