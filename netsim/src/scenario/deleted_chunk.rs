//! A holder has lost a chunk, and says so.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, put};
use crate::sometimes::Rare;
use crate::world::Step;
use quloud::repo::standing::{Loss, Standing};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "deleted-chunk",
    title: "a chunk that a holder has no more is missed by the next audit",
    story: "Twelve chunks are stored three times, and a minute later an audit has proven each \
            replica: until then an ack was a promise and no more. Then somebody deletes a chunk \
            from the disk of one holder. Nobody fetches it, so nobody would notice. The next audit \
            asks that holder for a proof, and it says what is true: it does not have it. The \
            replica counts no more, the sealed bytes are fetched from another holder and stored \
            again, and the holder is blamed for nothing worse than a loss.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    stage.expect_at(HOUR + 5 * MINUTE, "each replica was proven within minutes", |world| {
        world.counted(0) == (36, 36)
    });
    stage.at(2 * HOUR, "somebody deletes a chunk at node 1", [Step::DeleteOne(1)]);
    stage.expect_at(3 * HOUR, "one has two copies, and nobody knows", |world| {
        world.fewest_copies() == 2 && world.counted(0) == (36, 36)
    });
    stage.expect_at(4 * DAY, "an audit has missed it, and it was made again", |world| {
        world.took(Rare::FoundMissing) == 1
            && world.took(Rare::FoundLie) == 0
            && world.fewest_copies() == 3
            && world.repair_bytes(0) > 0
    });
    stage.expect("all of it is proven, and nobody is a liar", |world| {
        world.counted(0) == (36, 36)
            && world.lost_by(0, Loss::Lied) == 0
            && (1..5).all(|node| world.stands(0, node) != Standing::Liar)
    });
    stage
}
