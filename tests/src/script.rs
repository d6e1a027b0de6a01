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
pub struct Script {
    kept: BTreeMap<u64, BTreeSet<u64>>,
    /// What decides instead of the seed: for each session a word of its own, then one for each
    /// step.
    fed: Option<Vec<Vec<u16>>>,
}

impl Script {
    /// A life in which every choice comes from a word, that others make up: the first of a session
    /// is its own, the others are its steps.
    #[must_use]
    pub fn fed(sessions: Vec<Vec<u16>>) -> Self {
        Self { fed: Some(sessions), ..Self::default() }
    }

    /// The choices of a session, or of a step in it.
    pub(crate) fn chance(&self, seed: u64, session: u64, step: Option<u64>) -> Rng {
        let Some(sessions) = &self.fed else { return chance(seed, session, step) };
        let word = Self::word(sessions, session, step.map_or(0, |step| step + 1));
        let mut rng = Rng::new(u64::from(word.unwrap_or_default()));
        Rng::new(rng.next_u64())
    }

    fn word(sessions: &[Vec<u16>], session: u64, at: u64) -> Option<u16> {
        sessions.get(session as usize)?.get(at as usize).copied()
    }

    /// Whether the session is lived; an empty script keeps all.
    pub(crate) fn has_session(&self, session: u64) -> bool {
        self.kept.is_empty() || self.kept.contains_key(&session)
    }

    /// Whether the step is.
    pub(crate) fn has(&self, session: u64, step: u64) -> bool {
        if let Some(sessions) = &self.fed {
            return Self::word(sessions, session, step + 1).is_some();
        }
        let kept = |steps: &BTreeSet<u64>| steps.contains(&step);
        self.kept.is_empty() || self.kept.get(&session).is_some_and(kept)
    }

    pub(crate) fn note_session(&mut self, session: u64) {
        self.kept.entry(session).or_default();
    }

    pub(crate) fn note(&mut self, session: u64, step: u64) {
        self.kept.entry(session).or_default().insert(step);
    }

    /// Everything that can be left out, later things last: sessions (`None`), then single steps.
    #[must_use]
    pub fn parts(&self) -> Vec<(u64, Option<u64>)> {
        let steps = self
            .kept
            .iter()
            .flat_map(|(session, steps)| steps.iter().map(move |step| (*session, Some(*step))));
        self.kept.keys().map(|session| (*session, None)).chain(steps).collect()
    }

    /// Steps and sessions.
    #[must_use]
    pub fn events(&self) -> usize {
        self.kept.len() + self.kept.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Without these.
    #[must_use]
    pub fn without(&self, parts: &[(u64, Option<u64>)]) -> Self {
        let mut less = self.clone();
        for (session, step) in parts {
            match step {
                None => drop(less.kept.remove(session)),
                Some(step) => {
                    less.kept.get_mut(session).map(|steps| steps.remove(step));
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
        for (at, (session, steps)) in self.kept.iter().enumerate() {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let between = if at == 0 { "" } else { "/" };
            write!(f, "{between}{session}:{}", steps.join(","))?;
        }
        Ok(())
    }
}
