//! The rule of one connection per pair, without any connection.

use super::*;
use crate::core::types::MeshId;
use crate::crypto::keys::NodeKeys;
use crate::net::ids;
use Duration as D;

struct World {
    peers: Peers,
    remote: PeerId,
    node: NodeId,
    hello: Hello,
    now: Instant,
    duties: BTreeMap<StreamId, watch::Receiver<Duty>>,
}

impl World {
    /// `smaller`: whether we are the side that decides.
    fn new(smaller: bool) -> Self {
        let mut sides: Vec<_> = [1, 2]
            .map(|seed| NodeKeys::from_seeds([seed; 32], [seed; 32], [seed; 32]))
            .into_iter()
            .map(|keys| (ids::peer_id(&keys.node_id()), keys))
            .collect();
        sides.sort_by_key(|(peer, _)| *peer);
        if !smaller {
            sides.reverse();
        }
        let (remote, keys) = &sides[1];
        let hello = Hello {
            node: keys.node_id(),
            mesh: MeshId::from_bytes([0; 32]),
            agreement: keys.agreement_key(),
            agreement_signature: keys.sign_agreement(),
            site: String::new(),
            operator: String::new(),
        };
        Self {
            peers: Peers::new(sides[0].0, NetLimits::default()),
            remote: *remote,
            node: keys.node_id(),
            hello,
            now: Instant::now(),
            duties: BTreeMap::new(),
        }
    }

    fn connect(&mut self, id: usize, dialled: bool) {
        let observed: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let addresses = Addresses { dialled: dialled.then(|| observed.clone()), observed };
        let id = ConnectionId::new_unchecked(id);
        self.peers.connected((self.remote, self.node), id, addresses, self.now);
    }

    fn open(&mut self, connection: usize) -> StreamId {
        let connection = ConnectionId::new_unchecked(connection);
        let (id, _, duty, _) = self.peers.opened(self.remote, connection).unwrap();
        self.duties.insert(id, duty);
        id
    }

    fn greet(&mut self, id: StreamId) -> Vec<Step> {
        self.peers.greeted(id, self.hello.clone(), self.now)
    }

    /// A connection with two greeted streams, its `Up` handed over.
    fn link(&mut self, id: usize, dialled: bool) -> ([StreamId; 2], Vec<Step>) {
        self.connect(id, dialled);
        let streams = [self.open(id), self.open(id)];
        let steps = streams.map(|stream| self.greet(stream)).concat();
        self.peers.announced(&self.remote);
        (streams, steps)
    }

    fn end(&mut self, id: StreamId, end: End) -> Vec<Step> {
        self.peers.ended(id, end, self.now)
    }

    fn duty(&self, id: StreamId) -> Duty {
        *self.duties[&id].borrow()
    }

    fn up(&self) -> Step {
        let hello = self.hello.clone();
        let reach = crate::core::effect::Reach::Local;
        Step::Up(Box::new(Peer { node: self.node, hello, reach }))
    }

    fn close(id: usize) -> Step {
        Step::Close(ConnectionId::new_unchecked(id))
    }
}

#[test]
fn a_stream_neither_reads_nor_writes_before_its_peer_is_announced() {
    let mut world = World::new(true);
    world.connect(1, true);
    let (one, two) = (world.open(1), world.open(1));
    assert_eq!(world.greet(one), [world.up()]);
    assert_eq!(world.greet(two), []);
    assert_eq!((world.duty(one), world.duty(two)), (Duty::Wait, Duty::Wait));
    world.peers.announced(&world.remote);
    assert_eq!((world.duty(one), world.duty(two)), (Duty::Control, Duty::Bulk));
}

#[test]
fn one_stream_carries_both_lanes_until_there_is_a_second() {
    let mut world = World::new(true);
    world.connect(1, true);
    let (one, two) = (world.open(1), world.open(1));
    world.greet(one);
    world.peers.announced(&world.remote);
    assert_eq!((world.duty(one), world.duty(two)), (Duty::Both, Duty::Wait));
    world.greet(two);
    assert_eq!((world.duty(one), world.duty(two)), (Duty::Control, Duty::Bulk));
}

#[test]
fn a_lost_connection_is_down_once_its_streams_have_ended() {
    let mut world = World::new(true);
    let ([one, two], steps) = world.link(1, true);
    assert_eq!(steps, [world.up()]);
    let id = ConnectionId::new_unchecked(1);
    assert_eq!(world.peers.disconnected(world.remote, id, world.now), []);
    assert!(world.peers.is_up(&world.remote));
    assert_eq!(world.end(one, End::Broken), []);
    assert_eq!(world.end(two, End::Broken), [Step::Down(world.node)]);
    assert!(world.peers.table.is_empty());
}

