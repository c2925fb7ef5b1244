//! What is known of a snapshot's replicas, in one word. Pure: whoever reads what a snapshot names
//! [adds](Counts::add) each chunk, [notes](Subject::found) the word of the worst, and
//! [tells](Teller) it as long as nothing was found to be gone. The running node and the simulator
//! do.
//!
//! | word | what is known of the chunks |
//! |---|---|
//! | lost | one was acknowledged, and nobody is known to have it any more |
//! | safe | of each as many replicas as are wanted count, and were proven lately |
//! | at risk | of one fewer count, and all had as many before |
//! | stored | of each as many were acknowledged, and not all of them were proven |
//! | replicating | of one fewer were acknowledged |
//! | queued | none was acknowledged |
//!
//! The first that fits is told. A replica counts unless its holder lied, or is silent for so long
//! that it is suspect or lost ([`standing`](super::standing)). It is proven by an audit since it
//! was acknowledged, not longer than [`PROVEN_S`] ago. What is not known is never taken for better.
//!
//! One replica counts in each failure domain, the one that was proven last: as a quorum counts
//! them. Who shares a domain is known of nodes that were seen ([`apart`]).

mod seen;
mod told;

pub use seen::{SnapshotEvidence, Subject};
pub use told::{Acked, Teller, Told};

use super::standing::DAY_S;
use crate::core::types::NodeId;
use crate::planted::{Bug, is_on};
use crate::repo::near::Near;

/// How long an audit's proof of a replica says that it is safe: 45 days, in seconds. Running nodes
/// ask for all within 30.
pub const PROVEN_S: u64 = 45 * DAY_S;

/// How a snapshot is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Nothing of it was acknowledged.
    Queued,
    /// Some chunk was acknowledged by too few.
    Replicating,
    /// All were acknowledged by as many as are wanted.
    Stored,
    /// And audits proved it.
    Safe,
    /// It was stored or safe, and some chunk has too few replicas that count now.
    AtRisk,
    /// Nobody is known to have some chunk.
    Lost,
}

impl Word {
    /// All of them, by what they are in the catalogue.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Replicating, Self::Stored, Self::Safe, Self::AtRisk, Self::Lost];

    /// Whether all its replicas are there, as far as is known.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Stored | Self::Safe)
    }

    /// The more the worse.
    pub fn badness(self) -> u8 {
        match self {
            Self::Safe => 0,
            Self::Stored => 1,
            Self::Replicating => 2,
            Self::Queued => 3,
            Self::AtRisk => 4,
            Self::Lost => 5,
        }
    }
}

/// One replica of a chunk, by a node that acknowledged it with the store that it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its holder neither lied nor is suspect or lost.
    pub counts: bool,
    /// Another one counts in its failure domain: see [`apart`].
    pub is_beside: bool,
    /// When an audit last proved it since then: seconds since 1970.
    pub audited_s: Option<u64>,
}

/// Replicas by their nodes: of those that count and share a failure domain one does, where that can
/// be the one that was proven last. Those that do not count stand beside it, too.
pub fn apart(near: &Near, mut replicas: Vec<(NodeId, Held)>) -> Vec<Held> {
    if !near.is_empty() {
        replicas.sort_by_key(|(_, held)| std::cmp::Reverse((held.counts, held.audited_s)));
        let counting = replicas.iter().filter(|(_, held)| held.counts).map(|(node, _)| *node);
        let apart = near.apart(counting);
        for (node, held) in &mut replicas {
            let is_beside = apart.iter().any(|other| near.is_near(node, other));
            held.is_beside = is_beside && !apart.contains(node);
        }
    }
    replicas.into_iter().map(|(_, held)| held).collect()
}

/// Of each kind the fewest replicas of any chunk, and how many there are of all chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// How many are wanted.
    pub target: u8,
    /// Acknowledged.
    pub acked: u8,
    /// Of these, those that count.
    pub counted: u8,
    /// Of these, those that were proven lately.
    pub audited: u8,
    /// Until when the proofs of the wanted ones are not too old: seconds since 1970; says something
    /// where as many as are wanted were proven.
    pub until_s: u64,
    /// Chunks.
    pub chunks: u64,
    /// Of these, those that anybody acknowledged and has.
    pub held: u64,
    /// Those that somebody acknowledged and nobody has.
    pub lost: u64,
    /// Replicas, of all chunks, that count and were proven lately.
    pub proven: u64,
    /// All other ones: acknowledged and no more.
    pub unproven: u64,
    /// When the proofs were for which that is longest ago, and least long: seconds since 1970, of
    /// those that were lately; `None` where there is none.
    pub proofs_s: Option<(u64, u64)>,
}

