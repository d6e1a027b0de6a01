//! What rolls, collection and idleness may cost, and how that came out.
//!
//! Invariants: a row that did not do what it is about, or was not run, gives no verdict; a ratio is
//! the median of ratios taken round by round.
//!
//! Not here: measuring (`row`, `idle`).

use serde::Serialize;

use super::idle::Idle;
use super::row::{Beside, Running};
use crate::report::{Verdict, number};
use crate::sample::{Metric, over_rounds, ratio_over_rounds};

/// Rolls that a round of the rolling rows has to have.
const ROLLS_MIN: f64 = 10.0;
/// p99.9 with them, to p99.9 without; or no more than the worst of the rounds without.
const ROLLS_RATIO_MAX: f64 = 1.1;
/// p99.9 with collection or relocation at full speed, to p99.9 without.
const COLLECTION_RATIO_MAX: f64 = 1.2;
/// Of the segments that roll in a round, so many have to be relocated where the row is about that.
const RELOCATED_SHARE_MIN: f64 = 0.5;
/// Per cent of a core that an idle engine may take.
const IDLE_PERCENT_MAX: f64 = 1.0;

/// One claim, judged.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    claim: String,
    measured: String,
    goal: String,
    pub(super) verdict: Verdict,
}

impl Finding {
    pub(super) fn line(&self) -> String {
        let Finding { claim, measured, goal, verdict } = self;
        format!("{claim}: {measured} (goal {goal}): {}", verdict.label())
    }

    fn new(claim: &str, measured: String, goal: String, met: bool) -> Finding {
        let verdict = if met { Verdict::Met } else { Verdict::Missed };
        Finding { claim: claim.to_owned(), measured, goal, verdict }
    }
}

/// All claims that the rows have numbers for.
pub(super) fn judge(rows: &[Running], idle: &[Idle]) -> Vec<Finding> {
    let row = |beside| rows.iter().find(|row: &&Running| row.beside == beside);
    let mut findings = Vec::new();
    if let Some(still) = row(Beside::Nothing) {
        let beside = [Beside::Rolls, Beside::Collection, Beside::Relocation];
        findings.extend(beside.into_iter().filter_map(row).map(|row| latency(row, still)));
    }
    findings.extend([Beside::Rolls, Beside::Collection].into_iter().filter_map(row).map(steady));
    findings.extend(idle.iter().flat_map(|idle| [cpu(idle), writes(idle)]));
    findings
}

fn latency(row: &Running, still: &Running) -> Finding {
    let claim = format!("p99.9, {} / {}", row.name(), still.name());
    let bound = if row.beside == Beside::Rolls { ROLLS_RATIO_MAX } else { COLLECTION_RATIO_MAX };
    let goal = match row.beside {
        Beside::Rolls => format!("<= {bound}, or within the spread of the rounds without"),
        _ => format!("<= {bound}"),
    };
    let ratio = ratio_over_rounds(&row.samples, &still.samples, Metric::P999);
    let ours = over_rounds(&row.samples, Metric::P999);
    let theirs = over_rounds(&still.samples, Metric::P999);
    let (Some(ratio), Some(ours), Some(theirs)) = (ratio, ours, theirs) else {
        let verdict = Verdict::NotMeasured;
        return Finding { claim, measured: "no number".to_owned(), goal, verdict };
    };
    let measured = format!(
        "{} ({}-{}); {} us to {} us ({}-{})",
        number(ratio.median),
        number(ratio.min),
        number(ratio.max),
        number(ours.median),
        number(theirs.median),
        number(theirs.min),
        number(theirs.max)
    );
    let within = row.beside == Beside::Rolls && ours.median <= theirs.max;
    let finding = Finding::new(&claim, measured, goal, ratio.median <= bound || within);
    match missing(row) {
        Some(why) => {
            let measured = format!("{}; {why}", finding.measured);
            Finding { measured, verdict: Verdict::NotMeasured, ..finding }
        }
        None => finding,
    }
}

/// Why the row is not about what it should be.
fn missing(row: &Running) -> Option<String> {
    let rolls = row.over_rounds(|deeds| deeds.rolls)?;
    if rolls.min < ROLLS_MIN {
        return Some(format!("only {} rolls in a round, {ROLLS_MIN} are wanted", rolls.min));
    }
    let moved = row.over_rounds(|deeds| deeds.relocated)?;
    let stays = row.beside == Beside::Relocation && moved.min < rolls.min * RELOCATED_SHARE_MIN;
    stays.then(|| {
        format!("only {} segments were relocated in a round of {} rolls", moved.min, rolls.min)
    })
}

fn steady(row: &Running) -> Finding {
    let most = |of: fn(&super::row::Deeds) -> u64| row.deeds.iter().map(of).max().unwrap_or(0);
    let (created, filled) = (most(|deeds| deeds.created), most(|deeds| deeds.filled_bytes));
    let claim = format!("steady state, {}: files created, bytes filled in a round", row.name());
    let measured = format!("at most {created}, {filled}");
    let finding = Finding::new(&claim, measured, "0, 0".to_owned(), created + filled == 0);
    match missing(row) {
        Some(_) => Finding { verdict: Verdict::NotMeasured, ..finding },
        None => finding,
    }
}

fn cpu(idle: &Idle) -> Finding {
    let claim = format!("CPU of an idle engine, {}", idle.name);
    let measured = format!("{:.3} %", idle.cpu_percent);
    let goal = format!("< {IDLE_PERCENT_MAX} %");
    Finding::new(&claim, measured, goal, idle.cpu_percent < IDLE_PERCENT_MAX)
}

fn writes(idle: &Idle) -> Finding {
    let claim = format!("writes of an idle engine after its mark, {}", idle.name);
    let bytes = idle.written_bytes.unwrap_or(0);
    let measured = format!("{} writes, {bytes} bytes", idle.engine_writes);
    let finding = Finding::new(&claim, measured, "0".to_owned(), bytes + idle.engine_writes == 0);
    match idle.written_bytes {
        Some(_) => finding,
        None => Finding { verdict: Verdict::NotMeasured, ..finding },
    }
}
