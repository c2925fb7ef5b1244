//! `quloud backup`: files and folders in, a snapshot out.

use super::args::{GlobalOptions, NodeOptions, settings};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::{Folder, Session};
use super::signals::Interrupt;
use crate::api::client::Client;
use crate::config::backup::ConfiguredBackup;
use crate::config::size::human;
use crate::node::report::{
    BackupDone, BackupRequest, BackupStarted, Failure, FailureKind, PatternFile, ScheduledBackup,
    date,
};
use clap::{Args, ValueEnum};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Back files and folders up as a snapshot on the mesh
///
/// Done means that every chunk of it was acknowledged by as many nodes as asked, each after it had
/// the bytes safely on disk. What earlier snapshots have is not sent again. Exit code 3 when
/// something could not be read, or has fewer replicas than asked for. A running node makes the
/// backups of the settings by itself: tables [[backup]] in quloud.toml.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// What to back up; links among these are followed, links in folders are recorded
    #[arg(required_unless_present = "name", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Make this backup of the settings now, whenever the node would: `quloud config show` lists
    /// them
    #[arg(long, value_name = "NAME", conflicts_with_all = [
        "paths", "replicas", "exclude", "exclude_file", "exclude_caches", "one_file_system", "tag",
    ])]
    name: Option<String>,
    /// How many nodes shall hold each chunk
    #[arg(long, default_value_t = 3, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: u8,
    /// Leave out what matches this pattern, as in a .gitignore; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches the patterns in this file, like a .gitignore; repeatable
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what lies in folders marked as caches by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Stay in the file system of each path
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Read everything and say what would be stored, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Label the snapshot; repeatable
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// How long to wait for more nodes while nothing is acknowledged, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// What to wait for
    #[arg(long, value_enum, default_value_t = Wait::Quorum, value_name = "WHAT")]
    wait: Wait,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// When the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Until the snapshot is made: its chunks were acknowledged
    Quorum,
    /// Until the running node has taken the work over, which goes on by itself: `quloud status`
    /// shows how far it is and how it ended. A restart of the node cuts it off; the next backup of
    /// the same paths goes on from what is stored
    None,
}

impl Backup {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let backups = || Ok(settings(global, Vec::new())?.config.backups);
        let request = self.request(backups)?;
        if self.wait == Wait::None {
            return self.hand_over(&request, global, output).await;
        }
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        if !session.is_own() {
            self.compare(&session.client, backups, output).await;
        }
        let meter = Meter::new("backup", output);
        let resume = "run the same command again: what is stored is not sent again";
        let result = follow(session.client.backup(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        for line in done.fault_lines.iter().chain(&done.notes) {
            output.note(&printable(line));
        }
        let untold = done.faults.saturating_sub(done.fault_lines.len() as u64);
        if untold > 0 {
            output.note(&format!("and {untold} more"));
        }
        output.result(&done, || summary(&done))?;
        let is_whole = !done.partial && (done.dry_run || done.replicas >= done.target);
        Ok(if is_whole { 0 } else { FailureKind::Partial.exit_code() })
    }

    /// The request, after what can be told without a node.
    /// `backups` reads those of the settings.
    fn request(
        &self,
        backups: impl FnOnce() -> Result<Vec<ConfiguredBackup>, Failure>,
    ) -> Result<BackupRequest, Failure> {
        if self.dry_run && self.wait == Wait::None {
            let why = "a dry run is over when it has told what it found";
            return Err(not_taken_over(why, "leave `--wait none` away, or `--dry-run`"));
        }
        if let Some(name) = &self.name {
            let backups = backups()?;
            let of = backups.iter().find(|of| of.name == *name);
            let request =
                of.ok_or_else(|| not_configured(name, &backups))?.request(self.timeout)?;
            return Ok(BackupRequest { dry_run: self.dry_run, name: self.name.clone(), ..request });
        }
        Ok(BackupRequest {
            paths: self.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
            replicas: self.replicas,
            timeout_s: self.timeout,
            exclude_files: self
                .exclude_file
                .iter()
                .map(|file| PatternFile::read(file))
                .collect::<Result<_, _>>()?,
            excludes: self.exclude.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            tags: self.tag.clone(),
            dry_run: self.dry_run,
            name: None,
        })
    }

    /// Says where the running node has other settings than those that this backup is made by.
    async fn compare(
        &self,
        client: &Client,
        backups: impl FnOnce() -> Result<Vec<ConfiguredBackup>, Failure>,
        output: &Output,
    ) {
        let Some(name) = &self.name else { return };
        // It is a remark: whatever is wrong is told by what follows.
        let (Ok(backups), Ok(status)) = (backups(), client.status(Some(0)).await) else { return };
        let of = backups.iter().find(|of| of.name == *name);
        if let Some(told) = of.and_then(|of| difference(of, &status.schedule)) {
            output.note(&printable(&told));
        }
    }

    /// Leaves the work to the running node.
    async fn hand_over(
        &self,
        request: &BackupRequest,
        global: &GlobalOptions,
        output: &Output,
    ) -> Result<u8, Failure> {
        let Folder::Running(client) = Folder::open(&global.data_dir()?).await? else {
            let why = "no node runs that could go on with it";
            let hint = "start one with `quloud up`, or leave `--wait none` away";
            return Err(not_taken_over(why, hint));
        };
        let backups = || Ok(settings(global, Vec::new())?.config.backups);
        self.compare(&client, backups, output).await;
        let started = client.start_backup(request).await?;
        output.result(&started, || taken_over(&started))?;
        Ok(0)
    }
}

/// Whether a running node has this backup as the settings have it now.
fn difference(of: &ConfiguredBackup, running: &[ScheduledBackup]) -> Option<String> {
    let name = &of.name;
    let told = match running.iter().find(|running| running.name == *name) {
        Some(running) if running.settings == of.digest() => return None,
        Some(_) => format!("the running node has other settings for {name}: restart it"),
        None => format!("the running node has other settings, without {name}: restart it"),
    };
    Some(format!("{told}, for it reads them when it starts"))
}

fn not_taken_over(why: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::Usage, "the backup was not started", why, hint)
}

