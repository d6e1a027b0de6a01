//! One operation under way in a ring: what it owns, and when it is over.
//!
//! Invariants: a slot is judged only when every submission queue entry that it put in the ring has
//! completed; it is then resubmitted whole or given back, never both. A linked write is durable
//! only if the write was full *and* its sync succeeded; a cancelled sync is "not durable".
//!
//! Crash story: a write comes back short and cuts its link; the sync says ECANCELED. Had the slot
//! looked at the write's length alone, it would ack bytes that no sync covered.
//!
//! Not here: system calls, pointers (`uring`).

use std::ffi::CString;
use std::io;

use super::buf::IoBuf;
use super::{File, Mode, RESUBMITS_MAX, plain};
use crate::planted::{Bug, planted};

/// What a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write { offset: u64, sync: Persist },
    Read { offset: u64 },
    Sync,
    SyncDir,
    Create,
    Open { mode: Mode },
    Truncate { bytes: u64 },
    Remove,
}

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persist {
    /// Not by itself.
    No,
    /// By a flag on the write.
    Dsync,
    /// By a linked fdatasync.
    Linked,
}

/// The two entries that a slot can have in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Main,
    LinkedSync,
}

/// What to do with a slot whose entries have all completed.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Put the same bytes into the ring again.
    Resubmit,
    /// It is over.
    Over(io::Result<usize>),
}

/// One operation, or a free place.
#[derive(Debug)]
pub(super) struct Slot {
    /// Counts the lives of this place, so that a completion of an earlier life is recognised.
    pub(super) generation: u32,
    /// Entries in the ring that have not completed; 0 = nothing of this slot is with the kernel.
    pub(super) pending: u8,
    pub(super) token: u64,
    pub(super) kind: Kind,
    pub(super) file: Option<File>,
    pub(super) buf: Option<IoBuf>,
    pub(super) name: Option<CString>,
    main: i32,
    sync: i32,
    tries: u32,
}

impl Slot {
    /// A free place.
    pub(super) fn free() -> Self {
        Self {
            generation: 0,
            pending: 0,
            token: 0,
            kind: Kind::Sync,
            file: None,
            buf: None,
            name: None,
            main: 0,
            sync: 0,
            tries: 0,
        }
    }

    /// Begins a new life.
    pub(super) fn begin(&mut self, token: u64, kind: Kind) {
        self.generation = self.generation.wrapping_add(1);
        self.token = token;
        self.kind = kind;
        self.tries = 0;
    }

    /// Takes one completion; true when it was the last.
    pub(super) fn complete(&mut self, part: Part, result: i32) -> bool {
        assert!(self.pending > 0, "a completion for an operation that is not under way");
        match part {
            Part::Main => self.main = result,
            Part::LinkedSync => self.sync = result,
        }
        self.pending -= 1;
        self.pending == 0
    }

    /// Decides, once everything has completed.
    pub(super) fn judge(&mut self) -> Verdict {
        let verdict = match self.kind {
            Kind::Write { sync, .. } => self.judge_write(sync),
            Kind::Read { offset } => self.judge_read(offset),
            _ => match error_of(self.main) {
                Some(error) => self.failed(error),
                None => Verdict::Over(Ok(0)),
            },
        };
        if matches!(verdict, Verdict::Resubmit) {
            self.tries += 1;
        }
        verdict
    }

    /// The descriptor that a finished `Create` or `Open` made.
    pub(super) fn descriptor(&self) -> i32 {
        self.main
    }

    fn judge_write(&self, sync: Persist) -> Verdict {
        let len = self.buf.as_ref().map_or(0, IoBuf::len);
        if let Some(error) = error_of(self.main) {
            return self.failed(error);
        }
        let wrote = self.main.unsigned_abs() as usize;
        if wrote != len && !planted(Bug::ShortIsWhole) {
            return self.again_unless_spent(|| plain::short_write(wrote, len));
        }
        match error_of(self.sync) {
            // A sync that was cancelled although its write was full is as good as none.
            Some(error) if sync == Persist::Linked && !planted(Bug::LinkedSyncLost) => {
                self.failed(error)
            }
            _ => Verdict::Over(Ok(len)),
        }
    }

