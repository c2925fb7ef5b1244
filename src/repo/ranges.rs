//! Which bytes of a file are there. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Which bytes of a file are there: disjoint ranges that do not touch, start to end.
#[derive(Debug, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range that is not empty.
    pub fn add(&mut self, range: &Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, before_end)) = self.0.range(..=start).next_back()
            && *before_end >= start
        {
            start = *before;
            end = end.max(*before_end);
        }
        while let Some((next, next_end)) = self.0.range(start..=end).next() {
            let (next, next_end) = (*next, *next_end);
            end = end.max(next_end);
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    /// Whether all of `range` is there.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        before.is_some_and(|(_, end)| *end >= range.end)
    }

    /// What of `range` is not there, in order.
    pub fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let before = self.0.range(..=range.start).next_back();
        let mut at = before.map_or(range.start, |(_, end)| range.start.max(*end));
        let mut gaps = Vec::new();
        for (start, end) in self.0.range(range.clone()).filter(|(start, _)| **start > range.start) {
            gaps.push(at..*start);
            at = *end;
        }
        gaps.push(at..range.end);
        gaps.retain(|gap| gap.start < gap.end);
        gaps
    }

    /// How many bytes are there.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_added(
            added in proptest::collection::vec((0..60_u64, 1..9_u64), 0..30),
            asked in (0..60_u64, 1..9_u64),
        ) {
            let (mut ranges, mut model) = (Ranges::default(), [false; 80]);
            for (start, length) in added {
                ranges.add(&(start..start + length));
                (start..start + length).for_each(|at| model[at as usize] = true);
            }
            let (start, length) = asked;
            let held = (start..start + length).all(|at| model[at as usize]);
            prop_assert_eq!(ranges.contains(&(start..start + length)), held);
            let mut missing = [false; 80];
            for gap in ranges.gaps(&(start..start + length)) {
                gap.for_each(|at| missing[at as usize] = true);
            }
            let absent = |at: usize| !model[at] && (start..start + length).contains(&(at as u64));
            prop_assert!((0..80).all(|at| missing[at] == absent(at)));
            prop_assert_eq!(ranges.bytes(), model.iter().filter(|held| **held).count() as u64);
        }
    }
}
