//! Any file of a directory as items to print: what stands where, and what is wrong with it.
//!
//! Invariants: the walk only reads the bytes it is given; it ends, whatever they hold; it goes past
//! damage in steps of a unit and tells what it went past; a flaw is an item like any other.
//! Not here: verdicts. Whether a hole is a torn tail or rot is for `recover`, which knows the
//! manifest; here a hole is a hole. Words and JSON: `dump::item`.

use std::io;

use crate::format::{
    BATCH_COMPACTED, BATCH_MAGIC, BatchHeader, BatchView, EntryBlock, Fence, Flaw, FrameView,
    HINT_MAGIC, HintPage, INDEX_MAGIC, IndexData, IndexHeader, MANIFEST_MAGIC, Posting, RunTable,
    SEGMENT_MAGIC, SegmentHeader, UNIT_MIN, batch::BATCH_HEADER_BYTES, index::INDEX_BLOCK_BYTES,
};

mod item;

pub use item::{DumpItem, Value};

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Batches.
    Segment,
    /// Frames.
    Manifest,
    /// The index of a sealed segment.
    Index,
    /// What a writer tells followers on its host.
    Hint,
    /// Who owns the directory.
    Lock,
    /// Zeroes only: prewritten, never used.
    Empty,
    /// Nothing that is known here.
    Foreign,
}

impl FileKind {
    /// Recognises a file by its magic; if that is rotten, by the magics at unit steps behind it.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        for block in bytes.chunks(UNIT_MIN) {
            match block.first_chunk::<4>() {
                Some(&SEGMENT_MAGIC | &BATCH_MAGIC) => return Self::Segment,
                Some(&MANIFEST_MAGIC) => return Self::Manifest,
                Some(&INDEX_MAGIC) => return Self::Index,
                Some(&HINT_MAGIC) => return Self::Hint,
                _ => {}
            }
        }
        if bytes.starts_with(b"host ") {
            Self::Lock
        } else if bytes.iter().all(|byte| *byte == 0) {
            Self::Empty
        } else {
            Self::Foreign
        }
    }

    /// Its name in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Manifest => "manifest",
            Self::Index => "index",
            Self::Hint => "hint",
            Self::Lock => "lock",
            Self::Empty => "empty",
            Self::Foreign => "foreign",
        }
    }
}

/// What the bytes do not say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// What the file is, when its first bytes are not to be asked.
    pub kind: Option<FileKind>,
    /// The nonce of the segment, as the manifest has it, when its header is rotten.
    pub nonce: Option<u64>,
    /// The directory's unit, when the header is rotten.
    pub unit: Option<u32>,
    /// Leave out records and postings: headers only.
    pub brief: bool,
}

/// What a walk met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What the file is.
    pub kind: FileKind,
    /// Batches, frames or index entries that are whole.
    pub parts: u64,
    /// Records or edits that are whole.
    pub records: u64,
    /// Flaws told.
    pub flaws: u64,
    /// Some of them mean: written by a newer version.
    pub unsupported: bool,
}

/// Takes each item as it is met; its error ends the walk.
pub type Sink<'s> = dyn FnMut(&DumpItem<'_>) -> io::Result<()> + 's;

/// Walks a whole file and hands `sink` one item after the other.
///
/// # Errors
/// Only those of `sink`: what is wrong with the bytes is told as items and counted.
pub fn dump(bytes: &[u8], options: &DumpOptions, sink: &mut Sink<'_>) -> io::Result<Summary> {
    let kind = options.kind.unwrap_or_else(|| FileKind::of(bytes));
    let summary = Summary { kind, parts: 0, records: 0, flaws: 0, unsupported: false };
    let mut walk = Walk { bytes, options, sink, summary };
    match kind {
        FileKind::Segment => walk.segment()?,
        FileKind::Manifest => walk.manifest()?,
        FileKind::Index => walk.index()?,
        FileKind::Hint => walk.hint()?,
        FileKind::Lock => walk.lock()?,
        FileKind::Empty => walk.tell(&DumpItem::gap(0, bytes.len(), Flaw::Magic, bytes))?,
        FileKind::Foreign => walk.flaw(0, "file", Flaw::Magic)?,
    }
    Ok(walk.summary)
}

struct Walk<'a, 's, 'f> {
    bytes: &'a [u8],
    options: &'a DumpOptions,
    sink: &'s mut Sink<'f>,
    summary: Summary,
}

/// A stretch of units that do not decode.
#[derive(Clone, Copy)]
struct Hole {
    start: usize,
    flaw: Flaw,
}

impl<'a> Walk<'a, '_, '_> {
    fn tell(&mut self, item: &DumpItem<'_>) -> io::Result<()> {
        (self.sink)(item)
    }

