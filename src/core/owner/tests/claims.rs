//! Who is asked for room, and whose answers are used.

use super::store::{SECOND, WINDOW, offers, store_one};
use super::*;

#[test]
fn known_holders_are_asked_directly_and_nothing_is_gossiped() {
    let mut world = World::new(5);
    store_one(&mut world, 0, 3);
    world.run_until(SECOND, |world| world.stored(0).is_some());
    for ticket in 1..50 {
        store_one(&mut world, ticket, 3);
        world.run(Duration::from_millis(30));
    }
    world.run_until(SECOND, |world| (0..50).all(|ticket| world.stored(ticket).is_some()));
    assert_eq!(world.requests_published(), 1);
    assert!(world.rejects.is_empty());
    // The load is spread, also to those that were not among the first.
    assert!(world.fakes.values().all(|fake| fake.held.len() >= 10));
}

#[test]
fn claims_of_long_ago_do_not_spare_the_gossip() {
    let mut world = World::new(3);
    store_one(&mut world, 0, 3);
    world.run(601 * SECOND);
    store_one(&mut world, 1, 3);
    world.run(SECOND);
    assert_eq!(world.requests_published(), 2);
}

#[test]
fn too_few_known_holders_are_asked_and_the_mesh_too() {
    let mut world = World::new(3);
    store_one(&mut world, 0, 3);
    world.run(SECOND);
    world.add_connected(Manners::Honest);
    store_one(&mut world, 1, 4);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.requests_published(), 2);
}

#[test]
fn node_that_answers_on_its_stream_and_on_the_topic_does_nothing_wrong() {
    let mut world = World::new(3);
    store_one(&mut world, 0, 3);
    world.run(SECOND);
    store_one(&mut world, 1, 4);
    world.run(5 * SECOND);
    assert!(world.requests_published() > 2, "it is one short, and asked for again");
    assert_eq!(world.acked(1).len(), 3);
    assert_eq!(world.rejects, []);
}

#[test]
fn a_forged_answer_does_not_silence_the_node_it_names() {
    let mut world = World::new(3);
    world.deaf_mesh = true;
    store_one(&mut world, 1, 3);
    world.run(Duration::from_millis(50));
    let request = offers(&world.published.last().unwrap().1).clone();
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let liar = nodes[0];
    for node in &nodes[1..] {
        let good = StoreClaim { contact: Some(world.fakes[node].contact()), ..claim(&request) };
        let nothing = StoreClaim { wants: 0, ..good.clone() };
        let mut astray = good.clone();
        astray.contact.as_mut().unwrap().record = Bytes::from_static(b"the liar's own record");
        let mut moved = good.clone();
        moved.contact.as_mut().unwrap().hello.site = "elsewhere".into();
        let elsewhere = StoreRequest { offers: Vec::new(), ..request.clone() };
        let keys = |node: &NodeId| &world.fakes[node].keys;
        let (digest, own) = (request.digest(), keys(node));
        let as_liar = SignedAnswer::new(AnswerBody::Claim(nothing.clone()), digest, keys(&liar));
        let good = AnswerBody::Claim(good);
        let SignedAnswer { signature, .. } = SignedAnswer::new(good.clone(), digest, own);
        let mut forged = vec![
            SignedAnswer { signature: [0; 64], body: AnswerBody::Claim(nothing.clone()) },
            as_liar,
            // What the node says to a request that has the same one-time key and other chunks.
            SignedAnswer::new(good, elsewhere.digest(), own),
        ];
        forged.extend([nothing, astray, moved].map(|claim| {
            let body = AnswerBody::Claim(claim);
            SignedAnswer { signature, body }
        }));
        for answer in forged {
            let answer = world.seal_signed(&request, &answer);
            world.input(answered(liar, answer));
            assert_eq!(world.rejects.pop(), Some((liar, Reject::BadProof)));
        }
    }
    for node in &nodes {
        let good = StoreClaim { contact: Some(world.fakes[node].contact()), ..claim(&request) };
        let answer = world.seal(&request, &AnswerBody::Claim(good));
        world.input(answered(liar, answer));
    }
    assert_eq!(world.rejects, []);
    world.run_until(SECOND, |world| world.acked(1).len() == 3);
}

