//! A holder's disk is set back to an image of last week.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::sometimes::Rare;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "old-image",
    title: "a holder's disk is set back to an image of last week",
    story: "Somebody restores a holder from last week's image, in good faith. Its store is whole \
            and consistent, only older: what it held then it holds, and what it acknowledged since \
            it does not have. It cannot know that, and it is not a cheat: asked for such a chunk \
            it says that it does not hold it, and the reader goes on to the next holder without \
            blame. When the chunk is put anew it takes it like any other. Here one of three \
            holders goes back a week: everything is fetched from the other two, the older chunks \
            from all of them.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 12);
    // An audit would tell before.
    stage.plan.audits = false;
    stage.at(HOUR, "the owner puts 6 chunks, three times each", [put(6)]);
    stage.at(
        DAY,
        "somebody takes an image of node 1",
        [Step::Happen(Event::TakeImage { node: 1 })],
    );
    stage.at(2 * DAY, "the owner puts 6 more", [put(6)]);
    stage.expect_at(3 * DAY, "all of them are stored, at every node", |world| {
        world.all_stored() && (1..4).all(|node| world.held_by(node) == 12)
    });
    stage.at(8 * DAY, "node 1 gets its old image", [Step::Happen(Event::OldImage { node: 1 })]);
    stage.expect_at(9 * DAY, "it has what it had then, and no more", |world| world.held_by(1) == 6);
    let restart = [2, 3].map(|node| crash(node, 10 * MINUTE));
    stage.at(10 * DAY - MINUTE, "the other two restart: for a while there is no other", restart);
    stage.at(10 * DAY, "the owner fetches everything", [Step::Fetch(0)]);
    stage.at(10 * DAY + HOUR, "and so does node 3, with a capability", [Step::Fetch(3)]);
    stage.expect_at(11 * DAY, "both have everything", |world| {
        world.fetched_by(0) == 12 && world.fetched_by(3) == 12
    });
    stage.expect("node 1 said what it does not hold", |world| world.took(Rare::NotHeld) > 0);
    stage
}
