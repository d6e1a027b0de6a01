//! One thing that a walk meets, as words and numbers: a line of text or a line of JSON.
//!
//! Invariants: text and JSON are made from the same list of fields, so that neither says more.
//! Not here: the walk.

use std::fmt::{self, Write};

use crate::format::{
    BatchHeader, BatchKind, Edit, Flaw, FrameHeader, HintPage, IndexEntry, IndexHeader, Link,
    LogFacts, Posting, RecordHeader, RecordRef, Run, SegmentHeader,
};
use crate::lsn::LogId;

/// Bytes of a payload that are shown.
const PREVIEW_BYTES: usize = 32;

/// One thing in a file. Offsets count from the beginning of the file.
#[derive(Clone, Debug)]
pub enum DumpItem<'a> {
    /// The header of a segment.
    Segment {
        /// As it stands.
        header: SegmentHeader,
    },
    /// A batch whose header and run table are good.
    Batch {
        /// Where it begins.
        offset: u64,
        /// As it stands.
        header: BatchHeader,
        /// The header's CRC.
        crc: u32,
    },
    /// A header that is good and claims, before a body that is not.
    TornBatch {
        /// Where it begins.
        offset: u64,
        /// As it stands.
        header: BatchHeader,
        /// The header's CRC.
        crc: u32,
    },
    /// A run of the batch told last.
    Run {
        /// Where the batch begins.
        offset: u64,
        /// The batch.
        seq: u64,
        /// The run.
        run: Run,
    },
    /// Records that a run table names and that are not there.
    TornRun {
        /// Where the batch begins.
        offset: u64,
        /// The batch.
        seq: u64,
        /// What is missing.
        run: Run,
    },
    /// A whole record.
    Record {
        /// Where it begins.
        offset: u64,
        /// The record.
        record: RecordRef<'a>,
    },
    /// A record whose body is rotten.
    TornRecord {
        /// Where it begins.
        offset: u64,
        /// Its header, which is good.
        header: RecordHeader,
    },
    /// A stretch that does not decode: unwritten, of an earlier life, torn, rotten or of a newer
    /// version.
    Gap {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// It holds nothing but zeroes.
        zeroes: bool,
        /// Why its first unit does not decode.
        flaw: Flaw,
    },
    /// Something wrong.
    Flaw {
        /// Where.
        offset: u64,
        /// With what.
        what: &'static str,
        /// How.
        flaw: Flaw,
    },
    /// A frame of the manifest.
    Frame {
        /// Where it begins.
        offset: u64,
        /// As it stands.
        header: FrameHeader,
        /// The header's CRC.
        crc: u32,
        /// It is the next of the one before it.
        follows: bool,
    },
    /// An edit of the frame told last.
    Edit {
        /// Where the frame begins.
        offset: u64,
        /// The frame.
        seq: u64,
        /// The edit.
        edit: &'a Edit,
    },
    /// The header of an index.
    Index {
        /// As it stands.
        header: IndexHeader,
    },
    /// What the segment holds of one log.
    IndexEntry {
        /// The entry.
        entry: IndexEntry,
    },
    /// A sparse place.
    Posting {
        /// Its number; entries name their postings by it.
        number: usize,
        /// The place.
        posting: Posting,
    },
    /// The name of a log.
    Name {
        /// The log.
        log: LogId,
        /// Its name.
        name: &'a str,
    },
    /// A hint page.
    Hint {
        /// As it stands.
        page: HintPage,
    },
    /// A line of the lock file.
    Lock {
        /// Which fact of the owner.
        key: &'a str,
        /// The fact.
        value: &'a str,
    },
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Words.
    Text(String),
    /// Not there.
    Absent,
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(u64::from(number))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(u64::from(number))
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Self::Number(u64::from(number))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

