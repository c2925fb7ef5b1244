//! Nodes that keep everybody waiting.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, put};
use crate::tally::Fault;
use crate::world::Step;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-loris",
    title: "half of the holders keep everybody waiting",
    story: "Half of the holders volunteer at once and then take their time: an ack after minutes, \
            a chunk cut short, an answer that never comes, requests that are opened and left. None \
            of it is an error that anybody could be blamed for, and all of it holds something of \
            somebody else's: a grant, a read, a place in a queue. So everything that waits for a \
            peer has a deadline of its own and a bound, and goes on with the next peer. Here the \
            owner's chunks are stored within the hour, and fetched within minutes by it and by a \
            newcomer.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(9, 1);
    let slow = (1..=4).map(|node| Step::Deviate(node, "keeps others waiting"));
    stage.at(Duration::ZERO, "nodes 1 to 4 keep others waiting", slow);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(3 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.at(3 * HOUR, "and so does node 8, with a capability", [Step::Fetch(8)]);
    stage.expect_at(3 * HOUR + 30 * MINUTE, "both have everything", |world| {
        world.fetched_by(0) == 12 && world.fetched_by(8) == 12
    });
    stage.expect("somebody was kept waiting", |world| world.met(Fault::Byzantine) > 0);
    stage
}
