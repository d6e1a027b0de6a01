//! A table by a dense number: pages of slots, so that growing moves nothing that is in it.
//!
//! Invariants: a page is there exactly while one of its slots is filled, so what was removed gives
//! its memory back; what is in a slot stays where it is.
//!
//! Not here: what the numbers name (`LogId::counter`), the table that callers share (`intake`).

/// Slots of a page.
pub(crate) const PAGE_SLOTS: usize = 64;

#[derive(Clone)]
struct Page<T> {
    slots: [Option<T>; PAGE_SLOTS],
    filled: usize,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Table<T> {
    pages: Vec<Option<Box<Page<T>>>>,
    filled: usize,
}

impl<T> Table<T> {
    pub(crate) fn get(&self, n: u64) -> Option<&T> {
        let page = self.pages.get(n as usize / PAGE_SLOTS)?.as_ref()?;
        page.slots[n as usize % PAGE_SLOTS].as_ref()
    }

    pub(crate) fn get_mut(&mut self, n: u64) -> Option<&mut T> {
        let page = self.pages.get_mut(n as usize / PAGE_SLOTS)?.as_mut()?;
        page.slots[n as usize % PAGE_SLOTS].as_mut()
    }

    pub(crate) fn insert(&mut self, n: u64, value: T) {
        let at = n as usize / PAGE_SLOTS;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| {
            Box::new(Page { slots: [const { None }; PAGE_SLOTS], filled: 0 })
        });
        let slot = &mut page.slots[n as usize % PAGE_SLOTS];
        page.filled += usize::from(slot.is_none());
        self.filled += usize::from(slot.is_none());
        *slot = Some(value);
    }

    pub(crate) fn remove(&mut self, n: u64) -> Option<T> {
        let place = self.pages.get_mut(n as usize / PAGE_SLOTS)?;
        let page = place.as_mut()?;
        let gone = page.slots[n as usize % PAGE_SLOTS].take()?;
        page.filled -= 1;
        self.filled -= 1;
        if page.filled == 0 {
            *place = None;
        }
        Some(gone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.from(0)
    }

    /// Those from number `first` on, ascending. Costs nothing for the pages before it.
    pub(crate) fn from(&self, first: u64) -> impl Iterator<Item = (u64, &T)> {
        let pages = self.pages.iter().enumerate().skip(first as usize / PAGE_SLOTS);
        let pages = pages.filter_map(|(at, page)| Some((at * PAGE_SLOTS, page.as_ref()?)));
        let slots = pages.flat_map(|(base, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(at, slot)| Some(((base + at) as u64, slot.as_ref()?)))
        });
        slots.skip_while(move |(n, _)| *n < first)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten().flat_map(|page| page.slots.iter_mut().flatten())
    }

    /// Slots that are filled.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// One more than the highest number that has a place.
    pub(crate) fn places(&self) -> u64 {
        (self.pages.len() * PAGE_SLOTS) as u64
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), filled: 0 }
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Table<T> {}

impl<T: std::fmt::Debug> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_of_numbers() {
        let (mut table, mut model) = (Table::default(), std::collections::BTreeMap::new());
        let mut seed = 5u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (seed >> 33) % 1000;
            if seed >> 62 == 0 {
                table.insert(n, seed);
                model.insert(n, seed);
            } else if seed >> 62 == 1 {
                assert_eq!(table.remove(n), model.remove(&n));
            }
            assert_eq!(table.get(n), model.get(&n));
            assert_eq!(table.from(n).next(), model.range(n..).next().map(|(n, v)| (*n, v)));
        }
        assert!(table.iter().eq(model.iter().map(|(n, v)| (*n, v))));
        table.values_mut().for_each(|value| *value = 1);
        assert!(table.iter().all(|(_, value)| *value == 1));
    }

    #[test]
    fn what_was_removed_leaves_no_page() {
        let mut table = Table::default();
        (0..1000).for_each(|n| table.insert(n, n));
        (0..999).for_each(|n| assert_eq!(table.remove(n), Some(n)));
        assert_eq!(table.pages.iter().flatten().count(), 1);
    }
}
