//! Whole worlds.

use super::*;
use crate::chance::Chance;
use crate::evil::{self, Gang};
use quloud::core::effect::Effect;
use quloud::core::message::{SearchKind, SearchRequest, TopicMessage};
use quloud::core::shard::Sharding;
use quloud::core::topic::{Topic, TopicKind};
use rand::SeedableRng;

fn frame() -> Frame {
    Frame { nodes: 5..=12, days: 5 }
}

#[test]
fn same_seed_has_the_same_trace() {
    for seed in 0..5 {
        let [one, two] = [(); 2].map(|()| run(seed, &frame(), &mut |_, _| {}));
        assert_eq!(one, two);
    }
    let [one, two] = [1, 2].map(|seed| run(seed, &frame(), &mut |_, _| {}).trace);
    assert_ne!(one, two);
}

#[test]
fn in_a_kind_world_everything_is_stored_and_fetched() {
    for seed in 0..10 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng, &frame()).kind();
        let mut silent = |_: Time, _: &dyn Fn() -> String| {};
        let mut world = World::of(plan, rng, &mut silent);
        world.live();
        world.finale();
        assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
        let mut kept = world.chunks.values().filter(|chunk| chunk.released.is_none());
        assert!(!world.chunks.is_empty() && kept.all(|chunk| chunk.promised), "seed {seed}");
        let kept = world.chunks.values().filter(|chunk| chunk.released.is_none()).count();
        assert!(world.fetched.len() >= kept, "seed {seed}");
        for (_, demanded) in world.ending.chunks() {
            assert_eq!((demanded.met, demanded.of()), (kept as u64, kept as u64), "seed {seed}");
        }
    }
}

#[test]
fn in_a_kind_world_of_shards_what_has_holders_enough_is_stored_and_fetched() {
    let (mut all, mut promised) = (0, 0);
    for seed in 0..10 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let frame = Frame { nodes: 10..=12, days: 5 };
        let mut plan = Plan::draw(&mut rng, &frame).kind();
        plan.sharding = Sharding::new(1 + (seed % 2) as u32, 1 + (seed % 3) as u32);
        plan.net.connected = Chance::ALWAYS;
        plan.use_.replicas = plan.use_.replicas.min(2);
        plan.use_.releases = 0;
        let mut silent = |_: Time, _: &dyn Fn() -> String| {};
        let mut world = World::of(plan, rng, &mut silent);
        world.live();
        world.finale();
        assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
        let stored = world.chunks.iter().filter(|(_, chunk)| chunk.promised);
        for (id, chunk) in stored {
            promised += 1;
            let locality = world.nodes[chunk.owner].wishes.puts[id].locality;
            let topic = world.plan.sharding.topic(TopicKind::Store, locality);
            assert!(chunk.acked.keys().all(|node| world.nodes[*node].is_home(topic)));
        }
        all += world.chunks.values().filter(|chunk| chunk.released.is_none()).count();
    }
    assert!(promised > all / 4 * 3, "{promised} of {all}");
}

#[test]
fn every_way_to_deviate_acts_in_small_worlds_and_breaks_no_promise() {
    for (kind, name) in evil::names().enumerate() {
        // Whether there is an occasion is up to the world.
        let mut worlds = (kind..).step_by(evil::ALL.len()).take(4);
        assert!(worlds.any(|seed| acts_of_a_gang(seed, name) > 0), "{name} does nothing");
    }
}

/// How often those acted who all deviate in this way.
fn acts_of_a_gang(seed: usize, name: &str) -> u64 {
    let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
    let mut plan = Plan::draw(&mut rng, &Frame { nodes: 6..=9, days: 3 });
    plan.people.byzantine = Chance::NEVER;
    plan.audits = true;
    (plan.use_.owners, plan.use_.gets) = (2, 30);
    plan.use_.replicas = plan.use_.replicas.min(2);
    // Some deviate with heads alone: there are heads, and they are replaced.
    plan.backups.times = plan.backups.times.max(4);
    let mut silent = |_: Time, _: &dyn Fn() -> String| {};
    let mut world = World::of(plan, rng, &mut silent);
    // All but the owners and one other.
    let gang = Gang::new(Time(86_400_000), true);
    for node in 3..world.nodes.len() {
        world.corrupt_one(node, evil::named(name).unwrap(), &gang);
    }
    world.live();
    world.finale();
    assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
    world.acts.of(name)
}

#[test]
fn every_promised_chunk_is_counted_at_the_end_as_met_or_as_excused() {
    let (mut met, mut excused) = (0, 0);
    for seed in 0..10 {
        let mut silent = |_: Time, _: &dyn Fn() -> String| {};
        let mut world = World::new(seed, &frame(), &mut silent);
        world.live();
        world.finale();
        let promised = world.chunks.values().filter(|chunk| chunk.promised).count() as u64;
        assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
        let Ending { puts, owners, newcomers, replicas, .. } = &world.ending;
        let put: usize = world.nodes.iter().map(|node| node.wishes.puts.len()).sum();
        assert!(puts.of() == put as u64 && puts.met <= promised, "seed {seed}");
        assert_eq!(replicas.of(), promised, "seed {seed}");
        assert!(owners.of() <= newcomers.of() && newcomers.of() <= promised, "seed {seed}");
        for (_, demanded) in world.ending.chunks() {
            met += demanded.met;
            excused += demanded.excused.total();
        }
    }
    assert!(met > 0 && excused > 0, "{met} met, {excused} excused");
}

