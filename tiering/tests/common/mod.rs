//! Segments as an engine writes them, made by hand: the same bytes every time.
//!
//! Not here: what is asked of them (the tests).
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part")]

use std::collections::BTreeMap;

use sapwood::format::{
    BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, BatchHeader, BatchKind, DirectoryFacts, Edit, Fragment,
    Frame, LogFacts, RUNS_INLINE_MAX, RecordHeader, Run, SNAPSHOT, SegmentHeader, UNIT_MIN,
    body_crc, encode_runs, round_up, run_table_bytes, write_record,
};
use sapwood::{Epoch, LogId, Lsn, SegmentId, ShardId};
use sapwood_tiering::gather::Extent;
use sapwood_tiering::object::Footer;

pub const NONCE: u64 = 0x0123_4567_89ab_cdef;
pub const DIRECTORY: u64 = 0x5a97_00d0_0000_0001;
pub const LINEAGE: u64 = 0x5a97_00d0_0000_0002;
pub const TIME_US: u64 = 1_764_000_000_000_000;

/// A record of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    pub log: u64,
    pub epoch: u32,
    pub lsn: u64,
    pub payload: Vec<u8>,
    /// Which fragment, and its number.
    pub fragment: (Fragment, u32),
}

pub fn item(log: u64, epoch: u32, lsn: u64, payload: impl Into<Vec<u8>>) -> Item {
    Item { log, epoch, lsn, payload: payload.into(), fragment: (Fragment::Whole, 0) }
}

pub fn log_id(log: u64) -> LogId {
    LogId::new(ShardId(1), log)
}

impl Item {
    pub fn header(&self) -> RecordHeader {
        RecordHeader {
            log: log_id(self.log),
            lsn: Lsn(self.lsn),
            epoch: Epoch(self.epoch),
            time_us: TIME_US + 1000 * self.lsn,
            flags: self.fragment.0 as u8,
            fragment_index: self.fragment.1,
            payload_bytes: self.payload.len() as u32,
            body_crc: body_crc(b"", &self.payload),
            ..RecordHeader::default()
        }
    }

    pub fn framed(&self) -> Vec<u8> {
        let header = self.header();
        let mut out = vec![0; header.framed_bytes()];
        write_record(&header, b"", &self.payload, &mut out);
        out
    }
}

fn runs_of(items: &[Item]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for item in items {
        let header = item.header();
        let key = (header.log, header.epoch);
        let at = runs.iter().position(|run| (run.log, run.epoch) == key).unwrap_or(runs.len());
        if at == runs.len() {
            let (log, epoch) = key;
            let (first_lsn, continued) = (header.lsn, header.is_continued());
            runs.push(Run { log, epoch, first_lsn, continued, ..Run::default() });
        }
        runs[at].count += 1;
        runs[at].bytes += header.framed_bytes() as u32;
        runs[at].continues = header.continues();
    }
    runs
}

/// A data batch, padded; also gives the CRC of its header.
fn batch(items: &[Item], seq: u64, prev_crc: u32) -> (Vec<u8>, u32) {
    let runs = runs_of(items);
    let mut out = vec![0; BATCH_FRONT_BYTES];
    items.iter().for_each(|item| out.extend(item.framed()));
    let mut runs_offset = BATCH_HEADER_BYTES;
    if runs.len() > RUNS_INLINE_MAX {
        runs_offset = out.len();
        out.resize(runs_offset + run_table_bytes(runs.len()), 0);
    }
    encode_runs(&runs, seq, NONCE, &mut out[runs_offset..]);
    let header = BatchHeader {
        kind: if items.is_empty() { BatchKind::Mark } else { BatchKind::Data },
        directory: DIRECTORY,
        shard: ShardId(1),
        term: 3,
        segment: SegmentId(9),
        seq,
        durable: seq - 1,
        time_us: TIME_US + seq,
        bytes: out.len() as u32,
        records: items.len() as u32,
        runs: runs.len() as u32,
        runs_offset: runs_offset as u32,
        prev_crc,
        continues: items.last().is_some_and(|item| item.header().continues()),
        part: items.first().map_or(0, |item| item.fragment.1),
        ..BatchHeader::default()
    };
    let crc = header.encode(NONCE, &mut out);
    out.resize(round_up(out.len(), UNIT_MIN), 0);
    (out, crc)
}

