//! What is printed of a set of worlds: a table for people, one line of JSON for programs.

use crate::plant::planted;
use crate::runs::{Set, WHOLE_SEEDS};
use crate::tally::Group;
use quloud::core::types::Time;
use serde_json::{Map, Value, json};
use std::fmt::{Display, Write};
use std::io::Write as _;

/// Broken promises that are printed.
const SHOWN_MAX: usize = 20;

/// Prints a line. Whoever does not listen any more (`| head`) is no reason to stop.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A moment of a world: days, hours, minutes, seconds, milliseconds.
pub(crate) fn clock(time: Time) -> String {
    let Time(ms) = time;
    let (s, m, h, d) = (ms / 1_000 % 60, ms / 60_000 % 60, ms / 3_600_000 % 24, ms / 86_400_000);
    format!("{d:>3}d {h:02}:{m:02}:{s:02}.{:03}", ms % 1_000)
}

/// The commit that this program is built from, with `-dirty` where its sources differ from it.
pub(crate) const COMMIT: &str = env!("NETSIM_COMMIT");

/// How wide a table may be, and the column of names at its left.
const WIDTH: usize = 100;
const LEFT: usize = 13;

impl Set {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        self.head(&mut out);
        self.ending(&mut out);
        let kinds = self.faults.iter().count();
        let _ = writeln!(out, "\n{} faults of {kinds} kinds", grouped(self.faults.total()));
        for group in Group::ALL {
            let faults = self.faults.iter().filter(|(fault, _)| fault.group() == group);
            let faults: Vec<_> = faults.map(|(fault, count)| (fault.name(), count)).collect();
            columns(&mut out, &format!("  {}", group.name()), &faults);
        }
        columns(&mut out, "deviations", &self.acts.iter().collect::<Vec<_>>());
        columns(&mut out, "rejects", &self.rejects.iter().collect::<Vec<_>>());
        let rare: Vec<_> = self.rare.iter().map(|(branch, n)| (branch.name(), n)).collect();
        columns(&mut out, "rare", &rare);
        self.show_unseen(&mut out);
        self.traffic(&mut out);
        let _ = writeln!(out, "{:<LEFT$}{}", "trace", self.trace);
        let _ = writeln!(out, "{:<LEFT$}{}\n", "again", self.again());
        for (seed, what) in self.violations.iter().take(SHOWN_MAX) {
            let _ = writeln!(out, "BROKEN  {what}\n  again {}\n", self.replay(*seed));
        }
        let more = self.violations.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            let _ = writeln!(out, "and {more} more\n");
        }
        for seed in self.unequal.iter().take(SHOWN_MAX) {
            let again = self.replay(*seed);
            let _ = writeln!(out, "UNEQUAL when it was run again\n  again {again}\n");
        }
        let _ = write!(out, "{}; {}", self.verdict(), self.speed());
        out
    }

    fn head(&self, out: &mut String) {
        let nodes = self.frame.nodes.clone();
        let last = self.first_seed.wrapping_add(self.seeds.saturating_sub(1));
        let seeds = match self.seeds {
            1 => format!("1 world, seed {last}"),
            many => format!("{} worlds, seeds {} to {last}", grouped(many), self.first_seed),
        };
        let _ = writeln!(
            out,
            "{seeds}, of {} to {} nodes and {} days; commit {COMMIT}",
            nodes.start(),
            nodes.end(),
            self.frame.days
        );
        let _ = writeln!(
            out,
            "{:.1} node-years, {} events, {} chunks stored, {} fetched again at the end",
            self.node_years(),
            grouped(self.events),
            grouped(self.chunks),
            grouped(self.fetched)
        );
    }

    /// What was demanded at the ends, and of how many chunks.
    fn ending(&self, out: &mut String) {
        let put = grouped(self.ending.puts.of());
        let promised = grouped(self.ending.replicas.of());
        let _ = writeln!(
            out,
            "\n{put} chunks put at the ends, {promised} promised: fetched by owners, by newcomers, \
             made again"
        );
        for (name, demanded) in self.ending.rows() {
            columns(out, &format!("  {name}"), &demanded.counts());
        }
        for (name, floor) in self.too_little() {
            let _ = writeln!(out, "TOO LITTLE is demanded of {name}: below {floor} in a thousand");
        }
    }

    fn traffic(&self, out: &mut String) {
        let days = self.node_years() * 365.0;
        let per_day = |count: u64| if days > 0.0 { count as f64 / days } else { 0.0 };
        let _ = writeln!(
            out,
            "{:<LEFT$}{:.0} copies of gossip ({:.1} kB), {:.0} frames ({:.1} kB) per node and day",
            "sent",
            per_day(self.traffic.gossip_copies),
            per_day(self.traffic.gossip_bytes) / 1e3,
            per_day(self.traffic.frames),
            per_day(self.traffic.frame_bytes) / 1e3,
        );
    }

    fn verdict(&self) -> String {
        let kept = match self.violations.len() {
            0 => "no promise was broken".to_owned(),
            1 => "1 promise was broken".to_owned(),
            many => format!("{many} promises were broken"),
        };
        let unequal = match self.unequal.len() {
            0 => String::new(),
            many => format!(", {many} worlds were not the same twice"),
        };
        let unseen = match self.unseen().len() {
            many if many > 0 && self.is_whole() => format!(", {many} branches were never taken"),
            _ => String::new(),
        };
        let little = match self.too_little().is_empty() {
            false => ", too little was demanded",
            true => "",
        };
        kept + &unequal + &unseen + little
    }

    fn speed(&self) -> String {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let rate = self.seeds as f64 / seconds;
        let years = self.node_years() / seconds;
        format!("{seconds:.1} s, {rate:.2} worlds and {years:.2} node-years a second")
    }

    /// The line that runs this set again.
    pub(crate) fn again(&self) -> String {
        let task = match self.seeds {
            1 => format!("replay {}", self.first_seed),
            many => format!("run --seeds {many} --first-seed {}", self.first_seed),
        };
        self.line(&task)
    }

    /// What a whole set must see is a fault of the set where it did not; of a small one it is not.
    fn show_unseen(&self, out: &mut String) {
        let unseen = self.unseen();
        if unseen.is_empty() {
            let _ = writeln!(out, "{:<LEFT$}every fault and every rare branch", "seen");
        } else if self.is_whole() {
            let _ = writeln!(out, "\nNEVER SEEN in a whole set");
            for (name, shows) in unseen {
                let _ = writeln!(out, "  {name}: {shows}");
            }
        } else {
            let _ = writeln!(
                out,
                "{:<LEFT$}{} kinds of faults and branches; a set of {WHOLE_SEEDS} shows all",
                "not seen",
                unseen.len()
            );
        }
    }

    /// The line that runs a world again.
    fn replay(&self, seed: u64) -> String {
        self.line(&format!("replay {seed}"))
    }

    fn line(&self, task: &str) -> String {
        let nodes = self.frame.nodes.clone();
        let frame =
            format!("--nodes {}..{} --days {}", nodes.start(), nodes.end(), self.frame.days);
        command(&format!("{task} {frame}"))
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let broken: Vec<Value> = self
            .violations
            .iter()
            .map(|(seed, what)| json!({ "seed": seed, "what": what, "again": self.replay(*seed) }))
            .collect();
        let seconds = self.took.as_secs_f64();
        json!({
            "commit": COMMIT,
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "again": self.again(),
            "node_years": self.node_years(),
            "events": self.events,
            "chunks": self.chunks,
            "fetched": self.fetched,
            "ending": self.ending.json(),
            "too_little": self.too_little().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            "faults": self.faults.total(),
            "deviations": counts(self.acts.iter()),
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

/// What is typed to run something again. A seed is another world with other code: so with the
/// commit, as a comment.
pub(crate) fn command(task: &str) -> String {
    let (feature, bug) = match planted() {
        Some(bug) => (" --features planted-bugs", format!(" --plant {}", bug.name())),
        None => ("", String::new()),
    };
    format!("cargo run --release -p quloud-netsim{feature} -- {task}{bug}  # commit {COMMIT}")
}

/// As many columns of counts as there is room for, beside a title.
fn columns(out: &mut String, title: &str, counts: &[(&str, u64)]) {
    const GAP: usize = 3;
    let wide = |text: &str| text.chars().count();
    let name_wide = counts.iter().map(|(name, _)| wide(name)).max().unwrap_or(0);
    let count_wide = counts.iter().map(|(_, count)| wide(&grouped(*count))).max().unwrap_or(0);
    let column = name_wide + 2 + count_wide + GAP;
    let across = ((WIDTH - LEFT + GAP) / column).max(1);
    for (row, some) in counts.chunks(across).enumerate() {
        let cells = some
            .iter()
            .map(|(name, count)| format!("{name:<name_wide$}  {:>count_wide$}", grouped(*count)));
        let cells = cells.collect::<Vec<_>>().join("   ");
        let _ = writeln!(out, "{:<LEFT$}{cells}", if row == 0 { title } else { "" });
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
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
            let line = runs::run(8, 2, &frame, Some(1)).json();
            serde_json::from_str::<Value>(&line).unwrap()
        });
        assert!(
            lines.iter_mut().all(|line| line.as_object_mut().unwrap().remove("timing").is_some())
        );
        let [one, two] = lines;
        assert_eq!(one, two);
        assert_eq!(one.get("commit"), Some(&Value::from(COMMIT)));
        let owners = one.get("ending").and_then(|ending| ending.get("owners")).unwrap();
        assert!(owners.get("of").and_then(Value::as_u64).unwrap() > 0, "{owners}");
        for key in ["again", "seeds", "node_years", "faults", "violations", "trace_hash"] {
            assert!(one.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_broken_promise_is_shown_with_the_line_that_shows_it_again() {
        let mut set = runs::run(8, 1, &Frame { nodes: 5..=6, days: 1 }, Some(1));
        set.violations.push((8, "a promise".to_owned()));
        let again = format!("replay 8 --nodes 5..6 --days 1  # commit {COMMIT}");
        assert!(set.table().contains(&again) && set.json().contains(&again));
        assert_eq!(clock(Time(90_061_001)), "  1d 01:01:01.001");
    }

    #[test]
    fn a_table_is_aligned_and_no_wider_than_a_screen() {
        let mut set = runs::run(8, 2, &Frame { nodes: 5..=6, days: 1 }, Some(1));
        set.faults.add(crate::tally::Fault::GossipLost, 1_234_567);
        let table = set.table();
        assert!(table.contains("  net        gossip lost"), "{table}");
        assert!(table.contains("1,23") && table.contains("seeds 8 to 9"), "{table}");
        let rows = table.lines().filter(|line| !line.starts_with("again"));
        rows.for_each(|line| assert!(line.len() <= WIDTH, "{line}"));
        assert_eq!([grouped(7), grouped(1_000)], ["7".to_owned(), "1,000".to_owned()]);
    }

    #[test]
    fn the_commit_is_known_by_its_digits_or_not_at_all() {
        let digits = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        let known = digits.len() == 12 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        assert!(known || COMMIT == "unknown", "{COMMIT}");
    }
}
