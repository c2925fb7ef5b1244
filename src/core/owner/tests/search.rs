//! Holders of wanted chunks are searched for on topics, and make offers.

use super::retrieve::{asked, assert_idle, fetch, fetched, held_by, not_fetched};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn many_tickets_for_one_unknown_chunk_are_one_wanted_chunk() {
    let mut world = World::new(1);
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    for ticket in 0..32 {
        fetch(&mut world, ticket, (id, &ck), &[]);
    }
    world.run(SECOND / 2);
    // The world has read what was published with the decoder of its receivers.
    let [(_, TopicMessage::SearchRequest(request))] = world.published.as_slice() else {
        panic!("{:?}", world.published)
    };
    assert_eq!(request.wanted.len(), 1);
    world.command(OwnerCommand::Cancel(Ticket(0)));
    world.run(60 * SECOND);
    assert_eq!(not_fetched(&world, 0), None);
    assert!((1..32).all(|ticket| not_fetched(&world, ticket).is_some()));
    assert_idle(&mut world);
}

#[test]
fn wanted_chunks_of_one_request_are_distinct_whatever_their_secrets() {
    let mut world = World::new(0);
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    let (_, wrong) = world.chunk(1_000);
    fetch(&mut world, 1, (id, &wrong), &[]);
    fetch(&mut world, 2, (id, &ck), &[]);
    world.run(SECOND / 2);
    assert_eq!(world.published.len(), 2, "one after the other");
}

