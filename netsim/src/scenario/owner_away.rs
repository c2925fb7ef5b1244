//! An owner that is away for a month.

use super::Scenario;
use super::stage::{DAY, HOUR, MINUTE, SECOND, Stage, crash, put};
use crate::world::{Event, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "owner-away",
    title: "an owner goes away for thirty days in the middle of a put",
    story: "An owner puts some chunks, puts some more, and pulls the plug a moment later: the \
            second put is half done, and for thirty days nobody looks after anything. Holders \
            restart, one leaves for ever, one loses its disk. Nothing may depend on the owner \
            being there: leases do not run out, holders keep what they acknowledged, and what the \
            owner knows of its puts is on its own disk. When it comes back it finishes the second \
            put by itself, and fetches everything.",
    stage,
};

fn stage() -> Stage {
    let mut stage = Stage::new(8, 40);
    stage.at(HOUR, "the owner puts 10 chunks, three times each", [put(10)]);
    stage.expect_at(2 * HOUR, "they are stored", |world| world.all_stored());
    stage.at(3 * HOUR, "it puts 10 more, one after the other", []);
    for chunk in 0..10 {
        stage.at(3 * HOUR + chunk * SECOND / 10, "", [put(1)]);
    }
    stage.at(3 * HOUR + SECOND, "it is switched off for thirty days", [crash(0, 30 * DAY)]);
    stage.expect_at(4 * HOUR, "the second put is begun, and not finished", |world| {
        let begun = world.acked_by_any(1..=7) > world.stored_chunks();
        begun && world.stored_chunks() < world.put_chunks()
    });
    for (node, day) in [(1, 4), (2, 9), (3, 14), (4, 20)] {
        stage.at(day * DAY, "a holder restarts", [crash(node, 10 * MINUTE)]);
    }
    stage.at(12 * DAY, "node 5 leaves for ever", [Step::Happen(Event::Leave { node: 5 })]);
    stage.at(16 * DAY, "node 6 loses its disk", [Step::Happen(Event::LoseDisk { node: 6 })]);
    stage.expect_at(30 * DAY, "who was there all the time has what it acknowledged", |world| {
        let held = (1..=4).map(|node| world.acked_by(node)).sum::<usize>();
        held > 0 && world.keep_word(1..=4) && world.keep_word(7..=7)
    });
    let back = 30 * DAY + 3 * HOUR + MINUTE;
    stage.expect_at(back + HOUR, "the owner came back and finished its put", |world| {
        world.all_stored() && world.put_chunks() == 20
    });
    stage.at(31 * DAY, "it fetches everything", [Step::Fetch(0)]);
    stage.expect_at(31 * DAY + 10 * MINUTE, "it has everything", |world| world.fetched_by(0) == 20);
    stage.expect("nothing was lost", |world| world.fetched_by(0) == 20);
    stage
}
