//! What is on the simulated disk: what readers see, what is durable, and what is neither yet.
//!
//! Invariants:
//! - `durable` is what every crash keeps. A change lies in `pending` from its submission until a
//!   sync (or its own DSYNC) covers it; a crash keeps any part of what is pending.
//! - A newer durable write hides the sectors of older pending ones: they never come back over it.
//! - A change that a failed sync should have covered is *forsaken*: no later sync covers it.
//!
//! Not here: when things complete (`disk`).

use std::collections::BTreeMap;
use std::io;

use super::filling::Filled;
use super::image::Image;
use super::{Faults, Rng};
use crate::io::invalid;

/// What a crash tears writes at.
pub(super) const SECTOR: u64 = 512;

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What readers see.
    pub(super) live: Image,
    /// What a crash keeps.
    pub(super) durable: Image,
    /// What a crash may keep, oldest first.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    seq: u64,
    change: Change,
    /// When it completed, in completions; `None` = in flight.
    completed: Option<u64>,
    forsaken: bool,
}

#[derive(Clone, Debug)]
enum Change {
    /// `hidden[i]`: the i-th sector that the write touches has been durably overwritten since.
    Write {
        offset: u64,
        bytes: Vec<u8>,
        hidden: Vec<bool>,
    },
    Truncate {
        bytes: u64,
    },
}

/// A change of the directory.
#[derive(Clone, Debug)]
pub(super) enum DirChange {
    Create { name: String, inode: u64 },
    Remove { name: String },
    Rename { from: String, to: String },
}

#[derive(Clone, Debug)]
struct PendingDir {
    seq: u64,
    change: DirChange,
    completed: Option<u64>,
}

/// The whole directory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) fingerprint: u64,
    /// Counts crashes: stands in the high half of every inode number, so that a file of the world
    /// before a crash is stale after it.
    world: u64,
    inodes: BTreeMap<u64, Inode>,
    dir: BTreeMap<String, u64>,
    durable_dir: BTreeMap<String, u64>,
    pending_dir: Vec<PendingDir>,
    seq: u64,
    completions: u64,
    pub(super) filled: Option<Filled>,
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// The pieces of a range by sector: index, offset, bytes.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, u64, &[u8])> {
    let end = offset + bytes.len() as u64;
    (offset / SECTOR..end.div_ceil(SECTOR)).enumerate().map(move |(index, sector)| {
        let from = (sector * SECTOR).max(offset);
        let to = ((sector + 1) * SECTOR).min(end);
        (index, from, &bytes[(from - offset) as usize..(to - offset) as usize])
    })
}

impl Change {
    fn write(offset: u64, bytes: &[u8]) -> Self {
        let count = sectors(offset, bytes).count();
        Self::Write { offset, bytes: bytes.to_vec(), hidden: vec![false; count] }
    }

    /// Puts all that is not hidden into an image.
    fn apply_all(&self, image: &mut Image) {
        match self {
            Self::Write { offset, bytes, hidden } if !hidden.contains(&true) => {
                image.write(*offset, bytes);
            }
            _ => self.apply(image, || true),
        }
    }

    /// Puts the sectors that are not hidden and that `keep` wants into an image.
    fn apply(&self, image: &mut Image, mut keep: impl FnMut() -> bool) {
        match self {
            Self::Truncate { bytes } => {
                if keep() {
                    image.set_len(*bytes);
                }
            }
            Self::Write { offset, bytes, hidden } => {
                for (index, at, piece) in sectors(*offset, bytes) {
                    if !hidden[index] && keep() {
                        image.write(at, piece);
                    }
                }
            }
        }
    }

    /// Hides what `newer` has overwritten.
    fn hide_under(&mut self, newer: &Self) {
        let Self::Write { offset, bytes, hidden } = self else { return };
        let hides = |at: u64, len: u64| match newer {
            Self::Truncate { bytes } => at >= *bytes,
            Self::Write { offset, bytes, .. } => {
                at >= *offset && at + len <= *offset + bytes.len() as u64
            }
        };
        for (index, at, piece) in sectors(*offset, bytes) {
            hidden[index] |= hides(at, piece.len() as u64);
        }
    }
}

impl Inode {
    /// Makes the pending change `seq` durable. `fresh`: readers see it as it is, nothing newer.
    fn settle(&mut self, seq: u64, fresh: bool) {
        let Some(at) = self.pending.iter().position(|p| p.seq == seq) else { return };
        let settled = self.pending.remove(at);
        match &settled.change {
            Change::Write { offset, bytes, hidden } if fresh && !hidden.contains(&true) => {
                self.durable.share(&self.live, *offset, bytes);
            }
            change => change.apply_all(&mut self.durable),
        }
        for older in self.pending.iter_mut().filter(|p| p.seq < seq) {
            older.change.hide_under(&settled.change);
        }
    }

