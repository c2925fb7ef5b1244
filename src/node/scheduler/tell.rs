//! What `status` shows of the schedule.

use super::book::{Book, cut_off};
use super::rule::{Clock, Due};
use super::{Schedule, State, Task};
use crate::config::backup::ConfiguredBackup;
use crate::config::every::Every;
use crate::node::report::{
    Failure, FailureKind, ScheduledBackup, ScheduledTask, TaskResult, TaskState, date,
};
use std::path::{Path, PathBuf};

/// As many bytes of a backup's paths are told: all must fit one line of the API.
const PATHS_BYTES_MAX: usize = 1 << 10;

/// Runs in a row that are cut off before the user is asked to look after that.
const CUT_OFF_MAX: u32 = 3;

impl Schedule {
    /// All of it. A node that does not `stay` does none of it.
    pub(super) fn told(&self, clock: Clock, stays: bool) -> Vec<ScheduledBackup> {
        let state = self.state();
        let due = |of: &ConfiguredBackup, task| match stays {
            true if task != Task::Backup && state.bare.contains_key(&of.name) => Due::Never,
            true => self.due(&state, of, task, clock),
            false => Due::Never,
        };
        let told = |of: &ConfiguredBackup| {
            tell(of, |task| {
                let next = due(of, task);
                scheduled(of, task, &state, (next, clock.now_s))
            })
        };
        self.backups.iter().map(told).collect()
    }

    /// What is to be told of its own file.
    pub(in crate::node) fn unwritten(&self) -> Option<String> {
        let state = self.state();
        let why = state.unwritten.as_ref()?;
        let path = self.path.display();
        Some(format!(
            "when configured backups ran cannot be written to {path}: {why}; make room there, or \
             they are made again after each start"
        ))
    }
}

/// What the data folder alone tells of these backups, while no node runs; and what of that the
/// user has to look after.
pub fn schedule_at_rest(
    dir: &Path,
    backups: &[ConfiguredBackup],
) -> (Vec<ScheduledBackup>, Vec<String>) {
    let names: Vec<&str> = backups.iter().map(|backup| backup.name.as_str()).collect();
    let book = Book::read(&dir.join(super::book::FILE_NAME), &names);
    let state = State { book, ..State::default() };
    let told = |of| tell(of, |task| scheduled(of, task, &state, (Due::Never, 0)));
    let schedule: Vec<ScheduledBackup> = backups.iter().map(told).collect();
    let attention = attention(&schedule, false);
    (schedule, attention)
}

fn tell(of: &ConfiguredBackup, task: impl Fn(Task) -> ScheduledTask) -> ScheduledBackup {
    ScheduledBackup {
        name: of.name.clone(),
        settings: of.digest(),
        paths: fitting(&of.paths),
        backup: task(Task::Backup),
        audit: task(Task::Audit),
        drill: task(Task::Drill),
    }
}

fn scheduled(
    of: &ConfiguredBackup,
    task: Task,
    state: &State,
    (next, now_s): (Due, u64),
) -> ScheduledTask {
    let record = state.book.of(&of.name, task);
    let running = state.running.get(&(of.name.clone(), task));
    let is_cut = record.is_open && running.is_none();
    let told = match (running, next) {
        (Some(_), _) => TaskState::Running,
        _ if task.every(of).seconds().is_none() => TaskState::Off,
        _ if is_cut => TaskState::CutOff,
        _ if record.failure.is_some() => TaskState::Failed,
        (None, Due::Now) => TaskState::Waiting,
        (None, _) => TaskState::Idle,
    };
    let as_set = match task {
        Task::Backup => of.every,
        Task::Audit => of.audit,
        Task::Drill => of.drill,
    };
    let working = running.cloned().unwrap_or_default();
    ScheduledTask {
        every: as_set.to_string(),
        state: told,
        last_at: record.past.last_s,
        tried_at: record.past.tried_s,
        next_at: match next {
            _ if running.is_some() => None,
            Due::Now => Some(now_s),
            Due::At(at_s) => Some(at_s),
            Due::Never => None,
        },
        waits: running.is_none() && next == Due::Now,
        // The run that is not over yet is none.
        failures: record.past.failures.saturating_sub(running.is_some().into()),
        failure: if is_cut { Some(cut_off()) } else { record.failure },
        result: record.result,
        bytes: working.bytes,
        note: working.note,
    }
}

/// As many as fit, and `..` for the others.
fn fitting(paths: &[PathBuf]) -> Vec<String> {
    let (mut told, mut bytes) = (Vec::new(), 0);
    for path in paths {
        let text = path.to_string_lossy().into_owned();
        bytes += text.len();
        if bytes > PATHS_BYTES_MAX && !told.is_empty() {
            told.push("..".to_owned());
            break;
        }
        told.push(text);
    }
    told
}

