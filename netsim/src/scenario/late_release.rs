//! A release is taken back while it is still on its way to a holder.

use super::Scenario;
use super::stage::{DAY, HOUR, SECOND, Stage, put};
use crate::chance::Chance;
use crate::net::Cut;
use crate::oracle::Fact;
use crate::sometimes::Rare;
use crate::world::{Event, Step};
use quloud::core::message::StreamMessage;
use std::collections::BTreeSet;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "late-release",
    title: "a release is taken back while it is on its way to a holder",
    story: "A user gives a folder up, and puts it again a moment later. One holder was asked to \
            let it go over a line that broke just then: nobody knows whether it heard that. What \
            such a holder acknowledges must not count, as it may be about to let the chunk go. So \
            it is asked to take that back before it is given anything, and from then on the \
            release is never sent again: it would come after what took it back, and the holder \
            would destroy what it said that it keeps. Here the way to that holder is closed for \
            two seconds with the release on it. When it is open again the holder is asked to take \
            it back and for nothing else, and all three have everything.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(4, 2);
    let use_ = &mut stage.plan.use_;
    (use_.delay, use_.again) = (6 * HOUR, Chance::NEVER);
    use_.released = Chance::ALWAYS;
    stage.at(HOUR, "the owner puts 6 chunks, three times each", [put(6)]);
    let release = Step::Happen(Event::Release { owner: 0 });
    stage.at(2 * HOUR, "the user gives all of them up", [release]);
    stage.when("the way to node 3 breaks with the release on it", |fact| match fact {
        Fact::Said { to: 3, message: StreamMessage::Release(release), .. } if !release.undo => {
            let cut = Cut::between(BTreeSet::from([0]), BTreeSet::from([3]));
            Some(Step::Happen(Event::CutBegins { cut, length: 2 * SECOND }))
        }
        _ => None,
    });
    stage.at(2 * HOUR + 3 * SECOND, "and wants them again", [Step::PutAgain(0)]);
    stage.expect_at(DAY, "they are stored again, at all three", |world| {
        world.all_stored() && world.took(Rare::TakenBack) >= 6
    });
    stage.expect("nothing was destroyed, and everything came back", |world| {
        world.took(Rare::Deleted) == 0 && world.fetched_by(0) == 6 && world.keep_word(1..=3)
    });
    stage
}
