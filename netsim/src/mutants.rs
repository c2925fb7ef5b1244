//! Planted bugs, one after the other: how many worlds does it take to find each?
//!
//! Worlds are run from seed 1 on until a promise is broken that is not broken without the bug.
//! They are spread over threads; seeds are handed out in order, so that the answer is the smallest
//! one all the same. Some bugs are shown by scenarios, too, or by nothing else: see `staged`.

mod report;
mod staged;

use crate::plan::Frame;
use crate::plant::{is_staged, plant};
use crate::runs::default_threads;
use crate::world::{self, EXPECTED};
use quloud::planted::Bug;
use staged::Played;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where each search begins. World 0 of the default frame, where requests come thick and fast,
/// takes as long as ten others.
const FIRST_SEED: u64 = 1;

/// The search for one bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hunt {
    pub(crate) bug: Bug,
    /// The next seed to be run.
    next: u64,
    running: u64,
    pub(crate) found: Option<Find>,
    /// Seeds whose worlds are broken without the bug too: they prove nothing.
    pub(crate) broken_anyway: Vec<u64>,
    /// What its worlds took, on one thread each.
    pub(crate) took: Duration,
}

/// A broken promise that shows a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Find {
    pub(crate) seed: u64,
    /// Which promise.
    pub(crate) property: String,
    /// How it was broken.
    pub(crate) what: String,
}

impl Find {
    /// How many worlds it took.
    fn seeds(&self) -> u64 {
        self.seed + 1 - FIRST_SEED
    }
}

/// All searches.
#[derive(Debug)]
pub(crate) struct Mutants {
    pub(crate) hunts: Vec<Hunt>,
    /// Scenarios that have to show them.
    played: Vec<Played>,
    pub(crate) frame: Frame,
    pub(crate) seeds_max: u64,
    /// On this machine.
    pub(crate) took: Duration,
}

/// Looks for each of `bugs`: in the scenarios that have to show it, and in the worlds of the first
/// `seeds_max` seeds, if it is not one that these hardly show, or if all are to be hunted. `tell`
/// hears a line of each search that is over.
pub(crate) fn run(
    (bugs, hunt_all): (&[Bug], bool),
    seeds_max: u64,
    frame: &Frame,
    threads: Option<usize>,
    tell: &(dyn Fn(&str) + Sync),
) -> Mutants {
    let threads = default_threads(threads);
    let started = Instant::now();
    let played: Vec<Played> = bugs.iter().flat_map(|bug| staged::play(*bug)).collect();
    played.iter().for_each(|played| tell(&played.line()));
    let drawn = bugs.iter().filter(|bug| hunt_all || !is_staged(**bug));
    let hunts = Mutex::new(drawn.map(|bug| Hunt::of(*bug)).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&hunts, seeds_max, frame, tell));
        }
    });
    let hunts = hunts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Mutants { hunts, played, frame: frame.clone(), seeds_max, took: started.elapsed() }
}

/// Runs worlds as long as there are some to be run.
fn work(hunts: &Mutex<Vec<Hunt>>, max: u64, frame: &Frame, tell: &(dyn Fn(&str) + Sync)) {
    let lock =
        || -> MutexGuard<'_, Vec<Hunt>> { hunts.lock().unwrap_or_else(PoisonError::into_inner) };
    loop {
        let taken = lock().iter_mut().enumerate().find_map(|(at, hunt)| {
            let seed = hunt.begin(max)?;
            Some((at, hunt.bug, seed))
        });
        let Some((at, bug, seed)) = taken else { return };
        let started = Instant::now();
        let what = broken(Some(bug), seed, frame);
        let anyway = what.is_some() && broken(None, seed, frame).is_some();
        let took = started.elapsed();
        let mut hunts = lock();
        let Some(hunt) = hunts.get_mut(at) else { return };
        hunt.end(seed, what, anyway, took);
        if hunt.is_over(max) {
            tell(&hunt.line());
        }
    }
}

/// The first promise that is broken in a world with this bug.
fn broken(bug: Option<Bug>, seed: u64, frame: &Frame) -> Option<String> {
    plant(bug);
    let outcome = world::run(seed, frame, &mut |_, _| {});
    plant(None);
    outcome.violations.into_iter().next()
}

