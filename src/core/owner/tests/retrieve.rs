//! Fetch jobs.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A chunk that these nodes hold, and the job that fetches it.
pub(super) fn held_by(world: &mut World, bytes: usize, nodes: &[NodeId]) -> (ChunkId, ChunkKey) {
    let (chunk, ck) = world.chunk(bytes);
    for node in nodes {
        world.fake(*node).held.insert(chunk.id(), (chunk.header, chunk.sealed.clone()));
    }
    (chunk.id(), ck)
}

pub(super) fn fetch(
    world: &mut World,
    ticket: u64,
    (id, ck): (ChunkId, &ChunkKey),
    holders: &[NodeId],
) {
    let deadline = world.now.after(60 * SECOND);
    world.command(OwnerCommand::Fetch(FetchJob {
        ticket: Ticket(ticket),
        id,
        locality: Locality(0),
        read: ck.read_secret(),
        holders: holders.to_vec(),
        only: false,
        deadline,
    }));
}

pub(super) fn fetched(world: &World, ticket: u64) -> Option<(Time, NodeId)> {
    world.events.iter().find_map(|(at, event)| match event {
        OwnerEvent::Fetched { ticket: of, id, header, sealed, from, .. } if of.0 == ticket => {
            assert!(header.id() == *id && header.certifies(sealed));
            Some((*at, *from))
        }
        _ => None,
    })
}

/// Who failed before the chunk came from somebody else.
fn failed_before(world: &World, ticket: u64) -> Option<BTreeMap<NodeId, FetchFailure>> {
    world.events.iter().find_map(|(_, event)| match event {
        OwnerEvent::Fetched { ticket: of, asked, .. } if of.0 == ticket => {
            Some(asked.iter().copied().collect())
        }
        _ => None,
    })
}

pub(super) fn not_fetched(world: &World, ticket: u64) -> Option<BTreeMap<NodeId, FetchFailure>> {
    world.events.iter().find_map(|(_, event)| match event {
        OwnerEvent::NotFetched { ticket: of, asked, .. } if of.0 == ticket => {
            Some(asked.iter().copied().collect())
        }
        _ => None,
    })
}

pub(super) fn asked(world: &World) -> Vec<NodeId> {
    let is_retrieve = |message: &StreamMessage| matches!(message, StreamMessage::Retrieve(_));
    world.sent.iter().filter(|(_, _, m)| is_retrieve(m)).map(|(_, to, _)| *to).collect()
}

/// Nothing is left behind by jobs that are over.
pub(super) fn assert_idle(world: &mut World) {
    world.run(200 * SECOND);
    assert_eq!(world.role.next_timeout(), None);
    assert_eq!(world.role.fetch_slots_free(), OwnerLimits::default().fetch_slots);
}

#[test]
fn known_connected_holder_is_asked_without_gossip() {
    let mut world = World::new(3);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let (id, ck) = held_by(&mut world, 1_000, &nodes);
    fetch(&mut world, 1, (id, &ck), &nodes);
    assert_eq!(world.role.fetch_slots_free(), OwnerLimits::default().fetch_slots - 1);
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(asked(&world), [nodes[0]]);
    assert!(world.published.is_empty() && world.dials.is_empty() && world.rejects.is_empty());
    assert_idle(&mut world);
}

#[test]
fn many_tickets_for_one_chunk_cost_one_transfer() {
    let mut world = World::new(3);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let (id, ck) = held_by(&mut world, 1_000, &nodes);
    for ticket in 0..8 {
        fetch(&mut world, ticket, (id, &ck), &nodes);
    }
    assert_eq!(world.role.fetch_slots_free(), OwnerLimits::default().fetch_slots - 8);
    world.command(OwnerCommand::Cancel(Ticket(0)));
    world.run(SECOND);
    assert_eq!(asked(&world).len(), 1);
    assert!((1..8).all(|ticket| fetched(&world, ticket).is_some()));
    assert_eq!(fetched(&world, 0), None);
    assert_idle(&mut world);
}

#[test]
fn every_ticket_for_one_chunk_has_its_own_deadline() {
    let mut world = World::new(0);
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run(30 * SECOND);
    fetch(&mut world, 2, (id, &ck), &[]);
    world.run(31 * SECOND);
    assert!(not_fetched(&world, 1).is_some() && not_fetched(&world, 2).is_none());
    world.run(30 * SECOND);
    assert!(not_fetched(&world, 2).is_some());
    assert_idle(&mut world);
}

