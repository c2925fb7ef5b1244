//! One machine with five names.

use super::Scenario;
use super::stage::{HOUR, SECOND, Stage, put};
use crate::tally::Fault;
use crate::world::Step;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sybils",
    title: "one machine with five names volunteers five times for every chunk",
    story: "Keys cost nothing, so one machine takes part under five names and volunteers five \
            times for every chunk: five acks in good order, and one disk behind them. Signatures \
            cannot tell that, but the owner sees for itself where a connection comes from, \
            whatever a node says of itself: all of them stand in one public network, and a network \
            is one failure domain, of which a chunk has one replica. Here half of the holders are \
            such names, and every chunk that is called stored has at least two of its three copies \
            elsewhere.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(11, 1);
    // With the first put they would tell the names from holders.
    stage.plan.audits = false;
    let names = (6..11).map(|node| Step::Deviate(node, "is one machine of many names"));
    stage.at(Duration::ZERO, "nodes 6 to 10 are one machine", names);
    for hour in 1..9 {
        stage.at(hour * HOUR, "the owner puts 4 chunks, three times each", [put(4)]);
        let stored = hour * HOUR + 20 * SECOND;
        stage.expect_at(stored, "each that is stored has two copies at other machines", |world| {
            world.fewest_honest_acks() >= 2
        });
    }
    stage.expect_at(12 * HOUR, "they are stored", |world| world.all_stored());
    stage.expect("the names were given chunks, too", |world| {
        world.met(Fault::Byzantine) > 0 && (6..11).any(|name| world.acked_by(name) > 0)
    });
    stage
}
