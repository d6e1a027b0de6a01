//! Aligned memory: buffers that an operation owns while it is under way, and the staging ring.
//!
//! Invariants:
//! - A byte of the ring is written by at most one owner at a time: the [`Slot`] that reserved it,
//!   then the [`StagedBatch`] that closed over it, then nobody (frozen), until it is reclaimed.
//! - A frozen batch may be read by any number of [`Pinned`] readers; memory that is pinned, owned
//!   by a `StagedBatch` or has an unfinished `Slot` is never reclaimed.
//! - A batch is contiguous in memory: it never wraps around the end of the ring.
//!
//! Crash story: a slot that its caller has reserved and not yet filled keeps its batch from being
//! written, so a power cut never finds a batch whose header vouches for bytes that were still on
//! their way.
//!
//! One of the two rooms of the engine that may contain `unsafe`. Not here: what the bytes mean
//! (`format`), who waits for them (`intake`), where they go (`segment`).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use memmap2::{Advice, MmapMut};
use parking_lot::{Mutex, MutexGuard};

use crate::races::{Race, raced};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Alignment of every buffer given to the device, in bytes.
pub const BUF_ALIGN: usize = 4096;

/// Batches that the staging ring can remember at once; a power of two.
pub const STAGE_CELLS: usize = if cfg!(sapwood_models) { 16 } else { 1024 };

/// Set in a cell's state once the batch takes no more slots; the low bits count unfinished slots.
const CLOSED: u32 = 1 << 31;

/// Memory aligned for O_DIRECT, owned, zeroed at birth.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its allocation exclusively; nothing in it is tied to a thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access gives `&[u8]` only.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates `len` zero bytes, rounded up to a multiple of [`BUF_ALIGN`].
    ///
    /// # Errors
    /// `OutOfMemory` when the allocator refuses.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let len = len.max(1).next_multiple_of(BUF_ALIGN);
        let layout = Self::layout(len)?;
        // SAFETY: the layout's size is not zero (len ≥ BUF_ALIGN).
        let ptr = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(ptr).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { ptr, len })
    }

    fn layout(len: usize) -> io::Result<Layout> {
        Layout::from_size_align(len, BUF_ALIGN).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Where the memory begins.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// Where the memory begins, for a device that will write into it.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: ptr and len are those of our own live, initialised allocation.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Ok(layout) = Self::layout(self.len) {
            // SAFETY: allocated in `zeroed` with this very layout, freed once.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

/// Large memory that is needed for a moment. It goes back to the system when it is dropped,
/// whatever the allocator would keep of it.
pub struct Scratch {
    /// `None` when it is of no bytes.
    map: Option<MmapMut>,
}

impl Scratch {
    /// So many zero bytes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let map = (len > 0).then(|| MmapMut::map_anon(len)).transpose()?;
        Ok(Self { map })
    }
}

impl Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
}

/// A buffer that travels with an operation and comes back with its completion.
#[derive(Debug)]
pub enum IoBuf {
    /// Memory of its own.
    Owned(AlignedBuf),
    /// A closed batch in the staging ring.
    Staged(StagedBatch),
}

impl IoBuf {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(buf) => buf,
            Self::Staged(batch) => batch.as_slice(),
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes begin.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    /// The memory to write into, for a read; `None` for a staged batch, which is never read into.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Owned(buf) => Some(buf),
            Self::Staged(_) => None,
        }
    }

    /// The arena that the bytes lie in (base, length), when it may be registered with a ring.
    #[must_use]
    pub fn arena(&self) -> Option<(*const u8, usize)> {
        match self {
            Self::Owned(_) => None,
            Self::Staged(batch) => Some(batch.arena()),
        }
    }
}

/// One batch's place in the ring, as far as threads share it.
#[derive(Default)]
struct Cell {
    /// CLOSED | number of slots reserved and not finished.
    state: AtomicU32,
    /// Owners that keep the memory from being reclaimed: the `StagedBatch`, readers.
    pins: AtomicU32,
    /// The bytes will not change any more; readers may pin them.
    frozen: AtomicBool,
}