/// What of it the user has to look after.
pub(in crate::node) fn attention(schedule: &[ScheduledBackup], is_alone: bool) -> Vec<String> {
    let mut attention = Vec::new();
    for of in schedule {
        let tasks = [
            (&of.backup, "the configured backup"),
            (&of.audit, "the audit of the configured backup"),
            (&of.drill, "the drill of the configured backup"),
        ];
        attention.extend(tasks.iter().filter_map(|(task, what)| {
            let matter = matter(task, is_alone).or_else(|| out_of_reach(task))?;
            Some(format!("{what} {} {matter}", of.name))
        }));
        if let Some(last) = is_overdue(&of.backup).filter(|_| is_alone) {
            attention.push(format!(
                "the configured backup {} was {last}: no other node is connected; start more of \
                 the mesh's nodes",
                of.name
            ));
        }
    }
    attention
}

/// When one that is due and does not run was done last, where it never was, or not for two
/// periods; whatever came of it since.
fn is_overdue(task: &ScheduledTask) -> Option<String> {
    if !task.waits {
        return None;
    }
    let Some(last_s) = task.last_at else { return Some("never made".to_owned()) };
    let twice_s = Every::parse(&task.every).ok()?.seconds()?.saturating_mul(2);
    let is_overdue = task.next_at?.saturating_sub(last_s) >= twice_s;
    is_overdue.then(|| format!("made last on {}", date(i64::try_from(last_s).unwrap_or(i64::MAX))))
}

fn matter(task: &ScheduledTask, is_alone: bool) -> Option<String> {
    let Failure { why, hint, kind, .. } = task.failure.as_ref()?;
    let at = |seconds: u64| date(i64::try_from(seconds).unwrap_or(i64::MAX));
    let next = match (task.state, task.next_at) {
        (TaskState::Running, _) => "; it runs again".to_owned(),
        _ if task.waits && is_alone => "; it waits for other nodes".to_owned(),
        _ if task.waits => "; it waits for its turn".to_owned(),
        (_, Some(at_s)) => format!("; next try {}", at(at_s)),
        (_, None) => String::new(),
    };
    let times = match task.failures {
        0 | 1 => String::new(),
        times => format!(", {times} times in a row"),
    };
    let tried = task.tried_at.map(|at_s| format!(" on {}", at(at_s))).unwrap_or_default();
    match task.state {
        TaskState::CutOff if task.failures >= CUT_OFF_MAX => {
            Some(format!("was cut off{tried}{times}: {why}; look into the node's log{next}"))
        }
        TaskState::Failed | TaskState::Running => {
            let tried = if task.state == TaskState::Running { "" } else { tried.as_str() };
            // More nodes are all it takes.
            let hint = match kind {
                FailureKind::NotEnoughHolders => String::new(),
                _ => format!("; {hint}"),
            };
            Some(format!("failed{tried}{times}: {why}{hint}{next}"))
        }
        TaskState::Idle | TaskState::Waiting | TaskState::CutOff | TaskState::Off => None,
    }
}