    fn flaw(&mut self, offset: usize, what: &'static str, flaw: Flaw) -> io::Result<()> {
        self.summary.flaws += 1;
        self.summary.unsupported |= flaw.is_unsupported();
        self.tell(&DumpItem::Flaw { offset: offset as u64, what, flaw })
    }

    /// Tells a hole that ends at `end`. A stretch at the end of the file is no flaw by itself:
    /// zeroes and an earlier life of the file stand there.
    fn close(&mut self, hole: Option<Hole>, end: usize) -> io::Result<()> {
        let Some(hole) = hole else { return Ok(()) };
        if end < self.bytes.len() {
            self.summary.flaws += 1;
        }
        self.summary.unsupported |= hole.flaw.is_unsupported();
        self.tell(&DumpItem::gap(hole.start, end, hole.flaw, self.bytes))
    }

    fn segment(&mut self) -> io::Result<()> {
        let header = SegmentHeader::decode(self.bytes);
        match &header {
            Ok(header) => self.tell(&DumpItem::Segment { header: *header })?,
            Err(flaw) => self.flaw(0, "segment header", *flaw)?,
        }
        let header = header.ok();
        let Some(nonce) = self.options.nonce.or(header.map(|header| header.nonce)) else {
            return Ok(());
        };
        let unit = self.options.unit.or(header.map(|header| header.unit));
        let unit = unit.map_or(UNIT_MIN, |unit| unit as usize).max(UNIT_MIN);
        let mut hole: Option<Hole> = None;
        let mut last: Option<(u64, u32)> = None;
        let mut at = unit;
        while at < self.bytes.len() {
            match BatchView::parse(&self.bytes[at..], nonce) {
                Ok(batch) => {
                    self.close(hole.take(), at)?;
                    self.batch(at, &batch, header.as_ref(), last)?;
                    last = Some((batch.header.seq, batch.crc));
                    at = at.saturating_add(batch.header.padded_bytes(unit));
                }
                Err(flaw) => {
                    hole = Some(hole.unwrap_or(Hole { start: at, flaw }));
                    self.torn_batch(at, nonce)?;
                    at += unit;
                }
            }
        }
        self.close(hole, self.bytes.len())
    }

