//! Delivery: who is connected to whom, what arrives, and when.
//!
//! # Streams
//!
//! A connection keeps the order of what is sent over it until it breaks; then everything on its way
//! is lost, and the two ends notice only later. Each node's line has a bandwidth, which all its
//! connections share, so that a large frame delays what is behind it. A frame may also stall in the
//! middle, and what is behind it waits: nothing is lost then. A cut in one direction leaves the
//! other direction as it is, for streams and for gossip, until the ends notice that nothing is
//! answered any more.
//!
//! # Gossip
//!
//! A model of what was measured with real gossipsub: every subscriber of a topic forwards a message
//! once, to at most [`FAN_OUT`] of the subscribers that it is connected to, so that each gets it
//! from the first of them whose copy is not lost and about six copies are sent per delivery.
//! Whoever publishes on a topic without subscribing to it hands the message to as many subscribers
//! that it is connected to, and where there is none nobody hears it. A node hears a message at most
//! once for as long as transports remember it, and never what was published while it was away.

mod cuts;
mod lines;
mod links;

pub(crate) use cuts::Cut;
pub(crate) use links::Sent;

use crate::chance::{between, heavy};
use crate::node::Index;
use crate::plan::NetPlan;
use crate::tally::{Fault, Tally};
use cuts::Cuts;
pub(crate) use lines::LINE;
use lines::Lines;
use links::{Links, Trip};
use quloud::core::types::Time;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// To how many subscribers a node forwards a gossiped message: 6.1 copies per delivery were
/// measured among 50 nodes.
const FAN_OUT: usize = 6;

/// Whoever publishes is connected to at least so many that subscribe.
const REACHED: usize = 3;

/// For how long transports remember a gossiped message.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a stall takes at the least, about.
const STALL: Duration = Duration::from_secs(1);

/// What a node sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    /// Copies of gossiped messages.
    pub(crate) gossip_copies: u64,
    /// Their bytes.
    pub(crate) gossip_bytes: u64,
    /// Frames on streams.
    pub(crate) frames: u64,
    /// Their bytes, payloads included.
    pub(crate) frame_bytes: u64,
}

impl Traffic {
    /// Takes what another node sent in.
    pub(crate) fn add(&mut self, other: &Self) {
        self.gossip_copies += other.gossip_copies;
        self.gossip_bytes += other.gossip_bytes;
        self.frames += other.frames;
        self.frame_bytes += other.frame_bytes;
    }
}

/// One arrival of a gossiped message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Time,
    pub(crate) to: Index,
    /// Whose copy it is.
    pub(crate) forwarder: Index,
}

/// The network of one world.
#[derive(Debug)]
pub(crate) struct Net {
    rng: ChaCha20Rng,
    plan: NetPlan,
    links: Links,
    cuts: Cuts,
    lines: Lines,
    /// Nodes that forward nothing.
    mute: BTreeSet<Index>,
    calm: bool,
    pub(crate) tally: Tally<Fault>,
    pub(crate) traffic: Vec<Traffic>,
}

impl Net {
    /// Nobody is connected. `slow` nodes have lines of 1 to 50 kB/s.
    pub(crate) fn new(seed: [u8; 32], plan: NetPlan, slow: &[bool]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let line = |slow: &bool| if *slow { rng.random_range(1_000..=50_000) } else { LINE };
        let lines = Lines::new(slow.iter().map(line));
        let traffic = vec![Traffic::default(); slow.len()];
        let (links, cuts) = (Links::new(slow.len()), Cuts::default());
        let (mute, tally) = (BTreeSet::new(), Tally::default());
        Self { rng, plan, links, cuts, lines, mute, calm: false, tally, traffic }
    }

    /// One more node, with an ordinary line and no connection.
    pub(crate) fn join(&mut self) {
        self.lines.join();
        self.traffic.push(Traffic::default());
        self.links.join();
    }

