//! The world of a scenario and its script: typed steps, in the words of a story.

use crate::disk::Call;
use crate::node::Index;
use crate::oracle::Fact;
use crate::plan::Plan;
use crate::world::{Check, Cue, Event, Step};
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// See the module. Node 0 is the owner.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) steps: Vec<(Duration, &'static str, Vec<Step>)>,
    pub(crate) cues: Vec<Cue>,
    pub(crate) finally: Vec<(&'static str, Check)>,
    /// Nodes that nobody can dial.
    pub(crate) behind_nat: Vec<Index>,
    /// Who keeps a connection to whom; each to each where nothing is said.
    pub(crate) keeps: Option<Vec<(Index, Index)>>,
}

impl Stage {
    /// A still world of so many nodes, so long.
    pub(super) fn new(nodes: usize, days: u64) -> Self {
        Self {
            plan: Plan::still(nodes, days),
            steps: Vec::new(),
            cues: Vec::new(),
            finally: Vec::new(),
            behind_nat: Vec::new(),
            keeps: None,
        }
    }

    /// Does something then.
    pub(super) fn at(
        &mut self,
        then: Duration,
        text: &'static str,
        steps: impl IntoIterator<Item = Step>,
    ) {
        self.steps.push((then, text, steps.into_iter().collect()));
    }

    /// Does what `when` says as soon as it says something.
    pub(super) fn when(&mut self, text: &'static str, when: fn(&Fact<'_>) -> Option<Step>) {
        self.cues.push((text, when));
    }

    /// This has to be true then.
    pub(super) fn expect_at(&mut self, then: Duration, text: &'static str, check: Check) {
        self.at(then, text, [Step::Expect(check)]);
    }

    /// This has to be true at the end, when the world is calm and all that was promised is fetched.
    pub(super) fn expect(&mut self, text: &'static str, check: Check) {
        self.finally.push((text, check));
    }
}

/// The owner puts so many chunks.
pub(super) fn put(chunks: usize) -> Step {
    Step::Happen(Event::Put { owner: 0, chunks })
}

/// A node loses its power for so long.
pub(super) fn crash(node: Index, down: Duration) -> Step {
    Step::Happen(Event::Crash { node, down, in_commit: false })
}

/// The same in the middle of its next group commit.
pub(super) fn crash_in_commit(node: Index) -> Step {
    Step::Happen(Event::Crash { node, down: SECOND, in_commit: true })
}

/// The next calls of this kind fail.
pub(super) fn fail(node: Index, call: Call, times: u32) -> Step {
    Step::Fail(node, call, times)
}
