//! What the quota counts is what the files take, whatever moved, retired or was used again.
//!
//! Not here: what is done when there is no room (`space`, `disk_full`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use sapwood::io::Storage;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Driving, Engine, Error, HealthKind, Lsn, Writer};
use sapwood_tests::small;

const QUOTA: u64 = 12 << 20;

struct Life {
    disk: SimStorage,
    engine: Engine,
    drivers: Vec<Driving>,
}

impl Life {
    fn open(disk: &SimStorage) -> Self {
        // What is mostly dead is worth moving, and moves at once.
        let config = Config { quota_bytes: QUOTA, relocate_below_percent: 25, ..small::config() };
        let (engine, drivers) = small::open(disk.clone(), config).unwrap();
        Self { disk: disk.clone(), engine, drivers }
    }

    fn turns(&mut self, times: usize) {
        for _ in 0..times {
            self.drivers[0].turn(Duration::from_millis(1));
        }
    }

    /// Appends, until it is refused for good. Whether it was taken.
    fn append(&mut self, writer: &Writer, payload: &[u8]) -> bool {
        for _ in 0..60 {
            match writer.submit(payload.to_vec()).map_err(|rejected| rejected.error) {
                Ok(_) => return true,
                Err(Error::Busy | Error::NoSpace(_)) => self.turns(5),
                Err(other) => panic!("{other}"),
            }
        }
        false
    }

    /// Fills what there is: `b` has a record in each segment, `a` all the others.
    fn fill(&mut self) {
        let [a, b] = ["a", "b"].map(|name| self.engine.log(name).unwrap().writer().unwrap());
        loop {
            for _ in 0..12 {
                if !self.append(&a, &[1; 30_000]) {
                    self.turns(100);
                    return;
                }
            }
            self.append(&b, b"few");
        }
    }

    fn truncate(&self, log: &str, keep: u64) {
        let log = self.engine.log(log).unwrap();
        log.truncate(Lsn(log.durable().unwrap().0.saturating_sub(keep))).unwrap();
    }

    /// At rest, with the quota nearly used up, health says what is counted.
    fn compare(&self, when: &str) {
        let health = self.engine.health();
        let told = health.findings.iter().find(|f| f.kind == HealthKind::QuotaNearlyFull);
        let told = &told.unwrap_or_else(|| panic!("{when}: the quota is not used up")).what;
        let words = told.split(' ');
        let counted: u64 = words.filter_map(|word| word.parse().ok()).next().unwrap();
        let len = |name: &String| self.disk.image(name).map_or(0, |bytes| bytes.len() as u64);
        let names = self.disk.list().unwrap();
        let segments = names.iter().filter(|name| name.starts_with("segment-"));
        let sealed = self.engine.sealed_segments();
        let there: u64 = segments.map(len).sum::<u64>()
            + sealed.iter().map(|segment| len(&segment.index)).sum::<u64>();
        assert_eq!(counted, there, "{when}: counted, there");
    }
}

/// The index of a segment that had moved was counted when it was made, and again when the
/// collector came by: with each move the quota lost some room for ever.
#[test]
fn a_moved_segment_counts_once() {
    let mut life = Life::open(&SimStorage::new(11, Faults::default()));
    for round in 0..4 {
        life.fill();
        life.compare(&format!("round {round}, full"));
        life.truncate("a", 1);
        let report = life.engine.gc().unwrap();
        assert!(report.relocated_segments > 0, "round {round}: {report:?}");
        life.turns(50);
        // What has moved is free one day, too.
        if round % 2 == 1 {
            life.truncate("b", 1);
            assert!(life.engine.gc().unwrap().freed_segments > 0);
        }
    }
    life.fill();
    life.compare("at the end");
}
