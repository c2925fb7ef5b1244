//! The account that the demo prints: one line a step, with its time, or one JSON object.

use super::super::output::{Output, print};
use super::{Interrupt, interrupted};
use crate::node::report::Failure;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where the account goes, and whether the user still wants it.
pub(super) struct Account {
    output: Output,
    interrupt: Interrupt,
    steps: Vec<Value>,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Account {
    pub(super) fn new(output: Output, interrupt: &Interrupt) -> Self {
        let bar = (output.animated() && !output.json).then(|| {
            let bar = ProgressBar::new_spinner().with_message("starting the nodes");
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let interrupt = interrupt.clone();
        Self { output, interrupt, steps: Vec::new(), started: Instant::now(), bar }
    }

    /// A line that is no step of its own.
    ///
    /// # Errors
    /// Where it cannot be printed, or the user wants it to end: like all that follow.
    pub(super) fn say(&self, line: &str) -> Result<(), Failure> {
        self.check()?;
        if self.output.json {
            return Ok(());
        }
        let line = format!("{line}\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| print(line.as_bytes())),
            None => print(line.as_bytes()),
        }
    }

    /// What a long step is at; shown on a terminal only.
    pub(super) fn progress(&self, note: &str) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.set_message(note.to_owned());
        }
        self.check()
    }

    /// A step that was verified.
    pub(super) fn step(&mut self, name: &str, since: Instant, what: &str) -> Result<(), Failure> {
        let seconds = since.elapsed().as_secs_f64();
        self.steps.push(json!({ "step": name, "seconds": seconds, "verified": what }));
        self.say(&format!("{name:<9} {seconds:6.2} s  {what}"))
    }

    /// Whether the user still wants it, for who waits elsewhere.
    pub(super) fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// The closing line.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let seconds = self.started.elapsed().as_secs_f64();
        let document = json!({ "ok": true, "seconds": seconds, "steps": self.steps });
        let text = || format!("all {} steps verified in {seconds:.1} s\n", self.steps.len());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.output.result(&document, text)
    }

    fn check(&self) -> Result<(), Failure> {
        match self.interrupt.is_set() {
            true => Err(ended()),
            false => Ok(()),
        }
    }
}

/// The user did not want to see the end of it.
pub(super) fn ended() -> Failure {
    interrupted("start it again when you like")
}
