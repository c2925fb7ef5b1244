//! Holders that never answer an audit.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::world::Step;
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stalled-audit",
    title: "no way of not answering is an excuse: silent, busy, or working for ever",
    story: "Three of seven holders store and serve honestly and answer no audit: one says nothing, \
            one is always busy, and one says every 25 seconds that it works on it. Each of these \
            may be true of an honest node for a while, so none of them is a lie, and none gains \
            anything: a question that is worked on ends after five minutes and half a second for \
            each chunk, a question that is not answered is a miss, and misses on several days make \
            a holder suspect. Each owes an answer for the first chunk that it was asked for, and \
            is asked for that and nothing else until it answers: none can choose its questions. \
            Its replicas are made again at nodes that answer, after a grace, and are not thrown \
            away.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 14);
    let ways = ["never answers an audit", "is busy for ever", "works for ever"];
    let ways = [4, 5, 6].map(|node| Step::Deviate(node, ways[node - 4]));
    stage.at(HOUR / 2, "nodes 4 to 6 answer no audit", ways);
    stage.at(HOUR, "the owner puts 36 chunks, one a minute, three times each", []);
    for minute in 0..36 {
        stage.at(HOUR + minute * MINUTE, "", [put(1)]);
    }
    stage.expect_at(2 * HOUR, "they are late, and nothing is made again", |world| {
        world.stands(0, 4) == Standing::Late && world.repair_bytes(0) == 0
    });
    stage.expect_at(13 * DAY, "all three are suspect", |world| {
        (4..=6).all(|node| world.stands(0, node) == Standing::Suspect)
    });
    stage.expect_at(13 * DAY, "each was asked for what it owes and nothing else", |world| {
        (4..=6).all(|node| (1..world.unproven_at(0, node)).contains(&world.owed(0, node)))
    });
    stage.expect_at(13 * DAY, "no question stayed open for longer than that takes", |world| {
        world.longest_question(0) < 10 * MINUTE
    });
    stage.expect_at(13 * DAY, "all is there three times at those that answer", |world| {
        world.fewest_honest_acks() >= 3 && world.repair_bytes(0) > 0
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 36);
    stage
}
