//! Building an object: records come log by log, bytes go out.
//!
//! Invariants: a record is put in as it stands in its segment, byte for byte; blocks are cut
//! between records; memory is that of the object and one block.
//! Not here: where the records come from (`gather`).

use sapwood::LogId;
use sapwood::format::{Flaw, Frame, RecordHeader, UNIT_MIN};

use super::block::{BLOCK_RAW_MAX, BlockEntry, BlockHeader};
use super::codec::Codec;
use super::footer::Footer;
use super::header::{HEADER_BYTES, ObjectHeader};
use super::stretch::Stretch;

/// How records are packed into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// How a block is compressed; one that does not shrink stays plain.
    pub codec: Codec,
    /// A block takes no more records once it has so many bytes of them; 4 KiB to 8 MiB, by default
    /// 256 KiB. What a reader fetches at least.
    pub block_bytes: usize,
}

impl Default for Packing {
    fn default() -> Self {
        Self { codec: Codec::Lz4, block_bytes: 256 << 10 }
    }
}

const BLOCK_BYTES_MIN: usize = 4 << 10;
const BLOCK_BYTES_MAX: usize = 8 << 20;

/// An object under way.
#[derive(Debug)]
pub struct Builder {
    packing: Packing,
    nonce: u64,
    out: Vec<u8>,
    /// The block under way: its records, and what it begins with.
    raw: Vec<u8>,
    begun: BlockEntry,
    /// Bytes of records in the blocks that are done.
    raw_done: u64,
    footer: Footer,
}

impl Builder {
    /// An object of no records yet.
    ///
    /// # Errors
    /// A block size out of range.
    pub fn new(header: ObjectHeader, packing: Packing) -> Result<Self, Flaw> {
        if !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&packing.block_bytes) {
            return Err(Flaw::Field("block_bytes must be 4 KiB to 8 MiB"));
        }
        let mut out = vec![0; HEADER_BYTES];
        header.encode(&mut out);
        Ok(Self {
            packing,
            nonce: header.nonce,
            out,
            raw: Vec::new(),
            begun: BlockEntry::default(),
            raw_done: 0,
            footer: Footer { header, ..Footer::default() },
        })
    }

    /// Puts a record in, framed as it stands in its batch; `header` is its own. Logs come in order,
    /// the records of a log in theirs.
    ///
    /// # Errors
    /// A log that is not the last one's or a higher one, and bytes that are not the header's.
    pub fn push(&mut self, header: &RecordHeader, framed: &[u8]) -> Result<(), Flaw> {
        if framed.len() != header.framed_bytes() || framed.len() > BLOCK_RAW_MAX / 2 {
            return Err(Flaw::Field("bytes of a record"));
        }
        let last = self.footer.stretches.last_mut();
        if last.as_ref().map_or(LogId(0), |last| last.log) > header.log {
            return Err(Flaw::Field("order of logs"));
        }
        let raw_offset = self.raw_done + self.raw.len() as u64;
        match last.filter(|last| last.takes(header)) {
            Some(last) => last.add(header),
            None if header.is_continued() => {
                return Err(Flaw::Field("a fragment without its begin"));
            }
            None => self.footer.stretches.push(Stretch::begin(header, raw_offset)),
        }
        if self.raw.is_empty() {
            self.begun = BlockEntry {
                continued: header.is_continued(),
                log: header.log,
                lsn: header.lsn,
                epoch: header.epoch,
                time_us: header.time_us,
                ..BlockEntry::default()
            };
        }
        self.raw.extend_from_slice(framed);
        self.begun.records += 1;
        self.footer.records += 1;
        if self.raw.len() >= self.packing.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), Flaw> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let packed = self.packing.codec.pack(&self.raw);
        let codec = if packed.is_some() { self.packing.codec } else { Codec::Plain };
        let stored = packed.as_deref().unwrap_or(&self.raw);
        let number = u32::try_from(self.footer.blocks.len());
        let header = BlockHeader {
            number: number.map_err(|_| Flaw::Field("too many blocks"))?,
            stored: stored.len() as u32,
            raw: self.raw.len() as u32,
            codec,
            raw_offset: self.raw_done,
            nonce: self.nonce,
        };
        let offset = self.out.len() as u64;
        let crc = header.encode(stored, &mut self.out);
        self.footer.blocks.push(BlockEntry {
            offset,
            raw_offset: self.raw_done,
            stored: header.stored,
            raw: header.raw,
            crc,
            codec,
            ..self.begun
        });
        self.raw_done += self.raw.len() as u64;
        self.raw.clear();
        Ok(())
    }

    /// The whole object. `facts` tell of the directory, its logs, and damage that is left out.
    ///
    /// # Errors
    /// Facts that no frame can hold.
    pub fn finish(mut self, facts: &Frame) -> Result<Vec<u8>, Flaw> {
        self.end_block()?;
        let (facts, _) = facts.encode(UNIT_MIN)?;
        self.footer.encode(&facts, &mut self.out)?;
        Ok(self.out)
    }
}
