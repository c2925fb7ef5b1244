//! A simulated mesh of real roles over real stores, in virtual time.
//!
//! One number, the seed, decides everything that happens in a world; the same number gives the same
//! trace hash on every machine. A broken promise is reported with the line that shows it again.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod agenda;
mod catalogue;
mod chance;
mod clock;
mod disk;
mod durability;
mod ending;
mod evil;
mod limits;
mod mutants;
mod net;
mod node;
mod oracle;
mod picture;
mod plan;
mod plant;
mod progress;
mod report;
mod runs;
mod scale;
mod scenario;
mod sometimes;
mod tally;
mod timeline;
mod world;

use clap::{Args, Parser, Subcommand, value_parser};
use plan::Frame;
use quloud::planted::Bug;
use report::say;
use scenario::show::ScenarioArgs;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Simulates meshes of real Quloud nodes: every fault, replayable from a seed.
#[derive(Debug, Parser)]
#[command(name = "quloud-netsim", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run many worlds, and say what was done to them and whether a promise was broken
    ///
    /// Exits with 1 where one was; each is shown with the line that runs its world again. So it
    /// does where a fixed set of 400 worlds or more of the default frame leaves a fault or a rare
    /// branch unseen, or excuses too much.
    Run {
        /// How many worlds
        #[arg(long, default_value_t = 100, value_parser = value_parser!(u64).range(1..))]
        seeds: u64,
        /// The seed of the first world; the others follow
        #[arg(long, default_value_t = 0, conflicts_with = "fresh")]
        first_seed: u64,
        /// Draw seeds that were never run before, instead of a fixed set
        #[arg(long)]
        fresh: bool,
        /// Worlds at a time; by default one per core
        #[arg(long)]
        threads: Option<NonZeroUsize>,
        /// Run every world twice, the second time on another number of threads, and exit with 1
        /// where one is not the same
        #[arg(long)]
        twice: bool,
        #[command(flatten)]
        frame: FrameArgs,
        /// Print one JSON object as the last line
        #[arg(long)]
        json: bool,
        /// Draw the first world that breaks a promise, or else the first one, into this file (SVG)
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Run one world again, event by event
    Replay {
        /// Its seed
        seed: u64,
        #[command(flatten)]
        frame: FrameArgs,
        /// Print one JSON object instead of the events
        #[arg(long)]
        json: bool,
        /// Draw its time into this file (SVG)
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Plant bugs in the roles, and say how many worlds it takes to find each
    ///
    /// Exits with 1 where one was not found. Needs a build with the feature planted-bugs.
    Mutants(MutantsArgs),
    /// Measure what a mesh costs its members as it grows, with shards and without
    ///
    /// Prints a table in Markdown: control traffic per node, what an owner sends per chunk, and how
    /// long a put and a new replica take.
    Scale(scale::ScaleArgs),
    /// Simulate how often a chunk loses all replicas, with the windows of audits and repairs
    ///
    /// Prints a table in Markdown, beside the usual formula. It is a simulation of failures alone.
    Durability(durability::DurabilityArgs),
    /// Play a small world by its script: what was found once, and what teaches
    ///
    /// Tells the story first. Exits with 1 where it does not end as it has to.
    Scenario(ScenarioArgs),
}

#[derive(Debug, Args)]
struct MutantsArgs {
    /// The most worlds for one bug
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..))]
    max_seeds: u64,
    /// Look for this bug; may be given several times [default: all]
    #[arg(long = "bug", value_name = "NAME", value_parser = plant::parse)]
    bugs: Vec<Bug>,
    /// Look in drawn worlds for those, too, that only scenarios have to show
    #[arg(long)]
    hunt: bool,
    /// Worlds at a time; by default one per core
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// How many nodes a world has, from..to
    #[arg(long, default_value = "4..10", value_parser = parse_range)]
    nodes: RangeInclusive<usize>,
    /// How many days it runs
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=3_650))]
    days: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl MutantsArgs {
    fn run(self) -> ExitCode {
        let bugs = if self.bugs.is_empty() { plant::BUGS.to_vec() } else { self.bugs };
        if bugs.is_empty() {
            eprintln!("{}", plant::HOW_TO_BUILD);
            return ExitCode::from(2);
        }
        let frame = Frame { nodes: self.nodes, days: self.days };
        let tell = |line: &str| eprintln!("{line}");
        let threads = self.threads.map(usize::from);
        let mutants = mutants::run((&bugs, self.hunt), self.max_seeds, &frame, threads, &tell);
        say(if self.json { mutants.json() } else { mutants.table() });
        mutants.exit_code()
    }
}

