//! Store jobs: gathering, the window, cancelling.

use super::*;
use crate::core::message::SearchKind;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) const WINDOW: usize = 64 << 20;

/// Stores one small chunk and gives back its id.
pub(super) fn store_one(world: &mut World, ticket: u64, replicas: u8) -> ChunkId {
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    world.store(ticket, chunk, replicas);
    id
}

pub(super) fn offers(message: &TopicMessage) -> &StoreRequest {
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
    let mut ids = Vec::new();
    for locality in [1, 2] {
        let (mut chunk, _) = world.chunk(100);
        chunk.locality = Locality(locality);
        ids.push(chunk.id());
        world.store(u64::from(locality), chunk, 1);
    }
    world.run_until(SECOND, |world| world.stored(1).is_some() && world.stored(2).is_some());
    let published = world.published.iter().map(|(_, message)| offers(message).offers[0].id);
    let direct = world.sent.iter().filter_map(|(_, _, message)| match message {
        StreamMessage::StoreRequest(request) => Some(request.offers[0].id),
        _ => None,
    });
    // The second waited for the claims to the first, and then needed no gossip.
    assert_eq!(published.collect::<Vec<_>>(), ids[..1]);
    assert_eq!(direct.collect::<Vec<_>>(), ids[1..]);
}

/// Row 20 of the threats: who reads the topics cannot tell that two requests have one owner.
#[test]
fn two_requests_unlinkable() {
    let mut world = World::new(0);
    for ticket in 0..2 {
        store_one(&mut world, ticket, 3);
        world.run(SECOND / 10);
    }
    let fetches = [world.chunk(1_000), world.chunk(1_000)];
    for (ticket, (chunk, ck)) in (2..).zip(&fetches) {
        let (id, read, deadline) = (chunk.id(), ck.read_secret(), world.now.after(SECOND));
        let (ticket, locality, holders) = (Ticket(ticket), chunk.locality, Vec::new());
        let job = FetchJob { ticket, id, locality, read, holders, only: false, deadline };
        world.command(OwnerCommand::Fetch(job));
        world.run(SECOND / 10);
    }
    for ticket in 4..6 {
        let (chunk, ck) = world.chunk(1_000);
        let (id, locality, admin) =
            (chunk.id(), chunk.locality, world.keys.admin.chunk_secret(&ck));
        let (ticket, deadline) = (Ticket(ticket), world.now.after(SECOND / 20));
        let wanted = vec![SoughtChunk { id, locality, admin }];
        world.command(OwnerCommand::Locate(LocateJob { ticket, wanted, deadline }));
        world.run(SECOND / 10);
    }
    let mut seen: BTreeSet<[u8; 32]> = BTreeSet::new();
    let mut kinds = Vec::new();
    let mut fresh = |field: [u8; 32]| assert!(seen.insert(field), "a field stands twice");
    let messages: Vec<&TopicMessage> = world.published.iter().map(|(_, message)| message).collect();
    assert_eq!(messages.len(), 6);
    // Every field is named, so that a new one has to be thought about.
    for message in messages {
        match message.clone() {
            TopicMessage::StoreRequest(request) => {
                let StoreRequest { ephemeral, offers, .. } = request.clone();
                fresh(ephemeral);
                offers.iter().for_each(|offer| fresh(*offer.id.as_bytes()));
                let constant = StoreRequest {
                    ephemeral,
                    attempt: 0,
                    probability: u16::MAX,
                    quorum: 3,
                    terms: LeaseTerms::default(),
                    offers,
                    stamp: Bytes::new(),
                };
                assert_eq!(request, constant);
            }
            TopicMessage::SearchRequest(request) => {
                let SearchRequest { kind, ephemeral, attempt, nonce, wanted } = request;
                assert_eq!(attempt, 0);
                kinds.push(kind);
                fresh(ephemeral);
                fresh(nonce);
                for (id, proof) in wanted {
                    fresh(*id.as_bytes());
                    fresh(*proof.first_chunk().unwrap());
                    fresh(*proof.last_chunk().unwrap());
                }
            }
            TopicMessage::Answer(_) => panic!("not an owner's"),
        }
    }
    let (retrieve, locate) = (SearchKind::Retrieve, SearchKind::Locate);
    assert_eq!(kinds, [retrieve, retrieve, locate, locate]);
}

#[test]
fn same_chunk_twice_is_one_job_with_two_tickets() {
    let mut world = World::new(4);
    let (chunk, _) = world.chunk(100_000);
    let (id, bytes) = (chunk.id(), chunk.sealed.len());
    let again = chunk.duplicate();
    world.store(1, chunk, 2);
    world.store(2, again, 3);
    assert_eq!(world.role.store_window_free(), WINDOW - bytes);
    world.run_until(SECOND, |world| world.stored(2).is_some());
    assert_eq!(world.stored(1).unwrap().len(), 2);
    assert_eq!(world.stored(2).unwrap().len(), 3);
    assert_eq!(world.receivers(&id).len(), 3);
    assert_eq!(world.role.store_window_free(), WINDOW);
}

/// They are made once, when the chunk is sealed; a message for one holder more costs no memory.
#[test]
fn every_holder_is_sent_the_bytes_and_tags_that_were_sealed() {
    let mut world = World::new(4);
    let (chunk, _) = world.chunk(100_000);
    let expected = world.keys.tag_key.tags(&chunk.header, &chunk.sealed).unwrap();
    let places = (chunk.sealed.as_ptr(), chunk.tags.as_ptr());
    world.store(1, chunk, 3);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    let sent: Vec<_> = world.fakes.values().flat_map(|fake| &fake.received).collect();
    assert_eq!(sent.len(), 3);
    for message in sent {
        assert_eq!(message.tags, expected);
        assert_eq!((message.sealed.as_ptr(), message.tags.as_ptr()), places);
    }
}

#[test]
fn second_ticket_that_wants_more_raises_a_running_job() {
    let mut world = World::new(4);
    for fake in world.fakes.values_mut() {
        fake.manners = Manners::Silent;
    }
    let (chunk, _) = world.chunk(1_000);
    let (id, again) = (chunk.id(), chunk.duplicate());
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
    let again = chunk.duplicate();
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
