//! The completion half of the simulated disk: a queue of operations and the times they end at.
//!
//! Invariants: an operation completes when virtual time reaches its end, in the order of those
//! ends; a buffer's bytes are summed at submission and again at completion, as whoever changes a
//! buffer that the device is reading must be caught here.
//!
//! Not here: what a completion does to the bytes (`state`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::state::{DirChange, State};
use super::{Shared, SimClock};
use crate::io::buf::IoBuf;
use crate::io::{Bell, Clock, Disk, DiskSpec, Done, File, Mode, Op, RESUBMITS_MAX, Wait};
use crate::io::{check_name, invalid, plain};

/// What a `reap` costs, so that a driver that never waits still sees time pass.
const REAP_NS: u64 = 1_000;

/// A simulated disk.
pub(super) struct SimDisk {
    world: Arc<Shared>,
    flights: Vec<Flight>,
    in_flight_max: usize,
    bell: Arc<SimBell>,
    bound: bool,
    resubmits: u64,
    /// Holds the lock, as a ring would.
    _lock: Option<File>,
}

#[derive(Default)]
struct SimBell(AtomicBool);

impl Bell for SimBell {
    fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// One operation under way.
struct Flight {
    ends_ns: u64,
    token: u64,
    tries: u32,
    /// CRC of the buffer at submission.
    sum: u32,
    job: Job,
    buf: Option<IoBuf>,
}

enum Job {
    Write {
        inode: u64,
        seq: u64,
        persist: bool,
    },
    Read {
        inode: u64,
        offset: u64,
    },
    Sync {
        inode: u64,
        covers: u64,
    },
    SyncDir {
        covers: u64,
    },
    Create {
        inode: u64,
        name: String,
        seq: u64,
    },
    Open {
        name: String,
        mode: Mode,
    },
    Remove {
        seq: u64,
    },
    Truncate {
        inode: u64,
        seq: u64,
    },
    /// Refused when it was submitted.
    Refused(io::Error),
}

impl SimDisk {
    pub(super) fn new(world: Arc<Shared>, spec: &DiskSpec) -> Self {
        Self {
            world,
            flights: Vec::with_capacity(spec.in_flight),
            in_flight_max: spec.in_flight,
            bell: Arc::default(),
            bound: false,
            resubmits: 0,
            _lock: spec.lock.clone(),
        }
    }

    /// Completes what ends first, if that is by `now`.
    fn complete_one(&mut self, now: u64) -> Option<Done> {
        loop {
            let ends = |flight: &&mut Flight| (flight.ends_ns, flight.token);
            let first = self.flights.iter_mut().min_by_key(ends)?;
            if first.ends_ns > now {
                return None;
            }
            let world = Arc::clone(&self.world);
            let mut state = world.state.lock();
            if first.is_resubmitted(&mut state) {
                self.resubmits += 1;
                continue;
            }
            let (ends_ns, token) = (first.ends_ns, first.token);
            let at = self.flights.iter().position(|f| (f.ends_ns, f.token) == (ends_ns, token))?;
            let flight = self.flights.remove(at);
            let done = flight.complete(&mut state);
            state.note(done.token ^ ends_ns << 8 ^ u64::from(done.result.is_ok()));
            return Some(done);
        }
    }

    fn first_end(&self) -> Option<u64> {
        self.flights.iter().map(|flight| flight.ends_ns).min()
    }
}

impl Flight {
    /// Whether this end is only an interruption or a short transfer, after which it goes on.
    fn is_resubmitted(&mut self, state: &mut State) -> bool {
        let is_write = matches!(self.job, Job::Write { .. });
        let (eintr, short) = (state.faults.eintr, state.faults.short_write);
        if !(state.rng.chance(eintr) || is_write && state.rng.chance(short)) {
            return false;
        }
        self.tries += 1;
        self.ends_ns += state.latency();
        self.tries <= RESUBMITS_MAX
    }