    /// A batch that does not stand: its header may still claim, its run table may still name.
    fn torn_batch(&mut self, at: usize, nonce: u64) -> io::Result<()> {
        let rest = &self.bytes[at..];
        let table_at = match BatchHeader::decode(rest, nonce) {
            Ok((header, crc)) => {
                self.tell(&DumpItem::TornBatch { offset: at as u64, header, crc })?;
                header.runs_offset as usize
            }
            Err(_) => BATCH_HEADER_BYTES,
        };
        let table = rest.get(table_at..).map(|bytes| RunTable::decode_any(bytes, nonce));
        if let Some(Ok(table)) = table {
            for run in table.iter() {
                self.tell(&DumpItem::TornRun { offset: at as u64, seq: table.seq(), run })?;
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        at: usize,
        batch: &BatchView<'_>,
        segment: Option<&SegmentHeader>,
        last: Option<(u64, u32)>,
    ) -> io::Result<()> {
        let header = &batch.header;
        self.summary.parts += 1;
        self.tell(&DumpItem::Batch { offset: at as u64, header: *header, crc: batch.crc })?;
        let owner = (header.directory, header.shard, header.segment);
        if segment.is_some_and(|s| (s.directory, s.shard, s.segment) != owner) {
            self.flaw(at, "batch", Flaw::Field("of another segment"))?;
        }
        let compacted = header.compat & BATCH_COMPACTED != 0;
        let follows = |seq: u64| {
            if compacted { header.seq > seq } else { seq.checked_add(1) == Some(header.seq) }
        };
        if last.is_some_and(|(seq, _)| !follows(seq)) {
            self.flaw(at, "batch", Flaw::Field("sequence does not follow"))?;
        } else if last.is_some_and(|(_, crc)| crc != header.prev_crc) {
            self.flaw(at, "batch", Flaw::Field("previous CRC does not match"))?;
        }
        for run in batch.runs.iter() {
            self.tell(&DumpItem::Run { offset: at as u64, seq: header.seq, run })?;
        }
        self.records(at, batch)
    }

    fn records(&mut self, at: usize, batch: &BatchView<'_>) -> io::Result<()> {
        let mut records = batch.records();
        while let Some(next) = records.next() {
            match next {
                Ok((offset, record)) => {
                    // A record in fragments is one.
                    self.summary.records += u64::from(!record.header.is_continued());
                    if !self.options.brief {
                        self.tell(&DumpItem::Record { offset: (at + offset) as u64, record })?;
                    }
                }
                Err(flaw) => {
                    self.flaw(at + records.offset(), "record", flaw)?;
                    if let Some(header) = records.header() {
                        let offset = (at + records.offset()) as u64;
                        self.tell(&DumpItem::TornRecord { offset, header })?;
                    }
                }
            }
        }
        for run in records.unread() {
            self.tell(&DumpItem::TornRun { offset: at as u64, seq: batch.header.seq, run })?;
        }
        Ok(())
    }

    fn manifest(&mut self) -> io::Result<()> {
        let step = self.options.unit.map_or(UNIT_MIN, |unit| unit as usize).max(UNIT_MIN);
        let mut hole: Option<Hole> = None;
        let mut at = 0;
        let mut last: Option<(u64, u32)> = None;
        while at < self.bytes.len() {
            match FrameView::parse(&self.bytes[at..]) {
                Ok(frame) => {
                    self.close(hole.take(), at)?;
                    self.frame(at, &frame, last)?;
                    last = Some((frame.header.seq, frame.crc));
                    at = at.saturating_add(frame.header.padded_bytes());
                }
                Err(flaw) => {
                    hole = Some(hole.unwrap_or(Hole { start: at, flaw }));
                    at += step;
                }
            }
        }
        self.close(hole, self.bytes.len())
    }

    fn frame(
        &mut self,
        at: usize,
        frame: &FrameView<'_>,
        last: Option<(u64, u32)>,
    ) -> io::Result<()> {
        let (offset, header) = (at as u64, frame.header);
        self.summary.parts += 1;
        // A slot is written anew from its beginning: behind its last frame, older ones stand.
        let follows = last.is_none_or(|(seq, crc)| {
            seq.checked_add(1) == Some(header.seq) && crc == header.prev_crc
        });
        self.tell(&DumpItem::Frame { offset, header, crc: frame.crc, follows })?;
        for edit in frame.edits() {
            match edit {
                Ok(edit) => {
                    self.summary.records += 1;
                    self.tell(&DumpItem::Edit { offset, seq: header.seq, edit: &edit })?;
                }
                Err(flaw) => self.flaw(at, "edit", flaw)?,
            }
        }
        Ok(())
    }

    fn index(&mut self) -> io::Result<()> {
        let header = match IndexHeader::decode(self.bytes) {
            Ok(header) => header,
            Err(flaw) => return self.flaw(0, "index header", flaw),
        };
        self.tell(&DumpItem::Index { header })?;
        if self.bytes.len() < header.file_bytes() {
            let (need, have) = (header.file_bytes(), self.bytes.len());
            return self.flaw(0, "index", Flaw::Short { need, have });
        }
        if let Err(flaw) = Fence::decode(&self.bytes[header.fence_range()], &header) {
            self.flaw(header.fence_range().start, "fence table", flaw)?;
        }
        for block in 0..header.entry_blocks as usize {
            let at = header.block_offset(block);
            let bytes = &self.bytes[at..at + INDEX_BLOCK_BYTES];
            match EntryBlock::decode_at(bytes, header.segment, block) {
                Err(flaw) => self.flaw(at, "entry block", flaw)?,
                Ok(entries) => {
                    for entry in entries.iter() {
                        self.summary.parts += 1;
                        self.tell(&DumpItem::IndexEntry { entry })?;
                    }
                }
            }
        }
        self.index_tail(&header)
    }

    fn index_tail(&mut self, header: &IndexHeader) -> io::Result<()> {
        let range = header.postings_range();
        match Posting::decode_all(&self.bytes[range.clone()], header.postings_crc) {
            Err(flaw) => self.flaw(range.start, "postings", flaw)?,
            Ok(postings) if !self.options.brief => {
                for (number, posting) in postings.into_iter().enumerate() {
                    self.tell(&DumpItem::Posting { number, posting })?;
                }
            }
            Ok(_) => {}
        }
        match header.decode_names(&self.bytes[header.names_range()]) {
            Err(flaw) => self.flaw(header.names_range().start, "names", flaw)?,
            Ok(names) => {
                for (log, name) in &names {
                    self.tell(&DumpItem::Name { log: *log, name })?;
                }
            }
        }
        // What holds between the parts, when each of them is good.
        match IndexData::decode(self.bytes) {
            Err(flaw) if self.summary.flaws == 0 => self.flaw(0, "index", flaw),
            _ => Ok(()),
        }
    }

    fn hint(&mut self) -> io::Result<()> {
        match HintPage::decode(self.bytes) {
            Ok(page) => {
                self.summary.parts += 1;
                self.tell(&DumpItem::Hint { page })
            }
            Err(flaw) => self.flaw(0, "hint page", flaw),
        }
    }

    fn lock(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(self.bytes);
        for line in text.trim_end_matches('\0').lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            self.tell(&DumpItem::Lock { key, value })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
