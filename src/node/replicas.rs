//! How many replicas the chunks of one put have: one byte a chunk, and the smallest at hand.

use std::collections::BTreeMap;

/// The replicas of chunks, by their number in the put.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    of: Vec<u8>,
    /// How many chunks have so many.
    chunks_with: BTreeMap<u8, u64>,
}

impl Replicas {
    /// The chunk has at least so many replicas. Fewer than were told before take nothing back.
    pub(super) fn reached(&mut self, chunk: u64, replicas: u8) {
        // Chunks are numbered in the order in which they are handed over.
        let Ok(at) = usize::try_from(chunk) else { return };
        while self.of.len() <= at {
            self.of.push(0);
            *self.chunks_with.entry(0).or_default() += 1;
        }
        let Some(known) = self.of.get_mut(at).filter(|known| **known < replicas) else { return };
        if let Some(chunks) = self.chunks_with.get_mut(known) {
            *chunks -= 1;
        }
        self.chunks_with.retain(|_, chunks| *chunks > 0);
        *known = replicas;
        *self.chunks_with.entry(replicas).or_default() += 1;
    }

    /// The smallest number of replicas of the first `chunks` chunks: 0 where one was never told of.
    pub(super) fn fewest(&self, chunks: u64) -> u8 {
        if (self.of.len() as u64) < chunks {
            return 0;
        }
        self.chunks_with.keys().next().copied().unwrap_or(0)
    }

    /// Whether any chunk has one.
    pub(super) fn any(&self) -> bool {
        self.chunks_with.keys().next_back().is_some_and(|most| *most > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fewest_are_those_of_a_plain_model(
            told in proptest::collection::vec((0..9_u64, 0..5_u8), 0..60),
            chunks in 0..12_u64,
        ) {
            let (mut replicas, mut model) = (Replicas::default(), BTreeMap::new());
            for (chunk, count) in told {
                replicas.reached(chunk, count);
                let known: &mut u8 = model.entry(chunk).or_default();
                *known = count.max(*known);
            }
            let handed_over = chunks.max(model.keys().next_back().map_or(0, |last| last + 1));
            let of = |chunk| model.get(&chunk).copied().unwrap_or(0);
            let fewest = (0..handed_over).map(of).min().unwrap_or(0);
            prop_assert_eq!(replicas.fewest(handed_over), fewest);
            prop_assert_eq!(replicas.any(), model.values().any(|count| *count > 0));
        }
    }
}
