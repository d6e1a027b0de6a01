//! `--from`: where in a log a reader begins, as text.
//!
//! Invariant: each form is told from the others by its shape alone.

use std::str::FromStr;

use jiff::Timestamp;
use sapwood::{Epoch, From, Lsn, Position};

/// A place as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub From);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => return Ok(Self(From::Start)),
            "tail" => return Ok(Self(From::Tail)),
            _ => {}
        }
        if let Ok(lsn) = text.parse() {
            return Ok(Self(From::Lsn(Lsn(lsn))));
        }
        if let Some((epoch, lsn)) = text.split_once(':')
            && let (Ok(epoch), Ok(lsn)) = (epoch.parse(), lsn.parse())
        {
            return Ok(Self(From::At(Position { epoch: Epoch(epoch), lsn: Lsn(lsn) })));
        }
        let time: Timestamp = text.parse().map_err(|_| {
            "a place is start, tail, an LSN (17), EPOCH:LSN (2:17), or a time with its zone \
             (2026-01-31T12:00:00Z)"
                .to_owned()
        })?;
        let micros = u64::try_from(time.as_microsecond()).unwrap_or(0);
        Ok(Self(From::Time(micros)))
    }
}

/// A record's time as text: RFC 3339, in UTC, with microseconds.
pub(crate) fn time_text(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| micros.to_string(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_shape() {
        let place = |text: &str| text.parse::<Place>().map(|place| place.0);
        assert_eq!(place("start"), Ok(From::Start));
        assert_eq!(place("tail"), Ok(From::Tail));
        assert_eq!(place("17"), Ok(From::Lsn(Lsn(17))));
        let position = Position { epoch: Epoch(2), lsn: Lsn(17) };
        assert_eq!(place("2:17"), Ok(From::At(position)));
        assert_eq!(place("1970-01-01T00:00:01.5Z"), Ok(From::Time(1_500_000)));
        assert_eq!(place("1970-01-01T01:00:01+01:00"), Ok(From::Time(1_000_000)));
        for bad in ["", "end", "-1", "2:", "1970-01-01", "1:2:3", "1970-01-01T00:00:00"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_comes_back_as_it_was_given() {
        let text = time_text(1_500_001);
        assert_eq!(text, "1970-01-01T00:00:01.500001Z");
        assert_eq!(text.parse::<Place>().unwrap().0, From::Time(1_500_001));
    }
}
