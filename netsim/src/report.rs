//! What is printed of a set of worlds: a table for people, one line of JSON for programs.

use crate::runs::{Set, WHOLE_SEEDS};
use quloud::core::types::Time;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Broken promises that are printed.
const SHOWN_MAX: usize = 20;

/// A moment of a world: days, hours, minutes, seconds, milliseconds.
pub(crate) fn clock(time: Time) -> String {
    let Time(ms) = time;
    let (s, m, h, d) = (ms / 1_000 % 60, ms / 60_000 % 60, ms / 3_600_000 % 24, ms / 86_400_000);
    format!("{d:>3}d {h:02}:{m:02}:{s:02}.{:03}", ms % 1_000)
}

impl Set {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let years = self.node_years();
        let nodes = self.frame.nodes.clone();
        let _ = writeln!(
            out,
            "{} worlds of {} to {} nodes and {} days: {years:.1} node-years, {} events",
            self.seeds,
            nodes.start(),
            nodes.end(),
            self.frame.days,
            self.events
        );
        let _ = writeln!(
            out,
            "{} chunks stored, {} fetched again at the end, {} faults of {} kinds",
            self.chunks,
            self.fetched,
            self.faults.total(),
            self.faults.iter().count()
        );
        columns(
            &mut out,
            "faults",
            &self.faults.iter().map(|(f, n)| (f.name(), n)).collect::<Vec<_>>(),
        );
        columns(&mut out, "rejects", &self.rejects.iter().collect::<Vec<_>>());
        let rare: Vec<_> = self.rare.iter().map(|(branch, n)| (branch.name(), n)).collect();
        columns(&mut out, "rare", &rare);
        self.show_unseen(&mut out);
        let days = years * 365.0;
        let per_day = |count: u64| if days > 0.0 { count as f64 / days } else { 0.0 };
        let _ = writeln!(
            out,
            "each node sent a day: {:.0} copies of gossip ({:.1} kB), {:.0} frames ({:.1} kB)",
            per_day(self.traffic.gossip_copies),
            per_day(self.traffic.gossip_bytes) / 1e3,
            per_day(self.traffic.frames),
            per_day(self.traffic.frame_bytes) / 1e3,
        );
        let _ = writeln!(out, "trace {}", self.trace);
        for (seed, what) in self.violations.iter().take(SHOWN_MAX) {
            let _ = writeln!(out, "BROKEN  {what}\n        again: {}", self.again(*seed));
        }
        for seed in self.unequal.iter().take(SHOWN_MAX) {
            let again = self.again(*seed);
            let _ = writeln!(out, "UNEQUAL when it was run again\n        again: {again}");
        }
        let verdict = match self.violations.len() {
            0 => "no promise was broken".to_owned(),
            1 => "1 promise was broken".to_owned(),
            many => format!("{many} promises were broken"),
        };
        let _ = write!(out, "{verdict}");
        out
    }

    fn show_unseen(&self, out: &mut String) {
        let unseen = self.unseen();
        let _ = match (unseen.is_empty(), self.is_whole()) {
            (true, _) => writeln!(out, "every fault and every rare branch was seen"),
            (false, true) => writeln!(out, "NEVER SEEN in a whole set:"),
            (false, false) => writeln!(
                out,
                "never seen (a whole set has {WHOLE_SEEDS} worlds of the default frame):"
            ),
        };
        for (name, shows) in unseen {
            let _ = writeln!(out, "  {name:<28}{shows}");
        }
    }

    /// The line that runs a world again.
    fn again(&self, seed: u64) -> String {
        let nodes = self.frame.nodes.clone();
        format!(
            "cargo run --release -p quloud-netsim -- replay {seed} --nodes {}..{} --days {}",
            nodes.start(),
            nodes.end(),
            self.frame.days
        )
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let broken: Vec<Value> = self
            .violations
            .iter()
            .map(|(seed, what)| json!({ "seed": seed, "what": what, "again": self.again(*seed) }))
            .collect();
        let seconds = self.took.as_secs_f64();
        json!({
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "node_years": self.node_years(),
            "events": self.events,
            "chunks": self.chunks,
            "fetched": self.fetched,
            "faults": self.faults.total(),
            "faults_by_kind": counts(self.faults.iter().map(|(f, count)| (f.name(), count))),
            "rejects": counts(self.rejects.iter()),
            "rare": counts(self.rare.iter().map(|(branch, count)| (branch.name(), count))),
            "unseen": self.unseen().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            "unequal": self.unequal,
            "gossip_bytes": self.traffic.gossip_bytes,
            "frame_bytes": self.traffic.frame_bytes,
            "violations": self.violations.len(),
            "broken": broken,
            "trace_hash": self.trace,
            "timing": {
                "seconds": seconds,
                "seeds_per_second": self.seeds as f64 / seconds.max(1e-9),
            },
        })
        .to_string()
    }
}

fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Value {
    Value::Object(
        counts.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>(),
    )
}

fn columns(out: &mut String, title: &str, counts: &[(&str, u64)]) {
    if counts.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}:");
    for row in counts.chunks(3) {
        for (name, count) in row {
            let _ = write!(out, "  {name:<28}{count:>10}");
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Frame;
    use crate::runs;

    #[test]
    fn json_is_one_line_with_the_clock_apart() {
        let frame = Frame { nodes: 5..=6, days: 1 };
        let mut lines = [(); 2].map(|()| {
            let line = runs::run(3, 2, &frame, Some(1)).json();
            serde_json::from_str::<Value>(&line).unwrap()
        });
        assert!(
            lines.iter_mut().all(|line| line.as_object_mut().unwrap().remove("timing").is_some())
        );
        let [one, two] = lines;
        assert_eq!(one, two);
        for key in ["seeds", "node_years", "faults", "violations", "trace_hash"] {
            assert!(one.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_broken_promise_is_shown_with_the_line_that_shows_it_again() {
        let mut set = runs::run(3, 1, &Frame { nodes: 5..=6, days: 1 }, Some(1));
        set.violations.push((3, "a promise".to_owned()));
        let again = "replay 3 --nodes 5..6 --days 1";
        assert!(set.table().contains(again) && set.json().contains(again));
        assert_eq!(clock(Time(90_061_001)), "  1d 01:01:01.001");
    }
}
