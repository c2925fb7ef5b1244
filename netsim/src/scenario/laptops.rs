//! A mesh of laptops.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::chance::Chance;
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "laptops",
    title: "a mesh of laptops, none of them open for more than eight hours a day",
    story: "Twelve laptops, each open for eight hours a day at its own time, the owner's among \
            them: at night nobody is there, at noon not everybody, and some pairs never meet. \
            Gossip reaches nobody who is away, and connections die unnoticed with every lid. A \
            put goes on for as long as it takes: its request is published again while chunks are \
            short, and acks of different hours count together. A copy on a laptop that sleeps is \
            what it is: durable, and out of reach until its lid opens. Here what is put on four \
            days is stored and fetched by its owner, whenever it is awake.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(12, 20);
    stage.plan.people.laptops = Chance::ALWAYS;
    for day in [1, 4, 7, 10] {
        stage.at(day * DAY, "the owner puts 5 chunks, as soon as its lid is open", [put(5)]);
    }
    stage.expect_at(15 * DAY, "all of them are stored", |world| {
        world.all_stored() && world.put_chunks() == 20
    });
    for day in 15..19 {
        stage.at(day * DAY + HOUR, "the owner fetches what it can", [Step::Fetch(0)]);
    }
    stage.expect_at(20 * DAY, "it has everything", |world| world.fetched_by(0) == 20);
    stage.expect("lids were closed", |world| world.met(Fault::Lid) > 200);
    stage
}