type Fields = Vec<(&'static str, Value)>;

macro_rules! fields {
    ($($name:literal: $value:expr),* $(,)?) => { vec![$(($name, Value::from($value))),*] };
}

impl DumpItem<'_> {
    pub(super) fn gap(start: usize, end: usize, flaw: Flaw, bytes: &[u8]) -> Self {
        let zeroes = bytes[start..end].iter().all(|byte| *byte == 0);
        Self::Gap { offset: start as u64, bytes: (end - start) as u64, zeroes, flaw }
    }

    /// What it is, in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Segment { .. } => "segment",
            Self::Batch { .. } => "batch",
            Self::TornBatch { .. } => "torn-batch",
            Self::Run { .. } => "run",
            Self::TornRun { .. } => "torn-run",
            Self::Record { .. } => "record",
            Self::TornRecord { .. } => "torn-record",
            Self::Gap { .. } => "gap",
            Self::Flaw { .. } => "flaw",
            Self::Frame { .. } => "frame",
            Self::Edit { .. } => "edit",
            Self::Index { .. } => "index",
            Self::IndexEntry { .. } => "entry",
            Self::Posting { .. } => "posting",
            Self::Name { .. } => "name",
            Self::Hint { .. } => "hint",
            Self::Lock { .. } => "lock",
        }
    }

    /// All that is known of it, in the order in which it is shown.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Segment { header } => segment_fields(header),
            Self::Batch { offset, header, crc } | Self::TornBatch { offset, header, crc } => {
                batch_fields(*offset, header, *crc)
            }
            Self::Run { offset, seq, run } | Self::TornRun { offset, seq, run } => fields![
                "offset": *offset, "seq": *seq, "log": run.log.0, "epoch": run.epoch.0,
                "first_lsn": run.first_lsn.0, "last_lsn": run.last_lsn().0,
                "count": run.count, "bytes": run.bytes,
                "continued": run.continued, "continues": run.continues,
            ],
            Self::Record { offset, record } => {
                let mut fields = record_fields(*offset, &record.header);
                fields.push(("payload", preview(record.payload).into()));
                fields
            }
            Self::TornRecord { offset, header } => record_fields(*offset, header),
            Self::Gap { offset, bytes, zeroes, flaw } => fields![
                "offset": *offset, "bytes": *bytes, "zeroes": *zeroes, "why": flaw.to_string(),
            ],
            Self::Flaw { offset, what, flaw } => fields![
                "offset": *offset, "what": *what, "why": flaw.to_string(),
                "unsupported": flaw.is_unsupported(),
            ],
            Self::Frame { offset, header, crc, follows } => {
                frame_fields(*offset, header, *crc, *follows)
            }
            Self::Edit { offset, seq, edit } => {
                let mut fields = fields!["offset": *offset, "seq": *seq];
                fields.extend(edit_fields(edit));
                fields
            }
            Self::Index { header } => index_fields(header),
            Self::IndexEntry { entry } => entry_fields(entry),
            Self::Posting { number, posting } => fields![
                "number": *number as u64, "lsn": posting.lsn.0, "offset": posting.offset,
                "at": posting.at, "time_us": posting.time_us,
            ],
            Self::Name { log, name } => fields!["log": log.0, "name": *name],
            Self::Hint { page } => hint_fields(page),
            Self::Lock { key, value } => fields!["key": *key, "value": *value],
        }
    }

    /// The item as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        json_object(&mut out, self.word(), &self.fields());
        out
    }
}

impl fmt::Display for DumpItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        for (name, value) in self.fields() {
            match value {
                Value::Absent => {}
                Value::Number(number) => write!(f, " {name}={number}")?,
                Value::Flag(flag) => write!(f, " {name}={flag}")?,
                Value::Text(text) if text.contains([' ', '"']) => write!(f, " {name}={text:?}")?,
                Value::Text(text) => write!(f, " {name}={text}")?,
            }
        }
        Ok(())
    }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn crc_text(crc: u32) -> String {
    format!("{crc:08x}")
}

