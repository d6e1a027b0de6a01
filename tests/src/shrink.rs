//! Makes a life that breaks the contract shorter, as long as it still breaks it.
//!
//! Invariants: bounded by a number of lives; what is left fails when it is lived again.
//!
//! Not here: what can be left out (`script`).

use crate::model::Verdict;
use crate::script::Script;

/// Lives that are tried.
const TRIES_MAX: usize = 600;

/// A life that was made shorter.
#[derive(Clone, Debug)]
pub struct Short {
    /// What is left of it.
    pub script: Script,
    /// How it ends.
    pub what: String,
    /// A line for each thing that happens.
    pub story: Vec<String>,
}

/// What a life came to: the verdict, what was lived, its story.
pub type Lived = (Verdict, Script, Vec<String>);

/// Shortens the life that `live` lives by the script it is given. `None`: it does not fail.
pub fn shrink(mut live: impl FnMut(&Script) -> Lived) -> Option<Short> {
    let mut best = failed(live(&Script::default()))?;
    let mut tries = 1;
    // Large pieces first: whole sessions, then ever smaller runs of steps.
    let mut size = best.script.events();
    while size > 0 && tries < TRIES_MAX {
        let mut at = 0;
        let mut parts = best.script.parts();
        while at < parts.len() && tries < TRIES_MAX {
            // From the end: what comes later depends on what came before.
            let to = parts.len() - at;
            let from = to.saturating_sub(size);
            let less = best.script.without(&parts[from..to]);
            tries += 1;
            match (less.events() > 0).then(|| failed(live(&less))).flatten() {
                Some(shorter) if shorter.script.events() < best.script.events() => {
                    best = shorter;
                    parts = best.script.parts();
                }
                _ => at += size,
            }
        }
        size /= 2;
    }
    Some(best)
}

fn failed((verdict, script, story): Lived) -> Option<Short> {
    verdict.err().map(|what| Short { script, what, story })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A life that fails once step 7 of session 2 and step 3 of session 5 were lived.
    fn life(script: &Script) -> Lived {
        let (mut lived, mut story) = (Script::default(), Vec::new());
        for session in (0..9).filter(|session| script.has_session(*session)) {
            lived.note_session(session);
            for step in (0..40).filter(|step| script.has(session, *step)) {
                lived.note(session, step);
                story.push(format!("{session}:{step}"));
                let both = story.iter().filter(|s| ["2:7", "5:3"].contains(&&***s)).count() == 2;
                if both {
                    return (Err("both".into()), lived, story);
                }
            }
        }
        (Ok(()), lived, story)
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let Some(short) = shrink(life) else { panic!("it fails") };
        assert_eq!(short.script.to_string(), "2:7/5:3");
        assert_eq!(short.story, ["2:7", "5:3"]);
        assert_eq!(Script::parse("2:7/5:3"), Ok(short.script));
        assert!(shrink(|script| (Ok(()), script.clone(), Vec::new())).is_none());
    }
}
