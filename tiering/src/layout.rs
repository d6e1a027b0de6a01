//! The names of objects, pure.
//!
//! Invariants: a name says what an object holds and not who wrote it when: the same segment, sealed
//! at the same batch, has the same name for every writer, so that a retry finds its own. A writer
//! that sealed it elsewhere (an older term that does not know that it is over) has another name,
//! and overwrites nothing. Names of a shard sort by segment.
//! Not here: what keeps them apart from strange names (`store::Key`).

use sapwood::{SegmentId, ShardId};

use crate::object::ObjectHeader;
use crate::store::{Key, Result};

/// The objects of one directory in one lineage begin with this.
#[must_use]
pub fn prefix(directory: u64, lineage: u64) -> String {
    format!("{directory:016x}-{lineage:016x}/")
}

/// The objects of one of its shards begin with this.
#[must_use]
pub fn shard_prefix(directory: u64, lineage: u64, shard: ShardId) -> String {
    format!("{}{:05}/", prefix(directory, lineage), shard.0)
}

/// The name of the object with this header. `again` counts the names that turned out to be taken by
/// something that is not it.
///
/// # Errors
/// None that occurs.
pub fn segment(header: &ObjectHeader, again: u32) -> Result<Key> {
    let prefix = shard_prefix(header.directory, header.lineage, header.shard);
    let segment = header.segment.0;
    let (seq, crc) = (header.last_seq, header.last_crc);
    let again = if again == 0 { String::new() } else { format!(".{again}") };
    Key::new(format!("{prefix}{segment:016x}-{seq:016x}-{crc:08x}{again}"))
}

/// The name of an object, from what it says.
///
/// # Errors
/// None that occurs.
pub fn key_of(name: &Named) -> Result<Key> {
    let header = ObjectHeader {
        directory: name.directory,
        lineage: name.lineage,
        shard: name.shard,
        segment: name.segment,
        last_seq: name.last_seq,
        last_crc: name.last_crc,
        ..ObjectHeader::default()
    };
    segment(&header, name.again)
}

/// The manifests of a directory begin with this.
#[must_use]
pub fn manifest_prefix(directory: u64, lineage: u64) -> String {
    format!("{}manifest/", prefix(directory, lineage))
}

/// The name of its manifest of this number.
///
/// # Errors
/// None that occurs.
pub fn manifest(directory: u64, lineage: u64, number: u64) -> Result<Key> {
    Key::new(format!("{}{number:016x}", manifest_prefix(directory, lineage)))
}

/// The control objects of a directory begin with this.
#[must_use]
pub fn control_prefix(directory: u64, lineage: u64) -> String {
    format!("{}control/", prefix(directory, lineage))
}

/// The name of its control object of this number.
///
/// # Errors
/// None that occurs.
pub fn control(directory: u64, lineage: u64, number: u64) -> Result<Key> {
    Key::new(format!("{}{number:016x}", control_prefix(directory, lineage)))
}

/// The number at the end of the name of a manifest or a control object.
#[must_use]
pub fn parse_numbered(key: &Key) -> Option<u64> {
    let (folder, number) = key.as_str().rsplit_once('/')?;
    let (owner, kind) = folder.split_once('/')?;
    parse_owner(owner).filter(|_| ["manifest", "control"].contains(&kind))?;
    hex16(number)
}

/// Directory and lineage, from the first part of a name.
#[must_use]
pub fn parse_owner(owner: &str) -> Option<(u64, u64)> {
    let (directory, lineage) = owner.split_once('-')?;
    Some((hex16(directory)?, hex16(lineage)?))
}

/// Exactly as it is written here.
fn hex16(text: &str) -> Option<u64> {
    let number = u64::from_str_radix(text, 16).ok()?;
    (format!("{number:016x}") == text).then_some(number)
}

/// What the name of an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// The directory.
    pub directory: u64,
    /// The lineage.
    pub lineage: u64,
    /// The shard.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// The last batch.
    pub last_seq: u64,
    /// Its header CRC.
    pub last_crc: u32,
    /// Which of several.
    pub again: u32,
}

/// Reads a name; `None` for one that no segment's object has.
#[must_use]
pub fn parse(key: &Key) -> Option<Named> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut parts = key.as_str().split('/');
    let (owner, shard, object) = (parts.next()?, parts.next()?, parts.next()?);
    let (directory, lineage) = owner.split_once('-')?;
    let (object, again) = object.split_once('.').unwrap_or((object, "0"));
    let mut numbers = object.split('-');
    let (segment, seq, crc) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let named = Named {
        directory: hex(directory)?,
        lineage: hex(lineage)?,
        shard: ShardId(shard.parse().ok()?),
        segment: SegmentId(hex(segment)?),
        last_seq: hex(seq)?,
        last_crc: u32::try_from(hex(crc)?).ok()?,
        again: again.parse().ok()?,
    };
    // One name for one object: what does not read back the same is not ours.
    let header = ObjectHeader {
        directory: named.directory,
        lineage: named.lineage,
        shard: named.shard,
        segment: named.segment,
        last_seq: named.last_seq,
        last_crc: named.last_crc,
        ..ObjectHeader::default()
    };
    let same = self::segment(&header, named.again).is_ok_and(|own| own == *key);
    same.then_some(named)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_no_other_is() {
        let header = ObjectHeader {
            directory: 7,
            lineage: u64::MAX,
            shard: ShardId(3),
            segment: SegmentId(255),
            last_seq: 99,
            last_crc: 0xdead_beef,
            ..ObjectHeader::default()
        };
        let (first, second) = (segment(&header, 0).unwrap(), segment(&header, 12).unwrap());
        let object = "00000000000000ff-0000000000000063-deadbeef";
        let name = &format!("0000000000000007-ffffffffffffffff/00003/{object}");
        assert_eq!(first.as_str(), *name);
        assert_eq!(second.as_str(), format!("{name}.12"));
        let named = parse(&second).unwrap();
        assert_eq!((named.segment, named.last_crc, named.again), (SegmentId(255), 0xdead_beef, 12));
        assert_eq!(parse(&first).unwrap().again, 0);
        let (other, zero) = (name.replace("00003", "3"), format!("{name}.0"));
        for strange in ["a", "a/b/c", &other, &zero, &format!("{name}/x")] {
            assert_eq!(parse(&Key::new(strange).unwrap()), None, "{strange}");
        }
        assert!(first.as_str().starts_with(&prefix(7, u64::MAX)));
    }
}
