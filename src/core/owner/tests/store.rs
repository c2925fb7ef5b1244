//! Store jobs: gathering, asking, placing, the window, the outbox.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: usize = 64 << 20;

/// Stores one small chunk and gives back its id.
fn store_one(world: &mut World, ticket: u64, replicas: u8) -> ChunkId {
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    world.store(ticket, chunk, replicas);
    id
}

fn offers(message: &TopicMessage) -> &StoreRequest {
    match message {
        TopicMessage::StoreRequest(request) => request,
        other => panic!("not a store request: {other:?}"),
    }
}

#[test]
fn chunk_reaches_its_quorum_at_three_of_five() {
    let mut world = World::new(5);
    let id = store_one(&mut world, 1, 3);
    assert!(world.role.store_window_free() < WINDOW);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap().len(), 3);
    assert_eq!(world.receivers(&id).len(), 3, "granted up to the quorum");
    assert_eq!(world.acked(1).iter().map(|(_, k)| *k).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(world.role.store_window_free(), WINDOW);
    assert!(world.dials.is_empty() && world.rejects.is_empty());
    world.run(600 * SECOND);
    assert_eq!(world.requests_published(), 1);
    assert_eq!(world.role.next_timeout(), None);
}

#[test]
fn store_command_waits_for_company_and_then_publishes_one_request() {
    let mut world = World::new(3);
    for ticket in 0..10 {
        store_one(&mut world, ticket, 3);
    }
    assert!(world.published.is_empty());
    world.run(Duration::from_millis(20));
    assert_eq!(world.published.len(), 1);
    let request = offers(&world.published[0].1);
    assert_eq!(request.offers.len(), 10);
    let expected = (request.attempt, request.probability, request.quorum);
    assert_eq!(expected, (0, u16::MAX, 3));
    world.run_until(SECOND, |world| (0..10).all(|ticket| world.stored(ticket).is_some()));
}

#[test]
fn full_batch_does_not_wait() {
    let mut world = World::new(1);
    for ticket in 0..64 {
        store_one(&mut world, ticket, 1);
    }
    assert_eq!(offers(&world.published[0].1).offers.len(), 64);
    let limits = OwnerLimits { batch_bytes: 10_000, ..OwnerLimits::default() };
    let mut world = World::with_limits(1, limits);
    for ticket in 0..10 {
        store_one(&mut world, ticket, 1);
    }
    assert_eq!(offers(&world.published[0].1).offers.len(), 9, "the tenth would be too much");
}

#[test]
fn chunks_of_two_localities_are_two_batches() {
    let mut world = World::new(1);
    for locality in [1, 2] {
        let (mut chunk, _) = world.chunk(100);
        chunk.locality = Locality(locality);
        world.store(u64::from(locality), chunk, 1);
    }
    world.run_until(SECOND, |world| world.stored(1).is_some() && world.stored(2).is_some());
    let published = world.published.iter().map(|(_, message)| offers(message).locality);
    let direct = world.sent.iter().filter_map(|(_, _, message)| match message {
        StreamMessage::StoreRequest(request) => Some(request.locality),
        _ => None,
    });
    // The second waited for the claims to the first, and then needed no gossip.
    assert_eq!(published.collect::<Vec<_>>(), [Locality(1)]);
    assert_eq!(direct.collect::<Vec<_>>(), [Locality(2)]);
}

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
fn claim_that_somebody_else_made_up_does_not_silence_the_node_itself() {
    let mut world = World::new(3);
    store_one(&mut world, 0, 3);
    world.run(SECOND);
    world.deaf_mesh = true;
    store_one(&mut world, 1, 4);
    world.run(Duration::from_millis(22));
    let nodes: Vec<NodeId> = world.up.iter().copied().collect();
    let request = offers(&world.published.last().unwrap().1).clone();
    for node in &nodes {
        let contact = Some(world.fakes[node].contact());
        let nothing = StoreClaim { contact, wants: 0, ..claim(&request) };
        let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(nothing));
        world.input(answered(nodes[0], answer));
    }
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
fn volunteers_that_are_away_are_dialed() {
    let mut world = World::new(0);
    let nodes: Vec<NodeId> = (0..4).map(|_| world.add(Manners::Honest)).collect();
    store_one(&mut world, 1, 3);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.dials.len(), 3);
    assert!(world.dials.iter().all(|(_, node)| nodes.contains(node)));
}

