//! Settings: plain numbers with their units in their names. `validate` tells, it never edits.
//!
//! What changes bytes on disk is chosen at creation and kept in the manifest; opening an existing
//! directory takes it from there. Not here: devices, clocks and seeds, which are components.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::files::READ_FILES_MAX;
use crate::format::{SPAN_BATCHES_MAX, UNIT_MIN};
use crate::index::INDEX_CACHE_BYTES;
use crate::io::Backend;
use crate::io::mountinfo::Risk;

/// Room in a batch that a fragment leaves to headers.
const FRAME_BYTES: u64 = 512;

/// What recovery does about damage under a durable watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// Cut a torn tail silently; open with damaged logs quarantined: reading the damaged range
    /// gives `Corrupt`, everything else works.
    #[default]
    TolerateTail,
    /// Refuse to open when damage is known or met by recovery, which reads the manifest and the
    /// unsealed segments; what is sealed is read by `sapwood verify`.
    Strict,
    /// Go on without what is damaged, durably: every later reader is told `Lost`.
    Salvage,
}

/// How one write is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurableMethod {
    /// The cheaper of the two, measured at creation and recorded.
    #[default]
    Probe,
    /// A DSYNC flag on each write.
    Dsync,
    /// A write linked to an fdatasync.
    Fdatasync,
}

/// How an engine is opened. Start from [`Config::new`] and change what you need.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory; created when missing.
    pub dir: PathBuf,
    /// Shards of a new directory, 1 to 64; an existing one keeps its own. Default 1: an embedded
    /// library does not take every core of its host.
    pub shards: u16,
    /// Cores to pin the shards' threads to, in order; empty = not pinned.
    pub pin_cores: Vec<usize>,
    /// Shards are driven by threads of the caller; see [`Engine::open_driven`](crate::Engine).
    pub driven: bool,
    /// Bytes of a segment file, 1 MiB to 4 GiB in whole MiB, of a new directory. Default 32 MiB.
    pub segment_bytes: u64,
    /// The largest record (properties and payload), of a new directory. Default 1 MiB, at most what
    /// one segment carries, or 32 batches. One larger than a batch is written in fragments; it must
    /// fit `stage_bytes` less a batch.
    pub record_bytes_max: u32,
    /// The largest batch, the unit of group commit, of a new directory: 64 KiB to 16 MiB, at most a
    /// quarter of a segment. Default 2 MiB.
    pub batch_bytes_max: u32,
    /// Memory in which a shard stages appends and serves tail reads, 4 × `batch_bytes_max` to 4
    /// GiB. Appends beyond what is durable wait or get `Busy`. Default 32 MiB.
    pub stage_bytes: u64,
    /// Staged bytes above which one log of many is held back; 0 = no limit of its own.
    pub log_stage_bytes_max: u64,
    /// Batches that may be in flight at once, 1 to 32. Default 4.
    pub batches_in_flight: u32,
    /// While a batch is in flight, another is sent only when it holds this many bytes: a second
    /// small batch costs more CPU than it wins (measured: 64 KiB). Default 64 KiB.
    pub pipeline_bytes_min: u32,
    /// Wait this long for company before sending a batch; 0 (the default) = never wait. For disks
    /// where each I/O is paid for.
    pub commit_delay_us: u64,
    /// A shard that has been idle this long writes a mark, the witness of its last batch; 1 ms to
    /// 60 s. Default 10 ms; on NFS, where somebody pays for each round trip, 1 s at least.
    pub idle_mark_delay: Duration,
    /// A durable write that takes longer than this is told (a warning with device, file, offset and
    /// bytes, at most one a second) and counted; 0 = never. Default 100 ms.
    pub slow_write_ms: u32,
    /// What recovery does about damage.
    pub recovery: Recovery,
    /// Open for reading only: no lock is taken, nothing is written.
    pub read_only: bool,
    /// Create the directory when it is missing. Default true.
    pub create: bool,
    /// Which engine of the kernel to use.
    pub backend: Backend,
    /// How writes are made durable.
    pub durable: DurableMethod,
    /// Bypass the page cache where the file system can. Default true.
    pub direct: bool,
    /// Bytes that the files of the directory's segments, indexes and spares may take; 0 (the
    /// default) = as many as there are. Beyond it appends get `NoSpace`, as on a full disk, until
    /// something is truncated and collected. At least four segments per shard.
    pub quota_bytes: u64,
    /// A sealed segment of which less than so many percent of the record bytes are kept, in a file
    /// that is larger by 256 KiB or more than that needs, is relocated in the background: what is
    /// kept moves into a smaller file, the old one is used again or removed. 0 = never, at most 50.
    /// Default 25: four bytes come back for one that is written.
    pub relocate_below_percent: u8,
    /// Bytes of segments that holds alone may keep, per shard; the oldest hold is broken beyond it.
    /// Default 8 GiB.
    pub hold_bytes_max: u64,
    /// A hold that is older is broken. Default 6 hours.
    pub hold_age_max: Duration,
    /// Files of segments and indexes that the readers of a shard, all together, keep open; 8 to
    /// 4096. Beyond it the one used longest ago is closed, and opened again when it is read. Each
    /// read under way, and up to four readers that read ahead, may have one more. Default 64.
    pub read_files_max: u32,
    /// Bytes of the indexes of sealed segments that are kept in memory, over all shards; 64 KiB to
    /// 4 GiB. A look-up of one log needs about 8 KiB and the fence table of the index, which has 8
    /// bytes for every 31 logs. Default 8 MiB.
    pub index_cache_bytes: u64,
    /// What about a mount of NFS is let pass when it is opened for writing, by name; default:
    /// nothing.
    pub accept_risks: Vec<Risk>,
    /// How long a caller waits for a shard that another thread drives before it gets `Undriven`.
    pub undriven_after: Duration,
}