impl Counts {
    /// Of no chunk yet.
    pub fn new(target: u8) -> Self {
        Self {
            target,
            acked: u8::MAX,
            counted: u8::MAX,
            audited: u8::MAX,
            until_s: u64::MAX,
            chunks: 0,
            held: 0,
            lost: 0,
            proven: 0,
            unproven: 0,
            proofs_s: None,
        }
    }

    /// One chunk more, that was acknowledged ever if it `is_known`, and its replicas at `now_s`,
    /// seconds since 1970.
    pub fn add(&mut self, is_known: bool, replicas: &[Held], now_s: u64) {
        let short = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let apart = || replicas.iter().filter(|held| !held.is_beside);
        let counted = || apart().filter(|held| held.counts);
        let since_s = now_s.saturating_sub(PROVEN_S);
        // A proof from a time that lies ahead is none.
        let lately = |at_s: &u64| (since_s..=now_s).contains(at_s);
        let claimed_s = is_on(Bug::WordCountsAcks).then_some(now_s);
        let mut proofs: Vec<u64> =
            counted().filter_map(|it| it.audited_s.or(claimed_s)).filter(lately).collect();
        proofs.sort_unstable_by_key(|at_s| std::cmp::Reverse(*at_s));
        let wanted = usize::from(self.target.max(1));
        if let Some(oldest_s) = proofs.get(wanted - 1) {
            self.until_s = self.until_s.min(oldest_s.saturating_add(PROVEN_S));
        }
        if let (Some(newest_s), Some(oldest_s)) = (proofs.first(), proofs.last()) {
            let before = self.proofs_s.unwrap_or((*oldest_s, *newest_s));
            self.proofs_s = Some((before.0.min(*oldest_s), before.1.max(*newest_s)));
        }
        let unproven = apart().count().saturating_sub(proofs.len());
        self.proven = self.proven.saturating_add(proofs.len() as u64);
        self.unproven = self.unproven.saturating_add(unproven as u64);
        self.acked = self.acked.min(short(apart().count()));
        self.counted = self.counted.min(short(counted().count()));
        self.audited = self.audited.min(short(proofs.len()));
        self.chunks = self.chunks.saturating_add(1);
        self.held = self.held.saturating_add(u64::from(!replicas.is_empty()));
        self.lost = self.lost.saturating_add(u64::from(is_known && replicas.is_empty()));
    }

