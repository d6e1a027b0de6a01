//! What the engine publishes for a tier: its sealed segments, and which of them have a whole copy.
//!
//! Invariants: a segment is listed only once its seal is durable and its index a file, so its files
//! never change; what is kept of it may move into other files, of which an earlier copy is a copy,
//! too. `tiered` is durable before it is shown, and never taken back.
//!
//! Facts of logs are those of durable frames of the manifest, as a snapshot tells them.
//!
//! Not here: the copy itself (a crate of its own makes it), when a tiered segment goes (`gc`).

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::manifest::{Chain, Edit, Frame, LogFacts, SNAPSHOT};
use crate::inner::{change, wait};
use crate::lsn::{LogId, SegmentId, ShardId};
use crate::manifest::Manifest;
use crate::names;
use crate::reply::Reply;
use crate::shard::{Port, Request};
use crate::view::SegmentView;

/// A shard is asked about so many logs at once: it appends nothing meanwhile.
const LOGS_PER_LOOK: usize = 256;

/// A sealed segment, as a tier sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedSegment {
    /// Its shard.
    pub shard: ShardId,
    /// Its id: the newer, the higher.
    pub segment: SegmentId,
    /// The name of its file in the directory.
    pub file: String,
    /// The name of the file of its index.
    pub index: String,
    /// The nonce of its life: its checksums are seeded by it. A file that has another one was
    /// recycled meanwhile: the segment is gone, or lives on in another file.
    pub nonce: u64,
    /// The sequence of its first batch; 0 when it holds none.
    pub first_seq: u64,
    /// The sequence of its last batch.
    pub last_seq: u64,
    /// Bytes from the start of the file to the end of its last batch. What stands behind it means
    /// nothing.
    pub bytes: u64,
    /// Its copy in the tier is whole, durably known.
    pub tiered: bool,
}

impl Engine {
    /// The sealed segments of all shards, oldest first per shard. Cheap enough to be asked for
    /// every second: one look per shard at what is in memory. One that no log keeps records in may
    /// go at any time, tiered or not; a mostly dead one may move into other files, under the same
    /// id, without what nobody can read any more. A [hold](Self::hold) taken before keeps both from
    /// happening.
    #[must_use]
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let mut found = Vec::new();
        for shard in (0..self.facts().shards).map(ShardId) {
            let view = self.inner.view(shard);
            let view = view.lock();
            let whole = |seen: &SegmentView| seen.live.is_none() && seen.owed.is_none();
            let sealed = view.segments.iter().filter(|(_, seen)| whole(seen));
            found.extend(sealed.map(|(segment, seen)| SealedSegment {
                shard,
                segment: *segment,
                file: names::segment(shard, seen.file),
                index: names::index(shard, seen.file),
                nonce: seen.nonce,
                first_seq: seen.first_seq,
                last_seq: seen.last_seq,
                bytes: seen.end,
                tiered: seen.tiered,
            }));
        }
        found
    }

    /// What the manifest durably says of a shard's logs: directory, logs (without the segments that
    /// hold them), cuts, damage, as a snapshot. Logs that do not exist are left out. Each log is as
    /// of one moment, not all of them as of the same. Blocks for a turn of the shard for every 256
    /// of them.
    ///
    /// # Errors
    /// `Invalid` for a shard that does not exist and in a read-only engine; else as the shard says.
    pub fn log_facts(&self, shard: ShardId, logs: &[LogId]) -> Result<Frame> {
        if shard.0 >= self.facts().shards {
            return Err(Error::Invalid(format!("there is no shard {shard}")));
        }
        let port = self.inner.port(shard)?;
        let mut frame = look(&port, &[])?;
        for logs in logs.chunks(LOGS_PER_LOOK) {
            frame.edits.extend(look(&port, logs)?.edits);
        }
        // Logs before cuts before damage, as in a snapshot.
        frame.edits.sort_by_key(|edit| match edit {
            Edit::Log(_) => 1,
            Edit::Cut { .. } => 2,
            Edit::Damage(_) => 3,
            _ => 0,
        });
        frame.edits.insert(0, Edit::Directory(*self.facts()));
        Ok(frame)
    }

    /// Records, durably, that the tier has a whole copy of this segment, records checked. In an
    /// engine with an [`Archive`](crate::archive::Archive) its file may go from here on, once all
    /// older ones of its shard are tiered too and the logs' local retention lets it go. Blocks
    /// until it is durable. A crash before the answer leaves it recorded or not; the tier finds its
    /// copy and says it again. For a segment that is gone there is nothing to say: `Ok`.
    ///
    /// # Errors
    /// `Invalid` for a shard that does not exist, a segment that is not sealed yet, and in a
    /// read-only engine; else as the shard says.
    pub fn set_tiered(&self, shard: ShardId, segment: SegmentId) -> Result<()> {
        if shard.0 >= self.facts().shards {
            return Err(Error::Invalid(format!("there is no shard {shard}")));
        }
        let port = self.inner.port(shard)?;
        {
            let view = port.view.lock();
            let newest = view.segments.last_key_value().map_or(SegmentId(0), |(id, _)| *id);
            match view.segments.get(&segment) {
                Some(SegmentView { live: None, tiered: false, .. }) => {}
                Some(SegmentView { live: None, tiered: true, .. }) => return Ok(()),
                None if segment < newest => return Ok(()),
                _ => return Err(Error::Invalid(format!("segment {segment} is not sealed"))),
            }
        }
        change(&port, vec![Edit::Tiered { segment }])?;
        if let Some(seen) = port.view.lock().segments.get_mut(&segment) {
            seen.tiered = true;
        }
        Ok(())
    }
}

/// Looks at some logs between two turns of their shard.
fn look(port: &Arc<Port>, logs: &[LogId]) -> Result<Frame> {
    let taken = Arc::new(Mutex::new(None));
    let (theirs, logs) = (Arc::clone(&taken), logs.iter().copied().collect::<BTreeSet<_>>());
    let (shard, view) = (port.view.shard, Arc::clone(&port.view));
    let look = move |manifest: &Manifest| {
        let (state, facts) = (&manifest.state, &manifest.state.facts);
        let known = logs.iter().filter_map(|log| state.logs.get(*log));
        let mut edits: Vec<Edit> = known
            .map(|log| Edit::Log(LogFacts { chain: Chain::default(), ..log.facts() }))
            .collect();
        for log in &logs {
            let cuts = state.cuts.get(log).into_iter().flat_map(|cuts| cuts.iter());
            edits.extend(cuts.map(|(epoch, first_lsn)| Edit::Cut { log: *log, epoch, first_lsn }));
        }
        let damages = state.damages.iter().filter(|d| d.log.is_some_and(|log| logs.contains(&log)));
        edits.extend(damages.copied().map(Edit::Damage));
        let (directory, lineage, term) = (facts.directory, facts.lineage, state.term);
        let (flags, seq) = (SNAPSHOT, manifest.seq());
        let durable = view.durable();
        let frame = Frame {
            flags,
            directory,
            lineage,
            shard,
            term,
            seq,
            durable,
            edits,
            ..Frame::default()
        };
        *theirs.lock() = Some(frame);
    };
    let reply = Reply::new();
    port.request(Request::Look(Box::new(look), Arc::clone(&reply)))?;
    wait(port, &reply)?;
    let frame = taken.lock().take();
    frame.ok_or(Error::Closed)
}