#[test]
fn the_newcomer_of_the_end_is_new_and_has_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut plan = Plan::draw(&mut rng, &frame()).kind();
    // Whoever recovers a device would be one more.
    plan.backups.times = 0;
    let nodes = plan.nodes;
    let mut silent = |_: Time, _: &dyn Fn() -> String| {};
    let mut world = World::of(plan, rng, &mut silent);
    world.live();
    world.finale();
    assert_eq!(world.violations, Vec::<String>::new());
    assert_eq!((world.nodes.len(), world.nodes[nodes].life), (nodes + 1, 1));
    assert!(world.chunks.values().all(|chunk| !chunk.acked.contains_key(&nodes)));
    assert_eq!(world.fetched_by(nodes) as u64, world.ending.newcomers.met);
}

#[test]
fn whoever_publishes_in_a_strange_shard_is_connected_to_members_first() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let mut plan = Plan::draw(&mut rng, &Frame { nodes: 16..=16, days: 1 }).kind();
    plan.sharding = Sharding::new(2, 1);
    plan.net.connected = Chance::NEVER;
    (plan.use_.owners, plan.use_.gets) = (0, 0);
    let mut silent = |_: Time, _: &dyn Fn() -> String| {};
    let mut world = World::of(plan, rng, &mut silent);
    world.run_until(Time(300_000), |_| false);
    let lacks = |world: &World<'_>, topic| {
        let nodes = &world.nodes;
        world.net.lacks_hearers(0, |peer| nodes[peer].hears(topic))
    };
    let topics = (0..4).map(|shard| Topic { kind: TopicKind::Store, shard });
    let strange: Vec<Topic> = topics.filter(|topic| lacks(&world, *topic) > 0).collect();
    assert!(strange.len() > 1, "{strange:?}");
    for topic in strange {
        // So small a mesh may have fewer than three at home there.
        let members = (1..16).filter(|peer| world.nodes[*peer].hears(topic)).count().min(3);
        let sent = |world: &World<'_>| world.net.traffic[0].gossip_copies;
        let before = sent(&world);
        let (ephemeral, nonce, wanted) = ([9; 32], [0; 32], Vec::new());
        let kind = SearchKind::Retrieve;
        let request = SearchRequest { kind, ephemeral, attempt: 0, nonce, wanted };
        let message = TopicMessage::SearchRequest(request);
        world.carry_out(0, Role::Owner, Effect::Publish { topic, message });
        assert_eq!(sent(&world), before, "not before it is connected");
        let soon = world.agenda.now().after(Duration::from_secs(60));
        world.run_until(soon, |_| false);
        assert!(members > 0);
        assert_eq!((lacks(&world, topic), sent(&world)), (3 - members, before + members as u64));
    }
}

#[test]
fn what_befalls_many_at_once_is_over_when_the_world_is_calm() {
    let mut plan = Plan::still(6, 2);
    (plan.use_.puts, plan.use_.chunks, plan.use_.patience) = (4, 4, plan.span);
    let mut silent = |_: Time, _: &dyn Fn() -> String| {};
    let mut world = World::of(plan, ChaCha20Rng::seed_from_u64(1), &mut silent);
    let hour = Duration::from_secs(3_600);
    world.agenda.after(hour, Event::MassRestart { nodes: (0..6).collect() });
    world.agenda.after(hour * 5, Event::CrashLoop { node: 2, more: 30 });
    // So long that they would go on for days.
    world.agenda.after(hour * 47, Event::CrashLoop { node: 3, more: 50_000 });
    let (share, apart, length) = (Chance::ALWAYS, Duration::from_secs(1), hour * 100);
    world.agenda.after(hour * 46, Event::Swizzle { share, apart, length });
    world.live();
    assert!(world.net.pairs().count() < 15, "links are cut");
    world.finale();
    assert_eq!(world.violations, Vec::<String>::new());
    assert!(world.net.pairs().filter(|(a, b)| *a < 6 && *b < 6).count() == 15);
    assert!((0..6).all(|node| world.is_up(node)));
    assert_eq!(world.met(Fault::MassRestart), 6);
    let loops = [Fault::CrashLoop, Fault::CrashInOpening];
    assert!(loops.iter().all(|fault| world.met(*fault) > 0), "{:?}", world.faults);
    assert!(world.met(Fault::Swizzle) > 5);
}

#[test]
fn clocks_that_drift_and_stand_still_break_no_promise() {
    for seed in 0..3 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let frame = Frame { nodes: 5..=9, days: 4 };
        let mut plan = Plan::draw(&mut rng, &frame).kind();
        (plan.people.drifting, plan.people.stopping) = (Chance::ALWAYS, Chance::ALWAYS);
        (plan.people.pauses, plan.people.laptops) = (2_000, Chance::per_mille(300));
        let mut silent = |_: Time, _: &dyn Fn() -> String| {};
        let mut world = World::of(plan, rng, &mut silent);
        world.live();
        world.finale();
        assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
        assert!(world.met(Fault::ClockDrift) > 0 && world.met(Fault::ClockStopped) > 0);
        let end = world.agenda.now();
        let right = world.nodes.iter().all(|node| node.clock_at(end) == end);
        assert!(!right, "seed {seed}");
    }
}
