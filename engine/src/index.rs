//! Looking things up in the index files of sealed segments, through one bounded cache.
//!
//! Invariants: a look-up reads header and fence table, and then one block, each only if it is not
//! kept; what is kept is bounded in bytes, whatever the number of segments and logs. What does not
//! decode is forgotten, and so is the open file: it may be another one by now. An index that is
//! owed to a full disk is looked up in memory, in the same way, and never kept.
//!
//! Not here: building an index (`seal`), its bytes (`format::index`), open files (`files`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Damage, Error, Result};
use crate::files::{Files, What};
use crate::format::index::{
    EntryBlock, Fence, INDEX_BLOCK_BYTES, IndexEntry, IndexHeader, POSTING_BYTES, Posting,
};
use crate::io::Storage;
use crate::io::buf::AlignedBuf;
use crate::lsn::{LogId, Lsn, SegmentId, ShardId};
use crate::names;

/// Bytes of indexes that are kept in memory, unless the settings say otherwise.
pub(crate) const INDEX_CACHE_BYTES: u64 = 8 << 20;

/// Postings that a reader takes at once.
const POSTINGS_MAX: usize = 128;

/// What a kept part takes beside its bytes.
const PART_BYTES: usize = 96;

/// Which index: the segment, the number in its file's name, and the index itself as long as that
/// file is owed.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub shard: ShardId,
    pub segment: SegmentId,
    pub file: u64,
    pub owed: Option<Arc<Vec<u8>>>,
}

/// An index file, for what is kept of it.
type Key = (ShardId, SegmentId, u64);

impl Which {
    fn key(&self) -> Key {
        (self.shard, self.segment, self.file)
    }
}

/// Header and fence table: good, and of the segment that was asked for.
struct Head {
    header: IndexHeader,
    fence: Vec<u8>,
}

/// Part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Head,
    /// So many blocks from the front.
    Block(usize),
}

#[derive(Clone)]
enum Bytes {
    Head(Arc<Head>),
    Block(Arc<AlignedBuf>),
}

struct Kept {
    key: (Key, Part),
    bytes: Bytes,
    /// Used since the hand last came by.
    hot: bool,
}

/// What is kept. Whatever was not used since the hand last came by goes first.
#[derive(Default)]
struct Cache {
    places: HashMap<(Key, Part), usize>,
    kept: Vec<Kept>,
    hand: usize,
    bytes: usize,
}

impl Bytes {
    fn len(&self) -> usize {
        PART_BYTES
            + match self {
                Self::Head(head) => head.fence.len(),
                Self::Block(block) => block.len(),
            }
    }
}

impl Cache {
    fn get(&mut self, key: &(Key, Part)) -> Option<Bytes> {
        let kept = &mut self.kept[*self.places.get(key)?];
        kept.hot = true;
        Some(kept.bytes.clone())
    }

    fn put(&mut self, key: (Key, Part), bytes: Bytes, bytes_max: usize) {
        let len = bytes.len();
        if self.places.contains_key(&key) || len > bytes_max {
            return;
        }
        while self.bytes + len > bytes_max {
            self.hand = if self.hand < self.kept.len() { self.hand } else { 0 };
            if std::mem::take(&mut self.kept[self.hand].hot) {
                self.hand += 1;
            } else {
                self.remove(self.hand);
            }
        }
        self.places.insert(key, self.kept.len());
        self.kept.push(Kept { key, bytes, hot: false });
        self.bytes += len;
    }

    fn remove(&mut self, at: usize) {
        let gone = self.kept.swap_remove(at);
        self.bytes -= gone.bytes.len();
        self.places.remove(&gone.key);
        if let Some(moved) = self.kept.get(at) {
            self.places.insert(moved.key, at);
        }
    }

    fn forget(&mut self, which: Key) {
        for at in (0..self.kept.len()).rev() {
            if self.kept[at].key.0 == which {
                self.remove(at);
            }
        }
    }
}

/// See the module. One per engine.
pub(crate) struct Indexes {
    storage: Arc<dyn Storage>,
    bytes_max: usize,
    cache: Mutex<Cache>,
}

/// The index of one segment, with the open files of its shard.
#[derive(Clone, Copy)]
struct Open<'a> {
    indexes: &'a Indexes,
    files: &'a Files,
    which: &'a Which,
}

impl Indexes {
    pub(crate) fn new(storage: Arc<dyn Storage>, bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { storage, bytes_max, cache: Mutex::default() }
    }

    /// The entry of `log`, if the segment holds it.
    pub(crate) fn find(
        &self,
        files: &Files,
        which: &Which,
        log: LogId,
    ) -> Result<Option<IndexEntry>> {
        let open = Open { indexes: self, files, which };
        open.or_forget(open.find(log))
    }

