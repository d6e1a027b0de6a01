//! One record: header, properties, payload. It travels unchanged through batch, object and cache.
//!
//! Invariants:
//! - A record starts on a multiple of [`RECORD_ALIGN`] and is zero-padded to the next.
//! - The header's CRC covers the header behind it, the body's CRC included; neither is seeded, so
//!   that a record can be relocated without being summed again. What ties it to its place is the
//!   run table of its batch.
//! - Which bytes the header's CRC covers is fixed: 4..48, or 4..64 with [`FLAG_PRODUCER`].
//!
//! Not here: batches (`batch`), fragments put back together (`reader`).

use super::wire::{Take, need, put, u16_at, u32_at, u64_at};
use super::{Flaw, SPAN_BATCHES_MAX, round_up};
use crate::lsn::{Epoch, LogId, Lsn, Position};

/// Records start on a multiple of this.
pub const RECORD_ALIGN: usize = 8;

/// Bytes of a record header without the producer's extension.
pub const RECORD_HEADER_BYTES: usize = 48;

/// Bytes that the producer's extension adds to the header.
pub const PRODUCER_BYTES: usize = 16;

const HEADER_BYTES_MAX: usize = RECORD_HEADER_BYTES + PRODUCER_BYTES;

/// The flag bits that hold the [`Fragment`].
pub const FRAGMENT_MASK: u8 = 0b0000_0011;
/// Member of an atomic group.
pub const FLAG_GROUP: u8 = 0b0000_0100;
/// The header carries a [`Producer`].
pub const FLAG_PRODUCER: u8 = 0b0000_1000;
const FLAGS_RESERVED: u8 = 0b1111_0000;

/// What a record is. 0 is not a kind, so that zeroes are not a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// What a writer appended.
    #[default]
    Data = 1,
    /// From this LSN on, what older epochs wrote is gone.
    Cut = 2,
    /// Nothing follows in this log.
    LogSealed = 3,
    /// A range that salvage went past.
    Lost = 4,
    /// For the engine's own use.
    Control = 5,
}

impl RecordKind {
    /// The kind that `byte` stands for; unknown is unsupported, and 0 is none.
    pub fn from_byte(byte: u8) -> Result<Self, Flaw> {
        match byte {
            0 => Err(Flaw::Field("record kind 0")),
            1 => Ok(Self::Data),
            2 => Ok(Self::Cut),
            3 => Ok(Self::LogSealed),
            4 => Ok(Self::Lost),
            5 => Ok(Self::Control),
            other => Err(Flaw::Unknown { what: "record kind", found: u32::from(other) }),
        }
    }
}

/// Which part of a larger record a record on disk is. All fragments have the LSN of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole = 0,
    /// Its beginning.
    First = 1,
    /// Neither beginning nor end.
    Middle = 2,
    /// Its end.
    Last = 3,
}

/// Who sent the record and which of theirs it is, so that a retry can be recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The producer, chosen by the caller.
    pub id: u64,
    /// The producer's own count.
    pub sequence: u64,
}

/// A record's header.
///
/// [`FLAG_PRODUCER`] in `flags` follows `producer`: [`RecordHeader::encode`] sets or clears it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordHeader {
    /// The log it belongs to.
    pub log: LogId,
    /// Its place in the log.
    pub lsn: Lsn,
    /// The writer that appended it.
    pub epoch: Epoch,
    /// Microseconds since 1970, absolute: a delta would not survive relocation.
    pub time_us: u64,
    /// What it is.
    pub kind: RecordKind,
    /// Fragment, group and producer bits.
    pub flags: u8,
    /// Length of the encoded properties.
    pub properties_bytes: u16,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// CRC32C of properties and payload, see [`body_crc`].
    pub body_crc: u32,
    /// Which fragment it is, counted from the first; 0 as well when it is no fragment.
    pub fragment_index: u32,
    /// Present when a producer numbered the record.
    pub producer: Option<Producer>,
}