#[test]
fn ticket_with_a_wrong_secret_does_not_spoil_another() {
    let mut world = World::new(1);
    let node = *world.up.first().unwrap();
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    let (_, wrong) = world.chunk(1_000);
    fetch(&mut world, 1, (id, &wrong), &[node]);
    fetch(&mut world, 2, (id, &ck), &[node]);
    world.run_until(SECOND, |world| fetched(world, 2).is_some());
    assert_eq!(fetched(&world, 1), None);
}

#[test]
fn known_holder_that_is_away_is_dialed() {
    let mut world = World::new(0);
    let node = world.add(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(world.dials.len(), 1);
    assert!(world.published.is_empty());
    assert_idle(&mut world);
}

#[test]
fn in_flight_requests_per_holder_are_bounded() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    for ticket in 0..32 {
        let (id, ck) = held_by(&mut world, 300, &[node]);
        fetch(&mut world, ticket, (id, &ck), &[node]);
    }
    assert_eq!(world.role.fetch_slots_free(), 0);
    world.run(5 * SECOND);
    assert_eq!(asked(&world).len(), OwnerLimits::default().fetches_per_holder);
}

#[test]
fn slow_holder_is_hedged() {
    let mut world = World::new(0);
    let slow = world.add_connected(Manners::Silent);
    let good = world.add_connected(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[slow, good]);
    fetch(&mut world, 1, (id, &ck), &[slow, good]);
    assert_eq!(asked(&world), [slow]);
    world.run_until(3 * SECOND, |world| fetched(world, 1).is_some());
    let (at, from) = fetched(&world, 1).unwrap();
    assert_eq!(from, good);
    assert!(at >= Time(1_500), "not before 500 ms");
    assert_eq!(asked(&world), [slow, good]);
    // What the slow one says after that is thrown away, and is no offence.
    let request = world.fakes[&slow].requests[0].request;
    let (header, sealed) = world.fakes[&slow].held[&id].clone();
    let data = ChunkData { request, header, sealed };
    world.stream(slow, StreamMessage::ChunkData(data));
    assert!(world.rejects.is_empty());
    assert_eq!(world.events.len(), 1);
    assert_idle(&mut world);
}

#[test]
fn holder_that_delivers_other_chunks_is_busy_and_not_hedged() {
    let mut load = super::super::source::Load::default();
    for second in 0..20 {
        load.on_answer(Time(second * 1_000), SECOND);
    }
    let since = Time(10_000);
    assert!(load.hedge_at(since) > Time(20_000));
    assert!(load.late_at(since, 10 * SECOND) >= Time(29_000));
    assert_eq!(load.late_at(Time(0), 4 * SECOND), Time(16_000), "there is an end to it");
}

#[test]
fn a_holder_on_a_slow_line_delivers_all_that_it_was_asked_for() {
    let mut world = World::new(0);
    let slow = world.add_connected(Manners::Silent);
    let deadline = world.now.after(600 * SECOND);
    for ticket in 0..8 {
        let (id, ck) = held_by(&mut world, 1_000, &[slow]);
        world.command(OwnerCommand::Fetch(FetchJob {
            ticket: Ticket(ticket),
            id,
            locality: Locality(0),
            read: ck.read_secret(),
            holders: vec![slow],
            only: false,
            deadline,
        }));
    }
    world.run(SECOND);
    let requests = world.fakes[&slow].requests.clone();
    assert_eq!(requests.len(), 8);
    for Retrieve { request, id, .. } in requests {
        world.run(20 * SECOND);
        let (header, sealed) = world.fakes[&slow].held[&id].clone();
        world.stream(slow, StreamMessage::ChunkData(ChunkData { request, header, sealed }));
    }
    assert!((0..8).all(|ticket| fetched(&world, ticket).is_some()));
    assert!(world.rejects.is_empty(), "{:?}", world.rejects);
}

