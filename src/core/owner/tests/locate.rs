//! Nodes that hold the owner's chunks are looked for on topics, and say so.

use super::retrieve::{assert_idle, held_by};
use super::*;
use crate::core::message::SearchKind;

const SECOND: Duration = Duration::from_secs(1);

fn sought(world: &World, wanted: &[(ChunkId, ChunkKey)], locality: Locality) -> Vec<SoughtChunk> {
    let of = |(id, ck): &(ChunkId, ChunkKey)| {
        let admin = world.keys.admin.chunk_secret(ck);
        SoughtChunk { id: *id, locality, admin }
    };
    wanted.iter().map(of).collect()
}

fn locate(world: &mut World, ticket: u64, wanted: &[(ChunkId, ChunkKey)]) {
    let wanted = sought(world, wanted, Locality(0));
    let (ticket, deadline) = (Ticket(ticket), world.now.after(60 * SECOND));
    world.command(OwnerCommand::Locate(LocateJob { ticket, wanted, deadline }));
}

/// Who said what, in order.
fn located(world: &World, ticket: u64) -> Vec<(NodeId, Vec<ChunkId>)> {
    let said = |event: &OwnerEvent| match event {
        OwnerEvent::Located { ticket: of, node, ids } if of.0 == ticket => {
            Some((*node, ids.clone()))
        }
        _ => None,
    };
    world.events.iter().filter_map(|(_, event)| said(event)).collect()
}

fn done(world: &World, ticket: u64) -> Option<Time> {
    let ended = |(at, event): &(Time, OwnerEvent)| match event {
        OwnerEvent::LocateDone { ticket: of } if of.0 == ticket => Some(*at),
        _ => None,
    };
    world.events.iter().find_map(ended)
}

fn requests(world: &World) -> Vec<&SearchRequest> {
    let published = world.published.iter().map(|(_, message)| match message {
        TopicMessage::SearchRequest(request) => request,
        other => panic!("{other:?}"),
    });
    published.collect()
}

#[test]
fn holders_are_told_of_once_and_dialed() {
    let mut world = World::new(1);
    let connected = *world.up.first().unwrap();
    let away = world.add(Manners::Honest);
    let both = held_by(&mut world, 1_000, &[connected, away]);
    let one = held_by(&mut world, 1_000, &[away]);
    let none = held_by(&mut world, 1_000, &[]);
    let ids = [both.0, one.0];
    locate(&mut world, 7, &[both, one, none]);
    let began = world.now;
    world.run(30 * SECOND);
    let said: BTreeMap<NodeId, Vec<ChunkId>> = located(&world, 7).into_iter().collect();
    assert_eq!(said, [(connected, vec![ids[0]]), (away, ids.to_vec())].into());
    assert_eq!(located(&world, 7).len(), 2, "however often it was asked");
    assert_eq!(world.dials.iter().map(|(_, node)| *node).collect::<Vec<_>>(), [away]);
    let attempts: Vec<u32> = requests(&world).iter().map(|request| request.attempt).collect();
    assert_eq!(attempts, [0, 1, 2]);
    let took = done(&world, 7).unwrap().since(began);
    assert!(took > 4 * SECOND && took < 10 * SECOND, "{took:?}");
    assert_eq!(world.rejects, []);
    assert!(world.sent.is_empty(), "nothing is fetched");
    assert_idle(&mut world);
}

#[test]
fn many_chunks_are_so_many_requests_of_32_and_those_beyond_the_bound_none() {
    let mut world = World::new(1);
    let node = *world.up.first().unwrap();
    let count = LOCATE_CHUNKS_MAX + 40;
    let wanted: Vec<_> = (0..count).map(|_| held_by(&mut world, 100, &[node])).collect();
    locate(&mut world, 1, &wanted);
    world.run(30 * SECOND);
    assert_eq!(requests(&world).len(), 3 * LOCATE_CHUNKS_MAX / 32);
    assert!(requests(&world).iter().all(|request| request.wanted.len() == 32));
    let said: Vec<ChunkId> = located(&world, 1).into_iter().flat_map(|(_, ids)| ids).collect();
    assert_eq!(said.len(), LOCATE_CHUNKS_MAX);
    let first: BTreeSet<ChunkId> = wanted.iter().map(|(id, _)| *id).take(said.len()).collect();
    assert_eq!(said.into_iter().collect::<BTreeSet<_>>(), first);
}

