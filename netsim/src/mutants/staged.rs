//! Bugs that scenarios have to show: each is played without the bug, which has to end well, and
//! with it, which must not.

use super::{Find, property};
use crate::plant::{is_staged, plant, scenarios_of};
use crate::scenario::Scenario;
use quloud::planted::Bug;
use std::time::{Duration, Instant};

/// The dice of a scenario, as `scenario` throws them where nothing is said.
const DICE: u64 = 1;

/// What the scenario of a bug came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Played {
    pub(super) bug: Bug,
    pub(super) scenario: &'static str,
    /// What was broken without the bug: then the scenario proves nothing.
    pub(super) broken_anyway: Option<String>,
    /// What was broken with it.
    pub(super) broken: Option<Find>,
    /// Both times together.
    pub(super) took: Duration,
}

/// Plays the scenarios of this bug.
pub(super) fn play(bug: Bug) -> impl Iterator<Item = Played> {
    scenarios_of(bug).filter_map(Scenario::named).map(move |scenario| play_one(bug, scenario))
}

fn play_one(bug: Bug, scenario: &'static Scenario) -> Played {
    let started = Instant::now();
    let broken = |bug: Option<Bug>| {
        plant(bug);
        let outcome = scenario.play(DICE, &mut |_, _| {});
        plant(None);
        outcome.violations.into_iter().next()
    };
    let (broken_anyway, with) = (broken(None), broken(Some(bug)));
    let find = |what: String| Find { seed: DICE, property: property(&what).to_owned(), what };
    let (broken, took) = (with.map(find), started.elapsed());
    Played { bug, scenario: scenario.name, broken_anyway, broken, took }
}

impl Played {
    /// What was broken with the bug, and only with it.
    pub(super) fn find(&self) -> Option<&Find> {
        self.broken.as_ref().filter(|_| self.broken_anyway.is_none())
    }

    /// Whether the scenario shows the bug.
    pub(super) fn is_found(&self) -> bool {
        self.find().is_some()
    }

    /// Whether nothing else has to show it.
    pub(super) fn is_alone(&self) -> bool {
        is_staged(self.bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_is_broken_anyway_shows_no_bug() {
        let broken =
            Some(Find { seed: DICE, property: "a promise".to_owned(), what: String::new() });
        let (bug, took) = (Bug::LeaveNames, Duration::ZERO);
        let shown = Played { bug, scenario: "lost-name", broken_anyway: None, broken, took };
        let anyway = Played { broken_anyway: Some("a promise".to_owned()), ..shown.clone() };
        let unseen = Played { broken: None, ..shown.clone() };
        assert_eq!([&shown, &anyway, &unseen].map(Played::is_found), [true, false, false]);
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn every_staged_bug_is_shown_by_its_scenario() {
        let staged = Bug::ALL.iter().filter(|bug| is_staged(**bug));
        let played: Vec<Played> = staged.flat_map(|bug| play(*bug)).collect();
        assert!(played.len() > 2 && played.iter().all(Played::is_found), "{played:?}");
    }
}