/// The frame of the worlds. A seed means the same world only within the same frame.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct FrameArgs {
    /// How many nodes a world has, from..to
    #[arg(long, default_value = "5..30", value_parser = parse_range)]
    nodes: RangeInclusive<usize>,
    /// How many days it runs
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u64).range(1..=3_650))]
    days: u64,
    /// Run them with this planted bug, in a build that has them
    #[arg(long, value_name = "NAME", value_parser = plant::parse)]
    plant: Option<Bug>,
}

impl FrameArgs {
    fn frame(&self) -> Frame {
        Frame { nodes: self.nodes.clone(), days: self.days }
    }
}

fn parse_range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let number = |part: &str| part.parse::<usize>().map_err(|_| format!("{part:?} is no number"));
    let (from, to) = (number(from)?, number(to)?);
    if from < 2 || to < from || to > 1_000 {
        return Err("a world has 2..1000 nodes, the smaller number first".to_owned());
    }
    Ok(from..=to)
}

fn main() -> ExitCode {
    match Cli::parse().task {
        Task::Mutants(mutants) => mutants.run(),
        Task::Scale(scale) => scale.run(),
        Task::Durability(durability) => durability.run(),
        Task::Scenario(scenario) => scenario.run(),
        Task::Run { seeds, first_seed, fresh, threads, twice, frame, json, svg } => {
            let threads = threads.map(usize::from);
            plant::plant(frame.plant);
            let first = if fresh { runs::fresh_seed() } else { first_seed };
            let run = if twice { runs::run_twice } else { runs::run };
            let mut set = run(first, seeds, &frame.frame(), threads);
            set.drawn = fresh;
            say(if json { set.json() } else { set.table() });
            let shown = set.violations.first().map_or(first, |(seed, _)| *seed);
            finish(&set, svg.map(|file| draw(shown, &frame.frame(), &file)))
        }
        Task::Replay { seed, frame, json, svg } => {
            plant::plant(frame.plant);
            let set = replay(seed, &frame.frame(), json);
            say(if json { set.json() } else { set.table() });
            finish(&set, svg.map(|file| draw(seed, &frame.frame(), &file)))
        }
    }
}

/// Runs a world event by event.
fn replay(seed: u64, frame: &Frame, silent: bool) -> runs::Set {
    let started = Instant::now();
    let outcome = world::run(seed, frame, &mut |now, line| {
        if !silent {
            say(format_args!("{} {}", report::clock(now), line()));
        }
    });
    runs::Set::of_one(outcome, frame, started.elapsed())
}

/// Runs a world once more, for its picture.
fn draw(seed: u64, frame: &Frame, file: &Path) -> ExitCode {
    let (outcome, timeline) = world::film(seed, frame, &mut |_, _| {});
    let set = runs::Set::of_one(outcome.clone(), frame, Duration::ZERO);
    picture::save(file, &picture::of_seed(&set, &outcome, &timeline))
}

/// What is wrong with the set counts for more than a picture that could not be written.
fn finish(set: &runs::Set, picture: Option<ExitCode>) -> ExitCode {
    picture.filter(|_| set.is_good()).unwrap_or(set.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_what_to_run() {
        Cli::try_parse_from(["netsim", "run", "--seeds", "3", "--nodes", "5..9"]).unwrap();
        Cli::try_parse_from(["netsim", "replay", "42", "--days", "7", "--json"]).unwrap();
        Cli::try_parse_from(["netsim", "scenario", "lost-name", "--svg", "a.svg"]).unwrap();
        Cli::try_parse_from(["netsim", "scenario", "--list"]).unwrap();
        Cli::try_parse_from(["netsim", "mutants", "--hunt", "--max-seeds", "5"]).unwrap();
        Cli::try_parse_from(["netsim", "scenario", "--all"]).unwrap();
        Cli::try_parse_from(["netsim", "scale", "--nodes", "10,1000", "--json"]).unwrap();
        for wrong in [
            vec!["netsim"],
            vec!["netsim", "scale", "--nodes", "1"],
            vec!["netsim", "run", "--nodes", "9..5"],
            vec!["netsim", "run", "--nodes", "1..5"],
            vec!["netsim", "run", "--fresh", "--first-seed", "3"],
            vec!["netsim", "replay"],
            vec!["netsim", "scenario"],
            vec!["netsim", "scenario", "nobody-knows-it"],
            vec!["netsim", "scenario", "lost-name", "--all"],
        ] {
            assert!(Cli::try_parse_from(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse_range("7"), Ok(7..=7));
    }
}
