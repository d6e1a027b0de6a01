//! From a sealed segment to its object: what is kept of it, and what is known about it.
//!
//! Invariants: a record goes into the object unless its log was deleted, or it lies below its log's
//! start, or a cut dropped it, or it is damaged; damage stands in the object's facts, beside what
//! was known of it before. The object was read back, all of it, before it is given out.
//! Not here: reading the file, and where the object goes (`upload`).

use std::collections::HashMap;
use std::fmt;

use sapwood::format::{DamageFacts, Edit, Flaw, Frame, IndexData, RecordHeader};
use sapwood::{Epoch, LogId, Lsn};

use crate::gather::{Extent, Gathered, gather};
use crate::object::{Builder, ObjectHeader, Packing, Verified, Wrong, verify};

/// An object, proven to hold what it says.
#[derive(Debug)]
pub struct Packed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub verified: Verified,
    /// Damage that was met in the segment: these records are not in the object, and must stay where
    /// they are.
    pub damages: Vec<DamageFacts>,
    /// Records that nobody wants any more, and that were left out for that.
    pub left_out: u64,
}

/// Why there is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPacked {
    /// The segment was written by a newer version, or does not fit into an object.
    Flaw(Flaw),
    /// What was built does not read back: this machine's memory, or a bug here. Nothing was kept.
    ReadBack(Wrong),
    /// What was built reads back as something else than what was put in.
    Differs,
}

impl fmt::Display for NotPacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flaw(flaw) => write!(f, "the segment: {flaw}"),
            Self::ReadBack(wrong) => write!(f, "the object that was built of it: {wrong}"),
            Self::Differs => f.write_str("the object that was built holds something else"),
        }
    }
}

impl std::error::Error for NotPacked {}

impl From<Flaw> for NotPacked {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// Packs a segment. `bytes` are those of its file up to its end; `facts` tell of the directory and
/// of all its logs that may have records in it, as of now or earlier.
///
/// # Errors
/// See [`NotPacked`]; damage in the segment is none.
pub fn pack(
    bytes: &[u8],
    sealed: &Extent,
    index: Option<&IndexData>,
    mut facts: Frame,
    packing: Packing,
) -> Result<Packed, NotPacked> {
    let kept = Kept::of(&facts);
    let found = gather(bytes, sealed, index, &|header| kept.wants(header))?;
    let Gathered { records, damages, last, left_out, .. } = found;
    let header = ObjectHeader {
        directory: facts.directory,
        lineage: facts.lineage,
        shard: sealed.shard,
        segment: sealed.segment,
        nonce: sealed.nonce,
        first_seq: sealed.first_seq,
        last_seq: sealed.last_seq,
        last_crc: last.0,
        term: last.1,
        time_us: last.2,
        ..ObjectHeader::default()
    };
    let mut builder = Builder::new(header, packing)?;
    let mut sum = Sum::default();
    for taken in &records {
        let record = &taken.header;
        let at = taken.offset as usize;
        let framed = bytes.get(at..at + record.framed_bytes());
        let framed = framed.ok_or(Flaw::Field("a record reaches beyond its segment"))?;
        builder.push(record, framed)?;
        sum.add(framed);
    }
    let damages: Vec<DamageFacts> =
        damages.into_iter().filter(|damage| kept.misses(damage)).collect();
    facts.edits.extend(damages.iter().map(|damage| Edit::Damage(*damage)));
    let object = builder.finish(&facts)?;
    let mut read_back = Sum::default();
    let verified = verify(&object, &mut |_, framed| read_back.add(framed));
    let verified = verified.map_err(NotPacked::ReadBack)?;
    if read_back != sum || verified.facts != facts || verified.footer.header != header {
        return Err(NotPacked::Differs);
    }
    Ok(Packed { bytes: object, verified, damages, left_out })
}

/// What is kept of the logs, by their facts.
struct Kept {
    starts: HashMap<LogId, Lsn>,
    cuts: HashMap<LogId, Vec<(Epoch, Lsn)>>,
}

impl Kept {
    fn of(facts: &Frame) -> Self {
        let mut kept = Self { starts: HashMap::new(), cuts: HashMap::new() };
        for edit in &facts.edits {
            match edit {
                Edit::Log(log) => {
                    kept.starts.insert(log.id, log.start);
                }
                Edit::Cut { log, epoch, first_lsn } => {
                    kept.cuts.entry(*log).or_default().push((*epoch, *first_lsn));
                }
                _ => {}
            }
        }
        kept
    }

    fn wants(&self, header: &RecordHeader) -> bool {
        let dropped = |(epoch, first): &(Epoch, Lsn)| *epoch > header.epoch && *first <= header.lsn;
        let cuts = self.cuts.get(&header.log);
        self.starts.get(&header.log).is_some_and(|start| header.lsn >= *start)
            && !cuts.is_some_and(|cuts| cuts.iter().any(dropped))
    }

    /// Whether anything may be damaged there that is kept.
    fn misses(&self, damage: &DamageFacts) -> bool {
        let Some(log) = damage.log else { return true };
        let start = self.starts.get(&log);
        start.is_some_and(|start| damage.last_lsn.is_none_or(|last| last >= *start))
    }
}

/// What went in, and what came back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    records: u64,
    crc: u32,
}

impl Sum {
    fn add(&mut self, framed: &[u8]) {
        self.records += 1;
        self.crc = crc32c::crc32c_append(self.crc, framed);
    }
}
