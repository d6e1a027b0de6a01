//! A record in fragments, put together again.
//!
//! Invariants: fragments are taken in order, each once, and all of one record: the first missing
//! number or strange LSN ends it. Memory is bounded by the largest record that was written.
//!
//! Not here: finding the fragments, and telling what is missing (`catchup`).

use crate::format::RecordHeader;

/// See the module.
#[derive(Default)]
pub(crate) struct Assembly {
    /// The header of the first fragment.
    header: Option<RecordHeader>,
    properties: Vec<u8>,
    payload: Vec<u8>,
    next_index: u32,
}

impl Assembly {
    /// Takes a fragment; false when it is not the next of the record at hand.
    pub(crate) fn take(
        &mut self,
        header: &RecordHeader,
        properties: &[u8],
        payload: &[u8],
    ) -> bool {
        if !header.is_continued() {
            self.properties.clear();
            self.payload.clear();
            (self.header, self.next_index) = (Some(*header), 0);
        }
        let whose = self.header.map(|first| (first.log, first.position()));
        let next = whose == Some((header.log, header.position()))
            && self.next_index == header.fragment_index;
        if next {
            self.next_index += 1;
            self.properties.extend_from_slice(properties);
            self.payload.extend_from_slice(payload);
        }
        next
    }

    /// What was put together: the first fragment's header, all properties, all of the payload.
    pub(crate) fn record(&self) -> Option<(&RecordHeader, &[u8], &[u8])> {
        Some((self.header.as_ref()?, &self.properties, &self.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn header(lsn: u64, flags: u8, fragment_index: u32) -> RecordHeader {
        RecordHeader { lsn: Lsn(lsn), flags, fragment_index, ..RecordHeader::default() }
    }

    #[test]
    fn only_the_next_fragment_of_the_same_record_fits() {
        let mut assembly = Assembly::default();
        assert!(!assembly.take(&header(5, 3, 1), b"", b"its beginning is missing"));
        assert!(assembly.take(&header(5, 1, 0), b"p", b"on"));
        assert!(!assembly.take(&header(5, 3, 2), b"", b"one is missing"));
        assert!(!assembly.take(&header(6, 3, 1), b"", b"of another record"));
        assert!(assembly.take(&header(5, 2, 1), b"q", b"ce"));
        assert!(assembly.take(&header(5, 3, 2), b"", b"!"));
        let (first, properties, payload) = assembly.record().unwrap();
        assert_eq!(
            (first.lsn, properties, payload),
            (Lsn(5), b"pq".as_slice(), b"once!".as_slice())
        );
        assert!(assembly.take(&header(6, 1, 0), b"", b"the next"));
        assert_eq!(assembly.record().unwrap().2, b"the next");
    }
}
