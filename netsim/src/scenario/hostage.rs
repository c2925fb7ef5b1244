//! Holders that keep chunks hostage.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostage",
    title: "two holders of three store honestly and give nothing back",
    story: "Two of the three holders of every chunk stored it honestly, and give nothing back: \
            they say that they do not hold it, that they are busy, that it is damaged, or nothing \
            at all. A reader that waited for the one it asked first would be theirs. It does not: \
            after a moment it asks the next holder besides, and takes the first answer whose bytes \
            are right. Here the owner, who knows the holders, and a newcomer, who has only a \
            capability and searches, are both served by the third.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 2);
    stage.at(HOUR, "the owner puts 12 chunks that all three others hold", [put(12)]);
    let hostages = [1, 2].map(|node| Step::Deviate(node, "keeps chunks hostage"));
    stage.at(2 * HOUR, "nodes 1 and 2 give nothing back any more", hostages);
    stage.at(3 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.at(5 * HOUR, "and so does node 1, from the others", [Step::Fetch(1)]);
    stage
        .expect_at(DAY, "the owner has everything, from node 3", |world| world.fetched_by(0) == 12);
    stage.expect_at(DAY, "and the others were asked and refused", |world| {
        world.met(Fault::Byzantine) > 12
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
