//! Every model, and the races on purpose that each must see.

use super::{Race, appends, ends, memory, whole};

/// A model as its runner knows it.
pub struct Model {
    /// What it is called, for who wants this one alone.
    pub name: &'static str,
    /// One run of it.
    pub run: fn(),
    /// What it must catch.
    pub sees: &'static [Race],
}

/// All of them.
pub const MODELS: &[Model] = &[
    Model { name: "threads_wait", run: appends::threads_wait, sees: &[Race::BellBeforeFilled] },
    Model {
        name: "tasks_await",
        run: appends::tasks_await,
        sees: &[Race::RegisteredTooLate, Race::AckAfterWake, Race::BellBeforeFilled],
    },
    Model { name: "line_for_room", run: appends::line_for_room, sees: &[Race::RoomNotTold] },
    Model {
        name: "last_room",
        run: appends::last_room,
        sees: &[Race::RoomNotTold, Race::WakerTooLate],
    },
    Model { name: "walks_away", run: appends::walks_away, sees: &[Race::PlaceNotPassedOn] },
    Model { name: "unpinned", run: appends::unpinned, sees: &[Race::UnpinSilent] },
    Model { name: "fence", run: appends::fence, sees: &[Race::BellBeforeFilled] },
    Model { name: "cut", run: appends::cut, sees: &[Race::CutEndSilent] },
    Model {
        name: "shard_ends",
        run: ends::shard_ends,
        sees: &[Race::FailedAfterWake, Race::LineNotWoken],
    },
    Model {
        name: "followers",
        run: ends::followers,
        sees: &[Race::EndAfterWake, Race::LookedTooEarly],
    },
    Model { name: "answers", run: ends::answers, sees: &[Race::AnswerAfterWake] },
    Model { name: "requests", run: ends::requests, sees: &[Race::EndedTooLate] },
    Model { name: "engine_closes", run: whole::engine_closes, sees: &[Race::ParkedNotTold] },
    Model { name: "pinned", run: memory::pinned, sees: &[Race::PinIgnored] },
];
