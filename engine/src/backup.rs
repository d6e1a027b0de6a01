//! A hot backup: what is durable now, copied into a directory of its own while appends go on.
//!
//! Invariants:
//! - Of each shard one moment is copied, a moment that a power cut could have left: the manifest
//!   with all that was said by then, and the batches that were durable. A hold keeps its files.
//! - The copy says that it is unfinished from its first file on until the last byte is durable;
//!   nothing in it is written over, and nothing is written if anything is there.
//! - It is recovered as it is made: what is damaged or short in it is found now, and the same code
//!   decides that would decide at an open. The source is only read.
//!
//! Crash story: the power goes when some files are copied. The mark of an unfinished copy was
//! durable before any of them, so nobody takes it for a directory, and nobody makes a new one in
//! its place.
//!
//! Not here: keeping files (`hold`), judging the copy (`recover`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::config::Recovery;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::manifest::Edit;
use crate::hold::Hold;
use crate::inner::wait;
use crate::io::buf::AlignedBuf;
use crate::io::{Backend, Mode, OsOptions, OsStorage, Storage};
use crate::lsn::{SegmentId, ShardId};
use crate::manifest::{Cursor, Loaded, Manifest, State};
use crate::names::{self, Name};
use crate::open;
use crate::recover::recover;
use crate::reply::Reply;
use crate::shard::{Port, Request};
use crate::view::take_tails;
use crate::work::{Plan, Powers};

/// Bytes that are read and written at once: the memory that a backup takes.
const PIECE_BYTES: usize = 1 << 20;

/// How far a backup is, in bytes of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Copied so far.
    pub done: u64,
    /// To be copied.
    pub total: u64,
}

/// What a backup came to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackupReport {
    /// Segments that were copied.
    pub segments: u64,
    /// Their bytes, and those of their indexes.
    pub bytes: u64,
    /// Damage in the copy, as text: what the source knows of, and what was found on the way. What
    /// is sealed is not read through; `sapwood verify` does that.
    pub damages: Vec<String>,
}

/// A shard at one moment.
struct Picture {
    shard: ShardId,
    state: State,
    /// Of the manifest's last frame then.
    seq: u64,
    durable: u64,
    /// Where the batches of each segment end that is not sealed.
    ends: BTreeMap<SegmentId, u64>,
}

/// A file to be copied, up to `bytes`.
struct Piece {
    name: String,
    bytes: u64,
    unit: usize,
    /// It is derived: without it, the copy makes it anew.
    index: bool,
    segment: SegmentId,
}

impl Engine {
    /// A hot backup: copies what is durable into `dir`, a directory that is missing or empty, while
    /// appends, readers and collection go on. It holds every record that was acked before the call,
    /// with all logs, settings and cursors; it is opened like any other directory, and keeps
    /// the directory's id and lineage: it is a twin, and only one of the two should go on.
    ///
    /// Blocks until everything is durable there; takes 1 MiB of memory and what opening takes. It
    /// is refused by every open until it is finished. After an error, or a crash, remove `dir` and
    /// begin again: the source is unharmed.
    ///
    /// ```
    /// # use sapwood::{Config, Engine};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let engine = Engine::open(Config::new(dir.path().join("wal")))?;
    /// engine.log("orders")?.writer()?.append("first").wait()?;
    /// engine.checkpoint_to(&dir.path().join("copy"))?;
    /// let copy = Engine::open(Config::new(dir.path().join("copy")))?;
    /// assert_eq!(copy.logs()[0].durable.0, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a directory that is not empty and in a read-only engine; `HoldBroken` when the
    /// copy took too long for the limits of holds; `NoSpace`, `Io` and `Unsupported` of the target;
    /// `Halted` when a shard has halted.
    pub fn checkpoint_to(&self, dir: &Path) -> Result<BackupReport> {
        self.checkpoint_to_with(dir, &mut |_| ())
    }

    /// As [`checkpoint_to`](Self::checkpoint_to), telling how far it is, on the calling thread.
    ///
    /// # Errors
    /// As [`checkpoint_to`](Self::checkpoint_to).
    pub fn checkpoint_to_with(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(BackupProgress),
    ) -> Result<BackupReport> {
        let doing = |e| Error::io(format!("opening {}", dir.display()), e);
        let backend = Backend::Blocking;
        let direct = self.inner.config.as_ref().is_none_or(|config| config.direct);
        let look = OsOptions { backend, create_dir: false, read_only: true, ..Default::default() };
        // Before the probe, which writes a file.
        if let Ok(there) = OsStorage::open(dir, look) {
            refuse_used(&there)?;
        }
        let options = OsOptions { backend, direct, ..OsOptions::default() };
        let target = OsStorage::open(dir, options).map_err(doing)?;
        copy(self, &(Arc::new(target) as Arc<dyn Storage>), progress)
    }

