//! Reading a segment from front to back: a window of aligned memory that slides over the file.
//!
//! Invariants: memory is bounded by one batch and a few blocks, whatever the file's size; blocks
//! are read ahead on threads of their own where there are any. A block that cannot be read is
//! read again unit by unit, and what stays unreadable shows as zeros: damage, which the caller
//! tells.
//! - A window over a whole range reads it at full speed from the start, as recovery does. One of a
//!   reader begins with few bytes and reads more with each block, ahead only when it has come far:
//!   readers are many, and most want a few records.
//!
//! Not here: what the bytes mean (`recover`, `catchup`).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{Error, Result};
use crate::files::{Ahead, Files, What};
use crate::format::UNIT_MIN;
use crate::io::buf::AlignedBuf;
use crate::io::{File, Storage};
use crate::lsn::ShardId;

/// Bytes of one read.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

/// Threads that read ahead: a device gives its bandwidth only to several requests at once (measured
/// here: four reads of 1 MiB give 1.6 times what one gives).
const LANES: usize = 4;

/// Blocks of each lane: one that is looked at or waits, one that is being read.
const LANE_BLOCKS: usize = 2;

/// So far beyond what is at hand a reader goes on block by block; farther, it begins anew there.
const NEAR_BYTES: u64 = 32 << 10;

/// Ranges up to this size, as most readers have, are read without threads.
const SHORT_BYTES: u64 = 4 << 20;

type Block = (AlignedBuf, usize);

/// Where a window finds its file.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Open for as long as the window is.
    Open(File),
    /// The file of a segment, as readers share it: asked for at each read.
    Shared { files: Arc<Files>, shard: ShardId, number: u64 },
}

impl Origin {
    fn file(&self, storage: &dyn Storage) -> io::Result<File> {
        match self {
            Self::Open(file) => Ok(file.clone()),
            Self::Shared { files, shard, number } => {
                files.get(storage, *shard, What::Segment(*number))
            }
        }
    }
}

/// A window that slides over a range of a file. Bytes are looked at in the block that was read;
/// only what straddles two blocks is put together in memory of its own.
pub(crate) struct Window {
    blocks: Blocks,
    /// The block at hand, and the offset in the file of its first byte.
    block: Option<Block>,
    block_at: u64,
    /// What straddles, and the offset of its first byte.
    carry: Vec<u8>,
    carry_at: u64,
    end: u64,
}

enum Blocks {
    /// Read on the calling thread.
    Here(Here),
    /// Read ahead by threads that take the blocks of the range in turns.
    Ahead { lanes: Vec<Lane>, next: usize, given: usize, _leave: Option<Ahead> },
}

struct Here {
    storage: Arc<dyn Storage>,
    origin: Origin,
    from: u64,
    at: u64,
    end: u64,
    /// Bytes of the next read.
    bytes: usize,
    block: Option<AlignedBuf>,
    /// There are no threads to read ahead with.
    alone: bool,
}

/// One reading thread: full blocks come, empty ones go back to be used again.
struct Lane {
    full: Receiver<io::Result<Block>>,
    empty: SyncSender<AlignedBuf>,
}

