//! Keeping a directory that was taken, and giving it back.
//!
//! A machine like [`claim`](crate::claim): no time, threads or network of its own.
//!
//! Invariants:
//! - The lease gets longer only by a renewal that is known to stand, reckoned from *before* it was
//!   asked for, less the margin.
//! - Each put is on the condition that the key is as our last put left it: once somebody else has
//!   the key, nothing of ours can stand, however late it comes.
//! - Lost is lost: a record of somebody else, no record, or a lease that ran out ends the tenure.
//!
//! Crash story: the answer to a renewal is lost, and etcd is asked again. 1. The record is ours and
//! moved on: one of the renewals stands, and the lease counts from the first that had no answer. 2.
//! It has not moved: none stands yet, and the next goes on the same condition. 3. It is another's:
//! lost.
//!
//! Not here: who looks at the lease (the shards, by the engine's `Lease`).

use crate::record::Record;
use crate::terms::Terms;
use crate::transport::{Answer, Ask, Failure, Revision};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this, then [`answer`](Tenure::answer).
    Ask(Ask),
    /// Nothing before this moment of the clock that counts suspend, in nanoseconds.
    Wait(u64),
    /// It was given back: nobody need wait for us.
    Released,
    /// It is over, and why.
    Lost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between renewals.
    Between,
    /// A put is asked for.
    Put {
        asked_ns: u64,
    },
    /// Nobody knows what became of a put.
    Look,
    Rest {
        until_ns: u64,
    },
}

/// A directory that is ours.
#[derive(Debug)]
pub struct Tenure {
    terms: Terms,
    /// As it stands in etcd, as far as we know.
    record: Record,
    /// The revision that our last known put gave the key.
    revision: Revision,
    until_ns: u64,
    due_ns: u64,
    /// Before the first put was asked for whose fate nobody knows.
    unknown: Option<u64>,
    /// Why the last question had no answer.
    trouble: Option<Failure>,
    releasing: bool,
    over: Option<Step>,
    at: At,
}

impl Tenure {
    pub(crate) fn new(terms: Terms, record: Record, revision: Revision, asked_ns: u64) -> Self {
        let (until_ns, due_ns) = (terms.until(asked_ns), terms.due(asked_ns));
        let (unknown, trouble, over) = (None, None, None);
        let (releasing, at) = (false, At::Between);
        Self { terms, record, revision, until_ns, due_ns, unknown, trouble, releasing, over, at }
    }

