//! Findings about what keeps space from coming back: holds, cursors, a quota that is nearly full.
//!
//! Not here: the rest of the findings (the module above), what pins each segment (`gc`).

use super::{HealthKind, NAMES_MAX, Severity, Ward};
use crate::inner::Inner;
use crate::shard::Port;

/// A quota of which this part is used is a finding, in percent.
const QUOTA_PERCENT: u64 = 90;

impl Ward {
    /// Holds of a shard: those that count are notes, a broken one should be looked at.
    pub(super) fn holds(&mut self, port: &Port) {
        let (holds, bytes) = port.view.holds.list();
        let most = port.view.holds.bytes_max();
        for hold in holds {
            let at = (port.view.shard, hold.taken_ns.max(1));
            let name = &hold.name;
            if hold.broken {
                let what = format!("the hold {name:?} passed its limit and was broken");
                let advice = "whoever took it begins again; raise hold_bytes_max or hold_age_max";
                self.of_shard(HealthKind::Hold, Severity::Warning, at, what, advice);
            } else {
                let what =
                    format!("the hold {name:?} keeps segments; holds alone keep {bytes} bytes");
                let advice = format!("none now: at {most} bytes the oldest hold is broken");
                self.of_shard(HealthKind::Hold, Severity::Note, at, what, advice);
            }
        }
    }

    /// Logs whose retention waits for a cursor.
    pub(super) fn cursors(&mut self, inner: &Inner, port: &Port) {
        let mut waiting = Vec::new();
        {
            let view = port.view.lock();
            for (id, wanted) in &view.wanted {
                let lowest = view.cursors.of(*id).iter().min_by_key(|(_, lsn)| *lsn);
                let Some((name, lsn)) = lowest.filter(|(_, lsn)| lsn < wanted) else { continue };
                waiting.push((wanted.0 - lsn.0, *id, name.clone()));
            }
        }
        if waiting.is_empty() {
            return;
        }
        waiting.sort_unstable_by_key(|(records, _, _)| std::cmp::Reverse(*records));
        let catalog = inner.catalog.read();
        let text = waiting.iter().take(NAMES_MAX).filter_map(|(records, id, name)| {
            let log = &catalog.get(*id)?.name;
            Some(format!("{name:?} of log {log:?} ({records} records)"))
        });
        let mut text: Vec<String> = text.collect();
        drop(catalog);
        if waiting.len() > text.len() {
            text.push(format!("{} more", waiting.len() - text.len()));
        }
        let what = format!("cursors keep what retention would drop: {}", text.join(", "));
        let advice = "see to their consumers, or delete the cursors of those that are gone";
        let finding = self.find(HealthKind::CursorBehind, Severity::Warning, what, advice);
        finding.shard = Some(port.view.shard);
        finding.logs = waiting.into_iter().map(|(_, id, _)| id).collect();
    }

    /// The quota, of all shards.
    pub(super) fn quota(&mut self, port: &Port) {
        let Some((used, quota)) = port.usage.of_quota() else { return };
        if used / 100 * 100 < quota / 100 * QUOTA_PERCENT {
            return;
        }
        let what = format!("the directory's files take {used} bytes of a quota of {quota}");
        let advice = "truncate logs, shorten their retention, or raise quota_bytes: beyond it \
                      appends are refused; `sapwood gc` says what pins the space";
        self.find(HealthKind::QuotaNearlyFull, Severity::Warning, what, advice);
    }
}
