//! What manifest entries tell: facts of a directory, a log, its chain, its damage.
//!
//! Invariants: one encoding per value, so that equal facts are equal bytes; a count is checked
//! against the bytes that are left before memory is reserved for it.
//! Not here: the entries that carry them (`edit`).

use std::sync::Arc;

use super::Flaw;
use super::wire::{Take, put_string, put32, put64};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId};

const NO_LSN: u64 = u64::MAX;
const NO_LOG: u64 = u64::MAX;

/// What a directory was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DirectoryFacts {
    /// The directory's identity.
    pub directory: u64,
    /// Whose history it continues; a restore starts a new one.
    pub lineage: u64,
    /// Shards, for ever.
    pub shards: u16,
    /// Alignment of batches and frames.
    pub unit: u32,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Largest record.
    pub record_bytes_max: u32,
    /// Largest batch.
    pub batch_bytes_max: u32,
    /// Microseconds since 1970.
    pub created_us: u64,
}

/// Per-log settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogSettings {
    /// Keep at most so many record bytes.
    pub retention_bytes: Option<u64>,
    /// Keep records at most so long.
    pub retention_secs: Option<u64>,
    /// With an archive: keep at least so many record bytes on the local disk although they are
    /// tiered; by whole segments. `None`: all of them.
    pub local_retention_bytes: Option<u64>,
    /// The default durability of an append.
    pub durability: u8,
}

/// A chain has at most a link per bit of an ordinal.
const CHAIN_LINKS_MAX: usize = 32;

/// A place in a log's chain of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    /// The segment.
    pub segment: SegmentId,
    /// Its ordinal in the chain.
    pub ordinal: u32,
    /// The log's first LSN in it.
    pub first_lsn: Lsn,
}

/// The newest sealed segments of a log, from which walking back begins: those whose ordinals are
/// the newest's with its lowest bits cleared one by one, newest first. At most 32.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The links; empty while no sealed segment holds the log.
    pub links: Vec<Link>,
}

/// A log as the manifest knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogFacts {
    /// The log.
    pub id: LogId,
    /// Its name.
    pub name: Arc<str>,
    /// Logs of one group live on one shard.
    pub group: Option<Arc<str>>,
    /// Its settings.
    pub settings: LogSettings,
    /// The first LSN kept.
    pub start: Lsn,
    /// The next LSN to be assigned, as of this entry.
    pub tail: Lsn,
    /// The epoch in force there.
    pub tail_epoch: Epoch,
    /// The time of its last record; the next one is not earlier.
    pub tail_time_us: u64,
    /// Each epoch and the LSN it began at, oldest first.
    pub epochs: Vec<(Epoch, Lsn)>,
    /// Its newest sealed segments.
    pub chain: Chain,
    /// Microseconds since 1970.
    pub created_us: u64,
    /// Reserved for the log's states.
    pub flags: u32,
}

/// Damage that was found, and whether someone chose to go past it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DamageFacts {
    /// The log hit, if it is known.
    pub log: Option<LogId>,
    /// The first LSN hit.
    pub first_lsn: Lsn,
    /// The last LSN hit, if it is known.
    pub last_lsn: Option<Lsn>,
    /// The segment it is in.
    pub segment: SegmentId,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Why, a code of `recover`'s.
    pub reason: u16,
    /// Salvaged: readers are told `Lost` and go on.
    pub lost: bool,
}

impl DirectoryFacts {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put64(out, &[self.directory, self.lineage, self.segment_bytes, self.created_us]);
        put32(out, &[self.unit, self.record_bytes_max, self.batch_bytes_max]);
        put32(out, &[u32::from(self.shards)]);
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let (directory, lineage) = (take.u64()?, take.u64()?);
        let (segment_bytes, created_us) = (take.u64()?, take.u64()?);
        let unit = take.u32()?;
        let (record_bytes_max, batch_bytes_max) = (take.u32()?, take.u32()?);
        let shards = u16::try_from(take.u32()?).map_err(|_| Flaw::Field("number of shards"))?;
        Ok(Self {
            directory,
            lineage,
            shards,
            unit,
            segment_bytes,
            record_bytes_max,
            batch_bytes_max,
            created_us,
        })
    }
}

impl LogSettings {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.retention_bytes);
        put_option(out, self.retention_secs);
        put_option(out, self.local_retention_bytes);
        out.push(self.durability);
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        Ok(Self {
            retention_bytes: take_option(take)?,
            retention_secs: take_option(take)?,
            local_retention_bytes: take_option(take)?,
            durability: take.u8()?,
        })
    }
}

