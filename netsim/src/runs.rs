//! Sets of worlds, some at a time.

use crate::ending::Ending;
use crate::evil;
use crate::net::Traffic;
use crate::plan::Frame;
use crate::plant::{plant, planted};
use crate::progress::{self, Progress};
use crate::sometimes::{REJECTS, Rare};
use crate::tally::{Fault, Tally};
use crate::world::{self, Outcome};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// So many worlds of the default frame must have seen every fault and every rare branch.
pub(crate) const WHOLE_SEEDS: u64 = 400;

/// What a set of worlds came to.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    /// Its seeds are new: what they leave unseen may be chance, and nobody could mend it.
    pub(crate) drawn: bool,
    pub(crate) frame: Frame,
    /// Simulated time of all nodes together, in milliseconds.
    pub(crate) node_ms: u128,
    pub(crate) events: u64,
    pub(crate) chunks: u64,
    pub(crate) fetched: u64,
    pub(crate) ending: Ending,
    pub(crate) faults: Tally<Fault>,
    /// What deviating nodes did, by behaviour.
    pub(crate) acts: Tally<&'static str>,
    pub(crate) rejects: Tally<&'static str>,
    pub(crate) rare: Tally<Rare>,
    pub(crate) traffic: Traffic,
    /// Seeds that were not the same world when they were run again.
    pub(crate) unequal: Vec<u64>,
    /// Broken promises, with their seeds.
    pub(crate) violations: Vec<(u64, String)>,
    /// Hash over the traces of all worlds, in the order of their seeds.
    pub(crate) trace: String,
    /// On this machine.
    pub(crate) took: Duration,
}

/// A seed that nobody has run: the time. Below 2^53, so that JSON readers keep all its digits.
pub(crate) fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0) % (1 << 52)
}

/// Runs `seeds` worlds from `first` on, each on a thread of its own.
pub(crate) fn run(first: u64, seeds: u64, frame: &Frame, threads: Option<usize>) -> Set {
    let started = Instant::now();
    let outcomes = outcomes(first, seeds, frame, default_threads(threads));
    Set::of(first, outcomes.into_values(), frame, started.elapsed())
}

/// The same twice, the second time on another number of threads: each world must be the same one.
pub(crate) fn run_twice(first: u64, seeds: u64, frame: &Frame, threads: Option<usize>) -> Set {
    let started = Instant::now();
    let threads = default_threads(threads);
    let once = outcomes(first, seeds, frame, threads);
    let again = outcomes(first, seeds, frame, if threads == 1 { 2 } else { 1 });
    let unequal = once.iter().filter(|(number, outcome)| again.get(number) != Some(outcome));
    let unequal = unequal.map(|(_, outcome)| outcome.seed).collect();
    Set { unequal, ..Set::of(first, once.into_values(), frame, started.elapsed()) }
}

/// So many worlds at a time, or one per core.
pub(crate) fn default_threads(threads: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    threads.unwrap_or(cores)
}

