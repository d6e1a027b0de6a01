//! The lives that are lived by default: which weather, from which seeds, in which order.
//!
//! Invariant: seeds count up from bases that are older than every bug that is looked for with them;
//! none was chosen because of what it finds.
//!
//! Not here: a life (`world`, `rot`), how many are lived (`tests/sim.rs`, the `planted` program).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::model::Verdict;
use crate::rot::{self, Rotten};
use crate::script::Script;
use crate::shrink::{Short, shrink};
use crate::summary::Summary;
use crate::world::{Weather, World};

/// Sessions of one life.
pub const LIFE: u64 = 12;

/// Lives of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Its test in `tests/sim.rs`.
    pub name: &'static str,
    /// Its first seed.
    pub base: u64,
    /// `None`: bits turn at the end of the life.
    pub weather: Option<Weather>,
}

const fn weather(rough: bool, failing: bool) -> Option<Weather> {
    Some(Weather { rough, failing })
}

/// Power cuts on a disk that is calm otherwise.
pub const POWER_CUTS: Campaign =
    Campaign { name: "sim_power_cuts", base: 0x1000_0000, weather: weather(false, false) };
/// Interruptions, short writes and stalls besides.
pub const ROUGH: Campaign =
    Campaign { name: "sim_rough_disk", base: 0x2000_0000, weather: weather(true, false) };
/// Writes and syncs that fail besides.
pub const FAILING: Campaign =
    Campaign { name: "sim_failing_disk", base: 0x3000_0000, weather: weather(true, true) };
/// Bits that turn.
pub const ROT: Campaign = Campaign { name: "sim_rot", base: 0x4000_0000, weather: None };

/// All of them.
pub const ALL: [Campaign; 4] = [POWER_CUTS, ROUGH, FAILING, ROT];

/// Runs something that may break the contract, or panic: which breaks it as well.
///
/// # Errors
/// What it says, or that it panicked.
pub fn attempt<T>(run: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a panic, see above".into()))
}

impl Campaign {
    /// Lives the life of this seed.
    ///
    /// # Errors
    /// When the engine breaks its contract.
    pub fn one(&self, seed: u64) -> Verdict<Summary> {
        self.scripted(seed, &Script::default()).map_err(|(what, _)| what)
    }

    /// Lives what the script keeps of it.
    ///
    /// # Errors
    /// When the engine breaks its contract: what, and the world in which it did.
    pub fn scripted(&self, seed: u64, script: &Script) -> Result<Summary, (String, Box<World>)> {
        let calm = Weather::default();
        let mut world = World::scripted(seed, self.weather.unwrap_or(calm), script);
        let lived = attempt(|| match self.weather {
            Some(_) => world.live(LIFE),
            None => rot::live_in(&mut world, seed, &mut Rotten::default()),
        });
        match lived {
            Ok(()) => Ok(world.summary()),
            Err(what) => Err((what, Box::new(world))),
        }
    }

    /// Makes a life that fails shorter.
    #[must_use]
    pub fn shrink(&self, seed: u64) -> Option<Short> {
        shrink(|script| match self.scripted(seed, script) {
            Ok(_) => (Ok(()), Script::default(), Vec::new()),
            Err((what, world)) => {
                let (lived, story) = world.told();
                (Err(what), lived.clone(), story.to_vec())
            }
        })
    }

    /// The command that lives this life again.
    #[must_use]
    pub fn again(&self, seed: u64) -> String {
        let name = self.name;
        format!(
            "SAPWOOD_SEED={seed:#x} cargo test -p sapwood-tests --test sim {name} -- --exact \
             --nocapture"
        )
    }
}
