//! Manifest edits: the entries of a frame, each a kind, flags, a length and its bytes.
//!
//! Invariants:
//! - A snapshot holds the same entries: those that rebuild the state.
//! - Each known entry has one encoding, and its length is exactly that of its fields. To say more, a
//!   later version adds a kind.
//! - A kind that is not known is kept byte for byte, unless its writer demands that it be known.
//!
//! Not here: the frame around them (`manifest` of this folder), what they do to the state (the
//! manifest proper).

use super::wire::{Take, put_string};
use super::{Flaw, round_up};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId};

/// Entry flag: a reader that does not know the kind must refuse the manifest.
pub const ENTRY_MUST_KNOW: u16 = 1;

/// Bytes in front of each entry: kind, flags, length.
pub const ENTRY_HEADER_BYTES: usize = 8;

const ENTRY_ALIGN: usize = 8;
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
    /// With a tier: keep so many record bytes locally too.
    pub local_retention_bytes: Option<u64>,
    /// The default durability of an append.
    pub durability: u8,
}

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

/// The newest sealed segments of a log: where walking back begins (skew-binary jump pointers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The last sealed segment that holds the log.
    pub last: Option<Link>,
    /// Where that one jumps to.
    pub jump: Option<Link>,
    /// Where the target of `jump` jumps to.
    pub jump2: Option<Link>,
}

/// A log as the manifest knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogFacts {
    /// The log.
    pub id: LogId,
    /// Its name.
    pub name: String,
    /// Logs of one group live on one shard.
    pub group: Option<String>,
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

