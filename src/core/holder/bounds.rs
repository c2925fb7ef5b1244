//! The bounded tables everything else is built of: rates, budgets, and what was seen before.
//!
//! Each has a cap for one source and one for all sources: a global cap alone would turn exhausted
//! memory into starved honest peers.

use crate::core::codec::Reject;
use crate::core::types::{NodeId, Time};
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, VecDeque};

/// A token bucket's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_s: u32,
    /// Tokens at most, and at the start.
    pub burst: u32,
}

/// A token bucket. Counts thousandths, so that a millisecond brings a whole number of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    rate: Rate,
    thousandths: u64,
    at: Time,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Time) -> Self {
        Self { rate, thousandths: u64::from(rate.burst) * 1_000, at: now }
    }

    /// Takes one token if there is one.
    pub(super) fn take(&mut self, now: Time) -> bool {
        self.take_many(now, 1)
    }

    /// Takes so many tokens, all or nothing.
    fn take_many(&mut self, now: Time, count: u64) -> bool {
        self.refill(now);
        let left = self.thousandths.checked_sub(count.saturating_mul(1_000));
        self.thousandths = left.unwrap_or(self.thousandths);
        left.is_some()
    }

    /// Puts so many tokens back.
    fn refund(&mut self, count: u64) {
        let more = self.thousandths.saturating_add(count.saturating_mul(1_000));
        self.thousandths = more.min(self.capacity());
    }

    fn is_full(&mut self, now: Time) -> bool {
        self.refill(now);
        self.thousandths == self.capacity()
    }

    fn refill(&mut self, now: Time) {
        let elapsed_ms = now.0.saturating_sub(self.at.0);
        let new = elapsed_ms.saturating_mul(self.rate.per_s.into());
        self.thousandths = self.thousandths.saturating_add(new).min(self.capacity());
        self.at = self.at.max(now);
    }

    fn capacity(&self) -> u64 {
        u64::from(self.rate.burst) * 1_000
    }
}

/// A token bucket for each source. At the cap, buckets that are full again are dropped, which
/// loses nothing; where none is, a new source has to wait.
#[derive(Debug)]
pub(super) struct Rates<K = NodeId> {
    rate: Rate,
    sources_max: usize,
    buckets: BTreeMap<K, Bucket>,
}

impl<K: Ord + Copy> Rates<K> {
    pub(super) fn new(rate: Rate, sources_max: usize) -> Self {
        Self { rate, sources_max, buckets: BTreeMap::new() }
    }

    /// Takes one token of `source`.
    ///
    /// # Errors
    /// [`Reject::RateLimited`] or [`Reject::TableFull`].
    pub(super) fn take(&mut self, now: Time, source: K) -> Result<(), Reject> {
        self.take_many(now, source, 1)
    }

    /// Takes so many tokens of `source`, all or nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_many(&mut self, now: Time, source: K, count: u64) -> Result<(), Reject> {
        let known = self.buckets.contains_key(&source);
        if !known && self.buckets.len() >= self.sources_max {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= self.sources_max {
                return Err(Reject::TableFull);
            }
        }
        let bucket = self.buckets.entry(source).or_insert_with(|| Bucket::new(self.rate, now));
        if bucket.take_many(now, count) { Ok(()) } else { Err(Reject::RateLimited) }
    }

    /// Puts the token of something that proved to be legitimate back.
    pub(super) fn refund(&mut self, source: K) {
        self.refund_many(source, 1);
    }

    /// Puts so many tokens of `source` back.
    pub(super) fn refund_many(&mut self, source: K, count: u64) {
        if let Some(bucket) = self.buckets.get_mut(&source) {
            bucket.refund(count);
        }
    }
}

/// An amount that may be in use at once. Keeps an entry only for a source that uses some.
#[derive(Debug)]
pub(super) struct Budget {
    max_per_source: u64,
    max: u64,
    total: u64,
    used: BTreeMap<NodeId, u64>,
}

impl Budget {
    pub(super) fn new(max_per_source: u64, max: u64) -> Self {
        Self { max_per_source, max, total: 0, used: BTreeMap::new() }
    }

    /// Takes `amount`, all or nothing.
    pub(super) fn take(&mut self, source: NodeId, amount: u64) -> bool {
        let used = self.used_by(&source).saturating_add(amount);
        let total = self.total.saturating_add(amount);
        let fits = used <= self.max_per_source && total <= self.max;
        let fits = fits || planted::is_on(Bug::BoundsForShow);
        if fits && amount > 0 {
            self.used.insert(source, used);
            self.total = total;
        }
        fits
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, source: NodeId, amount: u64) {
        let used = self.used_by(&source);
        self.total = self.total.saturating_sub(amount.min(used));
        if used <= amount {
            self.used.remove(&source);
        } else {
            self.used.insert(source, used - amount);
        }
    }

