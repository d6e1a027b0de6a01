//! Walking through the entries of an index in a running shard: a bounded piece per operation.
//!
//! Invariants: one operation under way; nothing is believed that does not decode as a part of this
//! very index. An index that is owed to a full disk is walked in memory, in pieces of the same
//! size.
//!
//! Not here: what the entries are wanted for (`collect`), look-ups that may block (`index`).

use std::io;
use std::sync::Arc;

use crate::format::index::{EntryBlock, INDEX_BLOCK_BYTES, IndexEntry, IndexHeader};
use crate::index::Which;
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Done, File, Mode, Op};
use crate::lsn::SegmentId;
use crate::names;

/// Entry blocks of one read.
const BLOCKS: usize = 16;

enum Step {
    Opening,
    Head(Place),
    Blocks { place: Place, header: Box<IndexHeader> },
}

#[derive(Clone)]
enum Place {
    File(File),
    Memory(Arc<Vec<u8>>),
}

/// What comes next.
pub(crate) enum Next {
    /// An operation; its completion is for `complete`.
    Op(Op),
    /// The index is in memory: here is what a read would have brought, for `complete`.
    Here(Done),
}

/// See the module.
pub(crate) struct Walk {
    which: Which,
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
    /// Through this index, from this block on.
    pub(crate) fn new(which: Which, block: u32) -> Self {
        let step = match &which.owed {
            Some(bytes) => Step::Head(Place::Memory(Arc::clone(bytes))),
            None => Step::Opening,
        };
        Self { which, block, step }
    }

    /// The segment whose index it is.
    pub(crate) fn segment(&self) -> SegmentId {
        self.which.segment
    }

    /// What comes next.
    pub(crate) fn next(&self) -> io::Result<Next> {
        let (place, offset, blocks) = match &self.step {
            Step::Opening => {
                let name = names::index(self.which.shard, self.which.file);
                return Ok(Next::Op(Op::Open { name, mode: Mode::Read }));
            }
            Step::Head(place) => (place, 0, 1),
            Step::Blocks { place, header } => {
                let left = header.entry_blocks.saturating_sub(self.block) as usize;
                (place, header.block_offset(self.block as usize), left.clamp(1, BLOCKS))
            }
        };
        let mut buf = AlignedBuf::zeroed(blocks * INDEX_BLOCK_BYTES)?;
        Ok(match place {
            Place::File(file) => {
                Next::Op(Op::Read { file: file.clone(), offset: offset as u64, buf })
            }
            Place::Memory(bytes) => {
                let there = bytes.get(offset..).unwrap_or_default();
                let got = there.len().min(buf.len());
                buf[..got].copy_from_slice(&there[..got]);
                let buf = Some(IoBuf::Owned(buf));
                Next::Here(Done { token: 0, buf, file: None, result: Ok(got) })
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
                self.step = Step::Head(Place::File(file));
            }
            Step::Head(place) => {
                let header = Box::new(IndexHeader::decode(bytes).map_err(flaw)?);
                if header.segment != self.which.segment {
                    return Err(format!("it is that of segment {}", header.segment));
                }
                let place = place.clone();
                if header.entry_blocks <= self.block {
                    return Ok(Piece::End);
                }
                self.step = Step::Blocks { place, header };
            }
            Step::Blocks { header, .. } => {
                for bytes in bytes.chunks_exact(INDEX_BLOCK_BYTES) {
                    let (segment, at) = (self.which.segment, self.block as usize);
                    let block = EntryBlock::decode_at(bytes, segment, at).map_err(flaw)?;
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
