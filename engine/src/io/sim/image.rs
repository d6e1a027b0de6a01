//! The bytes of one simulated file: pages that two images share until one of them changes.
//!
//! Not here: what survives a crash (`state`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Bytes of a page, which is also what a file's space is counted in.
pub(super) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// What is written most, when segments are made: one page for all of it.
static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE as usize]));

/// A file's bytes. What was never written reads as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the file takes on the disk.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Bytes that a write of this range would add to that.
    pub(super) fn would_allocate(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let pages = offset / PAGE..(offset + len).div_ceil(PAGE);
        let total = pages.end - pages.start;
        (total - self.pages.range(pages).count() as u64) * PAGE
    }

    /// Copies out what there is; how much that was.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let take = (PAGE as usize - within).min(len - done);
            let to = &mut buf[done..done + take];
            match self.pages.get(&(at / PAGE)) {
                Some(page) => to.copy_from_slice(&page[within..within + take]),
                None => to.fill(0),
            }
            done += take;
        }
        len
    }

    /// Writes, growing the file if need be.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let take = (PAGE as usize - within).min(bytes.len() - done);
            let piece = &bytes[done..done + take];
            done += take;
            match <&Page>::try_from(piece) {
                Ok(page) if *page == **ZEROS => {
                    self.pages.insert(at / PAGE, Arc::clone(&ZEROS));
                }
                Ok(page) => {
                    self.pages.insert(at / PAGE, Arc::new(*page));
                }
                Err(_) => {
                    let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::clone(&ZEROS));
                    Arc::make_mut(page)[within..within + take].copy_from_slice(piece);
                }
            }
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Writes what `other` was just written, too: whole pages are one from then on.
    pub(super) fn share(&mut self, other: &Self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if !offset.is_multiple_of(PAGE) || !end.is_multiple_of(PAGE) {
            return self.write(offset, bytes);
        }
        let pages = other.pages.range(offset / PAGE..end / PAGE);
        self.pages.extend(pages.map(|(at, page)| (*at, Arc::clone(page))));
        self.len = self.len.max(end);
    }

    /// Sets the length; what is cut off is gone.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(page)[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Turns one bit; false beyond the end.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let mut byte = [0];
        if self.read(offset, &mut byte) == 0 {
            return false;
        }
        self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        true
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Where the pages are that hold something.
    pub(super) fn page_offsets(&self) -> Vec<u64> {
        self.pages.keys().map(|page| page * PAGE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_vec_with_holes() {
        let (mut image, mut shared) = (Image::default(), Image::default());
        let mut model = Vec::new();
        let mut rng = crate::io::sim::Rng::new(3);
        for round in 0..500u64 {
            let offset = rng.below(20_000) as usize;
            let len = rng.below(6_000) as usize;
            let whole = PAGE as usize * (1 + rng.below(2) as usize);
            let aligned = rng.below(3) == 0;
            let (offset, len) = if aligned { (offset / 4096 * 4096, whole) } else { (offset, len) };
            if rng.below(8) == 0 {
                image.set_len(offset as u64);
                model.resize(offset, 0);
            } else if len > 0 {
                let bytes = vec![round as u8 & 3; len];
                let before = image.allocated();
                let more = image.would_allocate(offset as u64, len as u64);
                image.write(offset as u64, &bytes);
                assert_eq!(image.allocated(), before + more);
                shared.share(&image, offset as u64, &bytes);
                assert_eq!(shared.to_vec()[offset..offset + len], bytes);
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&bytes);
            }
            assert_eq!(image.to_vec(), model);
        }
        assert!(image.flip(0, 3) && !image.flip(1 << 40, 0));
    }
}
