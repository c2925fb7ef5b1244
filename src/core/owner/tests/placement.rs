//! Who gets a chunk: dials, and one replica in each failure domain.

use super::claims::store_again;
use super::store::{SECOND, store_one};
use super::*;

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

/// Four nodes, of which the first two are neighbours. Two replicas are wanted beside that of the
/// first one, which is not asked.
fn store_beside(is_held_by_neighbour: bool) -> (World, Vec<NodeId>) {
    let mut world = World::new(0);
    let nodes: Vec<NodeId> = [1, 1, 2, 3]
        .into_iter()
        .map(|name| {
            let node = world.add(Manners::Honest);
            world.fake(node).reach = Reach::PublicV4([203, 0, name]);
            world.connect(node);
            node
        })
        .collect();
    let (chunk, _) = world.chunk(1_000);
    let held_by = nodes[1..2].iter().copied().filter(|_| is_held_by_neighbour).collect();
    world.command(OwnerCommand::Store(StoreJob {
        ticket: Ticket(1),
        load: chunk.into(),
        replicas: 2,
        held_by,
        without: vec![nodes[0]],
        beside: vec![nodes[0]],
        deadline: world.now.after(60 * SECOND),
    }));
    world.run_until(30 * SECOND, |world| world.stored(1).is_some());
    (world, nodes)
}

#[test]
fn whoever_has_a_chunk_without_being_asked_takes_its_failure_domain() {
    let (world, nodes) = store_beside(false);
    assert_eq!(world.stored(1).unwrap(), &nodes[2..], "not its neighbour");
}

#[test]
fn a_neighbour_of_who_is_not_asked_does_not_count_though_it_has_the_chunk() {
    let (world, nodes) = store_beside(true);
    for node in &nodes[2..] {
        assert!(world.stored(1).unwrap().contains(node), "both are needed");
    }
}