    /// Our term.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.record.term
    }

    /// Until when we may act, in nanoseconds of the clock that counts suspend.
    #[must_use]
    pub fn until_ns(&self) -> u64 {
        self.until_ns
    }

    /// From here on it is given back, not renewed: to be called after the last write has landed.
    pub fn release(&mut self) {
        self.releasing = true;
    }

    /// What to do at this moment.
    pub fn next(&mut self, now_ns: u64) -> Step {
        if self.over.is_none() && now_ns >= self.until_ns {
            let why = match &self.trouble {
                Some(trouble) => format!("it could not be renewed in time ({trouble})"),
                None => "it was not renewed in time: this process did not get to it".to_owned(),
            };
            self.over = Some(Step::Lost(why));
        }
        if let Some(over) = &self.over {
            return over.clone();
        }
        if let At::Rest { until_ns } = self.at {
            if now_ns < until_ns {
                return Step::Wait(until_ns.min(self.until_ns));
            }
            self.at = At::Look;
        }
        match self.at {
            At::Between if !self.releasing && now_ns < self.due_ns => Step::Wait(self.due_ns),
            At::Between | At::Put { .. } => {
                self.at = At::Put { asked_ns: now_ns };
                let Record { renewal, .. } = self.record;
                let (renewal, released) = (renewal.saturating_add(1), self.releasing);
                let record = Record { renewal, released, ..self.record.clone() };
                Step::Ask(Ask::Put { revision: self.revision, value: record.encode() })
            }
            At::Look | At::Rest { .. } => Step::Ask(Ask::Get),
        }
    }

    /// What came of the question, at this moment.
    pub fn answer(&mut self, now_ns: u64, answer: Result<Answer, Failure>) {
        match answer {
            Err(failure) => {
                if let At::Put { asked_ns } = self.at {
                    self.unknown.get_or_insert(asked_ns);
                }
                self.trouble = Some(failure);
                self.at = At::Rest { until_ns: now_ns.saturating_add(self.terms.look_ns()) };
            }
            Ok(answer) => {
                self.trouble = None;
                self.answered(answer);
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        match (answer, self.at) {
            (Answer::Put(revision), At::Put { asked_ns }) => {
                let released = self.releasing;
                let renewal = self.record.renewal.saturating_add(1);
                let record = Record { renewal, released, ..self.record.clone() };
                self.stands(revision, record, asked_ns);
            }
            // Another put of ours stands, or somebody else's.
            (Answer::Differs, At::Put { .. }) => self.at = At::Look,
            (Answer::Found(found), At::Look) => {
                let found = found.map(|(revision, value)| (revision, Record::parse(&value)));
                match found {
                    Some((revision, Ok(record))) if record.holder == self.record.holder => {
                        if revision != self.revision {
                            let asked_ns = self.unknown.unwrap_or(0);
                            self.stands(revision, record, asked_ns);
                        }
                        self.at = At::Between;
                    }
                    Some((_, Ok(Record { term, node, .. }))) => {
                        let who = format!("{} (pid {}) has it, term {term}", node.host, node.pid);
                        self.over = Some(Step::Lost(who));
                    }
                    Some((_, Err(flaw))) => {
                        self.over = Some(Step::Lost(format!("its key holds {flaw}")));
                    }
                    None => self.over = Some(Step::Lost("its key was removed".to_owned())),
                }
            }
            _ => self.at = At::Look,
        }
    }

    /// A put of ours stands that was asked for then, or later: none before it can any more.
    fn stands(&mut self, revision: Revision, record: Record, asked_ns: u64) {
        if revision <= self.revision {
            self.over = Some(Step::Lost("etcd was set back to an older state".to_owned()));
            return;
        }
        (self.revision, self.unknown, self.at) = (revision, None, At::Between);
        if record.released {
            self.over = Some(Step::Released);
        }
        self.record = record;
        self.until_ns = self.until_ns.max(self.terms.until(asked_ns));
        self.due_ns = self.due_ns.max(self.terms.due(asked_ns));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::Node;

    const SECOND: u64 = 1_000_000_000;

    fn ours() -> Record {
        let (ttl, node) = (Duration::from_secs(10), Node::default());
        Record { term: 7, holder: 1, renewal: 0, ttl, released: false, node }
    }

    fn tenure() -> Tenure {
        Tenure::new(Terms::of(Duration::from_secs(10)).unwrap(), ours(), 5, 0)
    }

    fn puts(tenure: &mut Tenure, now: u64) -> (Revision, Record) {
        match tenure.next(now) {
            Step::Ask(Ask::Put { revision, value }) => (revision, Record::parse(&value).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn lost(tenure: &mut Tenure, now: u64) -> String {
        match tenure.next(now) {
            Step::Lost(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn no_answer() -> Result<Answer, Failure> {
        Err(Failure::Unknown("no route".into()))
    }

    #[test]
    fn it_is_renewed_in_time_from_before_it_was_asked() {
        let mut tenure = tenure();
        assert_eq!(tenure.until_ns(), 9 * SECOND);
        let Step::Wait(due) = tenure.next(0) else { panic!() };
        assert!(due < 4 * SECOND);
        let (revision, record) = puts(&mut tenure, due);
        assert_eq!((revision, record.renewal, record.term), (5, 1, 7));
        tenure.answer(due + SECOND, Ok(Answer::Put(8)));
        assert_eq!(tenure.until_ns(), due + 9 * SECOND);
        assert_eq!(tenure.next(due + SECOND), Step::Wait(2 * due));
        assert_eq!(puts(&mut tenure, 2 * due).0, 8, "on what the last left");
    }

    #[test]
    fn without_an_answer_it_ends_in_time_and_says_why() {
        let mut tenure = tenure();
        let mut now = 4 * SECOND;
        let why = loop {
            match tenure.next(now) {
                Step::Ask(_) => tenure.answer(now, no_answer()),
                Step::Wait(until) => now = until,
                Step::Lost(why) => break why,
                Step::Released => panic!(),
            }
        };
        assert_eq!(now, 9 * SECOND);
        assert!(why.contains("no route"), "{why}");
        // Lost is lost, whatever comes.
        tenure.answer(now, Ok(Answer::Put(9)));
        assert_eq!(lost(&mut tenure, now), why);
    }

    #[test]
    fn a_lost_answer_is_read_back() {
        let mut tenure = tenure();
        let (_, first) = puts(&mut tenure, 4 * SECOND);
        tenure.answer(5 * SECOND, no_answer());
        assert_eq!(tenure.next(6 * SECOND), Step::Ask(Ask::Get));
        // Not yet: it is put once more.
        let still = Answer::Found(Some((5, ours().encode())));
        tenure.answer(6 * SECOND, Ok(still));
        assert_eq!(puts(&mut tenure, 7 * SECOND).0, 5);
        tenure.answer(7 * SECOND, Ok(Answer::Differs));
        assert_eq!(tenure.next(8 * SECOND), Step::Ask(Ask::Get));
        tenure.answer(8 * SECOND, Ok(Answer::Found(Some((6, first.encode())))));
        assert_eq!(tenure.until_ns(), 13 * SECOND, "from the first that had no answer");
    }

    #[test]
    fn another_owner_ends_it() {
        let mut tenure = tenure();
        puts(&mut tenure, 4 * SECOND);
        tenure.answer(5 * SECOND, Ok(Answer::Differs));
        assert_eq!(tenure.next(5 * SECOND), Step::Ask(Ask::Get));
        let node = Node { host: "db-2".into(), pid: 9, address: String::new() };
        let other = Record { term: 8, holder: 2, node, ..ours() };
        tenure.answer(5 * SECOND, Ok(Answer::Found(Some((9, other.encode())))));
        assert!(lost(&mut tenure, 5 * SECOND).contains("db-2 (pid 9) has it, term 8"));
    }

    #[test]
    fn it_is_given_back_once_even_with_a_renewal_under_way() {
        let mut tenure = tenure();
        let (_, renewal) = puts(&mut tenure, 4 * SECOND);
        tenure.answer(4 * SECOND, no_answer());
        tenure.release();
        assert_eq!(tenure.next(5 * SECOND), Step::Ask(Ask::Get));
        tenure.answer(5 * SECOND, Ok(Answer::Found(Some((6, renewal.encode())))));
        let (revision, record) = puts(&mut tenure, 5 * SECOND);
        assert!(record.released && revision == 6);
        tenure.answer(5 * SECOND, no_answer());
        assert_eq!(tenure.next(6 * SECOND), Step::Ask(Ask::Get));
        tenure.answer(6 * SECOND, Ok(Answer::Found(Some((7, record.encode())))));
        assert_eq!(tenure.next(6 * SECOND), Step::Released);
    }
}