    fn pending(&mut self, seq: u64) -> io::Result<&mut Pending> {
        let found = self.pending.iter_mut().find(|p| p.seq == seq);
        found.ok_or_else(|| invalid("a change that is not under way"))
    }
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: Rng::new(seed),
            faults,
            fingerprint: seed,
            world: 0,
            inodes: BTreeMap::new(),
            dir: BTreeMap::new(),
            durable_dir: BTreeMap::new(),
            pending_dir: Vec::new(),
            seq: 0,
            completions: 0,
            filled: None,
        }
    }

    /// Mixes an event into the fingerprint.
    pub(super) fn note(&mut self, event: u64) {
        let mut rng = Rng::new(self.fingerprint ^ event);
        self.fingerprint = rng.next_u64();
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Changes that have completed so far: what a sync submitted now covers.
    pub(super) fn completions(&self) -> u64 {
        self.completions
    }

    /// How long the next operation takes.
    pub(super) fn latency(&mut self) -> u64 {
        let Faults { latency_ns_min, latency_ns_max, stall, stall_ns, .. } = self.faults;
        let spread = latency_ns_max.saturating_sub(latency_ns_min);
        let usual = latency_ns_min + self.rng.below(spread + 1);
        if self.rng.chance(stall) { usual + stall_ns } else { usual }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.dir.keys().cloned().collect()
    }

    pub(super) fn used(&self) -> u64 {
        let of = |id: &u64| self.inodes.get(id).map_or(0, |inode| inode.live.allocated());
        self.dir.values().map(of).sum()
    }

    /// By how many bytes the disk may grow, and what is said beyond; `None`: by any.
    fn room(&mut self) -> Option<(u64, i32)> {
        if let Some(limit) = self.faults.enospc_after {
            return Some((limit.saturating_sub(self.used()), libc::ENOSPC));
        }
        let mut filled = self.filled?;
        let room = filled.room(self.completions, || self.used());
        self.filled = Some(filled);
        room.map(|room| (room, filled.filling.errno))
    }

    pub(super) fn lookup(&self, name: &str) -> io::Result<u64> {
        self.dir.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn new_inode(&mut self) -> u64 {
        let id = self.world << 32 | self.next_seq();
        self.inodes.insert(id, Inode::default());
        id
    }

    pub(super) fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| errno(libc::ESTALE))
    }

    pub(super) fn read(&mut self, id: u64, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let fails = self.rng.chance(self.faults.eio_read);
        self.note(offset ^ buf.len() as u64);
        let inode = self.inode(id)?;
        if fails { Err(errno(libc::EIO)) } else { Ok(inode.live.read(offset, buf)) }
    }

    fn begin(&mut self, id: u64, change: Change) -> io::Result<u64> {
        let seq = self.next_seq();
        let pending = Pending { seq, change, completed: None, forsaken: false };
        self.inode(id)?.pending.push(pending);
        Ok(seq)
    }

    /// A write of bytes with this CRC is under way: from now on a crash may keep any part of it.
    pub(super) fn begin_write(
        &mut self,
        id: u64,
        offset: u64,
        bytes: &[u8],
        sum: u32,
    ) -> io::Result<u64> {
        self.note(offset ^ u64::from(sum) << 20);
        self.begin(id, Change::write(offset, bytes))
    }

    /// A write completes.
    pub(super) fn finish_write(&mut self, id: u64, seq: u64, persist: bool) -> io::Result<()> {
        let room = self.room();
        let fails = self.rng.chance(self.faults.eio_write);
        let mut tear = Rng::new(self.rng.next_u64());
        self.completions += 1;
        let completions = self.completions;
        let inode = self.inode(id)?;
        let live = &inode.live;
        let more = match &inode.pending.iter().find(|p| p.seq == seq).map(|p| &p.change) {
            Some(Change::Write { offset, bytes, .. }) => {
                live.would_allocate(*offset, bytes.len() as u64)
            }
            _ => 0,
        };
        if more > 0
            && let Some((_, refusal)) = room.filter(|(room, _)| more > *room)
        {
            inode.pending.retain(|p| p.seq != seq);
            return Err(errno(refusal));
        }
        let pending = inode.pending(seq)?;
        pending.completed = Some(completions);
        if fails {
            pending.forsaken = true;
            let change = pending.change.clone();
            // All of it may be readable: whoever believes what he reads keeps what will be gone.
            let whole = tear.below(3) == 0;
            change.apply(&mut inode.live, || whole || tear.below(2) == 0);
            return Err(errno(libc::EIO));
        }
        let Inode { live, pending, .. } = inode;
        if let Some(pending) = pending.iter().find(|p| p.seq == seq) {
            pending.change.apply_all(live);
        }
        if persist {
            inode.settle(seq, true);
        }
        Ok(())
    }

    /// A write that is given up (its disk could not resubmit it any more) leaves its range unknown.
    pub(super) fn forsake(&mut self, id: u64, seq: u64) -> io::Result<()> {
        self.inode(id)?.pending(seq)?.forsaken = true;
        Ok(())
    }

    pub(super) fn begin_truncate(&mut self, id: u64, bytes: u64) -> io::Result<u64> {
        self.note(bytes);
        self.begin(id, Change::Truncate { bytes })
    }

    pub(super) fn finish_truncate(&mut self, id: u64, seq: u64) -> io::Result<()> {
        self.completions += 1;
        let completions = self.completions;
        let inode = self.inode(id)?;
        let pending = inode.pending(seq)?;
        pending.completed = Some(completions);
        let change = pending.change.clone();
        change.apply(&mut inode.live, || true);
        Ok(())
    }

    /// A sync completes that was submitted when `covers` changes had completed.
    pub(super) fn finish_sync(&mut self, id: u64, covers: u64) -> io::Result<()> {
        let fails = self.rng.chance(self.faults.eio_sync);
        self.note(id ^ covers);
        let inode = self.inode(id)?;
        let is_covered = |p: &Pending| p.completed.is_some_and(|at| at <= covers) && !p.forsaken;
        if fails {
            // The cache is told clean: what the sync should have covered is on its own now.
            inode.pending.iter_mut().filter(|p| is_covered(p)).for_each(|p| p.forsaken = true);
            return Err(errno(libc::EIO));
        }
        let covered: Vec<u64> =
            inode.pending.iter().filter(|p| is_covered(p)).map(|p| p.seq).collect();
        covered.into_iter().for_each(|seq| inode.settle(seq, false));
        Ok(())
    }

    pub(super) fn begin_dir(&mut self, change: DirChange) -> u64 {
        let seq = self.next_seq();
        self.pending_dir.push(PendingDir { seq, change, completed: None });
        seq
    }

    /// A change of the directory completes, or turns out to be impossible.
    pub(super) fn finish_dir(&mut self, seq: u64) -> io::Result<()> {
        let full = self.room().filter(|(room, _)| *room == 0);
        let Some(at) = self.pending_dir.iter().position(|p| p.seq == seq) else {
            return Err(invalid("a change that is not under way"));
        };
        let verdict = match &self.pending_dir[at].change {
            DirChange::Create { name, .. } if self.dir.contains_key(name) => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            DirChange::Rename { to, .. } if self.dir.contains_key(to) => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            DirChange::Remove { name } | DirChange::Rename { from: name, .. } => {
                self.lookup(name).map(|_| ())
            }
            DirChange::Create { .. } => full.map_or(Ok(()), |(_, refusal)| Err(errno(refusal))),
        };
        self.note(seq ^ u64::from(verdict.is_ok()) << 40);
        if verdict.is_err() {
            self.pending_dir.remove(at);
            return verdict;
        }
        self.completions += 1;
        self.pending_dir[at].completed = Some(self.completions);
        self.pending_dir[at].change.apply(&mut self.dir);
        Ok(())
    }

    pub(super) fn finish_sync_dir(&mut self, covers: u64) -> io::Result<()> {
        if self.rng.chance(self.faults.eio_sync) {
            return Err(errno(libc::EIO));
        }
        let durable = &mut self.durable_dir;
        self.pending_dir.retain(|pending| {
            let covered = pending.completed.is_some_and(|at| at <= covers);
            if covered {
                pending.change.apply(durable);
            }
            !covered
        });
        Ok(())
    }

    /// The world after a power cut. Consumes one random number, so that the next crash of the same
    /// moment is another one.
    pub(super) fn crash(&mut self) -> Self {
        let mut rng = Rng::new(self.rng.next_u64());
        let mut after = Self::new(rng.next_u64(), self.faults);
        after.world = self.world + 1;
        after.completions = self.completions;
        after.filled = self.filled;
        let mut dir = self.durable_dir.clone();
        for pending in &self.pending_dir {
            if rng.below(2) == 0 {
                pending.change.apply(&mut dir);
            }
        }
        for (name, id) in dir {
            let Some(old) = self.inodes.get(&id) else { continue };
            let survivor = survivor(old, &mut rng, self.faults.bit_rot);
            let id = after.new_inode();
            let inode = Inode { live: survivor.clone(), durable: survivor, ..Inode::default() };
            after.inodes.insert(id, inode);
            after.dir.insert(name.clone(), id);
            after.durable_dir.insert(name, id);
        }
        after
    }
}

/// What is left of one file.
fn survivor(old: &Inode, rng: &mut Rng, bit_rot: u32) -> Image {
    let mut image = old.durable.clone();
    for pending in &old.pending {
        match rng.below(3) {
            0 => {}
            1 => pending.change.apply(&mut image, || true),
            _ => pending.change.apply(&mut image, || rng.below(2) == 0),
        }
    }
    if bit_rot > 0 {
        for page in image.page_offsets() {
            for sector in 0..super::image::PAGE / SECTOR {
                if rng.chance(bit_rot) {
                    let at = page + sector * SECTOR + rng.below(SECTOR);
                    image.flip(at, rng.below(8) as u8);
                }
            }
        }
    }
    image
}

impl DirChange {
    fn apply(&self, dir: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create { name, inode } => {
                dir.entry(name.clone()).or_insert(*inode);
            }
            Self::Remove { name } => {
                dir.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = dir.remove(from) {
                    dir.insert(to.clone(), inode);
                }
            }
        }
    }
}
