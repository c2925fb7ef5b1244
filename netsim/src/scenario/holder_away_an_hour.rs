//! A holder is switched off for an hour.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "holder-away-an-hour",
    title: "a holder that is off for an hour is missed, and costs no byte",
    story: "One of four holders is switched off for an hour, and asked for a proof just then. That \
            it does not answer is noted, and it stands as late: other holders answered, so that it \
            is not the owner's own line. But a chunk with one holder missing has a grace of a \
            week, since copying everything whenever somebody restarts a machine would cost more \
            than it saves. With the next audit it answers, and stands where it stood. Not one byte \
            was moved.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.at(2 * DAY, "node 1 is switched off for an hour", [crash(1, HOUR)]);
    let audit = || Step::Happen(Event::Audit { owner: 0, regular: false });
    stage.at(2 * DAY + 10 * MINUTE, "its owner audits", [Step::AuditAnew(0), audit()]);
    stage.expect_at(2 * DAY + 30 * MINUTE, "it was missed, and is late", |world| {
        world.took(Rare::AuditMissed) == 1 && world.stands(0, 1) == Standing::Late
    });
    stage.expect_at(5 * DAY, "it is back, and nothing was moved", |world| {
        world.stands(0, 1) == Standing::Proven && world.repair_bytes(0) == 0
    });
    stage.expect("all is there, three times", |world| {
        world.counted(0) == (36, 36) && world.took(Rare::Repaired) == 0
    });
    stage
}
