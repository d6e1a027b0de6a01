//! What is different where the directory is on NFS.
//!
//! Invariants: a mount that can lose what was acked is not written, unless the risk was accepted by
//! name; a batch, header and padding included, fits one WRITE, which the server answers when it is
//! stable: no COMMIT follows.
//!
//! Not here: who may write there (`owner`), what a mount is (`io::mountinfo`).

use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::manifest::DirectoryFacts;
use crate::io::Probe;

/// The smallest batch: a smaller wsize costs several round trips a batch.
const BATCH_BYTES_MIN: u32 = 64 << 10;

/// An idle shard waits at least this long for company before it writes its mark.
const MARK_DELAY_MIN: Duration = Duration::from_secs(1);

/// Refuses a mount with risks that nobody has accepted.
pub(super) fn refuse(config: &Config, probe: &Probe) -> Result<()> {
    let unaccepted = probe.risks.iter().find(|risk| !config.accept_risks.contains(risk));
    let Some(risk) = unaccepted else { return Ok(()) };
    let (dir, advice) = (config.dir.display(), risk.advice());
    Err(Error::Invalid(format!("{dir}: {advice} (or accept it by name: --accept-risk {risk})")))
}

/// The largest batch that shards write.
pub(super) fn batch_bytes_max(probe: &Probe, facts: &DirectoryFacts) -> usize {
    let wsize = probe.mount.as_ref().and_then(|mount| mount.wsize());
    let fits = wsize.map_or(u32::MAX, |bytes| bytes / facts.unit.max(1) * facts.unit);
    facts.batch_bytes_max.min(fits.max(BATCH_BYTES_MIN)) as usize
}

/// How long an idle shard waits before its mark.
pub(super) fn mark_delay(probe: &Probe, asked: Duration) -> Duration {
    if probe.nfs { asked.max(MARK_DELAY_MIN) } else { asked }
}
