//! A disk is lost and another one decays in the same night.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::sometimes::Rare;
use crate::world::{Decay, Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad-night",
    title: "one disk is lost and one decays: the third copy is the one that counts",
    story: "In the same night one holder loses its disk and on another bits flip all over the \
            segments. The first says that it does not hold what it is asked for. The second does \
            not know yet: it reads a chunk, finds that the bytes do not hash to the id, says that \
            its copy is damaged, and never hands them out. A reader believes neither a holder nor \
            a disk, but the id alone, and goes on until the bytes are right. Here everything is \
            fetched, from the third.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 3);
    // An audit would tell before.
    stage.plan.audits = false;
    stage.at(HOUR, "the owner puts 12 chunks that all three others hold", [put(12)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(DAY, "node 1 loses its disk", [Step::Happen(Event::LoseDisk { node: 1 })]);
    let rot = (0..400).map(|_| Step::Happen(Event::Decay { node: 2, how: Decay::Flip }));
    stage.at(DAY + HOUR, "four hundred bits flip on the disk of node 2", rot);
    stage.at(2 * DAY, "the owner fetches everything", [Step::Fetch(0)]);
    stage.expect_at(2 * DAY + HOUR, "it has everything", |world| world.fetched_by(0) == 12);
    stage.expect("both said what was wrong", |world| {
        world.took(Rare::NotHeld) > 0 && world.took(Rare::ServeDamaged) > 0
    });
    stage
}