impl Hunt {
    fn of(bug: Bug) -> Self {
        let (next, running, took) = (FIRST_SEED, 0, Duration::ZERO);
        Self { bug, next, running, found: None, broken_anyway: Vec::new(), took }
    }

    /// The next seed to be run; `None` where no smaller one than what was found is left.
    fn begin(&mut self, max: u64) -> Option<u64> {
        let end = self.found.as_ref().map_or(FIRST_SEED.saturating_add(max), |find| find.seed);
        let seed = self.next;
        if seed >= end {
            return None;
        }
        self.next += 1;
        self.running += 1;
        Some(seed)
    }

    fn end(&mut self, seed: u64, what: Option<String>, anyway: bool, took: Duration) {
        self.running -= 1;
        self.took += took;
        if anyway {
            self.broken_anyway.push(seed);
        } else if let Some(what) = what
            && self.found.as_ref().is_none_or(|find| seed < find.seed)
        {
            self.found = Some(Find { seed, property: property(&what).to_owned(), what });
        }
    }

    fn is_over(&self, max: u64) -> bool {
        self.running == 0 && (self.next >= FIRST_SEED.saturating_add(max) || self.found.is_some())
    }

    /// How many worlds it took; `None` where it was not found.
    pub(crate) fn seeds(&self) -> Option<u64> {
        self.found.as_ref().map(Find::seeds)
    }
}

/// Of `after 3d: a promise: how it was broken`, the promise; what a script expects is one.
fn property(what: &str) -> &str {
    let (_, rest) = what.split_once(": ").unwrap_or(("", what));
    let rest = rest.strip_prefix(EXPECTED).unwrap_or(rest);
    rest.split_once(": ").map_or(rest, |(property, _)| property)
}

impl Mutants {
    /// The searches that have to succeed: the others have their scenarios.
    pub(crate) fn due(&self) -> impl Iterator<Item = &Hunt> {
        self.hunts.iter().filter(|hunt| !is_staged(hunt.bug))
    }

    /// How many worlds each of these bugs took that was found, in order.
    pub(crate) fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.due().filter_map(Hunt::seeds).collect();
        seeds.sort_unstable();
        seeds
    }

    /// 1 where a bug was not found, or a scenario does not show it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let drawn = self.due().all(|hunt| hunt.found.is_some());
        let staged = self.played.iter().all(Played::is_found);
        ExitCode::from(u8::from(!drawn || !staged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_seed_counts_whatever_comes_first() {
        let mut hunt = Hunt::of(Bug::ALL[0]);
        assert_eq!([(); 3].map(|()| hunt.begin(9)), [Some(1), Some(2), Some(3)]);
        let took = Duration::ZERO;
        hunt.end(3, Some("after 1d: a promise: because".to_owned()), false, took);
        assert_eq!((hunt.begin(9), hunt.is_over(9)), (None, false));
        hunt.end(1, Some("after 1d: in any case".to_owned()), true, took);
        hunt.end(2, Some("after 1d: another: because".to_owned()), false, took);
        assert!(hunt.is_over(9) && hunt.seeds() == Some(2) && hunt.broken_anyway == [1]);
        assert_eq!(hunt.found.map(|find| find.property), Some("another".to_owned()));
        assert_eq!(property("after 1d: as it has to be: all is stored"), "all is stored");
    }

    #[test]
    fn staged_bug_that_worlds_do_not_show_is_no_failure() {
        let (frame, took) = (Frame { nodes: 4..=8, days: 1 }, Duration::ZERO);
        let of = |bug| {
            let hunts = vec![Hunt::of(bug)];
            Mutants { hunts, played: vec![], frame: frame.clone(), seeds_max: 9, took }
        };
        let code = |bug| format!("{:?}", of(bug).exit_code());
        assert_eq!(code(Bug::LeaveNames), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Bug::CountClaims), format!("{:?}", ExitCode::FAILURE));
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn bug_is_found_in_a_few_worlds_and_the_same_on_two_threads() {
        let frame = Frame { nodes: 4..=6, days: 1 };
        let [one, two] = [1, 2].map(|threads| {
            let mutants = run((&[Bug::CountClaims], false), 9, &frame, Some(threads), &|_| {});
            mutants.hunts.into_iter().map(|hunt| hunt.found).collect::<Vec<_>>()
        });
        assert!(one.iter().all(Option::is_some), "{one:?}");
        assert_eq!(one, two);
    }
}