#[test]
fn unreachable_volunteer_is_replaced() {
    let mut world = World::new(2);
    let away = world.add(Manners::Honest);
    world.fake(away).reachable = false;
    store_one(&mut world, 1, 3);
    world.run(3 * SECOND);
    assert!(world.stored(1).is_none());
    assert_eq!(world.acked(1).len(), 2);
    let late = world.add(Manners::Honest);
    world.run_until(20 * SECOND, |world| world.stored(1).is_some());
    assert!(world.stored(1).unwrap().contains(&late));
}

#[test]
fn dial_that_is_never_answered_is_given_up() {
    let mut world = World::new(1);
    let away = world.add(Manners::Honest);
    store_one(&mut world, 1, 2);
    world.run_until(SECOND, |world| !world.dials.is_empty());
    // No answer of any kind: take the one out that the fake world sends.
    world.coming.retain(|_, input| !matches!(input, Input::PeerUp(_)));
    world.fake(away).manners = Manners::Deaf;
    let other = world.add(Manners::Honest);
    world.run_until(30 * SECOND, |world| world.stored(1).is_some());
    assert!(world.stored(1).unwrap().contains(&other));
}

#[test]
fn dials_are_paced() {
    let mut world = World::new(0);
    for _ in 0..60 {
        let node = world.add(Manners::Honest);
        world.fake(node).reachable = false;
    }
    store_one(&mut world, 1, 32);
    world.run(SECOND);
    assert!((16..=32).contains(&world.dials.len()), "{}", world.dials.len());
    world.run(60 * SECOND);
    let mut most = 0;
    for (at, _) in &world.dials {
        let span = at.0..at.0 + 1_000;
        most = most.max(world.dials.iter().filter(|(other, _)| span.contains(&other.0)).count());
    }
    assert!(most <= 32, "{most} dials in one second");
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
            sealed = world.seal(&ephemeral, &AnswerBody::Claim(claim.clone())).sealed;
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
        let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(claim));
        world.input(answered(forwarder, answer));
        assert_eq!(world.rejects.pop(), Some((forwarder, reason)));
    }
    let offer = RetrieveOffer { contact: good.contact.clone(), holds: 1 };
    let answer = world.seal(&request.ephemeral, &AnswerBody::Offer(offer));
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects.pop(), Some((forwarder, Reject::Unsolicited)));
    assert!(world.dials.is_empty());
    let once_more = good.clone();
    let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(good));
    world.input(answered(forwarder, answer.clone()));
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects.pop(), Some((forwarder, Reject::Replayed)));
    let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(once_more));
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
    let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(claim));
    world.input(answered(forwarder, answer));
    let node = world.owner.node_id();
    world.input(Input::PeerUp(Peer { node, hello, reach: Reach::Local }));
    world.run(SECOND);
    assert!(world.dials.is_empty() && world.sent.is_empty());
    // Nor when the catalogue says so.
    let (chunk, _) = world.chunk(500);
    let job = StoreJob {
        ticket: Ticket(2),
        chunk,
        replicas: 1,
        held_by: vec![node],
        deadline: Time(u64::MAX),
    };
    world.command(OwnerCommand::Store(job));
    assert!(world.stored(2).is_none());
}

#[test]
fn one_grant_per_failure_domain() {
    let mut world = World::new(0);
    for name in 0..8 {
        let node = world.add(Manners::Honest);
        world.fake(node).reach = Reach::PublicV4([203, 0, name / 4]);
        world.connect(node);
    }
    let id = store_one(&mut world, 1, 3);
    world.run(61 * SECOND);
    assert_eq!(world.receivers(&id).len(), 2);
    assert_eq!(world.short(1), Some((2, Shortage::SharedDomains)));
    let elsewhere = world.add(Manners::Honest);
    world.fake(elsewhere).reach = Reach::PublicV6([1; 6]);
    world.connect(elsewhere);
    world.run_until(80 * SECOND, |world| world.stored(1).is_some());
}

#[test]
fn domain_that_shows_only_when_connected_is_respected() {
    let mut world = World::new(0);
    for _ in 0..5 {
        let node = world.add(Manners::Honest);
        world.fake(node).reach = Reach::PublicV4([203, 0, 113]);
    }
    let id = store_one(&mut world, 1, 2);
    world.run(61 * SECOND);
    assert_eq!(world.receivers(&id).len(), 1);
    assert_eq!(world.short(1), Some((1, Shortage::SharedDomains)));
}

