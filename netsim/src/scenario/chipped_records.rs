//! Found by the simulator: a record that was damaged beside its bytes hid them.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "chipped-records",
    title: "the last copy's records are damaged, and its bytes are not",
    story: "Bits flip on a disk, not in the bytes of the chunks but beside them, in what fills \
            their records up. The first who fetched such a chunk was handed the bytes, which hash \
            to the id as they should; but the read had found the record damaged, and from then on \
            the chunk no longer counted as held: whoever asked next was told that it is not there, \
            and so was the owner when all other copies were gone. Now a record that is known to be \
            damaged is wanted anew when it is offered, and read all the same for whoever has a \
            right to it: the id decides what is whole. Here two of three holders leave for ever, \
            every record of the third is damaged like this, and the owner fetches everything, \
            day after day.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 5);
    stage.at(HOUR, "the owner puts 12 chunks that all three others hold", [put(12)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    let leave = [2, 3].map(|node| Step::Happen(Event::Leave { node }));
    stage.at(3 * HOUR, "nodes 2 and 3 leave for ever", leave);
    stage.at(4 * HOUR, "a bit flips in every record of node 1", [Step::Chip(1)]);
    stage.expect_at(4 * HOUR, "in twelve of them", |world| world.met(Fault::Rot) == 12);
    for day in 1..4 {
        stage.at(day * DAY, "the owner fetches everything", [Step::Fetch(0)]);
        stage.expect_at(day * DAY + HOUR, "it has everything, and was told no untruth", |world| {
            let refused = world.took(Rare::NotHeld) + world.took(Rare::ServeDamaged);
            world.fetched_by(0) == 12 && refused == 0 && world.took(Rare::GetNothing) == 0
        });
    }
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
