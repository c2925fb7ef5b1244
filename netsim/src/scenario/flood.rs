//! A flood of requests while somebody restores.

use super::Scenario;
use super::stage::{HOUR, MINUTE, SECOND, Stage, put};
use crate::tally::Fault;
use crate::world::{Event, Step};
use quloud::core::codec::Reject;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flood",
    title: "two nodes flood the mesh while somebody restores",
    story: "Two nodes ask everybody for room and for chunks without end, with proofs that prove \
            nothing, at the very time when an owner has to have its chunks back. Every peer has \
            its own allowance of work at each holder, and what is over it is dropped before \
            anything costly is done; a wrong proof is found before the disk is touched. So the \
            flood uses the flooders' allowance up and nobody else's. Here the owner and a \
            newcomer fetch everything in the middle of it.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(10, 1);
    // Flooders go on until the end, and each of their proofs costs a real one.
    stage.plan.span = 4 * HOUR;
    stage.at(
        MINUTE * 30,
        "nodes 8 and 9 turn flooders",
        [8, 9].map(|node| Step::Deviate(node, "floods with requests")),
    );
    stage.at(HOUR, "the owner puts 20 chunks, three times each", [put(20)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    for second in 0..100 {
        let acts = [8, 9].map(|node| Step::Happen(Event::Act { node }));
        stage.at(3 * HOUR + second * SECOND, "", acts);
    }
    stage.at(3 * HOUR, "the flood begins, and the owner fetches everything", [Step::Fetch(0)]);
    stage.at(3 * HOUR + MINUTE, "and so does node 1, with a capability", [Step::Fetch(1)]);
    stage.expect_at(3 * HOUR + 10 * MINUTE, "both have everything within minutes", |world| {
        world.fetched_by(0) == 20 && world.fetched_by(1) == 20
    });
    stage.expect("it was a flood, and most of it was turned down", |world| {
        world.met(Fault::Byzantine) > 1_000 && world.rejected(Reject::RateLimited) > 100
    });
    stage
}
