//! What a thread of a load appends next: to which log, how many bytes, when, and bytes that prove
//! themselves when they are read back.
//!
//! A record ends in its stamp: worker, sequence number of the worker in that log, length, CRC32C of
//! all before. The filling is the same for all, so its checksums are known beforehand: stamping
//! costs the same for every size.
//!
//! Invariants: sequence numbers of one worker in one log are dense and in the order of submission;
//! the same seed gives the same traffic.
//!
//! Not here: sending it (`load`), reading it back (`verify`).

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Pareto, Zipf};
use serde::Serialize;

use crate::load::Load;

/// Worker, sequence, length, checksum.
pub const STAMP_BYTES: usize = 20;
/// What the checksum covers of it.
const STAMP_SUMMED: usize = 16;
/// Pareto's exponent: at 1.2 a fifth of the records has about four fifths of the bytes.
const PARETO_ALPHA: f64 = 1.2;
/// Zipf's exponent: the most used log gets twice what the second gets.
const ZIPF_EXPONENT: f64 = 1.0;

/// How long records are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// All of the same length.
    #[default]
    Fixed,
    /// Every length from the least to the greatest as likely.
    Uniform,
    /// Most are short, a few are long (Pareto, cut off at the greatest).
    Pareto,
}

/// Which log an append goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// Every log as often.
    #[default]
    Uniform,
    /// A few are used most of the time, most of them hardly ever (Zipf).
    Zipf,
}

/// When the appends of an open loop begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal intervals.
    #[default]
    Even,
    /// Each on its own, so that they come in bursts (Poisson).
    Poisson,
}

/// What all threads of a load share: filling with its checksums, and the distribution over logs.
pub(crate) struct Shared {
    filling: Vec<u8>,
    /// Of what stands before the stamp of the shortest record, of one byte more, and so on.
    sums: Vec<u32>,
    least: usize,
    /// Which rank a log has; none where every log is as likely.
    ranks: Option<Zipf<f64>>,
    load: Load,
}

impl Shared {
    pub(crate) fn of(load: &Load) -> Arc<Shared> {
        let mut filling = vec![0; load.record_bytes];
        SmallRng::seed_from_u64(7).fill_bytes(&mut filling);
        let least = match load.sizes {
            Sizes::Fixed => load.record_bytes,
            Sizes::Uniform | Sizes::Pareto => load.least_bytes.min(load.record_bytes).max(1),
        };
        let mut sum = crc32c::crc32c(&filling[..body(least)]);
        let mut sums = vec![sum];
        for byte in &filling[body(least)..body(load.record_bytes)] {
            sum = crc32c::crc32c_append(sum, std::slice::from_ref(byte));
            sums.push(sum);
        }
        let ranks = match load.pick {
            Pick::Zipf => Zipf::new(load.logs.max(1) as f64, ZIPF_EXPONENT).ok(),
            Pick::Uniform => None,
        };
        Arc::new(Shared { filling, sums, least, ranks, load: *load })
    }

    fn log(&self, rng: &mut SmallRng) -> usize {
        match self.ranks {
            Some(ranks) => ranks.sample(rng) as usize - 1,
            None => rng.random_range(0..self.load.logs.max(1)),
        }
    }

    fn bytes(&self, rng: &mut SmallRng) -> usize {
        let (least, most) = (self.least, self.load.record_bytes);
        match self.load.sizes {
            Sizes::Fixed => most,
            Sizes::Uniform => rng.random_range(least..=most),
            Sizes::Pareto => {
                let long = Pareto::new(least as f64, PARETO_ALPHA).map_or(0.0, |d| d.sample(rng));
                (long as usize).clamp(least, most)
            }
        }
    }
}

/// Of a record so long, what stands before its stamp.
fn body(bytes: usize) -> usize {
    bytes.saturating_sub(STAMP_BYTES)
}

/// The appends of one thread, in order.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    worker: u32,
    rng: SmallRng,
    buffer: Vec<u8>,
    /// Where stamps of the last append stand in the buffer, as ends of records.
    stamped: Vec<usize>,
    /// Next sequence number, by log.
    sequences: Vec<u32>,
    /// Mean time between two starts of this thread, and the next.
    interval: Option<Duration>,
    intended: Duration,
}

impl Traffic {
    /// Of worker `index` of `count`, from `now` on.
    pub(crate) fn new(shared: &Arc<Shared>, index: usize, count: usize, now: Duration) -> Traffic {
        let load = &shared.load;
        let interval = load.rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
        let offset = interval.map_or(Duration::ZERO, |each| each * index as u32 / count as u32);
        Traffic {
            shared: Arc::clone(shared),
            worker: index as u32,
            rng: SmallRng::seed_from_u64(0xface ^ ((index as u64) << 32)),
            buffer: shared.filling.repeat(load.records),
            stamped: Vec::with_capacity(load.records),
            sequences: vec![0; load.logs.max(1)],
            interval,
            intended: now + offset,
        }
    }

    /// Whether appends begin by a schedule.
    pub(crate) fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// When the next append is to begin, in an open loop.
    pub(crate) fn intended(&mut self) -> Option<Duration> {
        let mean = self.interval?;
        let at = self.intended;
        self.intended += match self.shared.load.arrivals {
            Arrivals::Even => mean,
            Arrivals::Poisson => mean.mul_f64(self.rng.sample::<f64, _>(Exp1)),
        };
        Some(at)
    }

