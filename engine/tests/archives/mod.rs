//! An archive in memory: what was uploaded, by log and LSN, and the ways in which it may fail.
//!
//! Invariant: it knows segments only as a tier does, by the bytes of their files. Not here: what a
//! reader makes of it (the tests).

#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use sapwood::archive::{Answer, Archive, Wanted};
use sapwood::format::{
    BatchHeader, BatchView, Fragment, RecordHeader, SegmentHeader, write_record,
};
use sapwood::{Epoch, Error, LogId, Lsn, SealedSegment};

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The archive says that it cannot be reached.
    Unreachable,
    /// The answer is dropped.
    Dropped,
    /// A bit of the first record's payload is flipped.
    Flipped,
    /// The first record is missing.
    Later,
    /// The second record is missing: a gap.
    Gap,
    /// Records of another log.
    OtherLog,
    /// Nothing.
    Empty,
    /// The last record is cut short.
    Short,
    /// All there is, whatever was asked for.
    TooMuch,
}

type Log = BTreeMap<Lsn, (Epoch, Vec<u8>)>;

#[derive(Default)]
struct Kept {
    logs: BTreeMap<LogId, Log>,
    faults: VecDeque<Fault>,
    asked: Vec<Wanted>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

impl Memory {
    /// Takes a whole segment.
    pub fn upload(&self, sealed: &SealedSegment, file: &[u8]) {
        let bytes = &file[..sealed.bytes as usize];
        let nonce = SegmentHeader::decode(bytes).unwrap().nonce;
        assert_eq!(nonce, sealed.nonce);
        let mut kept = self.0.lock().unwrap();
        let mut at = 4096;
        while at < bytes.len() {
            let (header, _) = BatchHeader::decode(&bytes[at..], nonce).unwrap();
            let batch = BatchView::parse(&bytes[at..], nonce).unwrap();
            for record in batch.records() {
                let (_, record) = record.unwrap();
                kept.add(&record.header, record.properties, record.payload);
            }
            at += header.padded_bytes(4096);
        }
    }

    /// The next answers go wrong like this.
    pub fn fail(&self, faults: &[Fault]) {
        self.0.lock().unwrap().faults.extend(faults);
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Wanted> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

impl Kept {
    fn add(&mut self, header: &RecordHeader, properties: &[u8], payload: &[u8]) {
        let mut framed = vec![0; header.framed_bytes()];
        write_record(header, properties, payload, &mut framed);
        let log = self.logs.entry(header.log).or_default();
        if matches!(header.fragment(), Fragment::Whole | Fragment::First) {
            log.insert(header.lsn, (header.epoch, framed));
        } else {
            log.get_mut(&header.lsn).unwrap().1.extend(framed);
        }
    }

    fn answer(&mut self, wanted: &Wanted, fault: Option<Fault>) -> Vec<u8> {
        let other = self.logs.keys().find(|log| **log != wanted.log).copied();
        let log = if fault == Some(Fault::OtherLog) { other.unwrap() } else { wanted.log };
        let mut given: Vec<u8> = Vec::new();
        for (n, (_, (_, framed))) in self.logs[&log].range(wanted.from..wanted.below).enumerate() {
            match (fault, n) {
                (Some(Fault::Later), 0) | (Some(Fault::Gap), 1) => continue,
                (Some(Fault::Empty), _) => break,
                _ => given.extend(framed),
            }
            if given.len() >= wanted.bytes_max && fault != Some(Fault::TooMuch) {
                break;
            }
        }
        match fault {
            Some(Fault::Flipped) => {
                let header = RecordHeader::decode(&given).unwrap();
                given[header.header_bytes()] ^= 1;
            }
            Some(Fault::Short) => given.truncate(given.len() - 9),
            _ => {}
        }
        given
    }
}

impl Archive for Memory {
    fn fetch(&self, wanted: Wanted, answer: Answer) {
        let kept = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut kept = kept.lock().unwrap();
            kept.asked.push(wanted);
            let fault = kept.faults.pop_front();
            let given = match fault {
                Some(Fault::Dropped) => return,
                Some(Fault::Unreachable) => Err(Error::Io {
                    doing: "asking the archive".into(),
                    source: Arc::new(std::io::Error::other("no route")),
                }),
                _ => Ok(kept.answer(&wanted, fault)),
            };
            drop(kept);
            answer.give(given);
        });
    }
}
