//! The whole mesh loses its power in the middle of its group commits.

use super::Scenario;
use super::stage::{HOUR, MINUTE, SECOND, Stage, crash_in_commit, put};
use crate::tally::Fault;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "black-out",
    title: "the whole mesh loses its power in the middle of its group commits",
    story: "The power goes in the whole town while every node is writing: some records are on the \
            platter, some are torn in the middle of a sector, some were never begun, and the \
            catalogue may know more than the log or less. An ack is sent only when its record, \
            its file's length and its file's name are durable, so that whatever was acknowledged \
            before is there after the restart, and whatever was not is put again. Here every node \
            goes down in the middle of a group, two times in a row, and comes back: what was \
            acknowledged is held, and the put ends stored.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 1);
    stage.plan.use_.replicas = 4;
    for (hour, chunks) in [(2, 20), (4, 20)] {
        let all = (1..8).map(crash_in_commit);
        stage.at(hour * HOUR - SECOND, "the power is about to go, everywhere", all);
        stage.at(hour * HOUR, "the owner puts 20 chunks, four times each", [put(chunks)]);
        stage.expect_at(
            hour * HOUR + 90 * MINUTE,
            "every holder has what it acknowledged",
            |world| (1..8).all(|node| world.held_by(node) >= world.acked_by(node)),
        );
    }
    stage.expect("it hit group commits", |world| world.met(Fault::CrashInCommit) > 7);
    stage.expect("everything is stored", |world| world.all_stored());
    stage
}