/// One change of what exists. All of them stand in edits and in snapshots alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The directory's own facts.
    Directory(DirectoryFacts),
    /// A log, created or as it stands.
    Log(LogFacts),
    /// A log's next epoch.
    Epoch {
        /// The log.
        log: LogId,
        /// The new epoch.
        epoch: Epoch,
        /// The LSN it begins at.
        first_lsn: Lsn,
    },
    /// A log's settings.
    Settings {
        /// The log.
        log: LogId,
        /// All of them.
        settings: LogSettings,
    },
    /// A log's start moved.
    Start {
        /// The log.
        log: LogId,
        /// The first LSN kept.
        start: Lsn,
    },
    /// A log is gone.
    Deleted {
        /// The log.
        log: LogId,
    },
    /// Log ids below this counter are taken.
    NextLog {
        /// The next counter.
        counter: u64,
    },
    /// A segment file is ready for use.
    Spare {
        /// The segment it will be.
        segment: SegmentId,
        /// The number in the file's name.
        file: u64,
        /// The nonce of this life.
        nonce: u64,
        /// Size of the file.
        bytes: u64,
        /// The write-open that prepared it.
        term: u32,
    },
    /// A segment became immutable.
    Sealed {
        /// The segment.
        segment: SegmentId,
        /// Its first batch.
        first_seq: u64,
        /// Its last batch.
        last_seq: u64,
        /// Where that one ends: nothing beyond is ever read.
        end_offset: u64,
        /// That one's header CRC.
        last_crc: u32,
        /// Records in it.
        records: u64,
        /// Time of its first record.
        first_time_us: u64,
        /// Time of its last record.
        last_time_us: u64,
        /// Size of its index file.
        index_bytes: u64,
        /// CRC32C of that file.
        index_crc: u32,
    },
    /// No log needs the segment any more.
    Retired {
        /// The segment.
        segment: SegmentId,
    },
    /// A write-open began: earlier terms end at this cut.
    Term {
        /// The new term.
        term: u32,
        /// The last batch that is kept.
        cut_seq: u64,
        /// Its header CRC.
        cut_crc: u32,
    },
    /// Closed in order.
    Closed {
        /// The last batch.
        last_seq: u64,
    },
    /// The state up to this batch is in the manifest.
    Checkpoint {
        /// That batch.
        seq: u64,
    },
    /// Damage found, or gone past.
    Damage(DamageFacts),
    /// A segment's copy is in object storage.
    Tiered {
        /// The segment.
        segment: SegmentId,
    },
    /// A named durable cursor.
    Cursor {
        /// The log.
        log: LogId,
        /// The cursor's name.
        name: String,
        /// The next LSN it wants.
        lsn: Lsn,
    },
    /// Of a newer writer, which allows that it be carried along unread.
    Unknown {
        /// Its kind.
        kind: u16,
        /// Its flags.
        flags: u16,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Edit {
    /// The number that stands for this kind of entry.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Directory(_) => 1,
            Self::Log(_) => 2,
            Self::Epoch { .. } => 3,
            Self::Settings { .. } => 4,
            Self::Start { .. } => 5,
            Self::Deleted { .. } => 6,
            Self::NextLog { .. } => 7,
            Self::Spare { .. } => 8,
            Self::Sealed { .. } => 9,
            Self::Retired { .. } => 10,
            Self::Term { .. } => 11,
            Self::Closed { .. } => 12,
            Self::Checkpoint { .. } => 13,
            Self::Damage(_) => 14,
            Self::Tiered { .. } => 15,
            Self::Cursor { .. } => 16,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Appends the entry, its header and padding included.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        let flags = match self {
            Self::Unknown { flags, .. } => *flags,
            _ => ENTRY_MUST_KNOW,
        };
        let at = out.len();
        out.extend_from_slice(&self.kind().to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        self.encode_body(out)?;
        let len = out.len() - at - ENTRY_HEADER_BYTES;
        let len = u32::try_from(len).map_err(|_| Flaw::Field("an entry is too long"))?;
        out[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
        out.resize(round_up(out.len() - at, ENTRY_ALIGN) + at, 0);
        Ok(())
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        match self {
            Self::Directory(facts) => facts.encode(out),
            Self::Log(facts) => facts.encode(out)?,
            Self::Epoch {
                log,
                epoch,
                first_lsn,
            } => {
                put64(out, &[log.0, first_lsn.0]);
                put32(out, &[epoch.0]);
            }
            Self::Settings { log, settings } => {
                put64(out, &[log.0]);
                settings.encode(out);
            }
            Self::Start { log, start } => put64(out, &[log.0, start.0]),
            Self::Deleted { log } => put64(out, &[log.0]),
            Self::NextLog { counter } => put64(out, &[*counter]),
            Self::Spare {
                segment,
                file,
                nonce,
                bytes,
                term,
            } => {
                put64(out, &[segment.0, *file, *nonce, *bytes]);
                put32(out, &[*term]);
            }
            Self::Sealed {
                segment,
                first_seq,
                last_seq,
                end_offset,
                last_crc,
                records,
                first_time_us,
                last_time_us,
                index_bytes,
                index_crc,
            } => {
                put64(
                    out,
                    &[segment.0, *first_seq, *last_seq, *end_offset, *records],
                );
                put64(out, &[*first_time_us, *last_time_us, *index_bytes]);
                put32(out, &[*last_crc, *index_crc]);
            }
            Self::Retired { segment } | Self::Tiered { segment } => put64(out, &[segment.0]),
            Self::Term {
                term,
                cut_seq,
                cut_crc,
            } => {
                put64(out, &[*cut_seq]);
                put32(out, &[*term, *cut_crc]);
            }
            Self::Closed { last_seq: seq } | Self::Checkpoint { seq } => put64(out, &[*seq]),
            Self::Damage(facts) => facts.encode(out),
            Self::Cursor { log, name, lsn } => {
                put64(out, &[log.0, lsn.0]);
                put_string(out, name)?;
            }
            Self::Unknown { bytes, .. } => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn decode_body(kind: u16, flags: u16, body: &[u8]) -> Result<Self, Flaw> {
        let mut take = Take::new(body);
        let edit = Self::take_body(kind, &mut take)?;
        let Some(edit) = edit else {
            if flags & ENTRY_MUST_KNOW != 0 {
                return Err(Flaw::Unknown {
                    what: "manifest entry",
                    found: u32::from(kind),
                });
            }
            return Ok(Self::Unknown {
                kind,
                flags,
                bytes: body.to_vec(),
            });
        };
        if flags & !ENTRY_MUST_KNOW != 0 {
            return Err(Flaw::Unknown {
                what: "entry flags",
                found: u32::from(flags),
            });
        }
        if !take.is_empty() {
            return Err(Flaw::Field("length of a manifest entry"));
        }
        Ok(edit)
    }

    /// `None` for a kind that is not known.
    fn take_body(kind: u16, take: &mut Take<'_>) -> Result<Option<Self>, Flaw> {
        Ok(Some(match kind {
            0 => return Err(Flaw::Field("manifest entry 0")),
            1 => Self::Directory(DirectoryFacts::take(take)?),
            2 => Self::Log(LogFacts::take(take)?),
            3 => {
                let (log, first_lsn) = (LogId(take.u64()?), Lsn(take.u64()?));
                Self::Epoch {
                    log,
                    epoch: Epoch(take.u32()?),
                    first_lsn,
                }
            }
            4 => Self::Settings {
                log: LogId(take.u64()?),
                settings: LogSettings::take(take)?,
            },
            5 => Self::Start {
                log: LogId(take.u64()?),
                start: Lsn(take.u64()?),
            },
            6 => Self::Deleted {
                log: LogId(take.u64()?),
            },
            7 => Self::NextLog {
                counter: take.u64()?,
            },
            8 => Self::Spare {
                segment: SegmentId(take.u64()?),
                file: take.u64()?,
                nonce: take.u64()?,
                bytes: take.u64()?,
                term: take.u32()?,
            },
            9 => Self::take_sealed(take)?,
            10 => Self::Retired {
                segment: SegmentId(take.u64()?),
            },
            11 => {
                let cut_seq = take.u64()?;
                Self::Term {
                    term: take.u32()?,
                    cut_seq,
                    cut_crc: take.u32()?,
                }
            }
            12 => Self::Closed {
                last_seq: take.u64()?,
            },
            13 => Self::Checkpoint { seq: take.u64()? },
            14 => Self::Damage(DamageFacts::take(take)?),
            15 => Self::Tiered {
                segment: SegmentId(take.u64()?),
            },
            16 => {
                let (log, lsn) = (LogId(take.u64()?), Lsn(take.u64()?));
                Self::Cursor {
                    log,
                    name: take.string()?,
                    lsn,
                }
            }
            _ => return Ok(None),
        }))
    }

    fn take_sealed(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let segment = SegmentId(take.u64()?);
        let (first_seq, last_seq) = (take.u64()?, take.u64()?);
        let (end_offset, records) = (take.u64()?, take.u64()?);
        let (first_time_us, last_time_us) = (take.u64()?, take.u64()?);
        let index_bytes = take.u64()?;
        Ok(Self::Sealed {
            segment,
            first_seq,
            last_seq,
            end_offset,
            last_crc: take.u32()?,
            records,
            first_time_us,
            last_time_us,
            index_bytes,
            index_crc: take.u32()?,
        })
    }
}

/// Walks the entries of a frame without gathering them. Ends after the first flaw.
#[derive(Clone, Debug)]
pub struct Edits<'a> {
    take: Take<'a>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(entries: &'a [u8]) -> Self {
        Self {
            take: Take::new(entries),
        }
    }

    fn step(&mut self) -> Result<Edit, Flaw> {
        let (kind, flags) = (self.take.u16()?, self.take.u16()?);
        let len = self.take.u32()? as usize;
        let body = self.take.bytes(len)?;
        self.take.bytes(round_up(len, ENTRY_ALIGN) - len)?;
        Edit::decode_body(kind, flags, body)
    }
}

impl Iterator for Edits<'_> {
    type Item = Result<Edit, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.take.is_empty() {
            return None;
        }
        // A length that does not fit is a lie under a good CRC, not a short read.
        let step = self.step().map_err(|flaw| match flaw {
            Flaw::Short { .. } => Flaw::Field("length of a manifest entry"),
            other => other,
        });
        if step.is_err() {
            self.take = Take::new(&[]);
        }
        Some(step)
    }
}

