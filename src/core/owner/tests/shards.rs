//! A mesh in shards: who is offered what, and where answers come.

use super::store::SECOND;
use super::*;

/// Eight shards, two homes each.
const SHARDING: (u32, u32) = (3, 2);

/// `honest` holders, all connected; each hears every topic, as everybody may.
fn world(honest: usize, seed: u8) -> World {
    let (bits, homes) = SHARDING;
    World::build(honest, OwnerLimits::default(), Sharding::new(bits, homes), [seed; 32])
}

/// A locality in each shard.
fn localities() -> impl Iterator<Item = Locality> {
    (0..8).map(|shard| Locality(shard << 13 | 0x123))
}

/// The one-time keys of all requests that were published.
fn ephemerals(world: &World) -> Vec<[u8; 32]> {
    let published = world.published.iter();
    let keys = published.filter_map(|(_, message)| match message {
        TopicMessage::StoreRequest(request) => Some(request.ephemeral),
        TopicMessage::SearchRequest(request) => Some(request.ephemeral),
        TopicMessage::Answer(_) => None,
    });
    keys.collect()
}

#[test]
fn nobody_is_asked_or_sent_a_chunk_outside_its_home_shards() {
    let mut world = world(40, 3);
    let mut at = BTreeMap::new();
    for (ticket, locality) in (0..).zip(localities().chain(localities()).chain(localities())) {
        let (chunk, _) = world.chunk_at(100, locality);
        at.insert(chunk.id(), locality);
        world.store(ticket, chunk, 3);
        world.run_until(10 * SECOND, |world| world.stored(ticket).is_some());
    }
    assert!(world.requests_published() < 24, "holders known from before are asked directly");
    for (_, to, message) in &world.sent {
        let ids: Vec<ChunkId> = match message {
            StreamMessage::StoreRequest(request) => {
                request.offers.iter().map(|offer| offer.id).collect()
            }
            StreamMessage::StoreChunk(chunk) => vec![chunk.header.id()],
            _ => continue,
        };
        assert!(ids.iter().all(|id| world.sharding.is_home(to, at[id])), "{message:?}");
    }
    // Those that hear a topic and are not at home there have claimed in vain.
    assert!(!world.rejects.is_empty());
    assert!(world.rejects.iter().all(|(_, reason)| *reason == Reject::Unsolicited));
}

#[test]
fn earlier_holders_outside_the_shard_are_not_asked() {
    let mut world = world(40, 3);
    let (chunk, _) = world.chunk_at(100, Locality(0));
    let (at_home, away): (Vec<NodeId>, Vec<NodeId>) =
        world.fakes.keys().partition(|node| world.sharding.is_home(node, Locality(0)));
    let held_by = vec![at_home[0], away[0]];
    let deadline = world.now.after(60 * SECOND);
    let (ticket, load, without) = (Ticket(0), chunk.into(), Vec::new());
    let beside = Vec::new();
    let job = StoreJob { ticket, load, replicas: 3, held_by, without, beside, deadline };
    world.command(OwnerCommand::Store(job));
    world.run_until(10 * SECOND, |world| world.stored(0).is_some());
    let asked: BTreeSet<NodeId> = world.sent.iter().map(|(_, to, _)| *to).collect();
    assert!(asked.contains(&at_home[0]) && !asked.contains(&away[0]));
}

#[test]
fn answers_come_to_one_home_shard_whatever_is_asked_and_in_every_life() {
    let mut shards = BTreeSet::new();
    for life in 0..4 {
        let mut world = world(20, life);
        for (ticket, locality) in (0..).zip(localities()) {
            let (chunk, ck) = world.chunk_at(100, locality);
            let id = chunk.id();
            world.store(2 * ticket, chunk, 3);
            let (holders, read) = (Vec::new(), ck.read_secret());
            let deadline = world.now.after(SECOND);
            let ticket = Ticket(2 * ticket + 1);
            let job = FetchJob { ticket, id, locality, read, holders, only: false, deadline };
            world.command(OwnerCommand::Fetch(job));
            world.run(2 * SECOND);
        }
        let keys = ephemerals(&world);
        assert!(keys.len() >= 16);
        let topic = |key: &[u8; 32]| Topic::answer(&AnswerTag::of(key), SHARDING.0);
        assert!(keys.iter().all(|key| topic(key) == world.role.answer_topic()));
        shards.insert(world.role.answer_topic());
    }
    assert_eq!(shards.len(), 1, "more than one would name the node to whoever watches");
}

#[test]
fn a_chunk_stored_in_a_shard_is_found_there_by_whoever_has_only_the_capability() {
    let mut world = world(30, 3);
    for (ticket, locality) in (0..).zip(localities()) {
        let (chunk, ck) = world.chunk_at(100, locality);
        let id = chunk.id();
        world.store(2 * ticket, chunk, 3);
        world.run_until(10 * SECOND, |world| world.stored(2 * ticket).is_some());
        let (holders, read) = (Vec::new(), ck.read_secret());
        let deadline = world.now.after(60 * SECOND);
        let of = Ticket(2 * ticket + 1);
        let job = FetchJob { ticket: of, id, locality, read, holders, only: false, deadline };
        world.command(OwnerCommand::Fetch(job));
        let is_fetched = |world: &World| {
            let mut events = world.events.iter().map(|(_, event)| event);
            events.any(|event| matches!(event, OwnerEvent::Fetched { ticket, .. } if *ticket == of))
        };
        world.run_until(10 * SECOND, is_fetched);
    }
}

#[test]
fn where_nobody_connected_is_at_home_the_owner_says_so_and_asks_when_somebody_comes() {
    let mut world = world(0, 3);
    let locality = Locality(0);
    let sharding = world.sharding;
    while world.fakes.keys().filter(|node| sharding.is_home(node, locality)).count() < 3 {
        let node = world.add(Manners::Honest);
        if !sharding.is_home(&node, locality) {
            world.connect(node);
        }
    }
    world.deaf_mesh = true;
    let (chunk, _) = world.chunk_at(100, locality);
    world.store(0, chunk, 3);
    world.run(61 * SECOND);
    assert_eq!(world.short(0), Some((0, Shortage::NoPeers)));
    world.deaf_mesh = false;
    let nodes: Vec<NodeId> = world.fakes.keys().copied().collect();
    for node in nodes.into_iter().filter(|node| sharding.is_home(node, locality)) {
        world.connect(node);
    }
    world.input(Input::PeerSubscribed(sharding.topic(TopicKind::Store, locality)));
    world.run_until(7 * SECOND, |world| world.stored(0).is_some());
}
