//! A holder that passes every audit and gives nothing back.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::world::Step;
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostage-found",
    title: "a holder that proves all and gives nothing back is found, and replaced",
    story: "One of five holders stores honestly, proves every chunk in every audit, and gives none \
            back: it would do so on the day when everything is to be restored, and nobody would \
            have known. So each holder is asked for a chunk now and then, as a restore asks for \
            it, and who does not hand over what it proves withholds it, whatever it says. Proofs \
            do not make up for that. Here the hostage is late within a day or two, suspect on the \
            next, and lost after two weeks; a week after the first miss what it has is made again \
            at others. No honest holder is said to withhold anything.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(6, 20);
    stage.at(HOUR, "the owner puts 24 chunks, one a minute, three times each", []);
    for minute in 0..24 {
        stage.at(HOUR + minute * MINUTE, "", [put(1)]);
    }
    let hostage = Step::Deviate(1, "keeps chunks hostage");
    stage.at(DAY, "node 1 gives nothing back any more", [hostage]);
    stage.expect_at(3 * DAY, "that is known, whatever it proves", |world| {
        world.withheld(0, 1) > 0 && world.stands(0, 1) != Standing::Proven
    });
    stage.expect_at(5 * DAY, "it is suspect", |world| world.stands(0, 1) == Standing::Suspect);
    stage.expect_at(5 * DAY, "and nothing is made again yet", |world| world.repair_bytes(0) == 0);
    stage.expect_at(11 * DAY, "what it has is there three times without it", |world| {
        world.fewest_honest_acks() >= 3 && world.repair_bytes(0) > 0
    });
    stage.expect_at(18 * DAY, "it is lost, and nobody else is blamed", |world| {
        let is_well =
            |node| world.withheld(0, node) == 0 && world.stands(0, node) == Standing::Proven;
        world.stands(0, 1) == Standing::Lost && (2..=5).all(is_well)
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 24);
    stage
}