/// What is told of a drill that did not reach all that it asked for.
fn out_of_reach(task: &ScheduledTask) -> Option<String> {
    let TaskResult::Drill { snapshot, unreachable: parts @ 1.., .. } = task.result.as_ref()? else {
        return None;
    };
    if task.state == TaskState::Off {
        return None;
    }
    let at = |seconds: u64| date(i64::try_from(seconds).unwrap_or(i64::MAX));
    let name = snapshot.get(..8).unwrap_or(snapshot);
    let tried = task.last_at.map(|at_s| format!(" on {}", at(at_s))).unwrap_or_default();
    let next = match task.next_at {
        Some(at_s) if !task.waits => format!("; next try {}", at(at_s)),
        _ => String::new(),
    };
    let (parts, are) = (*parts, if *parts == 1 { "part" } else { "parts" });
    Some(format!(
        "could not reach {parts} {are} of snapshot {name}{tried}: start the nodes that are \
         away{next}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::scheduler::Working;

    fn result() -> TaskResult {
        let (snapshot, replicas, proven) = ("ab".to_owned(), 1, 1);
        TaskResult::Audit { snapshot, replicas, proven, silent: 0, damaged: 0 }
    }

    fn photos() -> ConfiguredBackup {
        ConfiguredBackup::new("photos", vec![PathBuf::from("/srv")])
    }

    fn told(state: &State, next: Due) -> ScheduledBackup {
        tell(&photos(), |task| scheduled(&photos(), task, state, (next, 86_400)))
    }

    #[test]
    fn a_failure_is_told_while_it_runs_again_and_until_it_came_to_something() {
        let mut state = State::default();
        let job = ("photos".to_owned(), Task::Backup);
        for _ in 0..2 {
            let record = state.book.of_mut("photos", Task::Backup);
            record.begin(0);
            let hint = "do this";
            record.end(0, Err(Failure::new(FailureKind::Usage, "it", "it is so", hint)));
        }
        let of = [told(&state, Due::At(172_800))];
        assert_eq!(
            attention(&of, true),
            ["the configured backup photos failed on 1970-01-01 00:00 UTC, 2 times in a row: it \
              is so; do this; next try 1970-01-03 00:00 UTC"]
        );
        state.book.of_mut("photos", Task::Backup).begin(60);
        state.running.insert(job.clone(), Working::default());
        let of = [told(&state, Due::Never)];
        assert_eq!(of[0].backup.state, TaskState::Running);
        let again = "failed, 2 times in a row: it is so; do this; it runs again";
        assert!(attention(&of, false)[0].ends_with(again), "{:?}", attention(&of, false));
        state.running.remove(&job);
        state.book.of_mut("photos", Task::Backup).end(60, Ok(result()));
        assert!(attention(&[told(&state, Due::At(90_000))], false).is_empty());
    }

    #[test]
    fn a_backup_that_waits_for_nodes_is_told_when_it_was_never_made_or_not_for_two_periods() {
        let mut of = told(&State::default(), Due::Now);
        let mut told = |last_s: Option<u64>, is_alone| {
            of.backup.last_at = last_s.map(|ago_s| 10 * 86_400 - ago_s);
            of.backup.next_at = Some(10 * 86_400);
            attention(std::slice::from_ref(&of), is_alone)
        };
        assert!(told(None, true)[0].contains("photos was never made: no other node"));
        assert!(told(None, false).is_empty());
        assert!(told(Some(2 * 86_400 - 1), true).is_empty());
        let since = "photos was made last on 1970-01-09 00:00 UTC: no other node is connected";
        assert!(told(Some(2 * 86_400), true)[0].contains(since));
    }

    #[test]
    fn one_that_was_cut_off_or_failed_and_then_finds_no_node_is_told_as_well() {
        let mut state = State::default();
        state.book.of_mut("photos", Task::Backup).begin(60);
        let of = [told(&state, Due::Now)];
        assert_eq!((of[0].backup.state, of[0].backup.waits), (TaskState::CutOff, true));
        let never = "photos was never made: no other node is connected; start more of the mesh's \
                     nodes";
        assert!(attention(&of, true)[0].ends_with(never), "{:?}", attention(&of, true));
        assert!(attention(&of, false).is_empty());
        // Its pause is not over yet.
        assert!(attention(&[told(&state, Due::At(90_000))], true).is_empty());

        let failure = Failure::new(FailureKind::Failed, "it", "it is so", "do this");
        state.book.of_mut("photos", Task::Backup).end(60, Err(failure));
        let of = [told(&state, Due::Now)];
        let [failed, overdue] = attention(&of, true).try_into().unwrap();
        assert!(failed.ends_with("it is so; do this; it waits for other nodes"), "{failed}");
        assert!(overdue.ends_with(never), "{overdue}");
        assert!(attention(&of, false)[0].ends_with("; it waits for its turn"));
    }

    #[test]
    fn a_drill_that_did_not_reach_all_is_told_until_one_does() {
        let mut state = State::default();
        let drill = |unreachable| TaskResult::Drill {
            snapshot: "0123456789".to_owned(),
            sample_ppm: 50_000,
            bytes: 1,
            damaged: 0,
            unreachable,
        };
        state.book.of_mut("photos", Task::Drill).end(0, Ok(drill(3)));
        assert_eq!(
            attention(&[told(&state, Due::At(172_800))], false),
            ["the drill of the configured backup photos could not reach 3 parts of snapshot \
              01234567 on 1970-01-01 00:00 UTC: start the nodes that are away; next try \
              1970-01-03 00:00 UTC"]
        );
        state.book.of_mut("photos", Task::Drill).end(60, Ok(drill(0)));
        assert!(attention(&[told(&state, Due::At(172_800))], false).is_empty());
    }

    #[test]
    fn what_is_cut_off_again_and_again_needs_attention() {
        let mut state = State::default();
        for times in 1..=CUT_OFF_MAX {
            state.book.of_mut("photos", Task::Drill).begin(0);
            let of = [told(&state, Due::At(90_000))];
            assert_eq!((of[0].drill.state, of[0].drill.failures), (TaskState::CutOff, times));
            assert_eq!(attention(&of, false).len(), usize::from(times == CUT_OFF_MAX));
        }
    }

    #[test]
    fn monthly_audits_are_those_of_the_node_and_long_lists_of_paths_are_cut() {
        let of = told(&State::default(), Due::Now);
        assert_eq!((of.audit.every.as_str(), of.audit.state), ("monthly", TaskState::Off));
        assert_eq!((of.backup.state, of.backup.next_at), (TaskState::Waiting, Some(86_400)));
        let paths = vec![PathBuf::from("/".repeat(300)); 9];
        let told = fitting(&paths);
        assert_eq!((told.len(), told[3].as_str()), (4, ".."));
    }
}
