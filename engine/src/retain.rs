//! Retention: how far the start of a log moves up by its settings, by size and by age.
//!
//! Per log with such a setting a sketch of its records is kept: at most [`SPANS_MAX`] stretches
//! with their bytes and times, gathered from the indexes of sealed segments. So memory is bounded
//! whatever the number of segments, and a decision reads nothing.
//!
//! Invariants: a start only moves up, never beyond the durable end, never over what somebody holds.
//! Size is exact to within what records of a stretch differ in size; age lets a record live until
//! all of its stretch is too old, never less than the setting says.
//!
//! Not here: reading indexes (`collect`), making the start durable (`collect`), space (`gc`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::format::index::IndexEntry;
use crate::format::manifest::LogSettings;
use crate::lsn::{LogId, Lsn};

/// Stretches that are kept of a log.
const SPANS_MAX: usize = 16;

/// A stretch of a log: what one segment holds of it, or several that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub first: Lsn,
    /// The LSN behind its last record.
    pub end: Lsn,
    /// Bytes of its records, framed.
    pub bytes: u64,
    pub last_time_us: u64,
}

impl Span {
    pub(crate) fn of(entry: &IndexEntry) -> Self {
        let (first, end) = (entry.first_lsn, entry.last_lsn.next());
        Self { first, end, bytes: entry.bytes, last_time_us: entry.last_time_us }
    }

    /// Forgets what lies below `start`; its bytes by their share.
    fn cut(&mut self, start: Lsn) {
        if start <= self.first {
            return;
        }
        let (all, left) = (self.end.0 - self.first.0, self.end.0.saturating_sub(start.0));
        self.bytes = (u128::from(self.bytes) * u128::from(left) / u128::from(all.max(1))) as u64;
        self.first = start.min(self.end);
    }

    /// How many of its records go when `excess` of its bytes are too many.
    fn records_in(&self, excess: u64) -> u64 {
        let all = u128::from(self.end.0 - self.first.0);
        let bytes = u128::from(self.bytes.max(1));
        (u128::from(excess) * all).div_ceil(bytes).min(all) as u64
    }
}

/// What the sealed segments hold of a log, oldest first, without gaps that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch {
    spans: Vec<Span>,
}

impl Sketch {
    /// Adds what a newer segment holds. One that was added before is passed over.
    fn push(&mut self, span: Span) {
        if self.spans.last().is_some_and(|last| span.first < last.end) {
            return;
        }
        self.spans.push(span);
        if self.spans.len() > SPANS_MAX {
            let sum = |at: &usize| self.spans[*at].bytes + self.spans[at + 1].bytes;
            let least = (0..self.spans.len() - 1).min_by_key(sum).unwrap_or(0);
            let newer = self.spans.remove(least + 1);
            let older = &mut self.spans[least];
            older.end = newer.end;
            older.bytes += newer.bytes;
            older.last_time_us = newer.last_time_us;
        }
    }

    fn cut(&mut self, start: Lsn) {
        self.spans.retain(|span| span.end > start);
        if let Some(first) = self.spans.first_mut() {
            first.cut(start);
        }
    }
}

/// Where the start of a log has to be by its settings. `live` are the stretches that are not sealed
/// yet, oldest first.
pub(crate) fn start_by(
    settings: &LogSettings,
    start: Lsn,
    sketch: &Sketch,
    live: &[Span],
    now_us: u64,
) -> Lsn {
    let spans = || {
        sketch.spans.iter().chain(live).filter(|span| span.end > start).map(|span| {
            let mut span = *span;
            span.cut(start);
            span
        })
    };
    let mut to = start;
    if let Some(keep) = settings.retention_bytes {
        let mut excess = spans().map(|span| span.bytes).sum::<u64>().saturating_sub(keep);
        for span in spans() {
            if excess == 0 {
                break;
            }
            let gone = span.records_in(excess);
            to = to.max(Lsn(span.first.0 + gone));
            excess = excess.saturating_sub(span.bytes);
        }
    }
    if let Some(secs) = settings.retention_secs {
        let too_old = now_us.saturating_sub(secs.saturating_mul(1_000_000));
        for span in spans().take_while(|span| span.last_time_us < too_old) {
            to = to.max(span.end);
        }
    }
    to
}

/// What is known of the logs with retention.
#[derive(Debug, Default)]
pub(crate) struct Retainer {
    sketches: BTreeMap<LogId, Sketch>,
    /// Grows when a log is met that was not surveyed: all indexes are looked through again then.
    pub survey: u32,
}