impl Window {
    /// A window over `from..end`.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        file: &File,
        from: u64,
        end: u64,
    ) -> Result<Self> {
        let long = end.saturating_sub(from) > SHORT_BYTES;
        let ahead = if long { read_ahead(storage, file, from, end, None) } else { None };
        let blocks = ahead.unwrap_or_else(|| {
            let origin = Origin::Open(file.clone());
            Blocks::Here(Here::new(storage, origin, from, end, BLOCK_BYTES))
        });
        Ok(Self::with(blocks, from, end))
    }

    /// A window over `from..end` for a reader that expects to need `bytes` of it.
    pub(crate) fn slow(
        storage: &Arc<dyn Storage>,
        origin: Origin,
        from: u64,
        end: u64,
        bytes: usize,
    ) -> Self {
        let bytes = bytes.next_multiple_of(UNIT_MIN).clamp(UNIT_MIN, BLOCK_BYTES);
        Self::with(Blocks::Here(Here::new(storage, origin, from, end, bytes)), from, end)
    }

    fn with(blocks: Blocks, from: u64, end: u64) -> Self {
        let (carry, carry_at) = (Vec::new(), from);
        Self { blocks, block: None, block_at: from, carry, carry_at, end }
    }

    /// Whether `offset` has not slid out of the window yet.
    pub(crate) fn reaches_back_to(&self, offset: u64) -> bool {
        offset >= self.block_at || (!self.carry.is_empty() && offset >= self.carry_at)
    }

    /// Whether `offset` is at hand, or comes with the next block or so: worth going on to.
    pub(crate) fn is_near(&self, offset: u64) -> bool {
        self.reaches_back_to(offset) && offset <= self.block_end() + NEAR_BYTES
    }

    /// The bytes from `offset` on: at least `len` of them unless the range ends before. Offsets
    /// must not go back behind what was asked for before.
    pub(crate) fn at(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let want = (offset + len as u64).min(self.end);
        let in_block = offset >= self.block_at && want <= self.block_end();
        if !in_block {
            self.put_together(offset, want)?;
        }
        if offset >= self.block_at && want.min(self.end) <= self.block_end() {
            let from = (offset.min(self.block_end()) - self.block_at) as usize;
            return Ok(self.block_bytes().get(from..).unwrap_or_default());
        }
        let from = (offset - self.carry_at) as usize;
        Ok(self.carry.get(from..).unwrap_or_default())
    }

    fn block_bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |(buf, len)| &buf[..*len])
    }

    fn block_end(&self) -> u64 {
        self.block_at + self.block_bytes().len() as u64
    }

    /// Makes `offset..want` contiguous: in the next block, or across blocks in `carry`.
    fn put_together(&mut self, offset: u64, want: u64) -> Result<()> {
        let carried = self.carry_at + self.carry.len() as u64;
        if !self.carry.is_empty() && offset >= self.carry_at && offset < carried {
            self.carry.drain(..(offset - self.carry_at) as usize);
        } else {
            self.carry.clear();
        }
        self.carry_at = offset;
        loop {
            let have = self.carry_at + self.carry.len() as u64;
            // `end` moves back when the file turns out to be shorter.
            if have >= want.min(self.end) {
                return Ok(());
            }
            if have >= self.block_end() {
                self.fetch()?;
                if self.carry.is_empty() && want <= self.block_end() {
                    return Ok(()); // all of it lies in the new block
                }
                continue;
            }
            let upto = want.min(self.block_end());
            let (from, to) = ((have - self.block_at) as usize, (upto - self.block_at) as usize);
            let Some((buf, _)) = &self.block else { return Ok(()) };
            self.carry.extend_from_slice(&buf[from..to]);
        }
    }

    fn fetch(&mut self) -> Result<()> {
        self.block_at = self.block_end();
        if let Some((buf, _)) = self.block.take() {
            self.blocks.give_back(buf);
        }
        let (buf, len) = self.next_block()?;
        self.block = Some((buf, len));
        if len == 0 {
            self.end = self.end.min(self.block_at);
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Block> {
        let doing = |e| Error::io("reading a segment", e);
        if let Blocks::Here(here) = &mut self.blocks
            && let Some(ahead) = here.go_ahead()
        {
            self.blocks = ahead;
        }
        match &mut self.blocks {
            Blocks::Ahead { lanes, next, given, .. } => {
                *given = *next;
                *next = (*next + 1) % lanes.len();
                match lanes[*given].full.recv() {
                    Ok(block) => block.map_err(doing),
                    Err(_) => Ok((AlignedBuf::zeroed(UNIT_MIN).map_err(doing)?, 0)),
                }
            }
            Blocks::Here(here) => here.next_block().map_err(doing),
        }
    }
}

impl Here {
    fn new(storage: &Arc<dyn Storage>, origin: Origin, from: u64, end: u64, bytes: usize) -> Self {
        let storage = Arc::clone(storage);
        Self { storage, origin, from, at: from, end, bytes, block: None, alone: false }
    }

    fn next_block(&mut self) -> io::Result<Block> {
        let len = (self.end.saturating_sub(self.at) as usize).min(self.bytes);
        self.bytes = (2 * self.bytes).min(BLOCK_BYTES);
        let buf = self.block.take().filter(|buf| buf.len() >= len);
        let mut buf = match buf {
            Some(buf) => buf,
            None => AlignedBuf::zeroed(len.next_multiple_of(UNIT_MIN).max(UNIT_MIN))?,
        };
        let file = self.origin.file(&*self.storage)?;
        let got = read_block(&*self.storage, &file, self.at, &mut buf, len)?;
        self.at += got as u64;
        Ok((buf, got))
    }

    /// The rest of the range read ahead, for a reader that has come far and has far to go.
    fn go_ahead(&mut self) -> Option<Blocks> {
        let Origin::Shared { files, .. } = &self.origin else { return None };
        let near = self.at - self.from < SHORT_BYTES;
        if self.alone || near || self.end.saturating_sub(self.at) <= SHORT_BYTES {
            return None;
        }
        let leave = files.read_ahead()?;
        let file = self.origin.file(&*self.storage).ok()?;
        let ahead = read_ahead(&self.storage, &file, self.at, self.end, Some(leave));
        self.alone = ahead.is_none();
        ahead
    }
}

impl Blocks {
    fn give_back(&mut self, buf: AlignedBuf) {
        match self {
            Self::Ahead { lanes, given, .. } => {
                let _ = lanes[*given].empty.try_send(buf);
            }
            Self::Here(here) => here.block = Some(buf),
        }
    }
}

fn read_ahead(
    storage: &Arc<dyn Storage>,
    file: &File,
    from: u64,
    end: u64,
    leave: Option<Ahead>,
) -> Option<Blocks> {
    let lanes: Option<Vec<_>> = (0..LANES).map(|n| lane(storage, file, from, end, n)).collect();
    Some(Blocks::Ahead { lanes: lanes?, next: 0, given: 0, _leave: leave })
}

/// Starts the thread that reads every [`LANES`]th block, from the `n`th on.
fn lane(storage: &Arc<dyn Storage>, file: &File, from: u64, end: u64, n: usize) -> Option<Lane> {
    let (full_in, full) = sync_channel(LANE_BLOCKS);
    let (empty, empty_out) = sync_channel(LANE_BLOCKS + 1);
    for _ in 0..LANE_BLOCKS {
        empty.try_send(AlignedBuf::zeroed(BLOCK_BYTES).ok()?).ok()?;
    }
    let (disk, file) = (Arc::clone(storage), file.clone());
    let run = move || {
        let mut at = from + (n * BLOCK_BYTES) as u64;
        while at < end {
            let Ok(mut buf) = empty_out.recv() else { return };
            let len = ((end - at) as usize).min(BLOCK_BYTES);
            let block = read_block(&*disk, &file, at, &mut buf, len);
            // Short: the file ends here; the other lanes find that out for themselves.
            let stop = !matches!(block, Ok(got) if got == len);
            at += (LANES * BLOCK_BYTES) as u64;
            if full_in.send(block.map(|got| (buf, got))).is_err() || stop {
                return;
            }
        }
    };
    storage.spawn("sapwood-scan".into(), Box::new(run), None).ok()?;
    Some(Lane { full, empty })
}

/// Reads a block; where the device fails, unit by unit, zeros for what stays unreadable.
fn read_block(
    storage: &dyn Storage,
    file: &File,
    at: u64,
    buf: &mut AlignedBuf,
    len: usize,
) -> io::Result<usize> {
    let error = match storage.read_at(file, at, buf, len) {
        Ok(got) => return Ok(got),
        Err(error) => error,
    };
    tracing::warn!(offset = at, %error, "a block cannot be read; trying it unit by unit");
    let mut unit = AlignedBuf::zeroed(UNIT_MIN)?;
    let mut read_any = false;
    for start in (0..len).step_by(UNIT_MIN) {
        let size = UNIT_MIN.min(len - start);
        match storage.read_at(file, at + start as u64, &mut unit, size) {
            Ok(0) => return Ok(start),
            Ok(got) => {
                buf[start..start + got].copy_from_slice(&unit[..got]);
                read_any = true;
            }
            Err(_) => buf[start..start + size].fill(0),
        }
    }
    // Nothing at all of a whole block: the device is gone, not a sector.
    if read_any { Ok(len) } else { Err(error) }
}