    /// As [`checkpoint_to_with`](Self::checkpoint_to_with), onto any storage: how the simulator
    /// makes a backup.
    ///
    /// # Errors
    /// As [`checkpoint_to`](Self::checkpoint_to).
    #[cfg(any(test, feature = "sim"))]
    pub fn checkpoint_on(
        &self,
        target: &Arc<dyn Storage>,
        progress: &mut dyn FnMut(BackupProgress),
    ) -> Result<BackupReport> {
        copy(self, target, progress)
    }
}

fn refuse_used(target: &dyn Storage) -> Result<()> {
    let files = open::list(target)?;
    match files.iter().find(|(_, name)| *name != Name::Probe) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Invalid(format!(
            "a backup goes into an empty or a missing directory; there is {name:?}"
        ))),
    }
}

/// The steps; FORMAT.md has their table.
fn copy(
    engine: &Engine,
    target: &Arc<dyn Storage>,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport> {
    let inner = &engine.inner;
    refuse_used(&**target)?;
    let needs = target.probe().unit.value;
    if needs > inner.facts.unit {
        let unit = inner.facts.unit;
        return Err(Error::Unsupported(format!(
            "the target needs units of {needs} bytes, the directory was made with {unit}"
        )));
    }
    let hold = engine.hold("backup")?;
    begin(&**target)?;
    let mut pictures = Vec::new();
    for port in hold.ports() {
        pictures.push(picture(port)?);
    }
    let mut report = BackupReport::default();
    let work: Vec<_> = pictures.iter().map(|picture| (picture.shard, pieces(picture))).collect();
    let total = work.iter().flat_map(|(_, pieces)| pieces).map(|piece| piece.bytes).sum();
    let mut told = BackupProgress { done: 0, total };
    for (shard, pieces) in &work {
        let last = pieces.last().map_or(SegmentId(0), |piece| piece.segment);
        for piece in pieces {
            // What is copied is let go; what comes is not for us.
            hold.narrow(*shard, piece.segment, last);
            copy_file(&*inner.storage, &**target, piece, &hold, &mut |bytes| {
                told.done += bytes;
                progress(told);
            })?;
            report.segments += u64::from(!piece.index);
        }
        hold.narrow(*shard, SegmentId(u64::MAX), SegmentId(0));
    }
    drop(hold);
    report.bytes = told.done;
    target.sync_dir().map_err(|e| Error::io("syncing the target", e))?;
    for picture in pictures.into_iter().rev() {
        finish_shard(target, picture, &mut report)?;
    }
    end(&**target)?;
    Ok(report)
}

/// Says that what is here is unfinished, before anything else is here.
pub(crate) fn begin(target: &dyn Storage) -> Result<()> {
    let doing = |e| Error::io("beginning the copy", e);
    let mark = target.create(names::UNFINISHED).map_err(doing)?;
    target.sync(&mark).map_err(doing)?;
    target.sync_dir().map_err(doing)
}

/// Everything is durable: it is a directory from here on.
pub(crate) fn end(target: &dyn Storage) -> Result<()> {
    let doing = |e| Error::io("ending the copy", e);
    target.sync_dir().map_err(doing)?;
    target.remove(names::UNFINISHED).map_err(doing)?;
    target.sync_dir().map_err(doing)
}

/// Asks a shard for a moment of its own: between two of its turns, so that all of it fits.
fn picture(port: &Arc<Port>) -> Result<Picture> {
    let taken = Arc::new(Mutex::new(None));
    let (theirs, view) = (Arc::clone(&taken), Arc::clone(&port.view));
    let look = move |manifest: &Manifest| {
        let durable = view.durable();
        let state = manifest.picture(durable, |state| take_tails(state, &view));
        let seen = view.lock();
        let live = seen.segments.iter().filter(|(_, seen)| seen.first_seq != 0);
        let ends = live.map(|(id, seen)| (*id, seen.end)).collect();
        let (shard, seq) = (view.shard, manifest.seq());
        *theirs.lock() = Some(Picture { shard, state, seq, durable, ends });
    };
    let reply = Reply::new();
    port.request(Request::Look(Box::new(look), Arc::clone(&reply)))?;
    wait(port, &reply)?;
    let mut picture = taken.lock().take().ok_or(Error::Closed)?;
    forget_unused(&mut picture);
    Ok(picture)
}

/// Spares and retired files are not copied: only the highest number is remembered. Of what is not
/// sealed, only what is durable.
fn forget_unused(picture: &mut Picture) {
    let Picture { state, ends, .. } = picture;
    let unused = state
        .segments
        .iter()
        .filter(|(id, facts)| facts.sealed.is_none() && !ends.contains_key(id));
    let unused: Vec<SegmentId> = unused.map(|(id, _)| *id).collect();
    for segment in unused {
        state.apply(&Edit::Retired { segment });
    }
    // Shorter than it was made: what is missing at its end is not missed.
    for (segment, end) in ends.iter() {
        let facts = state.segments.get_mut(segment).filter(|facts| facts.sealed.is_none());
        if let Some(facts) = facts {
            facts.bytes = *end;
        }
    }
    let files: Vec<u64> = state.retired.keys().copied().collect();
    files.into_iter().for_each(|file| state.forget(file));
}

/// What is to be copied of a shard, oldest first.
fn pieces(picture: &Picture) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let unit = picture.state.facts.unit as usize;
    for (id, facts) in &picture.state.segments {
        let end = facts.sealed.map(|sealed| sealed.end_offset);
        let Some(bytes) = end.or_else(|| picture.ends.get(id).copied()) else { continue };
        let name = names::segment(picture.shard, facts.file);
        pieces.push(Piece { name, bytes, unit, index: false, segment: *id });
        // What is owed is not there; like anything derived it is made anew.
        if let Some(sealed) = facts.sealed.filter(|sealed| sealed.index_bytes != 0) {
            let name = names::index(picture.shard, facts.file);
            pieces.push(Piece { name, bytes: sealed.index_bytes, unit, index: true, segment: *id });
        }
    }
    pieces
}