impl Retainer {
    /// Whether any log has retention.
    pub(crate) fn is_empty(&self) -> bool {
        self.sketches.is_empty()
    }

    /// Notes that a log has retention, or no more. `tier`: also if it only says what stays local.
    pub(crate) fn note(&mut self, log: LogId, settings: &LogSettings, tier: bool) {
        let local = tier && settings.local_retention_bytes.is_some();
        if settings.retention_bytes.is_none() && settings.retention_secs.is_none() && !local {
            self.sketches.remove(&log);
        } else if let Entry::Vacant(place) = self.sketches.entry(log) {
            place.insert(Sketch::default());
            self.survey += 1;
        }
    }

    /// What a sealed segment holds of a log.
    pub(crate) fn gather(&mut self, entry: &IndexEntry) {
        if let Some(sketch) = self.sketches.get_mut(&entry.log) {
            sketch.push(Span::of(entry));
        }
    }

    /// The sketch of a log with retention, brought up to its start.
    pub(crate) fn sketch(&mut self, log: LogId, start: Lsn) -> Option<&Sketch> {
        let sketch = self.sketches.get_mut(&log)?;
        sketch.cut(start);
        Some(sketch)
    }

    /// From here on a log's records stay on the local disk although the tier has them. Without a
    /// setting all of them do. While the survey goes on it is too low, never too high.
    pub(crate) fn local_from(
        &self,
        log: LogId,
        settings: &LogSettings,
        start: Lsn,
        live: &[Span],
    ) -> Lsn {
        let (Some(_), Some(sketch)) = (settings.local_retention_bytes, self.sketches.get(&log))
        else {
            return start;
        };
        let local = LogSettings {
            retention_bytes: settings.local_retention_bytes,
            retention_secs: None,
            ..*settings
        };
        start_by(&local, start, sketch, live, 0)
    }

    /// The log with retention that comes next, if any.
    pub(crate) fn next(&self, from: LogId) -> Option<LogId> {
        self.sketches.range(from..).next().map(|(log, _)| *log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, end: u64, bytes: u64, last_time_us: u64) -> Span {
        Span { first: Lsn(first), end: Lsn(end), bytes, last_time_us }
    }

    fn sketch(spans: &[Span]) -> Sketch {
        let mut sketch = Sketch::default();
        spans.iter().for_each(|span| sketch.push(*span));
        sketch
    }

    const S: u64 = 1_000_000;

    #[test]
    fn size_and_age_move_the_start() {
        let sealed = sketch(&[span(0, 10, 1000, S), span(10, 20, 1000, 2 * S)]);
        let live = [span(20, 30, 1000, 3 * S)];
        let bytes = |n| LogSettings { retention_bytes: Some(n), ..Default::default() };
        let secs = |n| LogSettings { retention_secs: Some(n), ..Default::default() };
        let table = [
            ("all fits", bytes(3000), 0, 0, 0),
            ("a part of the oldest", bytes(2500), 0, 0, 5),
            ("records are not divided", bytes(2550), 0, 0, 5),
            ("whole stretches", bytes(1000), 0, 0, 20),
            ("and of the newest", bytes(100), 0, 0, 29),
            ("nothing is kept", bytes(0), 0, 0, 30),
            ("what was truncated counts no more", bytes(2500), 5, 0, 5),
            ("young enough", secs(10), 0, 10 * S, 0),
            ("the oldest is too old", secs(10), 0, 12 * S, 10),
            ("all are", secs(10), 0, 14 * S, 30),
            ("a clock that stands at zero drops nothing", secs(10), 0, 0, 0),
            ("no setting", LogSettings::default(), 4, 99 * S, 4),
        ];
        for (what, settings, start, now_us, to) in table {
            let found = start_by(&settings, Lsn(start), &sealed, &live, now_us);
            assert_eq!(found, Lsn(to), "{what}");
        }
    }

    #[test]
    fn a_sketch_is_bounded_and_adds_up() {
        let mut many = Sketch::default();
        for n in 0..1000u64 {
            let one = span(n * 3, n * 3 + 3, 30, n);
            many.push(one);
            many.push(one); // seen again by another survey
        }
        assert_eq!(many.spans.len(), SPANS_MAX);
        assert_eq!(many.spans.iter().map(|span| span.bytes).sum::<u64>(), 30_000);
        assert!(many.spans.windows(2).all(|two| two[0].end == two[1].first));
        many.cut(Lsn(1501));
        let left = many.spans.iter().map(|span| span.bytes).sum::<u64>();
        assert!((14_900..=15_000).contains(&left), "{left}");
    }
}