fn put64(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers
        .iter()
        .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers
        .iter()
        .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
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

impl DirectoryFacts {
    fn encode(&self, out: &mut Vec<u8>) {
        put64(
            out,
            &[
                self.directory,
                self.lineage,
                self.segment_bytes,
                self.created_us,
            ],
        );
        put32(
            out,
            &[self.unit, self.record_bytes_max, self.batch_bytes_max],
        );
        put32(out, &[u32::from(self.shards)]);
    }

    fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
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
    fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.retention_bytes);
        put_option(out, self.retention_secs);
        put_option(out, self.local_retention_bytes);
        out.push(self.durability);
    }

    fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        Ok(Self {
            retention_bytes: take_option(take)?,
            retention_secs: take_option(take)?,
            local_retention_bytes: take_option(take)?,
            durability: take.u8()?,
        })
    }
}

impl Chain {
    fn encode(&self, out: &mut Vec<u8>) {
        for link in [self.last, self.jump, self.jump2] {
            out.push(u8::from(link.is_some()));
            if let Some(link) = link {
                put64(out, &[link.segment.0, link.first_lsn.0]);
                put32(out, &[link.ordinal]);
            }
        }
    }

    fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let mut link = || -> Result<Option<Link>, Flaw> {
            if !take_bool(take)? {
                return Ok(None);
            }
            let (segment, first_lsn) = (SegmentId(take.u64()?), Lsn(take.u64()?));
            Ok(Some(Link {
                segment,
                ordinal: take.u32()?,
                first_lsn,
            }))
        };
        Ok(Self {
            last: link()?,
            jump: link()?,
            jump2: link()?,
        })
    }
}

impl LogFacts {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        put64(
            out,
            &[
                self.id.0,
                self.start.0,
                self.tail.0,
                self.tail_time_us,
                self.created_us,
            ],
        );
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

    fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
        let (id, start, tail) = (LogId(take.u64()?), Lsn(take.u64()?), Lsn(take.u64()?));
        let (tail_time_us, created_us) = (take.u64()?, take.u64()?);
        let (tail_epoch, flags) = (Epoch(take.u32()?), take.u32()?);
        let name = take.string()?;
        let group = if take_bool(take)? {
            Some(take.string()?)
        } else {
            None
        };
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
    fn encode(&self, out: &mut Vec<u8>) {
        let log = self.log.map_or(NO_LOG, |log| log.0);
        let last_lsn = self.last_lsn.map_or(NO_LSN, |lsn| lsn.0);
        put64(out, &[log, self.first_lsn.0, last_lsn, self.segment.0]);
        put64(out, &[self.offset, self.bytes]);
        out.extend_from_slice(&self.reason.to_le_bytes());
        out.push(u8::from(self.lost));
    }

    fn take(take: &mut Take<'_>) -> Result<Self, Flaw> {
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
