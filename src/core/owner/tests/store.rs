//! Store jobs.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn chunk_reaches_its_quorum_at_three_of_five() {
    let mut world = World::new(5);
    let (chunk, _) = world.chunk(1_000);
    let id = chunk.id();
    world.store(1, chunk, 3);
    assert!(world.role.store_window_free() < OwnerLimits::default().window_bytes);
    world.run_until(SECOND, |world| world.stored(1).is_some());
    assert_eq!(world.stored(1).unwrap().len(), 3);
    assert_eq!(world.receivers(&id).len(), 3, "granted up to the quorum");
    assert_eq!(world.acked(1).iter().map(|(_, k)| *k).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(world.role.store_window_free(), OwnerLimits::default().window_bytes);
    assert!(world.dials.is_empty() && world.rejects.is_empty());
    world.run(600 * SECOND);
    assert_eq!(world.requests_published(), 1);
    assert_eq!(world.role.next_timeout(), None);
}
