//! Where objects are kept: small immutable things under names, each written once.
//!
//! Invariants, which [`contract`] holds every store to:
//! - **An object is never overwritten.** There is one way to write,
//!   [`put_new`](ObjectStore::put_new); of any number of writers that race for a name exactly one
//!   wins, and all others are told [`Exists`](StoreError::Exists).
//! - **Done is durable, and so is what exists.** When `put_new` returns `Ok`, or says that an
//!   object exists, that object survives a power cut of the store.
//! - **Whole or not at all.** Nobody sees a part of an object, not even after a crash.
//! - **Unknown is not failed.** An outcome that is not known is told as such; whoever asks looks,
//!   and compares.
//!
//! A store is blocking and is called from the tier's own threads, many at once; a shard never waits
//! for it. One that lives behind a network brings its own runtime, sends large objects in parts,
//! and maps its conditional put (`If-None-Match: *`) and its checksums to this.
//!
//! Not here: names (`layout`), retries (`retry`), what is in an object (`object`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub mod contract;
mod dir;
mod key;
mod probe;
#[cfg(feature = "s3")]
mod s3;
mod sim;

pub use dir::DirStore;
pub use key::Key;
pub use probe::probe;
#[cfg(feature = "s3")]
pub use s3::{Keys, S3Settings, S3Store, S3Url, Style};
pub use sim::{Fault, Requests, SimStore};

/// Shorthand for results of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What went wrong, by what to do about it. The texts say what the store said; no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// An object of this name is there, durably: compare it, it may be your own.
    Exists,
    /// There is no such object.
    NotFound,
    /// It may have happened or not: look, and compare, before you do it again.
    Unknown(String),
    /// It did not happen, and may the next time: wait a little, then a little longer.
    Busy(String),
    /// The store has no room: it did not happen. Retry after space was made.
    Full(String),
    /// The store does not let us: credentials, permissions, clock. It did not happen.
    Denied(String),
    /// The bytes that arrived are not those that were sent. Nothing of them was kept: send again.
    Damaged(String),
    /// Fix the call, or the store cannot do what it must.
    Invalid(String),
}

impl StoreError {
    /// Whether the same call may succeed later, without anybody doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Busy(_) | Self::Full(_) | Self::Damaged(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("an object of this name exists"),
            Self::NotFound => f.write_str("no such object"),
            Self::Unknown(what) => write!(f, "whether it was done is not known: {what}"),
            Self::Busy(what) => write!(f, "not now: {what}"),
            Self::Full(what) => write!(f, "the store is full: {what}"),
            Self::Denied(what) => write!(f, "the store refuses: {what}"),
            Self::Damaged(what) => write!(f, "damaged on the way: {what}"),
            Self::Invalid(what) => write!(f, "invalid: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock, in microseconds since 1970.
    pub written_us: u64,
}

/// See the module.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Where it is, as users write it (`file://PATH`, `s3://BUCKET/PREFIX`); no secrets.
    fn url(&self) -> String;

    /// Writes an object of this name, unless there is one. `crc` is the CRC32C of the bytes, from
    /// who made them: the store compares what arrives with it. Blocks until the object is durable.
    /// No object has a name that is a folder in another's (`a/b` and `a/b/c`): not every store can
    /// keep both.
    ///
    /// # Errors
    /// `Exists`, once what exists is durable; `Damaged` when the bytes are not those of `crc`;
    /// `Unknown`, `Busy`, `Full`, `Denied`; `Invalid` for a name as above.
    fn put_new(&self, key: &Key, bytes: &[u8], crc: u32) -> Result<()>;

    /// The bytes of a range that lies within the object; all of them. What arrives is not compared
    /// with anything: callers check lengths and checksums of their own.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a range that reaches beyond the object; `Busy`, `Denied`,
    /// `Damaged`.
    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>>;

    /// The length of an object.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Denied`.
    fn len(&self, key: &Key) -> Result<u64>;

    /// CRC32C of the whole object, as the store has it: from its medium, or from a checksum that
    /// the store itself took of what arrived. The proof that an upload is whole.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Denied`.
    fn checksum(&self, key: &Key) -> Result<u32>;

    /// The objects whose names begin with `prefix` and lie behind `after`, in order of name, at
    /// most `max`. It may lag behind what was written and deleted: a list finds orphans, it decides
    /// nothing.
    ///
    /// # Errors
    /// `Busy`, `Denied`.
    fn list(&self, prefix: &str, after: Option<&Key>, max: usize) -> Result<Vec<Listed>>;

    /// Removes an object; `Ok` as well when there is none. Blocks until that is durable.
    ///
    /// # Errors
    /// `Unknown`, `Busy`, `Denied`.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Removes what crashed writers left behind: parts of uploads that nobody goes on with and that
    /// are older than this. Gives their number.
    ///
    /// # Errors
    /// `Busy`, `Denied`.
    fn sweep(&self, older_than: Duration) -> Result<u64>;
}

/// Opens the store that a URL names: `file://PATH`, or with the feature `s3`
/// `s3://BUCKET[/PREFIX]`.
///
/// # Errors
/// `Invalid` for a URL that names none; as the store says.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>> {
    match url.split_once("://") {
        Some(("file", path)) if !path.is_empty() => Ok(Arc::new(DirStore::open(path)?)),
        #[cfg(feature = "s3")]
        Some(("s3", _)) => Ok(Arc::new(S3Store::open(S3Url::parse(url)?, S3Settings::default())?)),
        #[cfg(not(feature = "s3"))]
        Some(("s3", _)) => Err(StoreError::Invalid("this build has no client for s3://".into())),
        _ => {
            let what = "is no URL of a store; file://PATH and s3://BUCKET/PREFIX are";
            Err(StoreError::Invalid(format!("{url:?} {what}")))
        }
    }
}
