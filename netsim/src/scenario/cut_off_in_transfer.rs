//! Found by the simulator: a holder that was cut off under a chunk was never dialled again.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::net::Cut;
use crate::oracle::Fact;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::core::message::StreamMessage;
use std::collections::BTreeSet;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cut-off-in-transfer",
    title: "a holder that was cut off under a chunk, and was never dialled again",
    story: "An owner needs every holder there is for its replicas, and it reaches one of them only \
            by dialling it: no other reason keeps these two connected. The connection breaks with \
            the chunk on its way. The holder is not to blame, so it was remembered as cut off, and \
            given the chunk again once it was connected again; but nobody dialled it, not even \
            when it volunteered anew for the same chunk, and the put stayed short for ever with a \
            willing holder in reach. Now a holder that was cut off and volunteers anew is taken at \
            its word: it is dialled, and gets the chunk. Here the only way between the two is \
            closed for ten minutes as soon as the chunk leaves, and the put is finished the same \
            day.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 2);
    // The owner keeps a connection to node 1 alone, and dials the others.
    stage.keeps = Some(vec![(0, 1), (1, 2), (2, 3)]);
    stage.at(HOUR, "the owner puts a chunk that all three others shall hold", [put(1)]);
    stage.when("the way to node 3 breaks with the chunk on it", |fact| match fact {
        Fact::Said { to: 3, message: StreamMessage::StoreChunk(_), .. } => {
            let cut = Cut::between(BTreeSet::from([0]), BTreeSet::from([3]));
            Some(Step::Happen(Event::CutBegins { cut, length: 10 * MINUTE }))
        }
        _ => None,
    });
    stage.expect_at(HOUR + 9 * MINUTE, "the put is short, and its status says so", |world| {
        world.stored_chunks() == 0 && world.acked_by(3) == 0
    });
    stage.expect_at(DAY, "all three have it", |world| world.all_stored());
    stage.expect("the chunk was lost on its way", |world| {
        world.took(Rare::LostInTransfer) > 0 && world.took(Rare::PutLate) > 0
    });
    stage
}