#[test]
fn silent_known_holder_costs_one_settling_time() {
    let mut world = World::new(3);
    store_one(&mut world, 0, 3);
    world.run(SECOND);
    let deaf = *world.up.first().unwrap();
    world.fake(deaf).manners = Manners::Deaf;
    world.add_connected(Manners::Honest);
    store_one(&mut world, 1, 3);
    world.run_until(SECOND, |world| world.stored(1).is_some());
}

#[test]
fn spoofed_request_causes_zero_dials() {
    let mut world = World::new(2);
    let victim = world.add(Manners::Honest);
    let contact = world.fakes[&victim].contact();
    let forwarder = *world.up.first().unwrap();
    store_one(&mut world, 1, 2);
    world.run(2 * SECOND);
    // Requests that the owner role hears, and answers to keys that are not ours. It cannot open
    // any of the boxes, so one that is sealed anew serves a hundred rounds, each under its own tag.
    let mut sealed = Bytes::new();
    for round in 0..100_000_u32 {
        let mut ephemeral = [7; 32];
        ephemeral[..4].copy_from_slice(&round.to_le_bytes());
        let mut request = offers(&world.published[0].1).clone();
        request.ephemeral = ephemeral;
        let message = Message::Topic(TopicMessage::StoreRequest(request.clone()));
        world.input(Input::Message { from: forwarder, via: Via::Topic, message });
        let claim = StoreClaim { contact: Some(contact.clone()), ..claim(&request) };
        if round % 100 == 0 {
            sealed = world.seal(&request, &AnswerBody::Claim(claim.clone())).sealed;
        }
        let answer = Answer { tag: AnswerTag::of(&ephemeral), sealed: sealed.clone() };
        world.input(answered(forwarder, answer));
        world.stream(forwarder, StreamMessage::StoreClaim(claim));
    }
    assert!(world.dials.is_empty());
}

#[test]
fn claims_are_used_only_if_they_are_true_and_fresh() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    let node = world.add(Manners::Honest);
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(400));
    let request = offers(&world.published[0].1).clone();
    let forwarder = *world.up.first().unwrap();
    let good = StoreClaim { contact: Some(world.fakes[&node].contact()), ..claim(&request) };
    let with = |spoil: fn(&mut Contact)| {
        let mut claim = good.clone();
        claim.contact.as_mut().map(spoil).unwrap();
        claim
    };
    let bad = [
        (StoreClaim { contact: None, ..good.clone() }, Reject::Malformed),
        (StoreClaim { ephemeral: [1; 32], ..good.clone() }, Reject::Unsolicited),
        (with(|contact| contact.hello.mesh = MeshId::from_bytes([0; 32])), Reject::WrongMesh),
        (with(|contact| contact.hello.agreement.0[0] ^= 1), Reject::BadProof),
        (with(|contact| contact.hello.agreement_signature[0] ^= 1), Reject::BadProof),
    ];
    for (claim, reason) in bad {
        let answer = world.seal(&request, &AnswerBody::Claim(claim));
        world.input(answered(forwarder, answer));
        assert_eq!(world.rejects.pop(), Some((forwarder, reason)));
    }
    let offer = RetrieveOffer { contact: good.contact.clone(), holds: 1 };
    let answer = world.seal(&request, &AnswerBody::Offer(offer));
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects.pop(), Some((forwarder, Reject::Unsolicited)));
    assert!(world.dials.is_empty());
    let once_more = good.clone();
    let answer = world.seal(&request, &AnswerBody::Claim(good));
    world.input(answered(forwarder, answer.clone()));
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects.pop(), Some((forwarder, Reject::Replayed)));
    let answer = world.seal(&request, &AnswerBody::Claim(once_more));
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects, [], "the same in another box is no replay");
    world.run_until(SECOND, |world| world.stored(1).is_some());
}

