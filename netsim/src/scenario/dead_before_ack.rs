//! A holder dies between its claim and its ack.

use super::Scenario;
use super::stage::{HOUR, MINUTE, Stage, put};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::core::message::StreamMessage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "dead-before-ack",
    title: "a holder dies between its claim and its ack",
    story: "A holder offers to take a chunk, is granted it, and loses its power for ever before it \
            acknowledges. A claim is an offer and no promise: until the signed ack is there, the \
            chunk has one replica less than its owner wants, and the status says so. The owner \
            waits for the ack no longer than its deadline, and then gives the chunk to another \
            node that volunteered. Here the first holder that is sent a chunk dies like \
            this, and the put is stored at three others within minutes.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(9, 1);
    stage.at(HOUR, "the owner puts 6 chunks, three times each", [put(6)]);
    // The grant is the chunk itself: who is sent one had claimed it.
    stage.when(
        "a holder claimed a chunk, and is gone for ever before it acks",
        |fact| match fact {
            Fact::Said { from: 0, to, message: StreamMessage::StoreChunk(_) } => {
                Some(Step::Happen(Event::Leave { node: *to }))
            }
            _ => None,
        },
    );
    stage.expect_at(HOUR + 30 * MINUTE, "everything is stored, without that one", |world| {
        let gone = world.gone();
        world.all_stored() && gone.len() == 1 && gone.iter().all(|node| world.acked_by(*node) == 0)
    });
    stage.expect("spare volunteers got the chunks", |world| world.took(Rare::GivenToMore) > 0);
    stage
}
