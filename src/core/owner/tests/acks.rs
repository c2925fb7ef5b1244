//! What holders say to what they were sent: true, false, late, twice, not at all.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn store_one(world: &mut World, ticket: u64, replicas: u8) -> ChunkId {
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    world.store(ticket, chunk, replicas);
    id
}

/// A silent holder that was sent one chunk, in a world with a job for `replicas`.
fn with_silent(replicas: u8) -> (World, NodeId, ChunkId) {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    let id = store_one(&mut world, 1, replicas);
    world.run(SECOND);
    assert_eq!(world.receivers(&id), [node]);
    (world, node, id)
}

fn ack_of(world: &World, node: NodeId) -> StoreAck {
    world.fakes[&node].ack(world.mesh, &world.fakes[&node].received[0])
}

#[test]
fn ack_without_pull_rejected() {
    let (mut world, node, _) = with_silent(2);
    // A second node that learned everything the first one was sent.
    let chunk = world.fakes[&node].received[0].clone();
    let thief = world.add_connected(Manners::Deaf);
    let own = StoreChunk { account: world.keys.account(&thief).account(), ..chunk.clone() };
    for chunk in [chunk, own] {
        let ack = world.fakes[&thief].ack(world.mesh, &chunk);
        world.stream(thief, StreamMessage::StoreAck(ack));
    }
    // And the first one for a chunk, and for a batch, that it was never sent.
    let mut ack = ack_of(&world, node);
    ack.chunks[0].id = ChunkId::from_bytes([0; 32]);
    world.stream(node, StreamMessage::StoreAck(ack));
    let mut ack = ack_of(&world, node);
    ack.batch = crate::core::types::BatchId::from_bytes([0; 16]);
    world.stream(node, StreamMessage::StoreAck(ack));
    let rejected = [thief, thief, node, node].map(|node| (node, Reject::Unsolicited));
    assert_eq!(world.rejects, rejected);
    assert!(world.acked(1).is_empty());
}

#[test]
fn ack_with_one_chunk_never_sent_counts_for_nothing() {
    let (mut world, node, _) = with_silent(1);
    let mut chunk = world.fakes[&node].received[0].clone();
    let good = world.fakes[&node].ack(world.mesh, &chunk).chunks[0];
    chunk.header = world.chunk(300).0.header;
    let mut ack = world.fakes[&node].ack(world.mesh, &chunk);
    ack.chunks.push(good);
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.rejects, [(node, Reject::Unsolicited)]);
    assert!(world.acked(1).is_empty());
}

#[test]
fn false_ack_is_not_counted_and_another_holder_gets_the_chunk() {
    for manners in [Manners::Forges, Manners::WrongReceipt] {
        let mut world = World::new(0);
        let liar = world.add_connected(manners);
        let id = store_one(&mut world, 1, 1);
        world.run(SECOND);
        assert_eq!(world.rejects, [(liar, Reject::BadProof)]);
        assert!(world.acked(1).is_empty());
        let good = world.add_connected(Manners::Honest);
        world.run_until(10 * SECOND, |world| world.stored(1).is_some());
        assert_eq!(world.receivers(&id), [liar, good], "the liar has one chance per chunk");
    }
}

#[test]
fn ack_for_another_account_is_false() {
    let (mut world, node, _) = with_silent(1);
    let chunk = world.fakes[&node].received[0].clone();
    let account = world.keys.account(&NodeId::from_bytes([1; 32])).account();
    let ack = world.fakes[&node].ack(world.mesh, &StoreChunk { account, ..chunk });
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.rejects, [(node, Reject::BadProof)]);
    assert!(world.acked(1).is_empty());
}

#[test]
fn promise_of_less_than_was_asked_is_turned_down() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::ShortLease);
    store_one(&mut world, 1, 1);
    world.run(SECOND);
    assert_eq!(world.rejects, [(node, Reject::Malformed)]);
    assert!(world.acked(1).is_empty());
}

#[test]
fn promise_below_any_one_of_the_durations_is_turned_down() {
    let shorter: [fn(&mut LeaseTerms); 3] = [
        |terms| terms.renew_every_s -= 1,
        |terms| terms.keep_after_silence_s -= 1,
        |terms| terms.release_delay_s -= 1,
    ];
    for shorten in shorter {
        let (mut world, node, _) = with_silent(1);
        let mut chunk = world.fakes[&node].received[0].clone();
        shorten(&mut chunk.terms);
        let ack = world.fakes[&node].ack(world.mesh, &chunk);
        world.stream(node, StreamMessage::StoreAck(ack));
        assert_eq!(world.rejects, [(node, Reject::Malformed)]);
        assert!(world.acked(1).is_empty());
    }
}

