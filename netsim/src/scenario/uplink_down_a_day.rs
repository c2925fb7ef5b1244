//! The owner's own line is down.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::net::Cut;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::repo::standing::Standing;
use std::collections::BTreeSet;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "uplink-down-a-day",
    title: "an owner whose line is down for 25 hours blames nobody and copies nothing",
    story: "From an owner whose own line is down it looks as if all holders had died at once. It \
            asks them every hour for more than a day, and nobody answers. But where nobody answers \
            it is most likely the owner that is off line: the silence of a holder counts only \
            while others answered within the hour. So nobody is suspect when the line is back, and \
            no replica is made again, although a day of silence of several holders would otherwise \
            be reason enough.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    let cut = Cut::between(BTreeSet::from([0]), (1..4).collect());
    let down = Step::Happen(Event::CutBegins { cut, length: 25 * HOUR });
    stage.at(2 * DAY, "the line of the owner is down", [down]);
    for hour in 2..25 {
        let audit = Step::Happen(Event::Audit { owner: 0, regular: false });
        stage.at(2 * DAY + hour * HOUR, "", [Step::AuditAnew(0), audit]);
    }
    stage.expect_at(3 * DAY + 50 * MINUTE, "nobody is suspect", |world| {
        let blamed = |node| matches!(world.stands(0, node), Standing::Suspect | Standing::Lost);
        world.took(Rare::SilenceExcused) > 20 && !(1..4).any(blamed)
    });
    stage.expect_at(5 * DAY, "all answer again, and nothing was moved", |world| {
        (1..4).all(|node| world.stands(0, node) == Standing::Proven) && world.repair_bytes(0) == 0
    });
    stage.expect("nothing was made again", |world| world.took(Rare::Repaired) == 0);
    stage
}
