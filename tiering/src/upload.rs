//! One sealed segment becomes one proven object.
//!
//! Invariants:
//! - An object is `Proven` only after the store's own checksum of it is that of the bytes that were
//!   verified here, or after all of what is there was read back and verified.
//! - Nothing that exists is taken for the own object by its name alone, and nothing is overwritten.
//! - A crash at any moment leaves the object, whole, or nothing: the next attempt makes the same
//!   name and finds it. `FORMAT.md` has the table.
//!
//! Not here: when, how fast and what then (`tier`).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;
use sapwood::format::{DamageFacts, IndexData};
use sapwood::{Engine, Error, LogId, SealedSegment};

use crate::gather::{Extent, gather};
use crate::layout;
use crate::object::{ObjectHeader, Packing, Stretch, verify};
use crate::pack::{NotPacked, Packed, pack};
use crate::remote::NotListed;
use crate::store::{Key, ObjectStore, StoreError};

/// Bytes of one read of a segment, and of one get.
const PIECE_BYTES: usize = 1 << 20;

/// Names that may be taken by something else before the tier gives up on a segment.
const NAMES_MAX: u32 = 8;

/// An object larger than this is not read to find out whether it is the own one: a segment has at
/// most 4 GiB.
const OTHER_BYTES_MAX: u64 = 5 << 30;

/// An index larger than this is not read: it is asked only what nothing else names.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// A segment whose object is proven.
#[derive(Debug)]
pub struct Proven {
    /// The object.
    pub key: Key,
    /// Its bytes.
    pub bytes: u64,
    /// CRC32C of all of it, as the store has it.
    pub crc: u32,
    /// It was there already: an earlier attempt had written it.
    pub found: bool,
    /// Damage in the segment that nobody has given up: these records are in no object.
    pub damages: Vec<DamageFacts>,
}

/// Why there is no object yet.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotUploaded {
    /// Nobody needs the segment any more: it left, or is another one by now.
    Gone,
    /// The file cannot be read.
    Read(io::Error),
    /// The engine does not answer.
    Engine(Error),
    /// No object can be made of it.
    Pack(NotPacked),
    /// The store.
    Store(StoreError),
    /// It is there, and the remote manifest does not say so yet.
    Listing(NotListed),
    /// Names of this object are taken by objects that are not it, or are damaged: somebody has to
    /// look.
    Foreign(Key),
}

impl fmt::Display for NotUploaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the segment is gone"),
            Self::Read(e) => write!(f, "reading the segment: {e}"),
            Self::Engine(e) => write!(f, "asking the engine: {e}"),
            Self::Pack(e) => write!(f, "making the object: {e}"),
            Self::Store(e) => write!(f, "the store: {e}"),
            Self::Listing(e) => write!(f, "listing it: {e}"),
            Self::Foreign(key) => write!(f, "{key} is there and is not what it must be"),
        }
    }
}

impl std::error::Error for NotUploaded {}

