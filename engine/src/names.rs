//! Names of the files in a directory: fixed ASCII, one place.
//!
//! Not here: what is in them (`format`).

use crate::lsn::ShardId;

/// The lock file: who writes this directory.
pub(crate) const LOCK: &str = "lock";

/// What is here is a copy that is not finished, or never will be.
pub(crate) const UNFINISHED: &str = "unfinished";

/// Copies of each manifest slot.
pub(crate) const MANIFEST_COPIES: usize = 2;

/// Slots of a manifest: the one in force and the one that the next snapshot goes to.
pub(crate) const MANIFEST_SLOTS: usize = 2;

/// What a name of ours stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Lock,
    Probe,
    Manifest { shard: ShardId, copy: usize, slot: usize },
    Segment { shard: ShardId, file: u64 },
    Index { shard: ShardId, file: u64 },
    Hint { shard: ShardId },
    Aside,
    Unfinished,
    Foreign,
}

impl Name {
    /// The shard whose file it is.
    pub(crate) fn shard(self) -> Option<ShardId> {
        match self {
            Self::Manifest { shard, .. }
            | Self::Segment { shard, .. }
            | Self::Index { shard, .. }
            | Self::Hint { shard } => Some(shard),
            Self::Lock | Self::Probe | Self::Aside | Self::Unfinished | Self::Foreign => None,
        }
    }
}

pub(crate) fn manifest(shard: ShardId, copy: usize, slot: usize) -> String {
    format!("manifest-{:03}-{}{}", shard.0, ['a', 'b'][copy], slot)
}

pub(crate) fn segment(shard: ShardId, file: u64) -> String {
    format!("segment-{:03}-{file:010}", shard.0)
}

pub(crate) fn index(shard: ShardId, file: u64) -> String {
    format!("index-{:03}-{file:010}", shard.0)
}

pub(crate) fn hint(shard: ShardId) -> String {
    format!("hint-{:03}", shard.0)
}

pub(crate) fn aside(name: &str, stamp: u64) -> String {
    format!("aside-{stamp:x}-{name}")
}

/// What a file in the directory is, by its name.
pub(crate) fn parse(name: &str) -> Name {
    match name {
        LOCK => return Name::Lock,
        "probe" => return Name::Probe,
        UNFINISHED => return Name::Unfinished,
        _ if name.starts_with("aside-") => return Name::Aside,
        _ => {}
    }
    parse_numbered(name).unwrap_or(Name::Foreign)
}

fn parse_numbered(name: &str) -> Option<Name> {
    let mut parts = name.split('-');
    let kind = parts.next()?;
    let shard = ShardId(parts.next()?.parse().ok()?);
    let rest = parts.next();
    let parsed = match kind {
        "manifest" => {
            let rest = rest?.as_bytes();
            let copy = rest.first()?.checked_sub(b'a')? as usize;
            let slot = rest.get(1)?.checked_sub(b'0')? as usize;
            Name::Manifest { shard, copy, slot }
        }
        "segment" => Name::Segment { shard, file: rest?.parse().ok()? },
        "index" => Name::Index { shard, file: rest?.parse().ok()? },
        "hint" => Name::Hint { shard },
        _ => return None,
    };
    // Only what we would have written ourselves: no second spelling of one file.
    let same = match parsed {
        Name::Manifest { shard, copy, slot } => {
            copy < MANIFEST_COPIES && slot < MANIFEST_SLOTS && manifest(shard, copy, slot) == name
        }
        Name::Segment { shard, file } => segment(shard, file) == name,
        Name::Index { shard, file } => index(shard, file) == name,
        Name::Hint { shard } => hint(shard) == name,
        _ => false,
    };
    same.then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_what_they_stand_for() {
        let shard = ShardId(7);
        assert_eq!(parse(&segment(shard, 12)), Name::Segment { shard, file: 12 });
        assert_eq!(parse(&index(shard, 12)), Name::Index { shard, file: 12 });
        assert_eq!(parse(&hint(shard)), Name::Hint { shard });
        let (copy, slot) = (1, 0);
        assert_eq!(parse(&manifest(shard, copy, slot)), Name::Manifest { shard, copy, slot });
        for foreign in ["segment-7-12", "segment-007-x", "manifest-007-c0", "readme", "", "hint-1"]
        {
            assert_eq!(parse(foreign), Name::Foreign, "{foreign}");
        }
    }
}
