//! One sample of every structure on disk, always the same, shared by the format's tests.
//!
//! Not here: what is asked of them (`format_golden`, `format_properties`, `format_hostile`).
#![allow(dead_code, reason = "each test binary uses its own part")]

use sapwood::format::{
    BATCH_FRONT_BYTES, BATCH_HEADER_BYTES, BATCH_PACKED_RUNS, BatchHeader, BatchKind, BatchView,
    Chain, DamageFacts, DirectoryFacts, Edit, Flaw, Frame, HINT_BYTES, HintPage, IndexData,
    IndexEntry, Link, LogFacts, LogSettings, Posting, Producer, RUNS_INLINE_MAX, RecordHeader,
    RecordKind, Run, SNAPSHOT, SegmentHeader, UNIT_MIN, body_crc, encode_packed_runs,
    encode_properties, encode_runs, packed_run_table_bytes, read_record, round_up, run_table_bytes,
    seed, write_record,
};
use sapwood::{Epoch, LogId, Lsn, SegmentId, ShardId};

/// The nonce of the samples' segment.
pub(crate) const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// The directory of all samples.
pub(crate) const DIRECTORY: u64 = 0x5a97_00d0_0000_0001;

const TIME_US: u64 = 1_764_000_000_000_000;

/// One structure: its bytes, and how a reader reads them.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// All of it that can be told, or the flaw.
    pub(crate) read: fn(&[u8]) -> Result<String, Flaw>,
    /// Makes the header's own CRC good again.
    pub(crate) refit: fn(&mut [u8]),
    /// Where the version stands; a record has none.
    pub(crate) version_at: Option<usize>,
}

pub(crate) fn samples() -> Vec<Sample> {
    let sample =
        |name, bytes, read, refit| Sample { name, bytes, read, refit, version_at: Some(4) };
    vec![
        Sample {
            version_at: None,
            ..sample("record", record(&plain(), b"", b"hello"), read_one, refit_record)
        },
        Sample {
            version_at: None,
            ..sample("record-producer", producer_record(), read_one, refit_producer)
        },
        sample("batch", batch(&records(2)), read_batch, refit_batch),
        sample("batch-runs", batch(&records(6)), read_batch, refit_batch),
        sample("batch-packed", packed_batch(&records(6)), read_batch, refit_batch),
        sample("batch-mark", mark(), read_batch, refit_batch),
        sample("segment", segment(), read_segment, refit_segment),
        sample("manifest", frame_bytes(&edits_frame()), read_frame, refit_frame),
        sample("manifest-snapshot", frame_bytes(&snapshot_frame()), read_frame, refit_frame),
        sample("index", index().encode(), read_index, refit_index),
        sample("hint", hint(), read_hint, refit_frame),
    ]
}

/// A record in `log` with the lengths and CRC of its body.
pub(crate) fn header(
    log: u64,
    epoch: u32,
    lsn: u64,
    properties: &[u8],
    payload: &[u8],
) -> RecordHeader {
    RecordHeader {
        log: LogId::new(ShardId(1), log),
        lsn: Lsn(lsn),
        epoch: Epoch(epoch),
        time_us: TIME_US.wrapping_add(lsn),
        kind: RecordKind::Data,
        properties_bytes: properties.len() as u16,
        payload_bytes: payload.len() as u32,
        body_crc: body_crc(properties, payload),
        ..RecordHeader::default()
    }
}

fn plain() -> RecordHeader {
    header(7, 3, 41, b"", b"hello")
}

pub(crate) fn record(header: &RecordHeader, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; header.framed_bytes()];
    assert_eq!(write_record(header, properties, payload, &mut out), out.len());
    out
}

fn producer_record() -> Vec<u8> {
    let properties = encode_properties(&[("type", b"order"), ("region", b"eu")]).unwrap();
    let header = RecordHeader {
        producer: Some(Producer { id: 0xfeed, sequence: 12 }),
        flags: 0b0000_0101,
        ..header(7, 3, 42, &properties, b"a first fragment, of a group")
    };
    record(&header, &properties, b"a first fragment, of a group")
}

/// A log, its epoch, an LSN and a payload.
pub(crate) type Input = (u64, u32, u64, Vec<u8>);

/// Three records each of `logs` logs, taken in turns.
fn records(logs: u64) -> Vec<Input> {
    let turns = (0..3).flat_map(|turn| (0..logs).map(move |log| (log, turn)));
    let payload = |log: u64, turn: u64| format!("log {log} turn {turn}").into_bytes();
    turns.map(|(log, turn)| (log, 2, 100 * log + turn, payload(log, turn))).collect()
}