    /// The next append: log and payload.
    pub(crate) fn next(&mut self) -> (usize, &[u8]) {
        let log = self.shared.log(&mut self.rng);
        let records = self.shared.load.records;
        let bytes = self.shared.bytes(&mut self.rng);
        let filling = &self.shared.filling;
        for end in self.stamped.drain(..) {
            // A batch repeats the filling, record by record.
            let from = end - STAMP_BYTES;
            let inside = from % filling.len();
            self.buffer[from..end].copy_from_slice(&filling[inside..inside + STAMP_BYTES]);
        }
        if bytes >= STAMP_BYTES {
            let sum = self.shared.sums[body(bytes) - body(self.shared.least)];
            for record in 0..records {
                let end = record * filling.len() + bytes;
                let stamp = &mut self.buffer[end - STAMP_BYTES..end];
                stamp[..4].copy_from_slice(&self.worker.to_le_bytes());
                let sequence = u64::from(self.sequences[log]);
                stamp[4..12].copy_from_slice(&sequence.to_le_bytes());
                stamp[12..16].copy_from_slice(&(bytes as u32).to_le_bytes());
                let sum = crc32c::crc32c_append(sum, &stamp[..STAMP_SUMMED]);
                stamp[STAMP_SUMMED..].copy_from_slice(&sum.to_le_bytes());
                self.stamped.push(end);
                self.sequences[log] += 1;
            }
        } else {
            self.sequences[log] += records as u32;
        }
        let total = if records > 1 { records * filling.len() } else { bytes };
        (log, &self.buffer[..total])
    }

    /// Records submitted so far, by log.
    pub(crate) fn into_sequences(self) -> Vec<u32> {
        self.sequences
    }
}

/// Worker and sequence number of a record that is whole; `None` of any other.
#[must_use]
pub fn check(payload: &[u8]) -> Option<(u32, u64)> {
    let (body, sum) = payload.split_last_chunk::<4>()?;
    let stamp = body.get(body.len().checked_sub(STAMP_SUMMED)?..)?;
    let (worker, rest) = stamp.split_first_chunk::<4>()?;
    let (sequence, bytes) = rest.split_first_chunk::<8>()?;
    let bytes = u32::from_le_bytes(bytes.try_into().ok()?) as usize;
    let whole = bytes == payload.len() && crc32c::crc32c(body) == u32::from_le_bytes(*sum);
    whole.then(|| (u32::from_le_bytes(*worker), u64::from_le_bytes(*sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(load: &Load) -> Traffic {
        Traffic::new(&Shared::of(load), 3, 4, Duration::ZERO)
    }

    #[test]
    fn every_record_proves_itself_and_any_change_is_noticed() {
        for sizes in [Sizes::Fixed, Sizes::Uniform, Sizes::Pareto] {
            let load = Load { record_bytes: 300, least_bytes: 21, sizes, ..Load::default() };
            let mut traffic = traffic(&load);
            for sequence in 0..200 {
                let (_, payload) = traffic.next();
                assert_eq!(check(payload), Some((3, sequence)), "{sizes:?}");
                let mut changed = payload.to_vec();
                changed[sequence as usize % payload.len()] ^= 4;
                assert_eq!(check(&changed), None);
                assert_eq!(check(&payload[1..]), None);
            }
        }
    }

    #[test]
    fn a_batch_has_a_stamp_in_each_record() {
        let load = Load { record_bytes: 64, records: 5, ..Load::default() };
        let mut traffic = traffic(&load);
        traffic.next();
        let (_, payload) = traffic.next();
        let found: Vec<_> = payload.chunks(64).map(check).collect();
        let wanted: Vec<_> = (5..10).map(|sequence| Some((3, sequence))).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn distributions_are_what_they_say() {
        let mut load = Load { record_bytes: 10_000, least_bytes: 100, ..Load::default() };
        let mean = |load: &Load| {
            let mut traffic = traffic(load);
            let all: Vec<usize> = (0..20_000).map(|_| traffic.next().1.len()).collect();
            assert!(all.iter().all(|bytes| (100..=10_000).contains(bytes)));
            all.iter().sum::<usize>() / all.len()
        };
        load.sizes = Sizes::Uniform;
        assert!((4800..5300).contains(&mean(&load)));
        load.sizes = Sizes::Pareto;
        assert!((250..600).contains(&mean(&load)), "{}", mean(&load));
    }

    #[test]
    fn zipf_has_favourites_and_uniform_has_none() {
        let count = |pick| {
            let mut traffic = traffic(&Load { logs: 1000, pick, ..Load::default() });
            let mut counts = vec![0; 1000];
            (0..100_000).for_each(|_| counts[traffic.next().0] += 1);
            counts
        };
        let zipf = count(Pick::Zipf);
        let share = f64::from(zipf[0]) / f64::from(zipf[1]);
        assert!((1.8..2.2).contains(&share), "{share}");
        let uniform = count(Pick::Uniform);
        assert!(uniform.iter().all(|count| (40..180).contains(count)));
    }

    #[test]
    fn poisson_comes_in_bursts_at_the_same_rate() {
        let load = Load { rate: Some(1000.0), arrivals: Arrivals::Poisson, ..Load::default() };
        let mut traffic = Traffic::new(&Shared::of(&load), 0, 1, Duration::ZERO);
        let starts: Vec<Duration> = (0..10_000).filter_map(|_| traffic.intended()).collect();
        let end = starts.last().unwrap().as_secs_f64();
        assert!((9.5..10.5).contains(&end), "{end}");
        let close = starts.windows(2).filter(|two| two[1] - two[0] < Duration::from_micros(100));
        let close = close.count();
        assert!((800..1100).contains(&close), "{close} of some 950");
    }
}
