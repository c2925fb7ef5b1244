//! Doing what is due: each job as its command does it.

use super::{Job, Schedule, Task, Working, clock};
use crate::config::backup::ConfiguredBackup;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::{
    AuditDone, AuditProof, AuditRequest, BackupDone, BackupRequest, Failure, PatternFile, Progress,
    TaskResult, VerifyDone, VerifyRequest,
};
use crate::node::{audit, backup, failures, verify};
use crate::repo::manifest::merge::Live;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How often it is seen whether anything is due.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };

/// How long a chunk may wait for its quorum, or for its holders, in seconds: as the commands have
/// it where nobody says otherwise.
const TIMEOUT_S: u64 = 60;

/// So many of a million chunks with data are read back.
const SAMPLE_PPM: u32 = 50_000;

/// Does what is due, for the node's life.
pub(in crate::node) async fn run(inner: Weak<Inner>) {
    tokio::join!(
        lane(inner.clone(), &[Task::Backup]),
        lane(inner.clone(), &[Task::Audit, Task::Drill]),
    );
}

/// One job after the other.
async fn lane(inner: Weak<Inner>, tasks: &'static [Task]) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(node) = inner.upgrade() else { return };
        let Some((of, wanted)) = next(&node, tasks).await else { continue };
        let task = wanted.task();
        let (job, schedule) = ((of.name.clone(), task), Arc::clone(&node.schedule));
        let began_s = seconds_since_1970();
        schedule.begin(&job, began_s);
        write(&schedule).await;
        tracing::info!(backup = job.0, task = task.name(), "begun by the schedule");
        // Held no longer than it takes to begin: a node that ends drops what it does.
        let ended = match start(node, &of, wanted).await {
            Ok(events) => events.end(&schedule, &job).await,
            Err(failure) => Err(failure),
        };
        let Some(node) = inner.upgrade() else { return };
        if let Err(Failure { what, why, .. }) = &ended {
            tracing::warn!(backup = job.0, task = task.name(), what, why, "failed");
        }
        schedule.end(&job, (began_s, clock(&node).up_s), ended);
        drop(node);
        write(&schedule).await;
    }
}

/// What is to be done now.
enum Wanted {
    Backup,
    /// Of this snapshot.
    Audit(String),
    Drill(String),
}

impl Wanted {
    fn task(&self) -> Task {
        match self {
            Self::Backup => Task::Backup,
            Self::Audit(_) => Task::Audit,
            Self::Drill(_) => Task::Drill,
        }
    }
}

/// The first of these tasks that is due and can be done.
async fn next(node: &Arc<Inner>, tasks: &[Task]) -> Option<(ConfiguredBackup, Wanted)> {
    let is_alone = node.shared.watch_peers().borrow().is_empty();
    if !node.detached.is_open() || is_alone {
        return None;
    }
    // One that is made by hand may be the run of what is due: that is known when it has ended.
    if tasks.contains(&Task::Backup) && !may_back_up(node).await {
        return None;
    }
    for (of, task) in node.schedule.all_due(tasks, clock(node)) {
        if task == Task::Backup {
            return Some((of, Wanted::Backup));
        }
        // Of what was forgotten there is nothing to ask for.
        let Some(snapshot) = subject(node, &of).await else { continue };
        let wanted = match task {
            Task::Audit => Wanted::Audit(snapshot),
            _ => Wanted::Drill(snapshot),
        };
        return Some((of, wanted));
    }
    None
}

/// Whether no backup runs, nor waits.
async fn may_back_up(node: &Inner) -> bool {
    let (listener, _heard) = mpsc::channel::<()>(1);
    tokio::select! {
        biased;
        place = node.backing_up.enter_silently(&listener) => place.is_some(),
        () = std::future::ready(()) => false,
    }
}

/// What an audit or a drill of this backup is of. After a start nothing is known of snapshots
/// before somebody looks at the heads.
async fn subject(node: &Arc<Inner>, of: &ConfiguredBackup) -> Option<String> {
    let (schedule, up_s) = (&node.schedule, clock(node).up_s);
    let mut newest = self::newest(node, of).await;
    let may_look = schedule.may_look(&of.name, up_s);
    if newest.is_none() && may_look {
        if let Err(Failure { what, why, .. }) = node.repository.refresh_known(node).await {
            tracing::warn!(backup = of.name, what, why, "no snapshots to ask for");
        }
        newest = self::newest(node, of).await;
    }
    if newest.is_some() || may_look {
        schedule.looked(&of.name, up_s, newest.is_some());
    }
    newest
}

/// The newest snapshot of a configured backup that was not forgotten: one that it made, as far as
/// that is remembered, else one that this device made of the same paths.
async fn newest(node: &Arc<Inner>, of: &ConfiguredBackup) -> Option<String> {
    let made = node.schedule.state().book.made(&of.name);
    let own = node.with_catalog(|catalog| catalog.device()).map(|device| device.id);
    let paths: BTreeSet<&[u8]> = of.paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
    let is_same = |live: &&&Live| {
        let Live { added, device, .. } = live;
        let roots: BTreeSet<&[u8]> = added.roots.iter().map(Vec::as_slice).collect();
        Some(*device) == own && !added.put && !added.roots_cut && roots == paths
    };
    let look = |live: Vec<&Live>| {
        let known: BTreeSet<String> = live.iter().map(|live| live.added.id.to_string()).collect();
        let same = live.iter().filter(is_same).max_by_key(|live| live.added.created_ns);
        let made = made.into_iter().find(|id| known.contains(id));
        made.or_else(|| same.map(|live| live.added.id.to_string()))
    };
    node.repository.with_live(look).await
}