struct RingMem {
    map: MmapMut,
    base: NonNull<u8>,
    len: usize,
    cells: Box<[CachePadded<Cell>]>,
}

// SAFETY: `base` points into `map`, which the struct owns; who may touch which bytes is governed by
// the cells, as the module's invariants say.
unsafe impl Send for RingMem {}
// SAFETY: as above; all shared state is atomic.
unsafe impl Sync for RingMem {}

impl RingMem {
    fn cell(&self, seq: u64) -> &Cell {
        &self.cells[(seq as usize) & (STAGE_CELLS - 1)]
    }

    fn at(&self, virt: u64) -> NonNull<u8> {
        let offset = (virt % self.len as u64) as usize;
        // SAFETY: offset < len, so the pointer stays inside the mapping.
        unsafe { self.base.add(offset) }
    }
}

/// A closed batch that the ring still remembers.
#[derive(Clone, Copy, Debug)]
struct Extent {
    seq: u64,
    start: u64,
    len: usize,
}

struct Control {
    /// The sequence of the batch that is open, or of the next to be opened.
    next_seq: u64,
    /// Virtual position at which the next batch opens; physical = virtual modulo the length.
    head: u64,
    /// Memory below this virtual position may be overwritten.
    floor: u64,
    /// Bytes of the open batch; 0 = none is open.
    open_len: usize,
    /// Closed batches whose memory is intact, oldest first; at most STAGE_CELLS - 1.
    extents: VecDeque<Extent>,
}

/// Memory in which appends are staged, written from, and read back by followers: one ring per
/// shard.
///
/// `T` is what must change together with a reservation (LSNs, runs), under the same short lock.
pub struct StageRing<T> {
    mem: Arc<RingMem>,
    inner: Mutex<(Control, T)>,
    batch_max: usize,
    align: usize,
}

/// What the memory of a ring is in use for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageUsage {
    /// Holds what is not durable yet.
    pub staged: u64,
    /// Durable, and held by readers at this moment.
    pub pinned: u64,
    /// All of it.
    pub bytes: u64,
}

/// Why a reservation was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The open batch cannot take it: close it and ask again.
    BatchFull,
    /// The ring is full of batches that are not yet durable: wait.
    RingFull,
    /// It would not fit an empty batch.
    TooLarge,
}

impl<T> StageRing<T> {
    /// Maps a ring of `bytes`; batches hold at most `batch_max` bytes and begin at multiples of
    /// `align`. The first batch will be number `first_seq`.
    ///
    /// # Errors
    /// Of the mapping, or `InvalidInput` for sizes that do not fit each other.
    pub fn new(
        bytes: usize,
        batch_max: usize,
        align: usize,
        first_seq: u64,
        state: T,
    ) -> io::Result<Self> {
        if !align.is_power_of_two() || align < BUF_ALIGN || batch_max < align {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let batch_max = batch_max.next_multiple_of(align);
        let len = bytes.max(2 * batch_max).next_multiple_of(align);
        let mut map = MmapMut::map_anon(len)?;
        // A child of fork must not share pages that a device is reading (faults.md, 47).
        if !cfg!(miri) {
            map.advise(Advice::DontFork)?; // a call that Miri does not know
        }
        // Touch every page now: a page fault on the append path would be paid under the lock.
        for page in map.chunks_mut(BUF_ALIGN) {
            page[0] = 0;
        }
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        let cells = (0..STAGE_CELLS).map(|_| CachePadded::new(Cell::default())).collect();
        let control = Control {
            next_seq: first_seq,
            head: 0,
            floor: 0,
            open_len: 0,
            extents: VecDeque::with_capacity(STAGE_CELLS),
        };
        Ok(Self {
            mem: Arc::new(RingMem { map, base, len, cells }),
            inner: Mutex::new((control, state)),
            batch_max,
            align,
        })
    }

    /// The mapping, for registration with a device ring.
    #[must_use]
    pub fn arena(&self) -> super::Arena {
        let keep = Arc::clone(&self.mem);
        super::Arena { base: self.mem.base.as_ptr() as usize, bytes: self.mem.map.len(), keep }
    }

    /// The most bytes that one batch can hold, front and run table included.
    #[must_use]
    pub fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Takes the lock. Held for tens of nanoseconds: nobody may allocate or call the system under
    /// it.
    pub fn lock(&self) -> StageGuard<'_, T> {
        StageGuard { ring: self, guard: self.inner.lock() }
    }