#[test]
fn own_node_is_never_a_holder() {
    let mut world = World::new(2);
    let forwarder = *world.up.first().unwrap();
    world.deaf_mesh = true;
    store_one(&mut world, 1, 3);
    world.run(Duration::from_millis(100));
    let request = offers(&world.published[0].1).clone();
    let mut contact = world.fakes[&forwarder].contact();
    contact.hello.node = world.owner.node_id();
    contact.hello.agreement = world.owner.agreement_key();
    contact.hello.agreement_signature = world.owner.sign_agreement();
    let hello = contact.hello.clone();
    let claim = StoreClaim { contact: Some(contact), ..claim(&request) };
    let answer = world.seal(&request, &AnswerBody::Claim(claim));
    world.input(answered(forwarder, answer));
    let node = world.owner.node_id();
    world.input(Input::PeerUp(Peer { node, hello, reach: Reach::Local }));
    world.run(SECOND);
    assert!(world.dials.is_empty() && world.sent.is_empty());
    // Nor when the catalogue says so.
    let (chunk, _) = world.chunk(500);
    let job = StoreJob {
        ticket: Ticket(2),
        load: chunk.into(),
        replicas: 1,
        held_by: vec![node],
        without: Vec::new(),
        beside: Vec::new(),
        deadline: Time(u64::MAX),
    };
    world.command(OwnerCommand::Store(job));
    assert!(world.stored(2).is_none());
}

/// Stores a chunk that these nodes acknowledged earlier, three times. The first `held` of them hold
/// it still.
pub(super) fn store_again(
    world: &mut World,
    ticket: u64,
    acked: &[NodeId],
    held: usize,
) -> ChunkId {
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    for node in &acked[..held] {
        world.fake(*node).held.insert(id, (chunk.header, chunk.sealed.clone()));
    }
    world.command(OwnerCommand::Store(StoreJob {
        ticket: Ticket(ticket),
        load: chunk.into(),
        replicas: 3,
        held_by: acked.to_vec(),
        without: Vec::new(),
        beside: Vec::new(),
        deadline: world.now.after(60 * SECOND),
    }));
    id
}

fn asked_directly(world: &World) -> BTreeSet<NodeId> {
    let asks = |message: &StreamMessage| matches!(message, StreamMessage::StoreRequest(_));
    world.sent.iter().filter(|(_, _, message)| asks(message)).map(|(_, to, _)| *to).collect()
}

#[test]
fn a_chunk_that_is_still_held_is_not_sent_again() {
    let mut world = World::new(6);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let id = store_again(&mut world, 1, &nodes[3..], 3);
    assert!(world.stored(1).is_none(), "nobody was asked yet");
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap(), &nodes[3..]);
    assert_eq!(asked_directly(&world), nodes[3..].iter().copied().collect());
    assert!(world.receivers(&id).is_empty() && world.published.is_empty());
    assert_eq!(world.role.store_window_free(), WINDOW);
    let id = store_again(&mut world, 2, &nodes[..2], 2);
    world.run_until(SECOND, |world| world.stored(2).is_some());
    assert_eq!(world.receivers(&id).len(), 1, "one more");
    assert!(!nodes[..2].contains(&world.receivers(&id)[0]));
}

#[test]
fn amnesia_node_never_counted() {
    let mut world = World::new(3);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    // One lost its store, and is sent the chunk anew.
    world.lose_store(nodes[2]);
    let id = store_again(&mut world, 1, &nodes, 2);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.receivers(&id), [nodes[2]]);
    assert_eq!(world.acked(1), [(nodes[2], 3)]);
    assert!(world.published.is_empty());
    // One says nothing: it may be anything.
    world.fake(nodes[2]).manners = Manners::Deaf;
    store_again(&mut world, 2, &nodes, 3);
    world.run(61 * SECOND);
    assert!(world.stored(2).is_none());
    assert_eq!(world.short(2).map(|(replicas, _)| replicas), Some(2));
}

