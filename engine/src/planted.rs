//! Bugs on purpose: a suite that does not catch them sees nothing.
//!
//! Invariants: without `--cfg sapwood_planted`, which no feature, profile or dependency can turn
//! on, [`planted`] is a constant `false`, no site is left in the code and no name of a bug in the
//! binary. With it, one bug is chosen for the life of the process: `SAPWOOD_PLANTED=Name`.
//!
//! A site is one line where the code would be wrong like this. Each bug names the point of the
//! contract that it breaks, or the lesson of other systems that it forgets:
//!
//! - contract: 1 acked is durable · 2 one order · 3 no dirty reads · 4 one writer · 5 after a
//!   crash · 6 rot is told · 7 a failure halts · 8 a full disk is a state · 9 trimmed is told ·
//!   10 bounded
//! - lessons: 1 durable before the ack, always · 2 a bad checksum is no end · 3 after a failed
//!   sync the cache lies · 4 a lock does not fence · 5 a simulation sees no broken kernel contract
//!   · 6 unknown is not failed
//!
//! One breaks what FORMAT.md promises besides: padding is zeroed.
//!
//! Not here: who must catch them (`tests/src/bin/planted`), the outcome (`tests/PLANTED.md`).

/// A bug as the runner lists it: its name, what it breaks, its story.
#[cfg(sapwood_planted)]
pub type Described = (&'static str, &'static str, &'static str);

/// Declares the bugs: name, what it breaks, its story.
macro_rules! bugs {
    ($($name:ident: $breaks:literal, $story:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            $(#[doc = $story] $name,)+
        }

        /// All of them, for who runs them.
        #[cfg(sapwood_planted)]
        pub const BUGS: &[Described] = &[$((stringify!($name), $breaks, $story),)+];

        #[cfg(sapwood_planted)]
        const ALL: &[Bug] = &[$(Bug::$name,)+];
    };
}

bugs! {
    AckBeforeDurable: "contract 1", "a batch is durable once it is handed to the disk";
    HoleIgnored: "contract 1, 5", "a batch that landed makes those before it durable";
    BatchNotSynced: "contract 1, lesson 1", "batches are written without the sync flag";
    DeviceSyncSkipped: "contract 1, lesson 5", "on a real disk a durable write is a plain one";
    LinkedSyncLost: "contract 1, lesson 5", "of a write linked to its sync only the write counts";
    EditBeforeDurable: "contract 1", "edits of the manifest are answered once they are queued";
    EpochNotDurable: "contract 2", "a writer is handed out before its epoch is durable";
    CutForgotten: "contract 2", "the epoch that a cut begins says nothing of the cut";
    IdsAgain: "contract 2", "a checkpoint forgets which log ids were given";
    DirtyRead: "contract 3", "readers see a batch once it is handed to the disk";
    UnclaimedShown: "contract 3", "a follower shows whatever batch looks whole";
    FenceForgotten: "contract 4, lesson 4", "writers of older epochs go on appending";
    TailBeforeDurable: "contract 4", "a new writer does not wait for what was staged before";
    LockNotInRing: "contract 4, lesson 4", "the lock ends with the process, not its last write";
    LeaseNotChecked: "contract 4, lesson 4", "who has lost the directory goes on acking";
    AppendToPredecessor: "contract 5, lesson 4", "the segment of an older term is written on";
    SpanInParts: "contract 5", "a part of a span counts as durable";
    TornSpanKept: "contract 5", "recovery keeps the part of a span that the power cut left";
    DirectoryNotSynced: "contract 5", "a segment is named before its name is durable";
    SpareNotSynced: "contract 5", "a segment is named before its zeros are durable";
    SpareBeforeNamed: "contract 5", "a segment is written before the manifest names it";
    SealedTooEarly: "contract 5", "a segment is sealed before its last batch is durable";
    SyncBeforeWrite: "contract 5, lesson 5", "an index is synced while it is still being written";
    ManifestNotSynced: "contract 5", "edits are written without the sync flag";
    SnapshotInPlace: "contract 5", "a snapshot is written over the one in force";
    ClosedForEver: "contract 5", "a clean close is believed by every later open";
    TailsForgotten: "contract 5", "a checkpoint does not bring the tails up to date";
    RetiredUncovered: "contract 5", "a segment retires before a checkpoint has its tails";
    OneSeed: "contract 5", "a recycled segment has the seed of its former life";
    RelocatedNotSynced: "contract 5", "a segment moves before its copy is durable";
    RelocatedAsCommits: "contract 5", "relocated batches look as those of the commit path";
    MoveUnseen: "contract 5", "a reader keeps a place from before its segment moved";
    HeaderNotSynced: "contract 5", "a recycled segment is named before its header is durable";
    LastEditLost: "contract 5", "batches that name a later manifest do not convict it";
    ClaimsIgnored: "contract 6, lesson 2", "the first bad checksum is the end, whoever claims more";
    TornClaimIgnored: "contract 6, lesson 2", "a claim counts only if the body behind it is whole";
    WatermarkOffByOne: "contract 6", "a header claims one batch less than is durable";
    MarkWithoutClaim: "contract 6", "the mark of an idle shard claims nothing";
    RotSkipped: "contract 6, lesson 2", "a reader passes over a record that is damaged";
    DamageForgotten: "contract 6", "what was found damaged, or given up, is in no checkpoint";
    FailedWriteAcked: "contract 7, lesson 3", "a failed write is tried again: it says ok, and lies";
    FailedIsKept: "contract 7, lesson 3", "a reopened shard keeps what failed and can be read";
    ReadIsBelieved: "contract 7, lesson 3", "recovery keeps what it read and does not write again";
    UnknownIsFailed: "contract 7, lesson 6", "what was in flight is told as not appended";
    ShortIsWhole: "contract 7", "a short write is taken for a whole one";
    NoSpaceForEver: "contract 8", "a disk that was full once refuses for good";
    TrimmedNotTold: "contract 9", "who begins to read below the start is not told";
    DivergedNotTold: "contract 9", "who stands beyond a cut is not told";
    HoldIgnored: "contract 10", "collection does not ask who holds a segment";
    CursorPassed: "contract 10", "retention does not wait for durable cursors";
    TieredTooSoon: "contract 10", "segments leave the disk before they are tiered";
    FilesKept: "contract 10", "files of retired segments are never removed or used again";
    QuotaIgnored: "contract 10", "segments are made beyond the quota";
    BudgetIgnored: "contract 10", "one log may take all of the staging memory";
    PaddingLeaks: "format", "behind a batch stand bytes of another one";
}

/// Whether this bug was asked for.
///
/// # Panics
/// When what was asked for is no bug: a run without one would prove nothing.
#[cfg(sapwood_planted)]
pub(crate) fn planted(bug: Bug) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = std::env::var("SAPWOOD_PLANTED").ok().filter(|name| !name.is_empty())?;
        let found = BUGS.iter().zip(ALL).find(|((known, ..), _)| *known == name);
        assert!(found.is_some(), "SAPWOOD_PLANTED={name}: there is no such bug");
        found.map(|(_, bug)| *bug)
    });
    *CHOSEN == Some(bug)
}

/// As it is built for everyone: never.
#[cfg(not(sapwood_planted))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(not(sapwood_planted))]
const _: () = assert!(!planted(Bug::AckBeforeDurable), "nothing is planted");
