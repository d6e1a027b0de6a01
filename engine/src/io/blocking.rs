//! The disk without a ring: every operation runs where it is submitted.
//!
//! Taken where io_uring is refused (seccomp, sysctl, old kernels); the same suite holds for it.
//!
//! Invariants: same rules as the ring by `plain`; a completion waits in the queue until `reap`.
//!
//! Not here: threads. An operation blocks the shard for as long as the device takes.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::buf::IoBuf;
use super::os::Directory;
use super::{Bell, Disk, DiskSpec, Done, Durable, File, Op, Wait, plain};
use crate::planted::{Bug, planted};

/// A disk of pread and pwrite.
pub(super) struct BlockingDisk {
    dir: Arc<Directory>,
    durable: Durable,
    done: Vec<Done>,
    in_flight_max: usize,
    bell: Arc<FlagBell>,
    resubmits: u64,
    /// Holds the directory's lock as long as this disk lives, as a ring would.
    _lock: Option<File>,
}

/// A bell without a ring to put it in.
#[derive(Default)]
struct FlagBell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell for FlagBell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }
}

impl BlockingDisk {
    pub(super) fn new(dir: Arc<Directory>, durable: Durable, spec: &DiskSpec) -> Self {
        Self {
            dir,
            durable,
            done: Vec::with_capacity(spec.in_flight),
            in_flight_max: spec.in_flight,
            bell: Arc::default(),
            resubmits: 0,
            _lock: spec.lock.clone(),
        }
    }

    fn run(&mut self, token: u64, op: Op) -> Done {
        let mut done = Done { token, result: Ok(0), buf: None, file: None };
        done.result = match op {
            Op::Write { file, offset, buf, persist } => {
                let persist = persist && !planted(Bug::DeviceSyncSkipped);
                let persist = persist.then_some(self.durable);
                let bytes = buf.as_slice();
                let result = file.os().and_then(|file| {
                    plain::write(file, offset, bytes, persist, &mut self.resubmits)
                });
                let len = bytes.len();
                done.buf = Some(buf);
                result.map(|()| len)
            }
            Op::Read { file, offset, mut buf } => {
                let len = buf.len();
                let result = file
                    .os()
                    .and_then(|file| plain::read(file, offset, &mut buf, len, &mut self.resubmits));
                done.buf = Some(IoBuf::Owned(buf));
                result
            }
            Op::Sync { file } => file.os().and_then(plain::sync).map(|()| 0),
            Op::SyncDir => self.dir.sync().map(|()| 0),
            Op::Create { name } => self.dir.create(&name).map(|file| {
                done.file = Some(file);
                0
            }),
            Op::Open { name, mode } => {
                self.dir.open(&name, mode, self.dir.direct()).map(|(file, _)| {
                    done.file = Some(file);
                    0
                })
            }
            Op::Truncate { file, bytes } => {
                file.os().and_then(|file| file.set_len(bytes)).map(|()| 0)
            }
            Op::Remove { name } => self.dir.remove(&name).map(|()| 0),
        };
        done
    }

    /// Sleeps until the bell rings or the time is up, and takes the ring.
    fn park(&self, limit: Option<Duration>) {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut rung = self.bell.rung.lock();
        while !*rung {
            match until {
                None => self.bell.changed.wait(&mut rung),
                Some(until) => {
                    if self.bell.changed.wait_until(&mut rung, until).timed_out() {
                        break;
                    }
                }
            }
        }
        *rung = false;
    }
}

impl Disk for BlockingDisk {
    fn bind(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        if self.done.len() >= self.in_flight_max {
            return Err((token, op));
        }
        let done = self.run(token, op);
        self.done.push(done);
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        if self.done.is_empty() {
            match wait {
                Wait::No => {}
                Wait::Until(limit) => self.park(Some(limit)),
                Wait::Event => self.park(None),
            }
        }
        done.append(&mut self.done);
        Ok(())
    }

    fn bell(&self) -> Arc<dyn Bell> {
        Arc::clone(&self.bell) as Arc<dyn Bell>
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn resubmits(&self) -> u64 {
        self.resubmits
    }

    fn backend(&self) -> &'static str {
        super::probe::PLAIN
    }
}