/// Stores a chunk that these nodes acknowledged earlier, three times. The first `held` of them hold
/// it still.
fn store_again(world: &mut World, ticket: u64, acked: &[NodeId], held: usize) -> ChunkId {
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    for node in &acked[..held] {
        world.fake(*node).held.insert(id, (chunk.header, chunk.sealed.clone()));
    }
    world.command(OwnerCommand::Store(StoreJob {
        ticket: Ticket(ticket),
        chunk,
        replicas: 3,
        held_by: acked.to_vec(),
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
fn holders_of_a_shared_domain_are_named_and_not_counted() {
    let mut world = World::new(0);
    let mut nodes = Vec::new();
    for name in 0..4 {
        let node = world.add(Manners::Honest);
        world.fake(node).reach = Reach::PublicV4([203, 0, [1, 1, 2, 3][name]]);
        world.connect(node);
        nodes.push(node);
    }
    store_again(&mut world, 1, &nodes, 4);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    let stored = world.events.iter().find_map(|(_, event)| match event {
        OwnerEvent::Stored { replicas, holders, .. } => Some((*replicas, holders.clone())),
        _ => None,
    });
    let (replicas, holders) = stored.unwrap();
    assert_eq!(replicas, 3);
    assert!(holders.len() >= 3 && holders.iter().all(|node| nodes.contains(node)));
}

#[test]
fn same_chunk_twice_is_one_job_with_two_tickets() {
    let mut world = World::new(4);
    let (chunk, _) = world.chunk(100_000);
    let (id, bytes) = (chunk.id(), chunk.sealed.len());
    let again = world.again(&chunk);
    world.store(1, chunk, 2);
    world.store(2, again, 3);
    assert_eq!(world.role.store_window_free(), WINDOW - bytes);
    world.run_until(SECOND, |world| world.stored(2).is_some());
    assert_eq!(world.stored(1).unwrap().len(), 2);
    assert_eq!(world.stored(2).unwrap().len(), 3);
    assert_eq!(world.receivers(&id).len(), 3);
    assert_eq!(world.role.store_window_free(), WINDOW);
}

#[test]
fn second_ticket_that_wants_more_raises_a_running_job() {
    let mut world = World::new(4);
    for fake in world.fakes.values_mut() {
        fake.manners = Manners::Silent;
    }
    let (chunk, _) = world.chunk(1_000);
    let (id, again) = (chunk.id(), world.again(&chunk));
    world.store(1, chunk, 2);
    world.run(2 * SECOND);
    assert_eq!(world.receivers(&id).len(), 2);
    world.store(2, again, 3);
    assert_eq!(world.receivers(&id).len(), 3);
}

#[test]
fn window_returns_to_zero_whatever_happens_to_the_jobs() {
    let mut world = World::new(3);
    world.add_connected(Manners::Refuses(StoreRefusal::Full));
    world.add_connected(Manners::Silent);
    let mut used = 0;
    for ticket in 0..120 {
        let (chunk, _) = world.chunk(1_000 * (1 + ticket as usize % 7));
        used += chunk.sealed.len();
        world.store(ticket, chunk, 3 + u8::from(ticket % 3 == 0));
        if ticket % 10 == 9 {
            world.run(Duration::from_millis(7));
        }
        if ticket % 5 == 0 {
            world.command(OwnerCommand::Cancel(Ticket(ticket)));
        }
        assert!(world.role.store_window_free() >= WINDOW - used);
    }
    world.run(20 * SECOND);
    assert!(world.role.store_window_free() < WINDOW, "some cannot be stored");
    for ticket in 0..120 {
        let over = world.stored(ticket).is_some();
        assert!(over || ticket % 3 == 0 || ticket % 5 == 0, "{ticket}");
        if !over {
            world.command(OwnerCommand::Cancel(Ticket(ticket)));
        }
    }
    assert_eq!(world.role.store_window_free(), WINDOW);
    world.run(700 * SECOND);
    assert_eq!(world.role.next_timeout(), None);
}

#[test]
fn full_window_or_table_says_wait() {
    let limits = OwnerLimits { window_bytes: 3_000, store_jobs: 5, ..OwnerLimits::default() };
    let mut world = World::with_limits(0, limits.clone());
    for ticket in 0..3 {
        assert!(world.role.store_window_free() > 0);
        store_one(&mut world, ticket, 1);
    }
    assert_eq!(world.role.store_window_free(), 0, "overshot by one chunk");
    let mut world = World::with_limits(0, limits);
    for ticket in 0..5 {
        assert!(world.role.store_window_free() > 0);
        let (chunk, _) = world.chunk(10);
        world.store(ticket, chunk, 1);
    }
    assert_eq!(world.role.store_window_free(), 0);
}

#[test]
fn cancel_frees_everything_and_reports_nothing_more() {
    let mut world = World::new(3);
    for fake in world.fakes.values_mut() {
        fake.manners = Manners::Silent;
    }
    let id = store_one(&mut world, 1, 3);
    world.run(SECOND);
    assert_eq!(world.receivers(&id).len(), 3);
    world.command(OwnerCommand::Cancel(Ticket(1)));
    assert_eq!(world.role.store_window_free(), WINDOW);
    // An ack for it is honest all the same.
    let node = *world.up.first().unwrap();
    let ack = world.fakes[&node].ack(world.mesh, &world.fakes[&node].received[0]);
    world.stream(node, StreamMessage::StoreAck(ack));
    world.run(700 * SECOND);
    assert!(world.events.is_empty() && world.rejects.is_empty());
    assert_eq!(world.role.next_timeout(), None);
}

#[test]
fn chunk_cancelled_while_gathered_is_not_offered() {
    let mut world = World::new(1);
    let (chunk, _) = world.chunk(1_000);
    let again = world.again(&chunk);
    world.store(1, chunk, 1);
    world.command(OwnerCommand::Cancel(Ticket(1)));
    world.run(SECOND);
    assert!(world.published.is_empty());
    world.store(2, again, 1);
    world.run_until(SECOND, |world| world.stored(2).is_some());
    assert_eq!(offers(&world.published[0].1).offers.len(), 1);
}

#[test]
fn in_flight_bytes_per_holder_are_bounded() {
    let limits = OwnerLimits { in_flight_bytes: 30_000, ..OwnerLimits::default() };
    let mut world = World::with_limits(0, limits);
    let node = world.add_connected(Manners::Silent);
    for ticket in 0..10 {
        let (chunk, _) = world.chunk(9_000);
        world.store(ticket, chunk, 1);
    }
    world.run(2 * SECOND);
    assert_eq!(world.fakes[&node].received.len(), 3);
    let ack = world.fakes[&node].ack(world.mesh, &world.fakes[&node].received[0]);
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.fakes[&node].received.len(), 4);
}

#[test]
fn unmet_request_goes_out_again_under_fresh_keys_and_numbers() {
    let mut world = World::new(2);
    store_one(&mut world, 1, 3);
    world.run(Duration::from_secs(4_000));
    let requests: Vec<&StoreRequest> = world.published.iter().map(|(_, m)| offers(m)).collect();
    let numbers: Vec<u32> = requests.iter().map(|request| request.attempt).collect();
    assert_eq!(numbers, (0..u32::try_from(requests.len()).unwrap()).collect::<Vec<_>>());
    let keys: BTreeSet<[u8; 32]> = requests.iter().map(|request| request.ephemeral).collect();
    assert_eq!(keys.len(), requests.len());
    let gaps: Vec<u64> = world.published.windows(2).map(|pair| pair[1].0.0 - pair[0].0.0).collect();
    for (gap, about) in gaps.iter().zip([1, 2, 4, 8, 16, 32, 60, 600, 600, 600]) {
        assert!((about * 750..=about * 1_250).contains(gap), "{gap} ms, not {about} s");
    }
    assert!(gaps.len() >= 10);
}

#[test]
fn probability_doubles_with_each_publication() {
    let limits = OwnerLimits { volunteer: 10_000, ..OwnerLimits::default() };
    let mut world = World::with_limits(1, limits);
    store_one(&mut world, 1, 2);
    world.run(20 * SECOND);
    let stated: Vec<u16> = world.published.iter().map(|(_, m)| offers(m).probability).collect();
    assert_eq!(stated[..4], [10_000, 20_000, 40_000, 65_535]);
}

#[test]
fn subscription_brings_the_request_forward_at_least_five_seconds_apart() {
    let mut world = World::new(1);
    store_one(&mut world, 1, 2);
    world.run(200 * SECOND);
    let before = world.published.len();
    let topic = Topic::new(TopicKind::Store, Locality(0), 0);
    for _ in 0..20 {
        world.input(Input::PeerSubscribed(topic));
        world.run(SECOND);
    }
    let early = world.published.len() - before;
    assert!((3..=5).contains(&early), "{early}");
    let last: Vec<u64> = world.published[before..].iter().map(|(at, _)| at.0).collect();
    assert!(last.windows(2).all(|pair| pair[1] - pair[0] >= 5_000));
}

#[test]
fn request_published_into_the_void_is_repeated_when_somebody_comes() {
    let mut world = World::new(0);
    store_one(&mut world, 1, 1);
    world.run(100 * SECOND);
    let node = world.add_connected(Manners::Honest);
    world.input(Input::PeerSubscribed(Topic::new(TopicKind::Store, Locality(0), 0)));
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap(), &[node]);
}

#[test]
fn lost_publication_after_a_peer_came_is_repeated_soon() {
    let mut world = World::new(0);
    store_one(&mut world, 1, 1);
    world.run(2_000 * SECOND);
    // It comes up, and what is published because of it reaches nobody: the mesh forms later.
    world.deaf_mesh = true;
    let before = world.published.len();
    world.add_connected(Manners::Honest);
    world.run(5 * SECOND);
    assert_eq!(world.published.len(), before + 1);
    world.deaf_mesh = false;
    world.run_until(15 * SECOND, |world| world.stored(1).is_some());
}

#[test]
fn hundred_peers_at_once_are_no_storm() {
    let mut world = World::new(1);
    store_one(&mut world, 1, 32);
    world.run(2_000 * SECOND);
    let before = world.published.len();
    let came: Vec<NodeId> = (0..100).map(|_| world.add_connected(Manners::Deaf)).collect();
    world.run(60 * SECOND);
    let first = world.published.len() - before;
    assert!((1..=4).contains(&first), "{first} in the first minute");
    // Nor where they come and go all the time.
    for round in 0..600 {
        world.disconnect(came[round % 100]);
        world.run(SECOND);
        world.connect(came[round % 100]);
    }
    let at: Vec<u64> = world.published[before..].iter().map(|(at, _)| at.0).collect();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 5_000), "{at:?}");
}

