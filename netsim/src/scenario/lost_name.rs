//! Found by the simulator: a segment whose name was never synced.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, crash, fail, put};
use crate::disk::Call;
use crate::tally::Fault;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-name",
    title: "a segment whose name was never synced, and a power cut",
    story: "A new node makes the first file of its store, and the directory cannot be synced: the \
            process ends, as it should. The next process finds the file and used it as it stood. \
            It wrote chunks, synced them, and acknowledged them; but the name of the file was \
            still only in the cache, so that a power cut took the whole file, with every chunk \
            that owners had been told was safe. Durable bytes under a name that is not durable \
            are lost bytes. Now a store that is opened syncs the names that an earlier process may \
            have left before it takes anything, and where that fails it takes nothing. Here ten \
            holders start like this, acknowledge chunks and lose their power: all is still there.",
    stage,
};

/// A cut takes each name that is not durable with a chance of a half: with ten, some go.
const HOLDERS: std::ops::RangeInclusive<usize> = 1..=10;

fn stage() -> Stage {
    let mut stage = Stage::new(11, 1);
    stage.plan.use_.replicas = 5;
    // All in one segment: the next one would have the names synced.
    stage.plan.disk.segment_bytes = 1 << 20;
    stage.at(
        Duration::ZERO,
        "ten new holders cannot sync the directory of their stores",
        HOLDERS.map(|node| fail(node, Call::SyncNames, 1)),
    );
    stage.expect_at(2 * HOUR, "hardly one could", |world| world.met(Fault::SyncError) >= 8);
    stage.at(3 * HOUR, "the owner puts 20 chunks, five times each", [put(20)]);
    stage.expect_at(4 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(5 * HOUR, "all holders lose their power", HOLDERS.map(|node| crash(node, MINUTE)));
    stage.expect_at(6 * HOUR, "every holder has what it acknowledged", |world| {
        HOLDERS.into_iter().all(|node| world.held_by(node) == world.acked_by(node))
    });
    stage.expect("the owner fetched everything", |world| world.fetched_by(0) == 20);
    stage
}
