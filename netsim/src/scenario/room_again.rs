//! Found by the simulator: a holder that was full never noticed that it had room again.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "room-again",
    title: "a full holder has room again, and nobody tells it",
    story: "A film fills a holder's disk, and a day later somebody deletes it. The holder told its \
            role how full it is after every group that it wrote, and when it was opened, and never \
            else. While it was full it volunteered for nothing, so that no group came; and without \
            a group it never learned of the room that had been made, and a put that needed it \
            stayed short for ever. Now a store that has nothing to do looks once a minute. Here \
            one of three holders is full when the chunks are put, and the put is finished after \
            the film was deleted.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 3);
    stage.at(30 * MINUTE, "a film fills the disk of node 3", [Step::LeaveOnly(3, 1_000)]);
    stage.at(HOUR, "the owner puts 5 chunks that all three others shall hold", [put(5)]);
    stage.expect_at(DAY, "they are short of node 3", |world| {
        world.stored_chunks() == 0 && world.held_by(1) == 5 && world.held_by(3) == 0
    });
    let room = Step::Happen(Event::Room { node: 3 });
    stage.at(DAY, "the film is deleted", [room]);
    stage.expect_at(DAY + 2 * HOUR, "node 3 has them, and they are stored", |world| {
        world.all_stored() && world.held_by(3) == 5
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 5);
    stage
}
