//! How long replicas last: chunks that are lost in a year, by disks that fail at a given rate and
//! by the windows in which audits notice it and a replica is made again.
//!
//! This is no world: it is a simulation of the failures alone, with the windows of the real rules,
//! since a world with chunks enough to lose some would take years. Each chunk has N holders of its
//! own. A disk that fails loses its replica at once; its node comes back with an empty disk and
//! says so in the next daily audit, or never comes back and is silent for as long as the grace
//! lasts. Beside what was counted stands the usual formula, N * lambda * (lambda * W)^(N - 1), with
//! the mean window that was measured. It takes a second failure within the window of the first for
//! certain to be in time for one repair alone; what is left out there makes it an upper bound.

use crate::report::{command, grouped, say};
use clap::Args;
use quloud::repo::grace::{ONE_S, TWO_S};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::process::ExitCode;

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;

/// A holder is audited once a day, at any time of it.
const AUDIT_EVERY_S: u64 = DAY_S;

/// How long it takes until the new replica is stored, and proven.
const REPAIR_S: u64 = 3_600;

/// The fewest and the most replicas of the table.
const REPLICAS: std::ops::RangeInclusive<usize> = 2..=4;

/// What fails how often.
#[derive(Debug, Args)]
pub(crate) struct DurabilityArgs {
    /// Disks that fail in a year, in percent: far more than real ones, or nothing would be lost
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    failures: u64,
    /// Of these, those whose node never comes back, in percent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=100))]
    silent: u64,
    /// Years of a chunk that are simulated, for each number of replicas
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    years: u64,
    /// Throws other dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was counted for one number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    failures: u64,
    lost: u64,
    /// Of all failures that were repaired, the seconds until then.
    window_s: u64,
    repaired: u64,
}

impl DurabilityArgs {
    pub(crate) fn run(self) -> ExitCode {
        let Self { failures, silent, years, seed } = self;
        let lambda = failures as f64 / 100.0;
        say(format_args!(
            "Simulated failures alone, with the windows of the rules; no nodes, no messages.\n\
             {lambda} failures of a disk a year (accelerated), {silent} % of the nodes never come \
             back; an audit a day,\na grace of {} days where one is missing and of {} where more \
             are, {} s for a repair.\n",
            ONE_S / DAY_S,
            TWO_S / DAY_S,
            REPAIR_S
        ));
        say("| replicas | chunk-years | failures | lost | mean window | lost a year | formula |\n\
             |---:|---:|---:|---:|---:|---:|---:|");
        for replicas in REPLICAS {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let counted = simulate(&mut rng, replicas, (failures, silent), years);
            let window = counted.window_s as f64 / counted.repaired.max(1) as f64;
            let yearly = counted.lost as f64 / years as f64;
            say(format_args!(
                "| {replicas} | {} | {} | {} | {:.2} d | {yearly:.2e} | {:.2e} |",
                grouped(years),
                grouped(counted.failures),
                grouped(counted.lost),
                window / DAY_S as f64,
                formula(replicas, lambda, window / YEAR_S as f64)
            ));
        }
        let dice = if seed == 1 { String::new() } else { format!(" --seed {seed}") };
        let asked = format!("durability --failures {failures} --silent {silent} --years {years}");
        say(format_args!("\nagain  {}", command(&(asked + &dice))));
        ExitCode::SUCCESS
    }
}

/// N * lambda * (lambda * W)^(N - 1): losses of a chunk a year.
fn formula(replicas: usize, lambda: f64, window_years: f64) -> f64 {
    let others = i32::try_from(replicas.saturating_sub(1)).unwrap_or(i32::MAX);
    replicas as f64 * lambda * (lambda * window_years).powi(others)
}

/// A replica that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone {
    at_s: u64,
    /// When it is noticed: where its node is back with the audit that it answers, else with the
    /// first that it does not.
    noticed_s: u64,
    is_silent: bool,
}

impl Gone {
    /// When it is made again, if nothing else happens: with so many missing.
    fn repaired_s(&self, missing: usize) -> u64 {
        let grace_s = match (self.is_silent, missing) {
            (false, _) => 0,
            (true, 1) => ONE_S,
            (true, _) => TWO_S,
        };
        self.noticed_s + grace_s + REPAIR_S
    }
}

/// One chunk after the other, for so many years together.
fn simulate(
    rng: &mut impl Rng,
    replicas: usize,
    (failures, silent): (u64, u64),
    years: u64,
) -> Counted {
    let (mut counted, mut now_s) = (Counted::default(), 0_u64);
    let end_s = years.saturating_mul(YEAR_S);
    let mut gone: Vec<Gone> = Vec::new();
    while now_s < end_s {
        let there = replicas - gone.len();
        let fails_s = now_s.saturating_add(wait_s(rng, failures * there as u64));
        let missing = gone.len();
        let next = gone.iter().enumerate().map(|(at, it)| (it.repaired_s(missing), at)).min();
        match next {
            // The grace may have become shorter meanwhile.
            Some((repaired_s, at)) if repaired_s.max(now_s) <= fails_s => {
                now_s = repaired_s.max(now_s);
                let it = gone.swap_remove(at);
                counted.repaired += 1;
                counted.window_s += now_s - it.at_s;
            }
            _ => {
                now_s = fails_s;
                counted.failures += 1;
                let noticed_s = now_s + rng.random_range(0..AUDIT_EVERY_S);
                let is_silent = rng.random_range(0..100) < silent;
                gone.push(Gone { at_s: now_s, noticed_s, is_silent });
            }
        }
        if gone.len() == replicas {
            counted.lost += 1;
            gone.clear();
        }
    }
    counted
}

/// Until the next of so many failures in a hundred years.
fn wait_s(rng: &mut impl Rng, per_century: u64) -> u64 {
    let unit: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    let mean_s = YEAR_S as f64 * 100.0 / per_century.max(1) as f64;
    (-unit.ln() * mean_s) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yearly(replicas: usize, failures: u64) -> (f64, f64) {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let years = 20_000;
        let counted = simulate(&mut rng, replicas, (failures, 50), years);
        let window = counted.window_s as f64 / counted.repaired as f64 / YEAR_S as f64;
        (counted.lost as f64 / years as f64, formula(replicas, failures as f64 / 100.0, window))
    }

    #[test]
    fn more_replicas_lose_less_and_the_formula_is_of_that_order() {
        let (two, by_formula) = yearly(2, 100);
        assert!((by_formula / 3.0..by_formula * 1.5).contains(&two), "{two} {by_formula}");
        let (three, _) = yearly(3, 400);
        let (four, _) = yearly(4, 400);
        let (both, _) = yearly(2, 400);
        assert!(both > three && three > four, "{both} {three} {four}");
    }

    #[test]
    fn silent_holder_has_its_grace_and_a_second_loss_shortens_it() {
        let gone = Gone { at_s: 0, noticed_s: 100, is_silent: true };
        assert_eq!(gone.repaired_s(1), 100 + ONE_S + REPAIR_S);
        assert_eq!(gone.repaired_s(2), 100 + TWO_S + REPAIR_S);
        let empty = Gone { is_silent: false, ..gone };
        assert_eq!(empty.repaired_s(1), 100 + REPAIR_S);
    }
}
