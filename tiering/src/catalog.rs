//! Which object holds which LSNs of a log: what the footers of all objects of a directory say.
//!
//! Invariants:
//! - It is learned from footers alone, never from names or from a list: a list only says where
//!   to look. What was learned stays true, for objects do not change.
//! - Of several stretches that hold an LSN the one of the newest segment counts, and in it the
//!   last: older ones were cut.
//! - Memory: 40 bytes a stretch, and the footers that are kept for their blocks.
//!
//! Not here: reading blocks (`fetch`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sapwood::format::{DamageFacts, Edit, Frame};
use sapwood::{LogId, Lsn};

use crate::layout::{self, Named};
use crate::object::Footer;
use crate::store::Key;

/// A stretch of a log, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub first: Lsn,
    /// The last LSN that counts here: what follows is in a newer object, or nowhere.
    pub last: Lsn,
    /// The object, by its name.
    pub object: Named,
    /// The stretch in it.
    pub stretch: u32,
}

/// First and last LSN of the stretches of a log, in the order in which they were written.
type Stretches = BTreeMap<(Named, u32), (Lsn, Lsn)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    places: HashMap<LogId, Stretches>,
    objects: BTreeSet<Named>,
    damages: Vec<DamageFacts>,
}

impl Catalog {
    /// Whether this object is known.
    pub(crate) fn knows(&self, object: &Named) -> bool {
        self.objects.contains(object)
    }

    /// Learns what an object holds, and what it says is damaged.
    pub(crate) fn learn(&mut self, object: Named, footer: &Footer, facts: &Frame) {
        if !self.objects.insert(object) {
            return;
        }
        for (number, stretch) in footer.stretches.iter().enumerate() {
            let places = self.places.entry(stretch.log).or_default();
            let lsns = (stretch.first_lsn, stretch.last_lsn);
            places.insert((object, number as u32), lsns);
        }
        let damages = facts.edits.iter().filter_map(|edit| match edit {
            Edit::Damage(damage) if damage.segment == object.segment => Some(*damage),
            _ => None,
        });
        self.damages.extend(damages);
    }

    /// Where an LSN of a log is.
    pub(crate) fn find(&self, log: LogId, lsn: Lsn) -> Option<Place> {
        let mut last = Lsn(u64::MAX);
        for ((object, stretch), (first, end)) in self.places.get(&log)?.iter().rev() {
            if *first <= lsn && lsn <= *end {
                let last = last.min(*end);
                return Some(Place { first: *first, last, object: *object, stretch: *stretch });
            }
            // It was written later: from there on it counts.
            if *first > lsn {
                last = last.min(Lsn(first.0 - 1));
            }
        }
        None
    }

    /// What is known to be damaged there.
    pub(crate) fn damage(&self, log: LogId, lsn: Lsn) -> Option<&DamageFacts> {
        let hits = |d: &&DamageFacts| {
            d.log == Some(log) && d.first_lsn <= lsn && d.last_lsn.is_none_or(|last| lsn <= last)
        };
        self.damages.iter().rev().find(hits)
    }
}

/// The name that a key of this directory stands for.
pub(crate) fn named(key: &Key, directory: u64, lineage: u64) -> Option<Named> {
    let named = layout::parse(key)?;
    ((named.directory, named.lineage) == (directory, lineage)).then_some(named)
}

#[cfg(test)]
mod tests {
    use sapwood::{SegmentId, ShardId};

    use super::*;
    use crate::object::Stretch;

    fn object(segment: u64) -> Named {
        Named {
            directory: 1,
            lineage: 1,
            shard: ShardId(0),
            segment: SegmentId(segment),
            last_seq: segment,
            last_crc: 0,
            again: 0,
        }
    }

    fn footer(lsns: &[(u64, u64)]) -> Footer {
        let stretch = |(first, last): &(u64, u64)| Stretch {
            log: LogId(7),
            first_lsn: Lsn(*first),
            last_lsn: Lsn(*last),
            ..Stretch::default()
        };
        Footer { stretches: lsns.iter().map(stretch).collect(), ..Footer::default() }
    }

    #[test]
    fn the_newest_that_holds_an_lsn_counts() {
        let mut catalog = Catalog::default();
        // In any order: 0..=20, cut at 12 and on to 15 in the same segment, cut again at 5.
        catalog.learn(object(3), &footer(&[(5, 9)]), &Frame::default());
        catalog.learn(object(1), &footer(&[(0, 20), (12, 15)]), &Frame::default());
        catalog.learn(object(2), &footer(&[(16, 30)]), &Frame::default());
        let find = |lsn| {
            let place = catalog.find(LogId(7), Lsn(lsn))?;
            Some((place.object.segment.0, place.stretch, place.last.0))
        };
        assert_eq!(find(0), Some((1, 0, 4)), "up to where a later one begins");
        assert_eq!(find(5), Some((3, 0, 9)));
        assert_eq!(find(11), Some((1, 0, 11)));
        assert_eq!(find(12), Some((1, 1, 15)));
        assert_eq!(find(18), Some((2, 0, 30)));
        assert_eq!(find(31), None);
        assert_eq!(catalog.find(LogId(8), Lsn(0)), None);
        assert!(catalog.knows(&object(2)) && !catalog.knows(&object(4)));
    }
}
