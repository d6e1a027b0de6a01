//! Sapwood's rows: threads that block, threads with tickets, batches, and a shard that the caller
//! drives.
//!
//! Invariants: one log and one writer, whose clones the threads share; an error of any append
//! ends the run; a run on prewritten segments that outgrew them is refused, not printed.
//!
//! Not here: the directory (`bed`), following (`follow`), opening (`recovery`).

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sapwood::{Batch, Driving, Error, Ticket, Writer};

use crate::bed::Bed;
use crate::load::{self, Handle, Load};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::subject::{Cell, Segments, Subject};

/// How long a thread without room waits before it asks again.
const BUSY_PAUSE: Duration = Duration::from_micros(50);

/// Appends through an engine with a shard thread of its own. What a thread does follows from the
/// load: one outstanding blocks, more are tickets, several records are a batch.
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
        let sample = run(&bed.writer, &cell.load, &Meter::new(&cell.dir))?;
        bed.check()?;
        self.last_bytes = bed.used() - before;
        Ok(sample)
    }
}

fn run(writer: &Writer, load: &Load, meter: &Meter) -> Result<Sample> {
    let count = load.threads;
    let writers = (0..count).map(|_| writer.clone());
    if load.records > 1 {
        let record_bytes = load.record_bytes;
        let batch = Batch::new();
        let handle = |writer| Batches { writer, batch: batch.clone(), record_bytes };
        return load::drive(writers.map(handle).collect(), load, meter);
    }
    if load.outstanding > 1 {
        return load::drive(writers.map(Tickets).collect(), load, meter);
    }
    load::drive(writers.map(Blocked).collect(), load, meter)
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
        let handle = Blocked(bed.writer.clone());
        let sample = load::drive_here(handle, &cell.load, &Meter::new(&cell.dir))?;
        bed.check()?;
        Ok(sample)
    }
}

/// A thread that blocks on each append.
struct Blocked(Writer);

impl Handle for Blocked {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.0.append(payload).wait().map_err(|rejected| rejected.error)?;
        Ok(())
    }

    fn wait(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}

/// A thread with tickets.
struct Tickets(Writer);

impl Handle for Tickets {
    type Ticket = Ticket;

    fn submit(&mut self, payload: &[u8]) -> Result<Ticket> {
        loop {
            match self.0.submit(payload).map_err(|rejected| rejected.error) {
                Ok(ticket) => return Ok(ticket),
                Err(Error::Busy) => thread::sleep(BUSY_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&mut self, ticket: Ticket) -> Result<()> {
        ticket.wait()?;
        Ok(())
    }
}

/// A thread that appends batches; putting one together is part of the operation.
struct Batches {
    writer: Writer,
    batch: Batch,
    record_bytes: usize,
}

impl Handle for Batches {
    type Ticket = ();

    fn submit(&mut self, payload: &[u8]) -> Result<()> {
        self.batch.clear();
        for record in payload.chunks(self.record_bytes) {
            self.batch.push(record);
        }
        let appended = self.writer.append(&self.batch).wait();
        let ack = appended.map_err(|rejected| rejected.error)?;
        let wanted = self.batch.len();
        if ack.records as usize == wanted {
            return Ok(());
        }
        Err(anyhow!("{} of {wanted} records were acked", ack.records))
    }

    fn wait(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}