    /// Pins the batch `seq` for reading, if its bytes are frozen and still in memory.
    #[must_use]
    pub fn pin(&self, seq: u64) -> Option<Pinned> {
        let guard = self.inner.lock();
        let extents = &guard.0.extents;
        let first = extents.front()?.seq;
        let extent = *extents.get(usize::try_from(seq.checked_sub(first)?).ok()?)?;
        // Half of the ring behind the head is off limits for new pins: a reader that is preempted
        // while it copies must not stand in the way of appends.
        let age = guard.0.head.saturating_sub(extent.start);
        let cell = self.mem.cell(seq);
        if age > (self.mem.len / 2) as u64 || !cell.frozen.load(Ordering::Acquire) {
            return None;
        }
        cell.pins.fetch_add(1, Ordering::Relaxed);
        drop(guard);
        Some(Pinned { mem: Arc::clone(&self.mem), extent })
    }
}

/// The ring, locked.
pub struct StageGuard<'a, T> {
    ring: &'a StageRing<T>,
    guard: MutexGuard<'a, (Control, T)>,
}

impl<T> Deref for StageGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard.1
    }
}

impl<T> DerefMut for StageGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard.1
    }
}

impl<'a, T> StageGuard<'a, T> {
    /// Whether batches of these padded lengths, one behind the other, have room now; makes it where
    /// it can be made. Nothing is open: what follows under the same lock then fits.
    #[must_use]
    pub fn make_room_for(&mut self, lens: impl Iterator<Item = usize>) -> bool {
        let mem = &*self.ring.mem;
        let control = &mut self.guard.0;
        assert!(control.open_len == 0, "room for batches behind an open one");
        let (mut end, mut batches) = (control.head, 0);
        for len in lens {
            let to_end = mem.len as u64 - end % mem.len as u64;
            // A batch never wraps.
            end += if len as u64 > to_end { to_end } else { 0 } + len as u64;
            batches += 1;
        }
        control.reclaim(end, batches, mem)
    }

