//! Taking a directory: what is asked of etcd, in which order, and what follows from the answers.
//!
//! A machine without time, threads or a network of its own: [`next`](Claim::next) says what to do
//! at a moment, [`answer`](Claim::answer) takes what came of it. Between any two calls any time may
//! pass, anything may happen to the key, and whoever drives the machine may be suspended.
//!
//! Invariants:
//! - An owner that has not released is succeeded only when its record was seen unchanged for all of
//!   its lease, measured on the clock of who waits, from *after* it was first seen so.
//! - The next owner's term is one more than the last's, put on the condition that the key is as it
//!   was when that was decided.
//! - Our lease is reckoned from *before* the first put was asked for that may be the one that
//!   stands.
//! - A key without history says nothing about who writes the directory (an owner by lock alone, or
//!   under another key): then its lock must be had first.
//!
//! Crash story: a put is sent, its answer is lost. It may stand, or not, or come to stand later. We
//! read the key: our holder's number in it means that it stood, whichever of our puts it was, so
//! the lease counts from the first. Another record at a later revision means that none of ours can
//! stand any more. The same revision means that nobody knows yet, and the next put goes on the same
//! condition: only one of them can ever stand.
//!
//! Not here: keeping it (`tenure`), the lock itself and the waiting (`owner`).

use crate::record::{Node, Record};
use crate::tenure::Tenure;
use crate::terms::{Terms, ns};
use crate::transport::{Answer, Ask, Failure, Revision};

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Ask this, then [`answer`](Claim::answer).
    Ask(Ask),
    /// Nothing before this moment of the clock that counts suspend, in nanoseconds.
    Wait(u64),
    /// The directory's lock must be had; then [`locked`](Claim::locked).
    Lock,
    /// It is ours.
    Taken(Box<Tenure>),
    /// A living owner has it.
    Owned(Box<Record>),
    /// It cannot be taken, and why: nobody could be asked, or the key holds something else.
    Failed(Failure),
}

#[derive(Debug)]
enum At {
    Look,
    Rest { until_ns: u64 },
    Lock,
    Put { revision: Revision, term: u32 },
    Taken { revision: Revision, asked_ns: u64, term: u32 },
    Owned(Record),
    Failed(Failure),
}

/// A claim under way.
#[derive(Debug)]
pub struct Claim {
    terms: Terms,
    node: Node,
    /// A random number that no other claim has.
    holder: u64,
    /// Waits for as long as there is an owner, instead of saying so.
    patient: bool,
    /// The record in force, and since when it was seen so.
    seen: Option<(Revision, u64)>,
    /// Before the first of our puts was asked for that may stand, and on which revision.
    put: Option<(Revision, u64)>,
    /// Since when nobody answers.
    unanswered: Option<u64>,
    has_lock: bool,
    at: At,
}

impl Claim {
    /// A claim of this node. `holder` is a random number.
    #[must_use]
    pub fn new(terms: Terms, node: Node, holder: u64, patient: bool) -> Self {
        let (seen, put, unanswered, has_lock) = (None, None, None, false);
        Self { terms, node, holder, patient, seen, put, unanswered, has_lock, at: At::Look }
    }

    /// What to do at this moment.
    pub fn next(&mut self, now_ns: u64) -> Step {
        if let At::Rest { until_ns } = self.at {
            if now_ns < until_ns {
                return Step::Wait(until_ns);
            }
            self.at = At::Look;
        }
        match &self.at {
            At::Look | At::Rest { .. } => Step::Ask(Ask::Get),
            At::Lock => Step::Lock,
            At::Put { revision, term } => {
                let (revision, term) = (*revision, *term);
                if self.put.is_none_or(|(on, _)| on != revision) {
                    self.put = Some((revision, now_ns));
                }
                Step::Ask(Ask::Put { revision, value: self.record(term).encode() })
            }
            At::Taken { revision, asked_ns, term } => {
                let record = self.record(*term);
                let tenure = Tenure::new(self.terms, record, *revision, *asked_ns);
                Step::Taken(Box::new(tenure))
            }
            At::Owned(record) => Step::Owned(Box::new(record.clone())),
            At::Failed(failure) => Step::Failed(failure.clone()),
        }
    }

    fn record(&self, term: u32) -> Record {
        let (holder, ttl, node) = (self.holder, self.terms.ttl, self.node.clone());
        Record { term, holder, renewal: 0, ttl, released: false, node }
    }

