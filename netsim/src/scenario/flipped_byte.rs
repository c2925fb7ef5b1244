//! A holder's disk rots.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::sometimes::Rare;
use crate::world::{Decay, Event, Step};
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flipped-byte",
    title: "rot at an honest holder is found and healed, and the holder is no liar",
    story: "The disk of one of four holders flips bits, some of them in chunks. A holder that is \
            asked for a proof reads the whole record and checks it against the id, so that it \
            never proves from bytes that are not the chunk: it says that its copy is damaged. That \
            is no lie, and it is not treated as one. The replica counts no more, and the chunk is \
            stored again from the sealed bytes of another holder, perhaps at the very same node. \
            Were the wrong bytes proven, an honest node would be convicted.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    let flips = [(); 12].map(|()| Step::Happen(Event::Decay { node: 1, how: Decay::Flip }));
    stage.at(2 * HOUR, "bits flip on the disk of node 1", flips);
    stage.expect_at(4 * DAY, "audits have found damage, and it was made again", |world| {
        world.took(Rare::FoundDamaged) > 0 && world.fewest_copies() >= 3
    });
    stage.expect("nobody was convicted", |world| {
        world.took(Rare::FoundLie) == 0 && world.stands(0, 1) != Standing::Liar
    });
    stage
}
