//! Six holders out of ten acknowledge everything and store nothing.

use super::Scenario;
use super::stage::{HOUR, Stage, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "liar-majority",
    title: "six holders of ten acknowledge everything and store nothing",
    story: "Six of ten holders acknowledge everything at once and store nothing. A signature on an \
            ack proves who said it and not that it is true, so that a chunk of which only liars \
            took replicas is gone; to find that out before it is needed is the work of audits. \
            What has to hold against any number of liars is the rest: no honest holder is blamed, \
            no status counts an ack that was not given, a fetch that a liar cannot serve goes on \
            to the next holder, and every chunk that one honest holder took comes back. Here \
            those are fetched and no others, which is the case for audits. When the liars leave, \
            the owner puts everything again.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(11, 1);
    // An audit would tell before.
    stage.plan.audits = false;
    stage.plan.use_.replicas = 3;
    stage.at(
        HOUR,
        "nodes 1 to 6 turn liars",
        (1..=6).map(|node| Step::Deviate(node, "acks and stores nothing")),
    );
    for hour in 2..10 {
        stage.at(hour * HOUR, "the owner puts 4 chunks, three times each", [put(4)]);
    }
    stage
        .expect_at(13 * HOUR, "the owner was told that all are stored", |world| world.all_stored());
    stage.expect_at(13 * HOUR, "liars acknowledged and hold nothing", |world| {
        world.met(Fault::Byzantine) > 0 && (1..=6).all(|liar| world.held_by(liar) == 0)
    });
    stage.at(13 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.expect_at(14 * HOUR, "whatever an honest node took came back, and no more", |world| {
        let honest = world.acked_by_any(7..=10);
        (1..32).contains(&honest) && world.fetched_by(0) == honest
    });
    stage.expect("the liars are gone, and everything is at three honest nodes", |world| {
        world.fewest_copies() == 3
    });
    stage
}