#[test]
fn slow_loris_holder_skipped() {
    let mut world = World::new(0);
    let mute: Vec<NodeId> = (0..2).map(|_| world.add_connected(Manners::Silent)).collect();
    let good = world.add_connected(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[good]);
    fetch(&mut world, 1, (id, &ck), &[mute[0], mute[1], good]);
    world.run_until(12 * SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(fetched(&world, 1).unwrap().1, good);
}

#[test]
fn silent_holders_cost_a_short_patience_and_lose_their_slots() {
    let mut world = World::new(0);
    let silent: Vec<NodeId> = (0..3).map(|_| world.add_connected(Manners::Silent)).collect();
    let good = world.add_connected(Manners::Honest);
    let all = [silent[0], silent[1], silent[2], good];
    let start = world.now;
    for ticket in 0..32 {
        let (id, ck) = held_by(&mut world, 300, &all);
        fetch(&mut world, ticket, (id, &ck), &all);
    }
    world.run_until(60 * SECOND, |world| (0..32).all(|ticket| fetched(world, ticket).is_some()));
    assert!(world.now.since(start) < 3 * SECOND, "{:?}", world.now.since(start));
    let slots = OwnerLimits::default().fetches_per_holder;
    let asked_of = |world: &World, node| asked(world).iter().filter(|to| **to == node).count();
    assert!(silent.iter().all(|node| asked_of(&world, *node) <= slots));
    // What they were asked for is forgotten in the end; they get one request to answer, not eight.
    world.run(120 * SECOND);
    let before = asked(&world).len();
    for ticket in 100..132 {
        let (id, ck) = held_by(&mut world, 300, &silent[..1]);
        fetch(&mut world, ticket, (id, &ck), &silent[..1]);
    }
    assert_eq!(asked(&world)[before..], silent[..1]);
    // It answers that one, and is one of us again.
    let request = world.fakes[&silent[0]].requests.last().unwrap().request;
    let reason = RetrieveRefusal::NotHeld;
    world.fake(silent[0]).manners = Manners::Honest;
    world.stream(silent[0], StreamMessage::RetrieveReject(RetrieveReject { request, reason }));
    let to_it = asked(&world)[before..].iter().filter(|node| **node == silent[0]).count();
    assert_eq!(to_it, 1 + slots);
    world.run(Duration::from_millis(100));
    assert!((101..132).all(|ticket| fetched(&world, ticket).is_some()));
}

#[test]
fn late_answer_is_still_welcome() {
    let mut world = World::new(0);
    let slow = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[slow]);
    fetch(&mut world, 1, (id, &ck), &[slow]);
    world.run(15 * SECOND);
    let request = world.fakes[&slow].requests[0].request;
    let (header, sealed) = world.fakes[&slow].held[&id].clone();
    world.stream(slow, StreamMessage::ChunkData(ChunkData { request, header, sealed }));
    assert!(fetched(&world, 1).is_some());
}

#[test]
fn liar_holder_costs_le_one_chunk() {
    let mut world = World::new(0);
    let liar = world.add_connected(Manners::WrongBytes);
    let good = world.add_connected(Manners::Honest);
    for ticket in 0..20 {
        let (id, ck) = held_by(&mut world, 1_000, &[liar, good]);
        fetch(&mut world, ticket, (id, &ck), &[liar, good]);
        world.run_until(SECOND, |world| fetched(world, ticket).is_some());
        assert_eq!(fetched(&world, ticket).unwrap().1, good);
    }
    assert_eq!(world.rejects, [(liar, Reject::WrongBytes)]);
    assert_eq!(world.fakes[&liar].requests.len(), 1);
    assert_idle(&mut world);
}

#[test]
fn another_chunk_under_its_own_true_header_is_not_the_chunk() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    let (other, _) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run(Duration::from_millis(1));
    let request = world.fakes[&node].requests[0].request;
    let (header, sealed) = world.fakes[&node].held[&other].clone();
    world.stream(node, StreamMessage::ChunkData(ChunkData { request, header, sealed }));
    assert_eq!(world.rejects, [(node, Reject::WrongBytes)]);
    assert!(fetched(&world, 1).is_none());
}

#[test]
fn data_that_was_not_asked_for_is_unsolicited() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    let other = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[node, other]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run(Duration::from_millis(1));
    let request = world.fakes[&node].requests[0].request;
    let (header, sealed) = world.fakes[&node].held[&id].clone();
    let data = |request| {
        let sealed = sealed.clone();
        StreamMessage::ChunkData(ChunkData { request, header, sealed })
    };
    world.stream(other, data(request));
    world.stream(node, data(request ^ 1));
    let reason = RetrieveRefusal::NotHeld;
    world.stream(other, StreamMessage::RetrieveReject(RetrieveReject { request, reason }));
    assert_eq!(world.rejects, [other, node, other].map(|node| (node, Reject::Unsolicited)));
    assert!(world.events.is_empty());
    world.stream(node, data(request));
    assert!(fetched(&world, 1).is_some());
    world.stream(node, data(request));
    assert_eq!(world.rejects.len(), 4, "a second time it is unsolicited");
}

