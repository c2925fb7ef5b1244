//! Nodes that keep everybody waiting.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, put};
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::Step;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-loris",
    title: "most of the holders keep everybody waiting",
    story: "Five of eight holders volunteer at once and then take their time: an ack after \
            minutes, a chunk cut short, an answer that never comes, requests that are opened and \
            left. None of it is an error that anybody could be blamed for, and all of it holds \
            something of somebody else's: a grant, a read, a place in a queue. So everything that \
            waits for a peer has a deadline of its own and a bound, and goes on with the next \
            peer. Here the owner's chunks are stored within two minutes, and fetched within ten by \
            it and by a newcomer.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(9, 1);
    let slow = (1..=5).map(|node| Step::Deviate(node, "keeps others waiting"));
    stage.at(Duration::ZERO, "nodes 1 to 5 keep others waiting", slow);
    for minute in (60..120).step_by(10) {
        let then = minute * MINUTE;
        stage.at(then, "the owner puts 4 chunks, three times each", [put(4)]);
        stage.expect_at(then + 2 * MINUTE, "they are stored", |world| world.all_stored());
    }
    stage.expect_at(2 * HOUR, "grants went to slow ones, and then to others", |world| {
        world.met(Fault::Byzantine) > 0 && world.took(Rare::GivenToMore) > 0
    });
    stage.at(3 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.at(3 * HOUR, "and so does node 8, with a capability", [Step::Fetch(8)]);
    stage.expect_at(3 * HOUR + 10 * MINUTE, "both have everything, asking around", |world| {
        world.fetched_by(0) == 24 && world.fetched_by(8) == 24 && world.took(Rare::GetElsewhere) > 0
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 24);
    stage
}