    /// Other chunks, of which as many replicas are wanted, or more: the word is that of the worse
    /// of both, and the numbers are those of all.
    pub fn absorb(&mut self, other: &Self, was_whole: bool) {
        let rank = |counts: &Self| (counts.word(was_whole).badness(), counts.missing());
        let (chunks, held) = (self.chunks + other.chunks, self.held + other.held);
        let all = Self {
            until_s: self.until_s.min(other.until_s),
            chunks,
            held,
            lost: self.lost.saturating_add(other.lost),
            proven: self.proven.saturating_add(other.proven),
            unproven: self.unproven.saturating_add(other.unproven),
            proofs_s: match (self.proofs_s, other.proofs_s) {
                (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
                (one, two) => one.or(two),
            },
            ..*self
        };
        let worse = if rank(self) >= rank(other) { *self } else { *other };
        let Self { target, acked, counted, audited, .. } = worse;
        *self = Self { target, acked, counted, audited, ..all };
    }

    /// How many replicas that count the worst chunk is short of.
    fn missing(&self) -> u8 {
        self.target.saturating_sub(self.counted)
    }

    /// What it comes to, where all of it was stored or safe before if it `was_whole`.
    pub fn word(&self, was_whole: bool) -> Word {
        let target = self.target.max(1);
        let is_acked = self.acked >= target;
        let are_counted = is_acked && self.counted >= target;
        if self.chunks == 0 {
            return Word::Queued;
        }
        if self.lost > 0 {
            return Word::Lost;
        }
        match (are_counted, is_acked || was_whole) {
            (true, _) if self.audited >= target => Word::Safe,
            (true, _) => Word::Stored,
            (false, true) => Word::AtRisk,
            (false, false) if self.held == 0 => Word::Queued,
            (false, false) => Word::Replicating,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn held(counts: bool, age_s: Option<u64>) -> Held {
        Held { counts, is_beside: false, audited_s: age_s.map(|age_s| NOW_S - age_s) }
    }

    fn of(target: u8, chunks: &[&[Held]]) -> Counts {
        let mut all = Counts::new(target);
        chunks.iter().for_each(|replicas| all.add(true, replicas, NOW_S));
        all
    }

    #[test]
    fn no_word_is_better_than_what_is_known_of_the_worst_chunk() {
        let (mut told, few) = (std::collections::BTreeSet::new(), 0..=4_u8);
        for target in 0..=3_u8 {
            for (acked, counted) in few.clone().flat_map(|a| few.clone().map(move |c| (a, c))) {
                for (audited, flags) in few.clone().flat_map(|a| (0..16_u8).map(move |f| (a, f))) {
                    let [was_whole, is_lost, is_held, is_any] =
                        [1, 2, 4, 8].map(|flag| flags & flag > 0);
                    let (chunks, held) = (u64::from(is_any), u64::from(is_held));
                    let lost = u64::from(is_lost);
                    let counts = Counts {
                        acked,
                        counted,
                        audited,
                        chunks,
                        held,
                        lost,
                        ..Counts::new(target)
                    };
                    let word = counts.word(was_whole);
                    told.insert(word);
                    let (wanted, is_safe) = (target.max(1), word == Word::Safe);
                    let least = acked.min(counted);
                    assert!(!is_safe || audited.min(least) >= wanted, "{counts:?}");
                    assert!(
                        !word.is_whole() || (least >= wanted && is_any && !is_lost),
                        "{word:?}"
                    );
                    assert_eq!(word == Word::Lost, is_any && is_lost, "{counts:?}");
                    let is_at_risk = is_any && !is_lost && least < wanted;
                    let is_at_risk = is_at_risk && (was_whole || acked >= wanted);
                    assert_eq!(word == Word::AtRisk, is_at_risk, "{counts:?} {was_whole}");
                    let is_queued = word == Word::Queued;
                    assert!(!is_queued || !is_any || (!is_held && acked < wanted), "{counts:?}");
                }
            }
        }
        assert_eq!(told.into_iter().collect::<Vec<_>>(), Word::ALL, "each is told of something");
    }

    #[test]
    fn the_worst_chunk_is_told_and_of_its_replicas_those_that_count() {
        let new = held(true, Some(0));
        assert_eq!(of(2, &[&[new, new], &[new, new, new]]).word(false), Word::Safe);
        let unproven = of(2, &[&[new, new], &[new, held(true, None)]]);
        assert_eq!((unproven.word(true), unproven.audited), (Word::Stored, 1));
        let liar = of(2, &[&[new, new], &[new, held(false, Some(0))]]);
        assert_eq!((liar.acked, liar.counted, liar.audited), (2, 1, 1));
        assert_eq!(liar.word(false), Word::AtRisk, "as many acknowledged it");
        let short = of(2, &[&[new, new], &[new]]);
        assert_eq!([true, false].map(|it| short.word(it)), [Word::AtRisk, Word::Replicating]);
        assert_eq!(of(2, &[&[new, new], &[]]).word(true), Word::Lost);
        let mut queued = Counts::new(2);
        queued.add(false, &[], NOW_S);
        assert_eq!(queued.word(false), Word::Queued);
        queued.add(false, &[new], NOW_S);
        assert_eq!(queued.word(false), Word::Replicating);
    }

    #[test]
    fn of_replicas_in_one_failure_domain_the_one_that_was_proven_last_counts() {
        let node = |name| NodeId::from_bytes([name; 32]);
        let near = [(1, 2), (1, 3), (2, 3)].map(|(a, b)| (node(a), node(b))).into_iter().collect();
        let (old, new) = (held(true, Some(9)), held(true, Some(1)));
        let (acked, liar) = (held(true, None), held(false, Some(0)));
        let all = [acked, old, new, liar, old];
        let of = |names: [u8; 5]| (0..).zip(all).map(move |(at, it)| (node(names[at]), it));
        let apart = |near: &Near, names| apart(near, of(names).collect());
        let counting = |names| {
            let mut all = apart(&near, names);
            all.retain(|held| held.counts && !held.is_beside);
            all
        };
        assert_eq!(counting([1, 2, 3, 4, 5]), [new, old], "one of 1 to 3, and 5");
        assert_eq!(counting([4, 5, 6, 1, 2]), [new, old, old, acked], "a liar hides nobody");
        assert_eq!(apart(&Near::default(), [1, 2, 3, 4, 5]), all);
        // Of three that acknowledged it two are in one place: as many as a quorum counted.
        let mut counts = Counts::new(3);
        let three = [(1, acked), (2, old), (4, new)].map(|(name, held)| (node(name), held));
        counts.add(true, &super::apart(&near, three.to_vec()), NOW_S);
        assert_eq!((counts.acked, counts.proven, counts.unproven), (2, 2, 0), "{counts:?}");
        assert_eq!([true, false].map(|it| counts.word(it)), [Word::AtRisk, Word::Replicating]);
    }

    #[test]
    fn replicas_are_counted_by_what_is_known_of_them_and_proofs_are_told_from_when_to_when() {
        let (old, new) = (held(true, Some(9 * DAY_S)), held(true, Some(DAY_S)));
        let acked = held(true, None);
        let counts = of(2, &[&[old, acked], &[new, held(false, Some(0)), acked], &[]]);
        assert_eq!((counts.chunks, counts.held, counts.lost), (3, 2, 1));
        assert_eq!((counts.proven, counts.unproven), (2, 3));
        assert_eq!(counts.proofs_s, Some((NOW_S - 9 * DAY_S, NOW_S - DAY_S)));
        assert_eq!(of(2, &[&[acked]]).proofs_s, None);
    }

    #[test]
    fn of_several_lots_the_worst_is_told_with_its_own_target_and_the_numbers_of_all() {
        let new = held(true, Some(0));
        let acked = held(true, None);
        let lots: [(u8, &[Held], Word); 4] = [
            (1, &[new], Word::Safe),
            (2, &[new, acked], Word::Stored),
            (3, &[new, new], Word::AtRisk),
            (2, &[], Word::Lost),
        ];
        for (one, other) in (0..4).flat_map(|one| (0..4).map(move |other| (one, other))) {
            let [one, other] = [one, other].map(|at: usize| lots[at]);
            let mut all = of(one.0, &[one.1]);
            all.absorb(&of(other.0, &[other.1]), true);
            let worse = if one.2.badness() >= other.2.badness() { one } else { other };
            assert_eq!((all.word(true), all.target), (worse.2, worse.0), "{one:?} {other:?}");
            assert_eq!((all.chunks, usize::from(all.acked)), (2, worse.1.len()));
            let replicas = (one.1.len() + other.1.len()) as u64;
            assert_eq!(all.proven + all.unproven, replicas);
        }
    }

    #[test]
    fn a_proof_is_one_for_45_days_and_none_from_a_time_that_lies_ahead() {
        let two = |age_s| of(2, &[&[held(true, Some(DAY_S)), held(true, Some(age_s))]]);
        assert_eq!(two(PROVEN_S).word(false), Word::Safe);
        assert_eq!(two(PROVEN_S).until_s, NOW_S);
        assert_eq!(two(PROVEN_S + 1).word(false), Word::Stored);
        let ahead = Held { audited_s: Some(NOW_S + 1), ..held(true, None) };
        assert_eq!(of(1, &[&[ahead]]).word(false), Word::Stored);
        // Of three, the two that last longest.
        let ages = [2 * DAY_S, 9 * DAY_S, DAY_S].map(|age_s| held(true, Some(age_s)));
        assert_eq!(of(2, &[&ages]).until_s, NOW_S - 2 * DAY_S + PROVEN_S);
    }
}