#[test]
fn publications_are_paced() {
    let mut world = World::new(0);
    for ticket in 0..200 {
        let (mut chunk, _) = world.chunk(20);
        chunk.locality = Locality(u16::try_from(ticket).unwrap());
        world.store(ticket, chunk, 1);
    }
    world.run(SECOND);
    assert!(world.published.len() <= 33, "{}", world.published.len());
    world.run(60 * SECOND);
    let localities: BTreeSet<u16> =
        world.published.iter().map(|(_, m)| offers(m).locality.0).collect();
    assert_eq!(localities.len(), 200, "every one has its turn");
}

#[test]
fn answers_that_do_not_open_use_up_their_forwarders_share_only() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(50));
    let request = offers(&world.published[0].1).clone();
    let forwarder = *world.up.first().unwrap();
    let mut answer = world.seal(&[8; 32], &AnswerBody::Claim(claim(&request)));
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
    let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(claim));
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
        let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(claim));
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
        let answer = world.seal(&request.ephemeral, &AnswerBody::Claim(claim));
        world.input(answered(good, answer));
    }
    let full = world.rejects.iter().filter(|(_, reason)| *reason == Reject::TableFull).count();
    assert_eq!(full, 100 - 32);
    world.run_until(SECOND, |world| world.stored(1).is_some());
}

