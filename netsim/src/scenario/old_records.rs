//! Found by reading: the scrub believed every whole record to belong where it lies.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "old-records",
    title: "a disk loses writes, and old records are whole in their place",
    story: "A disk said that it had written chunks, and had not: what lay there before, the whole \
            records of another chunk, was there still. Whoever read one of these chunks was told \
            that it is damaged, as its id is another one; but nobody read them, and the scrub, \
            which reads everything in turn so that rot is found before it is needed, saw nothing \
            but whole records at their own places. Now it asks the catalogue, too: where a record \
            is not the one that counts for its chunk, whatever the catalogue has in that place is \
            missed, read once more, and marked as damaged. Here one of three holders loses its \
            writes of all chunks but one, nobody fetches anything, and after a round of the scrub \
            it knows what it has not.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 8);
    // An audit would tell before.
    stage.plan.audits = false;
    stage.at(HOUR, "the owner puts 12 chunks that all three others hold", [put(12)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(3 * HOUR, "node 1 has old records in their place", [Step::Supplant(1)]);
    stage.expect_at(3 * HOUR, "it does not know, and there are some", |world| {
        world.met(Fault::LostWrite) > 0 && world.known_damaged(1) == 0
    });
    stage.expect_at(8 * DAY - HOUR, "its scrub has found all of them", |world| {
        world.known_damaged(1) as u64 == world.met(Fault::LostWrite)
    });
    stage.expect("and every chunk has its copies again", |world| world.fewest_copies() == 3);
    stage
}
