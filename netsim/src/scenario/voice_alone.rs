//! Somebody speaks with a holder's voice.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::{Event, Step};
use quloud::core::codec::Reject;
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "voice-alone",
    title: "who has a holder's voice and not its account keys makes nothing lost",
    story: "Twelve chunks are stored three times and proven. Then somebody who copied the keys of \
            one holder's connections stands on its line, and makes each of its answers to audits \
            say that nothing is held. The holder has everything. Were it believed, the owner would \
            take all its replicas for lost and copy them elsewhere, as often as somebody likes. \
            But an answer about an account has a MAC under a key of the owner and the holder \
            alone, and what does not have it is no answer: the holder counts as silent, which has \
            a grace, and none of its replicas is given up.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 5);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(HOUR + 5 * MINUTE, "each replica was proven", |world| {
        world.counted(0) == (36, 36)
    });
    let meddle = Step::Deviate(1, "changes answers to audits on their way");
    stage.at(2 * HOUR, "somebody stands on the line of node 1", [meddle]);
    let audit = || [Step::AuditAnew(0), Step::Happen(Event::Audit { owner: 0, regular: false })];
    for day in 1..4 {
        stage.at(day * DAY, "the owner audits all", audit());
    }
    stage.expect_at(4 * DAY, "answers were changed, and turned down", |world| {
        world.met(Fault::Byzantine) > 0 && world.rejected(Reject::BadProof) > 0
    });
    stage.expect_at(4 * DAY, "nothing is lost, and nothing was moved", |world| {
        world.took(Rare::FoundMissing) == 0
            && world.counted(0) == (36, 36)
            && world.repair_bytes(0) == 0
            && world.stands(0, 1) != Standing::Damaged
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
