//! What callers append: records and batches of them.
//!
//! Invariants: the CRC of a record's properties and payload is computed once, on the calling
//! thread, and travels with it from then on.
//!
//! Not here: record headers on disk (`format::record`), what a reader gives back (`reader`).

use crate::error::{Error, Result};
use crate::format::{body_crc, encode_properties};

/// Anything that can be appended: a byte slice, a [`Record`] or a [`Batch`], borrowed or owned.
///
/// A slice is copied at the call. An owned value comes back when the append is rejected.
pub trait Records {
    /// How many records.
    fn count(&self) -> usize;
    /// Bytes of (encoded properties, payload) of record `index`.
    #[doc(hidden)]
    fn part_lens(&self, index: usize) -> (usize, usize);
    /// Record `index`.
    #[doc(hidden)]
    fn part(&self, index: usize) -> Part<'_>;
}

/// One record of a [`Records`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Part<'a> {
    /// Encoded properties.
    pub properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// CRC32C of both.
    pub crc: u32,
}

macro_rules! plain {
    ($($(#[$m:meta])* [$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> Records for $type {
            fn count(&self) -> usize {
                1
            }
            fn part_lens(&self, _: usize) -> (usize, usize) {
                (0, self.len())
            }
            fn part(&self, _: usize) -> Part<'_> {
                let payload: &[u8] = self.as_ref();
                Part { properties: &[], payload, crc: body_crc(&[], payload) }
            }
        }
    )*};
}

plain!([] &[u8], [const N: usize] &[u8; N], [const N: usize] [u8; N]);
plain!([] &str, [] Vec<u8>, [] &Vec<u8>, [] String);

impl<R: Records> Records for &mut R {
    fn count(&self) -> usize {
        (**self).count()
    }
    fn part_lens(&self, index: usize) -> (usize, usize) {
        (**self).part_lens(index)
    }
    fn part(&self, index: usize) -> Part<'_> {
        (**self).part(index)
    }
}

/// A payload with properties: small key-value pairs that travel with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    payload: Vec<u8>,
    properties: Vec<u8>,
    crc: u32,
}

impl Record {
    /// A record without properties.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        let crc = body_crc(&[], &payload);
        Self { payload, properties: Vec::new(), crc }
    }

    /// The same with these properties, in this order.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a key or value, or all of them together, exceed 65,535 bytes.
    pub fn with_properties(mut self, properties: &[(&str, &[u8])]) -> Result<Self> {
        self.properties = encode_properties(properties)
            .map_err(|flaw| Error::Invalid(format!("properties: {flaw}")))?;
        self.crc = body_crc(&self.properties, &self.payload);
        Ok(self)
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn as_part(&self) -> Part<'_> {
        Part { properties: &self.properties, payload: &self.payload, crc: self.crc }
    }
}

macro_rules! one_record {
    ($($type:ty),*) => {$(
        impl Records for $type {
            fn count(&self) -> usize {
                1
            }
            fn part_lens(&self, _: usize) -> (usize, usize) {
                (self.properties.len(), self.payload.len())
            }
            fn part(&self, _: usize) -> Part<'_> {
                self.as_part()
            }
        }
    )*};
}

one_record!(Record, &Record);

/// Records that are appended together: consecutive LSNs, one ack. Reusable after [`Batch::clear`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    start: usize,
    properties: usize,
    end: usize,
    crc: u32,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record with this payload.
    pub fn push(&mut self, payload: &[u8]) -> &mut Self {
        self.add(&[], payload, body_crc(&[], payload));
        self
    }

    /// Adds a record.
    pub fn push_record(&mut self, record: &Record) -> &mut Self {
        self.add(&record.properties, &record.payload, record.crc);
        self
    }

    fn add(&mut self, properties: &[u8], payload: &[u8], crc: u32) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(properties);
        self.bytes.extend_from_slice(payload);
        let end = self.bytes.len();
        self.ends.push(End { start, properties: properties.len(), end, crc });
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of payloads and properties.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn as_part(&self, index: usize) -> Part<'_> {
        let End { start, properties, end, crc } = self.ends[index];
        let (properties, payload) = self.bytes[start..end].split_at(properties);
        Part { properties, payload, crc }
    }
}

macro_rules! many_records {
    ($($type:ty),*) => {$(
        impl Records for $type {
            fn count(&self) -> usize {
                self.ends.len()
            }
            fn part_lens(&self, index: usize) -> (usize, usize) {
                let End { start, properties, end, .. } = self.ends[index];
                (properties, end - start - properties)
            }
            fn part(&self, index: usize) -> Part<'_> {
                self.as_part(index)
            }
        }
    )*};
}

many_records!(Batch, &Batch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed() {
        let record = Record::new("pay").with_properties(&[("k", b"v")]).unwrap();
        let mut batch = Batch::new();
        batch.push(b"").push(b"two").push_record(&record);
        assert_eq!(batch.count(), 3);
        assert_eq!(batch.part_lens(0), (0, 0));
        assert_eq!(batch.part(1).payload, b"two");
        assert_eq!(batch.part(2).payload, b"pay");
        assert_eq!(batch.part(2).crc, record.part(0).crc);
        assert_eq!(batch.part(1).crc, b"two".part(0).crc);
    }

    #[test]
    fn properties_that_do_not_fit_are_refused() {
        let long = vec![0; 70_000];
        assert!(matches!(
            Record::new("x").with_properties(&[("k", &long)]),
            Err(Error::Invalid(_))
        ));
    }
}
