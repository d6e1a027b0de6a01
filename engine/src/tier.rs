//! What the engine publishes for a tier: its sealed segments, and which of them have a whole copy.
//!
//! Invariants: a segment is listed only once its seal is durable, so its files never change; what
//! is kept of it may move into other files, of which an earlier copy is a copy, too. `tiered` is
//! durable before it is shown, and never taken back.
//!
//! Not here: the copy itself (a crate of its own makes it), when a tiered segment goes (`gc`).

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::manifest::Edit;
use crate::inner::change;
use crate::lsn::{SegmentId, ShardId};
use crate::names;
use crate::view::SegmentView;

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
            let sealed = view.segments.iter().filter(|(_, seen)| seen.live.is_none());
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
