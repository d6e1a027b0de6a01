//! Manifest frames: one durable step of what exists, an edit or a whole snapshot.
//!
//! Invariants:
//! - Frames of a shard are dense in `seq` and chained by `prev_crc`; each is padded to the unit
//!   that stands in its header.
//! - The header's CRC stands at 124 and covers 0..124, the body's CRC among it: one number, the
//!   header's CRC, names all of a frame.
//! - The length of the entries is believed only under the header's CRC, and then checked.
//!
//! Not here: slots and their two copies, replay and the rules between entries (the manifest
//! proper); the entries (`edit`).

use super::edit::{ENTRY_HEADER_BYTES, Edits};
use super::wire::{need, put, u16_at, u32_at, u64_at};
use super::{Flaw, VERSION, is_unit, round_up};
use crate::lsn::ShardId;

pub use super::edit::{CURSOR_GONE, Edit};
pub use super::facts::{Chain, DamageFacts, DirectoryFacts, Link, LogFacts, LogSettings};

/// "SWM1".
pub const MANIFEST_MAGIC: [u8; 4] = *b"SWM1";

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 128;

/// Frame flag: the entries rebuild the whole state; nothing before this frame is needed.
pub const SNAPSHOT: u16 = 1;

const CRC_AT: usize = 124;

/// A frame's header as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// [`SNAPSHOT`] or 0.
    pub flags: u16,
    /// The directory it belongs to.
    pub directory: u64,
    /// The lineage of that directory.
    pub lineage: u64,
    /// The shard whose manifest this is.
    pub shard: ShardId,
    /// The write-open that wrote it.
    pub term: u32,
    /// Its sequence, dense.
    pub seq: u64,
    /// The shard's durable batch sequence at that moment: convicts batches that vanished.
    pub durable: u64,
    /// Microseconds since 1970.
    pub time_us: u64,
    /// Bytes of the entries.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u32,
    /// CRC32C of the entries.
    pub body_crc: u32,
    /// The header CRC of the previous frame.
    pub prev_crc: u32,
    /// Features that an older reader may ignore.
    pub compat: u32,
    /// Features that an older program may read past but must not write.
    pub ro_compat: u32,
    /// Features that an older reader must refuse.
    pub incompat: u32,
    /// What the frame is padded to.
    pub unit: u32,
}

impl FrameHeader {
    /// Bytes of the frame in the file; saturates when the length is a lie.
    #[must_use]
    pub fn padded_bytes(&self) -> usize {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        round_up(bytes.saturating_add(FRAME_HEADER_BYTES), self.unit as usize)
    }

    /// The entries rebuild the whole state.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.flags & SNAPSHOT != 0
    }

    /// Refuses to write where a feature is used that only newer programs may write.
    pub fn writable(&self) -> Result<(), Flaw> {
        if self.ro_compat == 0 { Ok(()) } else { Err(Flaw::Incompat { bits: self.ro_compat }) }
    }

    /// Writes the header to the front of `out` and gives its CRC.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..FRAME_HEADER_BYTES];
        out.fill(0);
        put(out, 0, MANIFEST_MAGIC);
        put(out, 4, VERSION.to_le_bytes());
        put(out, 6, self.flags.to_le_bytes());
        put(out, 8, self.directory.to_le_bytes());
        put(out, 16, self.lineage.to_le_bytes());
        put(out, 24, u32::from(self.shard.0).to_le_bytes());
        put(out, 28, self.term.to_le_bytes());
        put(out, 32, self.seq.to_le_bytes());
        put(out, 40, self.durable.to_le_bytes());
        put(out, 48, self.time_us.to_le_bytes());
        put(out, 56, self.bytes.to_le_bytes());
        put(out, 64, self.entries.to_le_bytes());
        put(out, 68, self.body_crc.to_le_bytes());
        put(out, 72, self.prev_crc.to_le_bytes());
        put(out, 76, self.compat.to_le_bytes());
        put(out, 80, self.ro_compat.to_le_bytes());
        put(out, 84, self.incompat.to_le_bytes());
        put(out, 88, self.unit.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(out, CRC_AT, crc.to_le_bytes());
        crc
    }

    /// Reads a header, alone. Also gives its CRC.
    pub fn decode(buf: &[u8]) -> Result<(Self, u32), Flaw> {
        need(buf, FRAME_HEADER_BYTES)?;
        if buf[..4] != MANIFEST_MAGIC {
            return Err(Flaw::Magic);
        }
        let crc = u32_at(buf, CRC_AT);
        if crc32c::crc32c(&buf[..CRC_AT]) != crc {
            return Err(Flaw::Crc);
        }
        let version = u16_at(buf, 4);
        if version != VERSION {
            return Err(Flaw::Version { found: version });
        }
        let incompat = u32_at(buf, 84);
        if incompat != 0 {
            return Err(Flaw::Incompat { bits: incompat });
        }
        let shard = u16::try_from(u32_at(buf, 24)).map_err(|_| Flaw::Field("shard of a frame"))?;
        let header = Self {
            flags: u16_at(buf, 6),
            directory: u64_at(buf, 8),
            lineage: u64_at(buf, 16),
            shard: ShardId(shard),
            term: u32_at(buf, 28),
            seq: u64_at(buf, 32),
            durable: u64_at(buf, 40),
            time_us: u64_at(buf, 48),
            bytes: u64_at(buf, 56),
            entries: u32_at(buf, 64),
            body_crc: u32_at(buf, 68),
            prev_crc: u32_at(buf, 72),
            compat: u32_at(buf, 76),
            ro_compat: u32_at(buf, 80),
            incompat,
            unit: u32_at(buf, 88),
        };
        header.check()?;
        Ok((header, crc))
    }

    fn check(&self) -> Result<(), Flaw> {
        if self.flags & !SNAPSHOT != 0 {
            return Err(Flaw::Unknown { what: "frame flags", found: u32::from(self.flags) });
        }
        if !is_unit(self.unit) {
            return Err(Flaw::Field("unit of a frame"));
        }
        if u64::from(self.entries) > self.bytes / ENTRY_HEADER_BYTES as u64 {
            return Err(Flaw::Field("more entries than a frame has room for"));
        }
        Ok(())
    }
}

