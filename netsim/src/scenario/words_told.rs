//! What an owner's node tells of a backup.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::repo::evidence::Word;
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "words-told",
    title: "no word of a backup is ahead of what is known, and none stays behind",
    story: "Twelve chunks are stored three times. Acknowledged, they are told as stored; as safe \
            only once an audit has proven each of them. Somebody deletes one at a holder: with the \
            audit that misses it the word is taken back at once, and comes back when the chunk was \
            made again and proven. Then a holder is off for three days. For a day that is no \
            reason to worry; but after that it is suspect, its replicas count no more, and all \
            that it holds is at risk, without another look. It comes back, answers for what it \
            owes, and all is safe again.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 8);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(HOUR + 20 * MINUTE, "they are safe", |world| {
        world.tells_all(0, Word::Safe) && world.took(Rare::ToldAtRisk) == 0
    });
    stage.at(2 * HOUR, "somebody deletes a chunk at node 1", [Step::DeleteOne(1)]);
    let audit = Step::Happen(Event::Audit { owner: 0, regular: false });
    stage.at(3 * HOUR, "the owner audits all", [Step::AuditAnew(0), audit]);
    stage.expect_at(4 * HOUR, "they were at risk, and are safe again", |world| {
        world.took(Rare::ToldAtRisk) > 0 && world.tells_all(0, Word::Safe)
    });
    stage.at(3 * DAY, "node 1 is switched off for three days", [crash(1, 3 * DAY)]);
    stage.expect_at(3 * DAY + 12 * HOUR, "which worries nobody yet", |world| {
        world.tells_all(0, Word::Safe)
    });
    stage.expect_at(5 * DAY + 12 * HOUR, "they are at risk", |world| {
        world.stands(0, 1) == Standing::Suspect && world.tells_all(0, Word::AtRisk)
    });
    stage.expect_at(7 * DAY, "they are safe", |world| world.tells_all(0, Word::Safe));
    stage.expect("nothing was lost", |world| {
        world.took(Rare::ToldLost) == 0 && world.fetched_by(0) == 12
    });
    stage
}
