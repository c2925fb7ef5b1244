//! Sets of worlds, some at a time.

use crate::net::Traffic;
use crate::plan::Frame;
use crate::tally::{Fault, Tally};
use crate::world::{self, Outcome};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a set of worlds came to.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    pub(crate) frame: Frame,
    /// Simulated time of all nodes together, in milliseconds.
    pub(crate) node_ms: u128,
    pub(crate) events: u64,
    pub(crate) chunks: u64,
    pub(crate) fetched: u64,
    pub(crate) faults: Tally<Fault>,
    pub(crate) rejects: Tally<&'static str>,
    pub(crate) rare: Tally<&'static str>,
    pub(crate) traffic: Traffic,
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(cores).max(1);
    let bar = progress(seeds);
    let (next, outcomes) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    let outcome = world::run(seed, frame, &mut |_, _| {});
                    bar.inc(1);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.insert(number, outcome);
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Set::of(first, outcomes.into_values(), frame, started.elapsed())
}

fn progress(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seeds);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = "{bar:30} {pos} of {len} worlds, {per_sec}, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()))
}

impl Set {
    /// One world.
    pub(crate) fn of_one(outcome: Outcome, frame: &Frame) -> Self {
        Self::of(outcome.seed, std::iter::once(outcome), frame, Duration::ZERO)
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
            frame: frame.clone(),
            node_ms: 0,
            events: 0,
            chunks: 0,
            fetched: 0,
            faults: Tally::default(),
            rejects: Tally::default(),
            rare: Tally::default(),
            traffic: Traffic::default(),
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
        self.faults.merge(&outcome.faults);
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

    /// Kinds of faults that no world of this set has seen.
    pub(crate) fn unseen(&self) -> Vec<&'static str> {
        let unseen = Fault::ALL.iter().filter(|fault| self.faults.of(**fault) == 0);
        unseen.map(|fault| fault.name()).collect()
    }

    /// 1 where a promise was broken.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.violations.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_same_on_one_thread_and_on_three() {
        let frame = Frame { nodes: 5..=6, days: 2 };
        let sets = [1, 3].map(|threads| run(0, 6, &frame, Some(threads)));
        let [one, three] = sets.map(|set| (set.trace, set.faults, set.violations, set.node_ms));
        assert_eq!(one, three);
    }

    /// What is never injected proves nothing.
    #[test]
    fn every_kind_of_fault_is_hit_in_a_small_set() {
        let set = run(0, 40, &Frame { nodes: 5..=10, days: 10 }, None);
        assert_eq!(set.violations, []);
        assert_eq!(set.unseen(), Vec::<&str>::new());
    }
}
