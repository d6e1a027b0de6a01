//! Which hint pages a follower believes.
//!
//! Invariants: a page counts only when it is whole, of this directory and shard, of this boot, and
//! of the process that holds the directory's lock. So a page of an earlier boot, a copied one, a
//! torn one, one that a dead process left behind counts for nothing. What its term makes of it is
//! for the follower, who knows the newest.
//!
//! A page that was believed stays true when its writer dies: it told what was durable already.
//!
//! Not here: what a page says (`format::hint`), when it is written (`hint`).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{HINT_BYTES, HintPage, UNIT_MIN};
use crate::io::buf::AlignedBuf;
use crate::io::{File, HostInfo, Mode, Storage, hostinfo};
use crate::lsn::ShardId;
use crate::names;

/// A page that is missing or that nobody vouches for is asked about again after this long.
const ASK_AGAIN_NS: u64 = 20_000_000;

/// Reads the hint page of one shard.
pub(super) struct Hints {
    storage: Arc<dyn Storage>,
    directory: u64,
    shard: ShardId,
    here: HostInfo,
    file: Option<File>,
    buf: AlignedBuf,
    /// Term, process and start of the writer whose pages are believed.
    vouched: Option<(u32, u32, u64)>,
    ask_at: u64,
}

impl Hints {
    pub(super) fn new(storage: &Arc<dyn Storage>, directory: u64, shard: ShardId) -> Result<Self> {
        let here = hostinfo().map_err(|e| Error::io("asking who we are", e))?;
        let buf = AlignedBuf::zeroed(UNIT_MIN).map_err(|e| Error::io("following", e))?;
        let storage = Arc::clone(storage);
        Ok(Self { storage, directory, shard, here, file: None, buf, vouched: None, ask_at: 0 })
    }

    /// What the page says now, if it is to be believed.
    pub(super) fn look(&mut self) -> Option<HintPage> {
        let now = self.storage.clock().mono_ns();
        let file = match &self.file {
            Some(file) => file.clone(),
            None if now < self.ask_at => return None,
            None => match self.storage.open_cached(&names::hint(self.shard), Mode::Read) {
                Ok((file, _)) => self.file.insert(file).clone(),
                Err(_) => {
                    self.ask_at = now + ASK_AGAIN_NS;
                    return None;
                }
            },
        };
        let got = self.storage.read_at(&file, 0, &mut self.buf, UNIT_MIN).ok()?;
        let page = HintPage::decode(self.buf.get(..got.min(HINT_BYTES))?).ok()?;
        let here = page.directory == self.directory
            && page.shard == self.shard
            && page.boot == self.here.boot_number()
            && page.boot != 0;
        let writer = (page.term, page.pid, page.start_time);
        if !here || (self.vouched != Some(writer) && (now < self.ask_at || !self.owns(&page))) {
            return None;
        }
        self.vouched = Some(writer);
        Some(page)
    }

    /// Whether the page is of the process that holds the directory's lock.
    fn owns(&mut self, page: &HintPage) -> bool {
        let owner = self.storage.lock_owner_alive(names::LOCK).ok().flatten();
        self.ask_at = self.storage.clock().mono_ns() + ASK_AGAIN_NS;
        owner.is_some_and(|owner| {
            owner.boot == self.here.boot
                && (owner.pid, owner.start_time) == (page.pid, page.start_time)
        })
    }
}
