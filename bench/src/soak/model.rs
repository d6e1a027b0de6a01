//! What must be there: told by what the load said, compared with what an opening found.
//!
//! Invariants: an acked deed has happened; one that was announced and not acked may have; nothing
//! else has. Appends of one log are staged in the order in which they are announced, so of those
//! not acked a prefix is there. The model never looks at the directory.

use std::collections::{BTreeMap, VecDeque};

use super::event::Event;

/// Disagreements that are told in full.
const TOLD_MAX: usize = 20;

/// One log as it must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    /// The LSN of the first record.
    start: u64,
    /// The acked records from `start` on, by their sequence numbers.
    acked: VecDeque<u64>,
    /// Appends that were announced, in their order: first sequence number, how many.
    announced: VecDeque<(u64, u64)>,
    /// A start that was announced.
    truncating: Option<u64>,
    /// A cut that was announced.
    cutting: Option<u64>,
    /// Its deletion was announced.
    deleting: bool,
}

/// One log as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    start: u64,
    next: u64,
    /// By LSN from `start` on.
    seqs: VecDeque<u64>,
    /// The first LSN that did not come where it should.
    gap: Option<u64>,
}

/// All logs.
#[derive(Debug, Default)]
pub(crate) struct Model {
    logs: BTreeMap<u32, Kept>,
    /// Creations that were announced.
    creating: BTreeMap<u32, ()>,
    survey: BTreeMap<u32, Found>,
    /// Openings after which all logs were compared.
    pub(crate) compared: u64,
    /// Records that were compared.
    pub(crate) checked: u64,
    /// Records that were acked.
    pub(crate) acked: u64,
    /// Records that followers saw.
    pub(crate) followed: u64,
    /// Deeds that were acked.
    pub(crate) deeds: Deeds,
    /// How often what was found is not what must be.
    pub(crate) disagreements: u64,
    /// The first of them, in words.
    pub(crate) told: Vec<String>,
    /// A load has opened the directory; it is past its survey.
    pub(crate) opened: bool,
    pub(crate) ready: bool,
}

/// How many of each were acked.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Deeds {
    pub(crate) truncations: u64,
    pub(crate) cuts: u64,
    pub(crate) deletions: u64,
    pub(crate) creations: u64,
}

impl Model {
    /// The next life begins: it has not said anything yet.
    pub(crate) fn begin(&mut self) {
        (self.opened, self.ready) = (false, false);
    }

    /// Hears one event.
    pub(crate) fn hear(&mut self, event: Event) {
        match event {
            Event::Survey => (self.survey, self.opened) = (BTreeMap::new(), true),
            Event::Found { log, start, next } => {
                let found = Found { start, next, ..Found::default() };
                self.survey.insert(log, found);
            }
            Event::Run { log, lsn, seq, count } => {
                let found = self.survey.entry(log).or_default();
                if lsn != found.start + found.seqs.len() as u64 {
                    found.gap.get_or_insert(lsn);
                }
                found.seqs.extend(seq..seq + count);
            }
            Event::Ready => self.compare(),
            Event::Followed { count } => self.followed += count,
            deed => self.deed(deed),
        }
    }

    fn deed(&mut self, event: Event) {
        match event {
            Event::Create { log, acked: false } => drop(self.creating.insert(log, ())),
            Event::Create { log, .. } => {
                self.creating.remove(&log);
                self.logs.insert(log, Kept::default());
                self.deeds.creations += 1;
            }
            Event::Delete { log, acked: true } => {
                self.logs.remove(&log);
                self.deeds.deletions += 1;
            }
            Event::Delete { log, .. }
            | Event::Append { log, .. }
            | Event::Acked { log, .. }
            | Event::Truncate { log, .. }
            | Event::Cut { log, .. } => match self.logs.get_mut(&log) {
                Some(kept) => {
                    let told = kept.deed(event, &mut self.deeds);
                    match told {
                        Ok(records) => self.acked += records,
                        Err(what) => self.tell(log, &what),
                    }
                }
                None => self.tell(log, &format!("it is not there, and the load said {event:?}")),
            },
            _ => {}
        }
    }

