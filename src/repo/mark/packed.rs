//! A set of numbers in little more memory than they have themselves.

use std::collections::BTreeSet;

/// So many new ones lie beside the rest, at least, before they are sorted in.
const FRESH_MIN: usize = 1 << 12;

/// With so many of all the new ones are sorted in: one in 16, so that sorting stays cheap.
const FRESH_SHARE: usize = 16;

/// Numbers, ascending, and those that came since.
#[derive(Debug, Default)]
pub(super) struct Packed<T> {
    sorted: Vec<T>,
    /// None of these is in `sorted`.
    fresh: BTreeSet<T>,
}

impl<T: Ord + Copy> Packed<T> {
    pub(super) fn contains(&self, number: T) -> bool {
        self.sorted.binary_search(&number).is_ok() || self.fresh.contains(&number)
    }

    pub(super) fn count(&self) -> usize {
        self.sorted.len() + self.fresh.len()
    }

    /// Adds a number; false where it was there.
    pub(super) fn insert(&mut self, number: T) -> bool {
        if self.sorted.binary_search(&number).is_ok() || !self.fresh.insert(number) {
            return false;
        }
        if self.fresh.len() >= FRESH_MIN.max(self.sorted.len() / FRESH_SHARE) {
            self.settle();
        }
        true
    }

    /// Sorts the new ones in, the greatest first: what is greater than it moves behind it at once.
    fn settle(&mut self) {
        let mut end = self.sorted.len();
        self.sorted.reserve_exact(self.fresh.len());
        self.sorted.extend(&self.fresh);
        for (smaller, number) in std::mem::take(&mut self.fresh).into_iter().enumerate().rev() {
            let before = self.sorted.get(..end).unwrap_or_default();
            let at = before.partition_point(|other| *other < number);
            self.sorted.copy_within(at..end, at + smaller + 1);
            if let Some(place) = self.sorted.get_mut(at + smaller) {
                *place = number;
            }
            end = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn a_packed_set_is_a_set() {
        for span in [1_000, 30_000, u64::MAX] {
            let mut rng = ChaCha20Rng::seed_from_u64(span);
            let (mut packed, mut set) = (Packed::default(), BTreeSet::new());
            for _ in 0..40_000 {
                let number: u64 = rng.random_range(0..span);
                assert_eq!(packed.insert(number), set.insert(number));
            }
            assert_eq!(packed.count(), set.len());
            assert!(set.iter().all(|number| packed.contains(*number)));
            let others = (0..span.min(40_000)).filter(|number| !set.contains(number));
            assert!(others.into_iter().all(|number| !packed.contains(number)));
            assert!(packed.sorted.is_sorted());
        }
    }

    #[test]
    fn a_million_chunks_take_eight_bytes_each() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut packed = Packed::default();
        for _ in 0..1_000_000 {
            packed.insert(rng.random::<u64>());
        }
        let bytes = packed.sorted.capacity() * 8;
        assert!(bytes <= 8_000_000 && packed.fresh.len() <= 1_000_000 / 16, "{bytes}");
    }
}
