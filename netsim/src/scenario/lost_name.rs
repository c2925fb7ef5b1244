//! Found by the simulator: a segment whose name was never synced.

use super::Scenario;
use super::stage::{HOUR, MINUTE, SECOND, Stage, crash, fail, put};
use crate::disk::Call;
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-name",
    title: "a segment whose name was never synced, and a power cut",
    story: "A node begins another file of its store, and the directory cannot be synced: the store \
            takes nothing more, as it should, and the process is started anew. The next process \
            finds the file and used it as it stood. It wrote chunks, synced them, and acknowledged \
            them; but the name of the file was still only in the cache, so that a power cut took \
            the whole file, with every chunk that owners had been told was safe. Durable bytes \
            under a name that is not durable are lost bytes. Now a store that is opened syncs the \
            names that an earlier process may have left before it takes anything, and where that \
            fails it takes nothing. Here ten holders go through this, acknowledge chunks and lose \
            their power: all is still there.",
    stage,
};

/// A cut takes each name that is not durable with a chance of a half: with ten, some go.
const HOLDERS: std::ops::RangeInclusive<usize> = 1..=10;

fn stage() -> Stage {
    let mut stage = Stage::new(11, 1);
    stage.plan.use_.replicas = 5;
    // The first put fills a part of the first segment, and the second one comes to the next, which
    // it does not fill: the one after that would have the names synced.
    stage.plan.disk.segment_bytes = 192 << 10;
    stage.at(HOUR, "the owner puts 20 chunks, five times each", [put(20)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    let fails = HOLDERS.map(|node| fail(node, Call::SyncNames, 1));
    stage.at(3 * HOUR, "the holders cannot sync the next names", fails);
    stage.at(3 * HOUR, "the owner puts 50 chunks", [put(50)]);
    let soon = 3 * HOUR + 30 * SECOND;
    stage.expect_at(soon, "most of them came to that", |world| world.met(Fault::SyncError) >= 6);
    stage.at(soon, "all processes are started anew", HOLDERS.map(Step::Restart));
    stage.expect_at(8 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(8 * HOUR, "all holders lose their power", HOLDERS.map(|node| crash(node, MINUTE)));
    stage.expect_at(9 * HOUR, "every holder has what it acknowledged", |world| {
        world.keep_word(HOLDERS)
    });
    stage.expect("the owner fetched everything", |world| world.fetched_by(0) == 70);
    stage
}