#[test]
fn ack_for_another_store_voids_the_acks_before_it() {
    let mut world = World::new(3);
    let id = store_one(&mut world, 1, 4);
    world.run(SECOND);
    assert_eq!(world.acked(1).len(), 3);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    world.lose_store(nodes[0]);
    // Nothing shows it before it acknowledges something else; then it gets the chunk anew.
    store_one(&mut world, 2, 3);
    world.run(SECOND);
    let again = world.receivers(&id).iter().filter(|node| **node == nodes[0]).count();
    assert_eq!(again, 2);
    assert_eq!(world.acked(1).last(), Some(&(nodes[0], 3)));
    assert!(world.fakes[&nodes[0]].held.contains_key(&id));
    // Whoever counts in the end has the chunk.
    world.lose_store(nodes[1]);
    store_one(&mut world, 3, 3);
    world.run(SECOND);
    world.add_connected(Manners::Honest);
    world.run_until(30 * SECOND, |world| world.stored(1).is_some());
    for node in world.stored(1).unwrap() {
        assert!(world.fakes[node].held.contains_key(&id), "{node} has it");
    }
}

/// Found by the simulator: such a holder, with two chunks short of their quorum, was sent both of
/// them again for each ack, without end.
#[test]
fn holder_that_is_another_store_each_time_is_not_sent_everything_for_ever() {
    let mut world = World::new(2);
    let fickle = *world.up.first().unwrap();
    world.fake(fickle).manners = Manners::Fickle;
    let ids: Vec<ChunkId> = (1..=8).map(|ticket| store_one(&mut world, ticket, 3)).collect();
    world.run(120 * SECOND);
    for id in &ids {
        let receivers = world.receivers(id);
        assert!(receivers.iter().filter(|node| **node == fickle).count() <= 2);
    }
    // It may restart with a new store, once.
    world.disconnect(fickle);
    world.fake(fickle).manners = Manners::Honest;
    world.connect(fickle);
    let id = store_one(&mut world, 9, 2);
    world.run(SECOND);
    assert!(world.stored(9).is_some() && world.receivers(&id).contains(&fickle));
}

#[test]
fn earlier_holder_that_is_away_is_not_counted() {
    let mut world = World::new(4);
    let away = *world.up.first().unwrap();
    world.disconnect(away);
    world.fake(away).manners = Manners::Deaf;
    let up: Vec<NodeId> = world.up.iter().copied().collect();
    let id = store_again(&mut world, 1, &[up[0], up[1], away], 3);
    world.run_until(2 * SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap(), &up);
    assert_eq!(world.receivers(&id), [up[2]]);
}

#[test]
fn claim_to_hold_a_chunk_without_an_earlier_ack_counts_for_nothing() {
    let mut world = World::new(3);
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    for fake in world.fakes.values_mut() {
        fake.held.insert(id, (chunk.header, chunk.sealed.clone()));
    }
    world.store(1, chunk, 3);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.receivers(&id).len(), 3);
}

#[test]
fn answers_that_do_not_open_use_up_their_forwarders_share_only() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(50));
    let request = offers(&world.published[0].1).clone();
    let forwarder = *world.up.first().unwrap();
    let mut answer = world.seal(
        &StoreRequest { ephemeral: [8; 32], ..request.clone() },
        &AnswerBody::Claim(claim(&request)),
    );
    answer.tag = AnswerTag::of(&request.ephemeral);
    for _ in 0..600 {
        world.input(answered(forwarder, answer.clone()));
    }
    let full = world.rejects.iter().filter(|(_, reason)| *reason == Reject::TableFull).count();
    assert_eq!((full, world.rejects.len()), (600 - 256, 600));
    let other = world.add_connected(Manners::Honest);
    let holder = world.add(Manners::Honest);
    let claim = world.fakes[&holder].claim(&request);
    let claim = StoreClaim { contact: Some(world.fakes[&holder].contact()), ..claim };
    let answer = world.seal(&request, &AnswerBody::Claim(claim));
    world.input(answered(other, answer));
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap(), &[holder]);
}

