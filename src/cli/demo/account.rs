//! The account that the demo prints: one line a step, with its time, or one JSON object.

use crate::node::report::{Failure, FailureKind};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Where the account goes.
pub(super) struct Account<'a> {
    out: &'a mut dyn Write,
    json: bool,
    steps: Vec<Value>,
    started: Instant,
    bar: Option<indicatif::ProgressBar>,
}

impl<'a> Account<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal())
            .then(|| indicatif::ProgressBar::new_spinner().with_message("starting"));
        Self { out, json, steps: Vec::new(), started: Instant::now(), bar }
    }

    /// A line that is no step of its own.
    pub(super) fn say(&mut self, line: &str) {
        self.line(line);
    }

    /// What a long step is at; shown on a terminal only.
    pub(super) fn progress(&mut self, note: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(note.to_owned());
            bar.tick();
        }
    }

    /// A step that was verified.
    pub(super) fn step(&mut self, name: &str, since: Instant, what: &str) {
        let seconds = since.elapsed().as_secs_f64();
        self.line(&format!("{name:<9} {seconds:6.2} s  {what}"));
        self.steps.push(json!({ "step": name, "seconds": seconds, "verified": what }));
    }

    /// The closing line.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let seconds = self.started.elapsed().as_secs_f64();
        let steps = std::mem::take(&mut self.steps);
        if self.json {
            let object = json!({ "ok": true, "seconds": seconds, "steps": steps });
            writeln!(self.out, "{object}").map_err(|error| lost_output(&error))?;
        } else {
            let count = steps.len();
            self.line(&format!("all {count} steps verified in {seconds:.1} s"));
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if self.json {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.suspend(|| {});
        }
        // A reader that went away (`| head`) is noticed by the last line, which is checked.
        drop(writeln!(self.out, "{line}"));
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn lost_output(error: &std::io::Error) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: "the account could not be written".to_owned(),
        why: error.to_string(),
        hint: "run it with its output on a terminal or in a file".to_owned(),
    }
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
