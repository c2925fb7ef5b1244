//! The owner's clock jumps.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::world::{Event, Step};
use quloud::repo::standing::Standing;

/// Seconds of ten years.
const TEN_YEARS_S: i64 = 3_652 * 86_400;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock-jump-audits",
    title: "an owner's clock that jumps by ten years makes nobody lost",
    story: "A holder is off for six hours. It is asked in vain, then the clock of its owner jumps \
            ahead by ten years, and it is asked in vain once more. By the clock it has been silent \
            for ten years. But a clock alone makes nobody worse than late: what counts is how \
            often, and on how many days, somebody was asked in vain, and a jump adds one miss. \
            Then the clock is put back, which adds none. Nothing was made again, nobody was \
            convicted, and what was proven stays so.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.at(2 * DAY, "node 1 is switched off for six hours", [crash(1, 6 * HOUR)]);
    let audit = || [Step::AuditAnew(0), Step::Happen(Event::Audit { owner: 0, regular: false })];
    stage.at(2 * DAY + HOUR, "it is asked in vain", audit());
    let ahead = Step::SetClock(0, TEN_YEARS_S);
    stage.at(2 * DAY + 2 * HOUR, "the owner's clock jumps ahead by ten years", [ahead]);
    stage.at(2 * DAY + 2 * HOUR + MINUTE, "it is asked in vain once more", audit());
    stage.expect_at(2 * DAY + 3 * HOUR, "it is late, and no worse", |world| {
        world.stands(0, 1) == Standing::Late && world.repair_bytes(0) == 0
    });
    let back = Step::SetClock(0, 0);
    stage.at(2 * DAY + 4 * HOUR, "the clock is put back", [back]);
    stage.expect_at(5 * DAY, "it answers again, and nothing was moved", |world| {
        (1..4).all(|node| world.stands(0, node) == Standing::Proven) && world.repair_bytes(0) == 0
    });
    stage.expect("all is there, three times", |world| world.counted(0) == (36, 36));
    stage
}
