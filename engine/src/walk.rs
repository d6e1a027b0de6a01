//! Walking through the entries of an index file in a running shard: a bounded piece per operation.
//!
//! Invariants: one operation under way; nothing is believed that does not decode as a part of this
//! very index.
//!
//! Not here: what the entries are wanted for (`collect`), look-ups that may block (`index`).

use std::io;

use crate::format::index::{EntryBlock, INDEX_BLOCK_BYTES, IndexEntry, IndexHeader};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Done, File, Mode, Op};
use crate::lsn::{SegmentId, ShardId};
use crate::names;

/// Entry blocks of one read.
const BLOCKS: usize = 16;

enum Step {
    Opening,
    Head(File),
    Blocks { file: File, header: Box<IndexHeader> },
}

/// See the module.
pub(crate) struct Walk {
    shard: ShardId,
    pub segment: SegmentId,
    number: u64,
    /// The next block.
    block: u32,
    step: Step,
}

/// What a piece came to.
pub(crate) enum Piece {
    /// There is more.
    More,
    /// All entries were seen, or whoever looks has seen enough.
    End,
}

impl Walk {
    /// Through the index in file `number`, from this block on.
    pub(crate) fn new(shard: ShardId, segment: SegmentId, number: u64, block: u32) -> Self {
        Self { shard, segment, number, block, step: Step::Opening }
    }

    /// The operation that comes next.
    pub(crate) fn op(&self) -> io::Result<Op> {
        Ok(match &self.step {
            Step::Opening => {
                Op::Open { name: names::index(self.shard, self.number), mode: Mode::Read }
            }
            Step::Head(file) => {
                let buf = AlignedBuf::zeroed(INDEX_BLOCK_BYTES)?;
                Op::Read { file: file.clone(), offset: 0, buf }
            }
            Step::Blocks { file, header } => {
                let left = header.entry_blocks.saturating_sub(self.block) as usize;
                let buf = AlignedBuf::zeroed(left.clamp(1, BLOCKS) * INDEX_BLOCK_BYTES)?;
                let offset = header.block_offset(self.block as usize) as u64;
                Op::Read { file: file.clone(), offset, buf }
            }
        })
    }

    /// It has ended. `each` is shown the entries that came with it and the block they stand in; it
    /// gives false when it has seen enough.
    ///
    /// # Errors
    /// In words: the index cannot be read.
    pub(crate) fn complete(
        &mut self,
        done: Done,
        mut each: impl FnMut(u32, &IndexEntry) -> bool,
    ) -> Result<Piece, String> {
        let got = done.result.map_err(|error| error.to_string())?;
        let bytes = match &done.buf {
            Some(IoBuf::Owned(buf)) => &buf[..got.min(buf.len())],
            _ => &[],
        };
        let flaw = |flaw: crate::format::Flaw| flaw.to_string();
        match &self.step {
            Step::Opening => {
                let file = done.file.ok_or("opened and not there")?;
                self.step = Step::Head(file);
            }
            Step::Head(file) => {
                let header = Box::new(IndexHeader::decode(bytes).map_err(flaw)?);
                if header.segment != self.segment {
                    return Err(format!("it is that of segment {}", header.segment));
                }
                let file = file.clone();
                if header.entry_blocks <= self.block {
                    return Ok(Piece::End);
                }
                self.step = Step::Blocks { file, header };
            }
            Step::Blocks { header, .. } => {
                for bytes in bytes.chunks_exact(INDEX_BLOCK_BYTES) {
                    let block = EntryBlock::decode_at(bytes, self.segment, self.block as usize)
                        .map_err(flaw)?;
                    for entry in block.iter() {
                        if !each(self.block, &entry) {
                            return Ok(Piece::End);
                        }
                    }
                    self.block += 1;
                }
                if self.block >= header.entry_blocks {
                    return Ok(Piece::End);
                }
                if bytes.len() < INDEX_BLOCK_BYTES {
                    return Err("it is cut short".into());
                }
            }
        }
        Ok(Piece::More)
    }
}