    fn tell(&mut self, log: u32, what: &str) {
        self.disagreements += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("opening {}, log {log}: {what}", self.compared));
        }
    }

    /// Every log that must be there or that was found; what was found is the truth from here on.
    fn compare(&mut self) {
        let survey = std::mem::take(&mut self.survey);
        let mut wrong = Vec::new();
        for (log, kept) in &self.logs {
            match survey.get(log) {
                Some(found) => wrong.extend(kept.judge(found).err().map(|what| (*log, what))),
                None if kept.deleting => {}
                None => wrong.push((*log, "it is gone".to_owned())),
            }
        }
        for (log, found) in survey.iter().filter(|(log, _)| !self.logs.contains_key(log)) {
            let new = self.creating.contains_key(log) && *found == Found::default();
            if !new {
                wrong.push((*log, format!("it was deleted or never created: {found:.200?}")));
            }
        }
        wrong.iter().for_each(|(log, what)| self.tell(*log, what));
        self.checked += survey.values().map(|found| found.seqs.len() as u64).sum::<u64>();
        let truth = |(log, Found { start, seqs, .. })| {
            (log, Kept { start, acked: seqs, ..Kept::default() })
        };
        self.logs = survey.into_iter().map(truth).collect();
        self.creating.clear();
        self.compared += 1;
        self.ready = true;
    }
}

impl Kept {
    fn next(&self) -> u64 {
        self.start + self.acked.len() as u64
    }

    /// How many records it acked.
    fn deed(&mut self, event: Event, deeds: &mut Deeds) -> Result<u64, String> {
        match event {
            Event::Delete { .. } => self.deleting = true,
            Event::Append { seq, count, .. } => self.announced.push_back((seq, count)),
            Event::Acked { lsn, .. } => {
                let next = self.next();
                let (seq, count) = self.announced.pop_front().ok_or("nothing was to be acked")?;
                self.acked.extend(seq..seq + count);
                if lsn != next {
                    return Err(format!("acked at {lsn}, the log went on at {next}"));
                }
                return Ok(count);
            }
            Event::Truncate { lsn, acked: false, .. } => self.truncating = Some(lsn),
            Event::Truncate { lsn, .. } => {
                self.truncating = None;
                self.acked.drain(..(lsn.saturating_sub(self.start) as usize).min(self.acked.len()));
                self.start = self.start.max(lsn);
                deeds.truncations += 1;
            }
            Event::Cut { lsn, acked: false, .. } => self.cutting = Some(lsn),
            Event::Cut { lsn, .. } => {
                self.cutting = None;
                self.acked.truncate(lsn.saturating_sub(self.start) as usize);
                deeds.cuts += 1;
            }
            _ => {}
        }
        Ok(0)
    }

    /// Whether what was found can be what became of this.
    fn judge(&self, found: &Found) -> Result<(), String> {
        if let Some(lsn) = found.gap {
            return Err(format!("a gap before {lsn}"));
        }
        if found.next != found.start + found.seqs.len() as u64 {
            let read = found.seqs.len();
            return Err(format!("from {} to {}, {read} records read", found.start, found.next));
        }
        if found.start != self.start && Some(found.start) != self.truncating {
            let Self { start, truncating, .. } = self;
            return Err(format!("starts at {}, not {start} (or {truncating:?})", found.start));
        }
        if self.plain(found) || self.cut(found) {
            return Ok(());
        }
        let from = (found.start - self.start) as usize;
        let same = self.acked.iter().skip(from).zip(&found.seqs).take_while(|(a, b)| a == b);
        let differs = found.start + same.count() as u64;
        let must: Vec<_> =
            self.acked.iter().skip((differs - self.start) as usize).take(3).collect();
        let is: Vec<_> = found.seqs.iter().skip((differs - found.start) as usize).take(3).collect();
        Err(format!(
            "acked up to {}, announced {:?}, cutting {:?}, found {} to {}; at {differs} must be \
             {must:?}, is {is:?}",
            self.next(),
            self.announced,
            self.cutting,
            found.start,
            found.next
        ))
    }

    /// All that was acked, then whole appends of those that were announced.
    fn plain(&self, found: &Found) -> bool {
        let mut must = self.acked.clone();
        let from = (found.start - self.start) as usize;
        let same = |must: &VecDeque<u64>| must.iter().skip(from).eq(&found.seqs);
        if same(&must) {
            return true;
        }
        self.announced.iter().any(|(seq, count)| {
            must.extend(*seq..seq + count);
            same(&must)
        })
    }

    /// The cut that was announced has happened: all that was staged before is below it, or gone.
    fn cut(&self, found: &Found) -> bool {
        let Some(cutting) = self.cutting else { return false };
        let mut must = self.acked.clone();
        self.announced.iter().for_each(|(seq, count)| must.extend(*seq..seq + count));
        must.truncate(cutting.saturating_sub(self.start) as usize);
        must.iter().skip((found.start - self.start) as usize).eq(&found.seqs)
    }
}
