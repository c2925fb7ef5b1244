//! A thief has all that is on an owner's device, but for the delete key.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::sometimes::Rare;
use crate::world::Step;
use quloud::core::codec::Reject;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stolen-device",
    title: "a thief of a device without the delete key asks holders to let go",
    story: "A device that was told to live without the delete key is stolen, with its keys and its \
            catalogue: which chunks there are, who holds them, and by which leases. The thief asks \
            each holder to let all of them go. It can prove by the admin key that it is the \
            owner's, which is enough to take a release back; it can make a delete key of its own. \
            Neither is the one of which each chunk's header has the public half, so each holder \
            finds that the proof does not hold, and says so. Here holders keep what was let go for \
            six hours only, the thief tries it for two days, and nothing is gone.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(5, 3);
    stage.plan.use_.delay = 6 * HOUR;
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    let thief = Step::Deviate(4, "lets go without the delete key");
    stage.at(2 * HOUR, "node 4 has copied all that is on the owner's device", [thief]);
    stage.expect_at(2 * DAY, "holders were asked, and turned that down", |world| {
        world.took(Rare::ReleaseTurnedDown) >= 3 && world.rejected(Reject::BadProof) >= 3
    });
    stage.expect("nothing was destroyed, and everything came back", |world| {
        world.took(Rare::Deleted) == 0 && world.fetched_by(0) == 12 && world.keep_word(1..=3)
    });
    stage
}