#[test]
fn the_smaller_side_keeps_the_connection_that_it_dialled() {
    for first_dialled in [true, false] {
        let mut world = World::new(true);
        let (first, _) = world.link(1, first_dialled);
        let (second, steps) = world.link(2, !first_dialled);
        assert_eq!(steps, []);
        let (kept, given_up) = if first_dialled { (first, second) } else { (second, first) };
        assert_eq!(kept.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
        assert_eq!(given_up.map(|id| world.duty(id)), [Duty::Retire; 2]);
        let number = if first_dialled { 2 } else { 1 };
        assert_eq!(world.end(given_up[0], End::Finished), []);
        assert_eq!(world.end(given_up[1], End::Finished), [World::close(number)]);
        assert_eq!(world.peers.up_count(), 1);
    }
}

#[test]
fn the_larger_side_waits_and_follows_without_going_down() {
    let mut world = World::new(false);
    let (first, _) = world.link(1, true);
    let (second, steps) = world.link(2, false);
    assert_eq!(steps, []);
    assert_eq!(first.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
    assert_eq!(second.map(|id| world.duty(id)), [Duty::Idle; 2]);
    assert_eq!(world.end(first[0], End::Finished), []);
    assert_eq!(second.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
    // The other stream sends nothing more, and does not end before the decider's half of it does.
    assert_eq!(world.duty(first[1]), Duty::Idle);
    assert_eq!(world.end(first[1], End::Finished), []);
    assert!(world.peers.is_up(&world.remote));
    // The decider closes; if it never does, we do.
    assert_eq!(world.peers.tick(world.now + RETIREMENT), [World::close(1)]);
}

#[test]
fn a_retired_connection_whose_survivor_is_still_greeting_does_not_take_the_peer_down() {
    let mut world = World::new(false);
    let (first, _) = world.link(1, true);
    world.connect(2, false);
    let late = world.open(2);
    first.iter().for_each(|id| drop(world.end(*id, End::Finished)));
    assert!(world.peers.is_up(&world.remote));
    assert_eq!(world.greet(late), []);
    assert_eq!(world.duty(late), Duty::Both);
    assert_eq!(world.end(late, End::Broken), [World::close(2), Step::Down(world.node)]);
}

#[test]
fn a_much_newer_connection_replaces_the_old_one_and_the_roles_hear_of_it() {
    for smaller in [true, false] {
        let mut world = World::new(smaller);
        let (old, _) = world.link(1, smaller);
        world.now += SIMULTANEOUS + D::from_secs(1);
        let (new, steps) = world.link(2, !smaller);
        assert_eq!(steps, [Step::Down(world.node), world.up()]);
        assert_eq!(old.map(|id| world.duty(id)), [Duty::Retire; 2]);
        assert_eq!(new.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
        assert_eq!(world.peers.tick(world.now + RETIREMENT), [World::close(1)]);
    }
}

#[test]
fn a_torn_carrier_means_down_and_up_even_where_another_connection_stands() {
    let mut world = World::new(false);
    let (first, _) = world.link(1, true);
    world.link(2, false);
    let steps = world.end(first[0], End::Broken);
    assert_eq!(steps, [World::close(1), Step::Down(world.node), world.up()]);
}

#[test]
fn what_nobody_decides_and_what_never_speaks_is_closed_in_the_end() {
    let mut world = World::new(false);
    world.link(1, false);
    let (second, _) = world.link(2, true);
    let later = world.now + SIMULTANEOUS + D::from_secs(1);
    assert_eq!(world.peers.tick(later), []);
    assert_eq!(second.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
    assert_eq!(world.peers.tick(later + RETIREMENT), [World::close(1)]);

    let mut world = World::new(false);
    world.connect(1, false);
    assert_eq!(world.peers.tick(world.now + SILENT), []);
    let later = world.now + SILENT + D::from_secs(1);
    assert_eq!(world.peers.tick(later), [World::close(1)]);
}

#[test]
fn idle_peers_above_the_bound_are_let_go_and_fresh_ones_are_not() {
    let mut world = World::new(true);
    world.peers.limits.peers_high = 0;
    world.link(1, true);
    assert_eq!(world.peers.prune(world.now), []);
    let later = world.now + D::from_secs(61);
    assert_eq!(world.peers.prune(later), [World::close(1)]);
}

#[test]
fn some_of_the_dialled_connections_are_kept_free_for_the_roles() {
    for dialled in [true, false] {
        let mut world = World::new(true);
        world.peers.limits.established_out = 0;
        world.link(1, dialled);
        let later = world.now + D::from_secs(61);
        let closed: &[Step] = if dialled { &[World::close(1)] } else { &[] };
        assert_eq!(world.peers.prune(later), closed);
    }
}

#[test]
fn a_stream_that_comes_after_its_connection_was_given_up_ends_in_good_order() {
    let mut world = World::new(true);
    world.link(1, true);
    world.connect(2, false);
    let early = world.open(2);
    assert_eq!(world.greet(early), []);
    let late = world.open(2);
    assert_eq!([early, late].map(|id| world.duty(id)), [Duty::Retire; 2]);
    assert_eq!(world.greet(late), []);
    assert_eq!(world.end(early, End::Finished), []);
    assert_eq!(world.end(late, End::Finished), [World::close(2)]);
}

#[test]
fn a_stream_that_breaks_before_its_hello_tears_nothing() {
    let mut world = World::new(false);
    world.connect(1, true);
    let (carrier, late) = (world.open(1), world.open(1));
    world.greet(carrier);
    world.peers.announced(&world.remote);
    let (other, _) = world.link(2, false);
    assert_eq!(world.end(late, End::Broken), []);
    assert_eq!(world.duty(carrier), Duty::Retire);
    assert_eq!(other.map(|id| world.duty(id)), [Duty::Control, Duty::Bulk]);
    assert_eq!(world.end(carrier, End::Finished), [World::close(1)]);
}

#[test]
fn a_connection_on_which_no_stream_opens_is_closed() {
    let mut world = World::new(true);
    world.connect(1, true);
    let id = ConnectionId::new_unchecked(1);
    assert_eq!(world.peers.failed(world.remote, id, world.now), [World::close(1)]);
}
