//! When an unmet request goes out again, and when it is called short.

use super::store::{SECOND, WINDOW, offers, store_one};
use super::*;

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
fn subscription_brings_the_request_forward_and_ever_later_where_it_brings_nothing() {
    let mut world = World::new(1);
    store_one(&mut world, 1, 2);
    world.run(200 * SECOND);
    let before = world.published.len();
    let topic = Topic::new(TopicKind::Store, Locality(0), 0);
    let come = |world: &mut World, times: usize| {
        for _ in 0..times {
            world.input(Input::PeerSubscribed(topic));
            world.run(SECOND);
        }
        world.published.len() - before
    };
    let soon = come(&mut world, 20);
    assert!((2..=4).contains(&soon), "{soon}");
    let in_an_hour = come(&mut world, 3_580);
    assert!((soon + 10..soon + 25).contains(&in_an_hour), "{in_an_hour}");
    let at: Vec<u64> = world.published[before..].iter().map(|(at, _)| at.0).collect();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 5_000), "{at:?}");
    let last = at.windows(2).rev().take(5).map(|pair| pair[1] - pair[0]);
    assert!(last.min() >= Some(300_000), "{at:?}");
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
    let batches: BTreeSet<ChunkId> =
        world.published.iter().map(|(_, m)| offers(m).offers[0].id).collect();
    assert_eq!(batches.len(), 200, "every one has its turn");
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
