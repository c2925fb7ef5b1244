//! Holders that hand out wrong bytes.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::Step;
use quloud::core::codec::Reject;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "wrong-bytes",
    title: "two holders of three hand out bytes that are not the chunk's",
    story: "Two of the three holders of every chunk hand it out with a bit flipped, a byte too \
            many or cut short. The id of a chunk is a hash over its bytes, so that a reader needs \
            to trust nobody: it hashes what it is given before it looks at it, throws away what \
            does not fit, remembers who gave it, and asks the next holder. Here everything comes \
            back, byte for byte, from the third.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 2);
    stage.plan.trials = false;
    stage.at(HOUR, "the owner puts 12 chunks that all three others hold", [put(12)]);
    let vandals = [1, 2].map(|node| Step::Deviate(node, "hands out wrong bytes"));
    stage.at(2 * HOUR, "nodes 1 and 2 hand out wrong bytes from now on", vandals);
    stage.at(3 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.expect_at(3 * HOUR + MINUTE, "it has everything within a minute", |world| {
        world.fetched_by(0) == 12 && world.took(Rare::GetNothing) == 0
    });
    stage.expect_at(
        3 * HOUR + MINUTE,
        "wrong bytes were turned down, others were asked",
        |world| {
            let wrong = world.rejected(Reject::WrongBytes);
            wrong > 0 && world.met(Fault::Byzantine) > 2 && world.took(Rare::GetElsewhere) > 2
        },
    );
    for hour in 4..10 {
        stage.at(hour * HOUR, "the owner fetches everything again", [Step::Fetch(0)]);
    }
    stage.expect_at(DAY, "it asks those two more rarely than the third", |world| {
        world.took(Rare::GetNothing) == 0 && world.met(Fault::Byzantine) < 7 * 12 / 2
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
