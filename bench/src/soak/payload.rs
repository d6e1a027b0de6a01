//! The payload of a soak's record: it says whose it is, and proves that it is whole.
//!
//! Not here: which records must be there (`model`).

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Log, length, sequence number; then filling; the checksum of all of it at the end.
const HEAD: usize = 16;
const SUM: usize = 4;
/// The smallest payload.
pub(crate) const BYTES_MIN: usize = HEAD + SUM;

/// The payload of a record of this many bytes, `BYTES_MIN` at least.
pub(crate) fn make(log: u32, seq: u64, bytes: usize) -> Vec<u8> {
    let bytes = bytes.max(BYTES_MIN);
    let mut payload = Vec::with_capacity(bytes);
    payload.extend_from_slice(&log.to_le_bytes());
    payload.extend_from_slice(&(bytes as u32).to_le_bytes());
    payload.extend_from_slice(&seq.to_le_bytes());
    payload.resize(bytes - SUM, 0);
    SmallRng::seed_from_u64(seq ^ u64::from(log) << 48).fill_bytes(&mut payload[HEAD..]);
    payload.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    payload
}

/// Its sequence number, if it is a whole record of this log.
pub(crate) fn check(log: u32, payload: &[u8]) -> Option<u64> {
    let (body, sum) = payload.split_last_chunk::<SUM>()?;
    let (whose, rest) = body.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_first_chunk::<4>()?;
    let (seq, _) = rest.split_first_chunk::<8>()?;
    let whole = u32::from_le_bytes(*whose) == log
        && u32::from_le_bytes(*bytes) as usize == payload.len()
        && u32::from_le_bytes(*sum) == crc32c::crc32c(body);
    whole.then_some(u64::from_le_bytes(*seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_again_and_any_change_is_noticed() {
        for bytes in [0, 21, 28, 1000] {
            let payload = make(3, 1 << 41, bytes);
            assert_eq!(payload.len(), bytes.max(BYTES_MIN));
            assert_eq!(check(3, &payload), Some(1 << 41));
            assert_eq!(check(4, &payload), None, "another log's");
            assert_eq!(check(3, &payload[..payload.len() - 1]), None);
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] ^= 1;
                assert_eq!(check(3, &changed), None, "{at}");
            }
        }
    }
}