impl From<StoreError> for NotUploaded {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// Uploads a segment and proves it. Blocks; `spent` is told of bytes before they are read or sent,
/// and waits as long as it likes. Memory: the segment twice, and 96 bytes a record.
///
/// # Errors
/// See [`NotUploaded`].
pub fn upload(
    engine: &Engine,
    store: &dyn ObjectStore,
    sealed: &SealedSegment,
    packing: Packing,
    spent: &mut dyn FnMut(u64),
) -> Result<Proven, NotUploaded> {
    let packed = read_and_pack(engine, sealed, packing, spent)?;
    let header = packed.verified.footer.header;
    for again in 0..NAMES_MAX {
        let key = layout::segment(&header, again)?;
        let Some(found) = place(store, &key, &packed, &header, spent)? else { continue };
        // An earlier attempt may have packed it otherwise.
        let (bytes, crc) = match found {
            true => (store.len(&key)?, store.checksum(&key)?),
            false => (packed.bytes.len() as u64, crc32c::crc32c(&packed.bytes)),
        };
        return Ok(Proven { key, bytes, crc, found, damages: not_given_up(packed) });
    }
    Err(NotUploaded::Foreign(layout::segment(&header, 0)?))
}

/// Damage that is not among what somebody went past by name.
fn not_given_up(packed: Packed) -> Vec<DamageFacts> {
    let facts = packed.verified.facts;
    let lost: Vec<DamageFacts> = facts
        .edits
        .iter()
        .filter_map(|edit| match edit {
            sapwood::format::Edit::Damage(damage) if damage.lost => Some(*damage),
            _ => None,
        })
        .collect();
    let covers = |lost: &DamageFacts, damage: &DamageFacts| {
        lost.log == damage.log
            && lost.first_lsn <= damage.first_lsn
            && lost.last_lsn.is_none_or(|last| damage.last_lsn.is_some_and(|own| own <= last))
    };
    let given_up = |damage: &DamageFacts| lost.iter().any(|lost| covers(lost, damage));
    packed.damages.into_iter().filter(|damage| !given_up(damage)).collect()
}

fn read_and_pack(
    engine: &Engine,
    sealed: &SealedSegment,
    packing: Packing,
    spent: &mut dyn FnMut(u64),
) -> Result<Packed, NotUploaded> {
    let dir = engine.dir();
    let bytes = read_file(&dir.join(&sealed.file), sealed.bytes, spent);
    let bytes = bytes.map_err(|e| still_there(engine, sealed, NotUploaded::Read(e)))?;
    let index = read_index(&dir.join(&sealed.index));
    let extent = Extent::of(sealed, engine.facts().unit);
    let logs: Vec<LogId> = match &index {
        Some(index) => index.entries.iter().map(|entry| entry.log).collect(),
        None => {
            let all = gather(&bytes, &extent, None, &|_| true);
            let all = all.map_err(|flaw| NotUploaded::Pack(flaw.into()))?;
            let mut logs: Vec<LogId> = all.records.iter().map(|one| one.header.log).collect();
            logs.dedup();
            logs
        }
    };
    let facts = engine.log_facts(sealed.shard, &logs).map_err(NotUploaded::Engine)?;
    let packed = pack(&bytes, &extent, index.as_ref(), facts, packing);
    drop(bytes);
    // What was read was this segment only if it still is.
    let packed = packed.map_err(|e| still_there(engine, sealed, NotUploaded::Pack(e)))?;
    if is_there(engine, sealed) { Ok(packed) } else { Err(NotUploaded::Gone) }
}

/// The engine lists it with this nonce: its file was not touched up to now.
fn is_there(engine: &Engine, sealed: &SealedSegment) -> bool {
    let same = |one: &SealedSegment| {
        (one.shard, one.segment, one.nonce) == (sealed.shard, sealed.segment, sealed.nonce)
    };
    engine.sealed_segments().iter().any(same)
}

fn still_there(engine: &Engine, sealed: &SealedSegment, error: NotUploaded) -> NotUploaded {
    if is_there(engine, sealed) { error } else { NotUploaded::Gone }
}

fn read_file(
    path: &std::path::Path,
    bytes: u64,
    spent: &mut dyn FnMut(u64),
) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // The shard writes past the page cache: what may be cached is not asked, and not left behind.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let mut out = vec![0; bytes as usize];
    for (n, piece) in out.chunks_mut(PIECE_BYTES).enumerate() {
        spent(piece.len() as u64);
        file.read_exact_at(piece, (n * PIECE_BYTES) as u64)?;
    }
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(out)
}

/// The index, if it is good: it only names what is damaged.
fn read_index(path: &std::path::Path) -> Option<IndexData> {
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    if len > INDEX_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    IndexData::decode(&bytes).ok()
}

/// Puts the object there, or finds it: `Some(found)` once it is proven, `None` when the name is
/// taken by something else.
fn place(
    store: &dyn ObjectStore,
    key: &Key,
    packed: &Packed,
    header: &ObjectHeader,
    spent: &mut dyn FnMut(u64),
) -> Result<Option<bool>, NotUploaded> {
    let crc = crc32c::crc32c(&packed.bytes);
    spent(packed.bytes.len() as u64);
    let found = match store.put_new(key, &packed.bytes, crc) {
        Ok(()) => false,
        Err(StoreError::Exists) => true,
        Err(other) => return Err(other.into()),
    };
    if store.len(key)? == packed.bytes.len() as u64 && store.checksum(key)? == crc {
        return Ok(Some(found));
    }
    if !found {
        // It took the bytes and has others now.
        let what = format!("{key} does not have the checksum of what was sent");
        return Err(StoreError::Damaged(what).into());
    }
    // An earlier attempt may have packed it otherwise, or known other facts.
    if store.len(key)? > OTHER_BYTES_MAX {
        return Ok(None);
    }
    let object = fetch(store, key, spent)?;
    if crc32c::crc32c(&object) != store.checksum(key)? {
        return Err(StoreError::Damaged(format!("{key}: other bytes came than are there")).into());
    }
    let Ok(there) = verify(&object, &mut |_, _| ()) else { return Ok(None) };
    let own = |stretch: &Stretch| there.holds(stretch);
    let whole = there.footer.header == *header && packed.verified.footer.stretches.iter().all(own);
    Ok(whole.then_some(true))
}

/// All of an object.
fn fetch(
    store: &dyn ObjectStore,
    key: &Key,
    spent: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, NotUploaded> {
    let len = store.len(key)?;
    let mut out = Vec::new();
    while (out.len() as u64) < len {
        let at = out.len() as u64;
        let to = len.min(at + PIECE_BYTES as u64);
        spent(to - at);
        let piece = store.get(key, at..to)?;
        if piece.len() as u64 != to - at {
            return Err(StoreError::Damaged(format!("{key}: a part came short")).into());
        }
        out.extend_from_slice(&piece);
    }
    Ok(out)
}
