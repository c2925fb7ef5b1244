//! What the settings ask whole nodes to do by themselves, over restarts and with wrong clocks.

use super::backup::{folder, request};
use super::*;
use crate::config::every::Every;
use crate::node::report::{
    BackupRequest, ScheduledBackup, ScheduledTask, SnapshotMade, TaskResult, TaskState,
};
use crate::node::scheduler::schedule_at_rest;
use serde_json::{Value, json};

const TEN_YEARS_S: u64 = 10 * 366 * 24 * 3600;

fn configured(name: &str, path: &std::path::Path) -> ConfiguredBackup {
    ConfiguredBackup { replicas: 1, ..ConfiguredBackup::new(name, vec![path.to_owned()]) }
}

/// An owner with backups in its settings, and a holder.
async fn started(owner: &mut TestNode) -> TestNode {
    owner.start(None).await;
    let holder = TestNode::started(2, Some(owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    holder
}

async fn until(owner: &TestNode, is_so: impl Fn(&[ScheduledBackup]) -> bool) -> Status {
    owner.status_until(|status| is_so(&status.schedule)).await
}

fn is_done(task: &ScheduledTask) -> bool {
    task.state == TaskState::Idle && task.result.is_some()
}

fn at_rest(owner: &TestNode) -> ScheduledBackup {
    schedule_at_rest(&owner.data(), &owner.backups).0.remove(0)
}

/// Changes what a node that does not run remembers of the first backup.
fn remember(owner: &TestNode, task: &str, change: impl FnOnce(&mut Value)) {
    let path = owner.data().join("schedule.json");
    let text = std::fs::read(&path).unwrap_or_else(|_| b"{\"version\":1,\"backups\":{}}".to_vec());
    let mut book: Value = serde_json::from_slice(&text).unwrap();
    change(&mut book["backups"][&owner.backups[0].name][task]);
    std::fs::write(&path, book.to_string()).unwrap();
}

async fn snapshots(owner: &TestNode) -> Vec<Vec<String>> {
    let listed = owner.handle().snapshots().await.unwrap().snapshots;
    listed.into_iter().map(|snapshot| snapshot.roots).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_backup_is_made_proven_and_read_back_and_a_restart_repeats_nothing() {
    let mut owner = TestNode::new(1);
    let path = folder(&owner);
    owner.backups = vec![ConfiguredBackup { audit: Every::WEEKLY, ..configured("photos", &path) }];
    let holder = started(&mut owner).await;
    let before = owner.handle().status(0).await.schedule.remove(0);
    assert_eq!(before.backup.next_at, None, "a node of one command does none of it: {before:?}");
    owner.handle().stays();
    let status = until(&owner, |all| {
        [&all[0].backup, &all[0].audit, &all[0].drill].into_iter().all(is_done)
    })
    .await;
    let of = &status.schedule[0];
    assert_eq!(of.paths, [path.display().to_string()]);
    let Some(TaskResult::Backup(made)) = &of.backup.result else { panic!("{of:?}") };
    let SnapshotMade { snapshot, files, replicas, target, partial, .. } = made;
    assert_eq!((*files, *replicas, *target, *partial), (41, 1, 1, false));
    let Some(TaskResult::Audit { snapshot: audited, replicas, proven, .. }) = &of.audit.result
    else {
        panic!("{of:?}")
    };
    assert!(audited == snapshot && replicas == proven && *proven > 0, "{of:?}");
    let Some(TaskResult::Drill { snapshot: drilled, damaged, .. }) = &of.drill.result else {
        panic!("{of:?}")
    };
    assert_eq!((drilled, *damaged), (snapshot, 0));
    let now = seconds_since_1970();
    for task in [&of.backup, &of.audit, &of.drill] {
        let next = task.next_at.unwrap();
        assert!(task.failures == 0 && next > now + 3_600 && next < now + 40 * 86_400, "{task:?}");
    }
    assert!(status.attention.is_empty(), "{:?}", status.attention);

    owner.stop().await;
    let rest = at_rest(&owner);
    assert_eq!((&rest.backup.result, rest.backup.next_at), (&of.backup.result, None));
    let other = owner.file("other", 1_000);
    owner.backups.push(configured("other", &other));
    owner.start(Some(&holder)).await;
    owner.handle().stays();
    // Were the first one due as well, it would go first.
    let status = until(&owner, |all| is_done(&all[1].backup) && is_done(&all[1].drill)).await;
    let again = &status.schedule[0];
    assert_eq!((&again.backup, &again.drill), (&of.backup, &of.drill));
    let [photos, other] = [path, other].map(|path| vec![path.display().to_string()]);
    assert_eq!(snapshots(&owner).await, [photos, other]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_missed_and_one_that_lies_ahead_of_the_clock_are_made_up_for_once() {
    let mut owner = TestNode::new(1);
    let path = folder(&owner);
    owner.backups = vec![configured("photos", &path)];
    let holder = started(&mut owner).await;
    owner.stop().await;
    let (now, mut made) = (seconds_since_1970(), 0);
    for last_s in [now - 3 * 86_400, now - TEN_YEARS_S, now + TEN_YEARS_S] {
        remember(&owner, "backup", |record| {
            *record = json!({ "last_s": last_s, "tried_s": last_s, "failures": 0 });
        });
        owner.start(Some(&holder)).await;
        owner.handle().stays();
        let status = until(&owner, |all| is_done(&all[0].backup)).await;
        let task = &status.schedule[0].backup;
        assert!(task.last_at.is_some_and(|at| (now..now + 600).contains(&at)), "{task:?}");
        assert!(task.next_at.is_some_and(|at| at < now + 2 * 86_400), "{task:?}");
        made += 1;
        until(&owner, |all| is_done(&all[0].drill)).await;
        assert_eq!(snapshots(&owner).await.len(), made, "{last_s}");
        owner.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_with_the_next_try_until_the_backup_is_made_by_hand() {
    let mut owner = TestNode::new(1);
    let path = owner.folder.path().join("files");
    owner.backups = vec![configured("photos", &path)];
    owner.start(None).await;
    owner.handle().stays();
    let alone = ["photos was never made", "no other node is connected"];
    let status = owner.status_until(|status| tells(&status.attention, &alone)).await;
    assert_eq!(status.schedule[0].backup.state, TaskState::Waiting);
    let _holder = TestNode::started(2, Some(&owner)).await;
    let status = until(&owner, |all| all[0].backup.state == TaskState::Failed).await;
    let task = &status.schedule[0].backup;
    assert_eq!((task.failures, task.last_at, &task.result), (1, None, &None));
    let pause = task.next_at.unwrap() - task.tried_at.unwrap();
    assert!((60..=80).contains(&pause), "{pause}");
    let told = ["photos failed on", "next try"];
    assert!(tells(&status.attention, &told), "{:?}", status.attention);

    folder(&owner);
    let name = Some("photos".to_owned());
    let by_hand = BackupRequest { name, ..request(&path, 1, 60) };
    let dry = BackupRequest { dry_run: true, ..by_hand.clone() };
    end(owner.handle().backup(dry)).await.unwrap();
    let told = owner.handle().status(0).await.schedule.remove(0).backup;
    assert_eq!((told.state, told.result), (TaskState::Failed, None), "a dry run is none");
    let made = end(owner.handle().backup(by_hand)).await.unwrap();
    let status = owner.handle().status(0).await;
    let task = &status.schedule[0].backup;
    assert_eq!((task.state, task.failures, &task.failure), (TaskState::Idle, 0, &None));
    assert_eq!(task.result.as_ref().unwrap().snapshot(), made.snapshot);
    assert!(status.attention.is_empty(), "{:?}", status.attention);
    owner.stop().await;
    assert_eq!(at_rest(&owner).backup.result.unwrap().snapshot(), made.snapshot);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_the_end_of_the_node_cut_off_goes_on_after_the_restart() {
    let mut owner = TestNode::new(1);
    let path = folder(&owner);
    // It waits for a second holder.
    owner.backups = vec![ConfiguredBackup { replicas: 2, ..configured("photos", &path) }];
    let holder = started(&mut owner).await;
    owner.handle().stays();
    until(&owner, |all| all[0].backup.state == TaskState::Running && all[0].backup.bytes > 3 << 20)
        .await;
    owner.stop().await;
    let rest = at_rest(&owner).backup;
    assert_eq!((rest.state, rest.failures), (TaskState::CutOff, 1), "{rest:?}");
    assert!(rest.last_at.is_none() && rest.failure.is_some(), "{rest:?}");

    // Not before its pause is over: a node that dies of it does not do that again and again.
    owner.start(Some(&holder)).await;
    owner.handle().stays();
    let status = owner.status_until(|status| status.peers == 1).await;
    let task = &status.schedule[0].backup;
    assert_eq!((task.state, task.tried_at), (TaskState::CutOff, rest.tried_at));
    assert!(task.next_at.unwrap() >= rest.tried_at.unwrap() + 60, "{task:?}");
    owner.stop().await;
    remember(&owner, "backup", |record| record["tried_s"] = json!(0));
    let _second = TestNode::started(3, Some(&holder)).await;
    owner.start(Some(&holder)).await;
    owner.status_until(|status| status.peers == 2).await;
    owner.handle().stays();
    let status = until(&owner, |all| is_done(&all[0].backup)).await;
    let Some(TaskResult::Backup(made)) = &status.schedule[0].backup.result else {
        panic!("{status:?}")
    };
    assert_eq!((made.replicas, made.files, status.schedule[0].backup.failures), (2, 41, 0));
    assert_eq!(snapshots(&owner).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_is_not_read_back_and_a_memory_that_is_damaged_is_a_new_beginning() {
    let mut owner = TestNode::new(1);
    let path = folder(&owner);
    owner.backups = vec![configured("photos", &path)];
    let holder = started(&mut owner).await;
    owner.stop().await;
    let now = seconds_since_1970();
    remember(&owner, "backup", |record| {
        let result = json!({
            "task": "backup", "snapshot": "ab".repeat(32), "files": 1, "bytes": 1, "new_bytes": 1,
            "replicas": 1, "target": 1, "partial": false,
        });
        *record = json!({ "last_s": now, "tried_s": now, "failures": 0, "result": result });
    });
    owner.start(Some(&holder)).await;
    owner.handle().stays();
    let is_left = |task: &ScheduledTask| task.state == TaskState::Idle && task.next_at.is_none();
    let status = until(&owner, |all| is_left(&all[0].drill)).await;
    let drill = &status.schedule[0].drill;
    assert_eq!((drill.last_at, drill.tried_at, &drill.result), (None, None, &None));
    assert!(status.attention.is_empty(), "{:?}", status.attention);

    // Another one of the same paths, though it was made without a word of the settings.
    let made = end(owner.handle().backup(request(&path, 1, 60))).await.unwrap();
    let status = until(&owner, |all| is_done(&all[0].drill)).await;
    let drilled = status.schedule[0].drill.clone();
    assert_eq!(drilled.result.as_ref().unwrap().snapshot(), made.snapshot);
    // What it came to stays. After a start the snapshots of the mesh are looked for.
    owner.stop().await;
    remember(&owner, "drill", |record| {
        (record["last_s"], record["tried_s"]) = (json!(1), json!(1));
    });
    assert_eq!(at_rest(&owner).drill.result, drilled.result);
    owner.start(Some(&holder)).await;
    owner.handle().stays();
    let status = until(&owner, |all| all[0].drill.last_at > Some(1)).await;
    assert_eq!(status.schedule[0].drill.result.as_ref().unwrap().snapshot(), made.snapshot);
    owner.stop().await;
    std::fs::write(owner.data().join("schedule.json"), b"\0\0").unwrap();
    owner.start(Some(&holder)).await;
    owner.handle().stays();
    let status = until(&owner, |all| is_done(&all[0].backup) && is_done(&all[0].drill)).await;
    assert!(status.attention.is_empty(), "{:?}", status.attention);
    assert_eq!(snapshots(&owner).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_made_by_hand_when_it_is_due_is_not_made_twice() {
    let mut owner = TestNode::new(1);
    let path = folder(&owner);
    owner.backups = vec![configured("photos", &path)];
    let holder = started(&mut owner).await;
    // It waits for a second holder.
    let name = Some("photos".to_owned());
    let mut by_hand = owner.handle().backup(BackupRequest { name, ..request(&path, 2, 600) });
    while !matches!(by_hand.recv().await, Some(Progress::Working { bytes: 1.., .. })) {}
    owner.handle().stays();
    until(&owner, |all| all[0].backup.state == TaskState::Waiting).await;
    let _second = TestNode::started(3, Some(&holder)).await;
    let made = end(by_hand).await.unwrap();
    let status = until(&owner, |all| is_done(&all[0].backup) && is_done(&all[0].drill)).await;
    assert_eq!(status.schedule[0].backup.result.as_ref().unwrap().snapshot(), made.snapshot);
    assert_eq!(snapshots(&owner).await.len(), 1);
}