    /// The last posting of the entry that `before` accepts, and some behind it; postings ascend.
    /// Without one that it accepts, the first ones. Also whether there are no more. They have no
    /// checksum of their own: a hint where to look, no more.
    pub(crate) fn postings(
        &self,
        files: &Files,
        which: &Which,
        entry: &IndexEntry,
        before: impl Fn(&Posting) -> bool,
    ) -> Result<(Vec<Posting>, bool)> {
        let open = Open { indexes: self, files, which };
        open.or_forget(open.postings(entry, before))
    }
}

impl Open<'_> {
    fn or_forget<T>(&self, found: Result<T>) -> Result<T> {
        if found.is_err() && self.which.owed.is_none() {
            self.indexes.cache.lock().forget(self.which.key());
            self.files.forget(What::Index(self.which.file));
        }
        found
    }

    fn find(&self, log: LogId) -> Result<Option<IndexEntry>> {
        let (head, which) = (self.head()?, self.which);
        let fence = Fence::decode(&head.fence, &head.header).map_err(|f| bad(which, &f))?;
        let Some(block) = fence.find_block(log) else { return Ok(None) };
        let bytes = self.block(head.header.block_offset(block) / INDEX_BLOCK_BYTES)?;
        let block =
            EntryBlock::decode_at(&bytes, which.segment, block).map_err(|f| bad(which, &f))?;
        Ok(block.find(log))
    }

    fn postings(
        &self,
        entry: &IndexEntry,
        before: impl Fn(&Posting) -> bool,
    ) -> Result<(Vec<Posting>, bool)> {
        let head = self.head()?;
        let count = entry.posting_count as usize;
        let one = |at: usize| self.posting_slice(&head, entry, at, 1);
        let (mut below, mut above) = (0, count);
        while below < above {
            let middle = usize::midpoint(below, above);
            match one(middle)?.first() {
                Some(posting) if before(posting) => below = middle + 1,
                _ => above = middle,
            }
        }
        let from = below.saturating_sub(1);
        let take = (count - from).min(POSTINGS_MAX);
        Ok((self.posting_slice(&head, entry, from, take)?, from + take == count))
    }

    /// Some of an entry's postings, from the `at`th on.
    fn posting_slice(
        &self,
        head: &Head,
        entry: &IndexEntry,
        at: usize,
        count: usize,
    ) -> Result<Vec<Posting>> {
        let first = entry.posting_start as usize + at;
        let start = head.header.postings_offset as usize + POSTING_BYTES * first;
        let bytes = self.bytes(start, POSTING_BYTES * count)?;
        Ok(Posting::decode_slice(&bytes).collect())
    }

    fn head(&self) -> Result<Arc<Head>> {
        let which = self.which;
        let found = self.kept(Part::Head);
        if let Some(Bytes::Head(head)) = found {
            return Ok(head);
        }
        let block = self.read(0, INDEX_BLOCK_BYTES)?;
        let header = IndexHeader::decode(&block).map_err(|f| bad(which, &f))?;
        if header.segment != which.segment {
            return Err(damaged(which, "that of another segment"));
        }
        let range = header.fence_range();
        let from = range.start / INDEX_BLOCK_BYTES * INDEX_BLOCK_BYTES;
        let blocks = self.read(from, (range.end - from).next_multiple_of(INDEX_BLOCK_BYTES))?;
        let fence = blocks.get(range.start - from..range.end - from);
        let fence = fence.ok_or_else(|| damaged(which, "cut short"))?.to_vec();
        let head = Arc::new(Head { header, fence });
        self.keep(Part::Head, Bytes::Head(Arc::clone(&head)));
        Ok(head)
    }

    /// Any range, by the blocks around it.
    fn bytes(&self, at: usize, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let from = at + out.len();
            let (block, skip) = (self.block(from / INDEX_BLOCK_BYTES)?, from % INDEX_BLOCK_BYTES);
            let take = (len - out.len()).min(INDEX_BLOCK_BYTES - skip);
            out.extend_from_slice(&block[skip..skip + take]);
        }
        Ok(out)
    }

    fn block(&self, number: usize) -> Result<Arc<AlignedBuf>> {
        let found = self.kept(Part::Block(number));
        if let Some(Bytes::Block(block)) = found {
            return Ok(block);
        }
        let block = Arc::new(self.read(number * INDEX_BLOCK_BYTES, INDEX_BLOCK_BYTES)?);
        self.keep(Part::Block(number), Bytes::Block(Arc::clone(&block)));
        Ok(block)
    }

    fn kept(&self, part: Part) -> Option<Bytes> {
        self.which.owed.is_none().then_some(())?;
        self.indexes.cache.lock().get(&(self.which.key(), part))
    }

    fn keep(&self, part: Part, bytes: Bytes) {
        if self.which.owed.is_none() {
            let max = self.indexes.bytes_max;
            self.indexes.cache.lock().put((self.which.key(), part), bytes, max);
        }
    }

    /// Reads whole blocks.
    fn read(&self, at: usize, len: usize) -> Result<AlignedBuf> {
        let (which, storage) = (self.which, &*self.indexes.storage);
        let doing = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => damaged(which, "missing"),
            _ => Error::io(format!("reading {}", names::index(which.shard, which.file)), e),
        };
        if let Some(owed) = &which.owed {
            let there = owed.get(at..).unwrap_or_default();
            let mut buf = AlignedBuf::zeroed(len).map_err(doing)?;
            if there.len() < len {
                return Err(damaged(which, "cut short"));
            }
            buf[..len].copy_from_slice(&there[..len]);
            return Ok(buf);
        }
        let what = What::Index(which.file);
        let file = self.files.get(storage, which.shard, what).map_err(doing)?;
        let mut buf = AlignedBuf::zeroed(len).map_err(doing)?;
        let got = storage.read_at(&file, at as u64, &mut buf, len).map_err(doing)?;
        if got < len { Err(damaged(which, "cut short")) } else { Ok(buf) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::IndexData;
    use crate::io::sim::{Faults, SimStorage};

    const LOGS: u64 = 5000;

    fn which(segment: u64) -> Which {
        Which { shard: ShardId(0), segment: SegmentId(segment), file: segment, owed: None }
    }

    /// An index of many logs, each with three postings.
    fn write(disk: &SimStorage, segment: u64) {
        let entries = (0..LOGS).map(|n| IndexEntry {
            log: LogId(n * 2),
            first_lsn: Lsn(segment * 100),
            last_lsn: Lsn(segment * 100 + 29),
            posting_start: n as u32 * 3,
            posting_count: 3,
            ..IndexEntry::default()
        });
        let posting =
            |n: u64| Posting { lsn: Lsn(segment * 100 + n % 3 * 10), ..Posting::default() };
        let data = IndexData {
            segment: SegmentId(segment),
            entries: entries.collect(),
            postings: (0..LOGS * 3).map(posting).collect(),
            ..IndexData::default()
        };
        let bytes = data.encode();
        let file = disk.create(&names::index(ShardId(0), segment)).unwrap();
        let mut buf = AlignedBuf::zeroed(bytes.len()).unwrap();
        buf[..bytes.len()].copy_from_slice(&bytes);
        disk.write_at(&file, 0, &buf, bytes.len(), true).unwrap();
    }

    /// Look-ups in far more indexes than there is room for: each finds what is there, and what is
    /// kept stays within its bytes.
    #[test]
    fn what_is_kept_is_bounded_and_right() {
        let disk = SimStorage::new(1, Faults::default());
        (1..=8).for_each(|segment| write(&disk, segment));
        let (files, bytes_max) = (Files::new(4), 64 << 10);
        let indexes = Indexes::new(Arc::new(disk), bytes_max);
        for n in 0..4000u64 {
            let (segment, log) = (n * 7 % 8 + 1, n * 31 % (LOGS * 2));
            let found = indexes.find(&files, &which(segment), LogId(log)).unwrap();
            assert_eq!(found.is_some(), log % 2 == 0, "log {log}");
            if let Some(entry) = found {
                let sought = Lsn(segment * 100 + n % 30);
                let before = |posting: &Posting| posting.lsn <= sought;
                let found = indexes.postings(&files, &which(segment), &entry, before);
                let (found, all) = found.unwrap();
                assert!(all);
                assert_eq!(found[0].lsn.0, sought.0 / 10 * 10);
                assert_eq!(found.len() as u64, 3 - n % 30 / 10, "and those behind it");
            }
            let cache = indexes.cache.lock();
            assert!(cache.bytes as u64 <= bytes_max);
            assert_eq!(cache.bytes, cache.kept.iter().map(|kept| kept.bytes.len()).sum::<usize>());
            assert_eq!(cache.places.len(), cache.kept.len());
        }
    }

    #[test]
    fn what_does_not_decode_is_read_again() {
        let disk = SimStorage::new(1, Faults::default());
        write(&disk, 1);
        let (files, log) = (Files::new(4), LogId(8));
        let indexes = Indexes::new(Arc::new(disk.clone()), 64 << 10);
        disk.flip(&names::index(ShardId(0), 1), 4096 + 200, 1).unwrap();
        let found = indexes.find(&files, &which(1), log);
        assert!(matches!(found, Err(Error::Corrupt(_))), "{found:?}");
        disk.flip(&names::index(ShardId(0), 1), 4096 + 200, 1).unwrap();
        assert!(indexes.find(&files, &which(1), log).unwrap().is_some());
    }
}
