//! A node shows others the proofs that it was shown.

use super::Scenario;
use super::stage::{HOUR, Stage, put};
use crate::tally::Fault;
use crate::world::Step;
use quloud::core::codec::Reject;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "proof-relayer",
    title: "a holder shows others the proofs that it was shown",
    story: "Who fetches a chunk proves that it knows the chunk's key. A holder that is shown such \
            a proof passes it on to other holders at once, to be handed the chunk in the asker's \
            place. A proof is made for one holder, one connection and one request, so that at any \
            other it proves nothing: they turn it down. Here two of six holders relay every proof \
            and every chunk that they are sent, while the owner fetches all it has: it is served, \
            and nobody else is.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(7, 1);
    stage.plan.use_.replicas = 5;
    let relay = [1, 2].map(|node| Step::Deviate(node, "relays proofs"));
    stage.at(HOUR, "nodes 1 and 2 begin to relay what they are shown", relay);
    stage.at(2 * HOUR, "the owner puts 10 chunks, five times each", [put(10)]);
    for hour in 4..8 {
        stage.at(hour * HOUR, "the owner fetches all of them", [Step::Fetch(0)]);
    }
    stage.expect_at(9 * HOUR, "it has all of them", |world| world.fetched_by(0) == 10);
    stage.expect_at(9 * HOUR, "nobody else has any", |world| {
        (1..7).all(|node| world.fetched_by(node) == 0)
    });
    stage.expect("proofs were relayed and turned down", |world| {
        world.met(Fault::Byzantine) > 0 && world.rejected(Reject::BadProof) > 0
    });
    stage
}
