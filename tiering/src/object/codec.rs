//! How the bytes of a block are packed.
//!
//! Invariants: unpacking writes into memory of the length that the block's checksummed header
//! names, and nothing beyond it; that length is at most [`EXPANSION_MAX`] times what is stored (and
//! a megabyte in any case), so that a small hostile object cannot ask for much memory.
//! Not here: the block around it (`block`).

use sapwood::format::Flaw;

/// A block unpacks to at most so many times its stored bytes.
const EXPANSION_MAX: usize = 256;

/// Every block may unpack to so many bytes.
const EXPANSION_FREE: usize = 1 << 20;

/// A way of packing. 0 is plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    #[default]
    Plain = 0,
    /// LZ4, one block without a frame: fast.
    Lz4 = 1,
    /// Zstandard, one frame: smaller.
    Zstd = 2,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Result<Self, Flaw> {
        match byte {
            0 => Ok(Self::Plain),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Zstd),
            other => Err(Flaw::Unknown { what: "codec of a block", found: u32::from(other) }),
        }
    }

    /// `raw` packed, if that makes it smaller and it may be unpacked again.
    pub(super) fn pack(self, raw: &[u8]) -> Option<Vec<u8>> {
        /// What a tier spends on a block: about 400 MB/s on a core.
        const ZSTD_LEVEL: i32 = 1;
        let packed = match self {
            Self::Plain => return None,
            Self::Lz4 => lz4_flex::block::compress(raw),
            Self::Zstd => zstd::bulk::compress(raw, ZSTD_LEVEL).ok()?,
        };
        (packed.len() < raw.len() && may_expand(packed.len(), raw.len())).then_some(packed)
    }

    /// Unpacks `stored`, which must give exactly `raw` bytes.
    pub(super) fn unpack(self, stored: &[u8], raw: usize) -> Result<Vec<u8>, Flaw> {
        const LENGTH: Flaw = Flaw::Field("bytes of an unpacked block");
        if self == Self::Plain {
            return if stored.len() == raw { Ok(stored.to_vec()) } else { Err(LENGTH) };
        }
        if !may_expand(stored.len(), raw) {
            return Err(Flaw::Field("a block unpacks to too much"));
        }
        let mut out = vec![0; raw];
        let got = match self {
            Self::Plain => stored.len(),
            Self::Lz4 => lz4_flex::block::decompress_into(stored, &mut out).map_err(|_| LENGTH)?,
            Self::Zstd => zstd::bulk::decompress_to_buffer(stored, &mut out).map_err(|_| LENGTH)?,
        };
        if got == raw { Ok(out) } else { Err(LENGTH) }
    }
}

fn may_expand(stored: usize, raw: usize) -> bool {
    raw <= EXPANSION_FREE.max(stored.saturating_mul(EXPANSION_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let raw: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for codec in [Codec::Lz4, Codec::Zstd] {
            let packed = codec.pack(&raw).unwrap();
            assert!(packed.len() < raw.len() / 2, "{codec:?}: {}", packed.len());
            assert!(codec.unpack(&packed, raw.len()).unwrap() == raw);
            for wrong in [0, 1, raw.len() - 1, raw.len() + 1] {
                assert!(codec.unpack(&packed, wrong).is_err(), "{codec:?} {wrong}");
            }
            assert_eq!(Codec::from_byte(codec as u8), Ok(codec));
        }
    }

    #[test]
    fn what_does_not_shrink_or_shrinks_too_well_stays_plain() {
        let mut x = 1u64;
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (x >> 33) as u8
            })
            .collect();
        let zeroes = vec![0; 8 << 20];
        for codec in [Codec::Lz4, Codec::Zstd] {
            assert!(codec.pack(&noise).is_none() && codec.pack(&[]).is_none());
        }
        assert!(Codec::Zstd.pack(&zeroes).is_none(), "a reader would refuse it");
        assert!(Codec::Zstd.pack(&zeroes[..1 << 20]).is_some());
        let bomb = zstd::bulk::compress(&zeroes, 1).unwrap();
        let told = Codec::Zstd.unpack(&bomb, zeroes.len());
        assert_eq!(told, Err(Flaw::Field("a block unpacks to too much")));
    }
}