    pub(super) fn used_by(&self, source: &NodeId) -> u64 {
        self.used.get(source).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// What was seen before. At a cap the oldest is forgotten: of the source, or of all.
#[derive(Debug)]
pub(super) struct Seen<K> {
    max_per_source: usize,
    max: usize,
    next: u64,
    keys: BTreeMap<K, u64>,
    order: BTreeMap<u64, (NodeId, K)>,
    sources: BTreeMap<NodeId, VecDeque<u64>>,
}

impl<K: Ord + Copy> Seen<K> {
    pub(super) fn new(max_per_source: usize, max: usize) -> Self {
        Self {
            max_per_source,
            max,
            next: 0,
            keys: BTreeMap::new(),
            order: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.keys.contains_key(key)
    }

    /// Remembers `key`; `false` where it was known already.
    pub(super) fn insert(&mut self, source: NodeId, key: K) -> bool {
        if self.keys.contains_key(&key) {
            return false;
        }
        let own = self.sources.entry(source).or_default();
        if own.len() >= self.max_per_source
            && let Some(oldest) = own.front().copied()
        {
            self.forget(oldest);
        } else if self.keys.len() >= self.max
            && let Some(oldest) = self.order.keys().next().copied()
        {
            self.forget(oldest);
        }
        self.keys.insert(key, self.next);
        self.order.insert(self.next, (source, key));
        self.sources.entry(source).or_default().push_back(self.next);
        self.next += 1;
        true
    }

    /// The oldest of all is the oldest of its source too, so both leave at the front.
    fn forget(&mut self, number: u64) {
        let Some((source, key)) = self.order.remove(&number) else {
            return;
        };
        self.keys.remove(&key);
        if let Some(own) = self.sources.get_mut(&source) {
            own.pop_front();
            if own.is_empty() {
                self.sources.remove(&source);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(tag: u8) -> NodeId {
        NodeId::from_bytes([tag; 32])
    }

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Rate { per_s: 5, burst: 10 }, Time(0));
        assert_eq!((0..100).filter(|_| bucket.take(Time(0))).count(), 10);
        let over_ten_seconds = (0..10_000).filter(|ms| bucket.take(Time(*ms))).count();
        assert!((49..=50).contains(&over_ten_seconds));
        assert_eq!((0..100).filter(|_| bucket.take(Time(u64::MAX))).count(), 10);
    }

    #[test]
    fn bucket_refund_never_exceeds_the_burst() {
        let mut bucket = Bucket::new(Rate { per_s: 1, burst: 2 }, Time(0));
        (0..5).for_each(|_| bucket.refund(1));
        assert_eq!((0..5).filter(|_| bucket.take(Time(0))).count(), 2);
    }

    #[test]
    fn bucket_survives_a_clock_that_steps_back() {
        let mut bucket = Bucket::new(Rate { per_s: 1_000, burst: 1 }, Time(1_000));
        assert!(bucket.take(Time(1_000)));
        assert!(!bucket.take(Time(0)));
        assert!(!bucket.take(Time(1_000)));
    }

    #[test]
    fn full_rate_table_drops_only_buckets_that_are_full_again() {
        let mut rates = Rates::new(Rate { per_s: 1, burst: 1 }, 2);
        assert_eq!(rates.take(Time(0), node(1)), Ok(()));
        assert_eq!(rates.take(Time(0), node(2)), Ok(()));
        assert_eq!(rates.take(Time(0), node(1)), Err(Reject::RateLimited));
        assert_eq!(rates.take(Time(0), node(3)), Err(Reject::TableFull));
        assert_eq!(rates.take(Time(1_000), node(3)), Ok(()));
    }

    #[test]
    fn budget_is_bounded_by_source_and_in_all() {
        let mut budget = Budget::new(10, 15);
        assert!(budget.take(node(1), 10));
        assert!(!budget.take(node(1), 1));
        assert!(budget.take(node(2), 5));
        assert!(!budget.take(node(3), 1));
        budget.give_back(node(1), 10);
        assert_eq!((budget.total(), budget.used_by(&node(1))), (5, 0));
        assert!(!budget.take(node(3), u64::MAX));
        assert!(budget.take(node(3), 10));
    }

    #[test]
    fn seen_forgets_the_oldest_of_the_source_first() {
        let mut seen = Seen::new(2, 3);
        assert!(seen.insert(node(1), 1) && seen.insert(node(2), 2) && seen.insert(node(2), 3));
        assert!(!seen.insert(node(3), 2));
        assert!(seen.insert(node(2), 4)); // source 2 is at its cap: 2 goes, 1 stays
        assert!(seen.contains(&1) && !seen.contains(&2) && seen.contains(&3));
        assert!(seen.insert(node(3), 5)); // the table is at its cap: 1 goes
        assert!(!seen.contains(&1) && seen.len() == 3);
    }
}
