//! Where nodes were seen in this run, and which holders share a failure domain by that.
//!
//! Two holders that did are taken to do so for [`REMEMBERED_S`] after that was last seen, over
//! restarts too: whoever is away, or says something else now, stands where it stood. So it is for
//! what is counted and for where replicas are placed, or healing would store nothing elsewhere.
//! Bounds: 1,024 nodes, holders and those that are connected before others; 4,096 pairs over
//! restarts.

use crate::core::effect::Reach;
use crate::core::placement::{DomainPolicy, Pair, Standing, together};
use crate::core::types::NodeId;
use crate::net::{node_of_peer_id, peer_id_of};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const PLACES_MAX: usize = 1_024;

/// Pairs in the file.
const PAIRS_MAX: usize = 4_096;

/// 30 days, in seconds.
const REMEMBERED_S: u64 = 30 * 24 * 3_600;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: BTreeMap<NodeId, Place>,
    /// Those of which anything is known to be there, as they were last told, where they stand.
    holders: BTreeMap<NodeId, Standing>,
    /// Which of them share a domain by that.
    seen: BTreeSet<Pair>,
    /// All pairs that count, and when they were last seen: seconds since 1970.
    pairs: BTreeMap<Pair, u64>,
    policy: Option<DomainPolicy>,
    /// In this run.
    is_drawn: bool,
    met: u64,
}

#[derive(Debug, Default)]
struct Place {
    standing: Standing,
    /// It is connected.
    is_here: bool,
    /// The how many-th meeting, or leave, was its last.
    last: u64,
}

/// What was drawn anew.
pub(super) struct Drawn {
    pub(super) pairs: Vec<Pair>,
    /// Two that held something before share a domain, and that was not known, not to an earlier run
    /// either.
    pub(super) is_nearer: bool,
}

impl Places {
    /// A node is connected, from there, and declares that site.
    pub(super) fn met(&mut self, node: NodeId, reach: Reach, site: &str) {
        if self.all.len() >= PLACES_MAX && !self.all.contains_key(&node) {
            let rank = |(node, place): &(&NodeId, &Place)| {
                (self.holders.contains_key(node), place.is_here, place.last)
            };
            if let Some(least) = self.all.iter().min_by_key(rank).map(|(node, _)| *node) {
                self.all.remove(&least);
            }
        }
        self.met += 1;
        let place = self.all.entry(node).or_default();
        place.standing.observe(reach);
        place.standing.declare(site);
        (place.is_here, place.last) = (true, self.met);
    }

    pub(super) fn left(&mut self, node: &NodeId) {
        self.met += 1;
        if let Some(place) = self.all.get_mut(node) {
            (place.is_here, place.last) = (false, self.met);
        }
    }

    /// Where the node stands; one that was not met stands apart from all.
    pub(super) fn standing(&self, node: &NodeId) -> Standing {
        self.all.get(node).map(|place| place.standing.clone()).unwrap_or_default()
    }

    /// Draws which of these holders share a domain at `now_s`, seconds since 1970; `None` where
    /// that is the same as before.
    pub(super) fn draw(
        &mut self,
        holders: impl Iterator<Item = NodeId>,
        policy: DomainPolicy,
        now_s: u64,
    ) -> Option<Drawn> {
        let holders = holders.map(|node| (node, self.standing(&node))).collect();
        for pair in &self.seen {
            self.pairs.insert(*pair, now_s);
        }
        let is_over = |(pair, at_s): (&Pair, &u64)| {
            !self.seen.contains(pair) && now_s.saturating_sub(*at_s) >= REMEMBERED_S
        };
        let is_same = self.is_drawn && self.policy == Some(policy) && self.holders == holders;
        if is_same && !self.pairs.iter().any(is_over) {
            return None;
        }
        if self.policy.is_some_and(|before| before != policy) {
            self.pairs.clear();
        }
        let seen: BTreeSet<Pair> = together(&holders, policy).collect();
        // At first all of them were holders before this run, as far as anybody knows.
        let held = |node| !self.is_drawn || self.holders.contains_key(node);
        let mut is_nearer = false;
        for pair in &seen {
            let is_new = self.pairs.insert(*pair, now_s).is_none();
            is_nearer |= is_new && held(&pair.0) && held(&pair.1);
        }
        self.pairs.retain(|pair, at_s| {
            // After a jump of the clock it is remembered as long again.
            *at_s = (*at_s).min(now_s);
            seen.contains(pair) || now_s - *at_s < REMEMBERED_S
        });
        (self.holders, self.seen, self.policy) = (holders, seen, Some(policy));
        self.is_drawn = true;
        Some(Drawn { pairs: self.pairs(), is_nearer })
    }

    /// All pairs that count.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        self.pairs.keys().copied().collect()
    }

    /// As it is at `now_s`, for the file.
    pub(super) fn lines(&self, now_s: u64) -> Lines {
        let at = |pair: &Pair, at_s: u64| if self.seen.contains(pair) { now_s } else { at_s };
        let all = self.pairs.iter().map(|(pair, at_s)| (at(pair, *at_s), *pair));
        let mut all: Vec<(u64, Pair)> = all.collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.truncate(PAIRS_MAX);
        let line = |(at_s, (one, other)): (u64, Pair)| (peer_id_of(&one), peer_id_of(&other), at_s);
        let is_strict = self.policy == Some(DomainPolicy::Strict);
        Lines { is_strict, pairs: all.into_iter().map(line).collect() }
    }

    /// From the file.
    pub(super) fn of(lines: Lines) -> Self {
        let pair = |(one, other, at_s): (String, String, u64)| {
            let (one, other) = (node_of_peer_id(&one)?, node_of_peer_id(&other)?);
            Some(((one.min(other), one.max(other)), at_s))
        };
        let pairs = lines.pairs.into_iter().take(PAIRS_MAX).filter_map(pair).collect();
        let policy = match lines.is_strict {
            true => DomainPolicy::Strict,
            false => DomainPolicy::LanCountsEach,
        };
        Self { pairs, policy: Some(policy), ..Self::default() }
    }
}

