//! Little-endian numbers in and out of byte slices.
//!
//! Invariants: the `*_at` functions are for places whose length was checked before; [`Take`] checks
//! each step and is for everything whose length came from the bytes themselves.
//! Not here: what the numbers mean.

use super::Flaw;

/// Copies `bytes` to `out[at..]`; the caller has checked the length.
#[inline]
pub(super) fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

#[inline]
fn array_at<const N: usize>(buf: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&buf[at..at + N]);
    array
}

/// The number at `at`; the caller has checked the length.
#[inline]
pub(super) fn u16_at(buf: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(buf, at))
}

/// The number at `at`; the caller has checked the length.
#[inline]
pub(super) fn u32_at(buf: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(buf, at))
}

/// The number at `at`; the caller has checked the length.
#[inline]
pub(super) fn u64_at(buf: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(buf, at))
}

/// `Short` unless `buf` holds `need` bytes.
#[inline]
pub(super) fn need(buf: &[u8], need: usize) -> Result<(), Flaw> {
    if buf.len() < need { Err(Flaw::Short { need, have: buf.len() }) } else { Ok(()) }
}

/// A cursor over bytes that may lie about their lengths.
#[derive(Clone, Debug)]
pub(super) struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Flaw> {
        let (head, rest) =
            self.rest.split_at_checked(n).ok_or(Flaw::Short { need: n, have: self.rest.len() })?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Flaw> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Flaw> {
        Ok(u16_at(self.bytes(2)?, 0))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Flaw> {
        Ok(u32_at(self.bytes(4)?, 0))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Flaw> {
        Ok(u64_at(self.bytes(8)?, 0))
    }

    /// A string behind its `u32` length.
    pub(super) fn string(&mut self) -> Result<String, Flaw> {
        let len = self.u32()? as usize;
        let bytes = self.bytes(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Field("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

/// Appends a string behind its `u32` length.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) -> Result<(), Flaw> {
    let len = u32::try_from(text.len()).map_err(|_| Flaw::Field("a name is too long"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends numbers.
pub(super) fn put64(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// Appends numbers.
pub(super) fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}