fn preview(payload: &[u8]) -> String {
    let shown = &payload[..payload.len().min(PREVIEW_BYTES)];
    let more = if payload.len() > PREVIEW_BYTES { "…" } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

fn segment_fields(header: &SegmentHeader) -> Fields {
    fields![
        "directory": hex(header.directory), "lineage": hex(header.lineage),
        "shard": header.shard.0, "unit": header.unit, "segment": header.segment.0,
        "file": header.file, "nonce": hex(header.nonce), "bytes": header.bytes,
        "term": header.term, "created_us": header.created_us,
        "compat": header.compat, "ro_compat": header.ro_compat,
    ]
}

fn batch_fields(offset: u64, header: &BatchHeader, crc: u32) -> Fields {
    let kind = match header.kind {
        BatchKind::Data => "data",
        BatchKind::Mark => "mark",
    };
    fields![
        "offset": offset, "seq": header.seq, "durable": header.durable, "kind": kind,
        "bytes": header.bytes, "records": header.records, "runs": header.runs,
        "runs_offset": header.runs_offset, "directory": hex(header.directory),
        "shard": header.shard.0, "term": header.term, "segment": header.segment.0,
        "manifest_seq": header.manifest_seq, "time_us": header.time_us,
        "part": header.part, "continues": header.continues,
        "prev_crc": crc_text(header.prev_crc), "crc": crc_text(crc),
    ]
}

fn record_fields(offset: u64, header: &RecordHeader) -> Fields {
    fields![
        "offset": offset, "log": header.log.0, "epoch": header.epoch.0, "lsn": header.lsn.0,
        "time_us": header.time_us, "kind": format!("{:?}", header.kind).to_lowercase(),
        "fragment": format!("{:?}", header.fragment()).to_lowercase(),
        "fragment_index": header.fragment_index,
        "group": header.is_group(), "properties_bytes": header.properties_bytes,
        "payload_bytes": header.payload_bytes, "body_crc": crc_text(header.body_crc),
        "producer": header.producer.map(|producer| producer.id),
        "producer_sequence": header.producer.map(|producer| producer.sequence),
    ]
}

fn frame_fields(offset: u64, header: &FrameHeader, crc: u32, follows: bool) -> Fields {
    fields![
        "offset": offset, "seq": header.seq, "snapshot": header.is_snapshot(),
        "follows": follows, "durable": header.durable, "entries": header.entries,
        "bytes": header.bytes, "directory": hex(header.directory),
        "lineage": hex(header.lineage), "shard": header.shard.0, "term": header.term,
        "time_us": header.time_us, "unit": header.unit,
        "prev_crc": crc_text(header.prev_crc), "crc": crc_text(crc),
    ]
}

fn hint_fields(page: &HintPage) -> Fields {
    fields![
        "directory": hex(page.directory), "shard": page.shard.0, "term": page.term,
        "durable": page.durable, "manifest_seq": page.manifest_seq,
        "boot": format!("{:032x}", page.boot), "pid": page.pid, "start_time": page.start_time,
    ]
}

fn index_fields(header: &IndexHeader) -> Fields {
    fields![
        "directory": hex(header.directory), "shard": header.shard.0,
        "segment": header.segment.0, "file": header.file, "term": header.term,
        "first_seq": header.first_seq, "last_seq": header.last_seq,
        "end_offset": header.end_offset, "logs": header.logs,
        "entry_blocks": header.entry_blocks, "postings": header.postings_count,
        "names": header.names_count,
    ]
}

/// segment#ordinal@LSN.
fn link_word(link: Link) -> String {
    format!("{}#{}@{}", link.segment, link.ordinal, link.first_lsn)
}

fn entry_fields(entry: &IndexEntry) -> Fields {
    fields![
        "log": entry.log.0, "first_lsn": entry.first_lsn.0, "last_lsn": entry.last_lsn.0,
        "first_epoch": entry.first_epoch.0, "last_epoch": entry.last_epoch.0,
        "records": entry.records, "bytes": entry.bytes,
        "first_time_us": entry.first_time_us, "last_time_us": entry.last_time_us,
        "first_offset": entry.first_offset, "posting_start": entry.posting_start,
        "posting_count": entry.posting_count, "ordinal": entry.ordinal,
        "prev": entry.prev.map(link_word), "jump": entry.jump.map(link_word),
    ]
}

fn log_fields(facts: &LogFacts) -> Fields {
    let chain: Vec<String> = facts.chain.links.iter().map(|link| link_word(*link)).collect();
    let epochs: Vec<String> = facts.epochs.iter().map(|(e, lsn)| format!("{e}:{lsn}")).collect();
    fields![
        "edit": "log", "log": facts.id.0, "name": &*facts.name,
        "group": facts.group.as_deref(),
        "retention_bytes": facts.settings.retention_bytes,
        "retention_secs": facts.settings.retention_secs,
        "local_retention_bytes": facts.settings.local_retention_bytes,
        "durability": facts.settings.durability, "start": facts.start.0, "tail": facts.tail.0,
        "tail_epoch": facts.tail_epoch.0, "tail_time_us": facts.tail_time_us,
        "epochs": epochs.join(","), "chain": chain.join(","),
        "created_us": facts.created_us, "flags": facts.flags,
    ]
}

/// Edits are rarely many and often grow fields: the derived text serves all but the commonest.
fn edit_fields(edit: &Edit) -> Fields {
    match edit {
        Edit::Log(facts) => log_fields(facts),
        Edit::Spare { segment, file, nonce, bytes, term } => fields![
            "edit": "spare", "segment": segment.0, "file": *file, "nonce": hex(*nonce),
            "bytes": *bytes, "term": *term,
        ],
        Edit::Term { term, cut_seq, cut_crc } => fields![
            "edit": "term", "term": *term, "cut_seq": *cut_seq, "cut_crc": crc_text(*cut_crc),
        ],
        Edit::Retired { segment } => fields!["edit": "retired", "segment": segment.0],
        Edit::Tiered { segment } => fields!["edit": "tiered", "segment": segment.0],
        Edit::Start { log, start } => {
            fields!["edit": "start", "log": log.0, "start": start.0]
        }
        other => {
            let text = format!("{other:?}");
            let word = text.split([' ', '(']).next().unwrap_or("").to_lowercase();
            fields!["edit": word, "facts": text]
        }
    }
}

fn json_object(out: &mut String, word: &str, fields: &Fields) {
    out.push_str("{\"item\":");
    json_string(out, word);
    for (name, value) in fields {
        out.push(',');
        json_string(out, name);
        out.push(':');
        match value {
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Text(text) => json_string(out, text),
            Value::Absent => out.push_str("null"),
        }
    }
    out.push('}');
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
