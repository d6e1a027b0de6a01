//! The judge of sequences of operations with crashes: the simulated world, its model of the truth
//! and its checker; the fuzzer chooses every step.
//!
//! Not here: what a step does (`tests/src/world.rs`), which words mean which (`tests/src/ops.rs`).

use sapwood_tests::script::Script;
use sapwood_tests::world::{Weather, World};

/// Sessions that one input lives at most.
const SESSIONS_MAX: usize = 5;

/// Steps of one input at most.
const STEPS_MAX: usize = 160;

/// A byte of weather, eight of seed, then words of two bytes: a step each, or the end of a session.
pub fn operations(data: &[u8]) -> bool {
    let Some((head, rest)) = data.split_at_checked(9) else { return false };
    let weather = Weather { rough: head[0] & 1 != 0, failing: head[0] & 2 != 0 };
    let seed = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
    let mut sessions = vec![Vec::new()];
    for word in rest.chunks_exact(2).take(STEPS_MAX) {
        match word {
            [0xFF, _] if sessions.len() == SESSIONS_MAX => break,
            [0xFF, _] => sessions.push(vec![u16::from(word[1])]),
            _ => {
                let word = u16::from_le_bytes([word[0], word[1]]);
                sessions.last_mut().expect("there is one").push(word);
            }
        }
    }
    let count = sessions.len() as u64;
    let mut world = World::scripted(seed, weather, &Script::fed(sessions));
    if let Err(what) = world.live(count) {
        panic!("{what}\n{}", world.told().1.join("\n"));
    }
    world.summary().cycles > 0
}
