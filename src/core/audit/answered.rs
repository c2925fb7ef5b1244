//! Whose silence counts: where nobody answers it is most likely this machine that is off line.

use crate::core::effect::Reach;
use crate::core::placement::{DomainPolicy, Standing};
use crate::core::types::{NodeId, Time};
use crate::planted::{Bug, is_on};
use std::collections::BTreeMap;
use std::time::Duration;

/// A line that is down is down for the whole LAN.
const BY_LINE: DomainPolicy = DomainPolicy::Strict;

/// Which holders answered lately, as this run of the node saw it: the time is that of its process,
/// which nobody can set.
#[derive(Debug, Default)]
pub struct Answered {
    lately: BTreeMap<NodeId, Time>,
}

impl Answered {
    /// What is longer ago says nothing.
    pub const LATELY: Duration = Duration::from_secs(3_600);

    /// The process ends.
    pub fn forget(&mut self) {
        self.lately.clear();
    }

    /// A holder answered.
    pub fn add(&mut self, node: NodeId, now: Time) {
        self.lately.insert(node, now);
    }

    /// Whether the silence of `node` is its own, one of these `holders`: two others in different
    /// failure domains answered lately, or one where all others share a domain; or there is no
    /// other holder, and other nodes of the mesh are connected. Those that share the domain of
    /// `node` do not have to answer where any holder out of the LAN does not share it: the same
    /// event may have silenced them.
    ///
    /// As many names as one machine has say no more than one: it may stand on this side of a line
    /// that is down. So does the whole LAN, whatever placement takes for a domain.
    pub fn speak_against<'a>(
        &self,
        now: Time,
        node: &NodeId,
        holders: impl Iterator<Item = (NodeId, &'a Standing)>,
        is_anybody_there: bool,
    ) -> bool {
        if is_on(Bug::BlameTheSilent) {
            return true;
        }
        let is_late =
            |other: &NodeId| self.lately.get(other).is_some_and(|at| now.since(*at) < Self::LATELY);
        let (own, mut others): (Vec<_>, Vec<_>) = holders.partition(|(other, _)| other == node);
        let is_apart =
            |standing: &Standing| !own.iter().any(|(_, own)| own.shares(standing, BY_LINE));
        // The LAN says nothing of a line that leads out of it.
        let mut lan = Standing::default();
        lan.observe(Reach::Local);
        let is_in_lan = |standing: &Standing| standing.shares(&lan, BY_LINE);
        let is_within = own.iter().any(|(_, own)| is_in_lan(own));
        let is_elsewhere =
            |standing: &Standing| is_apart(standing) && (is_within || !is_in_lan(standing));
        if others.iter().any(|(_, standing)| is_elsewhere(standing)) {
            others.retain(|(other, standing)| is_apart(standing) || is_late(other));
        }
        let (mut all, mut answered) = (Vec::new(), Vec::new());
        for (other, standing) in others {
            count(&mut all, standing);
            if is_late(&other) {
                count(&mut answered, standing);
            }
        }
        if all.is_empty() { is_anybody_there } else { answered.len() >= all.len() }
    }
}