/// A frame whose CRCs are good; its entries are decoded as they are walked.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The decoded header.
    pub header: FrameHeader,
    /// The header's CRC, which the next frame repeats.
    pub crc: u32,
    entries: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Reads the frame at the front of `buf` and checks both CRCs. `Short` with the frame's length
    /// when the header is good and not all of the frame is there.
    pub fn parse(buf: &'a [u8]) -> Result<Self, Flaw> {
        let (header, crc) = FrameHeader::decode(buf)?;
        need(buf, header.padded_bytes())?;
        let entries = &buf[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.bytes as usize];
        if crc32c::crc32c(entries) != header.body_crc {
            return Err(Flaw::Crc);
        }
        Ok(Self { header, crc, entries })
    }

    /// The entries one by one, never all at once in memory.
    #[must_use]
    pub fn edits(&self) -> Edits<'a> {
        Edits::new(self.entries)
    }
}

/// A frame and its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// [`SNAPSHOT`] or 0.
    pub flags: u16,
    /// The directory it belongs to.
    pub directory: u64,
    /// The lineage of that directory.
    pub lineage: u64,
    /// The shard whose manifest this is.
    pub shard: ShardId,
    /// The write-open that writes it.
    pub term: u32,
    /// Its sequence, dense.
    pub seq: u64,
    /// The shard's durable batch sequence.
    pub durable: u64,
    /// Microseconds since 1970.
    pub time_us: u64,
    /// The header CRC of the previous frame.
    pub prev_crc: u32,
    /// The entries.
    pub edits: Vec<Edit>,
}

impl Frame {
    /// The frame's bytes, padded to `unit`, and its header CRC.
    pub fn encode(&self, unit: usize) -> Result<(Vec<u8>, u32), Flaw> {
        let unit_wire = u32::try_from(unit).ok().filter(|unit| is_unit(*unit));
        let unit_wire = unit_wire.ok_or(Flaw::Field("unit of a frame"))?;
        let entries = u32::try_from(self.edits.len());
        let mut out = vec![0; FRAME_HEADER_BYTES];
        for edit in &self.edits {
            edit.encode(&mut out)?;
        }
        let body = &out[FRAME_HEADER_BYTES..];
        let header = FrameHeader {
            flags: self.flags,
            directory: self.directory,
            lineage: self.lineage,
            shard: self.shard,
            term: self.term,
            seq: self.seq,
            durable: self.durable,
            time_us: self.time_us,
            bytes: body.len() as u64,
            entries: entries.map_err(|_| Flaw::Field("too many entries"))?,
            body_crc: crc32c::crc32c(body),
            prev_crc: self.prev_crc,
            unit: unit_wire,
            ..FrameHeader::default()
        };
        let crc = header.encode(&mut out);
        out.resize(round_up(out.len(), unit), 0);
        Ok((out, crc))
    }

    /// Reads the frame at the front of `buf`: the frame, its bytes in the file, its header CRC.
    pub fn decode(buf: &[u8]) -> Result<(Self, usize, u32), Flaw> {
        let FrameView { header, crc, entries } = FrameView::parse(buf)?;
        let edits = Edits::new(entries).collect::<Result<Vec<_>, _>>()?;
        if edits.len() != header.entries as usize {
            return Err(Flaw::Field("number of entries"));
        }
        let frame = Self {
            flags: header.flags,
            directory: header.directory,
            lineage: header.lineage,
            shard: header.shard,
            term: header.term,
            seq: header.seq,
            durable: header.durable,
            time_us: header.time_us,
            prev_crc: header.prev_crc,
            edits,
        };
        Ok((frame, header.padded_bytes(), crc))
    }
}

const _: () = assert!(CRC_AT + 4 == FRAME_HEADER_BYTES);
