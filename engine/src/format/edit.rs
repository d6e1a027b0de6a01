//! Manifest edits: the entries of a frame, each a kind, flags, a length and its bytes.
//!
//! Invariants:
//! - A snapshot holds the same entries: those that rebuild the state.
//! - Each known entry has one encoding, and its length is exactly that of its fields. To say more,
//!   a later version adds a kind.
//! - A kind that is not known is kept byte for byte, unless its writer demands that it be known.
//!
//! Not here: the facts they carry (`facts`), the frame around them (`manifest` of this folder),
//! what they do to the state (the manifest proper).

use super::facts::{DamageFacts, DirectoryFacts, LogFacts, LogSettings};
use super::wire::{Take, put_string, put32, put64};
use super::{Flaw, round_up};
use crate::lsn::{Epoch, LogId, Lsn, SegmentId};

/// Entry flag: a reader that does not know the kind must refuse the manifest.
pub const ENTRY_MUST_KNOW: u16 = 1;

/// The LSN of a cursor entry that deletes the cursor.
pub const CURSOR_GONE: Lsn = Lsn(u64::MAX);

/// Bytes in front of each entry: kind, flags, length.
pub const ENTRY_HEADER_BYTES: usize = 8;

const ENTRY_ALIGN: usize = 8;

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
        /// The next LSN it wants; [`CURSOR_GONE`]: the cursor is deleted.
        lsn: Lsn,
    },
    /// A log's suffix was cut: a new epoch begins at an LSN that older ones had passed, and what
    /// they wrote from there on is dropped.
    Cut {
        /// The log.
        log: LogId,
        /// The new epoch.
        epoch: Epoch,
        /// The LSN it begins at.
        first_lsn: Lsn,
    },
    /// A sealed segment has a new life in another file: what is kept of it, compacted. The file of
    /// the old one is retired.
    Relocated {
        /// The segment.
        segment: SegmentId,
        /// The number in the new file's name.
        file: u64,
        /// The nonce of the new life.
        nonce: u64,
        /// Where its last batch ends, and the file.
        end_offset: u64,
        /// Records in it.
        records: u64,
        /// Size of its index file.
        index_bytes: u64,
        /// The write-open that wrote it.
        term: u32,
        /// CRC32C of its index file.
        index_crc: u32,
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
            Self::Cut { .. } => 17,
            Self::Relocated { .. } => 18,
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
            Self::Epoch { log, epoch, first_lsn } | Self::Cut { log, epoch, first_lsn } => {
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
            Self::Spare { segment, file, nonce, bytes, term } => {
                put64(out, &[segment.0, *file, *nonce, *bytes]);
                put32(out, &[*term]);
            }
            Self::Sealed { .. } | Self::Relocated { .. } => self.encode_sealed(out),
            Self::Retired { segment } | Self::Tiered { segment } => put64(out, &[segment.0]),
            Self::Term { term, cut_seq, cut_crc } => {
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

    /// What is known of a sealed segment, or of its next life.
    fn encode_sealed(&self, out: &mut Vec<u8>) {
        match self {
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
                put64(out, &[segment.0, *first_seq, *last_seq, *end_offset, *records]);
                put64(out, &[*first_time_us, *last_time_us, *index_bytes]);
                put32(out, &[*last_crc, *index_crc]);
            }
            Self::Relocated {
                segment,
                file,
                nonce,
                end_offset,
                records,
                index_bytes,
                term,
                index_crc,
            } => {
                put64(out, &[segment.0, *file, *nonce, *end_offset, *records, *index_bytes]);
                put32(out, &[*term, *index_crc]);
            }
            _ => {}
        }
    }

    fn decode_body(kind: u16, flags: u16, body: &[u8]) -> Result<Self, Flaw> {
        let mut take = Take::new(body);
        let edit = Self::take_body(kind, &mut take)?;
        let Some(edit) = edit else {
            if flags & ENTRY_MUST_KNOW != 0 {
                return Err(Flaw::Unknown { what: "manifest entry", found: u32::from(kind) });
            }
            return Ok(Self::Unknown { kind, flags, bytes: body.to_vec() });
        };
        if flags & !ENTRY_MUST_KNOW != 0 {
            return Err(Flaw::Unknown { what: "entry flags", found: u32::from(flags) });
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
                Self::Epoch { log, epoch: Epoch(take.u32()?), first_lsn }
            }
            4 => Self::Settings { log: LogId(take.u64()?), settings: LogSettings::take(take)? },
            5 => Self::Start { log: LogId(take.u64()?), start: Lsn(take.u64()?) },
            6 => Self::Deleted { log: LogId(take.u64()?) },
            7 => Self::NextLog { counter: take.u64()? },
            8 => Self::Spare {
                segment: SegmentId(take.u64()?),
                file: take.u64()?,
                nonce: take.u64()?,
                bytes: take.u64()?,
                term: take.u32()?,
            },
            9 => Self::take_sealed(take)?,
            10 => Self::Retired { segment: SegmentId(take.u64()?) },
            11 => {
                let cut_seq = take.u64()?;
                Self::Term { term: take.u32()?, cut_seq, cut_crc: take.u32()? }
            }
            12 => Self::Closed { last_seq: take.u64()? },
            13 => Self::Checkpoint { seq: take.u64()? },
            14 => Self::Damage(DamageFacts::take(take)?),
            15 => Self::Tiered { segment: SegmentId(take.u64()?) },
            16 => {
                let (log, lsn) = (LogId(take.u64()?), Lsn(take.u64()?));
                Self::Cursor { log, name: take.string()?, lsn }
            }
            17 => {
                let (log, first_lsn) = (LogId(take.u64()?), Lsn(take.u64()?));
                Self::Cut { log, epoch: Epoch(take.u32()?), first_lsn }
            }
            18 => Self::take_relocated(take)?,
            _ => return Ok(None),
        }))
    }

    fn take_relocated(take: &mut Take<'_>) -> Result<Self, Flaw> {
        Ok(Self::Relocated {
            segment: SegmentId(take.u64()?),
            file: take.u64()?,
            nonce: take.u64()?,
            end_offset: take.u64()?,
            records: take.u64()?,
            index_bytes: take.u64()?,
            term: take.u32()?,
            index_crc: take.u32()?,
        })
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
        Self { take: Take::new(entries) }
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
