//! A sync fails, and the next one would succeed.

use super::Scenario;
use super::stage::{HOUR, MINUTE, SECOND, Stage, crash, fail, put};
use crate::disk::Call;
use crate::sometimes::Rare;
use crate::tally::Fault;
use std::ops::RangeInclusive;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "failed-sync",
    title: "a sync fails once, and the power goes an hour later",
    story: "A disk fails for a moment, while a group is being made durable. The system says so \
            once and drops the pages that it could not write: the cache still shows them, the next \
            sync succeeds, and the bytes never reach the medium. A program that tries again \
            believes it; databases lost data like that for years. So a failed sync is never tried \
            again: nothing of that group is acknowledged, and the store takes no more until a \
            restart has read what is really there. Here the first sync of eight holders fails as \
            chunks arrive, and the power goes an hour later: whatever was acknowledged is there.",
    stage,
};

const HOLDERS: RangeInclusive<usize> = 1..=8;

fn stage() -> Stage {
    let mut stage = Stage::new(9, 4);
    stage.plan.use_.replicas = 4;
    stage.at(
        HOUR - SECOND,
        "the next sync of every holder is going to fail",
        HOLDERS.map(|node| fail(node, Call::SyncData, 1)),
    );
    stage.at(HOUR, "the owner puts 16 chunks, four times each", [put(16)]);
    stage.expect_at(HOUR + MINUTE - SECOND, "all eight failed, and nothing is promised", |world| {
        let acked = world.acked_by_any(HOLDERS) + world.stored_chunks();
        world.met(Fault::SyncError) == 8 && world.took(Rare::ReadOnlySync) == 8 && acked == 0
    });
    stage.at(2 * HOUR, "all holders lose their power", HOLDERS.map(|node| crash(node, MINUTE)));
    stage.expect_at(3 * HOUR, "every holder has what it acknowledged", |world| {
        world.acked_by_any(HOLDERS) > 0 && world.keep_word(HOLDERS)
    });
    stage.expect("everything is stored in the end", |world| world.all_stored());
    stage
}