fn taken_over(started: &BackupStarted) -> String {
    let runs = match started.already {
        true => {
            let began = date(i64::try_from(started.began_at).unwrap_or(i64::MAX));
            format!("this backup runs already, since {began}")
        }
        false => "the backup goes on in the node".to_owned(),
    };
    format!("{runs}: `quloud status` shows how far it is and how it ended\n")
}

/// The path for the node, which may run elsewhere. Links stay as they were named, but where `..`
/// would have to be taken back.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |why: String, hint: &str| {
        let what = format!("{} cannot be backed up", path.display());
        Failure::new(FailureKind::Usage, what, why, hint)
    };
    let climbs = path.components().any(|component| component == Component::ParentDir);
    let found = if climbs { path.canonicalize() } else { std::path::absolute(path) };
    let path = found.map_err(|error| failed(error.to_string(), "check the path"))?;
    if path.to_str().is_none() {
        let why = "its path is not UTF-8 text".to_owned();
        return Err(failed(why, "name the folder that it is in: names below may be anything"));
    }
    Ok(path)
}

fn not_configured(name: &str, backups: &[ConfiguredBackup]) -> Failure {
    let names: Vec<&str> = backups.iter().map(|of| of.name.as_str()).collect();
    let hint = match names.as_slice() {
        [] => "add one as a table [[backup]]: the end of quloud.toml has an example".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    let why = "the settings have no such backup";
    Failure::new(FailureKind::Usage, format!("{name} was not backed up"), why, hint)
}

fn summary(done: &BackupDone) -> String {
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    let partial = if done.partial { "; something is missing in it" } else { "" };
    if done.dry_run {
        return format!(
            "nothing was stored: {}, {}; {} in {} would be new, a copy{partial}\n",
            count(done.files, "file"),
            human(done.bytes),
            human(done.new_bytes),
            count(done.new_chunks, "chunk"),
        );
    }
    let name = done.snapshot.get(..8).unwrap_or(&done.snapshot);
    format!(
        "snapshot {name}: {}, {}, {} of it new, {} of {} replicas of each, in {:.1} s \
         ({}){partial}\n",
        count(done.files, "file"),
        human(done.bytes),
        human(done.new_bytes),
        done.replicas,
        done.target,
        done.seconds,
        rate(done.bytes, elapsed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::{ScheduledTask, StartedState, TaskState};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        backup: Backup,
    }

    fn parsed(arguments: &[&str]) -> Result<Backup, clap::Error> {
        let line = ["backup", "/data"].iter().chain(arguments);
        Line::try_parse_from(line).map(|line| line.backup)
    }

    #[test]
    fn the_quorum_is_waited_for_unless_the_user_says_otherwise() {
        for (arguments, wait) in [
            (&[][..], Wait::Quorum),
            (&["--wait", "quorum"], Wait::Quorum),
            (&["--wait", "none"], Wait::None),
        ] {
            assert_eq!(parsed(arguments).unwrap().wait, wait);
        }
        assert!(parsed(&["--wait", "all"]).is_err() && parsed(&["--wait"]).is_err());
    }

    #[test]
    fn patterns_may_be_any_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&b"*.tmp\n"[..], b"caf\xe9/\n"] {
            let file = folder.path().join("patterns");
            std::fs::write(&file, bytes).unwrap();
            let asked = parsed(&["--exclude-file", file.to_str().unwrap()]).unwrap();
            let request = asked.request(|| Ok(Vec::new())).unwrap();
            let json = serde_json::to_string(&request).unwrap();
            let heard: BackupRequest = serde_json::from_str(&json).unwrap();
            assert_eq!(heard.exclude_files[0].bytes(), bytes, "{json}");
        }
    }

    #[test]
    fn how_many_replicas_of_how_many_is_told() {
        let done = BackupDone {
            snapshot: "0123456789".to_owned(),
            dry_run: false,
            files: 1,
            unchanged: 0,
            bytes: 2_000,
            new_bytes: 10,
            new_chunks: 3,
            replicas: 1,
            target: 3,
            seconds: 2.0,
            partial: false,
            faults: 0,
            fault_lines: Vec::new(),
            notes: Vec::new(),
        };
        let told = summary(&done);
        assert!(told.contains("10 B of it new, 1 of 3 replicas of each, in 2.0 s"), "{told}");
    }

    #[test]
    fn a_dry_run_is_not_handed_over() {
        let both = parsed(&["--wait", "none", "--dry-run"]).unwrap();
        assert_eq!(both.request(|| Ok(Vec::new())).unwrap_err().kind.exit_code(), 2);
        assert!(
            parsed(&["--wait", "quorum", "--dry-run"]).unwrap().request(|| Ok(Vec::new())).is_ok()
        );
    }

    #[test]
    fn a_backup_of_the_settings_is_asked_for_by_its_name_alone() {
        let by_name = |more: &[&str]| {
            let line = ["backup", "--name", "photos"].iter().chain(more);
            Line::try_parse_from(line).map(|line| line.backup)
        };
        let one = ConfiguredBackup {
            replicas: 2,
            tag: vec!["x".to_owned()],
            ..ConfiguredBackup::new("photos", vec![PathBuf::from("/srv")])
        };
        let asked = by_name(&["--dry-run"]).unwrap();
        let request = asked.request(|| Ok(vec![one.clone()])).unwrap();
        assert_eq!((request.name.as_deref(), request.dry_run), (Some("photos"), true));
        assert_eq!((request.paths, request.replicas, request.tags), (one.paths, 2, one.tag));
        let other = ConfiguredBackup::new("music", vec![PathBuf::from("/m")]);
        let failure = asked.request(|| Ok(vec![other])).unwrap_err();
        assert_eq!((failure.kind.exit_code(), failure.hint.as_str()), (2, "there are: music"));
        for more in [&["/data"][..], &["--replicas", "2"], &["--tag", "x"], &["--exclude", "x"]] {
            assert!(by_name(more).is_err(), "{more:?}");
        }
        assert!(Line::try_parse_from(["backup"]).is_err());
    }

    #[test]
    fn a_running_node_with_other_settings_is_told() {
        let here = ConfiguredBackup::new("photos", vec![PathBuf::from("/srv")]);
        let of = |settings: &ConfiguredBackup| {
            let task = ScheduledTask {
                every: "daily".to_owned(),
                state: TaskState::Idle,
                last_at: None,
                tried_at: None,
                next_at: None,
                waits: false,
                failures: 0,
                failure: None,
                result: None,
                bytes: 0,
                note: None,
            };
            ScheduledBackup {
                name: settings.name.clone(),
                settings: settings.digest(),
                paths: Vec::new(),
                backup: task.clone(),
                audit: task.clone(),
                drill: task,
            }
        };
        assert_eq!(difference(&here, &[of(&here)]), None);
        let excluding = ConfiguredBackup { exclude: vec!["*.tmp".to_owned()], ..here.clone() };
        let told = difference(&here, &[of(&excluding)]).unwrap();
        assert!(told.starts_with("the running node has other settings for photos: restart it"));
        let tagged = ConfiguredBackup { tag: excluding.exclude.clone(), ..here.clone() };
        assert_ne!(tagged.digest(), excluding.digest());
        let other = ConfiguredBackup::new("music", here.paths.clone());
        let told = difference(&here, &[of(&other)]).unwrap();
        assert!(told.starts_with("the running node has other settings, without photos"));
    }

    #[test]
    fn what_was_handed_over_is_told_in_one_line() {
        let mut started = BackupStarted {
            state: StartedState::Running,
            already: false,
            began_at: 60,
            snapshot: None,
            files: 0,
            bytes: 0,
            new_bytes: 0,
            replicas: 0,
            seconds: 0.0,
        };
        assert!(taken_over(&started).starts_with("the backup goes on in the node: "));
        started.already = true;
        let told = taken_over(&started);
        assert!(told.contains("already, since 1970-01-01 00:01 UTC: `quloud status`"), "{told}");
        assert_eq!(told.lines().count(), 1);
    }
}
