//! The proof that what was acked is on the disk: the flushes that the device saw.
//!
//! A flush covers what was written before it began. With N appends outstanding at most N can wait
//! for one flush, so a run that acked more than N for each flush acked some before they were
//! durable. Where a device has no volatile cache a write is durable by itself, and nothing has to
//! be flushed: there the proof says nothing, and nothing is refused.
//!
//! Not here: counting (`meter`). What others flush on the same device is counted too: a quiet
//! machine makes the proof strict.

use anyhow::{Result, ensure};

use crate::environment::write_cache;
use crate::load::Load;
use crate::sample::Sample;
use crate::subject::Cell;

/// What a device says of a cache that it may lose.
const VOLATILE: &str = "write back";

/// Fails when more was acked than the flushes of the run can have made durable.
///
/// # Errors
/// Then.
pub(super) fn flushed(sample: &Sample, cell: &Cell) -> Result<()> {
    let Some(device) = sample.cost.device else { return Ok(()) };
    if write_cache(&cell.dir).as_deref() != Some(VOLATILE) {
        return Ok(());
    }
    let most = at_most(device.flushes, &cell.load);
    let acked = sample.operations;
    ensure!(
        acked <= most,
        "not durable: {acked} appends were acked, and the {} flushes that the device saw can have \
         covered {most} at most",
        device.flushes
    );
    Ok(())
}

/// Appends that so many flushes can cover; one flush before the window may have covered some.
fn at_most(flushes: u64, load: &Load) -> u64 {
    (flushes + 1) * (load.threads * load.outstanding) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Cost, DeviceCounts};
    use crate::ring::Method;
    use crate::sample::histogram;

    #[test]
    fn more_acks_than_flushes_can_cover_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cell = Cell {
            name: "test",
            load: Load { threads: 8, ..Load::default() },
            dir: dir.path().to_owned(),
            method: Method::Dsync,
            file_bytes: 0,
            segment_bytes: 0,
        };
        let run = |operations, flushes| {
            let device = Some(DeviceCounts { flushes, ..DeviceCounts::default() });
            Sample::new(operations, 0, Cost { device, ..Cost::default() }, histogram())
        };
        assert!(flushed(&run(800, 100), &cell).is_ok());
        assert_eq!(at_most(100, &cell.load), 808);
        if write_cache(dir.path()).as_deref() == Some(VOLATILE) {
            let error = flushed(&run(809, 100), &cell).unwrap_err().to_string();
            assert!(error.starts_with("not durable: 809"), "{error}");
        } else {
            assert!(flushed(&run(809, 100), &cell).is_ok(), "nothing has to be flushed");
        }
    }
}
