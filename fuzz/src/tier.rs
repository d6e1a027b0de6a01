//! The judges of objects: footer with trailer, block.
//!
//! Not here: the local files (the crate's root).

use sapwood_tiering::object::{
    BLOCK_HEADER_BYTES, BLOCK_RAW_MAX, BlockEntry, BlockHeader, Footer, Trailer, open_block, verify,
};

use super::{check_flaw, mend, prepare};

/// An object, read as a restore does it, its footer first.
pub fn footer(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::object);
    let trailer = match Trailer::decode(&bytes, bytes.len() as u64) {
        Ok(trailer) => trailer,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    let range = trailer.footer_range();
    let part = &bytes[range.start as usize..range.end as usize];
    if let Ok(facts) = Footer::facts(part, &trailer) {
        assert!(facts.edits.len() <= part.len());
    }
    let footer = match Footer::decode(part, &trailer) {
        Ok(footer) => footer,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    let counted: u64 = footer.blocks.iter().map(|block| u64::from(block.records)).sum();
    assert_eq!(counted, footer.records);
    for block in &footer.blocks {
        assert!(block.end() <= trailer.footer_offset, "a block in the footer, or behind it");
    }
    for stretch in footer.stretches.iter().take(16) {
        assert!(footer.stretches_of(stretch.log).contains(stretch), "a stretch is not found");
        for lsn in [stretch.first_lsn, stretch.last_lsn] {
            let blocks = footer.blocks_from(stretch, lsn);
            assert!(blocks.start <= blocks.end && blocks.end <= footer.blocks.len());
            if let Some(found) = footer.find(stretch.log, lsn) {
                assert!(found.holds(lsn), "another stretch than that of the LSN");
            }
        }
        let _ = footer.from_time(stretch.log, stretch.last_time_us);
    }
    let mut records = 0;
    let whole = verify(&bytes, &mut |record, framed| {
        assert!(record.body_is_good() && framed.len() == record.header.framed_bytes());
        records += 1;
    });
    match whole {
        Ok(found) => assert_eq!((records, found.footer), (footer.records, footer)),
        Err(wrong) => {
            check_flaw(&wrong.flaw);
            assert!(records <= footer.records, "more records than the footer has");
        }
    }
    true
}

/// A block alone, and as its footer would name it.
pub fn block(data: &[u8]) -> bool {
    let bytes = prepare(data, mend::block);
    let (header, crc, stored) = match BlockHeader::decode(&bytes) {
        Ok(found) => found,
        Err(flaw) => {
            check_flaw(&flaw);
            return false;
        }
    };
    assert_eq!(stored.len(), header.stored as usize);
    assert!(header.raw as usize <= BLOCK_RAW_MAX);
    let entry = BlockEntry {
        offset: 0,
        raw_offset: header.raw_offset,
        stored: header.stored,
        raw: header.raw,
        crc,
        codec: header.codec,
        records: 1,
        ..BlockEntry::default()
    };
    let number = header.number as usize;
    for other in [
        open_block(&bytes, number, &entry, !header.nonce),
        open_block(&bytes, number ^ 1, &entry, header.nonce),
        open_block(&bytes[..BLOCK_HEADER_BYTES - 1], number, &entry, header.nonce),
    ] {
        assert!(other.is_err(), "another block is taken for this one");
    }
    match open_block(&bytes, number, &entry, header.nonce) {
        Ok(raw) => assert_eq!(raw.len(), header.raw as usize),
        Err(flaw) => check_flaw(&flaw),
    }
    true
}
