//! What is printed of a search: a table for people, one line of JSON for programs.

use super::staged::Played;
use super::{Hunt, Mutants};
use crate::plan::Frame;
use crate::plant::is_staged;
use serde_json::{Value, json};
use std::fmt::Write;

impl Hunt {
    /// One line: how the search ended.
    pub(crate) fn line(&self) -> String {
        let (name, seconds) = (self.bug.name(), self.took.as_secs_f64());
        match &self.found {
            Some(find) => {
                let seeds = find.seeds();
                format!("{name:<26}{seeds:>6} {seconds:>8.1} s  {}", find.property)
            }
            None => {
                let what = if is_staged(self.bug) { "not found in worlds" } else { "NOT FOUND" };
                format!("{name:<26}{:>6} {seconds:>8.1} s  {what}", "-")
            }
        }
    }

    /// What runs the world again that shows the bug.
    fn again(&self, frame: &Frame) -> Option<String> {
        let seed = self.found.as_ref()?.seed;
        let (from, to) = (frame.nodes.start(), frame.nodes.end());
        let (days, name) = (frame.days, self.bug.name());
        Some(format!("replay {seed} --plant {name} --nodes {from}..{to} --days {days}"))
    }

    fn json(&self, frame: &Frame) -> Value {
        json!({
            "name": self.bug.name(),
            "breaks": self.bug.breaks(),
            "seeds": self.seeds(),
            "seed": self.found.as_ref().map(|find| find.seed),
            "property": self.found.as_ref().map(|find| find.property.as_str()),
            "what": self.found.as_ref().map(|find| find.what.as_str()),
            "again": self.again(frame),
            "broken_anyway": self.broken_anyway,
        })
    }
}

impl Played {
    /// One line: whether its scenario shows it.
    pub(super) fn line(&self) -> String {
        let (name, seconds) = (self.bug.name(), self.took.as_secs_f64());
        let what = match (&self.broken_anyway, &self.broken) {
            (Some(what), _) => format!("BROKEN WITHOUT IT TOO: {what}"),
            (None, Some(find)) => find.property.clone(),
            (None, None) => "NOT FOUND".to_owned(),
        };
        let scenario = self.scenario;
        format!("{name:<26}{:>6} {seconds:>8.1} s  {scenario}: {what}", "-")
    }

    /// What plays the scenario again that shows the bug.
    fn again(&self) -> Option<String> {
        let (scenario, name) = (self.scenario, self.bug.name());
        self.find().map(|_| format!("scenario {scenario} --plant {name}"))
    }

    fn json(&self) -> Value {
        let find = self.find();
        json!({
            "scenario": self.scenario,
            "name": self.bug.name(),
            "shown": find.is_some(),
            "property": find.map(|find| find.property.as_str()),
            "what": find.map(|find| find.what.as_str()),
            "again": self.again(),
            "broken_anyway": self.broken_anyway,
        })
    }
}

impl Mutants {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{:<26}{:>6} {:>8}    caught by\n", "bug", "seeds", "core");
        for line in self.hunts.iter().map(Hunt::line).chain(self.played.iter().map(Played::line)) {
            let _ = writeln!(out, "{line}");
        }
        out.push_str(
            "\nagain, after cargo run --release -p quloud-netsim --features planted-bugs --",
        );
        let drawn = self.hunts.iter().filter_map(|hunt| hunt.again(&self.frame));
        for again in drawn.chain(self.played.iter().filter_map(Played::again)) {
            let _ = write!(out, "\n  {again}");
        }
        for hunt in self.hunts.iter().filter(|hunt| !hunt.broken_anyway.is_empty()) {
            let (name, seeds) = (hunt.bug.name(), &hunt.broken_anyway);
            let _ = write!(out, "\nbroken without {name} too, and not counted: seeds {seeds:?}");
        }
        let found = self.seeds();
        let alone = self.played.iter().filter(|played| played.is_alone());
        let _ = write!(out, "\n\n{} of {} found", self.found(), self.due().count() + alone.count());
        if let (Some(median), Some(worst)) = (median(&found), found.last()) {
            let _ = write!(out, "; seeds to find one: {median} in the median, {worst} at worst");
        }
        let _ = write!(out, " ({:.0} s)", self.took.as_secs_f64());
        out
    }

    /// How many bugs were found: in drawn worlds, or by scenarios where nothing else has to.
    fn found(&self) -> usize {
        let alone = self.played.iter().filter(|played| played.is_alone() && played.is_found());
        self.seeds().len() + alone.count()
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let found = self.seeds();
        let seconds = |hunt: &Hunt| (hunt.bug.name().to_owned(), hunt.took.as_secs_f64().into());
        json!({
            "mutants": self.hunts.iter().map(|hunt| hunt.json(&self.frame)).collect::<Vec<_>>(),
            "scenarios": self.played.iter().map(Played::json).collect::<Vec<_>>(),
            "found": self.found(),
            "median": median(&found),
            "worst": found.last(),
            "max_seeds": self.seeds_max,
            "timing": {
                "seconds": self.took.as_secs_f64(),
                "core_seconds": Value::Object(self.hunts.iter().map(seconds).collect()),
            },
        })
        .to_string()
    }
}

/// The one in the middle.
fn median(sorted: &[u64]) -> Option<u64> {
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::Find;
    use super::*;
    use quloud::planted::Bug;
    use std::time::Duration;

    #[test]
    fn report_says_how_many_worlds_each_bug_took_and_how_to_see_it() {
        let frame = Frame { nodes: 4..=8, days: 10 };
        let mut hunts: Vec<Hunt> = Bug::ALL.iter().take(2).map(|bug| Hunt::of(*bug)).collect();
        let (property, what) = ("a promise".to_owned(), "after 1d: a promise: x".to_owned());
        hunts[0].found = Some(Find { seed: 6, property, what });
        let took = Duration::from_secs(1);
        let broken = Some(Find { seed: 1, property: "a promise".to_owned(), what: String::new() });
        let (bug, broken_anyway) = (Bug::LeaveNames, None);
        let played = vec![Played { bug, scenario: "lost-name", broken_anyway, broken, took }];
        let mutants = Mutants { hunts, played, frame, seeds_max: 9, took };
        let again = format!("replay 6 --plant {} --nodes 4..8 --days 10", Bug::ALL[0].name());
        let table = mutants.table();
        assert!(table.contains(&again) && table.contains("2 of 3 found"), "{table}");
        assert!(table.contains("NOT FOUND"), "{table}");
        assert!(table.contains("scenario lost-name --plant leave-names"), "{table}");
        let json: Value = serde_json::from_str(&mutants.json()).unwrap();
        assert_eq!(
            (&json["found"], &json["worst"], &json["median"]),
            (&2.into(), &6.into(), &6.into())
        );
        assert_eq!(json["mutants"][1]["seed"], Value::Null);
    }
}
