//! The places of one log in the segment that is being read: where its reader goes next, and what it
//! need not read.
//!
//! Invariants: places are hints. Whoever follows them still wants every LSN in turn; where they
//! lead to something else, the segment is read from the last place on as if there were no others.
//!
//! Not here: who knows the places (`live`, `index`), reading (`catchup`, `part`).

use crate::format::index::Posting;
use crate::live::Around;
use crate::lsn::{Lsn, SegmentId};

/// Places that a reader knows ahead.
pub(crate) const HOPS_MAX: usize = 128;

/// Where the records of a log from an LSN on are to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub place: Posting,
    /// The first LSN that is to be found at the next place, or not in this segment.
    pub until: Lsn,
    /// What one record takes, on average.
    pub bytes_each: u64,
}

impl Hop {
    /// What the records from `lsn` on take here, about.
    pub(crate) fn bytes_from(&self, lsn: Lsn) -> usize {
        let bytes = self.until.0.saturating_sub(lsn.0).saturating_mul(self.bytes_each);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// See the module.
pub(crate) struct Hops {
    segment: SegmentId,
    around: Option<Around>,
    /// Never grows: it is filled under the view's lock.
    places: Vec<Posting>,
    /// A place whose batch is to be looked at whole, as the part that was read was not what it
    /// should be.
    whole: Option<Posting>,
}

impl Hops {
    pub(crate) fn new() -> Self {
        let (segment, places) = (SegmentId(0), Vec::new());
        Self { segment, around: None, places, whole: None }
    }

    pub(crate) fn forget(&mut self) {
        (self.around, self.whole) = (None, None);
    }

    /// Takes what `fill` knows of the segment.
    pub(crate) fn fill(
        &mut self,
        segment: SegmentId,
        fill: impl FnOnce(&mut Vec<Posting>) -> Option<Around>,
    ) {
        self.places.clear();
        self.places.reserve_exact(HOPS_MAX);
        self.segment = segment;
        self.around = fill(&mut self.places);
        self.whole = None;
    }

    /// Where `lsn` is in this segment; `None` if that is not known, or it is not there.
    pub(crate) fn at(&self, segment: SegmentId, lsn: Lsn) -> Option<Hop> {
        let around = self.around.filter(|_| self.segment == segment)?;
        let behind = self.places.partition_point(|place| place.lsn <= lsn);
        let place = *self.places.get(behind.checked_sub(1)?)?;
        let until = match self.places.get(behind) {
            Some(next) => next.lsn,
            None if around.all => around.last.next(),
            None => return None,
        };
        (lsn < until).then_some(Hop { place, until, bytes_each: around.bytes_each })
    }

    pub(crate) fn read_whole(&mut self, place: Posting) {
        self.whole = Some(place);
    }

    pub(crate) fn is_whole(&self, place: Posting) -> bool {
        place.at == 0 || self.whole == Some(place)
    }
}
