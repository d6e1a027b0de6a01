//! Sizes and ages as text: limits that the settings of a log have.
//!
//! Invariant: what is shown reads back as what was meant.
//!
//! Not here: which sizes go together (`sizes`).

use std::str::FromStr;

use bytesize::ByteSize;

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub Option<T>);

/// A size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub u64);

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub u64);

/// Units of an age, in seconds.
const AGES: &[(char, u64)] =
    &[('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err("a size is a number of bytes above 0, or with a unit (10GiB); or none".into()),
        }
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = || "an age is a number above 0 with s, m, h, d or w (7d); or none".to_owned();
        let unit = text.chars().next_back().ok_or_else(told)?;
        let (_, secs) = AGES.iter().find(|(letter, _)| *letter == unit).ok_or_else(told)?;
        let count: u64 = text[..text.len() - 1].parse().map_err(|_| told())?;
        let age = count.checked_mul(*secs).filter(|age| *age > 0).ok_or_else(told)?;
        Ok(Self(age))
    }
}

/// An age in the largest unit that divides it.
pub(crate) fn age_text(secs: u64) -> String {
    let fits = AGES.iter().rev().find(|(_, unit)| secs.is_multiple_of(*unit) && secs > 0);
    fits.map_or_else(|| format!("{secs}s"), |(letter, unit)| format!("{}{letter}", secs / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown_alike() {
        let age = |text: &str| text.parse::<Limit<Age>>().map(|limit| limit.0.map(|age| age.0));
        assert_eq!(age("90s"), Ok(Some(90)));
        assert_eq!(age("7d"), Ok(Some(604_800)));
        assert_eq!(age("none"), Ok(None));
        for text in ["90s", "15m", "12h", "6d", "2w", "61s"] {
            assert_eq!(age_text(age(text).unwrap().unwrap()), text);
        }
        for bad in ["", "7", "d", "-1d", "0s", "1y", "1.5h", "99999999999999999999d", "7\u{fc}"] {
            assert!(age(bad).is_err(), "{bad}");
        }
        let size = |text: &str| text.parse::<Limit<Bytes>>().map(|l| l.0.map(|bytes| bytes.0));
        assert_eq!(size("1MiB"), Ok(Some(1 << 20)));
        assert_eq!(size("none"), Ok(None));
        assert!(size("0").is_err() && size("many").is_err());
    }
}
