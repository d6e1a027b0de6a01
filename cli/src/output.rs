//! Stdout, buffered in large pieces, and lines to stderr.
//!
//! Invariants: a full disk under stderr ends nothing; a reader that went away (`| head`) ends the
//! command without a message; every other failure to write is told.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Error, Result};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 512 << 10;

/// Nobody reads stdout any more.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed by its reader")
    }
}

impl std::error::Error for StdoutClosed {}

/// A line to stderr. That it cannot be written there is nothing to end for.
pub(crate) fn tell(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<File>);

impl Output {
    /// Stdout. What was printed otherwise must have been flushed.
    pub(crate) fn stdout() -> Result<Self> {
        let fd = io::stdout().as_fd().try_clone_to_owned().context("opening stdout")?;
        Ok(Self(BufWriter::with_capacity(BUFFER_BYTES, File::from(fd))))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(closed)
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<()> {
        writeln!(self.0, "{line}").map_err(closed)
    }

    /// Hands on what was gathered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => Error::new(error).context("writing to stdout"),
    }
}