#[test]
fn chunks_of_other_shards_are_asked_for_on_their_own_topics() {
    let mut world = World::build(0, OwnerLimits::default(), Sharding::new(3, 2), [3; 32]);
    let wanted: Vec<_> = (0..2).map(|_| held_by(&mut world, 100, &[])).collect();
    let mut chunks = sought(&world, &wanted[..1], Locality(0));
    chunks.extend(sought(&world, &wanted[1..], Locality(1 << 13)));
    let deadline = world.now.after(SECOND / 2);
    let job = LocateJob { ticket: Ticket(1), wanted: chunks, deadline };
    world.command(OwnerCommand::Locate(job));
    world.run(SECOND);
    let asked: Vec<usize> = requests(&world).iter().map(|of| of.wanted.len()).collect();
    assert_eq!(asked, [1, 1]);
    assert_eq!(done(&world, 1), Some(deadline), "it ends in any case");
}

#[test]
fn a_question_above_the_bound_ends_at_once_and_so_does_one_for_nothing() {
    let mut world = World::new(0);
    let wanted = [held_by(&mut world, 100, &[])];
    locate(&mut world, 99, &[]);
    assert_eq!(done(&world, 99), Some(world.now));
    let slots = world.role.locate_slots_free() as u64;
    for ticket in 0..=slots {
        locate(&mut world, ticket, &wanted);
    }
    assert_eq!(world.role.locate_slots_free(), 0);
    assert!(done(&world, slots).is_some() && done(&world, 0).is_none());
    world.command(OwnerCommand::Cancel(Ticket(0)));
    assert_eq!(world.role.locate_slots_free(), 1);
    world.run(30 * SECOND);
    assert!(done(&world, 0).is_none() && done(&world, 1).is_some());
    assert_idle(&mut world);
}

/// What a node says is taken only where it says so itself, of this request, and of what was asked.
#[test]
fn offers_that_are_not_true_and_fresh_name_nobody() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    let node = world.add(Manners::Honest);
    let wanted = held_by(&mut world, 1_000, &[node]);
    let id = wanted.0;
    locate(&mut world, 1, &[wanted]);
    let request = requests(&world)[0].clone();
    let forwarder = *world.up.first().unwrap();
    let good = RetrieveOffer { contact: Some(world.fakes[&node].contact()), holds: 1 };
    let beside = RetrieveOffer { holds: 0b10, ..good.clone() };
    let answer = world.seal(&request, &AnswerBody::Offer(beside));
    world.input(answered(forwarder, answer));
    assert_eq!((located(&world, 1), world.dials.len()), (Vec::new(), 0), "of nothing that it has");
    // Of a request for the same, to fetch it.
    let other = SearchRequest { kind: SearchKind::Retrieve, ..request.clone() };
    let stale = world.seal(&other, &AnswerBody::Offer(good.clone()));
    world.input(answered(forwarder, stale));
    assert_eq!(world.rejects.pop(), Some((forwarder, Reject::BadProof)));
    // Its own node's holder role.
    let own = world.owner.node_id();
    let mut by_own = good.clone();
    let hello = &mut by_own.contact.as_mut().unwrap().hello;
    (hello.node, hello.agreement) = (own, world.owner.agreement_key());
    hello.agreement_signature = world.owner.sign_agreement();
    let answer = world.seal(&request, &AnswerBody::Offer(by_own));
    world.input(answered(forwarder, answer));
    assert_eq!((located(&world, 1), world.rejects.len()), (Vec::new(), 0));
    for _ in 0..2 {
        let answer = world.seal(&request, &AnswerBody::Offer(good.clone()));
        world.input(answered(forwarder, answer));
    }
    assert_eq!(located(&world, 1), [(node, vec![id])]);
    assert_eq!(world.rejects, []);
}

#[test]
fn one_neighbour_brings_only_so_many_nodes_that_nobody_is_connected_to() {
    let mut world = World::new(2);
    world.deaf_mesh = true;
    let wanted = held_by(&mut world, 1_000, &[]);
    locate(&mut world, 1, &[wanted]);
    let request = requests(&world)[0].clone();
    let forwarders: Vec<NodeId> = world.up.iter().copied().collect();
    let mut brought = Vec::new();
    for forwarder in &forwarders {
        for _ in 0..40 {
            let node = world.add(Manners::Honest);
            let offer = RetrieveOffer { contact: Some(world.fakes[&node].contact()), holds: 1 };
            let answer = world.seal(&request, &AnswerBody::Offer(offer));
            world.input(answered(*forwarder, answer));
        }
        brought.push(located(&world, 1).len());
    }
    assert_eq!(brought, [16, 32]);
    assert!(world.rejects.iter().all(|(_, reason)| *reason == Reject::TableFull));
    assert!(world.role.load().iter().all(|fill| !fill.is_over()));
}