/// The receipt is made with the pair key and so with the true account; the statement is not.
#[test]
fn ack_that_names_another_account_beside_a_true_receipt_is_false() {
    let (mut world, node, _) = with_silent(1);
    let StoreAck { batch, epoch, terms, chunks, .. } = ack_of(&world, node);
    let account = world.keys.account(&NodeId::from_bytes([1; 32])).account();
    let statement = AckStatement { mesh: world.mesh, account, batch, epoch, terms, chunks };
    let signature = statement.sign(&world.fakes[&node].keys);
    let chunks = statement.chunks;
    let ack = StoreAck { batch, account, epoch, terms, chunks, signature };
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.rejects, [(node, Reject::BadProof)]);
    assert!(world.acked(1).is_empty());
}

#[test]
fn promise_of_more_than_was_asked_is_taken() {
    let (mut world, node, _) = with_silent(1);
    let mut chunk = world.fakes[&node].received[0].clone();
    chunk.terms.keep_after_silence_s += 1;
    let ack = world.fakes[&node].ack(world.mesh, &chunk);
    world.stream(node, StreamMessage::StoreAck(ack));
    assert!(world.stored(1).is_some());
}

#[test]
fn acks_of_one_node_count_once() {
    let (mut world, node, _) = with_silent(2);
    let ack = ack_of(&world, node);
    for _ in 0..3 {
        world.stream(node, StreamMessage::StoreAck(ack.clone()));
    }
    assert_eq!(world.acked(1), [(node, 1)]);
    assert_eq!(world.rejects, [(node, Reject::Replayed); 2]);
    let mut twice = ack.clone();
    twice.chunks.push(ack.chunks[0]);
    world.stream(node, StreamMessage::StoreAck(twice));
    assert_eq!(world.acked(1).len(), 1);
    assert!(world.stored(1).is_none());
}

#[test]
fn one_ack_for_many_chunks_counts_for_each() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Silent);
    for ticket in 0..5 {
        store_one(&mut world, ticket, 1);
    }
    world.run(SECOND);
    let fake = &world.fakes[&node];
    assert_eq!(fake.received.len(), 5);
    let acks: Vec<StoreAck> =
        fake.received.iter().map(|chunk| fake.ack(world.mesh, chunk)).collect();
    let StoreAck { batch, account, epoch, terms, .. } = acks[0].clone();
    let chunks: Vec<AckedChunk> = acks.iter().map(|ack| ack.chunks[0]).collect();
    let statement =
        AckStatement { mesh: world.mesh, account, batch, epoch, terms, chunks: chunks.clone() };
    let signature = statement.sign(&fake.keys);
    let ack = StoreAck { batch, account, epoch, terms, chunks, signature };
    world.stream(node, StreamMessage::StoreAck(ack));
    assert!((0..5).all(|ticket| world.stored(ticket).is_some()));
}

#[test]
fn ack_over_gossip_is_malformed() {
    let (mut world, node, _) = with_silent(1);
    let message = Message::Stream(StreamMessage::StoreAck(ack_of(&world, node)));
    world.input(Input::Message { from: node, via: Via::Topic, message });
    assert_eq!(world.rejects, [(node, Reject::Malformed)]);
    assert!(world.acked(1).is_empty());
}

#[test]
fn late_holder_triggers_exactly_one_extra_grant() {
    let mut world = World::new(2);
    let late = world.add_connected(Manners::Silent);
    let id = store_one(&mut world, 1, 3);
    world.run(2 * SECOND);
    assert_eq!(world.receivers(&id).len(), 3);
    let spares: Vec<NodeId> = (0..3).map(|_| world.add_connected(Manners::Silent)).collect();
    // The spares volunteer to a later request; nothing is given to them before it is time.
    world.run(2 * SECOND);
    assert_eq!(world.receivers(&id).len(), 3);
    world.run_until(10 * SECOND, |world| world.receivers(&id).len() > 3);
    world.run(2 * SECOND);
    assert_eq!(world.receivers(&id).len(), 4);
    let extra = world.receivers(&id)[3];
    assert!(spares.contains(&extra));
    // The late ack still counts, and the one that was asked instead is recorded as a surplus.
    let ack = ack_of(&world, late);
    world.stream(late, StreamMessage::StoreAck(ack));
    assert!(world.stored(1).unwrap().contains(&late));
    let ack = ack_of(&world, extra);
    world.stream(extra, StreamMessage::StoreAck(ack));
    assert_eq!(world.acked(1).last(), Some(&(extra, 4)));
    assert!(world.rejects.is_empty());
}

