//! Reading an object from front to back: whether each byte of it is what was put in.
//!
//! Invariants: what passes holds exactly the stretches that its footer names, each record with good
//! CRCs, in order, fragments whole; memory is one unpacked block beside the object.
//! Not here: reading a part of an object (`Footer`, `open_block`).

use std::fmt;

use sapwood::Lsn;
use sapwood::format::{Flaw, Frame, RecordHeader, RecordRef, read_record};

use super::block::open_block;
use super::footer::{Footer, Trailer};
use super::header::ObjectHeader;
use super::stretch::Stretch;

/// What is wrong with an object, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which part.
    pub what: &'static str,
    /// Where it stands, in bytes from the beginning of the object.
    pub offset: u64,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.what, self.offset, self.flaw)
    }
}

impl std::error::Error for Wrong {}

/// An object that is what it says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it holds.
    pub footer: Footer,
    /// The facts of its directory and its logs.
    pub facts: Frame,
}

/// Reads all of an object; each record is given to `each`.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    object: &[u8],
    each: &mut dyn FnMut(&RecordRef<'_>, &[u8]),
) -> Result<Verified, Wrong> {
    let len = object.len() as u64;
    let at = |what, offset| move |flaw| Wrong { what, offset, flaw };
    let trailer = Trailer::decode(object, len).map_err(at("trailer", len.saturating_sub(64)))?;
    let (header, header_crc) = ObjectHeader::decode(object).map_err(at("header", 0))?;
    let range = trailer.footer_range();
    let bytes = &object[range.start as usize..range.end as usize];
    let footer = Footer::decode(bytes, &trailer).map_err(at("footer", range.start))?;
    let facts = Footer::facts(bytes, &trailer).map_err(at("facts", range.start))?;
    if header_crc != trailer.header_crc || header != footer.header {
        let flaw = Flaw::Field("header and footer are of two objects");
        return Err(Wrong { what: "header", offset: 0, flaw });
    }
    let mut walk = Walk { footer: &footer, stretch: 0, seen: None };
    for (number, block) in footer.blocks.iter().enumerate() {
        let wrong = at("block", block.offset);
        let stored = &object[block.offset as usize..block.end() as usize];
        let raw = open_block(stored, number, block, header.nonce).map_err(wrong)?;
        walk.block(number, &raw, each).map_err(wrong)?;
    }
    walk.end().map_err(at("footer", range.start))?;
    Ok(Verified { footer, facts })
}

/// Holds the records against the stretches that are promised.
struct Walk<'a> {
    footer: &'a Footer,
    stretch: usize,
    /// What of the stretch at hand was met.
    seen: Option<(Stretch, RecordHeader)>,
}

impl Walk<'_> {
    fn block(
        &mut self,
        number: usize,
        raw: &[u8],
        each: &mut dyn FnMut(&RecordRef<'_>, &[u8]),
    ) -> Result<(), Flaw> {
        let entry = &self.footer.blocks[number];
        let (mut at, mut records) = (0, 0);
        while at < raw.len() {
            let (record, framed) = read_record(&raw[at..]).map_err(|flaw| match flaw {
                Flaw::Short { .. } => Flaw::Field("a record reaches beyond its block"),
                other => other,
            })?;
            let header = record.header;
            let told = (entry.log, entry.lsn, entry.epoch, entry.time_us, entry.continued);
            let found = (header.log, header.lsn, header.epoch, header.time_us);
            let found = (found.0, found.1, found.2, found.3, header.is_continued());
            if at == 0 && told != found {
                return Err(Flaw::Field("the first record of a block"));
            }
            self.record(&header, entry.raw_offset + at as u64)?;
            let bytes = &raw[at..at + framed];
            if bytes[header_and_body(&header)..].iter().any(|byte| *byte != 0) {
                return Err(Flaw::Field("padding of a record"));
            }
            each(&record, bytes);
            (at, records) = (at + framed, records + 1);
        }
        if records == entry.records { Ok(()) } else { Err(Flaw::Field("records of a block")) }
    }

    fn record(&mut self, header: &RecordHeader, raw_offset: u64) -> Result<(), Flaw> {
        const PLACE: Flaw = Flaw::Field("a record where its stretch has another");
        if let Some((seen, last)) = &mut self.seen {
            if seen.raw_bytes < self.footer.stretches[self.stretch].raw_bytes {
                let part = if last.continues() { last.fragment_index + 1 } else { 0 };
                let fits = header.is_continued() == last.continues()
                    && header.fragment_index == part
                    && (part == 0 || header.epoch == last.epoch);
                if !fits || !seen.takes(header) {
                    return Err(PLACE);
                }
                seen.add(header);
                *last = *header;
                return Ok(());
            }
            self.close()?;
        }
        let due = self.footer.stretches.get(self.stretch).ok_or(PLACE)?;
        if header.is_continued() || due.raw_offset != raw_offset {
            return Err(PLACE);
        }
        self.seen = Some((Stretch::begin(header, raw_offset), *header));
        Ok(())
    }

    /// The stretch at hand ends here.
    fn close(&mut self) -> Result<(), Flaw> {
        let Some((seen, last)) = self.seen.take() else { return Ok(()) };
        if last.continues() || seen != self.footer.stretches[self.stretch] {
            return Err(Flaw::Field("a stretch holds other records than its footer says"));
        }
        self.stretch += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Flaw> {
        self.close()?;
        let all = self.stretch == self.footer.stretches.len();
        if all { Ok(()) } else { Err(Flaw::Field("a stretch without records")) }
    }
}

fn header_and_body(header: &RecordHeader) -> usize {
    let body = usize::from(header.properties_bytes) + header.payload_bytes as usize;
    header.header_bytes() + body
}

impl Verified {
    /// Whether it holds this LSN range of a log, all of it.
    #[must_use]
    pub fn holds(&self, stretch: &Stretch) -> bool {
        let own = self.footer.stretches_of(stretch.log);
        own.iter().any(|own| own.holds(stretch.first_lsn) && own.holds(stretch.last_lsn))
    }

    /// The lowest and the highest LSN that it holds of a log.
    #[must_use]
    pub fn lsns(&self, log: sapwood::LogId) -> Option<(Lsn, Lsn)> {
        let own = self.footer.stretches_of(log);
        let first = own.iter().map(|stretch| stretch.first_lsn).min()?;
        let last = own.iter().map(|stretch| stretch.last_lsn).max()?;
        Some((first, last))
    }
}
