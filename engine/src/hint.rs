//! The hint page of a running shard: tells followers on this host what is durable, at once.
//!
//! Invariants:
//! - It is written after durability, never before: a page says only what the view has.
//! - It costs an append nothing: a write of one page to the page cache, by the ring, after the acks
//!   have left; one under way, one a millisecond. Nothing waits for it.
//! - It is no part of the truth: recovery does not read it, a failure only ends the hints.
//!
//! Why by the ring: a write to the page cache is quick until it is not (a page under writeback, a
//! host with too many dirty pages), and a shard blocks on nothing but its ring.
//!
//! Not here: who believes a page (`follow`), its bytes (`format::hint`).

use std::io;

use crate::format::{HintPage, UNIT_MIN};
use crate::io::buf::{AlignedBuf, IoBuf};
use crate::io::{Disk, Done, File, HostInfo, Mode, Op, Storage};
use crate::names;

/// The least time between two writes of the page: followers look no more often.
const EVERY_NS: u64 = 1_000_000;

/// See the module.
pub(crate) struct Hint {
    /// What was written last.
    page: HintPage,
    /// `None`: no page is kept. Followers then go by headers and marks.
    file: Option<File>,
    /// `None` while a write is under way.
    buf: Option<AlignedBuf>,
    wrote_at: u64,
}

impl Hint {
    /// Begins the page of a term with what recovery found, over what an earlier term left there.
    pub(crate) fn open(storage: &dyn Storage, me: &HostInfo, page: HintPage) -> Self {
        let (boot, pid, start_time) = (me.boot_number(), me.pid, me.start_time);
        let page = HintPage { boot, pid, start_time, ..page };
        let (file, buf) = match begin(storage, &page) {
            Ok((file, buf)) => (Some(file), Some(buf)),
            Err(error) => {
                let shard = page.shard.0;
                tracing::warn!(shard, %error, "no hint page: foreign followers go by headers");
                (None, None)
            }
        };
        Self { page, file, buf, wrote_at: 0 }
    }

    fn is_behind(&self, durable: u64, manifest_seq: u64) -> bool {
        self.file.is_some()
            && self.buf.is_some()
            && (self.page.durable, self.page.manifest_seq) != (durable, manifest_seq)
    }

    /// When the page is to be written although nothing happens.
    pub(crate) fn wake_at(&self, durable: u64, manifest_seq: u64) -> Option<u64> {
        self.is_behind(durable, manifest_seq).then_some(self.wrote_at + EVERY_NS)
    }

    /// Writes the page if it is behind and not too young.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        token: u64,
        now: u64,
        durable: u64,
        manifest_seq: u64,
    ) {
        if !self.is_behind(durable, manifest_seq) || now < self.wrote_at + EVERY_NS {
            return;
        }
        let (Some(file), Some(mut buf)) = (self.file.clone(), self.buf.take()) else { return };
        let page = HintPage { durable, manifest_seq, ..self.page };
        page.encode(&mut buf);
        self.wrote_at = now;
        let op = Op::Write { file, offset: 0, buf: IoBuf::Owned(buf), persist: false };
        match disk.submit(token, op) {
            Ok(()) => self.page = page,
            // No room at the disk: the next turn that is late enough tries again.
            Err((_, Op::Write { buf: IoBuf::Owned(buf), .. })) => self.buf = Some(buf),
            Err(_) => self.file = None,
        }
    }

    /// A write of the page has ended.
    pub(crate) fn complete(&mut self, done: Done) {
        if let Some(IoBuf::Owned(buf)) = done.buf {
            self.buf = Some(buf);
        }
        if let Err(error) = done.result {
            let shard = self.page.shard.0;
            tracing::warn!(shard, %error, "the hint page ends: foreign followers go by headers");
            self.file = None;
        }
    }
}

fn begin(storage: &dyn Storage, page: &HintPage) -> io::Result<(File, AlignedBuf)> {
    let name = names::hint(page.shard);
    let file = match storage.open_cached(&name, Mode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            storage.create(&name)?;
            storage.open_cached(&name, Mode::Write)?.0
        }
        other => other?.0,
    };
    let mut buf = AlignedBuf::zeroed(UNIT_MIN)?;
    page.encode(&mut buf);
    storage.write_at(&file, 0, &buf, UNIT_MIN, false)?;
    Ok((file, buf))
}
