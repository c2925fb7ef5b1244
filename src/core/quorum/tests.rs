//! The collector against an oracle: exhaustively for up to five nodes, by properties above.

use super::*;
use crate::core::effect::Reach;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

/// What can happen to one node's part in a chunk. `Ack` of a node that was not sent the chunk is
/// the forged or misplaced one; a second `Ack` is the duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Volunteer,
    Send,
    Ack,
    Refuse,
}

const STEPS: [Step; 4] = [Step::Volunteer, Step::Send, Step::Ack, Step::Refuse];

/// One node as the oracle sees it: nothing but facts, each of which only its own steps change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Facts {
    volunteered: bool,
    sent: bool,
    acked: bool,
    refused: bool,
}

impl Facts {
    fn after(self, step: Step) -> Self {
        match step {
            // An ack is the end of it.
            _ if self.acked => self,
            Step::Volunteer => Self { volunteered: true, refused: false, ..self },
            Step::Send => Self { sent: true, ..self.after(Step::Volunteer) },
            Step::Ack if self.sent => Self { acked: true, refused: false, ..self },
            Step::Ack => self,
            Step::Refuse => Self { refused: self.volunteered, ..self },
        }
    }

    fn expected(self, domain_is_taken: bool) -> Recorded {
        match self {
            Self { acked: true, .. } => Recorded::Again,
            Self { sent: true, .. } if domain_is_taken => Recorded::SharedDomain,
            Self { sent: true, .. } => Recorded::Counted,
            _ => Recorded::NeverSent,
        }
    }
}

fn node(name: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(name).unwrap(); 32])
}

fn standing(domain: usize) -> Standing {
    let mut standing = Standing::default();
    standing.observe(Reach::PublicV4([203, 0, u8::try_from(domain).unwrap()]));
    standing
}

struct Model {
    /// Node to domain.
    domains: Vec<usize>,
    /// Domain to standing.
    standings: Vec<Standing>,
}

impl Model {
    fn new(domains: Vec<usize>) -> Self {
        Self { domains, standings: (0..40).map(standing).collect() }
    }

    fn apply(&self, collector: &mut Collector, facts: &mut [Facts], who: usize, step: Step) {
        let before = facts[who];
        let taken = (0..facts.len())
            .any(|other| facts[other].acked && self.domains[other] == self.domains[who]);
        match step {
            Step::Volunteer => assert!(collector.volunteer(node(who))),
            Step::Send => collector.sent(node(who)),
            Step::Refuse => collector.refuse(node(who)),
            Step::Ack => {
                let recorded = collector.ack(node(who), &self.standings[self.domains[who]]);
                assert_eq!(recorded, before.expected(taken), "{facts:?} {who}");
            }
        }
        facts[who] = before.after(step);
    }

    /// Compares everything that can be asked of a collector with the facts.
    fn check(&self, collector: &Collector, facts: &[Facts]) {
        let acked: Vec<usize> = (0..facts.len()).filter(|who| facts[*who].acked).collect();
        let domains: BTreeSet<usize> = acked.iter().map(|who| self.domains[*who]).collect();
        assert_eq!(usize::from(collector.replicas()), domains.len(), "{facts:?}");
        let holders: Vec<NodeId> = collector.holders().copied().collect();
        assert_eq!(holders, acked.iter().map(|who| node(*who)).collect::<Vec<_>>());
    }

    /// Walks every state that any order of any steps can lead to, and tries every step there: all
    /// interleavings of any length, because equal facts must give equal answers.
    fn explore(&self) -> usize {
        let start = vec![Facts::default(); self.domains.len()];
        let mut seen = BTreeSet::from([start.clone()]);
        let mut open = VecDeque::from([(Collector::new(3, DomainPolicy::Strict), start)]);
        while let Some((collector, facts)) = open.pop_front() {
            for (who, step) in (0..facts.len()).flat_map(|who| STEPS.map(|step| (who, step))) {
                let (mut collector, mut facts) = (collector.clone(), facts.clone());
                self.apply(&mut collector, &mut facts, who, step);
                // Also where these facts were met before: another way must not give other answers.
                self.check(&collector, &facts);
                if seen.insert(facts.clone()) {
                    open.push_back((collector, facts));
                }
            }
        }
        seen.len()
    }
}

/// All ways to spread `count` nodes over domains.
fn partitions(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |shorter, _| {
        let longer = |domains: Vec<usize>| {
            let fresh = domains.iter().max().map_or(0, |highest| highest + 1);
            (0..=fresh).map(move |next| [domains.as_slice(), &[next]].concat())
        };
        shorter.into_iter().flat_map(longer).collect()
    })
}

#[test]
fn all_interleavings_of_up_to_four_nodes_in_all_domains_are_counted_right() {
    for count in 0..=4 {
        for domains in partitions(count) {
            // A stranger; a volunteer or a refuser, each sent to or not; acked.
            let states = 6_usize.pow(u32::try_from(count).unwrap());
            assert_eq!(Model::new(domains).explore(), states);
        }
    }
}

#[test]
fn all_interleavings_of_five_nodes_are_counted_right() {
    for domains in [vec![0, 1, 2, 3, 4], vec![0, 0, 1, 1, 2]] {
        Model::new(domains).explore();
    }
}

proptest! {
    #[test]
    fn any_history_of_many_nodes_is_counted_right(
        domains in proptest::collection::vec(0..40_usize, 1..60),
        steps in proptest::collection::vec((0..60_usize, 0..4_usize), 0..400),
    ) {
        let model = Model::new(domains);
        let mut collector = Collector::new(3, DomainPolicy::Strict);
        let mut facts = vec![Facts::default(); model.domains.len()];
        let mut highest = 0;
        for (who, step) in steps {
            model.apply(&mut collector, &mut facts, who % model.domains.len(), STEPS[step]);
            prop_assert!(collector.replicas() >= highest, "a count was taken back");
            highest = collector.replicas();
        }
        model.check(&collector, &facts);
    }
}

#[test]
fn sybil_quorum_one_subnet() {
    let mut collector = Collector::new(3, DomainPolicy::LanCountsEach);
    for name in 0..100 {
        collector.sent(node(name));
        collector.ack(node(name), &standing(7));
    }
    assert_eq!(collector.replicas(), 1);
    assert_eq!(collector.holders().count(), 100);
}

#[test]
fn volunteers_above_the_bound_replace_only_refusers() {
    let mut collector = Collector::new(2, DomainPolicy::Strict);
    for name in 0..NODES_MAX {
        assert!(collector.volunteer(node(name)));
    }
    assert!(!collector.volunteer(node(200)));
    collector.refuse(node(5));
    assert!(collector.volunteer(node(200)));
    assert!(!collector.volunteer(node(201)));
    collector.sent(node(202));
    assert_eq!(collector.ack(node(202), &standing(1)), Recorded::NeverSent);
}