/// Copies a file durably. It was whole if the hold still holds afterwards.
fn copy_file(
    source: &dyn Storage,
    target: &dyn Storage,
    piece: &Piece,
    hold: &Hold,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let Piece { name, bytes, index, .. } = piece;
    let reading = |e| Error::io(format!("reading {name}"), e);
    let writing = |e| Error::io(format!("writing the copy of {name}"), e);
    let from = match source.open(name, Mode::Read) {
        Ok((file, _)) => file,
        Err(e) => {
            hold.check()?;
            let derived = *index && e.kind() == std::io::ErrorKind::NotFound;
            return if derived { Ok(()) } else { Err(reading(e)) };
        }
    };
    let to = target.create(name).map_err(writing)?;
    let mut buf = AlignedBuf::zeroed(PIECE_BYTES).map_err(reading)?;
    let mut at = 0;
    while at < *bytes {
        let want = buf.len();
        let got = source.read_at(&from, at, &mut buf, want).map_err(reading)?;
        let got = (got as u64).min(bytes - at) as usize;
        if got == 0 && *index {
            break; // damaged: it is made anew
        }
        if got == 0 {
            return Err(reading(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let padded = got.next_multiple_of(piece.unit).min(buf.len());
        buf[got..padded].fill(0);
        target.write_at(&to, at, &buf, padded, false).map_err(writing)?;
        at += got as u64;
        hold.check()?;
        progress(got as u64);
    }
    target.truncate(&to, at).map_err(writing)?;
    target.sync(&to).map_err(writing)?;
    hold.check()
}

/// Recovers the copy of a shard: its manifest is written by that.
fn finish_shard(
    target: &Arc<dyn Storage>,
    picture: Picture,
    report: &mut BackupReport,
) -> Result<()> {
    let Picture { shard, state, seq, durable, .. } = picture;
    // As if the last frame stood in the other slot.
    let cursor = Cursor { slot: 1, seq, ..Cursor::default() };
    let (powers, progress) = (&Powers::default(), &AtomicU64::new(0));
    let (storage, mode, write, keep_to) = (target, Recovery::TolerateTail, true, durable);
    let plan = Plan { storage, shard, mode, write, keep_to, powers, progress };
    let recovered = recover(&plan, Loaded { state, cursor, durable, repaired: Vec::new() })?;
    if recovered.view.segments.values().any(|seen| seen.owed.is_some()) {
        // It would open all the same; but who wants a copy wants a whole one.
        return Err(Error::NoSpace("writing the indexes of the copy".into()));
    }
    report.damages.extend(recovered.report.damages);
    Ok(())
}
