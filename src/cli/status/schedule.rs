//! The lines of `quloud status` about what the node does by itself.

use crate::cli::output::{count, printable};
use crate::cli::verify::percent;
use crate::config::size::human;
use crate::node::report::{
    ScheduledBackup, ScheduledTask, SnapshotMade, TaskResult, TaskState, date,
};

/// Most backups that are shown; `--json` lists all.
const SHOWN: usize = 8;

/// Behind what is due and does not run.
const WAITING: &str = " and waiting for its turn or for other nodes";

/// Two lines for each backup of the settings.
pub(super) fn lines(schedule: &[ScheduledBackup]) -> Vec<String> {
    let of = |of: &ScheduledBackup| {
        let audit = match of.audit.state {
            // Which it does for all that it stored, whatever the settings say.
            TaskState::Off => "audit by the node, within 30 days".to_owned(),
            _ => format!("audit {}", task(&of.audit)),
        };
        let drill = format!("drill {}", task(&of.drill));
        let backup = format!("{}: {}", of.name, task(&of.backup));
        [printable(&backup), printable(&format!("  {audit}; {drill}"))]
    };
    let mut lines: Vec<String> = schedule.iter().take(SHOWN).flat_map(of).collect();
    let more = schedule.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more, with --json"));
    }
    lines
}

fn task(task: &ScheduledTask) -> String {
    let at = |seconds: u64| date(i64::try_from(seconds).unwrap_or(i64::MAX));
    let last = task.last_at.map(|at_s| {
        let came = task.result.as_ref().map(|result| format!(" ({})", came(result)));
        format!(", last {}{}", at(at_s), came.unwrap_or_default())
    });
    let next = |word: &str| match task.next_at {
        _ if task.waits => WAITING.to_owned(),
        Some(at_s) => format!(", {word} {}", at(at_s)),
        None => String::new(),
    };
    let state = match task.state {
        TaskState::Off => String::new(),
        TaskState::Idle => next("next"),
        TaskState::Waiting => format!(", due{WAITING}"),
        TaskState::CutOff => format!(", cut off{}", next("next try")),
        TaskState::Failed => {
            let times = count(task.failures.into(), "time");
            format!(", failed {times}{}", next("next try"))
        }
        TaskState::Running => {
            let note = task.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
            format!(", running: {}{note}", human(task.bytes))
        }
    };
    format!("{}{}{state}", task.every, last.unwrap_or_default())
}

/// What a run came to.
fn came(result: &TaskResult) -> String {
    let name = result.snapshot().get(..8).unwrap_or(result.snapshot());
    match result {
        TaskResult::Backup(SnapshotMade { replicas, target, partial, .. }) => {
            let partial = if *partial { ", partial" } else { "" };
            format!("snapshot {name}, {replicas} of {target} replicas{partial}")
        }
        TaskResult::Audit { replicas, proven, .. } => {
            format!("{proven} of {replicas} replicas proven")
        }
        TaskResult::Drill { sample_ppm, damaged: 0, unreachable: 0, .. } => {
            format!("{} of {name} came back", percent(*sample_ppm))
        }
        TaskResult::Drill { damaged: 0, unreachable, .. } => {
            format!("{} of {name} out of reach", count(*unreachable, "part"))
        }
        TaskResult::Drill { damaged, .. } => {
            format!("{} of {name} found damaged", count(*damaged, "part"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::{Failure, FailureKind};

    fn idle(every: &str) -> ScheduledTask {
        ScheduledTask {
            every: every.to_owned(),
            state: TaskState::Idle,
            last_at: None,
            tried_at: None,
            next_at: Some(86_400),
            waits: false,
            failures: 0,
            failure: None,
            result: None,
            bytes: 0,
            note: None,
        }
    }

    fn scheduled(backup: ScheduledTask) -> ScheduledBackup {
        let off = |every| ScheduledTask { state: TaskState::Off, next_at: None, ..idle(every) };
        let (name, paths) = ("photos".to_owned(), vec!["/srv".to_owned()]);
        let settings = String::new();
        ScheduledBackup {
            name,
            settings,
            paths,
            backup,
            audit: off("monthly"),
            drill: off("never"),
        }
    }

    #[test]
    fn each_state_has_its_words() {
        let told = |task| lines(&[scheduled(task)])[0].clone();
        assert_eq!(told(idle("daily")), "photos: daily, next 1970-01-02 00:00 UTC");
        let result = TaskResult::Backup(SnapshotMade {
            snapshot: "0123456789".to_owned(),
            files: 1,
            bytes: 2,
            new_bytes: 3,
            replicas: 1,
            target: 3,
            partial: true,
        });
        let made = ScheduledTask { last_at: Some(0), result: Some(result), ..idle("6h") };
        assert_eq!(
            told(made.clone()),
            "photos: 6h, last 1970-01-01 00:00 UTC (snapshot 01234567, 1 of 3 replicas, partial), \
             next 1970-01-02 00:00 UTC"
        );
        let running = ScheduledTask {
            state: TaskState::Running,
            next_at: None,
            bytes: 2_000,
            note: Some("a\u{1b}".to_owned()),
            ..idle("daily")
        };
        assert_eq!(told(running), "photos: daily, running: 2.00 kB, a\\u{1b}");
        let failure = Some(Failure::new(FailureKind::Failed, "a", "b", "c"));
        let failed =
            ScheduledTask { state: TaskState::Failed, failures: 2, failure, ..idle("daily") };
        assert_eq!(told(failed), "photos: daily, failed 2 times, next try 1970-01-02 00:00 UTC");
        let cut = ScheduledTask { state: TaskState::CutOff, waits: true, ..idle("daily") };
        let waits = "and waiting for its turn or for other nodes";
        assert_eq!(told(cut), format!("photos: daily, cut off {waits}"));
        let waiting = ScheduledTask { state: TaskState::Waiting, ..idle("daily") };
        assert!(told(waiting).ends_with("due and waiting for its turn or for other nodes"));
        let all = lines(&[scheduled(idle("daily"))]);
        assert_eq!(all[1], "  audit by the node, within 30 days; drill never");
    }

    #[test]
    fn what_audits_and_drills_came_to_is_told_and_many_backups_stay_on_one_screen() {
        let snapshot = || "0123456789".to_owned();
        let drill = |damaged, unreachable| TaskResult::Drill {
            snapshot: snapshot(),
            sample_ppm: 50_000,
            bytes: 1,
            damaged,
            unreachable,
        };
        assert_eq!(came(&drill(0, 0)), "5% of 01234567 came back");
        assert_eq!(came(&drill(0, 2)), "2 parts of 01234567 out of reach");
        assert_eq!(came(&drill(1, 2)), "1 part of 01234567 found damaged");
        let (replicas, proven, silent, damaged) = (9, 8, 1, 0);
        let audit = TaskResult::Audit { snapshot: snapshot(), replicas, proven, silent, damaged };
        assert_eq!(came(&audit), "8 of 9 replicas proven");
        let many = lines(&vec![scheduled(idle("daily")); 10]);
        assert_eq!((many.len(), many[16].as_str()), (17, "and 2 more, with --json"));
    }
}
