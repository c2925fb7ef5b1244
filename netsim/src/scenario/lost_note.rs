//! Found by the simulator: a lost note about tombstones brought deleted chunks back.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, Stage, crash, put};
use crate::chance::Chance;
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::{Event, Step};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-note",
    title: "a catalogue loses its notes about tombstones",
    story: "A deleted chunk leaves a record that is dead, and in a later file the tombstone that \
            says so. The file with the tombstone must not go before the one with the record, and \
            the catalogue notes which needs which. A catalogue lost such a note in a crash, and \
            nobody noticed, because its sum was over the chunks alone: the file with the tombstone \
            held nothing else and went. When the catalogue was made anew, the record was found, \
            and nothing that said that it is dead: a deleted chunk was there again. Now the sum is \
            over the notes, too, and a catalogue that has lost one is made anew from the log. Here \
            every holder loses its notes among puts and deletes, later its catalogue, and what was \
            deleted stays away.",
    stage,
};

const HOLDERS: std::ops::RangeInclusive<usize> = 1..=3;

fn stage() -> Stage {
    let mut stage = Stage::new(4, 4);
    stage.plan.disk.segment_bytes = 64 << 10;
    let use_ = &mut stage.plan.use_;
    (use_.released, use_.again) = (Chance::per_mille(150), Chance::NEVER);
    use_.delay = Duration::from_secs(600);
    stage.at(Duration::ZERO, "every other hour the owner puts 12 chunks, and gives some up", []);
    for hour in (1..48).step_by(2) {
        stage.at(hour * HOUR, "", [put(12)]);
        stage.at((hour + 1) * HOUR, "", [Step::Happen(Event::Release { owner: 0 })]);
    }
    stage.at(DAY, "the holders lose their power", HOLDERS.map(|node| crash(node, 10 * MINUTE)));
    let lost = HOLDERS.map(Step::LoseNotes);
    stage.at(DAY + MINUTE, "their catalogues have lost their notes", lost);
    stage.expect_at(DAY + MINUTE, "there were some", |world| world.met(Fault::CatalogueWrong) > 0);
    stage.at(3 * DAY, "they lose it again", HOLDERS.map(|node| crash(node, 10 * MINUTE)));
    let gone = HOLDERS.map(Step::LoseCatalogue);
    stage.at(3 * DAY + MINUTE, "and their catalogues are gone", gone);
    stage.expect("that was noticed", |world| {
        world.took(Rare::RebuiltInconsistent) == world.met(Fault::CatalogueWrong)
    });
    stage.expect("files went, catalogues were made anew, and nothing rose", |world| {
        world.took(Rare::Unlinked) > 0 && world.took(Rare::RebuiltMissing) == 3
    });
    stage
}
