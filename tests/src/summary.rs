//! What simulated lives came to, in numbers that can be added up.
//!
//! Not here: counting (`world`).

use std::fmt;
use std::ops::AddAssign;

/// What a life, or many, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions: each is opened by a recovery, checked, lived, ended.
    pub cycles: u64,
    /// Steps in them.
    pub steps: u64,
    /// Of the sessions, those of at least 20 steps on at least 3 logs that a power cut ended with
    /// writes in flight that no sync covered.
    pub full: u64,
    /// Those in which a full segment gave way to the next.
    pub rolled: u64,
    /// Those in which a collection freed or moved a segment.
    pub collected: u64,
    /// Those in which a log was cut.
    pub cut_logs: u64,
    /// Those in which a writer was fenced.
    pub fenced: u64,
    /// Those before which the power failed in a recovery.
    pub reopenings_cut: u64,
    /// Power cuts, those in recoveries included.
    pub cuts: u64,
    /// Power cuts in recoveries.
    pub recovery_cuts: u64,
    /// Sessions in which a shard halted.
    pub halts: u64,
    /// Of them, those that went on with the shard opened again in place.
    pub reopened: u64,
    /// Segments that moved into another file.
    pub relocations: u64,
    /// Segments that were copied into the archive.
    pub tiered: u64,
    /// Backups made, opened and compared.
    pub backups: u64,
    /// Records acked.
    pub acks: u64,
    /// Records that were in flight at a cut and kept.
    pub kept: u64,
    /// Records that were in flight at a cut and taken.
    pub taken: u64,
    /// Stands for everything that happened.
    pub trace: u64,
}

impl Summary {
    /// What shares of its sessions there must be, each of at least a twentieth.
    #[must_use]
    pub fn shares(&self) -> [(&'static str, u64); 5] {
        [
            ("a roll", self.rolled),
            ("collection", self.collected),
            ("a cut of a log", self.cut_logs),
            ("a fence", self.fenced),
            ("a crash in recovery", self.reopenings_cut),
        ]
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.cycles += other.cycles;
        self.steps += other.steps;
        self.full += other.full;
        self.rolled += other.rolled;
        self.collected += other.collected;
        self.cut_logs += other.cut_logs;
        self.fenced += other.fenced;
        self.reopenings_cut += other.reopenings_cut;
        self.cuts += other.cuts;
        self.recovery_cuts += other.recovery_cuts;
        self.halts += other.halts;
        self.reopened += other.reopened;
        self.relocations += other.relocations;
        self.tiered += other.tiered;
        self.backups += other.backups;
        self.acks += other.acks;
        self.kept += other.kept;
        self.taken += other.taken;
        self.trace ^= other.trace;
    }
}

impl fmt::Display for Summary {
    /// Shares in per cent of all sessions, then the sums.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u64| part as f64 * 100.0 / self.cycles.max(1) as f64;
        write!(f, "{} cycles of {} steps; ", self.cycles, self.steps / self.cycles.max(1))?;
        write!(f, "{:.1}% with 20 steps on 3 logs and a crash in flight", percent(self.full))?;
        for (what, part) in self.shares() {
            write!(f, ", {:.1}% with {what}", percent(part))?;
        }
        let Self { cuts, recovery_cuts, halts, reopened, relocations, .. } = self;
        write!(f, "; {cuts} power cuts ({recovery_cuts} in recoveries), {halts} halts ")?;
        write!(f, "({reopened} reopened in place), {relocations} relocations, ")?;
        let Self { tiered, backups, acks, kept, taken, .. } = self;
        write!(f, "{tiered} segments tiered, {backups} backups, {acks} records acked; ")?;
        write!(f, "of those in flight {kept} kept, {taken} taken")
    }
}
