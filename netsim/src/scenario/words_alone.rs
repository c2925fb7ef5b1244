//! An owner who has nothing left but the words.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, SECOND, Stage, crash};
use crate::chance::Chance;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "words-alone",
    title: "a device is lost, and its snapshots come back from the words",
    story: "An owner backs a folder up five times, edits, renames and deletes in between, \
            forgets some snapshots, and pulls the plug in the middle of one backup, which it \
            begins anew. Each time the chunks have their quorum before an entry names them, and \
            the entry has its own before the head does. Meanwhile a holder loses its disk, \
            another leaves for ever, and a third is away while the head is replaced, so that it \
            comes back with an old one. Then the device is gone. Somebody joins who has the \
            words and nothing else: from them follow the keys of all heads, everyone is asked \
            for these, the highest number counts, and what it names leads to every snapshot that \
            was not forgotten. Each comes back byte for byte, with its names, its dates and its \
            modes.",
    stage,
};

fn backup() -> Step {
    Step::Happen(Event::Backup { owner: 0 })
}

fn stage() -> Stage {
    let mut stage = Stage::new(8, 12);
    stage.plan.trials = false;
    stage.plan.backups.forgotten = Chance::per_mille(400);
    stage.plan.backups.thin = Chance::per_mille(300);
    stage.at(HOUR, "the owner backs a folder up", [backup()]);
    stage.expect_at(2 * HOUR, "the snapshot is published", |world| world.listed(0) == 1);
    stage.at(DAY, "it backs it up again", [backup()]);
    stage.at(2 * DAY, "and again", [backup()]);
    stage.at(3 * DAY, "node 5 is away for two days", [crash(5, 2 * DAY)]);
    stage.at(3 * DAY + HOUR, "a fourth backup begins", [backup()]);
    stage.at(3 * DAY + HOUR + SECOND / 4, "the owner's plug is pulled", [crash(0, MINUTE)]);
    stage.expect_at(3 * DAY + HOUR + MINUTE, "nothing half done is listed", |world| {
        world.listed(0) == 3
    });
    stage.expect_at(4 * DAY, "the backup was begun anew", |world| world.listed(0) == 4);
    let forget = Step::Happen(Event::Forget { owner: 0 });
    stage.at(4 * DAY + HOUR, "the owner forgets some snapshots", [forget]);
    stage.at(6 * DAY, "a fifth backup", [backup()]);
    stage.at(7 * DAY, "node 6 loses its disk", [Step::Happen(Event::LoseDisk { node: 6 })]);
    stage.at(8 * DAY, "node 7 leaves for ever", [Step::Happen(Event::Leave { node: 7 })]);
    stage.at(9 * DAY, "the owner looks at its head", [Step::Happen(Event::LookBack { owner: 0 })]);
    stage.expect("all that was not forgotten came back, and something was forgotten", |world| {
        let listed = world.listed(0) as u64;
        world.came_back() == listed && (1..5).contains(&listed)
    });
    stage
}
