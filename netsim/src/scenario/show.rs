//! Scenarios on the command line.

use super::{ALL, Scenario};
use crate::picture::{self, Caption};
use crate::plant;
use crate::report::{clock, command, say};
use crate::world::{Outcome, SCRIPTED};
use clap::Args;
use clap::builder::PossibleValuesParser;
use quloud::planted::Bug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// How wide a story is printed.
const WIDTH: usize = 88;

/// Which scenario, and how much of it is shown.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// Its name
    #[arg(value_parser = names(), required_unless_present_any = ["list", "all"])]
    name: Option<String>,
    /// List all scenarios
    #[arg(long, conflicts_with_all = ["name", "all"])]
    list: bool,
    /// Run all of them, a line each
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Show everything that happens, and not only what the script says
    #[arg(long, conflicts_with_all = ["list", "all"])]
    events: bool,
    /// Throw other dice: the script is the same
    #[arg(long, default_value_t = 1, conflicts_with = "list")]
    seed: u64,
    /// Draw its time into this file (SVG)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "all"])]
    svg: Option<PathBuf>,
    /// Play it with this planted bug, in a build that has them
    #[arg(long, value_name = "NAME", value_parser = plant::parse, conflicts_with = "list")]
    plant: Option<Bug>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|scenario| scenario.name))
}

impl ScenarioArgs {
    /// Does it; 1 where a scenario failed, 2 where a picture could not be written.
    pub(crate) fn run(self) -> ExitCode {
        if self.list {
            ALL.iter()
                .for_each(|scenario| say(format_args!("{:<24}{}", scenario.name, scenario.title)));
            return ExitCode::SUCCESS;
        }
        plant::plant(self.plant);
        let one = self.name.as_deref().and_then(Scenario::named);
        match one {
            Some(scenario) => scenario.tell(self.seed, self.events, self.svg.as_deref()),
            None => {
                let failed = ALL.iter().filter(|scenario| !scenario.check(self.seed)).count();
                ExitCode::from(u8::from(failed > 0))
            }
        }
    }
}

impl Scenario {
    /// The story, what happens, and whether it ended as it has to.
    fn tell(&self, seed: u64, events: bool, svg: Option<&Path>) -> ExitCode {
        say(format_args!("{}: {}\n\n{}\n", self.name, self.title, filled(self.story)));
        let started = Instant::now();
        let (outcome, timeline) = self.film(seed, &mut |now, line| {
            let line = line();
            let told = line.strip_prefix(SCRIPTED);
            if events || told.is_some() {
                say(format_args!("{}  {}", clock(now), told.filter(|_| !events).unwrap_or(&line)));
            }
        });
        say(format_args!("\n{}", sum(&outcome)));
        let mut drawn = ExitCode::SUCCESS;
        if let Some(file) = svg {
            let title = format!("{}: {}", self.name, self.title);
            let caption = Caption { title: &title, again: &self.again(seed) };
            drawn = picture::save(file, &picture::draw(caption, &outcome, &timeline));
        }
        if self.verdict(&outcome, started) { drawn } else { ExitCode::from(1) }
    }

    fn check(&self, seed: u64) -> bool {
        let started = Instant::now();
        let outcome = self.play(seed, &mut |_, _| {});
        self.verdict(&outcome, started)
    }

    fn again(&self, seed: u64) -> String {
        let dice = if seed == 1 { String::new() } else { format!(" --seed {seed}") };
        command(&format!("scenario {}{dice}", self.name))
    }

    /// The last line.
    fn verdict(&self, outcome: &Outcome, started: Instant) -> bool {
        outcome.violations.iter().for_each(|what| say(format_args!("BROKEN  {what}")));
        let passed = outcome.violations.is_empty();
        say(format_args!(
            "{}  {:<24}{:>6.2} s  {}",
            if passed { "PASS" } else { "FAIL" },
            self.name,
            started.elapsed().as_secs_f64(),
            self.again(outcome.seed)
        ));
        passed
    }
}

fn sum(outcome: &Outcome) -> String {
    let faults = outcome.faults.iter().map(|(fault, count)| format!("{count} {}", fault.name()));
    let faults = faults.collect::<Vec<_>>().join(", ");
    filled(&format!(
        "{} nodes, {:.1} days, {} events; {} chunks stored, {} fetched again at the end. Faults: \
         {}. Trace {}.",
        outcome.plan.nodes,
        outcome.elapsed.as_secs_f64() / 86_400.0,
        outcome.events,
        outcome.chunks,
        outcome.fetched,
        if faults.is_empty() { "none" } else { &faults },
        outcome.trace
    ))
}

/// The text in lines that fit.
fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut wide = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if wide > 0 && wide + 1 + length > WIDTH {
            out.push('\n');
            wide = 0;
        } else if wide > 0 {
            out.push(' ');
            wide += 1;
        }
        out.push_str(word);
        wide += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_filled() {
        for scenario in ALL {
            assert!(filled(scenario.story).lines().all(|line| line.len() <= WIDTH));
        }
        assert_eq!(filled("a  b"), "a b");
    }
}