/// The runs of such records, in order of first appearance.
pub(crate) fn runs_of(records: &[Input]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (log, epoch, lsn, payload) in records {
        let header = header(*log, *epoch, *lsn, b"", payload);
        let key = (header.log, header.epoch);
        let at = runs.iter().position(|run| (run.log, run.epoch) == key).unwrap_or(runs.len());
        if at == runs.len() {
            let (log, epoch) = key;
            runs.push(Run { log, epoch, first_lsn: Lsn(*lsn), ..Run::default() });
        }
        runs[at].count += 1;
        runs[at].bytes += header.framed_bytes() as u32;
    }
    runs
}

/// A data batch of such records, padded.
pub(crate) fn batch(records: &[Input]) -> Vec<u8> {
    batch_of(records, &runs_of(records), false)
}

/// The same with a packed run table, whose runs tell where they stand.
pub(crate) fn packed_batch(records: &[Input]) -> Vec<u8> {
    let mut runs = runs_of(records);
    let mut at = BATCH_FRONT_BYTES as u32;
    for (log, epoch, lsn, payload) in records {
        let header = header(*log, *epoch, *lsn, b"", payload);
        let key = (header.log, header.epoch, header.lsn);
        let run = runs.iter_mut().find(|run| (run.log, run.epoch, run.first_lsn) == key);
        run.into_iter().for_each(|run| run.at = at);
        at += header.framed_bytes() as u32;
    }
    batch_of(records, &runs, true)
}

fn batch_of(records: &[Input], runs: &[Run], packed: bool) -> Vec<u8> {
    let mut out = vec![0; BATCH_FRONT_BYTES];
    for (log, epoch, lsn, payload) in records {
        let header = header(*log, *epoch, *lsn, b"", payload);
        out.extend(record(&header, b"", payload));
    }
    let mut runs_offset = BATCH_HEADER_BYTES;
    if packed || runs.len() > RUNS_INLINE_MAX {
        runs_offset = out.len();
        let fixed = run_table_bytes(runs.len());
        let table = if packed { packed_run_table_bytes(runs) } else { fixed };
        out.resize(runs_offset + table, 0);
    }
    let header = BatchHeader {
        bytes: out.len() as u32,
        records: records.len() as u32,
        runs: runs.len() as u32,
        runs_offset: runs_offset as u32,
        incompat: u32::from(packed) * BATCH_PACKED_RUNS,
        ..batch_header()
    };
    if packed {
        encode_packed_runs(runs, header.seq, NONCE, &mut out[runs_offset..]);
    } else {
        encode_runs(runs, header.seq, NONCE, &mut out[runs_offset..]);
    }
    header.encode(NONCE, &mut out);
    out.resize(round_up(out.len(), UNIT_MIN), 0);
    out
}

/// The header of a batch, without its lengths.
pub(crate) fn batch_header() -> BatchHeader {
    BatchHeader {
        kind: BatchKind::Data,
        directory: DIRECTORY,
        shard: ShardId(1),
        term: 5,
        segment: SegmentId(9),
        seq: 1000,
        durable: 998,
        manifest_seq: 17,
        time_us: TIME_US,
        prev_crc: 0xdead_beef,
        ..BatchHeader::default()
    }
}

fn mark() -> Vec<u8> {
    let kind = BatchKind::Mark;
    let header =
        BatchHeader { kind, bytes: BATCH_HEADER_BYTES as u32, seq: 1001, ..batch_header() };
    let mut out = vec![0; UNIT_MIN];
    header.encode(NONCE, &mut out);
    out
}

pub(crate) fn segment_header() -> SegmentHeader {
    SegmentHeader {
        directory: DIRECTORY,
        lineage: 2,
        shard: ShardId(1),
        unit: UNIT_MIN as u32,
        segment: SegmentId(9),
        file: 4,
        nonce: NONCE,
        bytes: 64 << 20,
        term: 5,
        created_us: TIME_US,
        ..SegmentHeader::default()
    }
}

fn segment() -> Vec<u8> {
    let mut out = vec![0xff; UNIT_MIN];
    segment_header().encode(&mut out);
    out
}

fn link(segment: u64, ordinal: u32, lsn: u64) -> Link {
    Link { segment: SegmentId(segment), ordinal, first_lsn: Lsn(lsn) }
}

fn log_facts() -> LogFacts {
    LogFacts {
        id: LogId::new(ShardId(1), 7),
        name: "orders".into(),
        group: Some("shop".into()),
        settings: settings(),
        start: Lsn(10),
        tail: Lsn(43),
        tail_epoch: Epoch(3),
        tail_time_us: TIME_US,
        epochs: vec![(Epoch(1), Lsn(0)), (Epoch(3), Lsn(20))],
        chain: Chain { links: vec![link(8, 3, 30), link(6, 2, 20)] },
        created_us: TIME_US - 1,
        flags: 0,
    }
}

