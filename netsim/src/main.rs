//! A simulated mesh of real roles in virtual time.
//!
//! ```text
//! quloud-netsim run [--seeds N] [--first-seed K] [--json]   N worlds, one after another
//! quloud-netsim replay SEED [--json]                        one world, event by event
//! ```
//! One number decides everything that happens in a world; the same number gives the same trace
//! hash. It exits with 1 where a promise was broken, and then says how to see it again.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod disk;
mod net;
mod node;
mod plan;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use world::Outcome;

const USAGE: &str = "usage: quloud-netsim run [--seeds N] [--first-seed K] [--json]
       quloud-netsim replay SEED [--json]";

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Run { first_seed: u64, seeds: u64, json: bool },
    Replay { seed: u64, json: bool },
    Help,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Some(Task::Run { first_seed, seeds, json }) => run(first_seed, seeds, json),
        Some(Task::Replay { seed, json }) => replay(seed, json),
        Some(Task::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Option<Task> {
    let mut arguments = arguments.peekable();
    match arguments.next()?.as_str() {
        "run" => {
            let (mut first_seed, mut seeds, mut json) = (0, 100, false);
            while let Some(flag) = arguments.next() {
                match flag.as_str() {
                    "--seeds" => seeds = arguments.next()?.parse().ok()?,
                    "--first-seed" => first_seed = arguments.next()?.parse().ok()?,
                    "--json" => json = true,
                    _ => return None,
                }
            }
            Some(Task::Run { first_seed, seeds, json })
        }
        "replay" => {
            let seed = arguments.next()?.parse().ok()?;
            let json = arguments.next_if_eq("--json").is_some();
            arguments.next().is_none().then_some(Task::Replay { seed, json })
        }
        "help" | "--help" | "-h" => Some(Task::Help),
        _ => None,
    }
}

fn run(first_seed: u64, seeds: u64, json: bool) -> ExitCode {
    let mut bad = 0u64;
    for seed in first_seed..first_seed.saturating_add(seeds) {
        let outcome = world::run(seed, &mut |_| {});
        bad += u64::from(!outcome.violations.is_empty());
        report(&outcome, json);
    }
    if !json {
        println!("{seeds} worlds, {bad} with a broken promise");
    }
    ExitCode::from(u8::from(bad > 0))
}

fn replay(seed: u64, json: bool) -> ExitCode {
    let outcome = world::run(seed, &mut |line| {
        if !json {
            println!("{line}");
        }
    });
    report(&outcome, json);
    ExitCode::from(u8::from(!outcome.violations.is_empty()))
}

fn report(outcome: &Outcome, json: bool) {
    if json {
        println!("{}", as_json(outcome));
        return;
    }
    let Outcome { seed, plan, trace, events, elapsed_ms, violations, .. } = outcome;
    let verdict = if violations.is_empty() { "good" } else { "BAD " };
    println!(
        "{verdict} seed {seed}: {} holders, {} x {} chunks, {events} events, {} s, trace {trace}",
        plan.holders,
        plan.replicas,
        plan.chunks,
        elapsed_ms / 1_000,
    );
    for violation in violations {
        println!("     {violation}");
    }
    if !violations.is_empty() {
        println!("     again: cargo run -p quloud-netsim -- replay {seed}");
    }
}

/// One line of JSON. All texts in it are ours and hold no control characters.
fn as_json(outcome: &Outcome) -> String {
    let Outcome { seed, plan, violations, trace, events, elapsed_ms, rejects, faults } = outcome;
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let violations: Vec<String> = violations.iter().map(|text| quoted(text)).collect();
    let counts = |counts: &BTreeMap<&str, u64>| {
        let one = |(name, count): (&&str, &u64)| format!("{}:{count}", quoted(name));
        format!("{{{}}}", counts.iter().map(one).collect::<Vec<_>>().join(","))
    };
    format!(
        "{{\"seed\":{seed},\"good\":{},\"holders\":{},\"replicas\":{},\"chunks\":{},\
         \"events\":{events},\"elapsed_ms\":{elapsed_ms},\"trace\":{},\"rejects\":{},\
         \"faults\":{},\"violations\":[{}]}}",
        violations.is_empty(),
        plan.holders,
        plan.replicas,
        plan.chunks,
        quoted(trace),
        counts(rejects),
        counts(faults),
        violations.join(","),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Task> {
        parse(text.split_whitespace().map(String::from))
    }

    #[test]
    fn arguments_say_what_to_run() {
        assert_eq!(parsed("run"), Some(Task::Run { first_seed: 0, seeds: 100, json: false }));
        let all = Task::Run { first_seed: 7, seeds: 3, json: true };
        assert_eq!(parsed("run --json --seeds 3 --first-seed 7"), Some(all));
        assert_eq!(parsed("replay 42"), Some(Task::Replay { seed: 42, json: false }));
        assert_eq!(parsed("replay 42 --json"), Some(Task::Replay { seed: 42, json: true }));
        assert_eq!(parsed("--help"), Some(Task::Help));
        for wrong in
            ["", "run --seeds", "run --seeds x", "run 3", "replay", "replay x", "replay 1 2"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn json_is_one_well_formed_line() {
        let mut outcome = world::run(3, &mut |_| {});
        outcome.violations.push("a \"quoted\" \\ word".into());
        let line = as_json(&outcome);
        assert!(line.starts_with("{\"seed\":3,\"good\":false,") && !line.contains('\n'));
        assert!(line.ends_with("\"violations\":[\"a \\\"quoted\\\" \\\\ word\"]}"), "{line}");
    }

    #[test]
    fn same_seed_has_the_same_trace() {
        for seed in 0..5 {
            let runs = [(); 2].map(|()| world::run(seed, &mut |_| {}));
            assert_eq!(runs[0], runs[1]);
        }
        let traces = [1, 2].map(|seed| world::run(seed, &mut |_| {}).trace);
        assert_ne!(traces[0], traces[1]);
    }

    #[test]
    fn nothing_acknowledged_is_lost_in_fifty_worlds() {
        let mut faults = BTreeMap::new();
        for seed in 0..50 {
            let outcome = world::run(seed, &mut |_| {});
            assert_eq!(outcome.violations, Vec::<String>::new(), "replay {seed}");
            for (fault, count) in outcome.faults {
                *faults.entry(fault).or_insert(0) += count;
            }
        }
        let kinds = ["crashed", "cut", "doubled", "late", "lost", "write failed"];
        assert_eq!(faults.keys().copied().collect::<Vec<_>>(), kinds);
        assert!(faults.values().all(|count| *count >= 5), "too kind: {faults:?}");
    }
}
