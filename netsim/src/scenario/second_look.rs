//! A promise that is given twice is given for bytes that are there.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, crash, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "second-look",
    title: "a holder is asked again for what its disk has lost meanwhile",
    story: "An owner that starts again takes up the puts that are short of replicas, and asks \
            those who acknowledged them before: one that still holds the chunk acknowledges it \
            once more. That ack is as good a promise as the first one, so it has to be given for \
            what was read just then, and not for what the catalogue says: a disk that had said to \
            have written a chunk, and had not, would be vouched for a second time. Here each chunk \
            has three of its four holders, one of the three loses its writes of most of them, and \
            the owner starts again before the fourth holder comes. The one without the bytes \
            notices as it is asked, is sent them, and everything is stored four times.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 2);
    // An audit would tell before.
    stage.plan.audits = false;
    stage.plan.use_.replicas = 4;
    stage.at(HOUR / 2, "node 4 is away", [crash(4, 5 * HOUR)]);
    stage.at(HOUR, "the owner puts 12 chunks, four times each", [put(12)]);
    stage.expect_at(2 * HOUR, "three have them all", |world| {
        (1..=3).all(|node| world.held_by(node) == 12) && world.stored_chunks() == 0
    });
    stage.at(2 * HOUR, "node 1 has old records in their place", [Step::Supplant(1)]);
    stage.expect_at(2 * HOUR, "it does not know, and there are some", |world| {
        world.met(Fault::LostWrite) > 0 && world.known_damaged(1) == 0
    });
    stage.at(3 * HOUR, "the owner starts again", [crash(0, MINUTE)]);
    stage.expect_at(12 * HOUR, "all are stored four times", |world| {
        world.all_stored() && world.fewest_copies() == 4
    });
    stage.expect("and come back", |world| world.fetched_by(0) == 12);
    stage
}
