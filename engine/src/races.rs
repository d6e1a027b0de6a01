//! Races on purpose: a model that does not see them sees nothing.
//!
//! Invariants: outside of the package `models` [`raced`] is a constant `false`, and no site is left
//! in the code. There one is chosen at a time, for the thread that runs the model.
//!
//! A site is one line where the order between two threads would be wrong like this. They are apart
//! from `planted` because no run on a machine can be expected to meet them.
//!
//! Not here: who must catch them (`models/src/list.rs`).

/// Declares the races: name, story.
macro_rules! races {
    ($($name:ident: $story:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, unreachable_pub)]
        pub enum Race {
            $(#[doc = $story] $name,)+
        }

        /// All of them, with their stories.
        #[cfg(sapwood_models)]
        pub const RACES: &[(Race, &str)] = &[$((Race::$name, $story),)+];
    };
}

races! {
    LookedTooEarly: "a sleeper looks before it reads the word, not after";
    RegisteredTooLate: "a ticket leaves its waker and does not look once more";
    AckAfterWake: "the callers of a batch are woken before it is acked";
    FailedAfterWake: "the words are woken before the failure is there to be seen";
    BellBeforeFilled: "a caller rings the bell before its slot is filled";
    ParkedNotTold: "a shard declares that it parks only once it has looked for the last time";
    PlaceNotPassedOn: "who leaves the head of the line for room passes the wake on to nobody";
    LineNotWoken: "a shard that ends leaves those who wait for room asleep";
    RoomNotTold: "an ack wakes nobody who waits for room";
    WakerTooLate: "who waits for room leaves its waker after it has tried, not before";
    AnswerAfterWake: "who asked is woken before the answer is there";
    EndedTooLate: "a shard that ends refuses what was asked, and takes more";
    EndAfterWake: "readers are woken before the end of the view is there to be seen";
    PinIgnored: "memory is staged over while a reader still holds it";
    UnpinSilent: "a reader that lets memory go wakes nobody who waits for it";
    CutEndSilent: "the end of a cut wakes nobody who waits behind it";
}

#[cfg(sapwood_models)]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Race>> = const { std::cell::Cell::new(None) };
}

/// Chooses one for this thread, or none.
#[cfg(sapwood_models)]
pub fn choose(race: Option<Race>) {
    CHOSEN.set(race);
}

/// Whether this race was asked for.
#[cfg(sapwood_models)]
pub(crate) fn raced(race: Race) -> bool {
    CHOSEN.get() == Some(race)
}

/// As it is built for everyone: never.
#[cfg(not(sapwood_models))]
#[inline(always)]
pub(crate) const fn raced(_: Race) -> bool {
    false
}
