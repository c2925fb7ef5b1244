//! What the settings ask the node to do by itself: backups of configured paths, audits of their
//! newest snapshots, and drills, which read a sample of them back.
//!
//! | file | what it holds |
//! |---|---|
//! | `rule` | when a job is due |
//! | `book` | what is remembered of the jobs over restarts |
//! | `run` | how one is done |
//! | `tell` | what `status` shows of them |
//!
//! Only a node that stays does any of it, and only while others of the mesh are connected: what is
//! due waits for them. Each job is done as its command does it. There are two lanes, one of backups
//! and one of all that asks holders; in each one job runs at a time, and of several that are due
//! the one goes first that did not for the longest time.
//!
//! What goes on in any case, whatever the settings say, is none of this: the first audit of each
//! replica, proofs of all of them within 30 days ([`audit`](super::audit)), healing
//! ([`heal`](super::heal)) and what was published before ([`after`](super::after)).

mod book;
mod rule;
mod run;
mod tell;

pub(super) use run::{made_by_hand, run};
pub(super) use tell::attention;
pub use tell::schedule_at_rest;

use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{Failure, ScheduledBackup, TaskResult};
use crate::config::backup::ConfiguredBackup;
use crate::config::every::Every;
use crate::core::types::NodeId;
use book::Book;
use rule::{Clock, Due, due};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long after its start a node begins with what is due, in seconds: so long, and up to twice
/// this. Its peers are there by then.
const SETTLE_S: u64 = if cfg!(test) { 0 } else { 10 };

/// How long after a look for a snapshot that is not there the next one is, in seconds.
const LOOK_AGAIN_S: u64 = 600;

/// What is done for a configured backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    /// A snapshot.
    Backup,
    /// Proofs of what the newest one names.
    Audit,
    /// A sample of it, read back.
    Drill,
}

impl Task {
    /// How often, besides what the node does in any case.
    fn every(self, of: &ConfiguredBackup) -> Every {
        match self {
            Self::Backup => of.every,
            Self::Audit if of.audit >= Every::MONTHLY => Every::Never,
            Self::Audit => of.audit,
            Self::Drill => of.drill,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Audit => "audit",
            Self::Drill => "drill",
        }
    }
}

/// A job, by the name of its backup.
type Job = (String, Task);

/// The jobs of a node.
pub(super) struct Schedule {
    backups: Vec<ConfiguredBackup>,
    node: NodeId,
    path: PathBuf,
    state: Mutex<State>,
    /// Whoever writes the book has it.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    book: Book,
    running: BTreeMap<Job, Working>,
    /// For how long the node had run when a job ended last.
    ended_up_s: BTreeMap<Job, u64>,
    /// Backups without any snapshot left that could be asked for, and for how long the node had
    /// run when one was looked for in the mesh.
    bare: BTreeMap<String, u64>,
    /// Why the book could not be written.
    unwritten: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, Default)]
struct Working {
    bytes: u64,
    note: Option<String>,
}

impl Schedule {
    /// Those of these backups, with what is remembered of them in the data folder. Reads a file.
    pub(super) fn open(dir: &Path, node: NodeId, backups: &[ConfiguredBackup]) -> Self {
        let path = dir.join(book::FILE_NAME);
        let names: Vec<&str> = backups.iter().map(|backup| backup.name.as_str()).collect();
        let state = State { book: Book::read(&path, &names), ..State::default() };
        let (backups, state) = (backups.to_vec(), Mutex::new(state));
        Self { backups, node, path, state, writing: Mutex::default() }
    }

    /// Each change leaves it whole, even after a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this job is to run; what runs is not looked at.
    fn due(&self, state: &State, of: &ConfiguredBackup, task: Task, clock: Clock) -> Due {
        let name = &of.name;
        // There is nothing yet that could be asked for.
        if task != Task::Backup && state.book.made(name).is_empty() {
            return Due::Never;
        }
        let seed = rule::seed(&self.node, &format!("{}:{name}", task.name()));
        let past = state.book.of(name, task).past;
        let ended_up_s = state.ended_up_s.get(&(name.clone(), task)).copied();
        due(task.every(of), seed, &past, clock, ended_up_s)
    }

    /// Those of these tasks that are due: first what did not run for the longest time since the
    /// start.
    fn all_due(&self, tasks: &[Task], clock: Clock) -> Vec<(ConfiguredBackup, Task)> {
        let state = self.state();
        let all = self.backups.iter().flat_map(|of| tasks.iter().map(move |task| (of, *task)));
        let due = all.filter(|(of, task)| self.due(&state, of, *task, clock) == Due::Now);
        let mut due: Vec<(&ConfiguredBackup, Task)> = due.collect();
        due.sort_by_key(|(of, task)| state.ended_up_s.get(&(of.name.clone(), *task)).copied());
        due.into_iter().map(|(of, task)| (of.clone(), task)).collect()
    }

    /// Whether a snapshot of this backup may be looked for in the mesh.
    fn may_look(&self, name: &str, up_s: u64) -> bool {
        let state = self.state();
        state.bare.get(name).is_none_or(|at_s| up_s.saturating_sub(*at_s) >= LOOK_AGAIN_S)
    }

    /// One was looked for there: whether any is left.
    fn looked(&self, name: &str, up_s: u64, is_any: bool) {
        let bare = &mut self.state().bare;
        match is_any {
            true => bare.remove(name),
            false => bare.insert(name.to_owned(), up_s),
        };
    }

    /// A job begins.
    fn begin(&self, job: &Job, began_s: u64) {
        let mut state = self.state();
        state.book.of_mut(&job.0, job.1).begin(began_s);
        state.running.insert(job.clone(), Working::default());
    }

    fn working(&self, job: &Job, working: Working) {
        if let Some(before) = self.state().running.get_mut(job) {
            *before = working;
        }
    }

    /// A job ended when the node had run for so long.
    fn end(&self, job: &Job, began: (u64, u64), ended: Result<TaskResult, Failure>) {
        let (began_s, up_s) = began;
        let mut state = self.state();
        state.running.remove(job);
        state.ended_up_s.insert(job.clone(), up_s);
        state.book.of_mut(&job.0, job.1).end(began_s, ended);
    }

    /// Somebody made this backup by hand: it stands for the next run.
    fn made(&self, name: &str, began: (u64, u64), result: TaskResult) {
        if !self.backups.iter().any(|of| of.name == name) {
            return;
        }
        let job = (name.to_owned(), Task::Backup);
        let mut state = self.state();
        let is_running = state.running.contains_key(&job);
        state.ended_up_s.insert(job.clone(), began.1);
        let record = state.book.of_mut(name, Task::Backup);
        record.end(began.0, Ok(result));
        if is_running {
            // The end of that one is still to come.
            record.begin(began.0);
        }
    }

    /// Writes the book. Blocks on the disk.
    fn write(&self) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let book = self.state().book.clone();
        let written = book.write(&self.path);
        if let Err(error) = &written {
            tracing::error!(%error, path = %self.path.display(), "the schedule is not written");
        }
        self.state().unwritten = written.err().map(|error| error.to_string());
    }
}

/// All of it, as it is now.
pub(super) fn told(inner: &Inner) -> Vec<ScheduledBackup> {
    inner.schedule.told(clock(inner), inner.detached.is_open())
}

fn clock(inner: &Inner) -> Clock {
    let (now_s, up_s) = (seconds_since_1970(), inner.started.elapsed().as_secs());
    Clock { now_s, up_s, settle_s: SETTLE_S }
}
