//! Named scenarios: small worlds with a script, each with the story that it tells.
//!
//! What the simulator finds becomes one, so that it is found again by name, at once and whatever
//! the seeds mean by then. A scenario's world is kind but for its script, and besides the script's
//! own expectations everything holds that holds in a drawn world: every property of the oracle,
//! and a mesh that is live at the end.

mod ack_ahead;
mod another_store;
mod bad_night;
mod black_out;
mod chipped_records;
mod clock_jump_audits;
mod cut_off_in_transfer;
mod dead_before_ack;
mod deleted_chunk;
mod failed_sync;
mod flipped_byte;
mod flood;
mod given_anew;
mod holder_away_an_hour;
mod holders_found;
mod hostage;
mod hostage_found;
mod laptops;
mod late_release;
mod liar_majority;
mod lost_name;
mod lost_note;
mod many_beginnings;
mod narrow_line;
mod new_disk;
mod old_image;
mod old_records;
mod one_door;
mod outlived_log;
mod owner_away;
mod proof_liar;
mod proof_relayer;
mod replicas_again;
mod room_again;
mod second_look;
mod silent_holders;
mod slow_loris;
mod stage;
mod stalled_audit;
mod stolen_delete_key;
mod stolen_device;
mod sybils;
mod three_disks_left;
mod uplink_down_a_day;
mod voice_alone;
mod week_apart;
mod words_alone;
mod words_told;
mod wrong_bytes;

pub(crate) mod show;
pub(crate) use stage::Stage;

use crate::timeline::Timeline;
use crate::world::{self, Observer, Outcome};

/// See the module.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// As it is called.
    pub(crate) name: &'static str,
    /// What it is about, in a line.
    pub(crate) title: &'static str,
    /// What happened, why, and what holds now.
    pub(crate) story: &'static str,
    /// The world and the script.
    pub(crate) stage: fn() -> Stage,
}

/// All scenarios: first what was found, then what teaches.
pub(crate) const ALL: &[Scenario] = &[
    lost_name::SCENARIO,
    cut_off_in_transfer::SCENARIO,
    room_again::SCENARIO,
    another_store::SCENARIO,
    chipped_records::SCENARIO,
    lost_note::SCENARIO,
    many_beginnings::SCENARIO,
    old_records::SCENARIO,
    second_look::SCENARIO,
    outlived_log::SCENARIO,
    dead_before_ack::SCENARIO,
    black_out::SCENARIO,
    failed_sync::SCENARIO,
    owner_away::SCENARIO,
    week_apart::SCENARIO,
    three_disks_left::SCENARIO,
    new_disk::SCENARIO,
    old_image::SCENARIO,
    replicas_again::SCENARIO,
    words_alone::SCENARIO,
    holders_found::SCENARIO,
    deleted_chunk::SCENARIO,
    flipped_byte::SCENARIO,
    proof_liar::SCENARIO,
    stalled_audit::SCENARIO,
    voice_alone::SCENARIO,
    holder_away_an_hour::SCENARIO,
    uplink_down_a_day::SCENARIO,
    clock_jump_audits::SCENARIO,
    words_told::SCENARIO,
    hostage_found::SCENARIO,
    narrow_line::SCENARIO,
    given_anew::SCENARIO,
    bad_night::SCENARIO,
    laptops::SCENARIO,
    one_door::SCENARIO,
    ack_ahead::SCENARIO,
    proof_relayer::SCENARIO,
    hostage::SCENARIO,
    late_release::SCENARIO,
    stolen_device::SCENARIO,
    stolen_delete_key::SCENARIO,
    wrong_bytes::SCENARIO,
    liar_majority::SCENARIO,
    sybils::SCENARIO,
    silent_holders::SCENARIO,
    slow_loris::SCENARIO,
    flood::SCENARIO,
];

impl Scenario {
    /// The scenario of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Runs it, with these dice.
    pub(crate) fn play(&self, seed: u64, observer: Observer<'_>) -> Outcome {
        world::play((self.stage)(), seed, observer)
    }

    /// Runs it, and watches it for a picture.
    pub(crate) fn film(&self, seed: u64, observer: Observer<'_>) -> (Outcome, Timeline) {
        world::film_script((self.stage)(), seed, observer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    impl Scenario {
        fn must_pass(&self) {
            let outcome = self.play(1, &mut |_, _| {});
            assert_eq!(outcome.violations, Vec::<String>::new(), "{}", self.name);
        }
    }

    #[test]
    fn every_scenario_ends_as_it_has_to() {
        std::thread::scope(|scope| {
            for some in ALL.chunks(4) {
                scope.spawn(|| some.iter().for_each(Scenario::must_pass));
            }
        });
    }

    #[test]
    fn scenarios_have_names_and_stories() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Scenario { name, title, story, stage } in ALL {
            assert!(title.len() < 75, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert!(story.len() > 200 && !story.contains('\n'), "{name}: one paragraph");
            let stage = stage();
            let late = stage.steps.iter().find(|(at, ..)| *at > stage.plan.span);
            assert!(late.is_none() && !stage.finally.is_empty(), "{name}: {late:?}");
        }
    }
}
