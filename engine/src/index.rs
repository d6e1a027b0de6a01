//! Looking things up in the index files of sealed segments.
//!
//! Invariants: a look-up reads a header and a fence table (kept for the last few segments) and one
//! block; memory is bounded by [`HEADS_MAX`] fence tables whatever the number of segments and logs.
//! An index that is owed to a full disk is looked up in memory, in the same way.
//!
//! Not here: building an index (`seal`), its bytes (`format::index`).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Damage, Error, Result};
use crate::format::index::{
    EntryBlock, Fence, INDEX_BLOCK_BYTES, IndexEntry, IndexHeader, Posting,
};
use crate::io::buf::AlignedBuf;
use crate::io::{File, Mode, Storage};
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::names;

/// Index heads (header and fence table) that are kept.
const HEADS_MAX: usize = 64;

/// Which index: the segment, the number in its file's name, and the index itself as long as that
/// file is owed.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub shard: ShardId,
    pub segment: SegmentId,
    pub file: u64,
    pub owed: Option<Arc<Vec<u8>>>,
}

impl Which {
    fn is(&self, other: &Self) -> bool {
        (self.shard, self.segment, self.file) == (other.shard, other.segment, other.file)
    }
}

/// What an index is read from.
enum Place {
    File(File),
    Memory(Arc<Vec<u8>>),
}

struct Head {
    which: Which,
    header: IndexHeader,
    fence: Vec<u8>,
}

/// See the module. One per engine.
pub(crate) struct Indexes {
    storage: Arc<dyn Storage>,
    heads: Mutex<VecDeque<Arc<Head>>>,
}

impl Indexes {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, heads: Mutex::new(VecDeque::with_capacity(HEADS_MAX)) }
    }

    /// The entry of `log`, if the segment holds it.
    pub(crate) fn find(&self, which: &Which, log: LogId) -> Result<Option<IndexEntry>> {
        let place = self.open(which)?;
        let head = self.head(which, &place)?;
        let fence = Fence::decode(&head.fence, &head.header).map_err(|f| bad(which, &f))?;
        let Some(block) = fence.find_block(log) else { return Ok(None) };
        let at = head.header.block_offset(block);
        let bytes = self.read(which, &place, at, INDEX_BLOCK_BYTES)?;
        let block =
            EntryBlock::decode_at(&bytes, which.segment, block).map_err(|f| bad(which, &f))?;
        Ok(block.find(log))
    }

    /// The last posting of the entry that `before` accepts; postings ascend.
    pub(crate) fn posting(
        &self,
        which: &Which,
        entry: &IndexEntry,
        before: impl Fn(&Posting) -> bool,
    ) -> Result<Option<Posting>> {
        let place = self.open(which)?;
        let head = self.head(which, &place)?;
        let range = head.header.posting_range(entry.posting_start, entry.posting_count);
        let bytes = self.read(which, &place, range.start, range.len())?;
        Ok(Posting::decode_slice(&bytes).take_while(before).last())
    }

    fn open(&self, which: &Which) -> Result<Place> {
        if let Some(bytes) = &which.owed {
            return Ok(Place::Memory(Arc::clone(bytes)));
        }
        let name = names::index(which.shard, which.file);
        match self.storage.open(&name, Mode::Read) {
            Ok((file, _)) => Ok(Place::File(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(damaged(which, "missing")),
            Err(e) => Err(Error::io(format!("opening {name}"), e)),
        }
    }

    fn head(&self, which: &Which, place: &Place) -> Result<Arc<Head>> {
        let mut heads = self.heads.lock();
        if let Some(at) = heads.iter().position(|head| head.which.is(which)) {
            let head = heads.remove(at).map_or_else(|| Err(Error::Closed), Ok)?;
            heads.push_back(Arc::clone(&head));
            return Ok(head);
        }
        drop(heads);
        let block = self.read(which, place, 0, INDEX_BLOCK_BYTES)?;
        let header = IndexHeader::decode(&block).map_err(|f| bad(which, &f))?;
        let range = header.fence_range();
        let fence = self.read(which, place, range.start, range.len())?;
        // The key alone: what is owed is let go when it is paid.
        let which = Which { owed: None, ..*which };
        let head = Arc::new(Head { which, header, fence });
        let mut heads = self.heads.lock();
        if heads.len() == HEADS_MAX {
            heads.pop_front();
        }
        heads.push_back(Arc::clone(&head));
        Ok(head)
    }

    /// Reads any range, by the aligned blocks around it.
    fn read(&self, which: &Which, place: &Place, at: usize, len: usize) -> Result<Vec<u8>> {
        let short = || damaged(which, "cut short");
        let file = match place {
            Place::Memory(bytes) => {
                return bytes.get(at..at + len).map(<[u8]>::to_vec).ok_or_else(short);
            }
            Place::File(file) => file,
        };
        let doing = |e| Error::io(format!("reading {}", names::index(which.shard, which.file)), e);
        let from = at / INDEX_BLOCK_BYTES * INDEX_BLOCK_BYTES;
        let to = (at + len).next_multiple_of(INDEX_BLOCK_BYTES);
        let mut buf = AlignedBuf::zeroed(to - from).map_err(doing)?;
        let got = self.storage.read_at(file, from as u64, &mut buf, to - from).map_err(doing)?;
        let have = buf[..got].get(at - from..at - from + len);
        have.map(<[u8]>::to_vec).ok_or_else(short)
    }
}

fn bad(which: &Which, flaw: &crate::format::Flaw) -> Error {
    if flaw.is_unsupported() {
        return Error::flaw(&names::index(which.shard, which.file), flaw);
    }
    damaged(which, &format!("damaged ({flaw})"))
}

/// Nothing is lost with an index: the next write-open builds it again.
fn damaged(which: &Which, how: &str) -> Error {
    Error::Corrupt(Box::new(Damage {
        log: None,
        first: Lsn(0),
        last: None,
        segment: which.segment,
        offset: 0,
        reason: format!("its index is {how}; opening for writing rebuilds it"),
    }))
}
