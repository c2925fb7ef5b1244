//! Holders that take chunks and never say a word about them.

use super::Scenario;
use super::stage::{HOUR, SECOND, Stage, put};
use crate::sometimes::Rare;
use crate::tally::Fault;
use crate::world::Step;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "silent-holders",
    title: "holders take chunks and never say a word about them",
    story: "Most of the holders volunteer first, take the chunks they are given, and fall silent: \
            no ack, no refusal, and the connection stands. That is no error, and may be a slow \
            disk: nobody is to blame yet. But an owner that waits for them has a put that hangs \
            on the goodwill of others. So a holder that has said nothing for some seconds, counted \
            by what is on its way to it, is late: what it was given goes to a spare \
            volunteer at once, without a new request, and its ack still counts if it comes after \
            all. Here five of eight holders are silent, and every chunk is stored within half a \
            minute.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(9, 1);
    let silent = (1..=5).map(|node| Step::Deviate(node, "takes and stays silent"));
    stage.at(Duration::ZERO, "nodes 1 to 5 take and stay silent", silent);
    for hour in 1..7 {
        stage.at(hour * HOUR, "the owner puts 2 chunks, three times each", [put(2)]);
        stage.expect_at(hour * HOUR + 30 * SECOND, "they are stored, and not there", |world| {
            world.all_stored() && world.acked_by_any(1..=5) == 0
        });
    }
    stage.expect("silent ones were given chunks, and spares got them", |world| {
        world.met(Fault::Byzantine) > 0 && world.took(Rare::GivenToMore) > 0
    });
    stage.expect("everything came back", |world| world.fetched_by(0) == 12);
    stage
}