    /// From now on nothing goes wrong any more: cuts are over, nothing is lost.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.cuts = Cuts::default();
    }

    /// `node` forwards no gossip from now on.
    pub(crate) fn mute(&mut self, node: Index) {
        self.mute.insert(node);
    }

    /// From now on a node's line carries so many bytes a second.
    pub(crate) fn set_line(&mut self, node: Index, rate: u64) {
        self.lines.set(node, rate);
    }

    /// Begins a cut; the number ends it again.
    pub(crate) fn cut(&mut self, cut: Cut) -> u64 {
        self.tally.count(cut.fault());
        self.cuts.begin(cut)
    }

    /// Ends a cut; the cut, where it still was.
    pub(crate) fn heal(&mut self, number: u64) -> Option<Cut> {
        self.cuts.end(number)
    }

    /// Whether two nodes could talk: no cut is between them, in either direction.
    pub(crate) fn is_open(&self, a: Index, b: Index) -> bool {
        !self.cuts.blocks(a, b) && !self.cuts.blocks(b, a)
    }

    /// The nodes that hear what `origin` gossips now, where nothing is lost and these subscribe.
    pub(crate) fn hearers(
        &self,
        origin: Index,
        subscribes: impl Fn(Index) -> bool,
    ) -> BTreeSet<Index> {
        let forwards = |node: Index| !self.mute.contains(&node);
        self.spread(origin, &subscribes, forwards)
    }

    /// The nodes whose gossip `hearer` hears now, where nothing is lost and these subscribe.
    pub(crate) fn heard(
        &self,
        hearer: Index,
        subscribes: impl Fn(Index) -> bool,
    ) -> BTreeSet<Index> {
        // Anybody may publish; on the way are only those that subscribe.
        let forwards = |node: Index| !self.mute.contains(&node) && subscribes(node);
        self.spread(hearer, |_| true, forwards)
    }

    fn spread(
        &self,
        from: Index,
        takes: impl Fn(Index) -> bool,
        forwards: impl Fn(Index) -> bool,
    ) -> BTreeSet<Index> {
        let mut reached = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            let peers = self.links.peers(node).filter(|peer| self.is_open(node, *peer));
            for peer in peers.filter(|peer| takes(*peer)) {
                if reached.insert(peer) && forwards(peer) {
                    open.push(peer);
                }
            }
        }
        reached
    }

    /// How long one hop takes now.
    pub(crate) fn hop(&mut self) -> Duration {
        between(&mut self.rng, self.plan.hop / 2, self.plan.hop * 2)
    }

    /// How long a dial takes, and whether it succeeds.
    pub(crate) fn dial(&mut self) -> (Duration, bool) {
        let lost = !self.calm && self.plan.dial_loss.happens(&mut self.rng);
        if lost {
            self.tally.count(Fault::DialLost);
            return (Duration::from_secs(10), false);
        }
        (self.hop() * 3, true)
    }

    /// Connects two nodes; `false` where they are connected already.
    pub(crate) fn connect(&mut self, a: Index, b: Index) -> bool {
        self.links.connect(a, b)
    }

    /// Ends a connection of that epoch; `false` where there is none.
    pub(crate) fn disconnect(&mut self, a: Index, b: Index, epoch: u64) -> bool {
        self.links.disconnect(a, b, epoch)
    }

    /// The nodes that a node takes itself to be connected to.
    pub(crate) fn peers(&self, node: Index) -> impl Iterator<Item = Index> + '_ {
        self.links.peers(node)
    }

    /// All pairs that take themselves to be connected.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Index, Index)> + '_ {
        self.links.pairs()
    }

    /// Which connection the two have, where they have one.
    pub(crate) fn epoch(&self, a: Index, b: Index) -> Option<u64> {
        self.links.epoch(a, b)
    }

    /// To how many more that subscribe a node should be connected before it publishes what it does
    /// not subscribe to itself.
    pub(crate) fn lacks_hearers(&self, node: Index, hears: impl Fn(Index) -> bool) -> usize {
        let known = self.links.peers(node).filter(|peer| hears(*peer)).take(REACHED).count();
        if hears(node) { 0 } else { REACHED - known }
    }

    /// Whether the two have a connection, working or not.
    pub(crate) fn is_connected(&self, a: Index, b: Index) -> bool {
        self.links.epoch(a, b).is_some()
    }

    /// Whether the connection of this epoch still carries what was sent over it.
    pub(crate) fn carries(&self, from: Index, to: Index, epoch: u64) -> bool {
        self.links.carries(from, to, epoch)
    }

    /// Every connection of `node` carries nothing any more; the peers and epochs.
    pub(crate) fn break_all(&mut self, node: Index) -> Vec<(Index, u64)> {
        self.lines.forget(node);
        self.links.break_all(node)
    }

    /// Every connection across a cut carries nothing any more in the direction of the cut: what is
    /// lost once is not repeated, and the ends give the connection up, however short the cut is.
    /// Until then the other direction works. The ends and epochs.
    pub(crate) fn break_across(&mut self) -> Vec<(Index, Index, u64)> {
        let cuts = &self.cuts;
        self.links.break_where(|from, to| cuts.blocks(from, to))
    }

    /// Sends a frame of so many bytes.
    pub(crate) fn send(&mut self, now: Time, from: Index, to: Index, bytes: usize) -> Sent {
        let bytes = bytes as u64;
        let hop = self.hop();
        let breaks = !self.calm && self.plan.cut.happens(&mut self.rng);
        let stalls = !self.calm && self.plan.stall.happens(&mut self.rng);
        let (stall, stalls_both) = if stalls {
            let longest = self.plan.stall_longest;
            (heavy(&mut self.rng, STALL, longest), self.rng.random())
        } else {
            (Duration::ZERO, false)
        };
        // What goes nowhere keeps no line busy.
        let goes = !breaks && self.links.flows(from, to);
        let arrives = if goes { self.lines.carry(now, (from, to), bytes, hop) } else { now };
        let trip = Trip { arrives, stall, stalls_both, breaks };
        let sent = self.links.send(now, (from, to), trip);
        match sent {
            Sent::Arrives { stall, .. } if !stall.is_zero() => self.tally.count(Fault::Stall),
            Sent::Breaks { .. } => self.tally.count(Fault::LinkCut),
            Sent::Arrives { .. } if self.lines.is_slow(from, to) => self.tally.count(Fault::Slow),
            _ => {}
        }
        if !matches!(sent, Sent::Refused) {
            let traffic = &mut self.traffic[from];
            traffic.frames += 1;
            traffic.frame_bytes += bytes;
        }
        sent
    }

    /// Gossips a message of so many bytes from `origin` to all who hear it.
    pub(crate) fn gossip(
        &mut self,
        now: Time,
        origin: Index,
        bytes: usize,
        hears: impl Fn(Index) -> bool,
    ) -> Vec<Arrival> {
        let mut first: BTreeMap<Index, Arrival> = BTreeMap::new();
        // Copies on their way, in the order in which they arrive.
        let mut copies = BTreeMap::new();
        let mut number = 0_u64;
        self.forward(now, (origin, origin), bytes, &hears, &mut copies, &mut number);
        while let Some(((at, _), (to, forwarder))) = copies.pop_first() {
            if to == origin || first.contains_key(&to) {
                continue;
            }
            first.insert(to, Arrival { at, to, forwarder });
            if !self.mute.contains(&to) {
                self.forward(at, (to, forwarder), bytes, &hears, &mut copies, &mut number);
            }
        }
        let arrivals: Vec<Arrival> = first.into_values().collect();
        if self.calm { arrivals } else { self.disturb(arrivals) }
    }

    fn forward(
        &mut self,
        now: Time,
        (node, source): (Index, Index),
        bytes: usize,
        hears: &impl Fn(Index) -> bool,
        copies: &mut BTreeMap<(Time, u64), (Index, Index)>,
        number: &mut u64,
    ) {
        let peers = self.links.peers(node).filter(|peer| *peer != source && hears(*peer));
        let chosen = peers.sample(&mut self.rng, FAN_OUT);
        for to in chosen {
            let traffic = &mut self.traffic[node];
            traffic.gossip_copies += 1;
            traffic.gossip_bytes += bytes as u64;
            let lost = !self.calm && self.plan.loss.happens(&mut self.rng);
            if lost || !self.links.flows(node, to) {
                self.tally.count(Fault::GossipLost);
                continue;
            }
            let at = now.after(self.hop());
            copies.insert((at, *number), (to, node));
            *number += 1;
        }
    }

    /// Some arrive late, and some come again when they have been forgotten.
    fn disturb(&mut self, arrivals: Vec<Arrival>) -> Vec<Arrival> {
        let mut disturbed = Vec::with_capacity(arrivals.len());
        for mut arrival in arrivals {
            if self.plan.late.happens(&mut self.rng) {
                self.tally.count(Fault::GossipLate);
                let scale = Duration::from_millis(100);
                let late = heavy(&mut self.rng, scale, self.plan.longest);
                arrival.at = arrival.at.after(late);
            }
            disturbed.push(arrival);
            if self.plan.twice.happens(&mut self.rng) {
                self.tally.count(Fault::GossipTwice);
                let again = REMEMBERED + heavy(&mut self.rng, Duration::from_secs(1), REMEMBERED);
                disturbed.push(Arrival { at: arrival.at.after(again), ..arrival });
            }
        }
        disturbed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use crate::plan::{Frame, Plan};

    /// `nodes` nodes, each connected with each.
    fn net(nodes: usize) -> Net {
        let frame = Frame { nodes: 5..=30, days: 30 };
        let plan = Plan::draw(&mut ChaCha20Rng::seed_from_u64(3), &frame).kind().net;
        let mut net = Net::new([1; 32], plan, &vec![false; nodes]);
        for a in 0..nodes {
            for b in a + 1..nodes {
                net.connect(a, b);
            }
        }
        net
    }

    #[test]
    fn gossip_reaches_all_in_a_handful_of_copies_each() {
        let mut net = net(50);
        let arrivals = net.gossip(Time(0), 0, 300, |_| true);
        let mut reached: Vec<_> = arrivals.iter().map(|arrival| arrival.to).collect();
        reached.sort_unstable();
        assert_eq!(reached, (1..50).collect::<Vec<_>>());
        let copies: u64 = net.traffic.iter().map(|traffic| traffic.gossip_copies).sum();
        assert!((4 * 49..=6 * 50).contains(&copies), "{copies}");
    }

    #[test]
    fn gossip_goes_only_to_subscribers_and_through_them() {
        let mut net = net(30);
        let subscribes = |node: Index| node >= 20;
        let arrivals = net.gossip(Time(0), 0, 300, subscribes);
        assert!(arrivals.len() > 5 && arrivals.iter().all(|arrival| arrival.to >= 20));
        assert!(arrivals.iter().all(|by| by.forwarder == 0 || by.forwarder >= 20));
        assert!(net.traffic[1..20].iter().all(|sent| *sent == Traffic::default()));
        assert_eq!(net.hearers(0, subscribes).len(), 11);
        assert_eq!(net.heard(25, subscribes).len(), 30);
        assert_eq!(net.gossip(Time(0), 0, 300, |_| false), []);
    }

    #[test]
    fn gossip_does_not_cross_a_cut_nor_reach_who_is_away() {
        let mut net = net(10);
        let far: BTreeSet<Index> = (5..10).collect();
        let number = net.cut(Cut::between((0..5).collect(), far.clone()));
        assert_eq!(net.break_across().len(), 25);
        let arrivals = net.gossip(Time(0), 0, 300, |node| node != 4);
        assert_eq!(arrivals.iter().map(|a| a.to).collect::<Vec<_>>(), [1, 2, 3]);
        net.heal(number);
        assert!(net.is_open(0, 9));
    }

    #[test]
    fn a_cut_in_one_direction_leaves_the_other_until_it_is_noticed() {
        let mut net = net(2);
        let Sent::Arrives { epoch, .. } = net.send(Time(0), 0, 1, 9) else { panic!() };
        let number = net.cut(Cut::one_way(BTreeSet::from([0]), BTreeSet::from([1])));
        assert_eq!(net.break_across(), [(0, 1, epoch)]);
        assert!(!net.carries(0, 1, epoch) && net.carries(1, 0, epoch));
        assert_eq!(net.send(Time(0), 0, 1, 9), Sent::Vanishes);
        assert!(matches!(net.send(Time(0), 1, 0, 9), Sent::Arrives { .. }));
        assert_eq!(net.gossip(Time(0), 0, 9, |_| true), []);
        assert_eq!(net.gossip(Time(0), 1, 9, |_| true).len(), 1);
        // No handshake gets through, and what was lost stays so.
        assert!(!net.is_open(0, 1) && !net.is_open(1, 0));
        net.heal(number);
        assert!(net.is_open(0, 1) && !net.carries(0, 1, epoch));
        // A second cut finds nothing new to break.
        net.cut(Cut::between(BTreeSet::from([0]), BTreeSet::from([1])));
        assert_eq!(net.break_across(), []);
        assert!(!net.carries(1, 0, epoch) && net.disconnect(0, 1, epoch) && net.connect(0, 1));
    }

    #[test]
    fn a_link_that_is_cut_leaves_all_others() {
        let mut net = net(4);
        let numbers = [(0, 1), (2, 3)].map(|(a, b)| net.cut(Cut::link(a, b)));
        assert_eq!(net.break_across().len(), 2);
        assert!(!net.is_open(0, 1) && !net.is_open(3, 2) && net.is_open(0, 3));
        net.heal(numbers[0]);
        assert!(net.is_open(0, 1) && !net.is_open(2, 3));
        assert_eq!(net.tally.of(Fault::Swizzle), 2);
        assert_eq!(net.pairs().count(), 6);
    }

    #[test]
    fn a_frame_that_stalls_holds_up_what_is_behind_it_and_nothing_else() {
        let mut net = net(3);
        (net.plan.stall, net.plan.stall_longest) = (Chance::ALWAYS, Duration::from_secs(90));
        let Sent::Arrives { at: first, stall, epoch } = net.send(Time(0), 0, 1, 300) else {
            panic!()
        };
        assert!(stall >= STALL / 2 && first >= Time(0).after(stall));
        net.plan.stall = Chance::NEVER;
        let Sent::Arrives { at: behind, .. } = net.send(Time(0), 0, 1, 300) else { panic!() };
        let Sent::Arrives { at: elsewhere, .. } = net.send(Time(0), 0, 2, 300) else { panic!() };
        assert!(behind >= first && elsewhere < Time(0).after(STALL / 2));
        assert!(net.carries(0, 1, epoch));
        assert_eq!(net.tally.of(Fault::Stall), 1);
    }

    #[test]
    fn a_large_frame_delays_what_is_behind_it() {
        let mut net = net(2);
        net.lines = Lines::new([LINE, 1_000]);
        let Sent::Arrives { at: large, .. } = net.send(Time(0), 0, 1, 60_000) else { panic!() };
        let Sent::Arrives { at: small, .. } = net.send(Time(0), 0, 1, 10) else { panic!() };
        assert!(large >= Time(60_000) && small >= large);
    }
}