#[test]
fn holder_that_makes_progress_is_not_late() {
    let mut world = World::new(1);
    let slow = world.add_connected(Manners::Silent);
    for ticket in 0..20 {
        store_one(&mut world, ticket, 1);
    }
    world.run(SECOND);
    let mine: Vec<StoreChunk> = world.fakes[&slow].received.clone();
    assert!(!mine.is_empty());
    let count = world.sent.len();
    for chunk in mine.iter().take(4) {
        world.run(4 * SECOND);
        let ack = world.fakes[&slow].ack(world.mesh, chunk);
        world.stream(slow, StreamMessage::StoreAck(ack));
    }
    assert_eq!(world.sent.len(), count, "after 16 s nobody else was given anything");
}

#[test]
fn chunk_that_is_never_acked_is_overdue_although_others_are() {
    let mut world = World::new(0);
    let slow = world.add_connected(Manners::Silent);
    for ticket in 0..60 {
        store_one(&mut world, ticket, 1);
    }
    world.run(SECOND);
    let good = world.add_connected(Manners::Honest);
    let mine: Vec<StoreChunk> = world.fakes[&slow].received.clone();
    for chunk in &mine[1..] {
        world.run(SECOND);
        let ack = world.fakes[&slow].ack(world.mesh, chunk);
        world.stream(slow, StreamMessage::StoreAck(ack));
    }
    assert_eq!(world.receivers(&mine[0].header.id()), [slow, good]);
}

#[test]
fn stalled_holder_gives_back_its_queue() {
    let limits = OwnerLimits { in_flight_bytes: 3_000, ..OwnerLimits::default() };
    let mut world = World::with_limits(0, limits);
    let slow = world.add_connected(Manners::Silent);
    for ticket in 0..10 {
        store_one(&mut world, ticket, 1);
    }
    world.run(SECOND);
    assert_eq!(world.fakes[&slow].received.len(), 2);
    world.add_connected(Manners::Honest);
    world.run_until(20 * SECOND, |world| (0..10).all(|ticket| world.stored(ticket).is_some()));
    assert_eq!(world.fakes[&slow].received.len(), 2, "nothing more was sent into the hole");
}

#[test]
fn chunk_lost_by_its_only_holder_goes_there_again_when_it_volunteers_anew() {
    let (mut world, node, id) = with_silent(1);
    world.run(60 * SECOND);
    assert_eq!(world.receivers(&id), [node], "late is not lost");
    world.run_until(700 * SECOND, |world| world.receivers(&id).len() == 2);
    let first = ack_of(&world, node);
    world.stream(node, StreamMessage::StoreAck(first));
    assert!(world.stored(1).is_some());
    assert!(world.rejects.is_empty());
}

#[test]
fn node_that_was_cut_off_is_dialed_again_when_it_volunteers_anew() {
    let (mut world, node, id) = with_silent(1);
    world.disconnect(node);
    world.fake(node).manners = Manners::Honest;
    world.run_until(700 * SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.receivers(&id), [node, node]);
    assert_eq!(world.dials.len(), 1);
}

#[test]
fn holder_over_quota_is_not_sent_one_chunk_after_the_other() {
    let mut world = World::new(0);
    let over = world.add_connected(Manners::Refuses(StoreRefusal::OverQuota));
    let good = world.add_connected(Manners::Honest);
    let limits = OwnerLimits::default();
    for ticket in 0..40 {
        let (chunk, _) = world.chunk(1 << 20);
        world.store(ticket, chunk, 1);
    }
    world.run_until(10 * SECOND, |world| (0..40).all(|ticket| world.stored(ticket).is_some()));
    let at_once = limits.in_flight_bytes >> 20;
    let sent = world.fakes[&over].received.len();
    assert!((1..=at_once).contains(&sent), "{sent} chunks went to it in vain");
    // It volunteers on the topic, where it does not know for whom; it gets nothing.
    for ticket in 40..50 {
        let (chunk, _) = world.chunk(1 << 20);
        world.store(ticket, chunk, 2);
    }
    world.run(61 * SECOND);
    assert_eq!(world.fakes[&over].received.len(), sent);
    assert_eq!(world.short(45), Some((1, Shortage::OverQuota)));
    assert!(world.acked(45).iter().all(|(node, _)| *node == good));
    // In the end it is tried again.
    world.fake(over).manners = Manners::Honest;
    world.run(1_300 * SECOND);
    assert!((40..50).all(|ticket| world.stored(ticket).is_some()));
}