    fn judge_read(&self, offset: u64) -> Verdict {
        let len = self.buf.as_ref().map_or(0, IoBuf::len);
        if let Some(error) = error_of(self.main) {
            return self.failed(error);
        }
        let read = self.main.unsigned_abs() as usize;
        if read == len {
            return Verdict::Over(Ok(len));
        }
        let file = self.file.as_ref().map(File::os);
        match file {
            Some(Ok(file)) => match plain::is_at_end(file, offset, read) {
                Ok(true) => Verdict::Over(Ok(read)),
                Ok(false) => self.again_unless_spent(|| plain::short_read(read, len)),
                Err(error) => Verdict::Over(Err(error)),
            },
            _ => Verdict::Over(Err(super::invalid("a read without a file"))),
        }
    }

    fn failed(&self, error: io::Error) -> Verdict {
        if plain::is_passing(&error) && self.tries < RESUBMITS_MAX {
            return Verdict::Resubmit;
        }
        Verdict::Over(Err(error))
    }

    fn again_unless_spent(&self, error: impl FnOnce() -> io::Error) -> Verdict {
        if self.tries < RESUBMITS_MAX { Verdict::Resubmit } else { Verdict::Over(Err(error())) }
    }
}

fn error_of(result: i32) -> Option<io::Error> {
    (result < 0).then(|| io::Error::from_raw_os_error(result.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buf::AlignedBuf;

    const LEN: i32 = 8192;

    fn write(sync: Persist) -> Slot {
        let mut slot = Slot::free();
        slot.begin(7, Kind::Write { offset: 0, sync });
        slot.buf = Some(IoBuf::Owned(AlignedBuf::zeroed(LEN as usize).unwrap()));
        slot
    }

    /// Feeds one round of completions and judges.
    fn round(slot: &mut Slot, main: i32, sync: Option<i32>) -> Verdict {
        slot.pending = 1 + u8::from(sync.is_some());
        let last = slot.complete(Part::Main, main);
        assert_eq!(last, sync.is_none());
        if let Some(sync) = sync {
            assert!(slot.complete(Part::LinkedSync, sync));
        }
        slot.judge()
    }

    fn is_ok(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Over(Ok(len)) if *len == LEN as usize)
    }

    #[test]
    fn durable_needs_the_full_write_and_the_sync() {
        assert!(is_ok(&round(&mut write(Persist::Linked), LEN, Some(0))));
        for (main, sync, errno) in [
            (LEN, -libc::EIO, libc::EIO),
            (LEN, -libc::ECANCELED, libc::ECANCELED),
            (-libc::EIO, -libc::ECANCELED, libc::EIO),
            // What a soft NFS mount does: the write fails and the sync says all is well.
            (-libc::EIO, 0, libc::EIO),
            (-libc::ENOSPC, 0, libc::ENOSPC),
        ] {
            match round(&mut write(Persist::Linked), main, Some(sync)) {
                Verdict::Over(Err(error)) => assert_eq!(error.raw_os_error(), Some(errno)),
                other => panic!("{main} {sync}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_short_write_goes_again_whole_then_fails() {
        for short in [4096, 0] {
            let mut slot = write(Persist::Linked);
            for _ in 0..RESUBMITS_MAX {
                let verdict = round(&mut slot, short, Some(-libc::ECANCELED));
                assert!(matches!(verdict, Verdict::Resubmit));
            }
            match round(&mut slot, short, Some(-libc::ECANCELED)) {
                Verdict::Over(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn passing_errors_go_again_and_the_next_result_counts() {
        for errno in [libc::EINTR, libc::EAGAIN] {
            let mut slot = write(Persist::Dsync);
            assert!(matches!(round(&mut slot, -errno, None), Verdict::Resubmit));
            assert!(is_ok(&round(&mut slot, LEN, None)));
            let mut slot = write(Persist::Dsync);
            for _ in 0..RESUBMITS_MAX {
                assert!(matches!(round(&mut slot, -errno, None), Verdict::Resubmit));
            }
            assert!(matches!(round(&mut slot, -errno, None), Verdict::Over(Err(_))));
        }
    }

    #[test]
    fn a_failed_write_is_never_tried_again() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EINVAL, libc::ETIMEDOUT] {
            let verdict = round(&mut write(Persist::Dsync), -errno, None);
            assert!(matches!(verdict, Verdict::Over(Err(_))), "{errno}");
        }
    }

    #[test]
    #[should_panic(expected = "not under way")]
    fn a_completion_out_of_nowhere_is_fatal() {
        write(Persist::Dsync).complete(Part::Main, 0);
    }
}