/// As it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lines {
    is_strict: bool,
    /// Two peer ids, and when they were last seen in one domain.
    pairs: Vec<(String, String, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use DomainPolicy::{LanCountsEach, Strict};

    const DAY_S: u64 = 24 * 3_600;
    const NOW_S: u64 = 1_800_000_000;

    fn node(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn draw(places: &mut Places, holders: &[u32], now_s: u64) -> Option<(usize, bool)> {
        let drawn = places.draw(holders.iter().map(|name| node(*name)), LanCountsEach, now_s);
        drawn.map(|drawn| (drawn.pairs.len(), drawn.is_nearer))
    }

    /// Two holders, of which the second declares another site with each connection.
    fn declares(places: &mut Places, site: &str) {
        places.met(node(1), Reach::Local, "attic");
        places.met(node(2), Reach::Local, site);
    }

    #[test]
    fn two_that_come_together_are_news_once_and_stay_together_over_restarts() {
        let mut places = Places::default();
        declares(&mut places, "");
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), Some((0, false)));
        declares(&mut places, "attic");
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), Some((1, true)));
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), None);
        for at_s in [NOW_S + 1, NOW_S + 2 * DAY_S] {
            declares(&mut places, "");
            assert_eq!(draw(&mut places, &[1, 2], at_s), Some((1, false)), "it says so now");
            declares(&mut places, "attic");
            assert_eq!(draw(&mut places, &[1, 2], at_s), Some((1, false)), "and is no news");
        }
        let at_s = NOW_S + 3 * DAY_S;
        let mut after = Places::of(places.lines(at_s));
        assert_eq!(draw(&mut after, &[1, 2], at_s + 29 * DAY_S), Some((1, false)), "not met yet");
        declares(&mut after, "");
        assert_eq!(draw(&mut after, &[1, 2], at_s + 30 * DAY_S), Some((0, false)), "forgotten");
    }

    #[test]
    fn a_pair_is_remembered_from_when_it_was_last_seen_and_not_from_when_anything_changed() {
        let mut places = Places::default();
        declares(&mut places, "attic");
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), Some((1, true)), "not known to a run before");
        let at_s = NOW_S + 40 * DAY_S;
        assert_eq!(draw(&mut places, &[1, 2], at_s), None);
        declares(&mut places, "");
        assert_eq!(draw(&mut places, &[1, 2], at_s + 1), Some((1, false)));
        assert_eq!(draw(&mut places, &[1, 2], at_s + 29 * DAY_S), None);
        let forgotten = draw(&mut places, &[1, 2], at_s + 31 * DAY_S);
        assert_eq!(forgotten, Some((0, false)), "though nothing else changes");
        assert_eq!(draw(&mut places, &[1, 2], at_s + 32 * DAY_S), None);
    }

    #[test]
    fn whoever_holds_something_only_now_is_no_news() {
        let mut places = Places::default();
        declares(&mut places, "attic");
        places.met(node(3), Reach::Local, "attic");
        assert_eq!(draw(&mut places, &[1], NOW_S), Some((0, false)));
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), Some((1, false)));
        assert_eq!(draw(&mut places, &[1, 2, 3], NOW_S), Some((3, false)));
    }

    #[test]
    fn under_another_policy_all_is_drawn_anew() {
        let mut places = Places::default();
        declares(&mut places, "");
        let strict = |places: &mut Places| {
            let drawn = places.draw([1, 2].map(node).into_iter(), Strict, NOW_S).unwrap();
            (drawn.pairs.len(), drawn.is_nearer)
        };
        assert_eq!(draw(&mut places, &[1, 2], NOW_S), Some((0, false)));
        assert_eq!(strict(&mut places), (1, true));
        let mut after = Places::of(places.lines(NOW_S));
        assert_eq!(draw(&mut after, &[1, 2], NOW_S), Some((0, false)));
        // Before anybody is met holders are known, so that it is news when they are.
        assert_eq!(strict(&mut after), (0, false));
        declares(&mut after, "");
        assert_eq!(strict(&mut after), (1, true));
    }

    #[test]
    fn a_flood_of_names_takes_no_place_from_holders_and_those_that_are_here() {
        let mut places = Places::default();
        declares(&mut places, "attic");
        places.met(node(3), Reach::Local, "here");
        draw(&mut places, &[1, 2], NOW_S);
        [1, 2].iter().for_each(|name| places.left(&node(*name)));
        for name in 4..3_000 {
            places.met(node(name), Reach::Local, "");
            places.left(&node(name));
        }
        assert_eq!(places.all.len(), PLACES_MAX);
        assert!([1, 2, 3].iter().all(|name| places.standing(&node(*name)).is_observed()));
    }
}
