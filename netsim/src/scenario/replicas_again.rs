//! Replicas that are gone are made again.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, put};
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "replicas-again",
    title: "two holders leave for ever and one gets a new disk",
    story: "Everything was stored three times; then two of the seven holders leave for ever and a \
            third gets a new, empty disk. No flow of today looks after what is stored already, so \
            at the end the world tells the owner, which puts what is short again and names the \
            holders that it knows of. One that still has the chunk says so, and counts without \
            being sent anything; the one with the new disk does not, and is asked like anybody \
            else. Nothing was lost here, and in the end everything is there three times again.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 1);
    stage.at(HOUR, "the owner puts 12 chunks, one a minute, three times each", []);
    for minute in 0..12 {
        stage.at(HOUR + minute * MINUTE, "", [put(1)]);
    }
    stage.expect_at(2 * HOUR, "all are stored three times", |world| {
        world.all_stored() && world.fewest_copies() == 3
    });
    let leave = |node| Step::Happen(Event::Leave { node });
    stage.at(3 * HOUR, "nodes 1 and 2 leave for ever", [leave(1), leave(2)]);
    let new_disk = Step::Happen(Event::LoseDisk { node: 3 });
    stage.at(3 * HOUR, "node 3 gets a new disk", [new_disk]);
    stage.expect_at(12 * HOUR, "some are short now", |world| world.fewest_copies() < 3);
    stage.expect("everything is there three times again", |world| world.fewest_copies() >= 3);
    stage
}
