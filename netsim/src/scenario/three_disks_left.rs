//! Every disk but three is full.

use super::Scenario;
use super::stage::{HOUR, SECOND, Stage, put};
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "three-disks-left",
    title: "every disk but three is full",
    story: "Photographs fill every disk of the mesh but three. A holder does not know yet that it \
            is full when it volunteers: the owner sends it a chunk, the write fails in the middle, \
            and it says so. What was half-written must not stay as a record, nothing else on the \
            disk may suffer, and the owner must go on to the next volunteer until it has found the \
            three that have room. Here it finds exactly those.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(9, 1);
    stage.at(
        HOUR - SECOND,
        "the disks of nodes 1 to 5 are full to the last kilobyte",
        (1..=5).map(|node| Step::LeaveOnly(node, 1_000)),
    );
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(3 * HOUR, "nodes 6, 7 and 8 have them all, and nobody else any", |world| {
        let held: Vec<usize> = (1..9).map(|node| world.held_by(node)).collect();
        world.all_stored() && held == [0, 0, 0, 0, 0, 12, 12, 12]
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
