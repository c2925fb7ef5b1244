//! A replica that was given anew after it was asked for.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::core::owner::OwnerEvent;
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "given-anew",
    title: "a holder that lost a chunk and got it again withholds nothing",
    story: "A holder has lost a chunk. Its owner tries it; it says that it does not have it, and \
            before it is asked for a proof its power goes. When it is back, an audit finds the \
            chunk gone, and it is stored there anew. The next audit proves that replica, as it \
            is there; but that says nothing of the one that was asked for. Whoever took the \
            proof for one would say of an honest holder that it proves what it does not hand \
            over. So of each replica that a holder was asked for it is remembered that it is the \
            same.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 4);
    stage.plan.trials = false;
    stage.at(HOUR, "the owner puts a chunk, three times", [put(1)]);
    let audit = || [Step::AuditAnew(0), Step::Happen(Event::Audit { owner: 0, regular: false })];
    stage.at(DAY - MINUTE, "node 1 loses it", [Step::DeleteOne(1)]);
    stage.at(DAY, "its owner tries its holders", [Step::TryAll(0)]);
    stage.when("it says so, and is switched off for ten minutes", |fact| match fact {
        Fact::Reported { node: 0, event: OwnerEvent::NotFetched { .. } } => {
            Some(crash(1, 10 * MINUTE))
        }
        _ => None,
    });
    stage.expect_at(DAY + 9 * MINUTE, "it refused, and the others handed it over", |world| {
        world.took(Rare::TriedRefused) == 1 && world.took(Rare::TriedWell) > 0
    });
    stage.at(DAY + 12 * MINUTE, "it is back, and an audit finds the chunk gone", audit());
    stage.at(DAY + 30 * MINUTE, "it was given the chunk anew, and proves it", audit());
    stage.expect_at(DAY + 40 * MINUTE, "it has it again", |world| {
        world.took(Rare::FoundMissing) == 1 && world.counted(0) == (3, 3)
    });
    stage.at(DAY + 45 * MINUTE, "its owner tries its holders once more", [Step::TryAll(0)]);
    stage.expect_at(2 * DAY, "nobody withholds anything", |world| {
        (1..=3).all(|node| world.withheld(0, node) == 0)
            && (1..=3).all(|node| world.stands(0, node) == Standing::Proven)
    });
    stage.expect("the chunk came back", |world| world.fetched_by(0) == 1);
    stage
}