fn settings() -> LogSettings {
    LogSettings {
        retention_bytes: Some(1 << 30),
        retention_secs: None,
        local_retention_bytes: Some(0),
        durability: 1,
    }
}

fn hint() -> Vec<u8> {
    let page = HintPage {
        directory: DIRECTORY,
        shard: ShardId(1),
        term: 5,
        durable: 1000,
        manifest_seq: 17,
        boot: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        pid: 4321,
        start_time: 987_654,
        ..HintPage::default()
    };
    let mut out = vec![0xff; HINT_BYTES];
    page.encode(&mut out);
    out
}

fn directory_facts() -> DirectoryFacts {
    DirectoryFacts {
        directory: DIRECTORY,
        lineage: 2,
        shards: 2,
        unit: UNIT_MIN as u32,
        segment_bytes: 64 << 20,
        record_bytes_max: 16 << 20,
        batch_bytes_max: 32 << 20,
        created_us: TIME_US,
    }
}

fn frame(flags: u16, seq: u64, edits: Vec<Edit>) -> Frame {
    Frame {
        flags,
        directory: DIRECTORY,
        lineage: 2,
        shard: ShardId(1),
        term: 5,
        seq,
        durable: 998,
        time_us: TIME_US,
        prev_crc: 0xcafe_f00d,
        edits,
    }
}

fn damage(log: Option<LogId>, last_lsn: Option<Lsn>, lost: bool) -> Edit {
    Edit::Damage(DamageFacts {
        log,
        first_lsn: Lsn(30),
        last_lsn,
        segment: SegmentId(8),
        offset: 8192,
        bytes: 4096,
        reason: 2,
        lost,
    })
}

/// Every kind of edit.
pub(crate) fn all_edits() -> Vec<Edit> {
    let (log, segment) = (LogId::new(ShardId(1), 7), SegmentId(9));
    vec![
        Edit::Directory(directory_facts()),
        Edit::Log(log_facts()),
        Edit::Log(LogFacts { name: "plain".into(), ..LogFacts::default() }),
        Edit::Epoch { log, epoch: Epoch(4), first_lsn: Lsn(43) },
        Edit::Settings { log, settings: settings() },
        Edit::Start { log, start: Lsn(12) },
        Edit::Deleted { log },
        Edit::NextLog { counter: 9 },
        Edit::Spare { segment, file: 4, nonce: NONCE, bytes: 64 << 20, term: 5 },
        Edit::Sealed {
            segment,
            first_seq: 900,
            last_seq: 1000,
            end_offset: 1 << 20,
            last_crc: 0xdead_beef,
            records: 12_345,
            first_time_us: TIME_US,
            last_time_us: TIME_US + 1,
            index_bytes: 12_288,
            index_crc: 0x1234_5678,
        },
        Edit::Retired { segment },
        Edit::Term { term: 6, cut_seq: 1000, cut_crc: 0xdead_beef },
        Edit::Closed { last_seq: 1000 },
        Edit::Checkpoint { seq: 998 },
        damage(Some(log), Some(Lsn(33)), true),
        damage(None, None, false),
        Edit::Tiered { segment },
        Edit::Cursor { log, name: "outbox".into(), lsn: Lsn(40) },
        Edit::Unknown { kind: 999, flags: 0, bytes: b"of tomorrow".to_vec() },
    ]
}

pub(crate) fn edits_frame() -> Frame {
    frame(0, 18, all_edits())
}

fn snapshot_frame() -> Frame {
    let edits = vec![
        Edit::Directory(directory_facts()),
        Edit::NextLog { counter: 8 },
        Edit::Log(log_facts()),
        Edit::Checkpoint { seq: 998 },
    ];
    frame(SNAPSHOT, 17, edits)
}

fn frame_bytes(frame: &Frame) -> Vec<u8> {
    frame.encode(UNIT_MIN).unwrap().0
}

/// An index of more logs than one entry block holds.
pub(crate) fn index() -> IndexData {
    let log = |n: u64| LogId::new(ShardId(1), 3 * n);
    let entry = |n: u64| IndexEntry {
        log: log(n),
        first_lsn: Lsn(100 * n),
        last_lsn: Lsn(100 * n + 9),
        first_epoch: Epoch(1),
        last_epoch: Epoch(2),
        records: 10,
        bytes: 800,
        first_time_us: TIME_US,
        last_time_us: TIME_US + 9,
        first_offset: 4096 * (n + 1),
        posting_start: n as u32,
        posting_count: 1,
        ordinal: n as u32,
        prev: (n > 0).then(|| link(8, n as u32 - 1, 100 * n - 50)),
        jump: (n % 2 == 1).then(|| link(3, 0, 0)),
    };
    let posting = |n: u64| {
        let (lsn, offset) = (Lsn(100 * n), 4096 * (n as u32 + 1));
        Posting { lsn, offset, at: 0, time_us: TIME_US }
    };
    IndexData {
        directory: DIRECTORY,
        shard: ShardId(1),
        segment: SegmentId(9),
        file: 4,
        term: 5,
        first_seq: 900,
        last_seq: 1000,
        end_offset: 1 << 20,
        entries: (0..33).map(entry).collect(),
        postings: (0..33).map(posting).collect(),
        names: (0..33).map(|n| (log(n), format!("log-{n}"))).collect(),
    }
}

