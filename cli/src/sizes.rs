//! The sizes of a new directory: what was asked for, and what has to go with it.
//!
//! Invariants: whatever was asked for, this ends, and says what to ask for instead or leaves it to
//! the engine to refuse; sizes that are taken are valid together.
//!
//! Not here: how a size is read (`clap`), what the engine allows (`Config::validate`).

use bytesize::ByteSize;
use sapwood::Config;

/// The engine's default of the largest record.
const RECORD_BYTES: u64 = 1 << 20;
/// The engine's default of the largest batch.
const BATCH_BYTES: u64 = 2 << 20;
/// The largest batch there can be.
pub(crate) const BATCH_BYTES_MAX: u64 = 16 << 20;
/// Batches are made in steps of this.
const BATCH_STEP: u64 = 64 << 10;
/// Batches that one record may take.
const BATCHES_MAX: u64 = sapwood::format::SPAN_BATCHES_MAX as u64;
/// Batches that must fit the staging memory.
pub(crate) const BATCHES_STAGED_MIN: u64 = 4;
/// The smallest segment.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Sizes as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub segment: Option<u64>,
    pub record: Option<u64>,
    pub stage: Option<u64>,
}

impl Sizes {
    /// Sets them, and what goes with them.
    ///
    /// # Errors
    /// What does not go together, and what would.
    pub(crate) fn set(self, config: &mut Config) -> Result<(), String> {
        config.segment_bytes = self.segment.unwrap_or(config.segment_bytes);
        if config.segment_bytes < SEGMENT_BYTES_MIN {
            return Ok(()); // there is no batch for it: the engine says so
        }
        // Four batches fit a segment. A record may take many batches, but not any number.
        let batch_max = BATCH_BYTES_MAX.min(config.segment_bytes / 4);
        let mut batch = BATCH_BYTES.min(batch_max) / BATCH_STEP * BATCH_STEP;
        config.batch_bytes_max = batch as u32;
        let wanted = self.record.unwrap_or(0);
        while config.record_bytes_limit() < wanted && wanted > batch * BATCHES_MAX / 2 {
            if 2 * batch > batch_max {
                break;
            }
            batch *= 2;
            config.batch_bytes_max = batch as u32;
        }
        let most = config.record_bytes_limit();
        let record = self.record.unwrap_or(RECORD_BYTES.min(most));
        if record > most {
            let segment = whole(record, 2 * batch);
            let segment = segment.checked_next_multiple_of(1 << 20).unwrap_or(segment);
            return Err(format!(
                "a record of up to {} does not fit a segment of {}: give a --segment-size of at \
                 least {} or a smaller --record-max (here at most {})",
                ByteSize(record),
                ByteSize(config.segment_bytes),
                ByteSize(segment),
                ByteSize(most),
            ));
        }
        config.record_bytes_max = record as u32;
        let least = config.stage_bytes.max(BATCHES_STAGED_MIN * batch);
        config.stage_bytes = self.stage.unwrap_or(least.max(whole(record, 3 * batch)));
        Ok(())
    }
}

/// A record with its headers, beside so much.
fn whole(record: u64, beside: u64) -> u64 {
    record.saturating_add(record / 64).saturating_add(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(segment: Option<&str>, record: Option<&str>) -> Result<Config, String> {
        let size = |text: &str| text.parse::<ByteSize>().unwrap().as_u64();
        let (segment, record) = (segment.map(size), record.map(size));
        let mut config = Config::new("x");
        Sizes { segment, record, stage: None }.set(&mut config).map(|()| config)
    }

    #[test]
    fn sizes_that_go_together_make_a_valid_config() {
        for (segment, record) in [
            (None, None),
            (Some("8MiB"), None),
            (Some("1MiB"), None),
            (Some("1MiB"), Some("100KiB")),
            (Some("64MiB"), Some("15MiB")),
            (None, Some("29MiB")),
            (Some("1MiB"), Some("700KiB")),
            (Some("256MiB"), Some("200MiB")),
        ] {
            config(segment, record).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn sizes_that_do_not_are_told() {
        for (segment, record) in
            [(Some("1MiB"), Some("1MiB")), (None, Some("32MiB")), (Some("1GiB"), Some("600MiB"))]
        {
            let error = config(segment, record).unwrap_err();
            assert!(error.contains("--segment-size"), "{error}");
        }
    }

    /// The story: a segment smaller than four of the smallest batches left batches of no bytes, and
    /// doubling them until a record fits them went on for ever.
    #[test]
    fn a_segment_for_no_batch_is_refused_by_the_engine_and_soon() {
        for segment in ["1", "255KiB"] {
            assert!(config(Some(segment), Some("1")).unwrap().validate().is_err());
        }
    }

    /// The story: the advice for a record of 16 EiB overflowed: a panic, or nonsense.
    #[test]
    fn advice_for_any_record_is_a_number() {
        assert!(config(None, Some("18446744073709551615")).unwrap_err().contains("--segment-size"));
    }
}