    fn complete(self, state: &mut State) -> Done {
        let mut buf = self.buf;
        let len = buf.as_ref().map_or(0, IoBuf::len);
        if let (Some(buf), Job::Write { .. }) = (&buf, &self.job) {
            let sum = crc32c::crc32c(buf.as_slice());
            assert_eq!(sum, self.sum, "a buffer changed while the device was reading it");
        }
        let mut file = None;
        let spent = self.tries > RESUBMITS_MAX;
        let result = match self.job {
            Job::Refused(error) => Err(error),
            Job::Write { inode, seq, .. } if spent => {
                state.forsake(inode, seq).and_then(|()| Err(plain::short_write(0, len)))
            }
            _ if spent => Err(io::ErrorKind::Interrupted.into()),
            Job::Write { inode, seq, persist } => {
                state.finish_write(inode, seq, persist).map(|()| len)
            }
            Job::Read { inode, offset } => match buf.as_mut().and_then(IoBuf::as_mut_slice) {
                Some(bytes) => state.read(inode, offset, bytes),
                None => Err(invalid("a read into nothing")),
            },
            Job::Sync { inode, covers } => state.finish_sync(inode, covers).map(|()| 0),
            Job::SyncDir { covers } => state.finish_sync_dir(covers).map(|()| 0),
            Job::Create { inode, name, seq } => state.finish_dir(seq).map(|()| {
                file = Some(File::from_sim(inode, &name, true, None));
                0
            }),
            Job::Open { name, mode } => state.lookup(&name).map(|inode| {
                file = Some(File::from_sim(inode, &name, mode == Mode::Write, None));
                0
            }),
            Job::Remove { seq } => state.finish_dir(seq).map(|()| 0),
            Job::Truncate { inode, seq } => state.finish_truncate(inode, seq).map(|()| 0),
        };
        Done { token: self.token, result, buf, file }
    }
}

/// What an operation does from its submission on; `sum` is of what it writes.
fn begin(state: &mut State, op: Op, sum: u32) -> (Job, Option<IoBuf>) {
    let mut back = None;
    let job = match op {
        Op::Write { file, offset, buf, persist } => {
            let begun = file.sim_writable().and_then(|inode| {
                let seq = state.begin_write(inode, offset, buf.as_slice(), sum)?;
                Ok(Job::Write { inode, seq, persist })
            });
            back = Some(buf);
            begun
        }
        Op::Read { file, offset, buf } => {
            back = Some(IoBuf::Owned(buf));
            file.sim().map(|inode| Job::Read { inode, offset })
        }
        Op::Sync { file } => {
            file.sim().map(|inode| Job::Sync { inode, covers: state.completions() })
        }
        Op::SyncDir => Ok(Job::SyncDir { covers: state.completions() }),
        Op::Create { name } => check_name(&name).map(|()| {
            let inode = state.new_inode();
            let change = DirChange::Create { name: name.clone(), inode };
            Job::Create { inode, name, seq: state.begin_dir(change) }
        }),
        Op::Open { name, mode } => check_name(&name).map(|()| Job::Open { name, mode }),
        Op::Remove { name } => check_name(&name)
            .map(|()| Job::Remove { seq: state.begin_dir(DirChange::Remove { name }) }),
        Op::Truncate { file, bytes } => file.sim_writable().and_then(|inode| {
            Ok(Job::Truncate { inode, seq: state.begin_truncate(inode, bytes)? })
        }),
    };
    (job.unwrap_or_else(Job::Refused), back)
}

impl Disk for SimDisk {
    fn bind(&mut self) -> io::Result<()> {
        self.bound = true;
        Ok(())
    }

    fn submit(&mut self, token: u64, op: Op) -> Result<(), (u64, Op)> {
        if self.flights.len() >= self.in_flight_max {
            return Err((token, op));
        }
        let mut state = self.world.state.lock();
        let sum = match &op {
            Op::Write { buf, .. } => crc32c::crc32c(buf.as_slice()),
            _ => 0,
        };
        let (job, buf) = begin(&mut state, op, sum);
        let ends_ns = self.world.clock.mono_ns() + state.latency();
        self.flights.push(Flight { ends_ns, token, tries: 0, sum, job, buf });
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Wait) -> io::Result<()> {
        if !self.bound {
            return Err(invalid("a disk is driven before it is bound"));
        }
        let clock: Arc<SimClock> = Arc::clone(&self.world.clock);
        let rung = self.bell.0.swap(false, Ordering::AcqRel);
        let now = clock.mono_ns() + REAP_NS;
        let until = match wait {
            _ if rung => now,
            Wait::No => now,
            // With nothing under way nothing will come: back at once rather than never.
            Wait::Event => self.first_end().unwrap_or(now),
            Wait::Until(limit) => {
                let limit = now + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX / 4);
                self.first_end().unwrap_or(limit).min(limit)
            }
        };
        clock.advance_to(until.max(now));
        let now = clock.mono_ns();
        while let Some(one) = self.complete_one(now) {
            done.push(one);
        }
        Ok(())
    }

    fn bell(&self) -> Arc<dyn Bell> {
        Arc::clone(&self.bell) as Arc<dyn Bell>
    }

    fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn resubmits(&self) -> u64 {
        self.resubmits
    }

    fn backend(&self) -> &'static str {
        "simulated"
    }
}

impl Drop for SimDisk {
    /// Like a ring, a simulated disk is gone only when what was in flight has landed.
    fn drop(&mut self) {
        while let Some(end) = self.first_end() {
            self.world.clock.advance_to(end);
            while self.complete_one(end).is_some() {}
        }
    }
}