    /// The sequence that the open batch has, or the next one will have.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.guard.0.next_seq
    }

    /// Bytes staged in the open batch, its front included; 0 when none is open.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.guard.0.open_len
    }

    /// What the memory is in use for: a look at each batch that the ring remembers.
    #[must_use]
    pub fn usage(&self) -> StageUsage {
        let mem = &*self.ring.mem;
        let (staged, bytes) = (self.guard.0.open_len as u64, mem.len as u64);
        let mut usage = StageUsage { staged, pinned: 0, bytes };
        for extent in &self.guard.0.extents {
            let cell = mem.cell(extent.seq);
            if !cell.frozen.load(Ordering::Relaxed) {
                usage.staged += extent.len as u64;
            } else if cell.pins.load(Ordering::Relaxed) != 0 {
                usage.pinned += extent.len as u64;
            }
        }
        usage
    }

    /// Bytes of closed and open batches that are not yet reclaimable or never will be by the
    /// caller: from the oldest extent still owned to the head.
    #[must_use]
    pub fn fits_batch(&self, front: usize, len: usize, trailer: usize) -> bool {
        front + len + trailer <= self.ring.batch_max
    }

    /// Reserves `len` bytes in the open batch, opening one with `front` bytes of head room first if
    /// need be, such that `trailer` more bytes would still fit. The slot must be filled and
    /// finished soon: the batch is not written before.
    ///
    /// # Errors
    /// [`NoRoom`] says what the caller has to do.
    pub fn reserve(
        &mut self,
        front: usize,
        len: usize,
        trailer: usize,
    ) -> Result<Slot<'a>, NoRoom> {
        if !self.fits_batch(front, len, trailer) {
            return Err(NoRoom::TooLarge);
        }
        let was_open = self.guard.0.open_len != 0;
        let begin = if was_open { self.guard.0.open_len } else { front };
        let padded = (begin + len + trailer).next_multiple_of(self.ring.align);
        if padded > self.ring.batch_max {
            return Err(NoRoom::BatchFull);
        }
        let mem = &*self.ring.mem;
        let control = &mut self.guard.0;
        let to_end = mem.len as u64 - control.head % mem.len as u64;
        if padded as u64 > to_end {
            if was_open {
                return Err(NoRoom::BatchFull);
            }
            control.head += to_end;
        }
        if !control.make_room(padded, mem) {
            // What we skipped at the end of the ring stays skipped: harmless, it is reclaimed in
            // turn.
            return Err(if was_open { NoRoom::BatchFull } else { NoRoom::RingFull });
        }
        let cell = mem.cell(control.next_seq);
        if !was_open {
            cell.frozen.store(false, Ordering::Relaxed);
            cell.state.store(0, Ordering::Relaxed);
        }
        cell.state.fetch_add(1, Ordering::Relaxed);
        control.open_len = begin + len;
        let start = mem.at(control.head + begin as u64);
        // SAFETY: [head+begin, +len) lies inside the mapping (padded ≤ to_end), above `floor`, was
        // never reserved since it was reclaimed, and is handed out exactly once: the borrow is
        // unique until the slot is finished, which the cell counts.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) };
        Ok(Slot { bytes, cell, offset: begin })
    }

    /// Closes the open batch, `trailer` bytes longer than what was reserved, and opens the way for
    /// the next one; with nothing open, makes a batch of `front` bytes alone (a mark).
    ///
    /// `None` when nothing is open and the ring has no room for a mark.
    pub fn close(&mut self, front: usize, trailer: usize) -> Option<StagedBatch> {
        let mem = Arc::clone(&self.ring.mem);
        let align = self.ring.align;
        let control = &mut self.guard.0;
        if control.open_len == 0 {
            let padded = front.next_multiple_of(align);
            let to_end = mem.len as u64 - control.head % mem.len as u64;
            if padded as u64 > to_end {
                control.head += to_end;
            }
            if !control.make_room(padded, &mem) {
                return None;
            }
            let cell = mem.cell(control.next_seq);
            cell.frozen.store(false, Ordering::Relaxed);
            cell.state.store(0, Ordering::Relaxed);
            control.open_len = front;
        }
        let used = control.open_len + trailer;
        let len = used.next_multiple_of(align);
        debug_assert!(len <= self.ring.batch_max);
        let extent = Extent { seq: control.next_seq, start: control.head, len };
        control.extents.push_back(extent);
        control.head += len as u64;
        control.next_seq += 1;
        control.open_len = 0;
        let cell = mem.cell(extent.seq);
        cell.pins.fetch_add(1, Ordering::Relaxed);
        cell.state.fetch_or(CLOSED, Ordering::AcqRel);
        Some(StagedBatch { mem, extent, used })
    }
}

impl Control {
    /// Reclaims the oldest batches until `padded` bytes from the head on are free.
    fn make_room(&mut self, padded: usize, mem: &RingMem) -> bool {
        self.reclaim(self.head + padded as u64, 1, mem)
    }

    /// Reclaims the oldest batches until the memory up to `end` is free, and cells for so many
    /// batches.
    fn reclaim(&mut self, end: u64, batches: usize, mem: &RingMem) -> bool {
        while end - self.floor > mem.len as u64 || self.extents.len() + batches >= STAGE_CELLS {
            let Some(oldest) = self.extents.front() else {
                self.floor = self.head;
                return end - self.floor <= mem.len as u64 && batches < STAGE_CELLS;
            };
            let cell = mem.cell(oldest.seq);
            let idle = cell.state.load(Ordering::Acquire) == CLOSED
                && (cell.pins.load(Ordering::Acquire) == 0 || raced(Race::PinIgnored));
            if !idle {
                return false;
            }
            self.floor = oldest.start + oldest.len as u64;
            self.extents.pop_front();
        }
        true
    }
}