#[test]
fn refusal_leads_to_the_next_holder() {
    for refusal in [RetrieveRefusal::NotHeld, RetrieveRefusal::Busy, RetrieveRefusal::Damaged] {
        let mut world = World::new(0);
        let refuses = world.add_connected(Manners::Withholds(refusal));
        let good = world.add_connected(Manners::Honest);
        let (id, ck) = held_by(&mut world, 1_000, &[refuses, good]);
        fetch(&mut world, 1, (id, &ck), &[refuses, good]);
        world.run_until(SECOND, |world| fetched(world, 1).is_some());
        assert_eq!(asked(&world), [refuses, good]);
        assert!(world.published.is_empty());
        assert_idle(&mut world);
    }
}

/// Asks these alone.
fn fetch_from(world: &mut World, (id, ck): (ChunkId, &ChunkKey), holders: &[NodeId]) {
    let deadline = world.now.after(60 * SECOND);
    world.command(OwnerCommand::Fetch(FetchJob {
        ticket: Ticket(1),
        id,
        locality: Locality(0),
        read: ck.read_secret(),
        holders: holders.to_vec(),
        only: true,
        deadline,
    }));
}

#[test]
fn who_is_asked_alone_answers_alone() {
    for refusal in [RetrieveRefusal::NotHeld, RetrieveRefusal::Damaged] {
        let mut world = World::new(0);
        let refuses = world.add_connected(Manners::Withholds(refusal));
        let good = world.add_connected(Manners::Honest);
        let (id, ck) = held_by(&mut world, 1_000, &[refuses, good]);
        // Whoever else wants the chunk is served all the same.
        fetch(&mut world, 2, (id, &ck), &[good]);
        fetch_from(&mut world, (id, &ck), &[refuses]);
        fetch(&mut world, 3, (id, &ck), &[good]);
        world.run_until(SECOND, |world| not_fetched(world, 1).is_some());
        assert!(fetched(&world, 2).is_some() && fetched(&world, 3).is_some());
        assert_eq!(not_fetched(&world, 1).unwrap().len(), 1, "it ends with its only refusal");
        assert!(world.published.is_empty(), "nobody else is looked for");
        assert_idle(&mut world);
    }
}

#[test]
fn who_is_asked_alone_and_is_busy_is_asked_again_and_nobody_else_is() {
    let mut world = World::new(0);
    let busy = world.add_connected(Manners::Withholds(RetrieveRefusal::Busy));
    let good = world.add_connected(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[busy, good]);
    fetch_from(&mut world, (id, &ck), &[busy]);
    world.run_until(61 * SECOND, |world| not_fetched(world, 1).is_some());
    assert!(world.fakes[&busy].requests.len() > 5);
    assert!(world.fakes[&good].requests.is_empty() && world.published.is_empty());
    assert_eq!(not_fetched(&world, 1), Some([(busy, FetchFailure::Busy)].into()));
    assert_idle(&mut world);
}

#[test]
fn busy_holder_is_asked_again() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Withholds(RetrieveRefusal::Busy));
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run(5 * SECOND);
    assert!((3..6).contains(&world.fakes[&node].requests.len()));
    world.fake(node).manners = Manners::Honest;
    world.run_until(10 * SECOND, |world| fetched(world, 1).is_some());
}

#[test]
fn busy_holder_is_no_fault_and_keeps_its_name() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Withholds(RetrieveRefusal::Busy));
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run(20 * SECOND);
    assert_eq!(world.role.shared.peers.score(world.now, &node), Some(0));
    assert!(world.rejects.is_empty());
}

