//! Found by the simulator: an owner who began anew too often was taken for a crowd.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::chance::Chance;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "many-beginnings",
    title: "an owner begins anew twelve times in a day",
    story: "A holder lets each peer bring eight new accounts a day, so that nobody can use up all \
            accounts that it has room for. But it only counted them, and whoever had nothing there \
            was new each time: after its first chunk had been turned away eight times by a busy \
            disk, or had been deleted eight times, an honest owner with one account was told that \
            the holder is full, for the rest of the day. Now the holder knows which accounts they \
            were. Here an owner puts one chunk every hour and gives it up before the next, and all \
            twelve are stored three times.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 2);
    let use_ = &mut stage.plan.use_;
    (use_.released, use_.again) = (Chance::per_mille(1_000), Chance::NEVER);
    use_.delay = Duration::from_secs(600);
    stage.at(Duration::ZERO, "every hour the owner puts a chunk, and gives it up later", []);
    for hour in 1..=12 {
        stage.at(hour * HOUR, "", [put(1)]);
        stage.expect_at(hour * HOUR + 10 * MINUTE, "it is stored three times", |world| {
            world.stored_chunks() == 1 && world.fewest_copies() == 3
        });
        let release = Step::Happen(Event::Release { owner: 0 });
        stage.at(hour * HOUR + 11 * MINUTE, "", [release]);
    }
    stage.expect_at(DAY, "each was stored three times, and deleted", |world| {
        world.took(Rare::Deleted) == 36
    });
    stage.expect("nothing is left of them", |world| world.stored_chunks() == 0);
    stage
}