#[test]
fn refusal_leads_to_the_next_candidate() {
    use StoreRefusal::{Busy, Failed, Full, Invalid, OverQuota, Unwilling};
    use StoreRefusal::{Superseded, TooManyHeads};
    let reasons = [Busy, Failed, Full, Invalid, OverQuota, Unwilling, Superseded, TooManyHeads];
    for reason in reasons {
        let mut world = World::new(0);
        let refuses = world.add_connected(Manners::Refuses(reason));
        let other = world.add_connected(Manners::Refuses(reason));
        let good = world.add_connected(Manners::Honest);
        store_one(&mut world, 1, 1);
        world.run_until(SECOND, |world| world.stored(1).is_some());
        assert_eq!(world.stored(1).unwrap(), &[good]);
        assert!(world.rejects.is_empty());
        // Who refused is not asked directly for the next chunk.
        world.run(Duration::from_millis(100));
        let before = world.sent.len();
        store_one(&mut world, 2, 1);
        world.run_until(SECOND, |world| world.stored(2).is_some());
        let asked: Vec<NodeId> = world.sent[before..].iter().map(|(_, to, _)| *to).collect();
        let spared = [refuses, other]
            .into_iter()
            .filter(|node| world.fakes[node].received.is_empty() || !asked.contains(node));
        assert_eq!(spared.count(), 2);
    }
}

#[test]
fn busy_holder_gets_the_chunk_a_moment_later() {
    let mut world = World::new(0);
    let node = world.add_connected(Manners::Refuses(StoreRefusal::Busy));
    store_one(&mut world, 1, 1);
    world.run(Duration::from_millis(500));
    assert_eq!(world.fakes[&node].received.len(), 1);
    world.fake(node).manners = Manners::Honest;
    world.run_until(2 * SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.fakes[&node].received.len(), 2);
}

#[test]
fn refusal_of_what_was_not_sent_is_unsolicited() {
    let (mut world, node, id) = with_silent(2);
    let batch = world.fakes[&node].received[0].batch;
    let other = world.add_connected(Manners::Deaf);
    let reject =
        |batch| StreamMessage::StoreReject(StoreReject { batch, id, reason: StoreRefusal::Full });
    world.stream(other, reject(batch));
    world.stream(node, reject(crate::core::types::BatchId::from_bytes([1; 16])));
    world.stream(node, reject(batch));
    world.stream(node, reject(batch));
    use Reject::{Replayed, Unsolicited};
    assert_eq!(world.rejects, [(other, Unsolicited), (node, Unsolicited), (node, Replayed)]);
}

#[test]
fn peer_that_dies_mid_chunk_is_replaced() {
    let mut world = World::new(2);
    let dies = world.add_connected(Manners::Silent);
    let id = store_one(&mut world, 1, 3);
    world.run(SECOND);
    assert_eq!(world.receivers(&id).len(), 3);
    let next = world.add_connected(Manners::Honest);
    world.disconnect(dies);
    world.run_until(5 * SECOND, |world| world.stored(1).is_some());
    assert!(world.stored(1).unwrap().contains(&next));
    assert!(!world.stored(1).unwrap().contains(&dies));
}

#[test]
fn ack_after_a_broken_connection_is_still_good() {
    let (mut world, node, id) = with_silent(2);
    world.disconnect(node);
    world.connect(node);
    world.run(SECOND);
    // It is sent once more, with the same seed: either answer is the right one.
    assert_eq!(world.receivers(&id), [node, node]);
    let received = &world.fakes[&node].received;
    assert_eq!(received[0].seed, received[1].seed);
    assert_ne!(received[0].nonce, received[1].nonce);
    let ack = ack_of(&world, node);
    world.stream(node, StreamMessage::StoreAck(ack.clone()));
    assert_eq!(world.acked(1), [(node, 1)]);
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.rejects, [(node, Reject::Replayed)]);
}

/// Two copies are on their way to a node, and the first was refused.
fn with_one_of_two_refused() -> (World, NodeId, ChunkId) {
    let (mut world, node, id) = with_silent(1);
    world.disconnect(node);
    world.connect(node);
    world.run(SECOND);
    assert_eq!(world.receivers(&id), [node, node], "two copies are on their way");
    let batch = world.fakes[&node].received[0].batch;
    let busy = StoreReject { batch, id, reason: StoreRefusal::Busy };
    world.stream(node, StreamMessage::StoreReject(busy));
    (world, node, id)
}