/// Bytes of a batch that one append fills. Finish it as soon as they are filled.
pub struct Slot<'a> {
    bytes: &'a mut [u8],
    cell: &'a Cell,
    offset: usize,
}

impl Slot<'_> {
    /// The bytes to fill, every one of them.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// Where in its batch the slot begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Gives the filled bytes up. True when the batch was closed meanwhile and this was its last
    /// slot: then whoever writes batches must be woken.
    #[must_use]
    pub fn finish(self) -> bool {
        // The decrement is in `drop`; look at what it leaves before it is done.
        let cell = self.cell;
        std::mem::forget(self);
        cell.state.fetch_sub(1, Ordering::AcqRel) == (CLOSED | 1)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // Only on a panic between reserve and finish: the bytes are whatever they were, and the
        // record header's CRC will not fit them, so zero them rather than leak another log's bytes.
        self.bytes.fill(0);
        self.cell.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A closed batch: exclusively owned, first by the shard that completes its header, then by the
/// write that makes it durable.
pub struct StagedBatch {
    mem: Arc<RingMem>,
    extent: Extent,
    used: usize,
}

impl StagedBatch {
    /// The batch's sequence.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.extent.seq
    }

    /// Meaningful bytes, front and trailer included, padding not.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Gives up the last so many of the meaningful bytes, which nobody has written: the batch is
    /// padded to `align` anew.
    pub fn give_up(&mut self, unused: usize, align: usize) {
        self.used -= unused.min(self.used);
        self.extent.len = self.used.next_multiple_of(align).min(self.extent.len);
    }

    /// Whether every slot has been finished.
    #[must_use]
    pub fn filled(&self) -> bool {
        self.mem.cell(self.extent.seq).state.load(Ordering::Acquire) == CLOSED
    }

    /// All bytes, padding included; `None` while a slot is unfinished.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.filled() {
            return None;
        }
        // SAFETY: the extent is inside the mapping and above the floor (we hold a pin); no slot is
        // left (filled), it is not frozen, and `&mut self` is the only StagedBatch of this extent.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.mem.at(self.extent.start).as_ptr(), self.extent.len)
        })
    }

    /// All bytes, padding included.
    ///
    /// # Panics
    /// When a slot is unfinished: to look at such bytes would be a data race.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        assert!(self.filled(), "a staged batch is looked at before it is filled");
        // SAFETY: as in `bytes_mut`, shared.
        unsafe {
            std::slice::from_raw_parts(self.mem.at(self.extent.start).as_ptr(), self.extent.len)
        }
    }

    /// The arena that the batch lies in.
    #[must_use]
    pub fn arena(&self) -> (*const u8, usize) {
        (self.mem.base.as_ptr(), self.mem.len)
    }

    /// Declares the bytes final and readable, and gives up ownership.
    pub fn freeze(self) {
        if self.filled() {
            self.mem.cell(self.extent.seq).frozen.store(true, Ordering::Release);
        }
    }
}

impl Drop for StagedBatch {
    fn drop(&mut self) {
        self.mem.cell(self.extent.seq).pins.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for StagedBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StagedBatch({}, {} bytes)", self.extent.seq, self.extent.len)
    }
}

/// A frozen batch in memory, kept from being overwritten while it is read. Hold it briefly.
pub struct Pinned {
    mem: Arc<RingMem>,
    extent: Extent,
}

impl Deref for Pinned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: frozen (checked when pinned) and pinned: nobody writes these bytes meanwhile.
        unsafe {
            std::slice::from_raw_parts(self.mem.at(self.extent.start).as_ptr(), self.extent.len)
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.mem.cell(self.extent.seq).pins.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