impl RecordHeader {
    /// Bytes of this header: 48 or 64.
    #[inline]
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + PRODUCER_BYTES * usize::from(self.producer.is_some())
    }

    /// Bytes of header, properties, payload and padding.
    #[inline]
    #[must_use]
    pub fn framed_bytes(&self) -> usize {
        let body = usize::from(self.properties_bytes) + self.payload_bytes as usize;
        round_up(self.header_bytes() + body, RECORD_ALIGN)
    }

    /// (epoch, LSN).
    #[inline]
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, lsn: self.lsn }
    }

    /// Which part of a larger whole it is.
    #[must_use]
    pub fn fragment(&self) -> Fragment {
        match self.flags & FRAGMENT_MASK {
            0 => Fragment::Whole,
            1 => Fragment::First,
            2 => Fragment::Middle,
            _ => Fragment::Last,
        }
    }

    /// It goes on where an earlier fragment ended.
    #[must_use]
    pub fn is_continued(&self) -> bool {
        matches!(self.fragment(), Fragment::Middle | Fragment::Last)
    }

    /// Another fragment of the record follows.
    #[must_use]
    pub fn continues(&self) -> bool {
        matches!(self.fragment(), Fragment::First | Fragment::Middle)
    }

    /// Member of an atomic group.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.flags & FLAG_GROUP != 0
    }

    /// Writes the header to the front of `out`, which must hold [`Self::header_bytes`]. Allocates
    /// nothing.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) {
        let mut bytes = [0u8; HEADER_BYTES_MAX];
        let extended = u8::from(self.producer.is_some());
        let producer = self.producer.unwrap_or_default();
        put(&mut bytes, 4, self.body_crc.to_le_bytes());
        put(&mut bytes, 8, self.log.0.to_le_bytes());
        put(&mut bytes, 16, self.lsn.0.to_le_bytes());
        put(&mut bytes, 24, self.time_us.to_le_bytes());
        put(&mut bytes, 32, self.epoch.0.to_le_bytes());
        put(&mut bytes, 36, self.payload_bytes.to_le_bytes());
        put(&mut bytes, 40, self.properties_bytes.to_le_bytes());
        bytes[42] = self.kind as u8;
        bytes[43] = (self.flags & !FLAG_PRODUCER) | (FLAG_PRODUCER * extended);
        put(&mut bytes, 44, self.fragment_index.to_le_bytes());
        put(&mut bytes, 48, producer.id.to_le_bytes());
        put(&mut bytes, 56, producer.sequence.to_le_bytes());
        let len = self.header_bytes();
        let crc = crc32c::crc32c(&bytes[4..len]);
        put(&mut bytes, 0, crc.to_le_bytes());
        out[..len].copy_from_slice(&bytes[..len]);
    }

    /// Reads a header and checks its own CRC; the body may be missing or rotten.
    pub fn decode(buf: &[u8]) -> Result<Self, Flaw> {
        need(buf, RECORD_HEADER_BYTES)?;
        let flags = buf[43];
        let extended = flags & FLAG_PRODUCER != 0;
        let len = RECORD_HEADER_BYTES + PRODUCER_BYTES * usize::from(extended);
        need(buf, len)?;
        if crc32c::crc32c(&buf[4..len]) != u32_at(buf, 0) {
            return Err(Flaw::Crc);
        }
        let kind = RecordKind::from_byte(buf[42])?;
        if flags & FLAGS_RESERVED != 0 {
            return Err(Flaw::Unknown { what: "record flags", found: u32::from(flags) });
        }
        let fragment_index = u32_at(buf, 44);
        let producer =
            extended.then(|| Producer { id: u64_at(buf, 48), sequence: u64_at(buf, 56) });
        let header = Self {
            log: LogId(u64_at(buf, 8)),
            lsn: Lsn(u64_at(buf, 16)),
            epoch: Epoch(u32_at(buf, 32)),
            time_us: u64_at(buf, 24),
            kind,
            flags,
            properties_bytes: u16_at(buf, 40),
            payload_bytes: u32_at(buf, 36),
            body_crc: u32_at(buf, 4),
            fragment_index,
            producer,
        };
        if header.is_continued() != (fragment_index != 0) || fragment_index >= SPAN_BATCHES_MAX {
            return Err(Flaw::Field("number of a fragment"));
        }
        Ok(header)
    }
}