#[test]
fn unknown_holders_are_found_on_the_topic_and_dialed() {
    let mut world = World::new(2);
    let node = world.add(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(fetched(&world, 1).unwrap().1, node);
    assert_eq!(world.published.len(), 1);
    assert_eq!(world.dials.iter().map(|(_, node)| *node).collect::<Vec<_>>(), [node]);
    assert_idle(&mut world);
}

#[test]
fn chunks_of_one_locality_gossip_once() {
    let mut world = World::new(4);
    let node = world.add(Manners::Honest);
    let mut wanted = Vec::new();
    for _ in 0..300 {
        wanted.push(held_by(&mut world, 500, &[node]));
    }
    fetch(&mut world, 0, (wanted[0].0, &wanted[0].1), &[]);
    world.run_until(SECOND, |world| fetched(world, 0).is_some());
    let mut next = 1;
    while fetched(&world, 299).is_none() {
        while next < 300 && world.role.fetch_slots_free() > 0 {
            fetch(&mut world, next as u64, (wanted[next].0, &wanted[next].1), &[]);
            next += 1;
        }
        world.run(Duration::from_millis(10));
    }
    assert_eq!(world.published.len(), 1);
    assert!((0..300).all(|ticket| fetched(&world, ticket).is_some()));
    assert_eq!(world.fakes[&node].requests.len(), 300);
    assert_idle(&mut world);
}

#[test]
fn many_unknown_chunks_share_requests_of_at_most_32() {
    let mut world = World::new(1);
    let node = *world.up.first().unwrap();
    let wanted: Vec<_> = (0..40).map(|_| held_by(&mut world, 300, &[node])).collect();
    for (ticket, (id, ck)) in (0..).zip(&wanted) {
        fetch(&mut world, ticket, (*id, ck), &[]);
    }
    world.run_until(2 * SECOND, |world| (0..40).all(|ticket| fetched(world, ticket).is_some()));
    assert_eq!(world.published.len(), 2);
    assert_idle(&mut world);
}

#[test]
fn chunks_named_with_a_silent_holder_only_are_searched_for() {
    let mut world = World::new(0);
    let silent = world.add_connected(Manners::Silent);
    let hidden = world.add(Manners::Honest);
    for ticket in 0..32 {
        let (id, ck) = held_by(&mut world, 300, &[hidden]);
        fetch(&mut world, ticket, (id, &ck), &[silent]);
    }
    world.run_until(12 * SECOND, |world| (0..32).all(|ticket| fetched(world, ticket).is_some()));
    // But for the eight that it was asked for, which wait as long as a slow holder may take.
    let soon = (0..32).filter(|ticket| fetched(&world, *ticket).unwrap().0 < Time(4_000));
    assert!(soon.count() >= 24);
}

#[test]
fn liar_that_offers_again_is_not_asked_again_for_this_chunk() {
    let mut world = World::new(0);
    let liar = world.add_connected(Manners::WrongBytes);
    let (id, ck) = held_by(&mut world, 1_000, &[liar]);
    fetch(&mut world, 1, (id, &ck), &[liar]);
    world.run(61 * SECOND);
    assert!(world.published.len() > 3);
    assert_eq!(world.fakes[&liar].requests.len(), 1);
    assert_eq!(not_fetched(&world, 1).unwrap(), [(liar, FetchFailure::WrongBytes)].into());
    assert_idle(&mut world);
}

#[test]
fn offer_revives_a_holder_that_was_passed_over() {
    let mut world = World::new(0);
    world.deaf_mesh = true;
    let slow = world.add_connected(Manners::Silent);
    let (id, ck) = held_by(&mut world, 1_000, &[slow]);
    fetch(&mut world, 1, (id, &ck), &[slow]);
    world.run(15 * SECOND);
    assert_eq!(asked(&world), [slow]);
    world.fake(slow).manners = Manners::Honest;
    world.deaf_mesh = false;
    world.run_until(30 * SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(asked(&world), [slow, slow]);
    // The first request stays unanswered, and harms nothing.
    assert_idle(&mut world);
}

#[test]
fn search_goes_on_until_a_holder_appears() {
    let mut world = World::new(1);
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run(10 * SECOND);
    let attempts: Vec<u32> = world
        .published
        .iter()
        .map(|(_, message)| match message {
            TopicMessage::SearchRequest(request) => request.attempt,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(attempts, [0, 1, 2, 3]);
    let node = *world.up.first().unwrap();
    world.chunks -= 1;
    assert_eq!(held_by(&mut world, 1_000, &[node]).0, id, "the same chunk");
    world.run_until(30 * SECOND, |world| fetched(world, 1).is_some());
    assert_eq!(world.published.len(), 5);
    assert_idle(&mut world);
}

#[test]
fn subscription_brings_the_search_forward() {
    let mut world = World::new(0);
    let (id, ck) = held_by(&mut world, 1_000, &[]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run(20 * SECOND);
    let before = world.published.len();
    let topic = Topic::new(TopicKind::Retrieve, Locality(0), 0);
    world.input(Input::PeerSubscribed(topic));
    world.input(Input::PeerSubscribed(Topic { kind: TopicKind::Store, ..topic }));
    world.run(Duration::from_millis(200));
    assert_eq!(world.published.len(), before + 1);
}

#[test]
fn offers_are_used_only_if_they_are_true_and_fresh() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    let node = world.add(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run(Duration::from_millis(50));
    let TopicMessage::SearchRequest(request) = world.published[0].1.clone() else { panic!() };
    let offer = RetrieveOffer { contact: Some(world.fakes[&node].contact()), holds: 1 };
    let mut bad = Vec::new();
    bad.push(RetrieveOffer { contact: None, ..offer.clone() });
    for spoil in [
        (|contact: &mut Contact| contact.hello.mesh = MeshId::from_bytes([0; 32])) as fn(&mut _),
        |contact| contact.hello.agreement.0[0] ^= 1,
        |contact| contact.hello.agreement_signature[0] ^= 1,
    ] {
        let mut offer = offer.clone();
        offer.contact.as_mut().map(spoil).unwrap();
        bad.push(offer);
    }
    let forwarder = *world.up.first().unwrap();
    for offer in bad {
        let answer = world.seal(&request, &AnswerBody::Offer(offer));
        world.input(answered(forwarder, answer));
    }
    // Our own holder role's offer, a box that does not open, an answer to somebody else.
    let mut own = offer.clone();
    own.contact.as_mut().unwrap().hello.node = world.owner.node_id();
    own.contact.as_mut().unwrap().hello.agreement = world.owner.agreement_key();
    own.contact.as_mut().unwrap().hello.agreement_signature = world.owner.sign_agreement();
    let answer = world.seal(&request, &AnswerBody::Offer(own));
    world.input(answered(forwarder, answer));
    let mut foreign = world.seal(
        &SearchRequest { ephemeral: [8; 32], ..request.clone() },
        &AnswerBody::Offer(offer.clone()),
    );
    world.input(answered(forwarder, foreign.clone()));
    foreign.tag = AnswerTag::of(&request.ephemeral);
    world.input(answered(forwarder, foreign));
    let reasons: Vec<Reject> = world.rejects.iter().map(|(_, reason)| *reason).collect();
    use Reject::{BadProof, Malformed, WrongMesh};
    assert_eq!(reasons, [Malformed, WrongMesh, BadProof, BadProof, BadProof]);
    assert!(world.dials.is_empty());
    world.rejects.clear();
    let once_more = world.seal(&request, &AnswerBody::Offer(offer.clone()));
    let answer = world.seal(&request, &AnswerBody::Offer(offer));
    world.input(answered(forwarder, answer.clone()));
    world.input(answered(forwarder, once_more));
    assert_eq!(world.rejects, [], "a second answer adds nothing, and is no misbehaviour");
    world.input(answered(forwarder, answer));
    assert_eq!(world.rejects, [(forwarder, Reject::Replayed)]);
    assert_eq!(world.dials.len(), 1);
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
}

#[test]
fn a_forged_offer_does_not_silence_the_node_it_names() {
    let mut world = World::new(1);
    world.deaf_mesh = true;
    let node = world.add(Manners::Honest);
    let (id, ck) = held_by(&mut world, 1_000, &[node]);
    fetch(&mut world, 1, (id, &ck), &[]);
    world.run(Duration::from_millis(50));
    let TopicMessage::SearchRequest(request) = world.published[0].1.clone() else { panic!() };
    let liar = *world.up.first().unwrap();
    let good = RetrieveOffer { contact: Some(world.fakes[&node].contact()), holds: 1 };
    let body = AnswerBody::Offer(good.clone());
    let SignedAnswer { signature, .. } =
        SignedAnswer::new(body.clone(), request.digest(), &world.fakes[&node].keys);
    let mut astray = good.clone();
    astray.contact.as_mut().unwrap().record = Bytes::from_static(b"the liar's own record");
    for offer in [RetrieveOffer { holds: 0, ..good }, astray] {
        let answer = SignedAnswer { body: AnswerBody::Offer(offer), signature };
        let answer = world.seal_signed(&request, &answer);
        world.input(answered(liar, answer));
        assert_eq!(world.rejects.pop(), Some((liar, Reject::BadProof)));
    }
    assert!(world.dials.is_empty());
    let answer = world.seal(&request, &body);
    world.input(answered(liar, answer));
    world.run_until(SECOND, |world| fetched(world, 1).is_some());
}