fn read_one(buf: &[u8]) -> Result<String, Flaw> {
    let (record, framed) = read_record(buf)?;
    let properties: Result<Vec<_>, _> = record.iter_properties().collect();
    Ok(format!("{record:?} {framed} {:?}", properties?))
}

/// Header, runs and records of a batch as text.
pub(crate) fn read_batch(buf: &[u8]) -> Result<String, Flaw> {
    let batch = BatchView::parse(buf, NONCE)?;
    batch.verify()?;
    let runs: Vec<Run> = batch.runs.iter().collect();
    let records: Result<Vec<_>, _> = batch.records().collect();
    Ok(format!("{:?} {:x} {runs:?} {:?}", batch.header, batch.crc, records?))
}

fn read_segment(buf: &[u8]) -> Result<String, Flaw> {
    SegmentHeader::decode(buf).map(|header| format!("{header:?}"))
}

fn read_frame(buf: &[u8]) -> Result<String, Flaw> {
    Frame::decode(buf).map(|frame| format!("{frame:?}"))
}

fn read_hint(buf: &[u8]) -> Result<String, Flaw> {
    HintPage::decode(buf).map(|page| format!("{page:?}"))
}

fn read_index(buf: &[u8]) -> Result<String, Flaw> {
    IndexData::decode(buf).map(|index| format!("{index:?}"))
}

fn put_crc(buf: &mut [u8], at: usize, crc: u32) {
    buf[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

fn refit_record(buf: &mut [u8]) {
    let crc = crc32c::crc32c(&buf[4..48]);
    put_crc(buf, 0, crc);
}

fn refit_producer(buf: &mut [u8]) {
    let crc = crc32c::crc32c(&buf[4..64]);
    put_crc(buf, 0, crc);
}

pub(crate) fn refit_batch(buf: &mut [u8]) {
    let crc = crc32c::crc32c_append(seed(NONCE), &buf[..124]);
    put_crc(buf, 124, crc);
}

fn refit_segment(buf: &mut [u8]) {
    let mut nonce = [0; 8];
    nonce.copy_from_slice(&buf[64..72]);
    let crc = crc32c::crc32c_append(seed(u64::from_le_bytes(nonce)), &buf[..4092]);
    put_crc(buf, 4092, crc);
}

pub(crate) fn refit_frame(buf: &mut [u8]) {
    let crc = crc32c::crc32c(&buf[..124]);
    put_crc(buf, 124, crc);
}

fn refit_index(buf: &mut [u8]) {
    let crc = crc32c::crc32c(&buf[..4092]);
    put_crc(buf, 4092, crc);
}

fn number(buf: &[u8], at: usize, width: usize) -> usize {
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&buf[at..at + width]);
    usize::try_from(u64::from_le_bytes(bytes)).unwrap()
}

/// Makes every CRC good again that can be found, the header's last: what is read then was not
/// saved by a CRC.
pub(crate) fn refit_all(sample: &Sample, buf: &mut [u8]) {
    let mut sum = |crc_at: usize, from: usize, bytes: usize, seed: u32| {
        let end = from.checked_add(bytes).filter(|end| *end <= buf.len());
        if let Some(end) = end {
            let crc = crc32c::crc32c_append(seed, &buf[from..end]);
            put_crc(buf, crc_at, crc);
        }
    };
    match sample.name {
        "manifest" | "manifest-snapshot" => {
            let bytes = number(&sample.bytes, 56, 8);
            sum(68, 128, bytes, 0);
        }
        "batch" | "batch-runs" => {
            let (at, runs) = (number(&sample.bytes, 76, 4), number(&sample.bytes, 72, 4));
            sum(at, at + 4, run_table_bytes(runs) - 4, seed(NONCE));
        }
        "batch-packed" => {
            let (at, end) = (number(&sample.bytes, 76, 4), number(&sample.bytes, 64, 4));
            sum(at, at + 4, end - at - 4, seed(NONCE));
        }
        "index" => {
            let place = |at| number(&sample.bytes, at, 8);
            sum(4096, 4100, 4092, 0);
            sum(8192, 8196, 4092, 0);
            sum(128, place(88), place(96) - place(88), 0);
            sum(132, place(96), place(112) - place(96), 0);
            sum(136, place(112), place(120), 0);
        }
        _ => {}
    }
    (sample.refit)(buf);
}
