//! The owner's own line is too narrow.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::net::LINE;
use crate::sometimes::Rare;
use crate::world::Step;
use quloud::repo::standing::Standing;

/// Bytes a second that bring a proof in no time, and no large chunk in a minute.
const NARROW: u64 = 500;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "narrow-line",
    title: "an owner whose line is too narrow for chunks blames no holder",
    story: "For four days the line of an owner carries half a kilobyte a second. Questions and \
            proofs get through; chunks do not, so that all holders look as if they proved what \
            they have and withheld it. They do not: what they send is late because of the owner's \
            own line. So a holder that says nothing in time is to blame only where another one \
            hands the same chunk over right after, or anything fast enough, and it says nothing \
            once more. Here no one does, nobody is late for it, and nothing is made again.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 8);
    stage.plan.use_.chunk_bytes = 200_000;
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(DAY, "they are stored", |world| world.all_stored());
    stage.at(DAY, "the line of the owner becomes narrow", [Step::SetLine(0, NARROW)]);
    for hour in (2..90).step_by(8) {
        stage.at(DAY + hour * HOUR, "", [Step::TryAll(0)]);
    }
    stage.at(5 * DAY, "it is as before", [Step::SetLine(0, LINE)]);
    stage.expect_at(5 * DAY, "holders were tried in vain, and nobody is to blame", |world| {
        let is_well = |node| world.withheld(0, node) == 0;
        world.took(Rare::TriedMute) > 5 && (1..=3).all(is_well)
    });
    stage.expect_at(7 * DAY, "all hand over what they have, and nothing was moved", |world| {
        let is_well = |node| world.stands(0, node) == Standing::Proven;
        (1..=3).all(is_well) && world.repair_bytes(0) == 0
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