impl Chain {
    /// The last sealed segment that holds the log.
    #[must_use]
    pub fn last(&self) -> Option<Link> {
        self.links.first().copied()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.links.len() <= CHAIN_LINKS_MAX);
        out.push(self.links.len() as u8);
        for link in &self.links {
            put64(out, &[link.segment.0, link.first_lsn.0]);
            put32(out, &[link.ordinal]);
        }
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let count = usize::from(take.u8()?);
        if count > CHAIN_LINKS_MAX {
            return Err(Flaw::Field("links of a chain"));
        }
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            let (segment, first_lsn) = (SegmentId(take.u64()?), Lsn(take.u64()?));
            let ordinal = take.u32()?;
            links.push(Link { segment, ordinal, first_lsn });
        }
        Ok(Self { links })
    }
}

impl LogFacts {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        put64(out, &[self.id.0, self.start.0, self.tail.0, self.tail_time_us, self.created_us]);
        put32(out, &[self.tail_epoch.0, self.flags]);
        put_string(out, &self.name)?;
        out.push(u8::from(self.group.is_some()));
        if let Some(group) = &self.group {
            put_string(out, group)?;
        }
        self.settings.encode(out);
        self.chain.encode(out);
        let epochs = u32::try_from(self.epochs.len());
        put32(out, &[epochs.map_err(|_| Flaw::Field("too many epochs"))?]);
        for (epoch, first_lsn) in &self.epochs {
            put32(out, &[epoch.0]);
            put64(out, &[first_lsn.0]);
        }
        Ok(())
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let (id, start, tail) = (LogId(take.u64()?), Lsn(take.u64()?), Lsn(take.u64()?));
        let (tail_time_us, created_us) = (take.u64()?, take.u64()?);
        let (tail_epoch, flags) = (Epoch(take.u32()?), take.u32()?);
        let name = take.string()?.into();
        let group = if take_bool(take)? { Some(take.string()?.into()) } else { None };
        let settings = LogSettings::take(take)?;
        let chain = Chain::take(take)?;
        Ok(Self {
            id,
            name,
            group,
            settings,
            start,
            tail,
            tail_epoch,
            tail_time_us,
            epochs: Self::take_epochs(take)?,
            chain,
            created_us,
            flags,
        })
    }

    fn take_epochs(take: &mut Take<'_>) -> Result<Vec<(Epoch, Lsn)>, Flaw> {
        const EPOCH_BYTES: usize = 12;
        let count = take.u32()? as usize;
        if count > take.left() / EPOCH_BYTES {
            return Err(Flaw::Field("number of epochs"));
        }
        let mut epochs = Vec::with_capacity(count);
        for _ in 0..count {
            epochs.push((Epoch(take.u32()?), Lsn(take.u64()?)));
        }
        Ok(epochs)
    }
}

impl DamageFacts {
    /// All of it lies below the start of its log: nobody can read there any more.
    #[must_use]
    pub fn is_below(&self, log: LogId, start: Lsn) -> bool {
        self.log == Some(log) && self.last_lsn.is_some_and(|last| last < start)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let log = self.log.map_or(NO_LOG, |log| log.0);
        let last_lsn = self.last_lsn.map_or(NO_LSN, |lsn| lsn.0);
        put64(out, &[log, self.first_lsn.0, last_lsn, self.segment.0]);
        put64(out, &[self.offset, self.bytes]);
        out.extend_from_slice(&self.reason.to_le_bytes());
        out.push(u8::from(self.lost));
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let (log, first_lsn, last_lsn) = (take.u64()?, Lsn(take.u64()?), take.u64()?);
        let segment = SegmentId(take.u64()?);
        let (offset, bytes) = (take.u64()?, take.u64()?);
        Ok(Self {
            log: (log != NO_LOG).then_some(LogId(log)),
            first_lsn,
            last_lsn: (last_lsn != NO_LSN).then_some(Lsn(last_lsn)),
            segment,
            offset,
            bytes,
            reason: take.u16()?,
            lost: take_bool(take)?,
        })
    }
}

/// A presence byte that must be 0 or 1.
fn take_bool(take: &mut Take<'_>) -> Result<bool, Flaw> {
    match take.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Flaw::Field("a yes or no")),
    }
}

/// A number behind its presence byte.
fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    put64(out, &[number.unwrap_or(0)]);
}

fn take_option(take: &mut Take<'_>) -> Result<Option<u64>, Flaw> {
    let (present, number) = (take_bool(take)?, take.u64()?);
    if !present && number != 0 {
        return Err(Flaw::Field("a number that is absent"));
    }
    Ok(present.then_some(number))
}
