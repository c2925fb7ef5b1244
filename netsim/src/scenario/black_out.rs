//! The whole mesh loses its power in the middle of its group commits.

use super::Scenario;
use super::stage::{HOUR, MINUTE, SECOND, Stage, crash_in_commit, put};
use crate::sometimes::Rare;
use crate::tally::Fault;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "black-out",
    title: "the whole mesh loses its power in the middle of its group commits",
    story: "The power goes in the whole town while every node is writing: some records are on the \
            platter, some are torn in the middle of a sector, some were never begun, and the \
            catalogue may know more than the log or less. An ack is sent only when its record, \
            its file's length and its file's name are durable, so that whatever was acknowledged \
            before is there after the restart, and whatever was not is put again. Here every node \
            goes down in the middle of a group, two times in a row, and comes back: each has what \
            it acknowledged, chunk by chunk, and the put ends stored.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 1);
    stage.plan.use_.replicas = 7;
    // Many files, each with a name that has to be durable: only the first comes with a ledger.
    stage.plan.disk.segment_bytes = 32 << 10;
    for hour in [2, 4] {
        let all = (1..8).map(crash_in_commit);
        stage.at(hour * HOUR - SECOND, "the power is about to go, everywhere", all);
        stage.at(hour * HOUR, "the owner puts 20 chunks that all others shall hold", [put(20)]);
    }
    stage.at(3 * HOUR + 40 * MINUTE, "in between it puts 20 more", [put(20)]);
    stage.expect_at(2 * HOUR + 90 * MINUTE, "all seven went down in a group", |world| {
        world.met(Fault::CrashInCommit) == 7
    });
    stage.expect_at(4 * HOUR + 90 * MINUTE, "and all seven again", |world| {
        world.met(Fault::CrashInCommit) == 14
    });
    for hour in [2, 4] {
        let then = hour * HOUR + 90 * MINUTE;
        stage.expect_at(then, "each has what it acknowledged", |world| world.keep_word(1..=7));
    }
    stage.expect("unsynced writes were lost, and torn", |world| {
        let torn = world.met(Fault::TornWrite) + world.took(Rare::TornTail);
        world.met(Fault::UnsyncedLost) > 0 && torn > 0
    });
    stage.expect("everything is stored, everywhere", |world| {
        world.all_stored() && (1..8).all(|node| world.held_by(node) == 60)
    });
    stage
}