    /// Whether the lock that was asked for was had.
    pub fn locked(&mut self, had: bool) {
        if !matches!(self.at, At::Lock) {
            return;
        }
        self.has_lock = had;
        self.at = if had { At::Put { revision: 0, term: 1 } } else { self.owned_by_lock() };
    }

    fn owned_by_lock(&self) -> At {
        At::Owned(Record { holder: 0, node: Node::default(), ..self.record(0) })
    }

    /// What came of the question, at this moment.
    pub fn answer(&mut self, now_ns: u64, answer: Result<Answer, Failure>) {
        let rest = now_ns.saturating_add(self.terms.look_ns());
        match answer {
            Err(failure @ Failure::Refused(_)) => self.at = At::Failed(failure),
            Err(failure) => {
                let since = *self.unanswered.get_or_insert(now_ns);
                let tired = now_ns.saturating_sub(since) >= 2 * ns(self.terms.ttl);
                let tired = tired && !self.patient;
                self.at = if tired { At::Failed(failure) } else { At::Rest { until_ns: rest } };
            }
            Ok(answer) => {
                self.unanswered = None;
                self.answered(now_ns, rest, answer);
            }
        }
    }

    fn answered(&mut self, now_ns: u64, rest_ns: u64, answer: Answer) {
        match (answer, &self.at) {
            (Answer::Found(found), At::Look) => {
                self.at = match found.map(|(revision, value)| (revision, Record::parse(&value))) {
                    None => self.absent(),
                    Some((revision, Ok(record))) => self.found(now_ns, rest_ns, revision, record),
                    Some((_, Err(flaw))) => {
                        At::Failed(Failure::Refused(format!("the key holds {flaw}")))
                    }
                };
            }
            (Answer::Put(revision), At::Put { term, .. }) => {
                let asked_ns = self.put.map_or(0, |(_, asked_ns)| asked_ns);
                self.at = At::Taken { revision, asked_ns, term: *term };
            }
            // Somebody was faster, or an earlier put of ours stands: look.
            (Answer::Differs, At::Put { .. }) => self.at = At::Look,
            // No answer to what was asked: whoever drives this is wrong; ask again.
            _ => self.at = At::Look,
        }
    }

    fn absent(&mut self) -> At {
        self.seen = None;
        if self.has_lock { At::Put { revision: 0, term: 1 } } else { At::Lock }
    }

