//! A holder gets a new disk while a put that it acknowledged is still short.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, crash, put};
use crate::sometimes::Rare;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "new-disk",
    title: "a holder's acks count no more when it comes back with an empty disk",
    story: "A put has two acks of three when one of the two holders loses its disk and gets a new \
            one. It is the same node under the same key, and nothing it signed was false; but the \
            store that signed it is gone. Every store has an epoch, drawn when it is made, and \
            every ack names it: as soon as the holder acknowledges anything under its new epoch, \
            the owner takes its earlier acks back and gives it those chunks again. Without that, \
            the third ack would have made a quorum of which one copy was gone. Here the put ends \
            stored, and all three really have it.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 3);
    stage.at(HOUR / 2, "node 3 is switched off for a day", [crash(3, DAY)]);
    stage.at(HOUR, "the owner puts 6 chunks that all three others shall hold", [put(6)]);
    stage.expect_at(2 * HOUR, "two of them have acknowledged: short", |world| {
        world.acked_by(1) == 6 && world.acked_by(2) == 6 && world.stored_chunks() == 0
    });
    stage.at(3 * HOUR, "node 1 loses its disk", [Step::Happen(Event::LoseDisk { node: 1 })]);
    stage.at(5 * HOUR, "the owner puts 6 more", [put(6)]);
    stage.expect_at(20 * HOUR, "node 1 has been given the first ones again", |world| {
        world.held_by(1) == 12 && world.took(Rare::NewEpoch) > 0
    });
    stage.expect_at(2 * DAY, "node 3 came back: all is stored, and all three have it", |world| {
        world.all_stored() && (1..4).all(|node| world.held_by(node) == 12)
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