/// Two domains are enough.
fn count<'a>(domains: &mut Vec<&'a Standing>, one: &'a Standing) {
    let is_new = !domains.iter().any(|domain| domain.shares(one, BY_LINE));
    if is_new && domains.len() < 2 {
        domains.push(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(10_000_000);

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn at(reach: Reach) -> Standing {
        let mut standing = Standing::default();
        standing.observe(reach);
        standing
    }

    /// Whether the silence of the first of these is its own, of holders with these names.
    fn is_own(answered: &Answered, holders: &[(u8, &Standing)], is_anybody_there: bool) -> bool {
        let all = holders.iter().map(|(name, standing)| (node(*name), *standing));
        answered.speak_against(NOW, &node(holders[0].0), all, is_anybody_there)
    }

    fn answered(names: &[u8]) -> Answered {
        let mut answered = Answered::default();
        names.iter().for_each(|name| answered.add(node(*name), NOW));
        answered
    }

    #[test]
    fn silence_is_a_holders_own_only_while_others_answer() {
        let [one, two, three] = [1, 2, 3].map(|net| at(Reach::PublicV4([192, 0, net])));
        let three = [(1, &one), (2, &two), (3, &three)];
        let own = |names: &[u8], holders: &[(u8, &Standing)], there| {
            is_own(&answered(names), holders, there)
        };
        assert!(!own(&[], &three, true), "this machine may be off line");
        assert!(!own(&[1, 2], &three, true), "one other answered, and there are two");
        assert!(own(&[1, 2, 3], &three, true));
        assert!(own(&[], &three[..1], true), "the only holder there is");
        assert!(!own(&[], &three[..1], false));
        assert!(own(&[2], &three[..2], false), "the other one of two");
        assert!(!own(&[2, 9], &three, true), "who is no holder is none of them");
        let mut old = answered(&[]);
        [2, 3].iter().for_each(|name| old.add(node(*name), Time(NOW.0 - 3_600_000)));
        assert!(!is_own(&old, &three, true), "that was an hour ago");
    }

    #[test]
    fn many_names_of_one_domain_say_no_more_than_one() {
        let (near, far) = (at(Reach::PublicV4([203, 0, 113])), at(Reach::PublicV4([198, 51, 100])));
        let mut home = at(Reach::PublicV4([192, 0, 2]));
        home.declare("attic");
        let away = at(Reach::Relayed);
        let all = [(1, &away), (2, &near), (3, &near), (4, &near), (5, &far)];
        assert!(!is_own(&answered(&[2, 3, 4]), &all, true));
        assert!(is_own(&answered(&[4, 5]), &all, true));
        assert!(is_own(&answered(&[3]), &all[..4], true), "there is no other domain");
        let sites = [(1, &near), (2, &home), (3, &home), (5, &far)];
        assert!(!is_own(&answered(&[2, 3]), &sites, true), "one site");
    }

    #[test]
    fn the_whole_lan_says_no_more_than_one() {
        let (near, far) = (at(Reach::PublicV4([203, 0, 113])), at(Reach::PublicV4([198, 51, 100])));
        let lan = at(Reach::Local);
        let mixed = [(1, &far), (2, &lan), (3, &lan), (4, &near)];
        assert!(!is_own(&answered(&[2, 3]), &mixed, true), "the line out may be down");
        assert!(is_own(&answered(&[2, 4]), &mixed, true));
        let house = [(1, &lan), (2, &lan), (3, &lan)];
        assert!(is_own(&answered(&[2]), &house, true), "in a mesh of one house one is enough");
        assert!(!is_own(&answered(&[1]), &house, true), "but another one");
    }

    #[test]
    fn who_shares_the_domain_of_the_silent_one_is_heard_only_where_nobody_else_could_be() {
        let (near, far) = (at(Reach::PublicV4([203, 0, 113])), at(Reach::PublicV4([198, 51, 100])));
        let two = [(1, &near), (2, &near), (3, &far), (4, &far)];
        assert!(is_own(&answered(&[3, 4]), &two, true), "a house burns, the other one answers");
        assert!(is_own(&answered(&[3]), &two, true), "one of it is enough");
        assert!(!is_own(&answered(&[2]), &two, true), "the line out may be down");
        let lan = at(Reach::Local);
        let beside = [(1, &near), (2, &near), (5, &lan)];
        assert!(!is_own(&answered(&[5]), &beside, true), "the LAN knows of no line out");
        assert!(is_own(&answered(&[2, 5]), &beside, true));
        let one = &two[..2];
        assert!(is_own(&answered(&[2]), one, true), "all share a domain");
        assert!(!is_own(&answered(&[]), one, true));
    }
}