    fn found(&mut self, now_ns: u64, rest_ns: u64, revision: Revision, record: Record) -> At {
        if record.holder == self.holder {
            let asked_ns = self.put.map_or(0, |(_, asked_ns)| asked_ns);
            return At::Taken { revision, asked_ns, term: record.term };
        }
        let Some(term) = record.term.checked_add(1) else {
            return At::Failed(Failure::Refused("the terms are used up".into()));
        };
        if record.released {
            return At::Put { revision, term };
        }
        match self.seen {
            Some((seen, since)) if seen == revision => {
                let over_ns = since.saturating_add(ns(record.ttl));
                if now_ns >= over_ns {
                    return At::Put { revision, term };
                }
                At::Rest { until_ns: over_ns.min(rest_ns) }
            }
            // It is renewed, or taken, while we look on.
            Some(_) if !self.patient => At::Owned(record),
            _ => {
                self.seen = Some((revision, now_ns));
                At::Rest { until_ns: rest_ns }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn terms() -> Terms {
        Terms::of(Duration::from_secs(10)).unwrap()
    }

    fn claim(patient: bool) -> Claim {
        Claim::new(terms(), Node::default(), 1, patient)
    }

    fn other(renewal: u64, released: bool) -> Record {
        let (ttl, node) = (Duration::from_secs(4), Node::default());
        Record { term: 6, holder: 2, renewal, ttl, released, node }
    }

    fn found(revision: Revision, record: &Record) -> Result<Answer, Failure> {
        Ok(Answer::Found(Some((revision, record.encode()))))
    }

    fn looks(claim: &mut Claim, now: u64) {
        assert!(matches!(claim.next(now), Step::Ask(Ask::Get)));
    }

    /// What it puts, and on which revision.
    fn puts(claim: &mut Claim, now: u64) -> (Revision, Record) {
        match claim.next(now) {
            Step::Ask(Ask::Put { revision, value }) => (revision, Record::parse(&value).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn taken(claim: &mut Claim, now: u64) -> Tenure {
        match claim.next(now) {
            Step::Taken(tenure) => *tenure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_whole_lease_is_waited_out_from_when_it_was_seen() {
        let mut claim = claim(false);
        looks(&mut claim, 0);
        claim.answer(SECOND, found(9, &other(3, false)));
        let mut now = SECOND;
        while let Step::Wait(until) = claim.next(now) {
            now = until;
            looks(&mut claim, now);
            claim.answer(now, found(9, &other(3, false)));
        }
        assert_eq!(now, 5 * SECOND, "its lease is 4 s, seen at 1 s");
        let (revision, record) = puts(&mut claim, now);
        assert_eq!((revision, record.term, record.holder), (9, 7, 1));
        claim.answer(now + SECOND, Ok(Answer::Put(10)));
        // Reckoned from before it was asked for, less the margin.
        assert_eq!(taken(&mut claim, now + SECOND).until_ns(), now + 9 * SECOND);
    }

    #[test]
    fn who_renews_is_alive_and_a_patient_claim_waits_anew() {
        for patient in [false, true] {
            let mut claim = claim(patient);
            looks(&mut claim, 0);
            claim.answer(0, found(9, &other(3, false)));
            looks(&mut claim, 3 * SECOND);
            claim.answer(3 * SECOND, found(11, &other(4, false)));
            match claim.next(3 * SECOND) {
                Step::Owned(record) => assert!(!patient && record.term == 6),
                Step::Wait(_) => assert!(patient),
                other => panic!("{other:?}"),
            }
            if patient {
                looks(&mut claim, 6 * SECOND);
                claim.answer(6 * SECOND, found(11, &other(4, false)));
                assert!(matches!(claim.next(6 * SECOND), Step::Wait(_)), "not 4 s yet");
                looks(&mut claim, 7 * SECOND);
                claim.answer(7 * SECOND, found(11, &other(4, false)));
                assert_eq!(puts(&mut claim, 7 * SECOND).0, 11);
            }
        }
    }

    #[test]
    fn what_was_released_is_taken_at_once() {
        let mut claim = claim(false);
        looks(&mut claim, 0);
        claim.answer(1, found(9, &other(3, true)));
        assert_eq!(puts(&mut claim, 1).1.term, 7);
        // Somebody was faster, and is alive.
        claim.answer(2, Ok(Answer::Differs));
        looks(&mut claim, 2);
    }

    /// A put without an answer stands: the lease counts from before the first try.
    #[test]
    fn a_lost_answer_is_read_back() {
        let mut claim = claim(false);
        looks(&mut claim, 0);
        claim.answer(0, found(9, &other(3, true)));
        let (_, ours) = puts(&mut claim, SECOND);
        claim.answer(2 * SECOND, Err(Failure::Unknown("lost".into())));
        looks(&mut claim, 3 * SECOND);
        claim.answer(3 * SECOND, found(9, &other(3, true)));
        let (revision, _) = puts(&mut claim, 4 * SECOND);
        assert_eq!(revision, 9, "on the same condition: one of the two can stand");
        claim.answer(4 * SECOND, Ok(Answer::Differs));
        looks(&mut claim, 4 * SECOND);
        claim.answer(4 * SECOND, found(12, &ours));
        assert_eq!(taken(&mut claim, 4 * SECOND).until_ns(), 10 * SECOND);
    }

    #[test]
    fn a_key_without_history_wants_the_lock() {
        let mut first = claim(true);
        looks(&mut first, 0);
        first.answer(0, Ok(Answer::Found(None)));
        assert!(matches!(first.next(0), Step::Lock));
        first.locked(false);
        assert!(matches!(first.next(0), Step::Owned(_)));
        let mut second = claim(true);
        second.answer(0, Ok(Answer::Found(None)));
        second.locked(true);
        let (revision, record) = puts(&mut second, 0);
        assert_eq!((revision, record.term), (0, 1));
    }

    #[test]
    fn what_cannot_be_understood_or_asked_is_told() {
        let mut strange = claim(true);
        strange.answer(0, Ok(Answer::Found(Some((3, b"hello".to_vec())))));
        assert!(matches!(strange.next(0), Step::Failed(Failure::Refused(_))));
        let mut alone = claim(false);
        let mut now = 0;
        loop {
            match alone.next(now) {
                Step::Ask(_) => alone.answer(now, Err(Failure::Unknown("down".into()))),
                Step::Wait(until) => now = until,
                Step::Failed(Failure::Unknown(_)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!((20 * SECOND..21 * SECOND).contains(&now), "{now}");
    }
}