#[test]
fn shortage_names_the_true_reason() {
    let shortage = |prepare: fn(&mut World)| {
        let mut world = World::new(0);
        prepare(&mut world);
        store_one(&mut world, 1, 2);
        world.run(61 * SECOND);
        let short = world.short(1).unwrap();
        assert!(world.role.store_window_free() < WINDOW, "the job goes on");
        short
    };
    assert_eq!(shortage(|_| {}), (0, Shortage::NoPeers));
    let one = |world: &mut World| {
        world.add_connected(Manners::Honest);
    };
    assert_eq!(shortage(one), (1, Shortage::TooFewVolunteers));
    let full = |world: &mut World| {
        world.add_connected(Manners::Honest);
        world.add_connected(Manners::Refuses(StoreRefusal::Full));
    };
    assert_eq!(shortage(full), (1, Shortage::HoldersFull));
    let silent = |world: &mut World| {
        world.add_connected(Manners::Honest);
        world.add_connected(Manners::Silent);
    };
    assert_eq!(shortage(silent), (1, Shortage::AcksOutstanding));
    let both = |world: &mut World| {
        world.add_connected(Manners::Silent);
    };
    assert_eq!(shortage(both), (0, Shortage::TooFewVolunteers));
}

#[test]
fn short_job_is_reported_once_and_stored_when_a_holder_comes() {
    let mut world = World::new(1);
    store_one(&mut world, 1, 2);
    world.run(300 * SECOND);
    let short = |event: &OwnerEvent| matches!(event, OwnerEvent::Short { .. });
    assert_eq!(world.events.iter().filter(|(_, event)| short(event)).count(), 1);
    world.add_connected(Manners::Honest);
    world.run_until(20 * SECOND, |world| world.stored(1).is_some());
}