#[test]
fn made_up_nodes_of_one_forwarder_leave_room_and_go_first() {
    let mut world = World::new(0);
    world.deaf_mesh = true;
    let hostile = world.add_connected(Manners::Deaf);
    let neighbour = world.add_connected(Manners::Deaf);
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(50));
    let request = offers(&world.published[0].1).clone();
    let claims = |world: &mut World, from: NodeId, reachable: bool| {
        let node = world.add(Manners::Honest);
        world.fake(node).reachable = reachable;
        let contact = Some(world.fakes[&node].contact());
        let claim = StoreClaim { contact, ..claim(&request) };
        let answer = world.seal(&request, &AnswerBody::Claim(claim));
        let before = world.rejects.len();
        world.input(answered(from, answer));
        world.rejects.len() == before
    };
    assert_eq!((0..100).filter(|_| claims(&mut world, hostile, false)).count(), 32);
    assert_eq!((0..100).filter(|_| claims(&mut world, neighbour, false)).count(), 32);
    // Each one that could not be reached makes room, whoever comes.
    world.run(Duration::from_millis(400));
    let late = world.add_connected(Manners::Deaf);
    assert!(claims(&mut world, late, true));
    world.run_until(30 * SECOND, |world| world.stored(1).is_some());
}

#[test]
fn flood_of_strangers_claims_does_not_shut_out_connected_peers() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    for _ in 0..100 {
        let node = world.add(Manners::Honest);
        world.fake(node).reachable = false;
    }
    let good = *world.up.first().unwrap();
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(50));
    let request = offers(&world.published[0].1).clone();
    let mut contacts: Vec<Contact> = world.fakes.values().map(Fake::contact).collect();
    contacts.sort_by_key(|contact| contact.hello.node == good);
    for contact in contacts {
        let claim = StoreClaim { contact: Some(contact), ..claim(&request) };
        let answer = world.seal(&request, &AnswerBody::Claim(claim));
        world.input(answered(good, answer));
    }
    let full = world.rejects.iter().filter(|(_, reason)| *reason == Reject::TableFull).count();
    assert_eq!(full, 100 - 32);
    world.run_until(SECOND, |world| world.stored(1).is_some());
}

/// Stores a chunk, or says once more that it is to be stored, at none of these.
fn store_without(
    world: &mut World,
    ticket: u64,
    chunk: &SealedChunk,
    replicas: u8,
    without: &[NodeId],
) {
    let job = StoreJob {
        ticket: Ticket(ticket),
        load: chunk.duplicate().into(),
        replicas,
        held_by: without.to_vec(),
        without: without.to_vec(),
        beside: Vec::new(),
        deadline: world.now.after(60 * SECOND),
    };
    world.command(OwnerCommand::Store(job));
}

#[test]
fn who_may_be_about_to_let_a_chunk_go_is_not_given_it_and_does_not_count() {
    let mut world = World::new(4);
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    for node in &nodes[..2] {
        world.fake(*node).held.insert(id, (chunk.header, chunk.sealed.clone()));
    }
    store_without(&mut world, 1, &chunk, 2, &nodes[..2]);
    world.run_until(30 * SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap(), &nodes[2..]);
    assert!(world.receivers(&id).iter().all(|node| nodes[2..].contains(node)));
    // Nor does what such a node acknowledged to an earlier command.
    let (chunk, _) = world.chunk(1_000);
    store_without(&mut world, 2, &chunk, 5, &[]);
    world.run(30 * SECOND);
    assert_eq!(world.receivers(&chunk.id()).len(), 4, "there are four, and five are wanted");
    store_without(&mut world, 3, &chunk, 4, &nodes[..1]);
    world.run(30 * SECOND);
    assert!(world.stored(3).is_none() && world.stored(2).is_none());
    store_without(&mut world, 4, &chunk, 3, &[]);
    assert_eq!(world.stored(4).unwrap(), &nodes[1..], "it stays left out");
}
