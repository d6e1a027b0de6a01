//! The name of an object.
//!
//! Invariant: a key is safe as a path below a folder and as an object name anywhere: parts of
//! letters, digits, `.`, `_` and `-` between slashes, none of which begins with a dot. What comes
//! from a list passes the same check.
//! Not here: which names the tier gives (`layout`).

use std::fmt;

use super::{Result, StoreError};

/// Bytes of a key at most.
const KEY_BYTES_MAX: usize = 512;

/// Bytes of one part at most: names of files have this limit.
const PART_BYTES_MAX: usize = 200;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks a name.
    ///
    /// # Errors
    /// `Invalid` for what is no key.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let letter = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let part = |part: &str| {
            !part.is_empty()
                && part.len() <= PART_BYTES_MAX
                && !part.starts_with('.')
                && part.bytes().all(letter)
        };
        if name.len() <= KEY_BYTES_MAX && name.split('/').all(part) {
            return Ok(Self(name));
        }
        Err(StoreError::Invalid(format!("{name:?} cannot be the name of an object")))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_the_folder_is_no_key() {
        for good in ["a", "a/b.c-d_e/0", "A.9"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(201);
        let longer = "x/".repeat(300) + "x";
        for bad in [
            "", "/a", "a/", "a//b", "..", "a/../b", ".a", "a/.b", "a b", "a\\b", "ä", &long,
            &longer,
        ] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }
}
