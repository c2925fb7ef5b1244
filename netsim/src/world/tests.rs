//! Whole worlds.

use super::*;
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
    }
}