#[test]
fn ack_of_a_second_copy_is_good_at_once_after_the_first_was_refused() {
    let (mut world, node, id) = with_one_of_two_refused();
    let ack = ack_of(&world, node);
    world.stream(node, StreamMessage::StoreAck(ack.clone()));
    assert_eq!(world.acked(1), [(node, 1)]);
    assert!(world.rejects.is_empty(), "{:?}", world.rejects);
    world.run(120 * SECOND);
    assert_eq!(world.receivers(&id).len(), 2, "it is not sent a third time");
    let batch = world.fakes[&node].received[0].batch;
    let refusal = StoreReject { batch, id, reason: StoreRefusal::Busy };
    world.stream(node, StreamMessage::StoreAck(ack));
    world.stream(node, StreamMessage::StoreReject(refusal));
    assert_eq!(world.rejects, [(node, Reject::Replayed); 2], "once is enough");
}

#[test]
fn a_refusal_that_comes_twice_is_a_replay() {
    let (mut world, node, id) = with_one_of_two_refused();
    let batch = world.fakes[&node].received[0].batch;
    let refusal = StoreReject { batch, id, reason: StoreRefusal::Busy };
    world.stream(node, StreamMessage::StoreReject(refusal));
    assert_eq!(world.rejects, [(node, Reject::Replayed)]);
}

#[test]
fn ack_of_a_second_copy_is_good_after_the_first_was_refused() {
    let (mut world, node, id) = with_one_of_two_refused();
    world.run_until(2 * SECOND, |world| world.receivers(&id).len() == 3);
    // The third went out with the same seed, so the ack of the second stands for it.
    let received = &world.fakes[&node].received;
    assert!(received.iter().all(|chunk| chunk.seed == received[0].seed));
    let ack = ack_of(&world, node);
    world.stream(node, StreamMessage::StoreAck(ack));
    assert_eq!(world.acked(1), [(node, 1)]);
    assert!(world.rejects.is_empty(), "{:?}", world.rejects);
}

#[test]
fn two_holders_are_sent_different_seeds_proofs_and_accounts() {
    let mut world = World::new(2);
    store_one(&mut world, 1, 2);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    let chunks: Vec<&StoreChunk> =
        world.fakes.values().flat_map(|fake| fake.received.iter()).collect();
    let [one, other] = chunks[..] else { panic!() };
    assert_ne!(one.account, other.account);
    assert_ne!(one.seed, other.seed);
    assert_ne!(one.nonce, other.nonce);
    assert_ne!(one.proof, other.proof);
}

#[test]
fn agreement_key_of_small_order_makes_no_holder() {
    let mut world = World::new(0);
    let node = world.add(Manners::Honest);
    let mut hello = world.fakes[&node].hello();
    hello.agreement = crate::crypto::keys::AgreementKey([0; 32]);
    world.up.insert(node);
    world.input(Input::PeerUp(Peer { node, hello, reach: Reach::Local }));
    let id = store_one(&mut world, 1, 1);
    world.run(SECOND);
    assert!(world.receivers(&id).is_empty());
}

#[test]
fn acks_from_one_subnet_count_once() {
    let mut world = World::new(0);
    for _ in 0..20 {
        let node = world.add(Manners::Honest);
        world.fake(node).reach = Reach::PublicV4([198, 51, 100]);
        world.connect(node);
    }
    store_one(&mut world, 1, 3);
    world.run(120 * SECOND);
    assert!(world.stored(1).is_none());
    assert_eq!(world.acked(1).len(), 1);
}

#[test]
fn node_that_moves_into_a_taken_domain_before_its_ack_does_not_count() {
    let mut world = World::new(0);
    let nodes: Vec<NodeId> = (0..2_u8)
        .map(|name| {
            let node = world.add(Manners::Silent);
            world.fake(node).reach = Reach::PublicV4([203, 0, name]);
            world.connect(node);
            node
        })
        .collect();
    let id = store_one(&mut world, 1, 2);
    world.run(SECOND);
    assert_eq!(world.receivers(&id).len(), 2);
    world.fake(nodes[1]).reach = Reach::PublicV4([203, 0, 0]);
    world.connect(nodes[1]);
    for node in &nodes {
        let ack = ack_of(&world, *node);
        world.stream(*node, StreamMessage::StoreAck(ack));
    }
    assert_eq!(world.acked(1).iter().map(|(_, k)| *k).collect::<Vec<_>>(), [1, 1]);
    assert!(world.stored(1).is_none(), "status is never ahead of truth");
}
