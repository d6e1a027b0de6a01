//! What is taken from a damaged segment: all that is whole, and a name for the rest.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeSet;

use common::{Item, item, log_id, sample, sample_facts, segment};
use sapwood::format::{DamageFacts, IndexData, IndexEntry, RecordHeader, UNIT_MIN};
use sapwood::{LogId, Lsn};
use sapwood_tiering::gather::{Extent, Gathered, gather};
use sapwood_tiering::object::Packing;
use sapwood_tiering::pack::pack;

/// The records that a cut dropped are not wanted.
fn walk(bytes: &[u8], extent: &Extent, index: Option<&IndexData>) -> Gathered {
    let dropped = |h: &RecordHeader| (h.log, h.epoch.0, h.lsn) == (log_id(1), 1, Lsn(12));
    gather(bytes, extent, index, &|header| !dropped(header)).unwrap()
}

type Place = (LogId, u32, Lsn);

fn places(found: &Gathered) -> BTreeSet<Place> {
    let place = |taken: &sapwood_tiering::gather::Taken| {
        (taken.header.log, taken.header.epoch.0, taken.header.lsn)
    };
    found.records.iter().map(place).collect()
}

fn all_places(batches: &[Vec<Item>]) -> BTreeSet<Place> {
    let mut all: BTreeSet<Place> =
        batches.iter().flatten().map(|i| (log_id(i.log), i.epoch, Lsn(i.lsn))).collect();
    all.remove(&(log_id(1), 1, Lsn(12)));
    all
}

/// The index of a segment, as far as `gather` asks it.
fn index(batches: &[Vec<Item>]) -> IndexData {
    let mut entries: Vec<IndexEntry> = Vec::new();
    for (log, _, lsn) in all_places(batches) {
        match entries.last_mut().filter(|entry| entry.log == log) {
            Some(entry) => {
                entry.first_lsn = entry.first_lsn.min(lsn);
                entry.last_lsn = entry.last_lsn.max(lsn);
            }
            None => {
                entries.push(IndexEntry {
                    log,
                    first_lsn: lsn,
                    last_lsn: lsn,
                    ..IndexEntry::default()
                });
            }
        }
    }
    IndexData { entries, ..IndexData::default() }
}

fn names(damages: &[DamageFacts], (log, _, lsn): &Place) -> bool {
    damages.iter().any(|d| {
        d.log == Some(*log) && d.first_lsn <= *lsn && d.last_lsn.is_some_and(|last| *lsn <= last)
    })
}

/// Each byte of a segment is turned into another: whatever is not taken is named, by log and LSN;
/// what is taken is what was written.
#[test]
fn a_damaged_byte_anywhere_costs_what_it_hits_and_is_told() {
    let batches = sample();
    let (good, extent) = segment(&batches);
    let (all, index) = (all_places(&batches), index(&batches));
    let mut hit = 0;
    for at in UNIT_MIN..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        let found = walk(&bytes, &extent, Some(&index));
        let taken = places(&found);
        for missing in all.difference(&taken) {
            assert!(names(&found.damages, missing), "byte {at}: {missing:?} is not named");
        }
        assert!(taken.is_subset(&all), "byte {at}");
        for record in &found.records {
            let range =
                record.offset as usize..record.offset as usize + record.header.framed_bytes();
            let body = record.header.framed_bytes() - 8; // the last bytes may be padding
            assert!(bytes[range.clone()][..body] == good[range][..body], "byte {at}");
        }
        hit += usize::from(taken != all);
    }
    assert!(hit > 1000, "only {hit} bytes cost anything");
}

#[test]
fn whole_batches_that_are_gone_are_told() {
    let batches = sample();
    let (good, extent) = segment(&batches);
    let (all, index) = (all_places(&batches), index(&batches));
    for unit in 1..good.len() / UNIT_MIN {
        let mut bytes = good.clone();
        bytes[unit * UNIT_MIN..(unit + 1) * UNIT_MIN].fill(0);
        let found = walk(&bytes, &extent, Some(&index));
        assert!(!found.damages.is_empty());
        for missing in all.difference(&places(&found)) {
            assert!(names(&found.damages, missing), "unit {unit}: {missing:?}");
        }
        assert_eq!(found.whole_end, unit != good.len() / UNIT_MIN - 1);
    }
    // Cut short, as if the file had lost its end.
    for unit in 1..good.len() / UNIT_MIN {
        let found = walk(&good[..unit * UNIT_MIN], &extent, Some(&index));
        assert!(!found.damages.is_empty() && !found.whole_end);
        for missing in all.difference(&places(&found)) {
            assert!(names(&found.damages, missing), "unit {unit}: {missing:?}");
        }
    }
}

/// The batches of another life of the file, and of another segment, are not taken.
#[test]
fn bytes_of_another_life_are_not_taken() {
    let (bytes, mut extent) = segment(&sample());
    extent.nonce += 1;
    let found = walk(&bytes, &extent, None);
    assert!(found.records.is_empty() && !found.damages.is_empty());
    let (bytes, mut extent) = segment(&sample());
    extent.segment.0 += 1;
    assert!(walk(&bytes, &extent, None).records.is_empty());
}

/// A record of which a fragment is gone is not uploaded in part.
#[test]
fn a_record_in_fragments_is_whole_or_named() {
    let (mut bytes, extent) = segment(&sample());
    // The batch of the middle fragment.
    bytes[3 * UNIT_MIN + 272 + 50] ^= 1;
    let packed = pack(&bytes, &extent, None, sample_facts(), Packing::default()).unwrap();
    let own = packed.verified.footer.stretches_of(log_id(2));
    assert_eq!(
        own.iter().map(|own| (own.first_lsn.0, own.last_lsn.0)).collect::<Vec<_>>(),
        [(5, 5)]
    );
    assert!(names(&packed.damages, &(log_id(2), 1, Lsn(6))));
    let facts = &packed.verified.facts;
    assert_eq!(facts.edits.len(), sample_facts().edits.len() + packed.damages.len());
}

/// Damage around which is uploaded makes two stretches of a log, and the object is whole.
#[test]
fn a_damaged_range_is_packed_around() {
    let batches: Vec<Vec<Item>> =
        (0..9).map(|n| vec![item(1, 1, n, vec![3; 200]), item(2, 1, n, vec![4; 100])]).collect();
    let (mut bytes, extent) = segment(&batches);
    bytes[5 * UNIT_MIN + 272 + 60] ^= 1; // the body of log 1, LSN 4
    let packed = pack(&bytes, &extent, None, sample_facts(), Packing::default()).unwrap();
    let lsns = |log| {
        let own = packed.verified.footer.stretches_of(log_id(log));
        own.iter().map(|own| (own.first_lsn.0, own.last_lsn.0)).collect::<Vec<_>>()
    };
    assert_eq!((lsns(1), lsns(2)), (vec![(0, 3), (5, 8)], vec![(0, 8)]));
    assert_eq!(packed.damages.len(), 1, "{:?}", packed.damages);
    assert!(names(&packed.damages, &(log_id(1), 1, Lsn(4))));
}
