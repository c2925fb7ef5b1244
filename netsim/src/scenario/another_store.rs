//! Found by the simulator: a holder that is another store each time makes its owner
//! upload for ever.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, SECOND, Stage, crash, put};
use crate::tally::Fault;
use crate::world::Step;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "another-store",
    title: "a holder that says to be another store with every ack",
    story: "A holder that lost its store says so with its next ack, which names another epoch; the \
            owner then takes its earlier acks back and sends those chunks again (see new-disk). A \
            holder that cheats named another epoch with every ack: each ack voided all those \
            before it, everything was sent again and acknowledged by yet another store, an upload \
            without end for as long as one put was short. Now the owner remembers that no store is \
            lost without a restart, and so not twice on one connection: the second change is a \
            lie, and such a node is given those chunks no more. Here a put is short for hours with \
            such a node among the holders: the owner sends little, and finds others.",
    stage,
};

/// All the chunks together have less than that.
const CHUNKS_BYTES: u64 = 8 * 4_000;

fn stage() -> Stage {
    let mut stage = Stage::new(6, 2);
    stage.plan.trials = false;
    let away = [3, 4, 5].map(|node| crash(node, 4 * HOUR));
    stage.at(30 * MINUTE, "nodes 3, 4 and 5 are switched off for four hours", away);
    let cheat = [Step::Deviate(1, "is another store each time")];
    stage.at(30 * MINUTE, "node 1 turns cheat", cheat);
    stage.at(HOUR, "the owner puts 8 chunks, one after the other, three times each", []);
    for chunk in 0..8 {
        stage.at(HOUR + chunk * SECOND / 2, "", [put(1)]);
    }
    stage.expect_at(HOUR + 30 * SECOND, "short as they are, few bytes were sent", |world| {
        world.stored_chunks() == 0 && world.sent_by(0).frame_bytes < 4 * CHUNKS_BYTES
    });
    stage.expect_at(DAY, "the others came back, and everything is stored", |world| {
        world.all_stored() && world.put_chunks() == 8
    });
    stage.expect("the cheat had its chance", |world| world.met(Fault::Byzantine) > 2);
    stage
}
