//! Half of the mesh is cut off for a week.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::net::Cut;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "week-apart",
    title: "half of the mesh does not hear the other half for a week",
    story: "For a week the mesh is two halves that do not hear each other. What the owner stored \
            before has copies on both sides, and is fetched from its own. What it puts now finds \
            three holders where five are wanted: they take it, and the status stays short for the \
            whole week, since no number of acks from the same three makes five. When the halves \
            find each other again, the owner asks for what is missing by itself, and its put is \
            finished without anybody's help.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 12);
    stage.plan.use_.replicas = 5;
    stage.at(HOUR, "the owner puts 5 chunks, five times each", [put(5)]);
    stage.expect_at(DAY - HOUR, "they are stored", |world| world.all_stored());
    let cut = Cut::between((0..4).collect(), (4..8).collect());
    let apart = Event::CutBegins { cut, length: 7 * DAY };
    stage.at(DAY, "nodes 0 to 3 and 4 to 7 are cut off from each other", [Step::Happen(apart)]);
    stage.at(2 * DAY, "the owner puts 6 more", [put(6)]);
    stage.at(4 * DAY, "it fetches what was stored before", [Step::Fetch(0)]);
    stage.expect_at(5 * DAY, "it has it", |world| world.fetched_by(0) == 5);
    stage.expect_at(8 * DAY - HOUR, "the second put is still short", |world| {
        world.stored_chunks() == 5 && (1..4).all(|node| world.held_by(node) >= 6)
    });
    stage.expect_at(9 * DAY, "the halves met, and everything is stored", |world| {
        world.all_stored() && world.put_chunks() == 11
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 11);
    stage
}
