//! Found by the simulator: a new store went on with the catalogue of an earlier one.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::sometimes::Rare;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "outlived-log",
    title: "a catalogue outlives its log and its own position",
    story: "A holder's segments are gone, and its catalogue is there, but without the entry that \
            says how far it had come: a disk that lied about syncing, and a power cut. A catalogue \
            with a position beyond the log was emptied; one with no position beside no log passed \
            for a new one, and what it named stayed in it. The new store said that it has those \
            chunks, was asked for them, marked each as damaged, and counted it to its account for \
            the first time then: bytes that nobody had written and that could never be freed. Now \
            a new store begins with an empty catalogue, whatever it found. Here one holder of \
            three loses both, the owner fetches everything, and puts more.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 4);
    stage.at(HOUR, "the owner puts 6 chunks that all three others hold", [put(6)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(3 * HOUR, "node 1 loses its power", [crash(1, 10 * MINUTE)]);
    stage.at(3 * HOUR + MINUTE, "its segments are gone, and the position", [Step::LoseLog(1)]);
    stage.at(4 * HOUR, "the owner fetches everything", [Step::Fetch(0)]);
    stage.expect_at(4 * HOUR, "node 1 began anew", |world| {
        world.took(Rare::RebuiltAhead) == 1 && world.held_by(1) == 0
    });
    stage.at(5 * HOUR, "the owner puts 6 more", [put(6)]);
    stage.at(DAY, "node 1 starts once more", [crash(1, 10 * MINUTE)]);
    stage.expect("it never knew of damage", |world| world.known_damaged(1) == 0);
    stage
}
