//! Nobody can dial anybody but one.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "one-door",
    title: "nobody can dial anybody but one node",
    story: "Every home router but one turns strangers away: all nodes are connected to node 1, and \
            to nobody else. Gossip goes through it, so that everybody hears of every put and \
            volunteers; but the owner can hand its chunks to node 1 alone. Without relays there is \
            nothing better to be had, and what must hold is that it is said: one copy of two, \
            short, for as long as it is so, and no time or traffic wasted without end on doors \
            that do not open. When a second router lets strangers in, the put is finished.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(7, 4);
    stage.plan.use_.replicas = 2;
    stage.behind_nat = vec![0, 2, 3, 4, 5, 6];
    stage.at(HOUR, "the owner puts 6 chunks, twice each", [put(6)]);
    stage.expect_at(DAY, "node 1 has them, and they are short", |world| {
        world.held_by(1) == 6 && world.stored_chunks() == 0
    });
    stage.at(2 * DAY, "the router of node 4 lets strangers in", [Step::OpenDoor(4)]);
    stage.expect_at(3 * DAY, "node 4 has them too, and they are stored", |world| {
        world.held_by(4) == 6 && world.all_stored()
    });
    stage.expect("doors stayed shut", |world| world.met(Fault::Nat) > 0);
    stage
}
