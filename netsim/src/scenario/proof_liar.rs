//! A holder that answers audits without the bytes.

use super::Scenario;
use super::stage::{DAY, HOUR, Stage, put};
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::repo::standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "proof-liar",
    title: "a holder keeps the tags of chunks, drops half of the bytes, and answers",
    story: "One of four holders drops the bytes of half of its chunks, keeps their tags, and \
            answers audits from these. One answer is for all chunks that it was asked for, and it \
            is wrong. That convicts nobody yet: one bad chunk spoils the sum. So the owner asks \
            for each half, under a fresh seed each time, until a wrong answer is for one chunk \
            alone. At the end just those replicas are called lies that are none, the others are \
            proven, the holder is given nothing more, and what it dropped is stored elsewhere.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(6, 6);
    stage.at(HOUR, "the owner puts 12 chunks, three times each", [put(12)]);
    let deviate = Step::Deviate(1, "keeps tags and drops bytes");
    stage.at(HOUR / 2, "node 1 stores honestly at first", [deviate]);
    let act = Step::Happen(Event::Act { node: 1 });
    stage.at(2 * HOUR, "node 1 drops the bytes of every other chunk", [act]);
    stage.expect_at(4 * DAY, "just what it dropped is called a lie", |world| {
        let lies = world.took(Rare::FoundLie) as usize;
        lies > 0 && lies == world.acked_in_vain(1) && world.unproven_at(0, 1) == 0
    });
    stage.expect_at(5 * DAY, "it is a liar, and all is there three times without it", |world| {
        let is_liar = |node| world.stands(0, node) == Standing::Liar;
        is_liar(1) && !(2..6).any(is_liar) && world.fewest_counted(0) >= 3
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
