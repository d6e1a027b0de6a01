//! What of a life is lived: which sessions, and which steps of each. All of it, or what is left of
//! a life that was made shorter.
//!
//! Invariant: chance is drawn anew for each session and each step, from the seed and their numbers,
//! so that what is kept of a life decides the same whatever is left out. (Engine and disk, which
//! see another life, may do something else.)
//!
//! Not here: making a life shorter (`shrink`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sapwood::io::sim::Rng;

use crate::model::Verdict;

/// The choices of a session, or of a step in it.
pub(crate) fn chance(seed: u64, session: u64, step: Option<u64>) -> Rng {
    let session = Rng::new(seed).next_u64() ^ (session + 1) << 32;
    let mut rng = Rng::new(session ^ step.map_or(0, |step| step + 1));
    Rng::new(rng.next_u64())
}

/// See the module. As text: `3:0,4,17/5:` keeps three steps of session 3, and session 5 without
/// any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(BTreeMap<u64, BTreeSet<u64>>);

impl Script {
    /// Whether the session is lived; an empty script keeps all.
    pub(crate) fn has_session(&self, session: u64) -> bool {
        self.0.is_empty() || self.0.contains_key(&session)
    }

    /// Whether the step is.
    pub(crate) fn has(&self, session: u64, step: u64) -> bool {
        self.0.is_empty() || self.0.get(&session).is_some_and(|steps| steps.contains(&step))
    }

    pub(crate) fn note_session(&mut self, session: u64) {
        self.0.entry(session).or_default();
    }

    pub(crate) fn note(&mut self, session: u64, step: u64) {
        self.0.entry(session).or_default().insert(step);
    }

    /// Everything that can be left out, later things last: sessions (`None`), then single steps.
    #[must_use]
    pub fn parts(&self) -> Vec<(u64, Option<u64>)> {
        let steps = self
            .0
            .iter()
            .flat_map(|(session, steps)| steps.iter().map(move |step| (*session, Some(*step))));
        self.0.keys().map(|session| (*session, None)).chain(steps).collect()
    }

    /// Steps and sessions.
    #[must_use]
    pub fn events(&self) -> usize {
        self.0.len() + self.0.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Without these.
    #[must_use]
    pub fn without(&self, parts: &[(u64, Option<u64>)]) -> Self {
        let mut less = self.clone();
        for (session, step) in parts {
            match step {
                None => drop(less.0.remove(session)),
                Some(step) => {
                    less.0.get_mut(session).map(|steps| steps.remove(step));
                }
            }
        }
        less
    }

    /// From its text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Verdict<Self> {
        let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
        let mut script = Self::default();
        for session in text.split('/') {
            let (session, steps) = session.split_once(':').ok_or("a session is NUMBER:STEPS")?;
            let session = number(session)?;
            script.note_session(session);
            for step in steps.split(',').filter(|step| !step.is_empty()) {
                script.note(session, number(step)?);
            }
        }
        Ok(script)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (session, steps)) in self.0.iter().enumerate() {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let between = if at == 0 { "" } else { "/" };
            write!(f, "{between}{session}:{}", steps.join(","))?;
        }
        Ok(())
    }
}