/// CRC32C of properties and payload, unseeded: computed once, at intake.
#[inline]
#[must_use]
pub fn body_crc(properties: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(properties), payload)
}

/// A record in a buffer of somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The decoded header.
    pub header: RecordHeader,
    /// The encoded properties, see [`PropertyIter`].
    pub properties: &'a [u8],
    /// What was appended.
    pub payload: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// Whether the body fits its CRC.
    #[must_use]
    pub fn body_is_good(&self) -> bool {
        body_crc(self.properties, self.payload) == self.header.body_crc
    }

    /// The properties one by one.
    #[must_use]
    pub fn iter_properties(&self) -> PropertyIter<'a> {
        PropertyIter::new(self.properties)
    }
}

/// Reads the record at the front of `buf` and checks both CRCs; also gives its framed length.
pub fn read_record(buf: &[u8]) -> Result<(RecordRef<'_>, usize), Flaw> {
    let (record, framed) = read_record_header_only(buf)?;
    if record.body_is_good() { Ok((record, framed)) } else { Err(Flaw::Crc) }
}

/// As [`read_record`], but the body's CRC is not checked (the body must be there).
pub fn read_record_header_only(buf: &[u8]) -> Result<(RecordRef<'_>, usize), Flaw> {
    let header = RecordHeader::decode(buf)?;
    let framed = header.framed_bytes();
    need(buf, framed)?;
    let body = &buf[header.header_bytes()..];
    let (properties, rest) = body.split_at(usize::from(header.properties_bytes));
    let payload = &rest[..header.payload_bytes as usize];
    Ok((RecordRef { header, properties, payload }, framed))
}

/// Writes a whole record to the front of `out`, padding included, and gives its framed length. The
/// header's lengths and CRC must be those of the body: [`RecordHeader::framed_bytes`] fit in `out`.
pub fn write_record(
    header: &RecordHeader,
    properties: &[u8],
    payload: &[u8],
    out: &mut [u8],
) -> usize {
    debug_assert_eq!(usize::from(header.properties_bytes), properties.len());
    debug_assert_eq!(header.payload_bytes as usize, payload.len());
    let framed = header.framed_bytes();
    header.encode(out);
    let start = header.header_bytes();
    let middle = start + properties.len();
    let end = middle + payload.len();
    out[start..middle].copy_from_slice(properties);
    out[middle..end].copy_from_slice(payload);
    out[end..framed].fill(0);
    framed
}

/// Encodes properties: per pair `u16` key length, `u16` value length, key, value.
pub fn encode_properties(pairs: &[(&str, &[u8])]) -> Result<Vec<u8>, Flaw> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        let key_len = u16::try_from(key.len()).map_err(|_| Flaw::Field("a key is too long"))?;
        let value_len =
            u16::try_from(value.len()).map_err(|_| Flaw::Field("a property is too long"))?;
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(&value_len.to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value);
        if out.len() > usize::from(u16::MAX) {
            return Err(Flaw::Field("the properties are too long"));
        }
    }
    Ok(out)
}

/// Walks encoded properties. Ends after the first flaw.
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    rest: Take<'a>,
}

impl<'a> PropertyIter<'a> {
    /// Over the properties of one record.
    #[must_use]
    pub fn new(properties: &'a [u8]) -> Self {
        Self { rest: Take::new(properties) }
    }

    fn step(&mut self) -> Result<(&'a str, &'a [u8]), Flaw> {
        let key_len = usize::from(self.rest.u16()?);
        let value_len = usize::from(self.rest.u16()?);
        let key = std::str::from_utf8(self.rest.bytes(key_len)?)
            .map_err(|_| Flaw::Field("a property's key is not UTF-8"))?;
        Ok((key, self.rest.bytes(value_len)?))
    }
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Result<(&'a str, &'a [u8]), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.rest = Take::new(&[]);
        }
        Some(step)
    }
}

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(HEADER_BYTES_MAX.is_multiple_of(RECORD_ALIGN));