/// A segment of these batches, from sequence 100 on.
pub fn segment(batches: &[Vec<Item>]) -> (Vec<u8>, Extent) {
    let mut out = vec![0; UNIT_MIN];
    SegmentHeader { unit: UNIT_MIN as u32, nonce: NONCE, ..SegmentHeader::default() }
        .encode(&mut out);
    let (mut seq, mut crc) = (100, 77);
    for items in batches {
        let (bytes, own) = batch(items, seq, crc);
        out.extend(bytes);
        (seq, crc) = (seq + 1, own);
    }
    let first_seq = if batches.is_empty() { 0 } else { 100 };
    let last_seq = if batches.is_empty() { 0 } else { seq - 1 };
    let (shard, segment) = (ShardId(1), SegmentId(9));
    let unit = UNIT_MIN as u32;
    (out, Extent { shard, segment, nonce: NONCE, first_seq, last_seq, unit })
}

/// Facts of these logs, each with its start.
pub fn facts(logs: &[(u64, u64)]) -> Frame {
    let directory = DirectoryFacts {
        directory: DIRECTORY,
        lineage: LINEAGE,
        shards: 2,
        unit: UNIT_MIN as u32,
        segment_bytes: 1 << 20,
        ..DirectoryFacts::default()
    };
    let log = |(log, start): &(u64, u64)| {
        Edit::Log(LogFacts {
            id: log_id(*log),
            name: format!("log-{log}").into(),
            start: Lsn(*start),
            epochs: vec![(Epoch(1), Lsn(0)), (Epoch(2), Lsn(20))],
            ..LogFacts::default()
        })
    };
    let mut edits = vec![Edit::Directory(directory)];
    edits.extend(logs.iter().map(log));
    Frame {
        flags: SNAPSHOT,
        directory: DIRECTORY,
        lineage: LINEAGE,
        shard: ShardId(1),
        term: 4,
        seq: 12,
        durable: 140,
        time_us: TIME_US,
        prev_crc: 5,
        edits,
    }
}

/// The small segment that golden files and flips are made of: three logs, two epochs, a cut, a
/// record in fragments, more runs than stand inline, a mark.
pub fn sample() -> Vec<Vec<Item>> {
    let part = |lsn, n, fragment| Item {
        fragment: (fragment, n),
        ..item(2, 1, lsn, vec![b'a' + n as u8; 40])
    };
    vec![
        vec![item(1, 1, 10, "one"), item(2, 1, 5, "two"), item(1, 1, 11, "")],
        vec![item(1, 1, 12, "dropped"), part(6, 0, Fragment::First)],
        vec![part(6, 1, Fragment::Middle)],
        vec![part(6, 2, Fragment::Last), item(3, 1, 0, vec![7; 600])],
        vec![],
        vec![
            item(1, 2, 12, "after the cut"),
            item(1, 2, 13, "and on"),
            item(4, 1, 0, "four"),
            item(5, 1, 0, "five"),
            item(6, 1, 0, "six"),
            item(7, 1, 0, "seven"),
        ],
    ]
}

pub fn sample_facts() -> Frame {
    facts(&(1..8).map(|log| (log, 0)).collect::<Vec<_>>())
}

/// Framed records by log, in order.
pub type ByLog = BTreeMap<LogId, Vec<Vec<u8>>>;

pub fn by_log<'a>(items: impl IntoIterator<Item = &'a Item>) -> ByLog {
    let mut all = ByLog::new();
    for item in items {
        all.entry(log_id(item.log)).or_default().push(item.framed());
    }
    all
}

/// Reads the records of `log` from `lsn` to the end of its stretch, through footer and blocks only.
pub fn read_from(object: &[u8], footer: &Footer, log: LogId, lsn: Lsn) -> Vec<(Lsn, Vec<u8>)> {
    let stretch = footer.find(log, lsn).unwrap();
    let mut found = Vec::new();
    for number in footer.blocks_from(stretch, lsn) {
        let block = &footer.blocks[number];
        let bytes = &object[block.offset as usize..block.end() as usize];
        let raw = sapwood_tiering::object::open_block(bytes, number, block, footer.header.nonce);
        let raw = raw.unwrap();
        let mut at = 0;
        while at < raw.len() {
            let (record, framed) = sapwood::format::read_record(&raw[at..]).unwrap();
            let place = block.raw_offset + at as u64;
            let inside = (stretch.raw_offset..stretch.raw_end()).contains(&place);
            if inside && record.header.lsn >= lsn {
                found.push((record.header.lsn, raw[at..at + framed].to_vec()));
            }
            at += framed;
        }
    }
    found
}