impl Config {
    /// The defaults, for the directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            shards: 1,
            pin_cores: Vec::new(),
            driven: false,
            segment_bytes: 32 << 20,
            record_bytes_max: 1 << 20,
            batch_bytes_max: 2 << 20,
            stage_bytes: 32 << 20,
            log_stage_bytes_max: 0,
            batches_in_flight: 4,
            pipeline_bytes_min: 64 << 10,
            commit_delay_us: 0,
            idle_mark_delay: Duration::from_millis(10),
            slow_write_ms: 100,
            recovery: Recovery::default(),
            read_only: false,
            create: true,
            backend: Backend::default(),
            durable: DurableMethod::default(),
            direct: true,
            quota_bytes: 0,
            relocate_below_percent: 25,
            hold_bytes_max: 8 << 30,
            hold_age_max: Duration::from_secs(6 * 3600),
            read_files_max: READ_FILES_MAX,
            index_cache_bytes: INDEX_CACHE_BYTES,
            accept_risks: Vec::new(),
            undriven_after: Duration::from_secs(5),
        }
    }

    /// The most that `record_bytes_max` may be with these segments and batches: as many batches as
    /// a segment has room for beside its header, each less its headers.
    #[must_use]
    pub fn record_bytes_limit(&self) -> u64 {
        let batch = u64::from(self.batch_bytes_max).max(1);
        let batches = (self.segment_bytes / batch).saturating_sub(1);
        let record = batches.min(u64::from(SPAN_BATCHES_MAX)) * batch.saturating_sub(FRAME_BYTES);
        record.min(u64::from(u32::MAX))
    }

    /// Says what is out of range, and by how much.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting, its value and its range.
    pub fn validate(&self) -> Result<()> {
        range("shards", u64::from(self.shards), 1, 64)?;
        range("segment_bytes", self.segment_bytes, 1 << 20, 4 << 30)?;
        if !self.segment_bytes.is_multiple_of(1 << 20) {
            return Err(Error::Invalid("segment_bytes must be a multiple of 1 MiB".into()));
        }
        let batch_max = (16 << 20).min(self.segment_bytes / 4);
        range("batch_bytes_max", u64::from(self.batch_bytes_max), 64 << 10, batch_max)?;
        if !(self.batch_bytes_max as usize).is_multiple_of(UNIT_MIN) {
            return Err(Error::Invalid("batch_bytes_max must be a multiple of 4096".into()));
        }
        let record_max = self.record_bytes_limit();
        range("record_bytes_max", u64::from(self.record_bytes_max), 1, record_max)?;
        let stage_min = 4 * u64::from(self.batch_bytes_max);
        range("stage_bytes", self.stage_bytes, stage_min, 4 << 30)?;
        range("batches_in_flight", u64::from(self.batches_in_flight), 1, 32)?;
        range("commit_delay_us", self.commit_delay_us, 0, 1_000_000)?;
        let delay = self.idle_mark_delay.as_millis() as u64;
        range("idle_mark_delay (ms)", delay, 1, 60_000)?;
        range("relocate_below_percent", u64::from(self.relocate_below_percent), 0, 50)?;
        range("read_files_max", u64::from(self.read_files_max), 8, 4096)?;
        range("index_cache_bytes", self.index_cache_bytes, 64 << 10, 4 << 30)?;
        let quota_min = 4 * self.segment_bytes * u64::from(self.shards);
        if self.quota_bytes != 0 {
            range("quota_bytes", self.quota_bytes, quota_min, u64::MAX)?;
        }
        if self.read_only && self.driven {
            return Err(Error::Invalid("a read-only engine has no shards to drive".into()));
        }
        Ok(())
    }
}

fn range(name: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name} is {value}; it must be {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_edges_are_told() {
        Config::new("x").validate().unwrap();
        for bad in [
            Config { shards: 0, ..Config::new("x") },
            Config { segment_bytes: 4096, ..Config::new("x") },
            Config { segment_bytes: (1 << 20) + 1, ..Config::new("x") },
            Config { batch_bytes_max: 16 << 20, ..Config::new("x") },
            Config { record_bytes_max: 30 << 20, ..Config::new("x") },
            Config { stage_bytes: 1 << 20, ..Config::new("x") },
            Config { batches_in_flight: 0, ..Config::new("x") },
            Config { idle_mark_delay: Duration::ZERO, ..Config::new("x") },
            Config { read_only: true, driven: true, ..Config::new("x") },
            Config { read_files_max: 0, ..Config::new("x") },
            Config { index_cache_bytes: 1 << 10, ..Config::new("x") },
            Config { quota_bytes: 1 << 20, ..Config::new("x") },
            Config { relocate_below_percent: 51, ..Config::new("x") },
        ] {
            assert!(matches!(bad.validate(), Err(Error::Invalid(_))), "{bad:?}");
        }
    }
}
