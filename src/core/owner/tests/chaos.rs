//! Seeded trouble: peers come, go, lie and fall silent while chunks are stored and fetched. Then
//! the trouble ends, and everything must be well: first safety, then liveness.

use super::*;
use rand::RngExt;

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: u64 = 12;
const CHUNKS: u64 = 24;

/// The first two nodes may do all of this, the others only what an honest node in trouble does.
const MANNERS: [Manners; 10] = [
    Manners::Honest,
    Manners::Honest,
    Manners::Honest,
    Manners::Silent,
    Manners::Deaf,
    Manners::Refuses(StoreRefusal::Busy),
    Manners::Refuses(StoreRefusal::Full),
    Manners::Forges,
    Manners::WrongReceipt,
    Manners::WrongBytes,
];

fn trouble(world: &mut World, dice: &mut ChaCha20Rng, nodes: &[NodeId]) {
    let at = dice.random_range(0..nodes.len());
    let node = nodes[at];
    let manners = &MANNERS[..if at < 2 { 10 } else { 7 }];
    match dice.random_range(0..6_u32) {
        0 | 1 => world.fake(node).manners = manners[dice.random_range(0..manners.len())],
        2 if world.up.contains(&node) => world.disconnect(node),
        2 | 3 if !world.up.contains(&node) => world.connect(node),
        4 => world.fake(node).reachable = dice.random(),
        _ => world.deaf_mesh = dice.random_ratio(1, 4),
    }
    world.run(Duration::from_millis(dice.random_range(0..1_500)));
    let over: Vec<_> = world.role.load().into_iter().filter(Fill::is_over).collect();
    assert!(over.is_empty(), "{over:?}");
}

/// One world of trouble; gives back all that the role did and said.
fn live_through(seed: u64) -> World {
    let mut dice = ChaCha20Rng::seed_from_u64(seed);
    let limits = OwnerLimits { in_flight_bytes: 20_000, ..OwnerLimits::default() };
    let mut world = World::with_limits(4, limits);
    for _ in 0..4 {
        world.add(Manners::Honest);
    }
    let nodes: Vec<NodeId> = world.fakes.keys().copied().collect();
    let mut keys = Vec::new();
    for ticket in 0..CHUNKS {
        let (chunk, ck) = world.chunk(dice.random_range(10..8_000));
        keys.push((chunk.id(), ck));
        // Three at least: one honest holder beside the two that may send wrong bytes.
        world.store(ticket, chunk, dice.random_range(3..=5));
        for _ in 0..dice.random_range(0..4_u32) {
            trouble(&mut world, &mut dice, &nodes);
        }
    }
    for node in &nodes {
        let fake = world.fake(*node);
        (fake.manners, fake.reachable) = (Manners::Honest, true);
    }
    world.deaf_mesh = false;
    world.run_until(1_300 * SECOND, |world| {
        (0..CHUNKS).all(|ticket| world.stored(ticket).is_some())
    });
    assert_eq!(world.role.store_window_free(), OwnerLimits::default().window_bytes);
    fetch_through(&mut world, &mut dice, &nodes, &keys);
    world
}

fn fetch_through(
    world: &mut World,
    dice: &mut ChaCha20Rng,
    nodes: &[NodeId],
    keys: &[(ChunkId, ChunkKey)],
) {
    for (ticket, (id, ck)) in (1_000..).zip(keys) {
        let known = world.fakes.iter().filter(|(_, fake)| fake.held.contains_key(id));
        let holders = known.map(|(node, _)| *node).take(dice.random_range(0..3)).collect();
        world.command(OwnerCommand::Fetch(FetchJob {
            ticket: Ticket(ticket),
            id: *id,
            locality: Locality(0),
            read: ck.read_secret(),
            holders,
            only: false,
            deadline: Time(u64::MAX),
        }));
        if dice.random() {
            trouble(world, dice, nodes);
        }
    }
    for node in nodes {
        let fake = world.fake(*node);
        (fake.manners, fake.reachable) = (Manners::Honest, true);
    }
    world.deaf_mesh = false;
    let fetched = |event: &OwnerEvent| matches!(event, OwnerEvent::Fetched { .. });
    let wanted = keys.len();
    world.run_until(1_300 * SECOND, |world| {
        world.events.iter().filter(|(_, event)| fetched(event)).count() == wanted
    });
    assert_eq!(world.role.fetch_slots_free(), OwnerLimits::default().fetch_slots);
    world.run(1_000 * SECOND);
    assert_eq!(world.role.next_timeout(), None, "nothing is left behind");
}

#[test]
fn everything_is_stored_and_fetched_once_trouble_ends() {
    for seed in 0..SEEDS {
        live_through(seed);
    }
}

#[test]
fn load_shows_what_the_tables_hold() {
    let mut world = World::new(3);
    let used = |world: &World, what: &str| {
        let load = world.role.load();
        load.iter().find(|fill| fill.what == what).map(|fill| fill.used).unwrap()
    };
    for ticket in 0..5 {
        let (chunk, _) = world.chunk(1_000);
        world.store(ticket, chunk, 4);
    }
    world.run(2 * SECOND);
    assert_eq!((used(&world, "connected peers"), used(&world, "store jobs")), (3, 5));
    assert_eq!((used(&world, "batches"), used(&world, "candidates per batch")), (1, 3));
    assert_eq!((used(&world, "deliveries"), used(&world, "answers of one holder")), (3, 5));
    for ticket in 0..5 {
        world.command(OwnerCommand::Cancel(Ticket(ticket)));
    }
    assert_eq!((used(&world, "store jobs"), used(&world, "bytes to store")), (0, 0));
    assert_eq!((used(&world, "batches"), used(&world, "requests by tag")), (0, 0));
}

#[test]
fn same_inputs_give_the_same_effects() {
    let [one, other] = [live_through(100), live_through(100)];
    assert_eq!(one.published, other.published);
    assert_eq!(one.sent, other.sent);
    assert_eq!(one.dials, other.dials);
    assert_eq!(format!("{:?}", one.events), format!("{:?}", other.events));
}