#[test]
fn one_wrong_guess_at_a_time_and_three_in_a_row_per_node() {
    let mut world = World::new(4);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    for (ticket, node) in (0..).zip(&nodes) {
        let (id, ck) = held_by(&mut world, 300, &[*node]);
        fetch(&mut world, ticket, (id, &ck), &[*node]);
        world.run_until(SECOND, |world| fetched(world, ticket).is_some());
    }
    let before = asked(&world).len();
    let hidden = world.add(Manners::Honest);
    let (id, ck) = held_by(&mut world, 300, &[hidden]);
    fetch(&mut world, 100, (id, &ck), &[]);
    assert_eq!(asked(&world).len(), before + 1);
    world.run_until(SECOND, |world| fetched(world, 100).is_some());
    for ticket in 101..120 {
        let (id, ck) = held_by(&mut world, 300, &[]);
        fetch(&mut world, ticket, (id, &ck), &[]);
        world.run(SECOND);
    }
    let of_node = |node: &NodeId| asked(&world).iter().filter(|asked| *asked == node).count();
    for node in &nodes {
        assert_eq!(of_node(node), 1 + 3);
    }
}

#[test]
fn peer_that_dies_is_replaced_at_once_and_welcome_when_it_returns() {
    let mut world = World::new(0);
    let dies = world.add_connected(Manners::Silent);
    let next = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[dies, next]);
    fetch(&mut world, 1, (id, &ck), &[dies, next]);
    world.run(Duration::from_millis(100));
    world.disconnect(dies);
    assert_eq!(asked(&world), [dies, next]);
    world.fake(dies).manners = Manners::Honest;
    world.disconnect(next);
    world.fake(next).reachable = false;
    world.connect(dies);
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(fetched(&world, 1).unwrap().1, dies);
}

#[test]
fn not_fetched_says_who_was_asked_and_why_not() {
    let mut world = World::new(0);
    let silent = world.add_connected(Manners::Silent);
    let lost = world.add_connected(Manners::Withholds(RetrieveRefusal::NotHeld));
    let rotten = world.add_connected(Manners::Withholds(RetrieveRefusal::Damaged));
    let away = world.add(Manners::Honest);
    world.fake(away).reachable = false;
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    fetch(&mut world, 1, (id, &ck), &[silent, lost, rotten, away]);
    world.run_until(61 * SECOND, |world| not_fetched(world, 1).is_some());
    let expected = [
        (silent, FetchFailure::Late),
        (lost, FetchFailure::NotHeld),
        (rotten, FetchFailure::Damaged),
        (away, FetchFailure::Unreachable),
    ];
    assert_eq!(not_fetched(&world, 1).unwrap(), expected.into());
    assert!(world.published.len() >= 4);
    assert_idle(&mut world);
}

#[test]
fn fetched_says_who_failed_before_and_why() {
    let mut world = World::new(0);
    let lost = world.add_connected(Manners::Withholds(RetrieveRefusal::NotHeld));
    let rotten = world.add_connected(Manners::Withholds(RetrieveRefusal::Damaged));
    let liar = world.add_connected(Manners::WrongBytes);
    let silent = world.add_connected(Manners::Silent);
    let last = world.add_connected(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[liar, last]);
    fetch(&mut world, 1, (id, &ck), &[lost, rotten, liar, silent, last]);
    fetch(&mut world, 2, (id, &ck), &[]);
    world.run_until(9 * SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(fetched(&world, 1).unwrap().1, last);
    // Who owes an answer still has said nothing.
    let expected = [
        (lost, FetchFailure::NotHeld),
        (rotten, FetchFailure::Damaged),
        (liar, FetchFailure::WrongBytes),
    ];
    assert_eq!(failed_before(&world, 1), Some(expected.into()));
    assert_eq!(failed_before(&world, 2), Some(expected.into()));
    let (id, ck) = held_by(&mut world, 1_000, &[last]);
    fetch(&mut world, 3, (id, &ck), &[last]);
    world.run_until(SECOND, |world| fetched(world, 3).is_some());
    assert_eq!(failed_before(&world, 3), Some(BTreeMap::new()));
}

#[test]
fn cancelled_fetch_reports_nothing_and_frees_its_slot() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[node]);
    world.run(SECOND);
    world.command(OwnerCommand::Cancel(Ticket(1)));
    assert_eq!(world.role.fetch_slots_free(), OwnerLimits::default().fetch_slots);
    let request = world.fakes[&node].requests[0].request;
    let (header, sealed) = world.fakes[&node].held[&id].clone();
    world.stream(node, StreamMessage::ChunkData(ChunkData { request, header, sealed }));
    assert_idle(&mut world);
    assert!(world.events.is_empty() && world.rejects.is_empty());
}
