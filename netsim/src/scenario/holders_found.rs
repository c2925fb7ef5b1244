//! An owner finds its holders though it knows none of them.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::chance::Chance;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "holders-found",
    title: "an owner finds its holders though it knows none of them",
    story: "A machine is lost, and its owner has the words. Heads and checkpoints name holders, \
            but not the one that was given chunks after them. So the owner asks on the topics who \
            has chunks that are short, under proofs that nobody else can make, and every holder \
            says what it has: here of 40 chunks with three holders each all 120 replicas are \
            named. Then the user gives all of them up. The holders keep them for their delay and \
            hand them to whoever fetches, but no longer say that they hold them: whoever took that \
            for a replica would lose it a few days later.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(6, 3);
    let use_ = &mut stage.plan.use_;
    (use_.delay, use_.again, use_.released) = (20 * DAY, Chance::NEVER, Chance::ALWAYS);
    stage.at(HOUR, "the owner puts 40 chunks, three times each", [put(40)]);
    stage.at(5 * HOUR, "and looks for who has them", [Step::Locate(0)]);
    stage.expect_at(6 * HOUR, "every replica is named", |world| world.located(0) == 120);
    stage.at(
        7 * HOUR,
        "the user gives all of them up",
        [Step::Happen(Event::Release { owner: 0 })],
    );
    stage.at(10 * HOUR, "and looks for holders once more", [Step::Locate(0)]);
    stage.expect_at(11 * HOUR, "nobody holds them any more", |world| world.located(0) == 0);
    stage.expect("no word of theirs made a replica", |world| world.repair_bytes(0) == 0);
    stage
}
