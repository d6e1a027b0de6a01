//! Input to batches: cuts lines (or takes whole files) and submits them to a writer.
//!
//! Invariants:
//! - A line is a record without its newline; one that ends the input without a newline is a record
//!   too. Input that ends with a newline has no empty last line.
//! - What has been read is submitted before more is waited for: a slow pipe is never held back.
//! - At most [`TICKETS_MAX`] batches are submitted and not yet durable.
//!
//! Not here: waiting for tickets (`append`).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use anyhow::{Context, Result, bail};
use memchr::memchr_iter;
use sapwood::{Ack, Batch, Error, Ticket, Writer};

use crate::exit::{Exit, Failure};

/// Batches that may be submitted and not yet durable.
pub(crate) const TICKETS_MAX: usize = 16;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// A batch is submitted when its records take this much room.
const BATCH_BYTES: usize = 256 << 10;

/// Room that a record takes besides its payload, at most.
const RECORD_FRAME_BYTES: usize = 56;

/// Where lines come from.
pub(crate) struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    /// Its size, if that is known.
    pub(crate) bytes: Option<u64>,
}

impl Input {
    /// Opens the files, or stdin when there are none; `-` is stdin too.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Vec<Self>> {
        if files.is_empty() {
            return Ok(vec![Self::stdin()]);
        }
        files.iter().map(|path| Self::file(path)).collect()
    }

    fn stdin() -> Self {
        Self { name: "stdin".into(), reader: Box::new(std::io::stdin()), bytes: None }
    }

    fn file(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::stdin());
        }
        let name = path.display().to_string();
        let opening = || format!("opening {name}");
        let file = File::open(path).with_context(opening)?;
        let facts = file.metadata().with_context(opening)?;
        if facts.is_dir() {
            bail!("{name} is a directory; give files");
        }
        let bytes = facts.is_file().then_some(facts.len());
        Ok(Self { name, reader: Box::new(file), bytes })
    }
}

/// A submitted batch.
pub(crate) struct Submitted {
    pub fate: Fate,
    pub bytes: u64,
}

/// How a submitted batch is waited for.
pub(crate) enum Fate {
    Staged(Ticket),
    /// There was no room to stage it without waiting, so it was waited for.
    Durable(Ack),
}

/// What the feeding came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fed {
    /// Records met in the input, skipped ones included.
    pub records: u64,
}

/// Cuts the inputs into records.
pub(crate) struct Feeder {
    pub writer: Writer,
    pub record_bytes_max: usize,
    pub out: SyncSender<Submitted>,
    /// Records to pass over first.
    pub skip: u64,
    /// An input is one record.
    pub whole: bool,
    batch: Batch,
    framed_bytes: usize,
    batch_bytes_max: usize,
    fed: Fed,
}

impl Feeder {
    pub(crate) fn new(
        writer: Writer,
        facts: &sapwood::format::DirectoryFacts,
        out: SyncSender<Submitted>,
    ) -> Self {
        Self {
            writer,
            record_bytes_max: facts.record_bytes_max as usize,
            out,
            skip: 0,
            whole: false,
            batch: Batch::new(),
            framed_bytes: 0,
            batch_bytes_max: BATCH_BYTES.min(facts.batch_bytes_max as usize / 2),
            fed: Fed::default(),
        }
    }

    /// Feeds all inputs, one after the other.
    pub(crate) fn run(mut self, inputs: Vec<Input>) -> Result<Fed> {
        for input in inputs {
            let fed = if self.whole { self.whole(input) } else { self.lines(input) };
            // What came before a bad line is appended.
            self.submit()?;
            fed?;
        }
        Ok(self.fed)
    }

    fn lines(&mut self, input: Input) -> Result<()> {
        let Input { name, reader, .. } = input;
        let mut reader = BufReader::with_capacity(READ_BYTES, reader);
        let mut line = 0u64;
        let mut begun: Vec<u8> = Vec::new();
        loop {
            let bytes = reader.fill_buf().with_context(|| format!("reading {name}"))?;
            if bytes.is_empty() {
                break;
            }
            let mut start = 0;
            for end in memchr_iter(b'\n', bytes) {
                line += 1;
                let rest = &bytes[start..end];
                self.fits(begun.len() + rest.len(), &name, Some(line))?;
                if begun.is_empty() {
                    self.push(rest)?;
                } else {
                    begun.extend_from_slice(rest);
                    self.push(&begun)?;
                    begun.clear();
                }
                start = end + 1;
            }
            let rest = &bytes[start..];
            self.fits(begun.len() + rest.len(), &name, Some(line + 1))?;
            begun.extend_from_slice(rest);
            let read = bytes.len();
            reader.consume(read);
            self.submit()?;
        }
        if !begun.is_empty() {
            self.push(&begun)?;
        }
        Ok(())
    }

    fn whole(&mut self, input: Input) -> Result<()> {
        let Input { name, reader, .. } = input;
        let mut bytes = Vec::new();
        // One byte more than fits tells that it does not.
        let read = reader.take(self.record_bytes_max as u64 + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("reading {name}"))?;
        self.fits(bytes.len(), &name, None)?;
        self.push(&bytes)
    }

    fn fits(&self, bytes: usize, name: &str, line: Option<u64>) -> Result<()> {
        if bytes <= self.record_bytes_max {
            return Ok(());
        }
        let place = line.map_or_else(|| name.to_owned(), |line| format!("{name}, line {line}"));
        Err(Failure::new(
            Exit::Usage,
            format!(
                "{place}: longer than the {} bytes that a record of this directory may have; what \
                 came before it is appended (--record-max sets the limit of a new directory)",
                self.record_bytes_max
            ),
        )
        .into())
    }

    fn push(&mut self, payload: &[u8]) -> Result<()> {
        self.fed.records += 1;
        if self.fed.records <= self.skip {
            return Ok(());
        }
        let framed = payload.len() + RECORD_FRAME_BYTES;
        if !self.batch.is_empty() && self.framed_bytes + framed > self.batch_bytes_max {
            self.submit()?;
        }
        self.batch.push(payload);
        self.framed_bytes += framed;
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let fate = match self.writer.submit(&self.batch) {
            Ok(ticket) => Fate::Staged(ticket),
            Err(rejected) => match rejected.error {
                Error::Busy => {
                    let appended = self.writer.append(&self.batch).wait();
                    Fate::Durable(appended.map_err(|rejected| rejected.error)?)
                }
                // What the input may hold was checked: this process has too little memory for it.
                Error::Invalid(what) => {
                    let message = format!("{what} (--stage-size)");
                    return Err(Failure::new(Exit::Usage, message).into());
                }
                error => return Err(error.into()),
            },
        };
        let bytes = self.batch.bytes() as u64;
        self.batch.clear();
        self.framed_bytes = 0;
        // Nobody waits any more: an earlier batch failed, and that is what is told.
        self.out.send(Submitted { fate, bytes }).ok().context("an earlier append failed")
    }
}