async fn write(schedule: &Arc<Schedule>) {
    let schedule = Arc::clone(schedule);
    // It says itself what is wrong.
    drop(tokio::task::spawn_blocking(move || schedule.write()).await);
}

/// A backup of the settings was made because somebody asked for it.
pub(in crate::node) async fn made_by_hand(
    inner: &Arc<Inner>,
    name: &str,
    began_s: u64,
    done: &BackupDone,
) {
    inner.schedule.made(name, (began_s, clock(inner).up_s), made(done));
    write(&inner.schedule).await;
}

/// What is told of a job while it runs.
enum Events {
    Backup(mpsc::Receiver<Progress<BackupDone>>),
    Audit(String, mpsc::Receiver<Progress<AuditDone>>),
    Drill(mpsc::Receiver<Progress<VerifyDone>>),
}

impl Events {
    /// What it came to.
    async fn end(self, schedule: &Schedule, job: &Job) -> Result<TaskResult, Failure> {
        match self {
            Self::Backup(events) => hear(schedule, job, events).await.map(|done| made(&done)),
            Self::Audit(snapshot, events) => {
                hear(schedule, job, events).await.map(|done| audited(snapshot, &done))
            }
            Self::Drill(events) => hear(schedule, job, events).await.map(drilled),
        }
    }
}

/// Begins a job.
async fn start(
    inner: Arc<Inner>,
    of: &ConfiguredBackup,
    wanted: Wanted,
) -> Result<Events, Failure> {
    let timeout_s = TIMEOUT_S;
    Ok(match wanted {
        Wanted::Backup => {
            let request = request(of.clone()).await?;
            Events::Backup(backup::begin(inner, request))
        }
        Wanted::Audit(snapshot) => {
            let kind = AuditProof::Compact;
            let request = AuditRequest { snapshot: Some(snapshot.clone()), kind, timeout_s };
            Events::Audit(snapshot, audit::begin(inner, request))
        }
        Wanted::Drill(snapshot) => {
            let sample_ppm = Some(SAMPLE_PPM);
            Events::Drill(verify::begin(inner, VerifyRequest { snapshot, sample_ppm, timeout_s }))
        }
    })
}

/// What a configured backup asks for, with the patterns in its files.
async fn request(of: ConfiguredBackup) -> Result<BackupRequest, Failure> {
    let read = move || of.request(TIMEOUT_S);
    tokio::task::spawn_blocking(read).await.map_err(|error| failures::died("the reader", &error))?
}

impl ConfiguredBackup {
    /// A digest of its settings, 16 hexadecimal digits: a node that runs tells with it whether it
    /// read the same ones when it started.
    pub fn digest(&self) -> String {
        let mut bytes = Vec::new();
        for text in self.report().into_iter().flat_map(|of| {
            let values = of.value.len().to_string();
            [of.name.to_owned(), values].into_iter().chain(of.value)
        }) {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] =
            crate::crypto::sha256(&[b"settings of a backup", &bytes]);
        format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// What it asks a node for, which waits so long for more nodes while nothing is acknowledged.
    /// Reads the files of patterns.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn request(&self, timeout_s: u64) -> Result<BackupRequest, Failure> {
        let files = self.exclude_file.iter();
        let exclude_files = files.map(|file| PatternFile::read(file)).collect::<Result<_, _>>()?;
        Ok(BackupRequest {
            paths: self.paths.clone(),
            replicas: self.replicas,
            timeout_s,
            exclude_files,
            excludes: self.exclude.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            tags: self.tag.clone(),
            dry_run: false,
            name: None,
        })
    }
}

/// Hears a piece of work to its end.
async fn hear<T>(
    schedule: &Schedule,
    job: &Job,
    mut events: mpsc::Receiver<Progress<T>>,
) -> Result<T, Failure> {
    loop {
        match events.recv().await {
            Some(Progress::Working { bytes, note, .. }) => {
                schedule.working(job, Working { bytes, note });
            }
            Some(Progress::Told { .. }) => {}
            Some(Progress::Done(done)) => return Ok(done),
            Some(Progress::Failed(failure)) => return Err(failure),
            None => return Err(failures::stopped()),
        }
    }
}

fn made(done: &BackupDone) -> TaskResult {
    TaskResult::Backup(done.made())
}

/// What is lost or silent the catalogue knows, and whoever heals looks after it.
fn audited(snapshot: String, done: &AuditDone) -> TaskResult {
    let AuditDone { replicas, proven, silent, damaged, .. } = *done;
    TaskResult::Audit { snapshot, replicas, proven, silent, damaged }
}

/// What is damaged or out of reach is told by `status`: to read a part of all that again within
/// minutes would only take what the holders can send.
fn drilled(done: VerifyDone) -> TaskResult {
    let VerifyDone { snapshot, sample_ppm, bytes, damaged, unreachable, .. } = done;
    TaskResult::Drill { snapshot, sample_ppm, bytes, damaged, unreachable }
}
