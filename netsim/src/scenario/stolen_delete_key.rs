//! A thief has all that is on an owner's device, and the delete key is among it.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::sometimes::Rare;
use crate::world::Step;
use quloud::repo::standing::Loss;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stolen-delete-key",
    title: "a thief of a device with the delete key lets everything go",
    story: "A device is stolen that has the delete key, as devices do unless they were told to \
            live without it. With that the thief makes every holder let every chunk go, and the \
            holders are right to do so. But they keep what was let go for the release delay that \
            they promised, of their own time, whoever asks: a week, unless more was asked for. The \
            owner's node audits its replicas, is told that they are let go, and tells its user \
            that data is at risk. The user takes it back, for which the admin key is enough. Here \
            the holders are even started anew before the delay is over and after it, and nothing \
            is destroyed.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 4);
    (stage.plan.use_.delay, stage.plan.audits) = (DAY, true);
    // They would find it within hours, and all would be stored anew before the user comes.
    stage.plan.trials = false;
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    let thief = Step::Deviate(4, "lets go with a stolen delete key");
    stage.at(2 * HOUR, "node 4 has copied all that is on the owner's device", [thief]);
    stage.expect_at(DAY, "an audit found that it is let go, and the user was told", |world| {
        world.lost_by(0, Loss::Released) > 0 && world.took(Rare::ToldAtRisk) > 0
    });
    stage.expect_at(DAY, "nothing was destroyed so far", |world| {
        world.took(Rare::Deleted) == 0 && world.keep_word(1..=3)
    });
    stage.at(DAY + MINUTE, "the user takes it back", [Step::TakeBack(0)]);
    stage.expect_at(DAY + HOUR, "holders said that they keep it", |world| {
        world.took(Rare::TakenBack) >= 12
    });
    for hour in [25, 60] {
        let at = hour * HOUR + 10 * MINUTE;
        stage.at(at, "the holders are started anew", [1, 2, 3].map(Step::Restart));
    }
    stage.expect("nothing was destroyed, and everything came back", |world| {
        world.took(Rare::Deleted) == 0 && world.fetched_by(0) == 12 && world.keep_word(1..=3)
    });
    stage
}
