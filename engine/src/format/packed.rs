//! Runs in few bytes: of many logs with a record each, a table of fixed entries is a sixth of the
//! batch.
//!
//! Invariants:
//! - One encoding per list of runs: numbers take the fewest bytes, none are left over.
//! - Each number is given by what is likely: ids near the last one's, a run that begins where the
//!   last one ends, bytes that are a multiple of 8.
//!
//! Not here: the table around them, its CRC (`runs`).

use super::Flaw;
use super::record::RECORD_ALIGN;
use super::runs::Run;
use crate::lsn::{Epoch, LogId, Lsn};

/// A run takes at least so many bytes: one for each of its numbers.
pub(super) const PACKED_RUN_BYTES_MIN: usize = NUMBERS;

const NUMBERS: usize = 6;

/// The bytes of a number that hold seven bits each.
const NUMBER_BYTES_MAX: usize = 10;

const BYTES_SHIFT: u32 = RECORD_ALIGN.trailing_zeros();

const CONTINUED: u64 = 1;
const CONTINUES: u64 = 2;
const COUNT_SHIFT: u32 = 2;

/// What the next run is told against.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    log: u64,
    /// Where the run ends if its records adjoin, in multiples of [`RECORD_ALIGN`].
    end: u32,
}

impl Before {
    fn numbers(self, run: &Run) -> [u64; NUMBERS] {
        let flags = (CONTINUED * u64::from(run.continued)) | (CONTINUES * u64::from(run.continues));
        let at = (run.at >> BYTES_SHIFT).wrapping_sub(self.end).cast_signed();
        [
            fold(run.log.0.wrapping_sub(self.log).cast_signed()),
            run.first_lsn.0,
            u64::from(run.epoch.0),
            u64::from(run.count) << COUNT_SHIFT | flags,
            u64::from(run.bytes.rotate_right(BYTES_SHIFT)),
            fold(i64::from(at)),
        ]
    }

    fn run(self, numbers: [u64; NUMBERS]) -> Result<Run, Flaw> {
        let [log, lsn, epoch, count, bytes, at] = numbers;
        let narrow = |n: u64| u32::try_from(n).map_err(|_| Flaw::Field("a number of a run"));
        let at = i32::try_from(unfold(at)).map_err(|_| Flaw::Field("place of a run"))?;
        let at = self.end.wrapping_add_signed(at);
        if at > u32::MAX >> BYTES_SHIFT {
            return Err(Flaw::Field("place of a run"));
        }
        Ok(Run {
            log: LogId(self.log.wrapping_add_signed(unfold(log))),
            first_lsn: Lsn(lsn),
            epoch: Epoch(narrow(epoch)?),
            count: narrow(count >> COUNT_SHIFT)?,
            bytes: narrow(bytes)?.rotate_left(BYTES_SHIFT),
            continued: count & CONTINUED != 0,
            continues: count & CONTINUES != 0,
            at: at << BYTES_SHIFT,
        })
    }

    fn behind(run: &Run) -> Self {
        let end = run.at.wrapping_add(run.bytes) >> BYTES_SHIFT;
        Self { log: run.log.0, end }
    }
}

/// Small numbers of either sign become small ones without.
fn fold(n: i64) -> u64 {
    (n << 1 ^ n >> 63).cast_unsigned()
}

fn unfold(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// Bytes that these runs take.
pub(super) fn packed_bytes(runs: &[Run]) -> usize {
    let mut before = Before::default();
    let mut bytes = 0;
    for run in runs {
        let numbers = before.numbers(run);
        before = Before::behind(run);
        // Seven bits each, at least one byte.
        bytes += numbers.iter().map(|n| (70 - (n | 1).leading_zeros() as usize) / 7).sum::<usize>();
    }
    bytes
}

/// Writes them to the front of `out`, which has room for [`packed_bytes`].
pub(super) fn pack(runs: &[Run], out: &mut [u8]) {
    let mut before = Before::default();
    let mut at = 0;
    for run in runs {
        for mut number in before.numbers(run) {
            while number >= 0x80 {
                out[at] = number as u8 | 0x80;
                at += 1;
                number >>= 7;
            }
            out[at] = number as u8;
            at += 1;
        }
        before = Before::behind(run);
    }
}

/// Packed runs, one by one.
#[derive(Clone, Debug)]
pub(super) struct Packed<'a> {
    rest: &'a [u8],
    before: Before,
}

impl<'a> Packed<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, before: Before::default() }
    }

    /// Nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self) -> Result<Run, Flaw> {
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = self.number()?;
        }
        let run = self.before.run(numbers)?;
        self.before = Before::behind(&run);
        Ok(run)
    }

    fn number(&mut self) -> Result<u64, Flaw> {
        let mut number = 0;
        for (n, byte) in self.rest.iter().take(NUMBER_BYTES_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if bits << (7 * n) >> (7 * n) != bits {
                return Err(Flaw::Field("a number too large"));
            }
            number |= bits << (7 * n);
            if byte & 0x80 == 0 {
                if *byte == 0 && n > 0 {
                    return Err(Flaw::Field("a number in more bytes than it needs"));
                }
                self.rest = &self.rest[n + 1..];
                return Ok(number);
            }
        }
        Err(Flaw::Field("a number without an end"))
    }
}
