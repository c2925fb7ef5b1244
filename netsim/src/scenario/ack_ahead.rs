//! Holders that acknowledge chunks that have not reached them yet.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, put};
use crate::tally::Fault;
use crate::world::Step;
use quloud::core::codec::Reject;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ack-ahead",
    title: "holders acknowledge chunks that have not reached them yet",
    story: "A holder is granted several chunks. When the first one arrives it knows under which \
            names the others come, and acknowledges those at once, signed in good order: if they \
            never arrive, it has signed for nothing. A signature proves who said it, and not that \
            the bytes came. So with every chunk goes a fresh seed, and an ack must bring a hash \
            under the key of the two over that seed and the sealed bytes: nobody can have it \
            before the last byte. An ack without it is a lie, it counts nothing, and the chunk \
            goes to somebody else. Here three of seven holders do that at every put: no such ack \
            is counted, and every chunk is stored where it is.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 1);
    let ahead = [1, 2, 3].map(|node| Step::Deviate(node, "acknowledges what it never got"));
    stage.at(Duration::ZERO, "nodes 1 to 3 acknowledge what is on its way", ahead);
    for hour in 1..5 {
        stage.at(hour * HOUR, "the owner puts 6 chunks, three times each", [put(6)]);
    }
    stage.expect_at(5 * HOUR, "they are stored", |world| world.all_stored());
    stage.expect_at(5 * HOUR + MINUTE, "acks came ahead of their chunks, and were lies", |world| {
        world.met(Fault::Byzantine) > 12 && world.rejected(Reject::BadProof) > 12
    });
    stage.at(6 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.expect_at(7 * HOUR, "it has everything", |world| world.fetched_by(0) == 24);
    stage.expect("what honest holders have came back", |world| world.fetched_by(0) > 0);
    stage
}