/// What each world came to, by its number in the set.
fn outcomes(first: u64, seeds: u64, frame: &Frame, threads: usize) -> BTreeMap<u64, Outcome> {
    let (next, outcomes) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let bug = planted();
    let work = |progress: &Progress| {
        plant(bug);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= seeds {
                return;
            }
            let outcome = world::run(first.wrapping_add(number), frame, &mut |_, _| {});
            progress.step();
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(number, outcome);
        }
    };
    progress::of(seeds, "worlds", |progress| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(progress));
            }
        });
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Set {
    /// One world.
    pub(crate) fn of_one(outcome: Outcome, frame: &Frame, took: Duration) -> Self {
        Self::of(outcome.seed, std::iter::once(outcome), frame, took)
    }

    fn of(
        first_seed: u64,
        outcomes: impl Iterator<Item = Outcome>,
        frame: &Frame,
        took: Duration,
    ) -> Self {
        let mut set = Self {
            first_seed,
            seeds: 0,
            drawn: false,
            frame: frame.clone(),
            node_ms: 0,
            events: 0,
            chunks: 0,
            fetched: 0,
            ending: Ending::default(),
            faults: Tally::default(),
            acts: Tally::default(),
            rejects: Tally::default(),
            rare: Tally::default(),
            traffic: Traffic::default(),
            unequal: Vec::new(),
            violations: Vec::new(),
            trace: String::new(),
            took,
        };
        let mut trace = blake3::Hasher::new();
        for outcome in outcomes {
            trace.update(outcome.trace.as_bytes());
            set.add(outcome);
        }
        set.trace = trace.finalize().to_hex().chars().take(32).collect();
        set
    }

    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.node_ms += outcome.elapsed.as_millis() * outcome.plan.nodes as u128;
        self.events += outcome.events;
        self.chunks += outcome.chunks;
        self.fetched += outcome.fetched;
        self.ending.merge(&outcome.ending);
        self.faults.merge(&outcome.faults);
        self.acts.merge(&outcome.acts);
        self.rejects.merge(&outcome.rejects);
        self.rare.merge(&outcome.rare);
        self.traffic.add(&outcome.traffic);
        let seed = outcome.seed;
        self.violations.extend(outcome.violations.into_iter().map(|what| (seed, what)));
    }

    /// Simulated years of all nodes together.
    pub(crate) fn node_years(&self) -> f64 {
        const YEAR_MS: f64 = 365.0 * 86_400_000.0;
        self.node_ms as f64 / YEAR_MS
    }

    /// Kinds of faults, ways to deviate, rare branches and reasons to turn something down that no
    /// world of this set has seen: the name of each, and what it shows.
    pub(crate) fn unseen(&self) -> Vec<(&'static str, &'static str)> {
        let faults = Fault::ALL.iter().filter(|fault| self.faults.of(**fault) == 0);
        let acts = evil::names().filter(|name| self.acts.of(name) == 0);
        let branches = Rare::ALL.iter().filter(|branch| self.rare.of(**branch) == 0);
        let rejects = REJECTS.iter().filter(|reject| self.rejects.of(reject.name()) == 0);
        let faults = faults.map(|fault| (fault.name(), fault.what()));
        let acts = acts.map(|name| (name, "A way to deviate from the protocol."));
        let branches = branches.map(|branch| (branch.name(), branch.shows()));
        let rejects = rejects.map(|reject| (reject.name(), "A reason to turn a message down."));
        faults.chain(acts).chain(branches).chain(rejects).collect()
    }

    /// Whether so many worlds of this frame must have seen everything.
    pub(crate) fn is_whole(&self) -> bool {
        !self.drawn && self.seeds >= WHOLE_SEEDS && self.frame == Frame::default()
    }

    /// What a whole set demands too little of: see [`Ending::too_little`].
    pub(crate) fn too_little(&self) -> Vec<(&'static str, u64)> {
        let little = self.is_whole().then(|| self.ending.too_little());
        little.unwrap_or_default()
    }

    /// Whether every promise was kept, every world the same when it was run again and, in a whole
    /// set, everything seen and enough demanded.
    pub(crate) fn is_good(&self) -> bool {
        let much = !self.is_whole() || self.unseen().is_empty() && self.too_little().is_empty();
        self.violations.is_empty() && self.unequal.is_empty() && much
    }

    /// 1 where something is wrong.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.is_good()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::{Demanded, Excuse};

    #[test]
    fn a_set_is_the_same_on_one_thread_and_on_three() {
        let frame = Frame { nodes: 5..=6, days: 2 };
        let sets = [1, 3].map(|threads| run(4, 6, &frame, Some(threads)));
        let [one, three] = sets.map(|set| (set.trace, set.faults, set.violations, set.node_ms));
        assert_eq!(one, three);
    }

    /// What is never injected proves nothing.
    #[test]
    fn every_kind_of_fault_is_hit_in_a_small_set() {
        let set = run(0, 16, &Frame { nodes: 8..=12, days: 8 }, None);
        assert_eq!(set.violations, []);
        let unseen = Fault::ALL.iter().filter(|fault| set.faults.of(**fault) == 0);
        assert_eq!(unseen.collect::<Vec<_>>(), Vec::<&Fault>::new());
    }

    #[test]
    fn a_set_that_is_run_twice_is_the_same_and_names_the_seeds_that_are_not() {
        let frame = Frame { nodes: 5..=6, days: 2 };
        let mut set = run_twice(4, 4, &frame, Some(1));
        assert!(set.is_good() && set.unequal.is_empty());
        set.unequal.push(3);
        assert!(!set.is_good());
        assert!(set.table().contains("replay 3 "));
    }

    #[test]
    fn a_whole_set_must_have_seen_everything_and_a_small_one_says_what_it_has_not() {
        let mut set = run(0, 1, &Frame { nodes: 5..=6, days: 1 }, Some(1));
        assert!(!set.unseen().is_empty() && set.is_good());
        (set.seeds, set.frame) = (WHOLE_SEEDS, Frame::default());
        assert!(!set.is_good());
        Fault::ALL.iter().for_each(|fault| set.faults.count(*fault));
        evil::names().for_each(|name| set.acts.count(name));
        Rare::ALL.iter().for_each(|branch| set.rare.count(*branch));
        REJECTS.iter().for_each(|reject| set.rejects.count(reject.name()));
        let enough = Demanded { met: 1_000, ..Demanded::default() };
        let [puts, owners, newcomers, replicas] = [(); 4].map(|()| enough.clone());
        let [heads, snapshots, blame] = [(); 3].map(|()| enough.clone());
        set.ending = Ending { puts, owners, newcomers, replicas, heads, snapshots, blame };
        assert!(set.is_good() && set.too_little().is_empty());
        set.ending.newcomers.excused.add(Excuse::NoCopy, 1_000);
        assert!(!set.is_good(), "half of it is excused");
        set.drawn = true;
        assert!(set.is_good(), "what was drawn may be as it likes");
    }
}
